//! Each rule of the protocol by itself: what holds with it, and that its switch turns it off and nothing else does.

use super::lab::{HOUR, Lab, content_of, gc, newest_only};
use crate::support::fault_store::{Fault, FaultStore, Rule};
use crate::support::hooked_store::{HookedStore, When};
use hah_vault::archive::backup::BackupOptions;
use hah_vault::archive::gc::trash::UNDELETE_LIMIT;
use hah_vault::archive::gc::undelete::undelete_by;
use hah_vault::archive::gc::{self as collector, GcOptions, GcReport, STEP_LIMIT};
use hah_vault::archive::rules::Rules;
use hah_vault::archive::{ArchiveError, COMMIT_LIMIT, Cancel, GRACE};
use hah_vault::store::{Operation, RecordingStore, Store};
use hah_vault_format::ManifestName;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

fn by(rules: Rules) -> GcOptions {
    GcOptions { rules, ..newest_only() }
}

#[test]
fn all_rules_hold_unless_a_test_says_otherwise() {
    assert_eq!(GcOptions::default().rules, Rules::ALL);
    assert_eq!(BackupOptions::default().rules, Rules::ALL);
    assert_eq!(Rules::default(), Rules::ALL);
    assert!(!format!("{:?}", Rules::ALL).contains("false"));
}

async fn lists(rules: Rules) -> Vec<String> {
    let lab = Lab::new().await;
    let store = Arc::new(RecordingStore::with_log(lab.memory.clone()));
    collector::plan(&lab.through(store.clone()), &by(rules), &Cancel::default()).await.unwrap();
    let lists = store.log().into_iter().filter(|(operation, _)| *operation == Operation::List);
    lists.map(|(_, prefix)| prefix).take(4).collect()
}

#[tokio::test]
async fn the_order_of_the_listings() {
    assert_eq!(lists(Rules::ALL).await, ["packs/", "index/", "manifests/", "trash/"]);
    let late = Rules { packs_first: false, ..Rules::ALL };
    assert_eq!(lists(late).await, ["manifests/", "trash/", "packs/", "index/"]);
    assert_eq!(lists(Rules { trash_last: false, ..Rules::ALL }).await, ["trash/", "packs/", "index/", "manifests/"]);
    // Also in the other order everything that is named is known.
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 3).await;
    lab.advance(50 * HOUR);
    lab.gc(&by(late)).await.unwrap();
    lab.advance(50 * HOUR);
    assert_eq!(lab.gc(&by(late)).await.unwrap().packs.count, 2);
    lab.assert_all_restore(&names[2..], [2]).await;
}

#[tokio::test]
async fn ages_are_those_at_the_beginning() {
    for (rules, deleted) in [(Rules::ALL, 0), (Rules { ages_at_start: false, ..Rules::ALL }, 1)] {
        let lab = Lab::new().await;
        let crashed = lab.backup("alpha", 1).await;
        lab.memory.delete(&crashed.key()).await.unwrap();
        lab.advance(GRACE - SECOND);
        // The second question for the time, wherever it is asked.
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        store.nth(Operation::Now, 1, Fault::ClockOff { ms: 2000 });
        assert_eq!(gc(&lab.through(store), &by(rules)).await.unwrap().packs.count, deleted);
    }
}

/// Four snapshots, the last of them an hour old at the end.
async fn four() -> (Lab, Vec<ManifestName>) {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 4).await;
    lab.advance(25 * HOUR);
    (lab, names)
}

#[tokio::test]
async fn the_limit_of_planning() {
    let late = |lab: &Lab| {
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        let ms = i64::try_from(STEP_LIMIT.as_millis()).unwrap() + 1;
        store.nth(Operation::Now, 1, Fault::ClockOff { ms });
        lab.through(store)
    };
    let (lab, _) = four().await;
    assert!(matches!(gc(&late(&lab), &by(Rules::ALL)).await, Err(ArchiveError::PlanTooLate { .. })));
    let rules = Rules { planning_limit: false, ..Rules::ALL };
    assert_eq!(gc(&late(&lab), &by(rules)).await.unwrap().retired.len(), 3);
}

