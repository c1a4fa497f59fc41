//! What is particular to a folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use hah_vault::store::{LocalStore, Put, Store, StoreError, StoreOptions, open};

use crate::support::small_disk::SmallDisk;

fn store(dir: &Path) -> LocalStore {
    LocalStore::open(dir).expect("open")
}

async fn put(store: &LocalStore, key: &str) -> Result<Put, StoreError> {
    store.put_if_absent(key, Bytes::from_static(b"bytes")).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[tokio::test]
async fn files_and_folders_are_for_their_owner_only() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let root = dir.path().join("a/repository");
    put(&store(&root), "manifests/vault/1").await.expect("put");
    for folder in ["", "manifests", "manifests/vault", "tmp"] {
        assert_eq!(mode(&root.join(folder)), 0o700, "{folder}");
    }
    assert_eq!(mode(&root.join("manifests/vault/1")), 0o600);
}

#[tokio::test]
async fn no_temporary_file_is_left_by_a_put_or_by_asking_for_the_time() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    put(&store, "a").await.expect("put");
    put(&store, "a").await.expect("put again");
    store.now().await.expect("now");
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("tmp").count(), 0);
}

#[tokio::test]
async fn what_a_crash_before_naming_leaves_is_invisible_and_in_nobodys_way() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    fs::create_dir_all(dir.path().join("tmp")).expect("tmp");
    fs::write(dir.path().join("tmp/new-abc"), b"half an obj").expect("write");
    assert_eq!(store.list("").await.expect("list"), []);
    assert!(store.get("packs/a", 100).await.expect_err("absent").is_not_found());
    assert_eq!(put(&store, "packs/a").await.expect("put"), Put::Created);
    assert_eq!(store.list("").await.expect("list").len(), 1);
}

#[tokio::test]
async fn a_put_that_is_given_up_leaves_the_whole_object_or_none() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    let large = Bytes::from(vec![7; 4 << 20]);
    for i in 0..10 {
        let key = format!("packs/{i}");
        let put = store.put_if_absent(&key, large.clone());
        let wait = std::time::Duration::from_millis(i);
        let _ = tokio::time::timeout(wait, put).await;
    }
    // What was begun ends on its own thread, and takes its temporary file with it.
    let is_busy = || fs::read_dir(dir.path().join("tmp")).is_ok_and(|mut left| left.next().is_some());
    for _ in 0..1000 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        if !is_busy() {
            break;
        }
    }
    assert!(!is_busy());
    for object in store.list("").await.expect("list") {
        assert_eq!(store.get(&object.key, 8 << 20).await.expect("get"), large);
    }
}

#[tokio::test]
async fn other_files_in_the_folder_are_not_listed() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    put(&store, "packs/a").await.expect("put");
    for name in [".DS_Store", "packs/.nfs000", "packs/with space", "packs/ä"] {
        fs::write(dir.path().join(name), b"x").expect("write");
    }
    fs::create_dir(dir.path().join("packs/empty")).expect("folder");
    fs::create_dir(dir.path().join("packs/.hidden")).expect("folder");
    fs::write(dir.path().join("packs/.hidden/a"), b"x").expect("write");
    let found = store.list("").await.expect("list");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn symbolic_links_lead_nowhere() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    let store = store(&root);
    put(&store, "packs/a").await.expect("put");
    fs::create_dir(&outside).expect("outside");
    fs::write(outside.join("secret"), b"x").expect("write");
    symlink(&outside, root.join("index")).expect("link");
    symlink(outside.join("secret"), root.join("packs/b")).expect("link");
    symlink(&root, root.join("packs/loop")).expect("link");

    assert_eq!(store.list("").await.expect("list").len(), 1);
    assert!(store.list("index/").await.is_err(), "a linked folder is not silently empty");
    assert!(store.get("index/secret", 10).await.is_err());
    assert!(store.get("packs/b", 10).await.expect_err("link").is_not_found());
    let error = put(&store, "index/new").await.expect_err("through a link");
    assert!(error.hint().is_some(), "{error}");
    assert!(!outside.join("new").exists());
    assert_eq!(put(&store, "packs/b").await.expect("put"), Put::Existed);
    assert_eq!(fs::read(outside.join("secret")).expect("read"), b"x");
}

#[tokio::test]
async fn the_repository_itself_may_be_a_link() {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(dir.path().join("disk")).expect("folder");
    symlink(dir.path().join("disk"), dir.path().join("link")).expect("link");
    let store = store(&dir.path().join("link"));
    put(&store, "packs/a").await.expect("put");
    assert_eq!(store.list("").await.expect("list").len(), 1);
}

#[tokio::test]
async fn a_file_where_the_repository_should_be_is_refused_when_it_is_opened() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("file");
    fs::write(&path, b"x").expect("write");
    let url = path.to_str().expect("utf-8").parse().expect("url");
    let error = open(&url, &StoreOptions::default()).await.expect_err("a file");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn a_folder_with_the_name_of_an_object_is_an_error() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    put(&store, "packs/a").await.expect("put");
    let error = put(&store, "packs").await.expect_err("a folder");
    assert_eq!(error.to_string(), format!("cannot put packs into {}: a folder has that name", dir.path().display()));
    assert!(put(&store, "packs/a/b").await.is_err());
}

#[tokio::test]
async fn a_folder_is_no_object_and_an_object_no_folder() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    put(&store, "packs/a").await.expect("put");
    for key in ["packs", "packs/a/b"] {
        assert!(store.get(key, 10).await.expect_err(key).is_not_found());
        assert_eq!(store.stat(key).await.expect("stat"), None, "{key}");
    }
    store.delete("packs/a/b").await.expect("nothing there");
    assert_eq!(store.list("packs/a/").await.expect("list"), []);
}

/// Run by the next test in a process of its own, to be killed.
#[tokio::test]
async fn child_that_puts_for_ever() {
    // Without it, this is no child.
    let Some(root) = std::env::var_os("HAH_VAULT_TEST_ROOT") else {
        return;
    };
    let store = store(Path::new(&root));
    for i in 0_u64.. {
        let key = format!("packs/{i}");
        store.put_if_absent(&key, pattern(i)).await.expect("put");
    }
}

fn pattern(i: u64) -> Bytes {
    Bytes::from(vec![i.to_le_bytes()[0]; 1 << 20])
}

#[tokio::test]
async fn a_killed_writer_leaves_only_whole_objects() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = store(dir.path());
    for round in 0..3_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "store::local::child_that_puts_for_ever"])
            .env("HAH_VAULT_TEST_ROOT", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("child");
        let wanted = (round as usize + 1) * 3;
        while store.list("packs/").await.expect("list").len() < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(3 + round)).await;
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        for object in store.list("").await.expect("list") {
            let number = object.key.trim_start_matches("packs/").parse().expect("number");
            assert!(store.get(&object.key, 1 << 20).await.expect("get") == pattern(number));
        }
    }
    put(&store, "packs/after").await.expect("put");
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_half_is_left() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let dir = disk.path();
    let store = store(dir);
    let half = Bytes::from(vec![1; 600 << 10]);
    store.put_if_absent("packs/a", half.clone()).await.expect("put");
    let error = store.put_if_absent("packs/b", half.clone()).await.expect_err("full");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(store.list("").await.expect("list").len(), 1);
    store.delete("packs/a").await.expect("delete");
    store.put_if_absent("packs/b", half).await.expect("put");
}

#[tokio::test]
async fn opening_makes_nothing() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let root = dir.path().join("repository");
    let store = store(&root);
    assert_eq!(store.list("").await.expect("list"), []);
    assert!(!root.exists());
}
