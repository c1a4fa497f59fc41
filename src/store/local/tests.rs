//! What cannot be reached through the trait.

use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let root = dir.path().join("repository");
    let swept = AtomicBool::new(false);
    (dir, Folder { root, swept })
}

fn at() -> At {
    At { operation: Operation::Put, key: "packs/a".into(), store: "/srv".into() }
}

#[test]
fn the_fallback_under_a_lock_never_overwrites() {
    let (_dir, folder) = folder();
    let path = folder.root.join("a");
    for (bytes, created) in [(b"one", true), (b"two", false)] {
        let mut temporary = folder.temporary().expect("temporary");
        temporary.write_all(bytes).expect("write");
        let named = folder.name_under_lock(temporary, &path).expect("name");
        assert_eq!(named.is_some(), created);
    }
    assert_eq!(fs::read(&path).expect("read"), b"one");
    let left: Vec<_> = fs::read_dir(folder.root.join("tmp")).expect("tmp").collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
    assert_eq!(folder.list("", 10).expect("list").len(), 1);
}

#[test]
fn the_kinds_of_system_errors_are_told_apart() {
    let map = |code| from_io(at(), io::Error::from_raw_os_error(code));
    assert!(matches!(map(28), StoreError::Full { .. }), "ENOSPC");
    assert!(matches!(map(122), StoreError::Full { .. }), "EDQUOT");
    assert!(matches!(map(13), StoreError::Denied { .. }), "EACCES");
    assert!(matches!(map(30), StoreError::Denied { .. }), "EROFS");
    assert!(matches!(map(5), StoreError::Other { .. }), "EIO");
    assert!(matches!(map(2), StoreError::NotFound { .. }), "ENOENT");
}

#[test]
fn an_object_named_long_after_it_was_written_gets_the_time_of_its_naming() {
    let (_dir, folder) = folder();
    folder.put("a", b"x").expect("put");
    let file = File::options().write(true).open(folder.root.join("a")).expect("open");
    let old = SystemTime::now() - Duration::from_secs(90_000);
    file.set_modified(old).expect("set");
    folder.refresh_time(&file, old).expect("refresh");
    let modified = file.metadata().and_then(|found| found.modified()).expect("modified");
    assert!(modified.elapsed().is_ok_and(|age| age < Duration::from_secs(60)));
}

#[test]
fn stale_temporary_files_are_swept_and_fresh_ones_are_not() {
    let (_dir, folder) = folder();
    let tmp = folder.root.join("tmp");
    create_folders(&tmp).expect("tmp");
    let old = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    for (name, modified) in [("new-old", Some(old)), ("new-fresh", None), ("other-old", Some(old))] {
        let file = File::create(tmp.join(name)).expect("create");
        if let Some(modified) = modified {
            file.set_modified(modified).expect("set");
        }
    }
    folder.put("a", b"x").expect("put");
    let mut left: Vec<_> = fs::read_dir(&tmp).expect("tmp").flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, ["new-fresh", "other-old"]);
}

#[test]
fn a_listing_beyond_its_limit_is_an_error() {
    let (_dir, folder) = folder();
    for key in ["a", "b/c", "b/d"] {
        folder.put(key, b"x").expect("put");
    }
    assert_eq!(folder.list("", 3).expect("list").len(), 3);
    assert!(matches!(folder.list("", 2), Err(Failure::TooMany { len_max: 2 })));
}