#[tokio::test]
async fn what_does_not_open_and_what_vanished() {
    let (lab, names) = four().await;
    lab.memory.overwrite(&names[0].key(), "rubbish".into());
    assert_eq!(lab.gc(&newest_only()).await.unwrap().packs.count, 0);
    let rules = Rules { unreadable_stops: false, ..Rules::ALL };
    assert_eq!(lab.gc(&by(rules)).await.unwrap().packs.count, 1, "those of the broken manifest");

    let (lab, _) = four().await;
    for (rules, stops) in [(Rules::ALL, true), (Rules { vanished_stops: false, ..Rules::ALL }, false)] {
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        store.nth(Operation::Get, 0, Fault::Missing);
        let result = gc(&lab.through(store), &by(rules)).await;
        assert_eq!(matches!(result, Err(ArchiveError::ManifestVanished { .. })), stops, "{result:?}");
    }
}

#[tokio::test]
async fn snapshots_from_the_future_name_their_packs() {
    for (rules, deleted) in [(Rules::ALL, 0), (Rules { future_names: false, ..Rules::ALL }, 1)] {
        let lab = Lab::new().await;
        lab.backup("alpha", 1).await;
        lab.advance(GRACE + HOUR);
        // The store's clock steps back, behind the time in the name; the objects are old all the same.
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        let future =
            ManifestName { time: hah_vault_format::UnixTime::from_unix_s(4_000_000_000).unwrap(), ..name(&lab).await };
        let mut manifest = lab.test.repository.open_manifest(&name(&lab).await).await.unwrap();
        lab.memory.delete(&manifest.name.key()).await.unwrap();
        manifest.name = future;
        let keys = lab.test.repository.source_keys(&manifest.name.source).unwrap();
        let sealed = hah_vault::pipeline::seal::seal_manifest(&manifest, &keys).unwrap();
        lab.memory.put_if_absent(&manifest.name.key(), sealed.into()).await.unwrap();
        assert_eq!(gc(&lab.through(store), &by(rules)).await.unwrap().packs.count, deleted);
    }
}

async fn name(lab: &Lab) -> ManifestName {
    lab.test.manifests().await.remove(0)
}

#[tokio::test]
async fn young_snapshots_stay() {
    for (rules, retired) in [(Rules::ALL, 0), (Rules { young_stay: false, ..Rules::ALL }, 2)] {
        let lab = Lab::new().await;
        lab.hourly("alpha", 3).await;
        assert_eq!(lab.gc(&by(rules)).await.unwrap().retired.len(), retired);
    }
}

#[tokio::test]
async fn copies_are_fresh_objects() {
    for (rules, copies) in [(Rules::ALL, 2), (Rules { fresh_copy: false, ..Rules::ALL }, 1)] {
        let (lab, names) = four().await;
        let bytes = lab.memory.get(&names[0].key(), 1 << 20).await.unwrap();
        lab.gc(&by(rules)).await.unwrap();
        // As after a crash between copy and delete.
        lab.memory.overwrite(&names[0].key(), bytes);
        lab.advance(GRACE - HOUR);
        let rules = Rules { young_stay: false, ..rules };
        lab.gc(&by(rules)).await.unwrap();
        let trash = lab.test.repository.list_trash(None).await.unwrap();
        let of_first: Vec<_> = trash.iter().filter(|copy| copy.name.manifest == names[0]).collect();
        assert_eq!(of_first.len(), copies);
        // The rule is what makes one of them young.
        let now = lab.memory.now().await.unwrap();
        assert_eq!(of_first.iter().any(|copy| copy.modified == now), rules.fresh_copy);
    }
}

async fn executed_later(rules: Rules, by_time: Duration) -> GcReport {
    let (lab, _) = four().await;
    let plan = lab.plan(&by(rules)).await.unwrap();
    lab.advance(by_time);
    collector::execute(&lab.test.repository, &plan, &by(rules), &Cancel::default()).await.unwrap()
}

#[tokio::test]
async fn retirements_begin_in_time() {
    assert_eq!(executed_later(Rules::ALL, 2 * STEP_LIMIT).await.retired.len(), 3);
    assert_eq!(executed_later(Rules::ALL, 2 * STEP_LIMIT + SECOND).await.retired.len(), 0);
    let off = Rules { retire_limit: false, ..Rules::ALL };
    assert_eq!(executed_later(off, 2 * STEP_LIMIT + SECOND).await.retired.len(), 3);
}

#[tokio::test]
async fn between_copy_and_delete_not_much_time_passes() {
    for (rules, retired) in [(Rules::ALL, 0), (Rules { retire_gap: false, ..Rules::ALL }, 3)] {
        let (lab, _) = four().await;
        let world = lab.world.clone();
        let store = HookedStore::new(lab.memory.clone(), move |when, key, _| {
            if when == When::After && key.starts_with("trash/") {
                world.advance(STEP_LIMIT + SECOND);
            }
            Vec::new()
        });
        // Where the limit of the run does not end it first.
        let rules = Rules { retire_limit: false, ..rules };
        let report = gc(&lab.through(Arc::new(store)), &by(rules)).await.unwrap();
        assert_eq!(report.retired.len(), retired);
    }
}

