//! Runs that are stopped, run at the same time, or run against a slow store.

use super::{noise, original, within};
use crate::support::fault_store::{Fault, FaultStore, Rule};
use crate::support::repo::{Recorder, TestRepository, fixture};
use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::archive::backup::{BackupOptions, Input, SourceSpec, backup};
use hah_vault::archive::{ArchiveError, Cancel, Event, Monitor, Repository};
use hah_vault::store::{LocalStore, MemoryStore, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Asks everybody to stop at the nth event.
#[derive(Debug)]
struct StopsAt {
    cancel: Cancel,
    events_left: std::sync::atomic::AtomicIsize,
}

impl Monitor for StopsAt {
    fn event(&self, _: Event) {
        if self.events_left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            self.cancel.cancel();
        }
    }
}

async fn back_up_until(repository: &Repository, path: &Path, events: isize) -> Result<(), ArchiveError> {
    let cancel = Cancel::default();
    let monitor = StopsAt { cancel: cancel.clone(), events_left: events.into() };
    let repository = Repository { monitor: Arc::new(monitor), ..repository.clone() };
    let spec = SourceSpec { name: "noise".parse().unwrap(), input: Input::File(path.to_owned()) };
    let mut outcomes = backup(&repository, vec![spec], &BackupOptions::default(), &cancel).await?;
    outcomes.remove(0).1.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_stopped_leaves_no_manifest_and_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let (root, input) = (dir.path().join("repository"), dir.path().join("input"));
    std::fs::write(&input, noise(9 << 20)).unwrap();
    let test = TestRepository::create(Arc::new(LocalStore::open(&root).unwrap())).await;
    // 36 reads, and the packs in between.
    for events in [0, 5, 20, 33, 36] {
        let stopped = within(Duration::from_secs(30), back_up_until(&test.repository, &input, events)).await;
        assert!(matches!(stopped, Err(ArchiveError::Interrupted)), "{events}: {stopped:?}");
        assert_eq!(test.manifests().await.len(), 0);
    }
    // A put that was under way when it was given up ends on its own.
    for _ in 0..200 {
        if std::fs::read_dir(root.join("tmp")).unwrap().count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    back_up_until(&test.repository, &input, isize::MAX).await.unwrap();
    assert!(test.restore_latest("noise").await.unwrap().0 == noise(9 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_store_that_hangs() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let test = TestRepository::create(store.clone()).await;
    store.rule(Rule {
        operation: Operation::Put,
        key_part: "packs/".into(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::Hang,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), noise(1 << 20)).unwrap();
    let cancel = Cancel::default();
    let spec = SourceSpec { name: "noise".parse().unwrap(), input: Input::File(file.path().to_owned()) };
    let options = BackupOptions::default();
    let run = backup(&test.repository, vec![spec], &options, &cancel);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cancel.cancel();
    };
    let (outcomes, ()) = within(Duration::from_secs(10), async { tokio::join!(run, stop) }).await;
    assert!(matches!(outcomes.unwrap().remove(0).1, Err(ArchiveError::Interrupted)));
    store.heal();
    assert_eq!(test.manifests().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_stopped_leaves_no_file() {
    let test = TestRepository::in_memory().await;
    let name = test.backup("consul", &fixture("consul-00.snap")).await.unwrap().manifest.name;
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let path = dir.path().join("restored");
    let stopped =
        hah_vault::archive::restore::restore_to_file(&test.repository, &name, &path, false, false, &cancel).await;
    assert!(matches!(stopped, Err(ArchiveError::Interrupted)), "{stopped:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_backups_of_one_source_at_the_same_time_both_succeed_and_restore() {
    let test = TestRepository::in_memory().await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    for round in 0..5 {
        let (one, two) = (fixture("consul-01.snap"), fixture("consul-02.snap"));
        let (one, two) = tokio::join!(test.backup("consul", &one), test.backup("consul", &two));
        let (one, two) = (one.unwrap().manifest, two.unwrap().manifest);
        assert_ne!(one.name, two.name);
        assert!(test.restore(&one.name).await.unwrap().0 == original("consul-01.snap"), "{round}");
        assert!(test.restore(&two.name).await.unwrap().0 == original("consul-02.snap"), "{round}");
    }
    assert_eq!(test.manifests().await.len(), 11);
}

/// Lets no pack pass before a source of this length has been read to its end.
#[derive(Debug)]
struct Gate {
    memory: MemoryStore,
    recorder: Arc<Recorder>,
    len_bytes: u64,
}

impl Gate {
    fn read_bytes(&self) -> u64 {
        let read = |event: &Event| if let Event::Read { len_bytes, .. } = event { *len_bytes } else { 0 };
        self.recorder.events().iter().map(read).sum()
    }
}

#[async_trait]
impl Store for Gate {
    fn describe(&self) -> String {
        "a gate".into()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        while key.starts_with("packs/") && self.read_bytes() < self.len_bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.memory.put_if_absent(key, bytes).await
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.memory.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.memory.list(prefix).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.memory.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.memory.delete(key).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.memory.now().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_nothing_does_not_slow_the_source() {
    // Seven packs: three on their way, one in memory, the rest spilled.
    let bytes = noise(50 << 20);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let recorder = Arc::new(Recorder::default());
    let store = Gate { memory: MemoryStore::new(), recorder: recorder.clone(), len_bytes: bytes.len() as u64 };
    let mut test = TestRepository::create(Arc::new(store)).await;
    test.repository.monitor = recorder.clone();
    let report = within(Duration::from_secs(120), test.backup("noise", file.path())).await.unwrap();
    assert!(report.manifest.packs.len() >= 7);
    let events = recorder.events();
    let last_read = events.iter().rposition(|event| matches!(event, Event::Read { .. })).unwrap();
    let first_stored = events.iter().position(|event| matches!(event, Event::Stored { .. })).unwrap();
    assert!(last_read < first_stored, "the source was read to its end before anything was stored");
    assert!(test.restore(&report.manifest.name).await.unwrap().0 == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_uplink_is_waited_for_and_the_source_is_not() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let test = TestRepository::create(store.clone()).await;
    store.always(Operation::Put, Fault::Throttle { bytes_per_second: 5_000_000 });
    let bytes = noise(18 << 20);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    within(Duration::from_secs(60), test.backup("noise", file.path())).await.unwrap();
    let stored: u64 = test
        .recorder
        .events()
        .iter()
        .map(|event| if let Event::Stored { len_bytes, .. } = event { *len_bytes } else { 0 })
        .sum();
    assert!(stored > bytes.len() as u64);
    assert!(test.restore_latest("noise").await.unwrap().0 == bytes);
}
