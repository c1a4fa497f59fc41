//! When nothing may be deleted, or not everything.

use super::lab::{HOUR, Lab, content_of, gc, newest_only};
use crate::support::fault_store::{Fault, FaultStore, Rule};
use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::archive::gc::{self as collector, GcOptions, STEP_LIMIT};
use hah_vault::archive::retention::{Policy, Reason, Verdict};
use hah_vault::archive::{ArchiveError, Cancel, GRACE, Repository};
use hah_vault::exit::Exit;
use hah_vault::keys::Keyring;
use hah_vault::store::{MemoryStore, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};
use hah_vault_format::ManifestName;
use std::sync::Arc;
use std::time::Duration;

/// Four snapshots, of which a gc that keeps the newest retires three.
async fn four() -> (Lab, Vec<ManifestName>) {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 4).await;
    lab.advance(25 * HOUR);
    (lab, names)
}

/// Every object, with its time.
async fn everything(lab: &Lab) -> Vec<ObjectMeta> {
    lab.memory.list("").await.unwrap()
}

async fn with_a_crashed_run() -> (Lab, ManifestName) {
    let lab = Lab::new().await;
    let kept = lab.backup("alpha", 1).await;
    let crashed = lab.backup("alpha", 2).await;
    lab.memory.delete(&crashed.key()).await.unwrap();
    lab.advance(25 * HOUR);
    (lab, kept)
}

#[tokio::test]
async fn a_key_of_one_source_collects_nothing() {
    let (lab, _) = four().await;
    let writer = lab.identity.writer_key(Some(&"alpha".parse().unwrap())).unwrap();
    let keyring = Keyring { writer, identity: None };
    let repository = Repository { keyring, ..lab.test.repository.clone() };
    let error = gc(&repository, &newest_only()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::ScopeAll { .. }), "{error:?}");
    assert_eq!(error.exit(), Exit::NoKey);
    // The writer key of everything is enough: no identity.
    let keyring = Keyring { writer: lab.identity.writer_key(None).unwrap(), identity: None };
    let repository = Repository { keyring, ..lab.test.repository.clone() };
    assert_eq!(gc(&repository, &newest_only()).await.unwrap().retired.len(), 3);
}

#[tokio::test]
async fn a_shorter_grace_takes_a_promise() {
    let (lab, _) = four().await;
    let options = GcOptions { grace: GRACE - Duration::from_secs(1), ..newest_only() };
    assert!(matches!(lab.gc(&options).await, Err(ArchiveError::ShortGrace { .. })));
    assert!(lab.gc(&GcOptions { exclusive: true, ..options }).await.is_ok());
}