#[tokio::test]
async fn undelete_rules() {
    let off = Rules { undelete_limit: false, ..Rules::ALL };
    for (rules, comes_back) in [(Rules::ALL, false), (off, true)] {
        let (lab, names) = four().await;
        lab.gc(&newest_only()).await.unwrap();
        lab.advance(UNDELETE_LIMIT + SECOND);
        let copy = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
        assert_eq!(undelete_by(&lab.test.repository, &copy, rules).await.is_ok(), comes_back);
    }
    let (lab, names) = four().await;
    lab.gc(&newest_only()).await.unwrap();
    let copy = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    let off = Rules { undelete_new_name: false, undelete_keeps_copy: false, ..Rules::ALL };
    assert_eq!(undelete_by(&lab.test.repository, &copy, off).await.unwrap().name, names[0]);
    assert_eq!(lab.count("trash/").await, 2);
    let copy = lab.test.repository.resolve_trash(&names[1].to_string()).await.unwrap();
    let off = Rules { undelete_check: false, ..Rules::ALL };
    for (rules, comes_back) in [(Rules::ALL, false), (off, true)] {
        let store = Arc::new(FaultStore::new(lab.memory.clone()));
        let fault = Fault::Hide("packs/".into());
        store.rule(Rule { operation: Operation::List, key_part: "packs/".into(), skip: 1, times: 1, fault });
        assert_eq!(undelete_by(&lab.through(store), &copy, rules).await.is_ok(), comes_back);
    }
}

/// Backs up while a hook does something at the put of the manifest.
async fn backup_while(
    lab: &Lab,
    rules: Rules,
    hook: impl Fn(&Lab2) + Send + Sync + 'static,
) -> Result<ManifestName, ArchiveError> {
    let two = Lab2 { memory: lab.memory.clone(), world: lab.world.clone() };
    let store = HookedStore::new(lab.memory.clone(), move |when, key, _| {
        if when == When::Before && key.starts_with("packs/") {
            hook(&two);
        }
        Vec::new()
    });
    let mut writer = crate::support::repo::TestRepository::with_identity(Arc::new(store), lab.identity.clone());
    writer.repository.world = lab.world.clone();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content_of(9)).unwrap();
    let options = BackupOptions { rules, ..BackupOptions::default() };
    writer.backup_with("alpha", file.path(), &options).await.map(|report| report.manifest.name)
}

/// The clocks of a lab.
struct Lab2 {
    memory: Arc<hah_vault::store::MemoryStore>,
    world: Arc<crate::support::held_world::HeldWorld>,
}

const LATE: Duration = Duration::from_secs(COMMIT_LIMIT.as_secs() + 1);

#[tokio::test]
async fn a_backup_commits_in_time_by_both_clocks() {
    let late = |result| matches!(result, Err(ArchiveError::TooLate { .. }));
    let no_store = Rules { commit_limit_store: false, ..Rules::ALL };
    let no_boot = Rules { commit_limit_boot: false, ..Rules::ALL };
    for (rules, store_late, boot_late) in [(Rules::ALL, true, true), (no_store, false, true), (no_boot, true, false)] {
        let lab = Lab::new().await;
        let ms = i64::try_from(LATE.as_millis()).unwrap();
        assert_eq!(late(backup_while(&lab, rules, move |l| l.memory.advance_ms(ms)).await), store_late);
        let lab = Lab::new().await;
        assert_eq!(late(backup_while(&lab, rules, |l| l.world.advance(LATE)).await), boot_late);
    }
}

#[tokio::test]
async fn a_backup_looks_again_after_its_commit() {
    for (rules, succeeds) in [(Rules::ALL, false), (Rules { check_committed: false, ..Rules::ALL }, true)] {
        let lab = Lab::new().await;
        let store = HookedStore::new(lab.memory.clone(), |when, key, memory| {
            let committed = when == When::After && key.starts_with("manifests/");
            if committed { futures::executor::block_on(packs(memory)) } else { Vec::new() }
        });
        let mut writer = crate::support::repo::TestRepository::with_identity(Arc::new(store), lab.identity.clone());
        writer.repository.world = lab.world.clone();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content_of(9)).unwrap();
        let options = BackupOptions { rules, ..BackupOptions::default() };
        assert_eq!(writer.backup_with("alpha", file.path(), &options).await.is_ok(), succeeds);
        assert_eq!(lab.count("manifests/").await, usize::from(succeeds));
        assert_eq!(lab.count("trash/").await, usize::from(!succeeds));
    }
}

