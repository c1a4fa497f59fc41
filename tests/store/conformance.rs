//! What every store must do alike. Each case runs against memory, a local folder, and an S3 server over a socket.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hah_vault::store::{LocalStore, MemoryStore, Put, Store, StoreError, StoreTime, open};

use crate::support::s3_server::S3Server;

/// A store, and what must live as long as it.
struct Place {
    store: Arc<dyn Store>,
    _keep: Option<Keep>,
}

enum Keep {
    Folder { _dir: tempfile::TempDir },
    Server { _server: S3Server },
}

async fn memory() -> Place {
    let store = Arc::new(MemoryStore::new());
    Place { store, _keep: None }
}

async fn local() -> Place {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = LocalStore::open(&dir.path().join("new/repository")).expect("open");
    Place { store: Arc::new(store), _keep: Some(Keep::Folder { _dir: dir }) }
}

async fn s3() -> Place {
    let server = S3Server::start();
    let store = open(&server.url("some/prefix"), &server.options()).await.expect("open");
    Place { store, _keep: Some(Keep::Server { _server: server }) }
}

macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        conformance!(@for memory, $($case),*);
        conformance!(@for local, $($case),*);
        conformance!(@for s3, $($case),*);
    };
    (@for $place:ident, $($case:ident),*) => {
        mod $place {
            $(
                #[tokio::test]
                async fn $case() {
                    let place = super::$place().await;
                    super::$case(place.store.as_ref()).await;
                }
            )*
        }
    };
}

conformance!(
    gives_back_what_was_put,
    keeps_an_empty_object,
    never_overwrites,
    lets_exactly_one_of_many_writers_create,
    keeps_a_large_object,
    refuses_an_object_that_is_too_long,
    names_a_missing_object,
    stats_an_object,
    deletes_and_deletes_again,
    lists_sorted_and_nested,
    lists_only_what_is_under_the_prefix,
    lists_more_than_a_page,
    lists_nothing_in_an_empty_store,
    a_key_may_be_the_beginning_of_another,
    refuses_keys_that_are_no_keys,
    tells_the_time,
    an_object_is_as_old_as_the_store_says,
    passes_the_probe_and_leaves_nothing,
);

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let found = store.list(prefix).await.expect("list");
    found.into_iter().map(|object| object.key).collect()
}

async fn gives_back_what_was_put(store: &dyn Store) {
    let all: Bytes = (0..=255).collect();
    let put = store.put_if_absent("packs/a", all.clone()).await.expect("put");
    assert_eq!(put, Put::Created);
    assert_eq!(store.get("packs/a", 256).await.expect("get"), all);
}

async fn keeps_an_empty_object(store: &dyn Store) {
    store.put_if_absent("keys/empty", Bytes::new()).await.expect("put");
    assert_eq!(store.get("keys/empty", 0).await.expect("get"), Bytes::new());
    assert_eq!(store.list("keys/").await.expect("list")[0].len_bytes, 0);
}

async fn never_overwrites(store: &dyn Store) {
    assert_eq!(store.put_if_absent("a", text("one")).await.expect("put"), Put::Created);
    assert_eq!(store.put_if_absent("a", text("two")).await.expect("put"), Put::Existed);
    assert_eq!(store.put_if_absent("a", text("one")).await.expect("put"), Put::Existed);
    assert_eq!(store.get("a", 10).await.expect("get"), text("one"));
}

async fn lets_exactly_one_of_many_writers_create(store: &dyn Store) {
    for round in 0..5 {
        let key = format!("packs/{round}");
        let puts = (0..8_u8).map(|writer| store.put_if_absent(&key, vec![writer; 1000].into()));
        let puts = futures::future::join_all(puts).await;
        let puts: Vec<_> = puts.into_iter().map(|put| put.expect("put")).collect();
        assert_eq!(puts.iter().filter(|put| **put == Put::Created).count(), 1, "{puts:?}");
        let winner = puts.iter().position(|put| *put == Put::Created).expect("winner");
        let bytes = store.get(&key, 1000).await.expect("get");
        assert!(bytes.len() == 1000 && bytes.iter().all(|byte| usize::from(*byte) == winner));
    }
}

async fn keeps_a_large_object(store: &dyn Store) {
    let len = 9 * 1024 * 1024;
    let large: Bytes = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    store.put_if_absent("packs/large", large.clone()).await.expect("put");
    assert!(store.get("packs/large", 17 << 20).await.expect("get") == large);
    let found = store.stat("packs/large").await.expect("stat").expect("there");
    assert_eq!(found.len_bytes, u64::from(len));
}

async fn refuses_an_object_that_is_too_long(store: &dyn Store) {
    store.put_if_absent("a", text("12345")).await.expect("put");
    assert!(store.get("a", 5).await.is_ok());
    let error = store.get("a", 4).await.expect_err("too long");
    assert!(matches!(error, StoreError::TooLong { len_max_bytes: 4, .. }), "{error:?}");
    assert!(error.to_string().contains(" a "), "{error}");
}

async fn names_a_missing_object(store: &dyn Store) {
    for key in ["missing", "folder/missing"] {
        let error = store.get(key, 10).await.expect_err("missing");
        assert!(error.is_not_found(), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(key) && message.contains(&store.describe()), "{message}");
        assert_eq!(store.stat(key).await.expect("stat"), None);
    }
}

