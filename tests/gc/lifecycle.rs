//! What goes, when, and what never does.

use super::lab::{HOUR, Lab, content_of, gc, newest_only};
use crate::support::fault_store::{Fault, FaultStore};
use crate::support::repo::TestRepository;
use crate::support::s3_server::S3Server;
use hah_vault::agent::Journal;
use hah_vault::agent::lock::{Attempt, LeaseLock, Lock};
use hah_vault::archive::gc::GcOptions;
use hah_vault::archive::retention::{Policy, Reason, Verdict};
use hah_vault::archive::{Cancel, GRACE, gc as collector};
use hah_vault::store::{LocalStore, Operation, RecordingStore, Store};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_retired_snapshot_lies_in_the_trash_for_the_grace_and_then_its_packs_go() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 4).await;
    lab.advance(25 * HOUR);
    let report = lab.gc(&newest_only()).await.unwrap();
    assert_eq!(report.retired, names[..3]);
    assert_eq!((lab.count("manifests/").await, lab.count("trash/").await, lab.count("packs/").await), (1, 3, 4));
    // Nothing more happens while the copies are young.
    lab.advance(23 * HOUR);
    assert_eq!(lab.gc(&newest_only()).await.unwrap().freed_bytes(), 0);
    assert_eq!((lab.count("trash/").await, lab.count("packs/").await), (3, 4));
    lab.advance(2 * HOUR);
    let plan = lab.plan(&newest_only()).await.unwrap();
    let report = lab.gc(&newest_only()).await.unwrap();
    assert_eq!((report.trash.count, report.packs.count, report.indexes.count), (3, 3, 3));
    assert_eq!(report.freed_bytes(), plan.delete_now.len_bytes);
    assert_eq!((lab.count("trash/").await, lab.count("packs/").await, lab.count("index/").await), (0, 1, 1));
    lab.assert_all_restore(&names[3..], [3]).await;
    assert!(lab.plan(&newest_only()).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_plan_foretells_what_is_freed_later() {
    let lab = Lab::new().await;
    lab.hourly("alpha", 5).await;
    lab.advance(25 * HOUR);
    let stored = |lab: &Lab| {
        let memory = lab.memory.clone();
        async move { memory.list("").await.unwrap().iter().map(|o| o.len_bytes).sum::<u64>() }
    };
    let before = stored(&lab).await;
    let plan = lab.plan(&newest_only()).await.unwrap();
    assert_eq!(plan.delete_now.count, 0);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(GRACE + HOUR);
    lab.gc(&newest_only()).await.unwrap();
    assert_eq!(before - stored(&lab).await, plan.later_bytes.unwrap());
}

#[tokio::test]
async fn packs_that_later_snapshots_share_stay() {
    let lab = Lab::new().await;
    let first = lab.backup("alpha", 1).await;
    lab.advance(HOUR);
    let mut bytes = content_of(1);
    bytes.extend(content_of(2));
    let second = lab.test.backup_bytes("alpha", &bytes).await.unwrap().manifest;
    assert_eq!(second.parent, Some(first));
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    assert_eq!((lab.count("packs/").await, lab.count("trash/").await), (2, 0));
    assert!(lab.test.restore(&second.name).await.unwrap().0 == bytes);
}

#[tokio::test]
async fn what_a_crashed_run_left_goes_after_the_grace_and_not_before() {
    let lab = Lab::new().await;
    let kept = lab.backup("alpha", 1).await;
    let crashed = lab.backup("alpha", 2).await;
    lab.memory.delete(&crashed.key()).await.unwrap();
    // An index without a pack, and a pack without an index.
    let id = |c: char| c.to_string().repeat(64);
    lab.memory.put_if_absent(&format!("index/{}", id('a')), "x".into()).await.unwrap();
    lab.memory.put_if_absent(&format!("packs/{}", id('b')), "x".into()).await.unwrap();
    lab.memory.put_if_absent("probe/0123456789abcdef", "x".into()).await.unwrap();
    lab.advance(GRACE);
    assert_eq!(lab.plan(&newest_only()).await.unwrap().delete_now.count, 0, "not older than the grace");
    lab.advance(Duration::from_millis(1));
    let report = lab.gc(&newest_only()).await.unwrap();
    assert_eq!((report.packs.count, report.indexes.count, report.leftovers.count), (2, 2, 1));
    assert_eq!((lab.count("packs/").await, lab.count("index/").await, lab.count("probe/").await), (1, 1, 0));
    lab.assert_all_restore(&[kept], [1]).await;
}

/// Two agents whose credentials may not delete.
#[tokio::test]
async fn old_terms_of_leases_go_after_the_grace_and_the_highest_stays_whatever_its_age() {
    let lab = Lab::new().await;
    let store = Arc::new(FaultStore::new(lab.memory.clone()));
    store.always(Operation::Delete, Fault::Deny);
    let lease =
        |name: &str| LeaseLock::new(store.clone(), name.parse().unwrap(), "host".into(), Duration::from_secs(300));
    let (one, other) = (lease("agent"), lease("agent-2"));
    let journal = Journal::new();
    assert!(matches!(one.take().await.unwrap(), Attempt::Held(_)));
    assert!(matches!(other.take().await.unwrap(), Attempt::Held(_)));
    for _ in 0..30 {
        lab.advance(HOUR);
        assert!(one.renew(&journal).await.unwrap());
    }
    assert_eq!((lab.count("leases/agent/").await, lab.count("leases/agent-2/").await), (31, 1));
    // Terms 1 to 6 were put more than a day ago.
    assert_eq!(lab.gc(&newest_only()).await.unwrap().leftovers.count, 6);
    assert!(one.renew(&journal).await.unwrap(), "the holder keeps it");
    lab.advance(1000 * HOUR);
    assert_eq!(lab.gc(&newest_only()).await.unwrap().leftovers.count, 25);
    let terms = lab.keys("leases/").await;
    assert_eq!(terms, ["leases/agent-2/00000000000000000001", "leases/agent/00000000000000000032"]);
    assert!(lab.plan(&newest_only()).await.unwrap().is_empty());
    // Who comes next goes on from there.
    assert!(matches!(lease("agent").take().await.unwrap(), Attempt::Held(_)));
    assert_eq!(lab.keys("leases/agent/").await.last().unwrap(), "leases/agent/00000000000000000033");
}

#[tokio::test]
async fn a_pack_whose_index_is_young_stays() {
    let lab = Lab::new().await;
    let crashed = lab.test.backup_bytes("alpha", &content_of(1)).await.unwrap().manifest;
    lab.memory.delete(&crashed.name.key()).await.unwrap();
    lab.advance(25 * HOUR);
    let index = crashed.packs[0].id.index_key();
    lab.memory.overwrite(&index, lab.memory.get(&index, 1 << 20).await.unwrap());
    assert!(lab.plan(&newest_only()).await.unwrap().is_empty());
}

#[tokio::test]
async fn keys_of_another_form_are_left_alone() {
    let lab = Lab::new().await;
    let foreign = [
        "manifests/alpha/notes.txt",
        "trash/alpha/20261122T143000Z-1a2b3c4d",
        "trash/readme",
        "packs/short",
        "index/0",
        "holds/x",
        "leases/agent/7",
        "leases/agent/00000000000000000001.old",
        "leases/00000000000000000001",
        "v2/packs/aa",
    ];
    for key in foreign {
        lab.memory.put_if_absent(key, "x".into()).await.unwrap();
    }
    lab.hourly("alpha", 2).await;
    lab.advance(50 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(50 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    for key in foreign {
        assert!(lab.memory.stat(key).await.unwrap().is_some(), "{key}");
    }
}

#[tokio::test]
async fn a_young_snapshot_is_not_retired() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 3).await;
    let plan = lab.plan(&newest_only()).await.unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.rows[0].verdict, Verdict::Keep(vec![Reason::Young]));
    // By its own time, not by the one that it claims: an undeleted one is old by name.
    lab.advance(30 * HOUR);
    lab.memory.overwrite(&names[0].key(), lab.memory.get(&names[0].key(), 1 << 20).await.unwrap());
    assert_eq!(lab.gc(&newest_only()).await.unwrap().retired, [names[1].clone()]);
}