/// A backup that stops where it is told to, until it is told to go on.
struct Stopping {
    reached: Receiver<()>,
    go_on: Sender<()>,
    result: JoinHandle<Result<ManifestName, ArchiveError>>,
}

impl Stopping {
    fn begin(lab: &Lab, rules: Rules, content: Vec<u8>, at: (When, &'static str)) -> Self {
        let ((reach, reached), (go_on, goes_on)) = (channel(), channel());
        let goes_on = Mutex::new(Some(goes_on));
        let store = HookedStore::new(lab.memory.clone(), move |when, key, _| {
            let first = (when == at.0 && key.starts_with(at.1)).then(|| goes_on.lock().unwrap().take()).flatten();
            if let Some(goes_on) = first {
                reach.send(()).unwrap();
                goes_on.recv().unwrap();
            }
            Vec::new()
        });
        let mut writer = crate::support::repo::TestRepository::with_identity(Arc::new(store), lab.identity.clone());
        writer.repository.world = lab.world.clone();
        let result = tokio::spawn(async move {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            let options = BackupOptions { rules, ..BackupOptions::default() };
            writer.backup_with("alpha", file.path(), &options).await.map(|report| report.manifest.name)
        });
        Self { reached, go_on, result }
    }

    async fn end(self) -> Result<ManifestName, ArchiveError> {
        self.go_on.send(()).unwrap();
        self.result.await.unwrap()
    }
}

/// A writer is suspended between the put of its manifest and the look at it; another takes that for its parent, and
/// commits only after the first has withdrawn it, and a collector has looked (decision 019).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_withdrawn_may_be_the_parent_of_another() {
    for (rules, lost) in [(Rules::ALL, false), (Rules { withdraw_copy: false, ..Rules::ALL }, true)] {
        let lab = Lab::new().await;
        let first = Stopping::begin(&lab, rules, content_of(1), (When::After, "manifests/"));
        first.reached.recv().unwrap();
        lab.advance(19 * HOUR);
        let content = [content_of(1), content_of(2)].concat();
        let second = Stopping::begin(&lab, rules, content.clone(), (When::Before, "packs/"));
        second.reached.recv().unwrap();
        lab.advance(7 * HOUR);
        assert!(matches!(first.end().await, Err(ArchiveError::TooLate { .. })));
        lab.advance(2 * HOUR);
        let options = by(Rules::ALL);
        let plan = lab.plan(&options).await.unwrap();
        let name = second.end().await.unwrap();
        collector::execute(&lab.test.repository, &plan, &options, &Cancel::default()).await.unwrap();
        let restored = lab.test.restore(&name).await.map(|(bytes, _)| bytes);
        assert_eq!(restored.ok(), (!lost).then_some(content));
    }
}

async fn packs(memory: &hah_vault::store::MemoryStore) -> Vec<String> {
    memory.list("packs/").await.unwrap().into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn a_late_manifest_is_no_parent() {
    for (rules, has_parent) in [(Rules::ALL, false), (Rules { no_late_parent: false, ..Rules::ALL }, true)] {
        let lab = Lab::new().await;
        let first = lab.backup("alpha", 1).await;
        // Put again, later than a backup may commit.
        lab.advance(LATE + HOUR);
        lab.memory.overwrite(&first.key(), lab.memory.get(&first.key(), 1 << 20).await.unwrap());
        lab.advance(HOUR);
        let second = backup_while(&lab, rules, |_| ()).await.unwrap();
        let parent = lab.test.repository.open_manifest(&second).await.unwrap().parent;
        assert_eq!(parent.is_some(), has_parent);
    }
}

#[tokio::test]
async fn only_packs_of_the_parent_are_reused() {
    for (rules, new) in [(Rules::ALL, true), (Rules { parent_packs_only: false, ..Rules::ALL }, false)] {
        let lab = Lab::new().await;
        lab.backup("alpha", 1).await;
        lab.advance(HOUR);
        let crashed = lab.backup("alpha", 9).await;
        lab.memory.delete(&crashed.key()).await.unwrap();
        lab.advance(HOUR);
        let name = backup_while(&lab, rules, |_| ()).await.unwrap();
        let manifest = lab.test.repository.open_manifest(&name).await.unwrap();
        assert_eq!(manifest.counts.chunks_new > 0, new);
        assert!(lab.test.restore(&name).await.unwrap().0 == content_of(9));
    }
}
