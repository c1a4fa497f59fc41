//! The matrix' cells of `gc --exclusive --grace 0s`.

use super::{Made, Objects, class, store_of};
use crate::support::repo::{TestRepository, fixture};
use hah_vault::archive::Cancel;
use hah_vault::archive::gc::{GcOptions, gc};
use hah_vault::archive::retention::Policy;
use hah_vault_format::{ManifestName, ObjectId};
use std::collections::BTreeSet;
use std::time::Duration;

/// The manifests that restore, each to the bytes that it stands for.
async fn whole(test: &TestRepository, made: &Made) -> BTreeSet<ManifestName> {
    let mut whole = BTreeSet::new();
    for name in test.manifests().await {
        let Ok((bytes, _)) = test.restore(&name).await else { continue };
        let of_source = &made.manifests[name.source.as_str()];
        let number = of_source.iter().position(|manifest| manifest.name == name).expect("a name that was given");
        let original = std::fs::read(fixture(&format!("{}-0{number}.snap", name.source))).unwrap();
        assert!(bytes == original, "wrong bytes");
        whole.insert(name);
    }
    whole
}

/// What `gc` makes of a repository when everything is to stay, and when only the newest is, on a host where `verify
/// --read-data` has run: packs of the right length with wrong bytes are known.
pub(super) async fn collected(made: &Made, objects: &Objects) -> [String; 2] {
    let test = TestRepository::with_identity(store_of(objects).await, made.identity.clone());
    let before = whole(&test, made).await;
    let (everything, newest) = (Policy::everything(), Policy::NOTHING);
    [left(made, objects, &before, everything).await, left(made, objects, &before, newest).await]
}

/// Packs that `verify --read-data` would note on this host.
fn known_damaged(objects: &Objects) -> BTreeSet<ObjectId> {
    let packs = objects.iter().filter_map(|(key, bytes)| Some((key.strip_prefix("packs/")?.parse().ok()?, bytes)));
    packs.filter(|(id, bytes)| ObjectId::of(bytes) != *id).map(|(id, _)| id).collect()
}

/// Snapshots that restore of those that are listed, and how many packs and indexes were deleted.
async fn left(made: &Made, objects: &Objects, before: &BTreeSet<ManifestName>, policy: Policy) -> String {
    let store = store_of(objects).await;
    let test = TestRepository::with_identity(store.clone(), made.identity.clone());
    let listed = test.manifests().await;
    let keeps_all = policy == Policy::everything();
    let damaged = known_damaged(objects);
    let options =
        GcOptions { policy, grace: Duration::ZERO, exclusive: true, force: true, damaged, ..GcOptions::default() };
    // The second run deletes what the first sets aside.
    let (mut deleted, mut is_blocked) = (0, false);
    for _ in 0..2 {
        let (plan, report) = match gc(&test.repository, &options, &Cancel::default()).await {
            Ok(done) => done,
            Err(error) => return class(&error),
        };
        deleted += report.packs.count + report.indexes.count;
        is_blocked |= !plan.blocked_by.is_empty();
        store.advance_ms(60_000);
    }
    let (left, after) = (test.manifests().await, whole(&test, made).await);
    let gone: Vec<&ManifestName> = listed.iter().filter(|name| !left.contains(name)).collect();
    assert!(gone.is_empty() || !keeps_all, "{gone:?}");
    // What was whole is gone only where something newer of its source is whole.
    for name in gone.into_iter().filter(|name| before.contains(name)) {
        assert!(after.iter().any(|newer| newer.source == name.source && newer > name), "{name}");
    }
    // What was whole is whole, and nothing else is.
    assert_eq!(after, before.iter().filter(|name| left.contains(name)).cloned().collect());
    assert!(!is_blocked || deleted == 0, "packs were deleted that a manifest may need");
    let blocked = if is_blocked { ", no pack deleted" } else { "" };
    let deleted = if deleted == 0 { String::new() } else { format!(", {deleted} deleted") };
    format!("{}/{}{blocked}{deleted}", after.len(), left.len())
}