#[tokio::test]
async fn packs_of_a_snapshot_from_the_future_stay_and_it_is_said() {
    let lab = Lab::new().await;
    lab.advance(1000 * HOUR);
    let future = lab.backup("alpha", 1).await;
    lab.memory.set_now(super::lab::BEGIN);
    // The store's clock was put right.
    lab.memory.overwrite(&future.key(), lab.memory.get(&future.key(), 1 << 20).await.unwrap());
    for key in lab.keys("packs/").await.into_iter().chain(lab.keys("index/").await) {
        lab.memory.overwrite(&key, lab.memory.get(&key, 1 << 20).await.unwrap());
    }
    lab.advance(HOUR);
    let names = lab.hourly("alpha", 2).await;
    lab.advance(30 * HOUR);
    let plan = lab.plan(&newest_only()).await.unwrap();
    let verdict = |name| plan.rows.iter().find(|row| row.name == name).unwrap().verdict.clone();
    assert_eq!(verdict(future.clone()), Verdict::Keep(vec![Reason::Future]));
    assert_eq!(verdict(names[1].clone()), Verdict::Keep(vec![Reason::Newest]));
    for _ in 0..3 {
        lab.gc(&newest_only()).await.unwrap();
        lab.advance(30 * HOUR);
    }
    lab.assert_all_restore(&[future, names[1].clone()], [1, 1]).await;
}

