//! Figures of real backups, against what really happened.

use super::{NOON_UNIX_S, Still};
use crate::support::hooked_store::{HookedStore, When};
use crate::support::repo::{Recorder, TestRepository, fixture};
use hah_vault::archive::stats::stats;
use hah_vault::archive::{ArchiveError, Cancel, Event, Monitor};
use hah_vault::keys::RepositoryIdentity;
use hah_vault::store::{Counts, MemoryStore, RecordingStore, Store};
use hah_vault::telemetry::catalog as metric;
use hah_vault::telemetry::catalog::Metric;
use hah_vault::telemetry::{Damage, Depth, Reason, Registry, Values, Watching};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

struct Watched {
    test: TestRepository,
    registry: Arc<Registry>,
    host: Arc<Still>,
    recorder: Arc<Recorder>,
}

impl Watched {
    async fn new(store: Arc<dyn Store>) -> Self {
        let host = Still::new();
        let registry = host.registry();
        let watched = Arc::new(RecordingStore::with_observer(store, Arc::<Registry>::clone(&registry)));
        let mut test = TestRepository::create(watched).await;
        let recorder = Arc::clone(&test.recorder);
        test.repository.monitor = Arc::new(Watching::new(recorder.clone(), Arc::clone(&registry)));
        Self { test, registry, host, recorder }
    }

    async fn backup(&self, source: &str, file: &str) -> Result<(), ArchiveError> {
        let name = source.parse().unwrap();
        self.registry.backup_began(&name);
        let outcome = self.test.backup(source, &fixture(file)).await;
        match &outcome {
            Ok(report) => self.registry.backup_committed(report),
            Err(error) => self.registry.backup_failed(&name, error.into()),
        }
        outcome.map(drop)
    }

    fn get(&self, metric: &Metric, labels: &[&str]) -> Option<f64> {
        self.registry.snapshot().get(metric, labels)
    }
}

#[tokio::test]
async fn a_backup_counts_as_a_success_only_when_its_manifest_is_committed() {
    let losing = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&losing);
    // Right after the manifest is put, somebody deletes all packs: it is withdrawn.
    let hook = move |when: When, key: &str, memory: &MemoryStore| {
        let hits = when == When::After && key.starts_with("manifests/") && flag.load(SeqCst);
        let listed = futures::executor::block_on(memory.list("packs/")).unwrap();
        listed.into_iter().filter(|_| hits).map(|object| object.key).collect()
    };
    let watched = Watched::new(Arc::new(HookedStore::new(Arc::new(MemoryStore::new()), hook))).await;
    let failed = watched.backup("vault", "vault-00.snap").await;
    assert!(matches!(failed, Err(ArchiveError::Vanished { .. })), "{failed:?}");
    assert_eq!(watched.get(&metric::BACKUP_LAST_SUCCESS, &["vault"]), None);
    assert_eq!(watched.get(&metric::BACKUPS, &["vault"]), Some(0.0));
    assert_eq!(watched.get(&metric::BACKUP_FAILURES, &["vault", "vanished"]), Some(1.0));
    assert_eq!(watched.get(&metric::BACKUP_LAST_RUN_SUCCESS, &["vault"]), Some(0.0));
    assert_eq!(watched.get(&metric::BACKUP_LAST_END, &["vault"]), Some(NOON_UNIX_S as f64));

    losing.store(false, SeqCst);
    watched.host.set(NOON_UNIX_S + 60);
    watched.backup("vault", "vault-00.snap").await.unwrap();
    assert_eq!(watched.get(&metric::BACKUP_LAST_SUCCESS, &["vault"]), Some((NOON_UNIX_S + 60) as f64));
    assert_eq!(watched.get(&metric::BACKUPS, &["vault"]), Some(1.0));
    assert_eq!(watched.get(&metric::BACKUP_LAST_RUN_SUCCESS, &["vault"]), Some(1.0));

    // A failure takes nothing from what is known of the last success.
    watched.host.set(NOON_UNIX_S + 120);
    watched.backup("vault", "README.md").await.unwrap_err();
    assert_eq!(watched.get(&metric::BACKUP_LAST_SUCCESS, &["vault"]), Some((NOON_UNIX_S + 60) as f64));
    assert_eq!(watched.get(&metric::BACKUP_FAILURES, &["vault", "source_invalid"]), Some(1.0));
}