#[tokio::test]
async fn more_than_half_of_a_source_goes_only_when_forced() {
    let (lab, _) = four().await;
    let unforced = GcOptions { force: false, ..newest_only() };
    let before = everything(&lab).await;
    let error = lab.gc(&unforced).await.unwrap_err();
    assert!(matches!(error, ArchiveError::TooManyDropped { dropped: 3, of: 4, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("--force"));
    assert_eq!(everything(&lab).await, before);
    // Half is not more than half.
    let half = GcOptions { policy: Policy { keep_last: 2, ..Policy::NOTHING }, ..unforced };
    assert_eq!(lab.gc(&half).await.unwrap().retired.len(), 2);
}

#[tokio::test]
async fn while_a_manifest_does_not_open_no_pack_goes_unless_it_is_ignored() {
    let (lab, kept) = with_a_crashed_run().await;
    let broken = lab.backup("beta", 3).await;
    lab.advance(25 * HOUR);
    let sound = lab.memory.get(&broken.key(), 1 << 20).await.unwrap();
    let mut flipped = sound.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    // Damaged; of another name; cut; another format's.
    let other = lab.memory.get(&kept.key(), 1 << 20).await.unwrap();
    for bytes in [flipped.into(), other, sound.slice(..100), Bytes::from_static(b"x")] {
        lab.memory.overwrite(&broken.key(), bytes);
        lab.advance(25 * HOUR);
        let plan = lab.plan(&newest_only()).await.unwrap();
        assert_eq!(plan.blocked_by.len(), 1);
        assert!(plan.blocked_by[0].starts_with(&broken.to_string()), "{:?}", plan.blocked_by);
        assert_eq!(plan.rows[1].verdict, Verdict::Keep(vec![Reason::Unreadable]));
        assert_eq!(lab.gc(&newest_only()).await.unwrap().packs.count, 0);
    }
    let ignoring = GcOptions { ignore: vec![broken.clone(), kept.clone()], ..newest_only() };
    let plan = lab.plan(&ignoring).await.unwrap();
    assert_eq!((plan.ignored, plan.ignored_in_vain), (vec![broken.clone()], vec![kept.clone()]));
    let report = lab.gc(&ignoring).await.unwrap();
    // Those of the crashed run, and those of the broken manifest, which itself stays.
    assert_eq!(report.packs.count, 2);
    assert!(lab.memory.stat(&broken.key()).await.unwrap().is_some());
    lab.assert_all_restore(&[kept], [1]).await;
}

#[tokio::test]
async fn a_young_trash_copy_that_does_not_open_keeps_all_packs_until_it_is_old() {
    let (lab, _) = with_a_crashed_run().await;
    let key = "trash/alpha/20261122T143000Z-1a2b3c4d.20261122T143000Z-5e6f7a8b";
    lab.memory.overwrite(key, "rubbish".into());
    let plan = lab.plan(&newest_only()).await.unwrap();
    assert!(plan.blocked_by[0].starts_with(key), "{:?}", plan.blocked_by);
    assert_eq!(lab.gc(&newest_only()).await.unwrap().packs.count, 0);
    lab.advance(GRACE + HOUR);
    let report = lab.gc(&newest_only()).await.unwrap();
    assert_eq!((report.trash.count, report.packs.count), (1, 1));
}

#[tokio::test]
async fn a_manifest_that_vanishes_without_a_trace_ends_the_run() {
    let (lab, names) = four().await;
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    store.nth(Operation::Get, 1, Fault::Missing);
    let before = everything(&lab).await;
    let error = gc(&lab.through(store), &newest_only()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::ManifestVanished { .. }), "{error:?}");
    // The same from a listing that shows what is gone already.
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    let ghost = ManifestName { suffix: 0xffff, ..names[0].clone() };
    let object = ObjectMeta { key: ghost.key(), len_bytes: 100, modified: super::lab::BEGIN };
    let fault = Fault::Invent(object);
    store.rule(Rule { operation: Operation::List, key_part: "manifests/".into(), skip: 0, times: 1, fault });
    let error = gc(&lab.through(store), &newest_only()).await.unwrap_err();
    assert!(matches!(&error, ArchiveError::ManifestVanished { name } if *name == ghost), "{error:?}");
    assert_eq!(everything(&lab).await, before);
    // With a copy in the trash another collector has set it aside.
    lab.gc(&newest_only()).await.unwrap();
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    let object = ObjectMeta { key: names[0].key(), len_bytes: 100, modified: super::lab::BEGIN };
    store.rule(Rule {
        operation: Operation::List,
        key_part: "manifests/".into(),
        skip: 0,
        times: 1,
        fault: Fault::Invent(object),
    });
    gc(&lab.through(store), &newest_only()).await.unwrap();
}

#[tokio::test]
async fn a_store_that_does_not_give_a_manifest_ends_the_run() {
    let (lab, _) = four().await;
    let before = everything(&lab).await;
    for fault in [Fault::Deny, Fault::Unreachable] {
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        store.nth(Operation::Get, 2, fault);
        let error = gc(&lab.through(store), &newest_only()).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Store(_)), "{error:?}");
    }
    assert_eq!(everything(&lab).await, before);
}