#[tokio::test]
async fn one_source_is_retired_alone_and_packs_go_of_all() {
    let lab = Lab::new().await;
    lab.hourly("alpha", 3).await;
    let consul = lab.hourly("beta", 3).await;
    let lost = lab.backup("gamma", 9).await;
    lab.memory.delete(&lost.key()).await.unwrap();
    lab.advance(30 * HOUR);
    let options = GcOptions { source: Some("alpha".parse().unwrap()), ..newest_only() };
    let plan = lab.plan(&options).await.unwrap();
    assert!(plan.rows.iter().filter(|r| r.name.source.as_str() == "beta").all(|r| r.verdict.keeps()));
    let report = lab.gc(&options).await.unwrap();
    assert_eq!((report.retired.len(), report.packs.count), (2, 1));
    lab.assert_all_restore(&consul, 0..3).await;
}

#[tokio::test]
async fn each_source_has_its_own_policy() {
    let lab = Lab::new().await;
    lab.hourly("alpha", 4).await;
    lab.hourly("beta", 4).await;
    lab.advance(30 * HOUR);
    let mut options = newest_only();
    options.policies.insert("beta".parse().unwrap(), Policy { keep_last: 3, ..Policy::NOTHING });
    let report = lab.gc(&options).await.unwrap();
    let of = |source: &str| report.retired.iter().filter(|name| name.source.as_str() == source).count();
    assert_eq!((of("alpha"), of("beta")), (3, 1));
}

