//! Stores that refuse, hang, lie, lose and forget.

use super::{assert_nothing_committed, is_named, original, within};
use crate::support::fault_store::{Fault, FaultStore, Rule};
use crate::support::hooked_store::{HookedStore, When};
use crate::support::repo::{TestRepository, fixture};
use crate::support::s3_server::{self, S3Server, impatient};
use bytes::Bytes;
use hah_vault::archive::ArchiveError;
use hah_vault::store::{MemoryStore, ObjectMeta, Operation, Store, StoreError, StoreOptions, StoreTime, open};
use hah_vault_format::ObjectId;
use http::Method;
use std::sync::Arc;
use std::time::Duration;

const START: StoreTime = StoreTime { unix_ms: 1_795_361_015_000 };
const HOUR_MS: i64 = 3_600_000;

/// A repository behind a server, with one snapshot in it.
async fn served() -> (S3Server, TestRepository) {
    let server = S3Server::start();
    let options = StoreOptions { patience: impatient(), ..server.options() };
    let test = TestRepository::create(open(&server.url("p"), &options).await.unwrap()).await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    (server, test)
}

fn server_faults() -> Vec<s3_server::Fault> {
    use s3_server::Fault;
    vec![
        Fault::Status(403, "AccessDenied"),
        Fault::Status(404, "NoSuchBucket"),
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "SlowDown"),
        Fault::Status(507, "InsufficientStorage"),
        Fault::Closed,
        Fault::Hang,
        Fault::Stall,
        Fault::Endless,
        Fault::Body("<html>welcome to the hotel's network</html>".into()),
        Fault::Body(String::new()),
        Fault::Chunked(Bytes::from_static(b"\x00\xff")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_server_gives_a_named_error_and_no_manifest() {
    let (server, test) = served().await;
    let newer = fixture("consul-01.snap");
    for fault in server_faults() {
        for method in [Method::PUT, Method::GET, Method::HEAD] {
            // From the first request on, and in the middle.
            for skip in [0, 1] {
                server.rule(s3_server::Rule { method: method.clone(), skip, times: usize::MAX, fault: fault.clone() });
                let backup = test.backup("consul", &newer);
                let done = within(Duration::from_secs(20), backup).await;
                server.heal();
                println!("{method} {fault:?} after {skip}: {:?}", done.as_ref().err().map(ToString::to_string));
                match done {
                    // 200 to a put is all that a put answers: nothing was stored, and the check afterwards finds out.
                    Ok(report) => {
                        let restored = test.restore(&report.manifest.name).await.unwrap().0;
                        assert!(restored == original("consul-01.snap"));
                        test.repository.store.delete(&report.manifest.name.key()).await.unwrap();
                    }
                    Err(error) => {
                        assert!(is_named(&error), "{error:?}");
                        assert_nothing_committed(&test, 1).await;
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_from_a_broken_server_gives_a_named_error() {
    let (server, test) = served().await;
    let name = test.manifests().await.remove(0);
    for fault in server_faults() {
        for skip in [0, 1] {
            server.rule(s3_server::Rule { method: Method::GET, skip, times: usize::MAX, fault: fault.clone() });
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("restored.snap");
            let cancel = hah_vault::archive::Cancel::default();
            let restore =
                hah_vault::archive::restore::restore_to_file(&test.repository, &name, &path, false, false, &cancel);
            let error = within(Duration::from_secs(20), restore).await.unwrap_err();
            server.heal();
            assert!(is_named(&error), "{error:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_answer_is_lost_is_one_object_and_a_success() {
    for skip in 0..3 {
        for fault in [s3_server::Fault::LostAnswer, s3_server::Fault::DoneButStatus(500, "InternalError")] {
            let (server, test) = served().await;
            let before = test.repository.store.list("").await.unwrap().len();
            server.rule(s3_server::Rule { method: Method::PUT, skip, times: 1, fault });
            test.backup("consul", &fixture("consul-01.snap")).await.unwrap();
            assert_eq!(test.repository.store.list("").await.unwrap().len(), before + 3, "one pack, index and manifest");
            assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-01.snap"));
        }
    }
}

/// A repository behind a store with faults, with one snapshot in it.
async fn faulty() -> (Arc<FaultStore>, TestRepository) {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let test = TestRepository::create(store.clone()).await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    (store, test)
}

#[tokio::test]
async fn any_single_failing_operation_gives_a_named_error_and_no_manifest_or_is_survived() {
    use Operation::{Delete, Get, List, Now, Put, Stat};
    let mut failed = 0;
    for operation in [Put, Get, List, Stat, Now, Delete] {
        for skip in 0..6 {
            for fault in [Fault::Deny, Fault::Unreachable, Fault::Full, Fault::Missing, Fault::LostAnswer] {
                let (store, test) = faulty().await;
                store.nth(operation, skip, fault.clone());
                let done = test.backup("consul", &fixture("consul-01.snap")).await;
                store.heal();
                match done {
                    Ok(_) => assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-01.snap")),
                    Err(error) => {
                        assert!(is_named(&error), "{error:?}");
                        assert_nothing_committed(&test, 1).await;
                        failed += 1;
                    }
                }
            }
        }
    }
    // Puts of pack, index and manifest; listings before and after; the clock; the manifest's own time.
    assert!(failed > 30, "{failed}");
}

#[tokio::test]
async fn a_manifest_whose_put_gave_no_answer_is_withdrawn() {
    let (store, test) = faulty().await;
    store.rule(Rule {
        operation: Operation::Put,
        key_part: "manifests/".into(),
        skip: 0,
        times: 1,
        fault: Fault::LostAnswer,
    });
    let error = test.backup("consul", &fixture("consul-01.snap")).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Store(StoreError::Timeout { .. })), "{error:?}");
    assert_nothing_committed(&test, 1).await;
}

#[tokio::test]
async fn a_manifest_that_cannot_be_withdrawn_is_told() {
    let (store, test) = faulty().await;
    store.rule(Rule { operation: Operation::List, key_part: "packs/".into(), skip: 1, times: 1, fault: hide("") });
    store.always(Operation::Delete, Fault::Deny);
    let error = test.backup("consul", &fixture("consul-01.snap")).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Vanished { .. }), "{error:?}");
    assert!(test.recorder.warnings().iter().any(|text| text.contains("could not withdraw")));
}

fn hide(part: &str) -> Fault {
    Fault::Hide(part.into())
}

#[tokio::test]
async fn hidden_packs_are_stored_again() {
    for prefix in ["packs/", "index/"] {
        let (store, test) = faulty().await;
        store.rule(Rule { operation: Operation::List, key_part: prefix.into(), skip: 0, times: 1, fault: hide("") });
        let report = test.backup("consul", &fixture("consul-01.snap")).await.unwrap();
        assert_eq!(report.packs_given_up, 1);
        assert_eq!(report.manifest.packs.len(), 1);
        assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-01.snap"));
    }
}

#[tokio::test]
async fn hidden_manifests_make_a_backup_without_a_parent() {
    let (store, test) = faulty().await;
    store.rule(Rule { operation: Operation::List, key_part: "manifests/".into(), skip: 0, times: 1, fault: hide("") });
    let report = test.backup("consul", &fixture("consul-01.snap")).await.unwrap();
    assert_eq!(report.manifest.parent, None);
    assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-01.snap"));
}

#[tokio::test]
async fn packs_that_are_listed_and_not_there_are_never_reused_without_an_index() {
    let (store, test) = faulty().await;
    let pack = test.repository.open_manifest(&test.manifests().await[0]).await.unwrap().packs[0];
    let modified = store.now().await.unwrap();
    for key in [pack.id.pack_key(), pack.id.index_key()] {
        store.delete(&key).await.unwrap();
    }
    for (key, len_bytes) in [(pack.id.pack_key(), pack.object_len_bytes), (pack.id.index_key(), 1)] {
        let part = key.split('/').next().unwrap().to_owned();
        let fault = Fault::Invent(ObjectMeta { key, len_bytes, modified });
        store.rule(Rule { operation: Operation::List, key_part: part, skip: 0, times: usize::MAX, fault });
    }
    let report = test.backup("consul", &fixture("consul-01.snap")).await.unwrap();
    assert!(report.manifest.packs.iter().all(|used| used.id != pack.id));
    assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-01.snap"));
}

#[tokio::test]
async fn a_huge_listing_of_strange_objects_changes_nothing() {
    let memory = Arc::new(MemoryStore::new());
    let test = TestRepository::create(memory.clone()).await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    for number in 0..60_000u32 {
        let id = ObjectId::of(&number.to_le_bytes());
        memory.overwrite(&id.pack_key(), Bytes::new());
        memory.overwrite(&id.index_key(), Bytes::new());
        memory.overwrite(&format!("packs/x{number}"), Bytes::new());
    }
    for number in 0..3_000u32 {
        memory.overwrite(&format!("manifests/consul/20200101T000000Z-{number:08x}"), Bytes::new());
    }
    let newer = fixture("consul-01.snap");
    let report = within(Duration::from_secs(20), test.backup("consul", &newer)).await.unwrap();
    assert_eq!(report.manifest.packs.len(), 2, "the parent was found all the same");
    assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-01.snap"));
}

/// A repository with one snapshot, then a store in which something happens at a put.
async fn hooked(
    hook: impl Fn(When, &str, &MemoryStore) -> Vec<String> + Send + Sync + 'static,
) -> (Arc<MemoryStore>, TestRepository) {
    let memory = Arc::new(MemoryStore::new());
    memory.set_now(START);
    let test = TestRepository::create(memory.clone()).await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    memory.advance_ms(HOUR_MS);
    let identity = test.repository.keyring.identity.clone().unwrap();
    let store = Arc::new(HookedStore::new(memory.clone(), hook));
    (memory, TestRepository::with_identity(store, identity))
}

#[tokio::test]
async fn a_pack_that_vanishes_before_the_last_check_takes_the_manifest_with_it() {
    // What is deleted or spoilt at the moment at which the manifest is put: each object of the run.
    for (lost, is_cut) in [("packs/", false), ("index/", false), ("packs/", true)] {
        let put: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let (memory, test) = hooked(move |when, key, memory| {
            let mut put = put.lock().unwrap();
            if when == When::After {
                put.push(key.into());
            }
            if when == When::Before || !key.starts_with("manifests/") {
                return Vec::new();
            }
            let lost: Vec<String> = put.iter().filter(|key| key.starts_with(lost)).cloned().collect();
            if is_cut {
                lost.iter().for_each(|key| memory.overwrite(key, Bytes::from_static(b"cut")));
                return Vec::new();
            }
            lost
        })
        .await;
        let error = test.backup("consul", &fixture("consul-01.snap")).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Vanished { missing: 1, .. }), "{error:?}");
        assert_nothing_committed(&test, 1).await;
        assert!(memory.list("manifests/").await.unwrap().len() == 1);
    }
}

#[tokio::test]
async fn a_manifest_that_vanishes_at_once_is_no_success() {
    let (_, test) = hooked(|when, key, _| match when {
        When::After if key.starts_with("manifests/") => vec![key.to_owned()],
        _ => Vec::new(),
    })
    .await;
    let error = test.backup("consul", &fixture("consul-01.snap")).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Vanished { .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_clock_that_steps_is_too_late() {
    // Before the manifest is put, or in the moment in which it is: forward by more than the limit, or back.
    for part in ["packs/", "index/", "manifests/"] {
        for step_ms in [13 * HOUR_MS, 1000 * 24 * HOUR_MS, -HOUR_MS] {
            let (_, test) = hooked(move |when, key, memory| {
                if when == When::Before && key.starts_with(part) {
                    memory.advance_ms(step_ms);
                }
                Vec::new()
            })
            .await;
            let error = test.backup("consul", &fixture("consul-01.snap")).await.unwrap_err();
            assert!(matches!(error, ArchiveError::TooLate { .. }), "{part} {step_ms}: {error:?}");
            assert_nothing_committed(&test, 1).await;
        }
    }
}

#[tokio::test]
async fn a_store_clock_at_the_ends_of_time_is_a_named_error() {
    for unix_ms in [i64::MIN, i64::MAX, -1, 253_402_300_800_000] {
        let memory = Arc::new(MemoryStore::new());
        let test = TestRepository::create(memory.clone()).await;
        memory.set_now(StoreTime { unix_ms });
        match test.backup("consul", &fixture("consul-00.snap")).await {
            Ok(_) => assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-00.snap")),
            Err(error) => assert!(is_named(&error), "{error:?}"),
        }
    }
    // And one that jumps to an end while a backup runs.
    for unix_ms in [i64::MIN, i64::MAX] {
        let (_, test) = hooked(move |when, key, memory| {
            if when == When::Before && key.starts_with("packs/") {
                memory.set_now(StoreTime { unix_ms });
            }
            Vec::new()
        })
        .await;
        let error = test.backup("consul", &fixture("consul-01.snap")).await.unwrap_err();
        assert!(matches!(error, ArchiveError::TooLate { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn one_bad_file_in_keys_does_not_stand_in_the_way_of_the_others() {
    use hah_vault::archive::repository::{create, open_identity};
    use hah_vault::keys::{Identities, NoPrompt, RepositoryIdentity, generate_reader};
    let memory = Arc::new(MemoryStore::new());
    let identity = RepositoryIdentity::generate().unwrap();
    let (file, reader) = generate_reader(identity.id());
    let wrapped = identity.wrap(&reader).unwrap();
    create(memory.as_ref(), &identity, &[("zoe".parse().unwrap(), wrapped)]).await.unwrap();
    // Before it in the listing: too long, empty, junk, and one that is listed and not there.
    memory.overwrite("keys/a.age", Bytes::from(vec![0; 1 << 20]));
    memory.overwrite("keys/b.age", Bytes::new());
    memory.overwrite("keys/c.age", Bytes::from_static(b"age-encryption.org/v1\n-> X25519 "));
    let store = FaultStore::new(memory.clone());
    let modified = store.now().await.unwrap();
    store.always(Operation::List, Fault::Invent(ObjectMeta { key: "keys/d.age".into(), len_bytes: 300, modified }));
    let identities = Identities::parse(file.as_bytes(), "zoe", &NoPrompt).unwrap();
    let opened = open_identity(&store, &identities, None, &[]).await.unwrap();
    assert_eq!(opened.id(), identity.id());
}

#[tokio::test]
async fn a_lost_repository_json_stops_nobody_who_knows_the_repository() {
    use hah_vault::archive::repository::{create, open_identity};
    use hah_vault::keys::{Identities, NoPrompt, RepositoryIdentity, generate_reader};
    let shared = Arc::new(MemoryStore::new());
    let memory = shared.as_ref();
    let identity = RepositoryIdentity::generate().unwrap();
    let (file, reader) = generate_reader(identity.id());
    let wrapped = identity.wrap(&reader).unwrap();
    create(memory, &identity, &[("zoe".parse().unwrap(), wrapped)]).await.unwrap();
    let test = TestRepository::with_identity(shared.clone(), identity.clone());
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    // The newest manifest is none: the one before it tells.
    memory.overwrite("manifests/consul/20990101T000000Z-00000000", Bytes::from(vec![0; 40 << 20]));
    let pinned = Identities::parse(file.as_bytes(), "zoe", &NoPrompt).unwrap();
    let bare = file.lines().last().unwrap();
    let bare = Identities::parse(bare.as_bytes(), "zoe", &NoPrompt).unwrap();
    memory.delete("repository.json").await.unwrap();
    assert_eq!(open_identity(memory, &pinned, None, &[]).await.unwrap().id(), identity.id());
    assert_eq!(open_identity(memory, &bare, Some(identity.id()), &[]).await.unwrap().id(), identity.id());
    // Who does not know it finds out by trying: a wrapped copy opens, and what it holds opens a manifest.
    assert_eq!(open_identity(memory, &bare, None, &[]).await.unwrap().id(), identity.id());
    memory.overwrite("repository.json", Bytes::from_static(b"{"));
    assert_eq!(open_identity(memory, &bare, None, &[]).await.unwrap().id(), identity.id());
    // A stranger, and an empty place, are told.
    let (stranger, _) = generate_reader(identity.id());
    let stranger = Identities::parse(stranger.lines().last().unwrap().as_bytes(), "eve", &NoPrompt).unwrap();
    assert!(matches!(open_identity(memory, &stranger, None, &[]).await, Err(ArchiveError::NoIdentity { tried: 1 })));
    let empty = open_identity(&MemoryStore::new(), &pinned, None, &[]).await;
    assert!(matches!(empty, Err(ArchiveError::NoRepository { .. })));
}