#[tokio::test]
async fn the_figures_of_a_backup_are_those_of_its_report() {
    let watched = Watched::new(Arc::new(MemoryStore::new())).await;
    for file in ["consul-00.snap", "consul-01.snap"] {
        let report = watched.test.backup("consul", &fixture(file)).await.unwrap();
        watched.registry.backup_committed(&report);
        let stages = report.stages;
        assert_eq!(stages.open + stages.read + stages.upload + stages.commit, report.took);
        let (manifest, values) = (&report.manifest, watched.registry.snapshot());
        for (gauge, figure) in [
            (&metric::BACKUP_SNAPSHOT_BYTES, manifest.original.len_bytes),
            (&metric::BACKUP_STREAM_BYTES, manifest.stream.len_bytes),
            (&metric::BACKUP_NEW_BYTES, manifest.counts.new_bytes),
            (&metric::BACKUP_STORED_BYTES, report.stored_bytes()),
            (&metric::BACKUP_SNAPSHOT_TIME, manifest.name.time.unix_s()),
        ] {
            assert_eq!(values.get(gauge, &["consul"]), Some(figure as f64), "{}", gauge.name);
        }
        let total = values.get(&metric::BACKUP_DURATION, &["consul", "total"]).unwrap();
        let stages: f64 = values.series(&metric::BACKUP_DURATION).map(|(_, value)| value).sum();
        assert!((stages - 2.0 * total).abs() < 1e-6, "{stages} {total}");
        let shared = values.get(&metric::BACKUP_DEDUPLICATED, &["consul"]).unwrap();
        assert!(if file == "consul-00.snap" { shared < 0.5 } else { (0.5..1.0).contains(&shared) }, "{shared}");
    }
    // Events: what was read, what was stored, and how often somebody was warned.
    let sums = watched.recorder.events().iter().fold((0, 0, 0), |(read, stored, warned), event| match event {
        Event::Read { len_bytes, .. } => (read + len_bytes, stored, warned),
        Event::Stored { len_bytes, .. } => (read, stored + len_bytes, warned),
        Event::Warning { .. } => (read, stored, warned + 1),
        _ => (read, stored, warned),
    });
    watched.test.repository.monitor.warn(None, "once more".into());
    assert_eq!(watched.get(&metric::READ_BYTES, &["consul"]), Some(sums.0 as f64));
    assert_eq!(watched.get(&metric::STORED_BYTES, &["consul"]), Some(sums.1 as f64));
    assert_eq!(watched.get(&metric::WARNINGS, &[]), Some(f64::from(sums.2 + 1)));
}

/// By operation, as the store itself counted.
fn assert_counts(values: &Values, counts: &Counts) {
    let operations = [
        ("put", "a", counts.put),
        ("list", "a", counts.list),
        ("get", "b", counts.get),
        ("stat", "b", counts.stat),
        ("now", "b", counts.now),
        ("delete", "free", counts.delete),
    ];
    for (operation, class, count) in operations {
        let found = values.get(&metric::STORE_OPERATIONS, &[operation, class]).unwrap_or_default();
        assert_eq!(found, count as f64, "{operation}");
    }
    let class_a = (counts.put + counts.list) as f64;
    assert_eq!(values.get(&metric::MONTH_OPERATIONS, &["a"]), Some(class_a));
    assert_eq!(values.get(&metric::STORE_PUT_BYTES, &[]), Some(counts.put_bytes as f64));
    assert_eq!(values.get(&metric::STORE_GET_BYTES, &[]), Some(counts.get_bytes as f64));
}

#[tokio::test]
async fn operations_bytes_and_objects_are_what_the_store_saw() {
    let counted = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
    let watched = Watched::new(Arc::<RecordingStore>::clone(&counted)).await;
    for (source, file) in [("vault", "vault-00.snap"), ("consul", "consul-00.snap"), ("vault", "vault-01.snap")] {
        watched.backup(source, file).await.unwrap();
    }
    assert_counts(&watched.registry.snapshot(), &counted.counts());
    // Without one more request, packs and indexes are known from the last check.
    let packs = watched.get(&metric::REPOSITORY_OBJECT_BYTES, &["packs"]).unwrap();
    let seen = stats(&watched.test.repository, &Cancel::default()).await.unwrap();
    assert_eq!(packs, seen.objects["packs"].len_bytes as f64);
    assert_counts(&watched.registry.snapshot(), &counted.counts());
    let values = watched.registry.snapshot();
    for (object, objects) in &seen.objects {
        assert_eq!(values.get(&metric::REPOSITORY_OBJECTS, &[object]), Some(objects.count as f64), "{object}");
        assert_eq!(values.get(&metric::REPOSITORY_OBJECT_BYTES, &[object]), Some(objects.len_bytes as f64), "{object}");
    }
    assert_eq!(values.get(&metric::REPOSITORY_BYTES, &[]), Some(seen.stored_bytes as f64));
    assert_eq!(values.get(&metric::REPOSITORY_MANIFESTS, &["vault"]), Some(2.0));
    assert_eq!(values.get(&metric::REPOSITORY_MANIFESTS, &["consul"]), Some(1.0));
}

#[tokio::test]
async fn a_long_listing_counts_as_the_requests_that_it_takes() {
    let memory = Arc::new(MemoryStore::new());
    for number in 0..2001 {
        memory.put_if_absent(&format!("packs/{number}"), "x".into()).await.unwrap();
    }
    let registry = Still::new().registry();
    let store = RecordingStore::with_observer(memory, Arc::<Registry>::clone(&registry));
    for (prefix, requests) in [("packs/", 3.0), ("index/", 4.0)] {
        store.list(prefix).await.unwrap();
        assert_eq!(registry.snapshot().get(&metric::STORE_OPERATIONS, &["list", "a"]), Some(requests), "{prefix}");
    }
    store.list("no prefix").await.unwrap_err();
    assert_eq!(registry.snapshot().get(&metric::STORE_OPERATIONS, &["list", "a"]), Some(5.0));
}

