//! `verify` as a library: what is remembered, what a hostile store can do, and what backups make of it.

use crate::support::fault_store::{Fault, FaultStore, Rule};
use crate::support::repo::{TestRepository, fixture};
use crate::support::s3_server::{self, S3Server, impatient};
use bytes::Bytes;
use hah_vault::archive::backup::{BackupOptions, BackupReport};
use hah_vault::archive::host_state::HostState;
use hah_vault::archive::verify::report::{Flaw, Healing};
use hah_vault::archive::verify::{Rehearse, Report, VerifyOptions, Wanted, verify};
use hah_vault::archive::{ArchiveError, Cancel, Event, Monitor, Repository};
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::store::{MemoryStore, ObjectMeta, Operation, RecordingStore, Store, StoreOptions, StoreTime, open};
use hah_vault_format::ManifestName;
use http::Method;
use std::sync::Arc;
use std::time::Duration;

const START: StoreTime = StoreTime { unix_ms: 1_795_361_015_000 };
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// A repository in memory with a clock that stands, and a host's state.
struct Bench {
    memory: Arc<MemoryStore>,
    test: TestRepository,
    state: HostState,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        memory.set_now(START);
        let test = TestRepository::create(memory.clone()).await;
        // As `init` puts it: a wrapped copy.
        let folder = tempfile::tempdir().unwrap();
        let state = HostState::new(folder.path().into());
        let bench = Self { memory, test, state, _folder: folder };
        bench.add_key().await;
        bench
    }

    async fn add_key(&self) {
        let identity = self.test.repository.keyring.identity.clone().unwrap();
        let (_, reader) = hah_vault::keys::generate_reader(identity.id());
        let wrapped = identity.wrap(&reader).unwrap();
        self.memory.put_if_absent("keys/alice.age", wrapped.into()).await.unwrap();
    }

    async fn backup(&self, source: &str, name: &str) -> BackupReport {
        self.memory.advance_ms(MINUTE_MS);
        self.test.backup(source, &fixture(name)).await.unwrap()
    }

    fn options(&self) -> VerifyOptions<'_> {
        VerifyOptions { state: Some(&self.state), ..VerifyOptions::default() }
    }

    async fn verify(&self, options: &VerifyOptions<'_>) -> Report {
        verify(&self.test.repository, options, &Cancel::default()).await.unwrap()
    }

    async fn structure(&self) -> Report {
        self.verify(&self.options()).await
    }

    async fn data(&self, percent: u8) -> Report {
        self.verify(&VerifyOptions { read_data: Some(percent), ..self.options() }).await
    }

    async fn flip(&self, key: &str) {
        let mut bytes = self.memory.get(key, u64::MAX).await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.memory.overwrite(key, bytes.into());
    }
}

/// Another process of this host, which makes a backup while `verify` looks.
#[derive(Debug)]
struct BackedUpMeanwhile(std::path::PathBuf, ManifestName);

impl Monitor for BackedUpMeanwhile {
    fn event(&self, _: Event) {
        HostState::new(self.0.clone()).note_seen(&self.1.source, std::slice::from_ref(&self.1)).unwrap();
    }
}

#[tokio::test]
async fn a_backup_that_ends_while_verify_looks_is_not_gone() {
    let bench = Bench::new().await;
    let first = bench.backup("vault", "vault-00.snap").await.manifest.name;
    let second = ManifestName { suffix: first.suffix ^ 1, ..first.clone() };
    let monitor = Arc::new(BackedUpMeanwhile(bench.state.folder().to_owned(), second.clone()));
    let repository = Repository { monitor, ..bench.test.repository.clone() };
    let report = verify(&repository, &bench.options(), &Cancel::default()).await.unwrap();
    assert!(report.chain.lost.is_empty() && !report.is_damaged(), "{:?}", report.chain);
    // One that was seen before is.
    let lost = bench.structure().await.chain.lost;
    assert_eq!(lost.iter().map(|lost| &lost.name).collect::<Vec<_>>(), [&second]);
}