#[tokio::test]
async fn a_plan_that_took_too_long_is_given_up() {
    let (lab, _) = four().await;
    let before = everything(&lab).await;
    let limit_ms = i64::try_from(STEP_LIMIT.as_millis()).unwrap();
    for ms in [limit_ms + 1, -361_000] {
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        store.nth(Operation::Now, 1, Fault::ClockOff { ms });
        let error = gc(&lab.through(store), &newest_only()).await.unwrap_err();
        assert!(matches!(error, ArchiveError::PlanTooLate { .. }), "{ms}: {error:?}");
    }
    // The host slept, and the store's clock does not show it.
    let store =
        Arc::new(Moving::new(&lab, STEP_LIMIT + Duration::from_secs(1), |op, key| op == "list" && key == "trash/"));
    let error = gc(&lab.through(store), &newest_only()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::PlanTooLate { .. }), "{error:?}");
    assert_eq!(everything(&lab).await, before);
}

/// Moves the host's clock after certain operations.
#[derive(Debug)]
struct Moving {
    memory: Arc<MemoryStore>,
    world: Arc<crate::support::held_world::HeldWorld>,
    by: Duration,
    store_too: bool,
    when: fn(&str, &str) -> bool,
}

impl Moving {
    fn new(lab: &Lab, by: Duration, when: fn(&str, &str) -> bool) -> Self {
        Self { memory: lab.memory.clone(), world: lab.world.clone(), by, store_too: false, when }
    }

    fn after(&self, operation: &str, key: &str) {
        if (self.when)(operation, key) {
            self.world.advance(if self.store_too { Duration::ZERO } else { self.by });
            self.memory.advance_ms(if self.store_too { i64::try_from(self.by.as_millis()).unwrap() } else { 0 });
        }
    }
}

#[async_trait]
impl Store for Moving {
    fn describe(&self) -> String {
        "moving".into()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let put = self.memory.put_if_absent(key, bytes).await;
        self.after("put", key);
        put
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.memory.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let list = self.memory.list(prefix).await;
        self.after("list", prefix);
        list
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.memory.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let deleted = self.memory.delete(key).await;
        self.after("delete", key);
        deleted
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.memory.now().await
    }
}

#[tokio::test]
async fn a_run_that_stalls_before_a_delete_leaves_the_manifest() {
    let (lab, names) = four().await;
    let store =
        Moving::new(&lab, STEP_LIMIT + Duration::from_secs(1), |op, key| op == "put" && key.starts_with("trash/"));
    let report = gc(&lab.through(Arc::new(store)), &newest_only()).await.unwrap();
    assert_eq!((report.retired.len(), report.late), (0, 3));
    assert!(!report.is_complete());
    lab.assert_all_restore(&names, 0..4).await;
}

#[tokio::test]
async fn a_run_that_began_too_long_ago_retires_nothing() {
    let (lab, names) = four().await;
    let plan = lab.plan(&newest_only()).await.unwrap();
    lab.advance(collector::RETIRE_LIMIT + Duration::from_secs(1));
    let report = collector::execute(&lab.test.repository, &plan, &newest_only(), &Cancel::default()).await.unwrap();
    assert_eq!((report.retired.len(), report.late, lab.count("trash/").await), (0, 3, 0));
    lab.assert_all_restore(&names, 0..4).await;
}

#[tokio::test]
async fn when_a_delete_took_long_another_copy_is_put() {
    let (lab, names) = four().await;
    let mut store = Moving::new(&lab, STEP_LIMIT + 2 * HOUR, |op, key| op == "delete" && key.starts_with("manifests/"));
    store.store_too = true;
    let report = gc(&lab.through(Arc::new(store)), &newest_only()).await.unwrap();
    assert_eq!(report.retired.len(), 3);
    let trash = lab.test.repository.list_trash(None).await.unwrap();
    let now = lab.memory.now().await.unwrap();
    for name in &names[..3] {
        let copies: Vec<_> = trash.iter().filter(|copy| copy.name.manifest == *name).collect();
        assert!(copies.len() == 2 || copies.iter().any(|copy| copy.modified == now), "{name}: {copies:?}");
    }
}

