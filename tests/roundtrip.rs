//! What goes in comes out, byte for byte.

use crate::support::repo::{TestRepository, fixture};
use crate::support::s3_server::S3Server;
use hah_vault::archive::backup::{BackupOptions, Input, SourceSpec, backup};
use hah_vault::archive::restore::Exactness;
use hah_vault::archive::restore_service::LABEL_BEFORE_RESTORE;
use hah_vault::archive::{Cancel, Repository};
use hah_vault::pipeline::seal::Compression;
use hah_vault::store::{LocalStore, MemoryStore, RecordingStore, StoreTime};
use hah_vault_format::manifest::{Counts, Kind, ManifestLabel, Transform, Wrapper, extents_len_bytes};
use std::sync::Arc;

const SNAPSHOTS: [(&str, Kind); 12] = [
    ("consul-00.snap", Kind::Consul),
    ("consul-01.snap", Kind::Consul),
    ("consul-02.snap", Kind::Consul),
    ("consul-02-again.snap", Kind::Consul),
    ("nomad-00.snap", Kind::Nomad),
    ("nomad-01.snap", Kind::Nomad),
    ("nomad-02.snap", Kind::Nomad),
    ("nomad-02-again.snap", Kind::Nomad),
    ("vault-00.snap", Kind::Vault),
    ("vault-01.snap", Kind::Vault),
    ("vault-02.snap", Kind::Vault),
    ("vault-00-go127.snap", Kind::Vault),
];