#[tokio::test]
async fn a_sound_repository_is_whole_at_every_depth_and_says_what_that_proves() {
    let bench = Bench::new().await;
    for (source, name) in [("vault", "vault-00.snap"), ("vault", "vault-01.snap"), ("nomad", "nomad-00.snap")] {
        bench.backup(source, name).await;
    }
    bench.test.backup_bytes("other", b"any bytes").await.unwrap();
    let options = VerifyOptions { read_data: Some(100), rehearse: Some(Rehearse::All), ..bench.options() };
    let report = bench.verify(&options).await;
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!(report.snapshots(), (4, 4));
    assert_eq!((report.structure.packs, report.structure.keys, report.structure.unnamed_packs), (4, 1, 0));
    let rehearsed = report.rehearsed.as_ref().unwrap();
    assert_eq!((rehearsed.len(), rehearsed.iter().all(|r| r.exact && r.opaque_bytes == 0)), (4, true));
    assert!(rehearsed.iter().filter(|r| r.name.source.as_str() != "other").all(|r| r.records > 10), "{rehearsed:?}");
    assert_eq!(report.data.unwrap().packs, 4);
    assert!(report.data.unwrap().chunks > 100);
    assert_eq!(report.proved().len(), 3);
    // The newest of each source by default, or those that were named.
    let newest = VerifyOptions { rehearse: Some(Rehearse::Newest), ..bench.options() };
    assert_eq!(bench.verify(&newest).await.rehearsed.unwrap().len(), 3);
    let oldest = bench.test.repository.resolve("vault@latest~1").await.unwrap();
    let wanted = Wanted { manifests: [oldest.clone()].into(), ..Wanted::default() };
    let report = bench.verify(&VerifyOptions { wanted, ..newest }).await;
    assert_eq!(report.snapshots(), (1, 1));
    assert_eq!(report.rehearsed.unwrap().into_iter().map(|r| r.name).collect::<Vec<_>>(), [oldest]);
}

#[tokio::test]
async fn structure_needs_one_read_for_each_manifest_and_index_and_no_identity() {
    let bench = Bench::new().await;
    for name in ["consul-00.snap", "consul-01.snap", "consul-02.snap"] {
        bench.backup("consul", name).await;
    }
    let recording = Arc::new(RecordingStore::new(bench.memory.clone()));
    let mut repository = bench.test.repository.clone();
    let writer = repository.keyring.identity.take().unwrap().writer_key(Some(&"consul".parse().unwrap())).unwrap();
    repository.keyring = Keyring { writer, identity: None };
    repository.store = recording.clone();
    let report = verify(&repository, &bench.options(), &Cancel::default()).await.unwrap();
    assert!(!report.is_damaged(), "{report:?}");
    let counts = recording.counts();
    // Three manifests, three indexes, repository.json and one key.
    assert_eq!((counts.get, counts.list, counts.now), (8, 6, 1));
    assert_eq!((counts.put, counts.delete, counts.stat), (0, 0, 0));
    // With the writer key names of packs can be checked, but not their content.
    let data = VerifyOptions { read_data: Some(100), ..bench.options() };
    let data = verify(&repository, &data, &Cancel::default()).await.unwrap().data.unwrap();
    assert_eq!((data.opened, data.packs, data.chunks), (false, 3, 0));
    let rehearse = VerifyOptions { rehearse: Some(Rehearse::Newest), ..bench.options() };
    let error = verify(&repository, &rehearse, &Cancel::default()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::NeedsIdentity { .. }));
    // Another source's snapshots are not this key's business, unless they are asked for.
    bench.backup("vault", "vault-00.snap").await;
    let report = verify(&repository, &bench.options(), &Cancel::default()).await.unwrap();
    assert_eq!(report.snapshots(), (3, 3));
    let wanted = Wanted { sources: ["vault".parse().unwrap()].into(), ..Wanted::default() };
    let error =
        verify(&repository, &VerifyOptions { wanted, ..bench.options() }, &Cancel::default()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Scope { .. }), "{error}");
}

#[tokio::test]
async fn shares_are_remembered_until_every_pack_was_read() {
    let bench = Bench::new().await;
    for number in 0..8u8 {
        bench.memory.advance_ms(MINUTE_MS);
        let mut bytes = vec![0; 20_000];
        blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
        bench.test.backup_bytes("noise", &bytes).await.unwrap();
    }
    let mut read = 0;
    for day in 0..5 {
        let data = bench.data(20).await.data.unwrap();
        assert!(data.packs >= 1 && data.packs < 4, "{data:?}");
        read += data.packs;
        // Two packs of eight are the least that has a fifth of the bytes.
        assert_eq!(data.oldest_days.is_some(), day >= 3, "{day}");
        bench.memory.advance_ms(DAY_MS);
    }
    assert!(read >= 8, "{read}");
    // A new pack comes first.
    let new = bench.test.backup_bytes("noise", b"something else").await.unwrap().manifest.packs[0].id;
    bench.data(1).await;
    assert!(bench.state.read_days().by_pack().contains_key(&new));
}