#[tokio::test]
async fn credentials_that_may_not_delete_change_nothing() {
    let (lab, _) = four().await;
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    store.always(Operation::Delete, Fault::Deny);
    let error = gc(&lab.through(store), &newest_only()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::MayNotDelete { .. }), "{error:?}");
    assert_eq!((lab.count("manifests/").await, lab.count("trash/").await), (4, 0));
}

#[tokio::test]
async fn objects_that_are_locked_are_counted_and_the_rest_is_done() {
    let (lab, names) = four().await;
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(GRACE + HOUR);
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    let deny = |part: &str, times| Rule {
        operation: Operation::Delete,
        key_part: part.into(),
        skip: 0,
        times,
        fault: Fault::Deny,
    };
    store.rule(deny("packs/", 1));
    let report = gc(&lab.through(store), &newest_only()).await.unwrap();
    assert_eq!((report.refused, report.packs.count, report.indexes.count), (1, 2, 3));
    assert!(report.refusal.unwrap().contains("denied"));
    assert_eq!(lab.gc(&newest_only()).await.unwrap().packs.count, 1);
    lab.assert_all_restore(&names[3..], [3]).await;
    // A locked manifest: the first refusal ends retiring, and no copies pile up.
    for content in 10..40 {
        lab.backup("alpha", content).await;
    }
    lab.advance(25 * HOUR);
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    store.rule(deny("manifests/", usize::MAX));
    let report = gc(&lab.through(store), &newest_only()).await.unwrap();
    assert!(report.refused <= 16 && report.late >= 14, "{report:?}");
    assert!(lab.count("trash/").await <= 16);
    assert_eq!(lab.count("manifests/").await, 31);
}

#[tokio::test]
async fn a_flood_by_a_stolen_writer_key_pushes_nothing_out() {
    let lab = Lab::new().await;
    let days: Vec<ManifestName> = {
        let mut days = Vec::new();
        for content in 0..6 {
            days.push(lab.backup("alpha", content).await);
            lab.advance(24 * HOUR);
        }
        days
    };
    for content in 100..160 {
        lab.backup("alpha", content).await;
        lab.advance(Duration::from_secs(30));
    }
    lab.advance(25 * HOUR);
    let options = GcOptions { policy: Policy { keep_last: 7, ..Policy::NOTHING }, ..newest_only() };
    assert_eq!(lab.gc(&options).await.unwrap().retired.len(), 59);
    lab.assert_all_restore(&days, 0..6).await;
}

#[tokio::test]
async fn a_wish_to_stop_stops() {
    let (lab, _) = four().await;
    let cancel = Cancel::default();
    cancel.cancel();
    let planned = collector::plan(&lab.test.repository, &newest_only(), &cancel).await;
    assert!(matches!(planned, Err(ArchiveError::Interrupted)));
    let plan = lab.plan(&newest_only()).await.unwrap();
    let done = collector::execute(&lab.test.repository, &plan, &newest_only(), &cancel).await;
    assert!(matches!(done, Err(ArchiveError::Interrupted)));
    assert_eq!(lab.count("manifests/").await, 4);
}

#[tokio::test]
async fn a_manifest_that_somebody_else_took_away_meanwhile_is_no_failure() {
    let (lab, names) = four().await;
    let plan = lab.plan(&newest_only()).await.unwrap();
    lab.memory.delete(&names[0].key()).await.unwrap();
    let report = collector::execute(&lab.test.repository, &plan, &newest_only(), &Cancel::default()).await.unwrap();
    assert_eq!((report.gone, report.retired.len()), (1, 2));
    assert!(lab.test.restore(&names[3]).await.unwrap().0 == content_of(3));
}
