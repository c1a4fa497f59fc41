//! What is particular to S3: answers that are lost, late, refused or lies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hah_vault::store::{Patience, Put, Secret, Store, StoreError, StoreOptions, open};
use http::Method;

use crate::support::s3_server::{ACCESS_KEY_ID, BUCKET, Fault, Rule, S3Server, SECRET_ACCESS_KEY, quick};

async fn connect(server: &S3Server, options: &StoreOptions) -> Arc<dyn Store> {
    open(&server.url("p"), options).await.expect("open")
}

async fn start() -> (S3Server, Arc<dyn Store>) {
    let server = S3Server::start();
    let store = connect(&server, &server.options()).await;
    (server, store)
}

/// Few and short waits, for tests that use all of them up.
fn impatient(server: &S3Server) -> StoreOptions {
    let patience =
        Patience { request: Duration::from_millis(300), idle: Duration::from_millis(200), attempts_max: 2, ..quick() };
    StoreOptions { patience, ..server.options() }
}

fn bytes() -> Bytes {
    Bytes::from_static(b"the bytes of an object")
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_created() {
    for fault in [Fault::LostAnswer, Fault::DoneButStatus(500, "InternalError")] {
        let (server, store) = start().await;
        server.fault(Method::PUT, 1, fault.clone());
        let put = store.put_if_absent("packs/a", bytes()).await.expect("put");
        assert_eq!(put, Put::Created, "{fault:?}");
        assert_eq!(server.count(&Method::PUT), 2);
        assert_eq!(server.count(&Method::GET), 1, "read back once");
    }
}

#[tokio::test]
async fn a_put_whose_every_answer_is_lost_is_created() {
    let (server, store) = start().await;
    server.fault(Method::PUT, usize::MAX, Fault::DoneButStatus(503, "SlowDown"));
    assert_eq!(store.put_if_absent("packs/a", bytes()).await.expect("put"), Put::Created);
}

#[tokio::test]
async fn a_lost_answer_is_not_taken_for_an_object_of_somebody_else() {
    let (server, store) = start().await;
    store.put_if_absent("packs/a", Bytes::from_static(b"theirs")).await.expect("put");
    server.fault(Method::PUT, 1, Fault::LostAnswer);
    assert_eq!(store.put_if_absent("packs/a", bytes()).await.expect("put"), Put::Existed);
    server.fault(Method::PUT, 1, Fault::LostAnswer);
    let longer = Bytes::from(vec![0; 100_000]);
    assert_eq!(store.put_if_absent("packs/a", longer).await.expect("put"), Put::Existed);
    assert_eq!(store.get("packs/a", 10).await.expect("get"), Bytes::from_static(b"theirs"));
}

#[tokio::test]
async fn a_put_that_cannot_be_settled_is_an_error() {
    let (server, store) = start().await;
    server.fault(Method::PUT, usize::MAX, Fault::Closed);
    let error = store.put_if_absent("packs/a", bytes()).await.expect_err("nothing was done");
    assert!(matches!(error, StoreError::Unreachable { attempts: 4, .. }), "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_conflict_with_another_put_is_tried_again() {
    let (server, store) = start().await;
    server.fault(Method::PUT, 2, Fault::Status(409, "ConditionalRequestConflict"));
    assert_eq!(store.put_if_absent("packs/a", bytes()).await.expect("put"), Put::Created);
    assert_eq!(server.count(&Method::PUT), 3);
}

#[tokio::test]
async fn busy_and_broken_answers_are_tried_again() {
    for status in [429, 500, 502, 503, 504] {
        let (server, store) = start().await;
        for method in [Method::PUT, Method::GET, Method::HEAD, Method::DELETE] {
            server.fault(method, 2, Fault::Status(status, "SlowDown"));
        }
        assert_eq!(store.put_if_absent("a", bytes()).await.expect("put"), Put::Created);
        assert_eq!(store.get("a", 100).await.expect("get"), bytes());
        assert!(store.stat("a").await.expect("stat").is_some());
        server.fault(Method::GET, 2, Fault::Status(status, "SlowDown"));
        assert_eq!(store.list("").await.expect("list").len(), 1);
        store.delete("a").await.expect("delete");
        assert_eq!(server.count(&Method::DELETE), 3);
    }
}

#[tokio::test]
async fn a_store_that_stays_busy_is_unreachable_and_says_what_it_answered() {
    let (server, store) = start().await;
    server.fault(Method::GET, usize::MAX, Fault::Status(503, "SlowDown"));
    let error = store.get("a", 10).await.expect_err("busy");
    assert_eq!(error.to_string(), "cannot get a from s3://bucket/p: unreachable after 4 attempts");
    let source = std::error::Error::source(&error).expect("source").to_string();
    assert_eq!(source, "status 503, SlowDown, on purpose");
    assert!(error.is_transient());
    assert_eq!(server.count(&Method::GET), 4);
}

#[tokio::test]
async fn a_refusal_is_final_at_once() {
    let (server, store) = start().await;
    for method in [Method::PUT, Method::GET, Method::HEAD, Method::DELETE] {
        server.fault(method, usize::MAX, Fault::Status(403, "AccessDenied"));
    }
    let errors = [
        store.put_if_absent("a", bytes()).await.map(drop),
        store.get("a", 10).await.map(drop),
        store.list("").await.map(drop),
        store.stat("a").await.map(drop),
        store.delete("a").await,
    ];
    for error in errors {
        let error = error.expect_err("denied");
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.hint().is_some() && !error.is_transient());
    }
    assert_eq!(server.requests().len(), 5, "no second attempts");
}

#[tokio::test]
async fn a_locked_key_existed_if_it_is_there_and_is_denied_if_not() {
    let (server, store) = start().await;
    store.put_if_absent("a", Bytes::from_static(b"locked")).await.expect("put");
    server.fault(Method::PUT, usize::MAX, Fault::Status(403, "ObjectLockedByBucketPolicy"));
    assert_eq!(store.put_if_absent("a", bytes()).await.expect("put"), Put::Existed);
    let error = store.put_if_absent("b", bytes()).await.expect_err("not there");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    // Also when it has the same bytes: they were put earlier.
    let same = Bytes::from_static(b"locked");
    assert_eq!(store.put_if_absent("a", same).await.expect("put"), Put::Existed);
    server.fault(Method::DELETE, 1, Fault::Status(403, "ObjectLockedByBucketPolicy"));
    let hint = store.delete("a").await.expect_err("locked").hint().expect("hint");
    assert!(hint.contains("lock"), "{hint}");
}

#[tokio::test]
async fn a_lost_answer_and_then_a_lock_is_created() {
    let (server, store) = start().await;
    server.fault(Method::PUT, 1, Fault::LostAnswer);
    server.fault(Method::PUT, 1, Fault::Status(403, "ObjectLockedByBucketPolicy"));
    assert_eq!(store.put_if_absent("a", bytes()).await.expect("put"), Put::Created);
}

#[tokio::test]
async fn silence_is_a_time_out_in_bounded_time() {
    let server = S3Server::start();
    let store = connect(&server, &impatient(&server)).await;
    for method in [Method::PUT, Method::GET, Method::HEAD, Method::DELETE] {
        server.fault(method, usize::MAX, Fault::Hang);
    }
    let begin = Instant::now();
    let errors = [
        store.put_if_absent("a", bytes()).await.map(drop),
        store.get("a", u64::MAX).await.map(drop),
        store.list("").await.map(drop),
        store.stat("a").await.map(drop),
        store.delete("a").await,
        store.now().await.map(drop),
    ];
    for error in errors {
        let error = error.expect_err("hangs");
        assert!(matches!(error, StoreError::Timeout { attempts: 2, .. }), "{error:?}");
        assert!(error.is_transient() && error.hint().is_some());
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_body_that_stalls_is_a_time_out_before_the_whole_request_is_one() {
    let server = S3Server::start();
    let mut options = impatient(&server);
    options.patience.request = Duration::from_secs(60);
    let store = connect(&server, &options).await;
    server.fault(Method::GET, usize::MAX, Fault::Stall);
    let begin = Instant::now();
    let error = store.get("a", 100).await.expect_err("stalls");
    assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_body_without_end_is_cut_off_at_the_limit() {
    let (server, store) = start().await;
    server.fault(Method::GET, usize::MAX, Fault::Endless);
    let error = store.get("a", 1 << 20).await.expect_err("endless");
    assert!(matches!(error, StoreError::TooLong { len_max_bytes: 1_048_576, .. }), "{error:?}");
    store.list("").await.expect_err("an endless listing");
}

#[tokio::test]
async fn an_object_on_a_slow_link_gets_the_time_that_it_needs() {
    let server = S3Server::start();
    let mut options = impatient(&server);
    options.patience.bytes_per_second_min = 64 * 1024;
    options.patience.idle = Duration::from_secs(2);
    let store = connect(&server, &options).await;
    // 400 KB: about 2 s each way, with 300 ms for a small request.
    server.throttle(200_000);
    let slow = Bytes::from(vec![5; 400_000]);
    assert_eq!(store.put_if_absent("a", slow.clone()).await.expect("put"), Put::Created);
    assert!(store.get("a", 400_000).await.expect("get") == slow);
    assert_eq!(server.requests().len(), 2, "one attempt each");
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_body_is_tried_again() {
    let (server, store) = start().await;
    store.put_if_absent("a", bytes()).await.expect("put");
    server.fault(Method::GET, 2, Fault::Closed);
    assert_eq!(store.get("a", 100).await.expect("get"), bytes());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_quickly() {
    let server = S3Server::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = format!("http://{}", listener.local_addr().expect("address"));
    drop(listener);
    let options = StoreOptions { endpoint: Some(endpoint), ..server.options() };
    let store = connect(&server, &options).await;
    let error = store.now().await.expect_err("nobody there");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    let source = std::error::Error::source(&error).expect("source").to_string();
    assert!(source.starts_with("cannot connect: "), "{source}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn https_to_something_else_is_unreachable() {
    let server = S3Server::start();
    let endpoint = Some(server.endpoint().replace("http:", "https:"));
    let options = StoreOptions { endpoint, ..server.options() };
    let store = connect(&server, &options).await;
    let error = store.get("a", 10).await.expect_err("no TLS there");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn https_with_an_authority_of_its_own_needs_the_ca_bundle() {
    let server = S3Server::start_tls();
    let trusting = StoreOptions { ca_bundle: Some(S3Server::authority()), ..server.options() };
    let store = connect(&server, &trusting).await;
    let put = store.put_if_absent("a", Bytes::from(vec![3; 3 << 20]));
    assert_eq!(put.await.expect("put"), Put::Created);
    assert_eq!(store.get("a", 3 << 20).await.expect("get").len(), 3 << 20);

    let store = connect(&server, &server.options()).await;
    let error = store.get("a", 3 << 20).await.expect_err("not trusted");
    assert!(!error.is_transient(), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("AWS_CA_BUNDLE")), "{error:?}");
}

#[tokio::test]
async fn a_ca_bundle_that_is_none_is_refused_when_the_store_is_opened() {
    let server = S3Server::start();
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("bundle.pem");
    let options = StoreOptions { ca_bundle: Some(path.clone()), ..server.options() };
    for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")] {
        if let Some(text) = text {
            std::fs::write(&path, text).expect("write");
        }
        let error = open(&server.url("p"), &options).await.expect_err("no bundle");
        assert!(matches!(error, StoreError::Invalid { hint: Some(_), .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_body_of_unstated_length_is_read_too() {
    let (server, store) = start().await;
    server.fault(Method::GET, 1, Fault::Chunked(bytes()));
    assert_eq!(store.get("a", 100).await.expect("get"), bytes());
    server.fault(Method::GET, 1, Fault::Chunked(bytes()));
    let error = store.get("a", 5).await.expect_err("longer");
    assert!(matches!(error, StoreError::TooLong { .. }), "{error:?}");
}

#[tokio::test]
async fn the_time_is_the_stores_and_needs_one_head() {
    let (server, store) = start().await;
    server.set_date(Some("Sun, 22 Nov 2026 14:30:00 GMT"));
    assert_eq!(store.now().await.expect("now").unix_ms, 1_795_357_800_000);
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].0, Method::HEAD);
    // Whatever the rights: a refusal has a Date too.
    server.fault(Method::HEAD, 1, Fault::Status(403, "AccessDenied"));
    server.set_date(Some("Sun, 22 Nov 2026 14:30:01 GMT"));
    assert_eq!(store.now().await.expect("now").unix_ms, 1_795_357_801_000);
}

#[tokio::test]
async fn a_date_that_is_none_is_an_error_and_not_the_clients_time() {
    let (server, store) = start().await;
    server.set_date(Some("soon"));
    store.now().await.expect_err("no date");
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_keys_are_named() {
    let server = S3Server::start();
    let url = "s3://missing-bucket/p".parse().expect("url");
    let store = open(&url, &server.options()).await.expect("open");
    let error = store.list("").await.expect_err("no bucket");
    assert!(error.to_string().ends_with("no such bucket"), "{error}");
    assert!(error.hint().is_some());

    let mut options = server.options();
    let credentials = options.credentials.as_mut().expect("credentials");
    credentials.secret_access_key = Secret::new("wrong");
    let store = connect(&server, &options).await;
    let error = store.list("").await.expect_err("wrong key");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("AWS_SECRET_ACCESS_KEY")));
}

#[tokio::test]
async fn without_credentials_the_message_says_so_quickly() {
    let server = S3Server::start();
    let options = StoreOptions { credentials: None, ..server.options() };
    let store = connect(&server, &options).await;
    let begin = Instant::now();
    let error = store.list("").await.expect_err("no credentials");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(error.hint().is_some_and(|hint| hint.contains("AWS_ACCESS_KEY_ID")), "{error:?}");
}

#[tokio::test]
async fn a_server_that_ignores_the_condition_fails_the_probe() {
    let (server, store) = start().await;
    server.fault(Method::PUT, usize::MAX, Fault::Body(String::new()));
    let error = store.probe().await.expect_err("overwrites");
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
    let (server, store) = start().await;
    server.fault(Method::PUT, usize::MAX, Fault::Status(501, "NotImplemented"));
    let error = store.probe().await.expect_err("refuses the header");
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn the_probe_does_not_need_the_right_to_delete() {
    let (server, store) = start().await;
    server.fault(Method::DELETE, usize::MAX, Fault::Status(403, "AccessDenied"));
    store.probe().await.expect("probe");
}

#[tokio::test]
async fn a_listing_goes_on_where_it_broke_off() {
    let (server, store) = start().await;
    let prefix = server.root.path().join(BUCKET).join("p/packs");
    std::fs::create_dir_all(&prefix).expect("folder");
    for i in 0..2500 {
        std::fs::write(prefix.join(format!("{i:04}")), b"x").expect("write");
    }
    // The second page is refused for longer than one listing would bear, were it not for progress in between.
    server.rule(Rule { method: Method::GET, skip: 1, times: 3, fault: Fault::Status(503, "SlowDown") });
    let found = store.list("packs/").await.expect("list");
    assert_eq!(found.len(), 2500);
    assert!(found.windows(2).all(|pair| pair[0].key < pair[1].key));
    let pages: Vec<_> = server.requests();
    assert_eq!(pages.len(), 6, "{pages:?}");
    assert!(pages[5].1.contains("continuation-token") || pages[5].1.contains("start-after"));
}

fn listing(entries: &str) -> Fault {
    Fault::Body(format!(
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ))
}

fn entry(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-11-22T14:30:00.123Z</LastModified><ETag>x</ETag></Contents>"
    )
}

#[tokio::test]
async fn a_listing_that_lies_about_order_and_place_does_no_harm() {
    let (server, store) = start().await;
    let lies = [
        "p/packs/b",
        "p/packs/a",
        "p/packs/b",
        "p/index/c",
        "elsewhere/x",
        "x",
        "p/packs/../e",
        "p/packs/é",
        "p/packs/d/",
        "p",
    ];
    server.fault(Method::GET, 1, listing(&lies.map(entry).concat()));
    let found = store.list("packs/").await.expect("list");
    let keys: Vec<_> = found.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["packs/a", "packs/b"]);
    assert_eq!(found[0].modified.unix_ms, 1_795_357_800_123);
}

#[tokio::test]
async fn a_listing_that_is_no_listing_is_an_error() {
    for body in [
        "",
        "<",
        "hello",
        "<Error><Code>x</Code></Error>",
        "<html><body>Log in</body></html>",
        "<ListBucketResult><Cont",
    ] {
        let server = S3Server::start();
        let store = connect(&server, &impatient(&server)).await;
        server.fault(Method::GET, usize::MAX, Fault::Body(body.to_owned()));
        store.list("").await.expect_err(body);
    }
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let server = S3Server::start();
    let store = connect(&server, &impatient(&server)).await;
    let empty = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken></ListBucketResult>";
    server.fault(Method::GET, usize::MAX, Fault::Body(empty.to_owned()));
    let error = store.list("").await.expect_err("no end");
    assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn requests_stay_simple_and_below_the_prefix() {
    let (server, store) = start().await;
    store.put_if_absent("packs/a", Bytes::from(vec![1; 9 << 20])).await.expect("put");
    store.get("packs/a", 17 << 20).await.expect("get");
    store.list("packs/").await.expect("list");
    store.delete("packs/a").await.expect("delete");
    let requests = server.requests();
    let methods: Vec<_> = requests.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(methods, ["PUT", "GET", "GET", "DELETE"], "no multipart upload, no stat before a get");
    assert!(
        requests
            .iter()
            .all(|(_, path)| path.contains("/p/") || path.contains("prefix=p/") || path.contains("prefix=p%2F")),
        "{requests:?}"
    );
    let names = server.header_names();
    assert!(names.iter().all(|name| name != "content-encoding"));
    assert!(names.iter().any(|name| name == "if-none-match"));
}

#[tokio::test]
async fn a_repository_may_be_a_whole_bucket() {
    let server = S3Server::start();
    let url = "s3://bucket".parse().expect("url");
    let store = open(&url, &server.options()).await.expect("open");
    for key in ["packs/a", "repository.json"] {
        let put = store.put_if_absent(key, bytes()).await.expect("put");
        assert_eq!(put, Put::Created);
    }
    assert_eq!(store.list("").await.expect("list").len(), 2);
    assert_eq!(store.list("packs/").await.expect("list").len(), 1);
    assert_eq!(store.get("packs/a", 100).await.expect("get"), bytes());
    store.now().await.expect("now");
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let (server, store) = start().await;
    let mut printed = format!("{store:?} {:?} {}", server.options(), store.describe());
    server.fault(Method::GET, usize::MAX, Fault::Status(500, "InternalError"));
    printed += &format!("{:?}", store.get("a", 10).await.expect_err("broken"));
    assert!(!printed.contains("test-secret"), "{printed}");
}

/// Run by the next test in processes of its own, with other variables.
#[tokio::test]
async fn child_that_uses_its_environment() {
    // Without it, this is no child.
    if std::env::var_os("HAH_VAULT_TEST_CHILD").is_none() {
        return;
    }
    let url = "s3://bucket/p".parse().expect("url");
    let store = open(&url, &StoreOptions::default()).await.expect("open");
    store.put_if_absent("repository.json", bytes()).await.expect("put");
}

#[tokio::test]
async fn keys_and_endpoint_come_from_variables_or_a_profile() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (config, keys) = (dir.path().join("config"), dir.path().join("credentials"));
    let server = S3Server::start();
    let endpoint = server.endpoint();
    let key_lines =
        format!("[backup]\naws_access_key_id = {ACCESS_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n");
    std::fs::write(&keys, key_lines).expect("write");
    let config_lines = format!("[profile backup]\nregion = eu-west-1\nendpoint_url = {endpoint}\n");
    std::fs::write(&config, config_lines).expect("write");
    let paths = [&config, &keys].map(|path| path.to_str().expect("utf-8"));

    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
    ];
    let profile = [("AWS_PROFILE", "backup"), ("AWS_CONFIG_FILE", paths[0]), ("AWS_SHARED_CREDENTIALS_FILE", paths[1])];
    for variables in [variables, profile] {
        let mut child = std::process::Command::new(std::env::current_exe().expect("own path"));
        child.args(["--exact", "store::s3::child_that_uses_its_environment"]);
        child.env_clear().envs(variables);
        child.env("HAH_VAULT_TEST_CHILD", "1");
        let output = child.output().expect("child");
        assert!(output.status.success(), "{variables:?}: {output:?}");
        let path = server.root.path().join(BUCKET).join("p/repository.json");
        assert_eq!(std::fs::read(&path).expect("read"), bytes());
        std::fs::remove_file(&path).expect("remove");
    }
}