#[tokio::test]
async fn what_reading_finds_is_not_reused_by_the_next_backup_of_this_host() {
    let bench = Bench::new().await;
    let first = bench.backup("consul", "consul-00.snap").await.manifest;
    let second = bench.backup("consul", "consul-01.snap").await.manifest;
    let pack = first.packs[0].id;
    bench.flip(&pack.pack_key()).await;
    assert!(!bench.structure().await.is_damaged(), "it has the right length");
    let report = bench.data(100).await;
    assert_eq!(report.damage.len(), 1);
    let damage = &report.damage[0];
    assert_eq!((damage.flaw, damage.snapshots, damage.healing), (Flaw::Hash, 2, Healing::NextBackup));
    assert_eq!(report.affected.len(), 2);
    assert_eq!(bench.state.damaged(), [pack].into());
    // What is known is looked at again, whatever is asked for.
    assert_eq!(bench.structure().await.affected.len(), 2);
    // Without state another host would have to be told.
    let stranger = VerifyOptions { read_data: Some(100), ..VerifyOptions::default() };
    assert_eq!(bench.verify(&stranger).await.damage[0].healing, Healing::RepairThenBackup);
    bench.memory.advance_ms(MINUTE_MS);
    let options = BackupOptions { avoid: bench.state.damaged(), ..BackupOptions::default() };
    let third = bench.test.backup_with("consul", &fixture("consul-02.snap"), &options).await.unwrap().manifest;
    assert!(third.packs.iter().all(|p| p.id != pack));
    assert_eq!(third.parent, Some(second.name.clone()));
    let (bytes, _) = bench.test.restore(&third.name).await.unwrap();
    assert!(bytes == std::fs::read(fixture("consul-02.snap")).unwrap());
    assert!(bench.test.recorder.warnings().iter().any(|w| w.contains("found damaged by verify")));
    // Only historic snapshots need it now: no backup brings it back.
    let report = bench.data(100).await;
    assert_eq!((report.damage[0].healing, report.affected.len()), (Healing::Copy, 2));
    assert!(report.affected.iter().all(|affected| !affected.is_newest));
    // Put right again, it is trusted again.
    bench.flip(&pack.pack_key()).await;
    assert!(!bench.structure().await.is_damaged());
    assert_eq!(bench.state.damaged(), [].into());
}

/// Otherwise a rehearsal would fail, and gc would keep what failed and drop what is whole.
#[tokio::test]
async fn the_pack_that_a_rehearsal_stumbles_over_is_found_and_remembered() {
    let bench = Bench::new().await;
    bench.backup("consul", "consul-00.snap").await;
    let second = bench.backup("consul", "consul-01.snap").await.manifest;
    let pack = second.packs.last().unwrap().id;
    bench.flip(&pack.pack_key()).await;
    let rehearse = VerifyOptions { rehearse: Some(Rehearse::Newest), ..bench.options() };
    let report = bench.verify(&rehearse).await;
    assert_eq!((report.damage.len(), report.damage[0].key.clone()), (1, pack.pack_key()));
    assert!(report.affected.iter().any(|affected| affected.name == second.name));
    assert_eq!(bench.state.damaged(), [pack].into());
}