#[tokio::test]
async fn a_plan_changes_nothing_and_a_second_gc_finds_nothing_to_do() {
    let lab = Lab::new().await;
    lab.hourly("alpha", 3).await;
    lab.advance(30 * HOUR);
    let recording = Arc::new(RecordingStore::with_log(lab.memory.clone()));
    let repository = lab.through(recording.clone());
    collector::plan(&repository, &newest_only(), &Cancel::default()).await.unwrap();
    assert_eq!((recording.counts().put, recording.counts().delete), (0, 0));
    let before: Vec<_> = recording.log().into_iter().filter(|(op, _)| *op == Operation::List).collect();
    let prefixes: Vec<&str> = before.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(prefixes, ["packs/", "index/", "manifests/", "trash/", "holds/", "probe/", "leases/"]);
    lab.gc(&newest_only()).await.unwrap();
    assert!(lab.plan(&newest_only()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_exclusive_gc_without_grace_frees_everything_in_two_runs() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 3).await;
    let options = GcOptions { grace: Duration::ZERO, exclusive: true, ..newest_only() };
    assert_eq!(lab.gc(&options).await.unwrap().retired.len(), 2);
    lab.advance(Duration::from_secs(1));
    lab.gc(&options).await.unwrap();
    assert_eq!((lab.count("packs/").await, lab.count("trash/").await), (1, 0));
    lab.assert_all_restore(&names[2..], [2]).await;
}

#[tokio::test]
async fn a_longer_grace_keeps_longer() {
    let lab = Lab::new().await;
    lab.hourly("alpha", 2).await;
    lab.advance(30 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(30 * HOUR);
    let options = GcOptions { grace: 72 * HOUR, ..newest_only() };
    assert!(lab.plan(&options).await.unwrap().is_empty());
    lab.advance(50 * HOUR);
    assert_eq!(lab.gc(&options).await.unwrap().packs.count, 1);
}

#[tokio::test]
async fn growth_is_what_stays_of_the_last_days() {
    let lab = Lab::new().await;
    // The first snapshot is a hundred times the others.
    lab.test.backup_bytes("alpha", &(0..100).flat_map(content_of).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(lab.plan(&GcOptions::default()).await.unwrap().growth, None, "too young");
    for day in 0..10 {
        lab.advance(24 * HOUR);
        let bytes: Vec<u8> = (0..100).chain([100 + day]).flat_map(content_of).collect();
        lab.test.backup_bytes("alpha", &bytes).await.unwrap();
    }
    let plan = lab.plan(&GcOptions::default()).await.unwrap();
    let growth = plan.growth.unwrap();
    assert_eq!(growth.window_hours, 240);
    // 20,000 bytes of noise a day, with index and manifest.
    assert!((20_000..30_000).contains(&growth.bytes_per_day), "{growth:?}");
    let budget = plan.budget(plan.listed_bytes + 10 * growth.bytes_per_day);
    assert_eq!((budget.lasts_days, budget.stored_bytes), (Some(10), plan.listed_bytes));
    assert_eq!(plan.budget(1000).lasts_days, Some(0));
}

/// With real time: nothing but the grace is left out.
async fn lifecycle(store: Arc<dyn Store>) {
    let test = TestRepository::create(store.clone()).await;
    for content in 0..3 {
        test.backup_bytes("alpha", &content_of(content)).await.unwrap();
        // S3 stats whole seconds, and names of one second have no order.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let options = GcOptions { grace: Duration::ZERO, exclusive: true, ..newest_only() };
    assert_eq!(gc(&test.repository, &options).await.unwrap().retired.len(), 2);
    let trash = test.repository.list_trash(None).await.unwrap();
    assert_eq!(trash.len(), 2);
    let back = collector::undelete::undelete(&test.repository, &trash[0]).await.unwrap();
    assert!(test.restore(&back.name).await.unwrap().0 == content_of(0));
    assert!(test.repository.hold(&back.name, "for the record").await.unwrap());
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let report = gc(&test.repository, &options).await.unwrap();
    assert_eq!((report.trash.count, report.packs.count, report.retired.len()), (2, 1, 0));
    assert!(test.restore(&back.name).await.unwrap().0 == content_of(0));
    assert!(test.restore_latest("alpha").await.unwrap().0 == content_of(2));
    assert_eq!((store.list("packs/").await.unwrap().len(), store.list("trash/").await.unwrap().len()), (2, 0));
}

#[tokio::test]
async fn a_local_folder_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    lifecycle(Arc::new(LocalStore::open(dir.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_s3_bucket_is_collected() {
    let server = S3Server::start();
    lifecycle(hah_vault::store::open(&server.url("some/prefix"), &server.options()).await.unwrap()).await;
}
