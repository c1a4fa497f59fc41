//! Small requests on their way: addresses, redirects, retries.

use super::*;
use crate::support::service_server::{Reply, Step};
use crate::support::vault_cluster::Trouble;
use crate::support::vault_server::json;

const LOGIN: &str = "/v1/auth/approle/login";

fn busy() -> Reply {
    json("503 Service Unavailable", r#"{"errors":["local node not active but active cluster node not found"]}"#)
}

#[tokio::test]
async fn dead_and_sealed_nodes_are_passed_over_and_remembered() {
    let cluster = Cluster::new();
    let (sealed, good) = (node(&cluster, Role::Sealed).await, node(&cluster, Role::Active).await);
    let session = open_with(settings(&["http://127.0.0.1:1", &sealed.server.url(), &good.server.url()]), approle());
    session.token().await.unwrap();
    session.secrets("kv1/app").await.unwrap();
    close_clean(&session, &cluster).await;
    assert_eq!(sealed.server.requests().len(), 1, "the node that answered is asked first from then on");
}

#[tokio::test]
async fn a_sealed_vault_is_named_and_not_asked_again() {
    let cluster = Cluster::new();
    let sealed = node(&cluster, Role::Sealed).await;
    let error = open(&sealed, approle()).token().await.unwrap_err();
    assert!(matches!(error, SourceError::Sealed { .. }), "{error}");
    assert_eq!(sealed.server.requests().len(), 1);
}

#[tokio::test]
async fn a_standby_hands_requests_on_or_sends_us_on_once() {
    let cluster = Cluster::new();
    let active = node(&cluster, Role::Active).await;
    let standby = node(&cluster, Role::Standby(active.server.url())).await;
    let session = open(&standby, approle());
    session.token().await.unwrap();
    assert!(active.server.requests().is_empty(), "it hands on by itself");
    cluster.set(|state| state.forwards = false);
    assert_eq!(session.secrets("kv1/app").await.unwrap().get("bucket").unwrap().expose(), "backups");
    assert!(!active.server.requests_of("/v1/kv1/app")[0].header("x-vault-token").is_empty(), "the token is sent again");
    close_clean(&session, &cluster).await;
    // Bodies are sent again too.
    let session = open(&standby, approle());
    session.token().await.unwrap();
    close_clean(&session, &cluster).await;
    assert!(!active.server.requests_of(LOGIN).is_empty());
}

#[tokio::test]
async fn dangerous_redirects_get_neither_token_nor_login() {
    let cluster = Cluster::new();
    cluster.set(|state| state.forwards = false);
    for to in ["http://169.254.169.254", "http://0.0.0.0:8200", "ftp://10.0.0.1"] {
        let standby = node(&cluster, Role::Standby(to.into())).await;
        let error = open(&standby, approle()).token().await.unwrap_err();
        assert!(matches!(error, SourceError::Redirect { .. }), "{to}: {error}");
    }
    let active = node(&cluster, Role::Active).await;
    let standby = node(&cluster, Role::Standby(active.server.url())).await;
    let mut settings = settings(&[&standby.server.url()]);
    settings.follow_redirect = false;
    let error = open_with(settings, approle()).token().await.unwrap_err();
    assert!(error.to_string().contains("VAULT_DISABLE_REDIRECTS"), "{error}");
    let third = node(&cluster, Role::Standby(standby.server.url())).await;
    let error = open(&third, approle()).token().await.unwrap_err();
    assert!(error.to_string().contains("second redirect"), "{error}");
    assert!(active.server.requests().is_empty());
}

#[tokio::test]
async fn passing_failures_are_tried_again_as_often_as_is_said() {
    let limit = json(
        "429 Too Many Requests",
        r#"{"errors":["request path \"auth/approle/login\": rate limit quota exceeded"]}"#,
    );
    let behind = json("412 Precondition Failed", r#"{"errors":["required index state not present"]}"#);
    for reply in [busy(), limit, behind, json("500 Internal Server Error", r#"{"errors":["internal error"]}"#)] {
        for (max_retries, troubles, works) in [(2, 2, true), (2, 3, false), (0, 1, false), (0, 0, true)] {
            let (cluster, server) = start().await;
            cluster.trouble("auth/approle", troubles, Trouble::Answer(reply.clone()));
            let mut settings = settings(&[&server.server.url()]);
            settings.max_retries = max_retries;
            let session = open_with(settings, approle());
            let outcome = session.token().await;
            assert_eq!(outcome.is_ok(), works, "{max_retries} {troubles}: {outcome:?}");
            if let Err(error) = outcome {
                assert!(error.is_transient(), "{error}");
            }
            close_clean(&session, &cluster).await;
        }
    }
    let (cluster, server) = start().await;
    cluster.trouble("auth/approle", 1, Trouble::Answer(json("501 Not Implemented", r#"{"errors":[]}"#)));
    open(&server, approle()).token().await.unwrap_err();
    assert_eq!(server.server.requests_of(LOGIN).len(), 1, "501 lasts");
}

#[tokio::test]
async fn a_lost_answer_to_a_login_is_told() {
    let (cluster, server) = start().await;
    cluster.trouble("auth/approle", 1, Trouble::LoseAnswer);
    let session = open(&server, approle());
    session.token().await.unwrap();
    let notes = session.close().await;
    assert!(notes.len() == 1 && notes[0].contains("the answer to a login was lost"), "{notes:?}");
    assert_eq!(cluster.leaks(), ["token 1 of auth/approle"], "nobody knows it");
}

#[tokio::test]
async fn a_lost_answer_of_an_engine_leaves_nothing_behind() {
    let (cluster, server) = start().await;
    cluster.trouble("consul/creds", 1, Trouble::LoseAnswer);
    let session = open(&server, approle());
    session.consul_token("consul/creds/backup").await.unwrap();
    // The lease that nobody knows goes with the login token.
    close_clean(&session, &cluster).await;
    let log = cluster.log();
    assert_eq!(log.iter().filter(|line| line.ends_with("revoked with its token")).count(), 1, "{log:#?}");
}

#[tokio::test]
async fn an_unwrapping_whose_answer_is_lost_is_not_repeated() {
    let (cluster, server) = start().await;
    let wrapping = cluster.wrap("auth/approle/role/backup/secret-id");
    cluster.trouble("sys/wrapping/unwrap", 1, Trouble::LoseAnswer);
    let error = open(&server, wrapped(&wrapping, None)).token().await.unwrap_err();
    assert!(matches!(error, SourceError::Broken { .. }), "{error}");
    assert_eq!(server.server.requests_of("/v1/sys/wrapping/unwrap").len(), 1);
}

#[tokio::test]
async fn silence_has_a_limit() {
    let (cluster, server) = start().await;
    cluster.trouble("auth/approle", 10, Trouble::Slow(Duration::from_secs(60)));
    let mut settings = settings(&[&server.server.url()]);
    settings.reach.patience.answer = Duration::from_millis(200);
    settings.max_retries = 1;
    let error = open_with(settings, approle()).token().await.unwrap_err();
    assert!(matches!(error, SourceError::Silent { .. }), "{error}");
}

/// An answer that never ends, a blank at a time.
fn dripping() -> Reply {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{".to_vec();
    let drops = (0..20_000).flat_map(|_| [Step::Send(b" ".to_vec()), Step::Sleep(Duration::from_millis(20))]);
    Reply { steps: [Step::Send(head)].into_iter().chain(drops).collect() }
}

#[tokio::test]
async fn a_byte_now_and_then_is_no_answer_either() {
    let (cluster, server) = start().await;
    cluster.trouble("auth/approle", 10, Trouble::Answer(dripping()));
    let mut settings = settings(&[&server.server.url()]);
    settings.reach.patience.answer = Duration::from_millis(200);
    settings.max_retries = 1;
    let error = open_with(settings, approle()).token().await.unwrap_err();
    assert!(matches!(error, SourceError::Broken { .. }) && error.is_transient(), "{error}");
    assert_eq!(server.server.requests_of(LOGIN).len(), 2);
}