#[tokio::test]
async fn a_rollback_is_noticed_by_whoever_saw_more() {
    let bench = Bench::new().await;
    let mut names = Vec::new();
    for name in ["consul-00.snap", "consul-01.snap", "consul-02.snap"] {
        names.push(bench.backup("consul", name).await.manifest.name);
    }
    assert!(!bench.structure().await.is_damaged());
    bench.memory.delete(&names[2].key()).await.unwrap();
    let lost = bench.structure().await.chain.lost;
    assert_eq!((lost.len(), &lost[0].name, lost[0].is_newest), (1, &names[2], true));
    assert!(!bench.verify(&VerifyOptions::default()).await.is_damaged(), "a host that never saw it cannot know");
    // A hole in the middle shows to everybody while it is young.
    let bench = Bench::new().await;
    let first = bench.backup("consul", "consul-00.snap").await.manifest.name;
    bench.backup("consul", "consul-01.snap").await;
    bench.memory.delete(&first.key()).await.unwrap();
    let lost = bench.verify(&VerifyOptions::default()).await.chain.lost;
    assert_eq!((lost.len(), lost[0].child.is_some(), lost[0].is_newest), (1, true, false));
    // With a copy in the trash, or after two days, it is what gc does.
    bench.memory.overwrite(&format!("trash/{first}.20261122T150000Z-00000001"), Bytes::from_static(b"x"));
    assert_eq!(bench.verify(&VerifyOptions::default()).await.chain.retired, 1);
    bench.memory.delete(&format!("trash/{first}.20261122T150000Z-00000001")).await.unwrap();
    bench.memory.advance_ms(2 * DAY_MS);
    let chain = bench.verify(&VerifyOptions::default()).await.chain;
    assert_eq!((chain.expired, chain.lost.len()), (1, 0));
}

#[tokio::test]
async fn an_index_that_lies_about_its_pack_is_found_and_not_believed() {
    let bench = Bench::new().await;
    let manifest = bench.backup("vault", "vault-00.snap").await.manifest;
    let keys = bench.test.repository.source_keys(&manifest.name.source).unwrap();
    let id = manifest.packs[0].id;
    let bytes = bench.memory.get(&id.index_key(), u64::MAX).await.unwrap();
    let mut index = hah_vault::pipeline::seal::open_index(&bytes, &id, &keys).unwrap();
    // By a thief of the writer key: authentic, and wrong.
    index.chunks[3].id.0[0] ^= 1;
    let forged = hah_vault::pipeline::seal::seal_index(&index, &id, &keys).unwrap();
    bench.memory.overwrite(&id.index_key(), forged.into());
    assert!(!bench.structure().await.is_damaged());
    let report = bench.data(100).await;
    assert_eq!(report.damage[0].flaw, Flaw::ChunkIds { chunks: 1 });
    assert_eq!((report.affected.len(), report.damage[0].healing), (0, Healing::Repair));
    assert_eq!(bench.state.damaged(), [id].into(), "backups do not reuse its pack");
}

#[tokio::test]
async fn a_key_that_was_replaced_is_noticed_by_a_host_that_saw_it() {
    let bench = Bench::new().await;
    bench.structure().await;
    bench.memory.delete("keys/alice.age").await.unwrap();
    assert_eq!(bench.structure().await.damage[0].flaw, Flaw::Missing);
    bench.add_key().await;
    for _ in 0..2 {
        let damage = bench.structure().await.damage;
        assert_eq!((damage.len(), damage[0].flaw, damage[0].key.as_str()), (1, Flaw::Changed, "keys/alice.age"));
    }
}

#[tokio::test]
async fn lists_that_lie_are_found_out_and_manifests_that_go_meanwhile_are_no_damage() {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let test = TestRepository::create(store.clone()).await;
    let manifest = test.backup("consul", &fixture("consul-00.snap")).await.unwrap().manifest;
    let rule = |key_part: &str, times, fault| {
        store.heal();
        store.rule(Rule { operation: Operation::List, key_part: key_part.into(), skip: 0, times, fault });
    };
    let options = VerifyOptions::default();
    let invented = |key: String, len_bytes| ObjectMeta { key, len_bytes, modified: START };
    // Retired after it was listed: the second listing does not have it.
    let ghost = format!("manifests/{}", manifest.name).replace("-", "-0").replacen("-0", "-", 1);
    let ghost = ghost[..ghost.len() - 8].to_owned() + "00000000";
    rule("manifests/", 1, Fault::Invent(invented(ghost.clone(), 500)));
    let report = verify(&test.repository, &options, &Cancel::default()).await.unwrap();
    assert_eq!(report.snapshots(), (1, 1), "{report:?}");
    assert!(!report.damage.iter().any(|damage| damage.key.starts_with("manifests/")));
    // Listed again and again, and never there.
    rule("manifests/", usize::MAX, Fault::Invent(invented(ghost, u64::MAX)));
    let report = verify(&test.repository, &options, &Cancel::default()).await.unwrap();
    assert_eq!((report.snapshots(), report.damage[0].flaw), ((2, 1), Flaw::Missing));
    // A pack that is hidden, one that is listed with another length, an index that is hidden.
    rule("packs/", usize::MAX, Fault::Hide("packs/".into()));
    let report = verify(&test.repository, &options, &Cancel::default()).await.unwrap();
    assert!(report.damage.iter().any(|d| d.flaw == Flaw::Missing && d.key.starts_with("packs/") && d.snapshots == 1));
    rule("index/", usize::MAX, Fault::Hide("index/".into()));
    let report = verify(&test.repository, &options, &Cancel::default()).await.unwrap();
    assert!(report.damage.iter().any(|d| d.flaw == Flaw::Missing && d.key.starts_with("index/") && d.snapshots == 0));
    assert_eq!(report.snapshots(), (1, 1));
}

