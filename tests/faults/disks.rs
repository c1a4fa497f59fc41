//! Disks without room.

use super::noise;
use crate::support::fault_store::{Fault, FaultStore};
use crate::support::repo::{TestRepository, fixture};
use crate::support::small_disk::SmallDisk;
use hah_vault::archive::restore::restore_to_file;
use hah_vault::archive::{ArchiveError, Cancel};
use hah_vault::store::{LocalStore, MemoryStore, Operation, StoreError};
use std::path::Path;
use std::sync::Arc;

/// Names the input of the child, whose temporary space is small.
const CHILD: &str = "HAH_VAULT_TEST_SPILL_INPUT";

/// Run by the next test in a process of its own, with little temporary space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_has_no_room_to_spill() {
    // Without it, this is no child.
    let Some(input) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let test = TestRepository::create(store.clone()).await;
    store.always(Operation::Put, Fault::Hang);
    let error = test.backup("noise", Path::new(&input)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Spill { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("TMPDIR"));
    store.heal();
    assert_eq!(test.manifests().await.len(), 0);
}

#[tokio::test]
async fn a_full_disk_under_the_spill_is_named_and_nothing_is_committed() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), noise(50 << 20)).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "faults::disks::child_that_has_no_room_to_spill"]);
    let output = child.env("TMPDIR", disk.path()).env(CHILD, file.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_repository_is_named_and_nothing_is_committed() {
    let Some(disk) = SmallDisk::mount("4m") else { return };
    let root = disk.path().join("repository");
    let test = TestRepository::create(Arc::new(LocalStore::open(&root).unwrap())).await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    let error = test.backup_bytes("noise", &noise(5 << 20)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Store(StoreError::Full { .. })), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(test.manifests().await.len(), 1);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    // And there is room for small ones as before.
    test.backup("consul", &fixture("consul-01.snap")).await.unwrap();
    assert!(test.restore_latest("consul").await.unwrap().0 == super::original("consul-01.snap"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_restored_file_is_named_and_leaves_no_file() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let test = TestRepository::in_memory().await;
    let name = test.backup_bytes("noise", &noise(3 << 20)).await.unwrap().manifest.name;
    for force in [false, true] {
        let path = disk.path().join("restored");
        let restored = restore_to_file(&test.repository, &name, &path, force, false, &Cancel::default()).await;
        let error = restored.unwrap_err();
        assert!(matches!(&error, ArchiveError::Output { source } if source.kind() == std::io::ErrorKind::StorageFull));
        assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
    }
    // What was there before stays, even where it may be replaced.
    let path = disk.path().join("restored");
    std::fs::write(&path, b"before").unwrap();
    restore_to_file(&test.repository, &name, &path, true, false, &Cancel::default()).await.unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 1);
}