async fn stats_an_object(store: &dyn Store) {
    store.put_if_absent("index/a", text("12345")).await.expect("put");
    let found = store.stat("index/a").await.expect("stat").expect("there");
    assert_eq!((found.key.as_str(), found.len_bytes), ("index/a", 5));
    let listed = store.list("index/").await.expect("list");
    assert!((listed[0].modified.unix_ms - found.modified.unix_ms).abs() < 1000);
}

async fn deletes_and_deletes_again(store: &dyn Store) {
    store.put_if_absent("packs/a", text("x")).await.expect("put");
    store.delete("packs/a").await.expect("delete");
    assert!(store.get("packs/a", 10).await.expect_err("gone").is_not_found());
    store.delete("packs/a").await.expect("delete again");
    store.delete("never/there").await.expect("delete nothing");
    assert_eq!(keys(store, "").await, Vec::<String>::new());
    assert_eq!(store.put_if_absent("packs/a", text("y")).await.expect("put"), Put::Created);
}

async fn lists_sorted_and_nested(store: &dyn Store) {
    let all = ["manifests/a-b/3", "manifests/a/2", "manifests/a/1", "manifests/b/c/d/4", "manifests/a.b/5", "packs/9"];
    for key in all {
        store.put_if_absent(key, text("x")).await.expect("put");
    }
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    assert_eq!(keys(store, "").await, sorted);
    assert_eq!(keys(store, "manifests/").await, sorted[..5]);
    assert_eq!(keys(store, "manifests/b/").await, ["manifests/b/c/d/4"]);
}

async fn lists_only_what_is_under_the_prefix(store: &dyn Store) {
    for key in ["manifests/a/1", "manifests/ab/2", "manifests-old/3", "manifests.json", "trash/manifests/4"] {
        store.put_if_absent(key, text("x")).await.expect("put");
    }
    assert_eq!(keys(store, "manifests/a/").await, ["manifests/a/1"]);
    assert_eq!(keys(store, "manifests/").await, ["manifests/a/1", "manifests/ab/2"]);
    assert_eq!(keys(store, "missing/").await, Vec::<String>::new());
    for prefix in ["manifests", "/", "../", "manifests//", "manifests/*/", "tmp/"] {
        let error = store.list(prefix).await.expect_err(prefix);
        assert!(matches!(error, StoreError::Invalid { .. }), "{prefix}: {error:?}");
    }
}

async fn lists_more_than_a_page(store: &dyn Store) {
    let expected: Vec<_> = (0..1205).map(|i| format!("packs/{i:05}")).collect();
    let puts = stream::iter(&expected).map(|key| store.put_if_absent(key, text("x")));
    let puts: Vec<_> = puts.buffer_unordered(8).collect().await;
    assert!(puts.into_iter().all(|put| matches!(put, Ok(Put::Created))));
    assert_eq!(keys(store, "packs/").await, expected);
}

async fn lists_nothing_in_an_empty_store(store: &dyn Store) {
    assert_eq!(keys(store, "").await, Vec::<String>::new());
    assert_eq!(keys(store, "packs/").await, Vec::<String>::new());
}

async fn a_key_may_be_the_beginning_of_another(store: &dyn Store) {
    for key in ["packs/a", "packs/aa", "packs/a.b"] {
        store.put_if_absent(key, text("x")).await.expect("put");
    }
    store.delete("packs/a").await.expect("delete");
    assert_eq!(keys(store, "packs/").await, ["packs/a.b", "packs/aa"]);
}

async fn refuses_keys_that_are_no_keys(store: &dyn Store) {
    for key in ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "a\nb", "ä", "tmp/a"] {
        let put = store.put_if_absent(key, text("x")).await;
        let errors = [
            put.map(drop),
            store.get(key, 1).await.map(drop),
            store.stat(key).await.map(drop),
            store.delete(key).await,
        ];
        for error in errors {
            assert!(matches!(error, Err(StoreError::Invalid { .. })), "{key:?}: {error:?}");
        }
    }
}

async fn tells_the_time(store: &dyn Store) {
    let before: StoreTime = SystemTime::now().into();
    let first = store.now().await.expect("now");
    let second = store.now().await.expect("now");
    let after: StoreTime = SystemTime::now().into();
    // S3's Date has whole seconds, and file systems a coarse clock.
    assert!(first <= second, "{first:?} {second:?}");
    assert!(first.unix_ms > before.unix_ms - 1100 && second.unix_ms < after.unix_ms + 1100);
    assert_eq!(keys(store, "").await, Vec::<String>::new(), "asking leaves nothing");
}

async fn an_object_is_as_old_as_the_store_says(store: &dyn Store) {
    let before = store.now().await.expect("now");
    store.put_if_absent("a", text("x")).await.expect("put");
    let after = store.now().await.expect("now");
    let modified = store.stat("a").await.expect("stat").expect("there").modified;
    assert!(modified.unix_ms >= before.unix_ms - 1000 && modified.unix_ms <= after.unix_ms + 1000);
}

async fn passes_the_probe_and_leaves_nothing(store: &dyn Store) {
    store.probe().await.expect("probe");
    assert_eq!(keys(store, "").await, Vec::<String>::new());
}