/// Endless bodies, silence, garbage: an error or a finding, in time, and never "all is well" or a lasting mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_server_neither_holds_verify_up_nor_gets_a_clean_report() {
    use s3_server::Fault;
    let server = S3Server::start();
    let options = StoreOptions { patience: impatient(), ..server.options() };
    let test = TestRepository::create(open(&server.url("p"), &options).await.unwrap()).await;
    test.backup("consul", &fixture("consul-00.snap")).await.unwrap();
    let faults = [
        Fault::Status(500, "InternalError"),
        Fault::Status(404, "NoSuchKey"),
        Fault::Closed,
        Fault::Hang,
        Fault::Stall,
        Fault::Endless,
        Fault::Body("<html>welcome to the hotel's network</html>".into()),
        Fault::Chunked(Bytes::from_static(b"\x00\xff")),
    ];
    let depths = VerifyOptions { read_data: Some(100), rehearse: Some(Rehearse::All), ..VerifyOptions::default() };
    for fault in faults {
        for skip in [0, 2, 5] {
            let rule = s3_server::Rule { method: Method::GET, skip, times: usize::MAX, fault: fault.clone() };
            server.rule(rule);
            let cancel = Cancel::default();
            let done = tokio::time::timeout(Duration::from_secs(60), verify(&test.repository, &depths, &cancel)).await;
            server.heal();
            let done = done.unwrap_or_else(|_| panic!("{fault:?} after {skip} holds it up"));
            println!("{fault:?} after {skip}: {:?}", done.as_ref().map(Report::is_damaged));
            assert!(done.is_err() || done.is_ok_and(|report| report.is_damaged()), "{fault:?} after {skip}");
        }
    }
}

#[tokio::test]
async fn verify_stops_when_asked_to() {
    let bench = Bench::new().await;
    bench.backup("consul", "consul-00.snap").await;
    let cancel = Cancel::default();
    cancel.cancel();
    let stopped = verify(&bench.test.repository, &bench.options(), &cancel).await;
    assert!(matches!(stopped, Err(ArchiveError::Interrupted)));
}

#[tokio::test]
async fn two_hosts_that_back_up_one_source_at_once_both_succeed() {
    let memory = Arc::new(MemoryStore::new());
    let identity = RepositoryIdentity::generate().unwrap();
    hah_vault::archive::repository::create(memory.as_ref(), &identity, &[]).await.unwrap();
    let hosts = [0, 1].map(|_| TestRepository::with_identity(memory.clone(), identity.clone()));
    for names in [["consul-00.snap", "consul-01.snap"], ["consul-02.snap", "consul-02-again.snap"]] {
        let (one, two) = (fixture(names[0]), fixture(names[1]));
        let (one, two) = tokio::join!(hosts[0].backup("consul", &one), hosts[1].backup("consul", &two));
        for (report, name) in [(one.unwrap(), names[0]), (two.unwrap(), names[1])] {
            let (bytes, _) = hosts[0].restore(&report.manifest.name).await.unwrap();
            assert!(bytes == std::fs::read(fixture(name)).unwrap(), "{name}");
        }
    }
    let all = VerifyOptions { rehearse: Some(Rehearse::All), ..VerifyOptions::default() };
    let report = verify(&hosts[1].repository, &all, &Cancel::default()).await.unwrap();
    assert_eq!((report.snapshots(), report.affected.len(), report.chain.lost.len()), ((4, 4), 0, 0));
}