#[tokio::test]
async fn a_store_with_endless_sources_does_not_fill_the_registry() {
    let memory = Arc::new(MemoryStore::new());
    for number in 0..1000 {
        let key = format!("manifests/source-{number}/20261122T143000Z-1a2b3c4d");
        memory.put_if_absent(&key, "x".into()).await.unwrap();
    }
    memory.put_if_absent("manifests/NOT-A-SOURCE/x", "x".into()).await.unwrap();
    let registry = Still::new().registry();
    let store = RecordingStore::with_observer(memory, Arc::<Registry>::clone(&registry));
    store.list("manifests/").await.unwrap();
    assert_eq!(registry.snapshot().series(&metric::REPOSITORY_MANIFESTS).count(), 256);
    store.list("manifests/source-999/").await.unwrap();
    assert_eq!(registry.snapshot().get(&metric::REPOSITORY_MANIFESTS, &["source-999"]), Some(1.0));
}

#[test]
fn an_agent_that_has_just_started_learns_of_earlier_backups_and_never_forgets_later_ones() {
    let (host, name) = (Still::new(), |text: &str| text.parse().unwrap());
    let registry = host.registry();
    let success = || registry.snapshot().get(&metric::BACKUP_LAST_SUCCESS, &["vault"]);
    registry.manifest_found(&name("vault/20261121T143000Z-1a2b3c4d"));
    assert_eq!(success(), Some((NOON_UNIX_S - 86_400) as f64));
    registry.manifest_found(&name("vault/20261120T143000Z-1a2b3c4d"));
    assert_eq!(success(), Some((NOON_UNIX_S - 86_400) as f64));
    let mut earlier = Values::default();
    earlier.add(&metric::BACKUPS, &["vault"], 7.0);
    earlier.set(&metric::BACKUP_LAST_SUCCESS, &["vault"], 5.0);
    earlier.set(&metric::BACKUP_LAST_SUCCESS, &["nomad"], 6.0);
    registry.resume(earlier);
    let values = registry.snapshot();
    assert_eq!(values.get(&metric::BACKUP_LAST_SUCCESS, &["vault"]), Some((NOON_UNIX_S - 86_400) as f64));
    assert_eq!(values.get(&metric::BACKUP_LAST_SUCCESS, &["nomad"]), Some(6.0));
    assert_eq!(values.get(&metric::BACKUPS, &["vault"]), Some(7.0));
}

#[test]
fn a_verification_that_found_damage_or_nothing_at_all_is_no_success() {
    let host = Still::new();
    let registry = host.registry();
    let took = Duration::from_secs(2);
    let labels = &["data"];
    registry.verified(Depth::Data, Some(Damage::default()), took);
    host.set(NOON_UNIX_S + 60);
    registry.verified(Depth::Data, Some(Damage { manifests: 2, objects: 1 }), took);
    let values = registry.snapshot();
    assert_eq!(values.get(&metric::VERIFY_LAST, labels), Some((NOON_UNIX_S + 60) as f64));
    assert_eq!(values.get(&metric::VERIFY_LAST_SUCCESS, labels), Some(NOON_UNIX_S as f64));
    assert_eq!(values.get(&metric::VERIFY_DAMAGED_MANIFESTS, labels), Some(2.0));
    // One that could not be carried out says nothing of the damage.
    registry.verified(Depth::Data, None, took);
    let values = registry.snapshot();
    assert_eq!(values.get(&metric::VERIFY_DAMAGED_MANIFESTS, labels), Some(2.0));
    assert_eq!(values.get(&metric::VERIFY_LAST_RUN_SUCCESS, labels), Some(0.0));
    registry.verified(Depth::Data, Some(Damage::default()), took);
    assert_eq!(registry.snapshot().get(&metric::VERIFY_DAMAGED_MANIFESTS, labels), Some(0.0));
}

#[tokio::test]
async fn the_registry_holds_no_key_and_no_word_of_an_error() {
    let identity = RepositoryIdentity::generate().unwrap();
    let registry = Still::new().registry();
    let text = format!("secret {}", identity.to_text().as_str());
    let monitor = Watching::new(Arc::new(Recorder::default()), Arc::clone(&registry));
    monitor.warn(Some(&"vault".parse().unwrap()), text.clone());
    let error = ArchiveError::Internal(text);
    registry.backup_failed(&"vault".parse().unwrap(), Reason::from(&error));
    let told = registry.encode();
    assert!(!told.contains("secret") && !told.contains("AGE-"), "{told}");
    assert!(told.contains("hah_vault_backup_failures_total{source=\"vault\",reason=\"other\"} 1"), "{told}");
}