#[tokio::test]
async fn every_real_snapshot_comes_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestRepository::create(Arc::new(LocalStore::open(dir.path()).unwrap())).await;
    let mut backed_up = Vec::new();
    for (file, kind) in SNAPSHOTS {
        let source = file.split('-').next().unwrap();
        let report = test.backup(source, &fixture(file)).await.unwrap();
        assert_eq!(report.manifest.kind, kind, "{file}");
        backed_up.push((file, report.manifest));
    }
    // All of them, after all of them: later runs reuse what earlier ones stored.
    for (file, manifest) in backed_up {
        let (restored, report) = test.restore(&manifest.name).await.unwrap();
        let original = std::fs::read(fixture(file)).unwrap();
        if file == "vault-00-go127.snap" {
            assert_eq!(manifest.original.wrapper, Wrapper::GzipUnknown);
            assert_eq!(report.exactness, Exactness::OtherGzip);
            assert_eq!(gunzip(&restored), gunzip(&original), "the tar is the same");
        } else {
            assert_eq!(report.exactness, Exactness::Exact, "{file}");
            assert!(restored == original, "{file}");
        }
    }
    assert_eq!(test.recorder.warnings(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_come_back_from_an_s3_server() {
    let server = S3Server::start();
    let store = hah_vault::store::open(&server.url("some/prefix"), &server.options()).await.unwrap();
    let test = TestRepository::create(store).await;
    for file in ["vault-01.snap", "vault-02.snap", "consul-02.snap", "nomad-02.snap"] {
        test.backup(file.split('-').next().unwrap(), &fixture(file)).await.unwrap();
    }
    for service in ["vault", "consul", "nomad"] {
        let (restored, report) = test.restore_latest(service).await.unwrap();
        assert!(restored == std::fs::read(fixture(&format!("{service}-02.snap"))).unwrap(), "{service}");
        assert_eq!(report.exactness, Exactness::Exact);
    }
    assert_eq!(test.recorder.warnings(), Vec::<String>::new());
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut out).unwrap();
    out
}

#[tokio::test]
async fn three_sources_are_backed_up_at_once() {
    let test = TestRepository::in_memory().await;
    let spec = |name: &str| SourceSpec {
        name: name.parse().unwrap(),
        input: Input::File(fixture(&format!("{name}-02.snap"))),
    };
    let sources = vec![spec("vault"), spec("consul"), spec("nomad")];
    let outcomes = backup(&test.repository, sources, &BackupOptions::default(), &Cancel::default()).await.unwrap();
    for (name, outcome) in outcomes {
        outcome.unwrap();
        let (restored, _) = test.restore_latest(name.as_str()).await.unwrap();
        assert!(restored == std::fs::read(fixture(&format!("{name}-02.snap"))).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn what_is_no_snapshot_is_stored_as_it_is() {
    let test = TestRepository::in_memory().await;
    let mut noise = vec![0u8; 3_000_000];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    let text = b"any text\n".repeat(10_000);
    let mut gzip_of_text = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut gzip_of_text, flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &text).unwrap();
    encoder.finish().unwrap();
    for (source, bytes) in [("noise", noise), ("text", text), ("gzip", gzip_of_text), ("one", vec![7])] {
        let report = test.backup_bytes(source, &bytes).await.unwrap();
        assert_eq!((report.manifest.kind, report.manifest.original.wrapper), (Kind::Other, Wrapper::None));
        let (restored, report) = test.restore_latest(source).await.unwrap();
        assert!(restored == bytes, "{source}");
        assert_eq!(report.exactness, Exactness::Exact);
    }
}

#[tokio::test]
async fn a_plain_tar_of_a_snapshot_is_a_snapshot_and_comes_back_as_a_tar() {
    let test = TestRepository::in_memory().await;
    let tar = gunzip(&std::fs::read(fixture("nomad-02.snap")).unwrap());
    let report = test.backup_bytes("nomad", &tar).await.unwrap();
    assert_eq!((report.manifest.kind, report.manifest.original.wrapper), (Kind::Nomad, Wrapper::None));
    assert!(test.restore_latest("nomad").await.unwrap().0 == tar);
}

#[tokio::test]
async fn raw_stores_even_a_broken_snapshot_as_it_is() {
    let test = TestRepository::in_memory().await;
    let mut broken = std::fs::read(fixture("vault-00.snap")).unwrap();
    broken.truncate(20_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &broken).unwrap();
    let raw = BackupOptions { raw: true, ..BackupOptions::default() };
    test.backup_with("vault", file.path(), &raw).await.unwrap();
    assert!(test.restore_latest("vault").await.unwrap().0 == broken);
}

#[tokio::test]
async fn compression_off_stores_packs_whose_size_tells_only_the_plaintexts_length() {
    let test = TestRepository::in_memory().await;
    let off = BackupOptions { compression: Compression::Off, ..BackupOptions::default() };
    let report = test.backup_with("consul", &fixture("consul-02.snap"), &off).await.unwrap();
    let packs: u64 = report.manifest.packs.iter().map(|p| p.object_len_bytes).sum();
    assert!(packs > report.manifest.counts.new_bytes);
    assert!(test.restore_latest("consul").await.unwrap().0 == std::fs::read(fixture("consul-02.snap")).unwrap());
}

/// Counts puts of one run.
async fn puts(test: &TestRepository, recording: &RecordingStore, file: &str) -> u64 {
    let before = recording.counts();
    let source = file.split('-').next().unwrap();
    test.backup(source, &fixture(file)).await.unwrap();
    recording.counts().put - before.put
}

#[tokio::test]
async fn an_identical_second_backup_puts_one_pack_one_index_and_one_manifest_at_most() {
    for file in ["vault-02.snap", "consul-02.snap", "nomad-02.snap"] {
        let recording = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
        let test = TestRepository::create(recording.clone()).await;
        assert_eq!(puts(&test, &recording, file).await, 3, "{file}: one pack, one index, one manifest");
        let again = puts(&test, &recording, file).await;
        assert!(again <= 3, "{file}: {again}");
    }
}

#[tokio::test]
async fn no_record_of_an_unchanged_state_is_new() {
    for (service, again) in [("consul", "consul-02-again.snap"), ("nomad", "nomad-02-again.snap")] {
        let test = TestRepository::in_memory().await;
        let first = test.backup(service, &fixture(&format!("{service}-02.snap"))).await.unwrap();
        let second = test.backup(service, &fixture(again)).await.unwrap();
        assert!(first.manifest.counts.chunks_new > 40);
        // The head and the tail of the tar, state.bin's header, and the order notes: all that is not records.
        let Transform::MapOrder { regions, notes } = &second.manifest.transform else { panic!("no regions") };
        let records: u64 = regions.iter().map(|r| r.len_bytes).sum();
        let other = second.manifest.stream.len_bytes - records + extents_len_bytes(notes);
        let new = second.manifest.counts.new_bytes;
        assert!(new <= other && other < 8_000, "{service}: {new} new bytes, {other} bytes are no records");
    }
}

#[tokio::test]
async fn a_snapshot_of_another_service_is_backed_up_with_a_warning() {
    let test = TestRepository::in_memory().await;
    test.backup("vault", &fixture("vault-00.snap")).await.unwrap();
    assert_eq!(test.recorder.warnings(), Vec::<String>::new());
    test.backup("vault", &fixture("consul-00.snap")).await.unwrap();
    assert!(test.recorder.warnings()[0].contains("consul snapshot"));
    test.backup("home", &fixture("nomad-00.snap")).await.unwrap();
    test.backup("home", &fixture("nomad-01.snap")).await.unwrap();
    assert_eq!(test.recorder.warnings().len(), 1);
}

#[tokio::test]
async fn what_a_restore_replaced_is_a_parent_only_where_there_is_no_other() {
    let memory = Arc::new(MemoryStore::new());
    let test = TestRepository::create(memory.clone()).await;
    // The order of manifests is that of their seconds.
    let begin = StoreTime { unix_ms: 1_795_361_015_000 };
    let at = |minute: i64| memory.set_now(StoreTime { unix_ms: begin.unix_ms + 60_000 * minute });
    let label = ManifestLabel { key: LABEL_BEFORE_RESTORE.into(), value: "consul/20261122T143000Z-1a2b3c4d".into() };
    let replaced = BackupOptions { labels: vec![label], ..BackupOptions::default() };
    let (small, large) = (fixture("consul-00.snap"), fixture("consul-01.snap"));
    at(0);
    let before = test.backup_with("consul", &small, &replaced).await.unwrap().manifest;
    at(1);
    // Better than nothing.
    let first = test.backup("consul", &large).await.unwrap().manifest;
    assert_eq!(first.parent, Some(before.name));
    for minute in 2..4 {
        at(minute);
        test.backup_with("consul", &small, &replaced).await.unwrap();
    }
    at(4);
    let next = test.backup("consul", &large).await.unwrap().manifest;
    assert_eq!(next.parent, Some(first.name));
    assert_eq!(next.counts.chunks_new, 0);
}

#[tokio::test]
async fn fresh_reuses_nothing() {
    let test = TestRepository::in_memory().await;
    let first = test.backup("vault", &fixture("vault-02.snap")).await.unwrap();
    let fresh = BackupOptions { fresh: true, ..BackupOptions::default() };
    let report = test.backup_with("vault", &fixture("vault-02.snap"), &fresh).await.unwrap();
    assert_eq!(report.packs_given_up, 1);
    // As much as the first run, which had nothing to reuse but its own chunks.
    assert_eq!(
        report.manifest.counts,
        Counts { stored_bytes: report.manifest.counts.stored_bytes, ..first.manifest.counts }
    );
}

/// The figures of `../shared/series`, or of any folder of series: `HAH_VAULT_SERIES=folder cargo test series`.
#[tokio::test]
async fn a_series_of_snapshots_comes_back_and_its_figures_are_printed() {
    let Some(folder) = std::env::var_os("HAH_VAULT_SERIES") else {
        println!("HAH_VAULT_SERIES is not set: no series to look at");
        return;
    };
    for service in ["vault", "consul", "nomad"] {
        let test = TestRepository::in_memory().await;
        let mut files: Vec<_> = std::fs::read_dir(std::path::Path::new(&folder).join(service))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        let mut stored = Vec::new();
        for file in &files {
            let report = test.backup(service, file).await.unwrap();
            stored.push(report.stored_bytes());
            let m = &report.manifest;
            println!(
                "{service} {:?} new {} in {} chunks, packs+index {}, manifest {}, extents {} + {} notes of {} bytes, packs {}",
                file.file_name().unwrap(),
                m.counts.new_bytes,
                m.counts.chunks_new,
                m.counts.stored_bytes,
                report.manifest_len_bytes,
                m.extents.len(),
                m.notes().len(),
                hah_vault_format::manifest::extents_len_bytes(m.notes()),
                m.packs.len()
            );
        }
        let further = stored.iter().skip(1).sum::<u64>() / (stored.len() as u64 - 1).max(1);
        println!("{service}: first {}, per further {further}, all {}", stored[0], stored.iter().sum::<u64>());
        check_all(&test.repository, &test, &files, service).await;
    }
}

async fn check_all(repository: &Repository, test: &TestRepository, files: &[std::path::PathBuf], service: &str) {
    let names = repository.list_manifests(Some(&service.parse().unwrap())).await.unwrap();
    // Names of one second sort by their random part.
    let mut left: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    for listed in names {
        let (restored, report) = test.restore(&listed.name).await.unwrap();
        assert_eq!(report.exactness, Exactness::Exact);
        let at =
            left.iter().position(|original| *original == restored).expect("restored bytes are one of the originals");
        left.remove(at);
    }
    assert!(left.is_empty());
}
