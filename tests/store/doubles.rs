//! The doubles do what they say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hah_vault::store::{Counts, MemoryStore, ObjectMeta, Operation, Put, RecordingStore, Store, StoreError, StoreTime};

use crate::support::fault_store::{Fault, FaultStore, Rule};

fn bytes() -> Bytes {
    Bytes::from_static(b"0123456789")
}

#[tokio::test]
async fn the_recording_store_counts_operations_and_bytes() {
    let store = RecordingStore::with_log(Arc::new(MemoryStore::new()));
    store.put_if_absent("a", bytes()).await.expect("put");
    store.put_if_absent("a", bytes()).await.expect("put");
    store.get("a", 10).await.expect("get");
    store.get("b", 10).await.expect_err("missing");
    store.list("").await.expect("list");
    store.now().await.expect("now");
    let expected =
        Counts { put: 2, get: 2, list: 1, list_pages: 1, now: 1, put_bytes: 10, get_bytes: 10, ..Counts::default() };
    assert_eq!(store.counts(), expected);
    assert_eq!(store.log()[3], (Operation::Get, "b".to_owned()));
    assert_eq!(RecordingStore::new(Arc::new(MemoryStore::new())).log(), []);
}

#[tokio::test]
async fn the_memory_store_has_a_clock_that_can_be_held() {
    let store = MemoryStore::new();
    store.set_now(StoreTime { unix_ms: 1000 });
    store.put_if_absent("a", bytes()).await.expect("put");
    store.advance_ms(500);
    assert_eq!(store.now().await.expect("now").unix_ms, 1500);
    assert_eq!(store.stat("a").await.expect("stat").expect("there").modified.unix_ms, 1000);
}

#[tokio::test]
async fn the_fault_store_fails_as_told_and_then_heals() {
    let inner = Arc::new(MemoryStore::new());
    let store = FaultStore::new(inner.clone());
    store.nth(Operation::Put, 1, Fault::LostAnswer);
    assert_eq!(store.put_if_absent("a", bytes()).await.expect("put"), Put::Created);
    assert!(store.put_if_absent("b", bytes()).await.expect_err("lost").is_transient());
    assert!(inner.get("b", 10).await.is_ok(), "it was done");

    store.nth(Operation::Get, 0, Fault::Truncate(3));
    store.nth(Operation::Get, 0, Fault::Flip(0));
    assert_eq!(store.get("a", 10).await.expect("get").len(), 3);
    assert_eq!(store.get("a", 10).await.expect("get"), Bytes::from_static(b"1123456789"));
    assert_eq!(store.get("a", 10).await.expect("get"), bytes());

    store.always(Operation::Put, Fault::Deny);
    assert!(matches!(store.put_if_absent("c", bytes()).await, Err(StoreError::Denied { .. })));
    store.heal();
    assert_eq!(store.put_if_absent("c", bytes()).await.expect("put"), Put::Created);
}

#[tokio::test]
async fn the_fault_store_lies_in_listings_and_about_the_time() {
    let inner = Arc::new(MemoryStore::new());
    inner.set_now(StoreTime { unix_ms: 1000 });
    let store = FaultStore::new(inner);
    for key in ["packs/a", "packs/b"] {
        store.put_if_absent(key, bytes()).await.expect("put");
    }
    let modified = StoreTime { unix_ms: 1 };
    let invented = ObjectMeta { key: "packs/0".into(), len_bytes: 1, modified };
    store.nth(Operation::List, 0, Fault::Hide("b".into()));
    store.nth(Operation::List, 0, Fault::Invent(invented.clone()));
    assert_eq!(store.list("packs/").await.expect("list").len(), 1);
    assert_eq!(store.list("packs/").await.expect("list")[0], invented);
    store.always(Operation::Now, Fault::ClockOff { ms: -600 });
    assert_eq!(store.now().await.expect("now").unix_ms, 400);
    store.always(Operation::Stat, Fault::Missing);
    assert_eq!(store.stat("packs/a").await.expect("stat"), None);
}

#[tokio::test]
async fn the_fault_store_stalls() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    store.always(Operation::Put, Fault::Throttle { bytes_per_second: 100 });
    let begin = std::time::Instant::now();
    store.put_if_absent("a", bytes()).await.expect("put");
    assert!(begin.elapsed() >= Duration::from_millis(100));
    store.rule(Rule { operation: Operation::Get, key_part: "a".into(), skip: 0, times: 1, fault: Fault::Hang });
    let get = store.get("a", 10);
    assert!(tokio::time::timeout(Duration::from_millis(50), get).await.is_err());
    store.nth(Operation::List, 0, Fault::Delay(Duration::from_millis(5)));
    store.list("").await.expect("list");
    for fault in [Fault::Unreachable, Fault::Full] {
        store.nth(Operation::Delete, 0, fault);
        store.delete("a").await.expect_err("fault");
    }
    store.nth(Operation::Get, 0, Fault::Replace(Bytes::new()));
    assert!(store.get("a", 10).await.expect("get").is_empty());
}
