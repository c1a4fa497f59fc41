//! Snapshots whose packs are gone take no place of those that restore.

use super::lab::{HOUR, Lab, newest_only};
use bytes::Bytes;
use hah_vault::archive::GRACE;
use hah_vault::archive::gc::{GcOptions, LostPacks, Plan, Row};
use hah_vault::archive::retention::{Policy, Reason, Verdict};
use hah_vault_format::{ManifestName, ObjectId};
use std::time::Duration;

/// Keeps the newest, and the newest of the last hour that has any: the same one.
fn last_one() -> GcOptions {
    GcOptions { policy: Policy { keep_last: 1, ..Policy::NOTHING }, ..newest_only() }
}

/// Snapshots of other bytes each hour, old enough to be retired; and their only packs.
async fn old(count: u8) -> (Lab, Vec<ManifestName>, Vec<ObjectId>) {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", count).await;
    let mut packs = Vec::new();
    for name in &names {
        packs.push(lab.test.repository.open_manifest(name).await.unwrap().packs[0].id);
    }
    lab.advance(GRACE + HOUR);
    (lab, names, packs)
}

/// Takes an object away.
async fn take(lab: &Lab, key: &str) -> Bytes {
    use hah_vault::store::Store;
    let bytes = lab.memory.get(key, 1 << 20).await.unwrap();
    lab.memory.delete(key).await.unwrap();
    bytes
}

fn row<'p>(plan: &'p Plan, name: &ManifestName) -> &'p Row {
    plan.rows.iter().find(|row| row.name == *name).unwrap()
}

fn keep(reasons: &[Reason]) -> Verdict {
    Verdict::Keep(reasons.to_vec())
}

#[tokio::test]
async fn the_newest_that_restores_stays_when_a_newer_one_has_lost_its_pack() {
    let (lab, names, packs) = old(3).await;
    let pack = take(&lab, &packs[2].pack_key()).await;
    let plan = lab.plan(&last_one()).await.unwrap();
    assert_eq!(row(&plan, &names[2]).verdict, keep(&[Reason::Newest, Reason::Last, Reason::Damaged]));
    assert_eq!(row(&plan, &names[2]).lost, Some(LostPacks { of: 1, missing: 1, ..LostPacks::default() }));
    assert_eq!(row(&plan, &names[1]).verdict, keep(&[Reason::NewestWhole, Reason::Last]));
    assert_eq!(row(&plan, &names[1]).lost, None);
    for _ in 0..3 {
        lab.gc(&last_one()).await.unwrap();
        lab.advance(GRACE + HOUR);
    }
    assert_eq!(lab.test.manifests().await, names[1..]);
    lab.assert_all_restore(&names[1..2], [1]).await;
    assert!(lab.test.restore(&names[2]).await.is_err());
    // From a second copy of the bucket: now it is the newest, and the other one goes.
    lab.memory.overwrite(&packs[2].pack_key(), pack);
    assert_eq!(lab.gc(&last_one()).await.unwrap().retired, names[1..2]);
    lab.advance(GRACE + HOUR);
    lab.gc(&last_one()).await.unwrap();
    lab.assert_all_restore(&names[2..], [2]).await;
    assert!(lab.plan(&last_one()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_damaged_snapshot_goes_once_a_newer_one_takes_its_place() {
    let (lab, names, packs) = old(2).await;
    take(&lab, &packs[1].pack_key()).await;
    assert!(lab.gc(&last_one()).await.unwrap().retired.is_empty());
    let healed = lab.backup("alpha", 7).await;
    lab.advance(GRACE + HOUR);
    let plan = lab.plan(&last_one()).await.unwrap();
    assert_eq!(row(&plan, &names[1]).verdict, Verdict::Drop { instead: None });
    assert!(row(&plan, &names[1]).lost.is_some(), "what goes is called damaged, too");
    assert_eq!(lab.gc(&last_one()).await.unwrap().retired, names);
    lab.assert_all_restore(&[healed], [7]).await;
}

#[tokio::test]
async fn another_length_and_wrong_bytes_that_verify_knows_of_are_damage_and_a_lost_index_is_none() {
    let (lab, names, packs) = old(4).await;
    let mut bytes = take(&lab, &packs[3].pack_key()).await.to_vec();
    bytes.pop();
    lab.memory.overwrite(&packs[3].pack_key(), bytes.into());
    take(&lab, &packs[1].index_key()).await;
    lab.advance(GRACE + HOUR);
    let options = GcOptions { damaged: [packs[2]].into(), ..last_one() };
    let plan = lab.plan(&options).await.unwrap();
    let lost = |i: usize| row(&plan, &names[i]).lost.map(|lost| lost.to_string());
    assert_eq!(lost(3).unwrap(), "of its 1 packs 1 of another length");
    assert_eq!(lost(2).unwrap(), "of its 1 packs 1 damaged");
    assert_eq!((lost(1), lost(0)), (None, None));
    lab.gc(&options).await.unwrap();
    assert_eq!(lab.test.manifests().await, [names[1].clone(), names[3].clone()]);
    lab.assert_all_restore(&names[1..2], [1]).await;
}

#[tokio::test]
async fn if_none_is_whole_they_are_judged_as_if_all_were() {
    let (lab, names, packs) = old(3).await;
    for pack in &packs {
        take(&lab, &pack.pack_key()).await;
    }
    let plan = lab.plan(&last_one()).await.unwrap();
    assert_eq!(row(&plan, &names[2]).verdict, keep(&[Reason::Newest, Reason::Last, Reason::Damaged]));
    assert_eq!(plan.retire().count(), 2);
}

/// Its packs may have been put after the packs were listed.
#[tokio::test]
async fn a_snapshot_put_while_a_gc_looks_is_not_called_damaged_and_takes_no_place() {
    let (lab, names, _) = old(2).await;
    let new = lab.backup("alpha", 9).await;
    let id = lab.test.repository.open_manifest(&new).await.unwrap().packs[0].id;
    let pack = take(&lab, &id.pack_key()).await;
    let plan = lab.plan(&last_one()).await.unwrap();
    assert_eq!(row(&plan, &new).verdict, keep(&[Reason::Newest, Reason::Last, Reason::Young]));
    assert_eq!(row(&plan, &new).lost, None);
    assert_eq!(row(&plan, &names[1]).verdict, keep(&[Reason::NewestWhole, Reason::Last]));
    // Nobody puts anything while an exclusive run looks, and what was put before was put before its packs were listed.
    let exclusive = GcOptions { exclusive: true, ..last_one() };
    assert!(row(&lab.plan(&exclusive).await.unwrap(), &new).lost.is_some());
    lab.advance(Duration::from_secs(600));
    assert!(row(&lab.plan(&last_one()).await.unwrap(), &new).lost.is_some());
    lab.memory.overwrite(&id.pack_key(), pack);
    let plan = lab.plan(&last_one()).await.unwrap();
    assert!(plan.rows.iter().all(|row| row.lost.is_none()));
    assert_eq!(plan.retire().count(), 2);
}
