//! Holds and tags.

use super::lab::{HOUR, Lab, newest_only};
use crate::support::hooked_store::{HookedStore, When};
use hah_vault::archive::backup::BackupOptions;
use hah_vault::archive::gc::GcOptions;
use hah_vault::archive::retention::{Policy, Reason, Verdict};
use hah_vault::archive::{ArchiveError, Repository, tags};
use hah_vault::keys::Keyring;
use hah_vault::store::Store;
use std::sync::Arc;

#[tokio::test]
async fn what_is_held_stays_until_it_is_released() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 3).await;
    let repository = &lab.test.repository;
    assert!(repository.hold(&names[0], "before the upgrade to 1.17").await.unwrap());
    assert!(!repository.hold(&names[0], "another reason").await.unwrap());
    assert_eq!(repository.hold_reason(&names[0]).await.unwrap().as_deref(), Some("before the upgrade to 1.17"));
    lab.advance(30 * HOUR);
    let plan = lab.plan(&newest_only()).await.unwrap();
    assert_eq!(plan.rows[0].verdict, Verdict::Keep(vec![Reason::Held]));
    for _ in 0..3 {
        lab.gc(&newest_only()).await.unwrap();
        lab.advance(30 * HOUR);
    }
    lab.assert_all_restore(&names[..1], [0]).await;
    assert!(repository.release(&names[0]).await.unwrap());
    assert!(!repository.release(&names[0]).await.unwrap());
    assert_eq!(lab.gc(&newest_only()).await.unwrap().retired, names[..1]);
}

#[tokio::test]
async fn a_reason_is_for_those_who_hold_a_key_and_its_length_says_little() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    let repository = &lab.test.repository;
    repository.hold(&names[0], "the incident").await.unwrap();
    repository.hold(&names[1], "").await.unwrap();
    let (one, two) = (names[0].hold_key(), names[1].hold_key());
    let get = |key: String| {
        let memory = lab.memory.clone();
        async move { memory.get(&key, 1 << 20).await.unwrap() }
    };
    let bytes = get(one.clone()).await;
    assert!(!bytes.windows(8).any(|window| window == b"incident"));
    // A writer of another source reads neither.
    let writer = lab.identity.writer_key(Some(&"beta".parse().unwrap())).unwrap();
    let stranger = Repository { keyring: Keyring { writer, identity: None }, ..repository.clone() };
    assert!(matches!(stranger.hold_reason(&names[0]).await, Err(ArchiveError::Scope { .. })));
    // age adds a stanza of random length at times; the text itself is padded.
    assert!(bytes.len().abs_diff(get(two).await.len()) < 200);
    assert_eq!(repository.hold_reason(&names[1]).await.unwrap(), None);
    assert!(matches!(repository.hold(&names[0], &"x".repeat(1025)).await, Err(ArchiveError::Seal(_))));
    // Whatever is in it, it holds.
    lab.memory.overwrite(&one, "rubbish".into());
    assert_eq!(repository.hold_reason(&names[0]).await.unwrap(), None);
    lab.advance(30 * HOUR);
    assert!(lab.plan(&newest_only()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_hold_and_a_gc_at_the_same_time_do_not_miss_each_other() {
    // The gc is ahead: the hold finds nothing to be held.
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    lab.advance(30 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    let error = lab.test.repository.hold(&names[0], "").await.unwrap_err();
    assert!(
        matches!(error, ArchiveError::HeldTooLate { .. }) && error.hint().unwrap().contains("undelete"),
        "{error:?}"
    );
    assert_eq!(lab.count("holds/").await, 0);
    // The hold is ahead, after the plan: the gc says so.
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    lab.advance(30 * HOUR);
    let (held, key) = (names[0].hold_key(), names[0].key());
    let store = HookedStore::new(lab.memory.clone(), move |when, put, memory| {
        if when == When::Before && put.starts_with("trash/") {
            memory.overwrite(&held, "x".into());
        }
        assert!(!put.starts_with(&key));
        Vec::new()
    });
    let report = super::lab::gc(&lab.through(Arc::new(store)), &newest_only()).await.unwrap();
    assert_eq!(report.held_meanwhile, names[..1]);
    assert!(!report.is_complete());
}

#[tokio::test]
async fn a_hold_outlives_its_manifest_and_can_be_released() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 1).await;
    lab.test.repository.hold(&names[0], "").await.unwrap();
    lab.memory.delete(&names[0].key()).await.unwrap();
    let text = names[0].to_string();
    assert!(lab.test.repository.resolve(&text).await.is_err());
    assert_eq!(lab.test.repository.resolve_held(&text).await.unwrap(), names[0]);
    assert!(lab.test.repository.release(&names[0]).await.unwrap());
    assert!(lab.test.repository.resolve_held(&text).await.is_err());
}

#[tokio::test]
async fn tags_are_kept_in_the_manifest_and_keep_it() {
    let lab = Lab::new().await;
    let tag = |text: &str| text.parse::<tags::Tag>().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut names = Vec::new();
    for (content, list) in [("a", vec!["release", "v1.2"]), ("b", vec![]), ("c", vec!["v1.2"]), ("d", vec![])] {
        std::fs::write(file.path(), content).unwrap();
        let options = BackupOptions { tags: list.iter().map(|t| tag(t)).collect(), ..BackupOptions::default() };
        names.push(lab.test.backup_with("alpha", file.path(), &options).await.unwrap().manifest.name);
        lab.advance(HOUR);
    }
    let first = lab.test.repository.open_manifest(&names[0]).await.unwrap();
    assert_eq!(tags::of(&first), [tag("release"), tag("v1.2")]);
    lab.advance(30 * HOUR);
    let policy = Policy { keep_tags: vec![tag("v1.2")], ..Policy::NOTHING };
    let plan = lab.plan(&GcOptions { policy, ..newest_only() }).await.unwrap();
    let kept: Vec<bool> = plan.rows.iter().map(|row| row.verdict.keeps()).collect();
    assert_eq!(kept, [true, false, true, true]);
    assert_eq!(plan.rows[0].verdict, Verdict::Keep(vec![Reason::Tagged]));
    assert_eq!(lab.memory.list("holds/").await.unwrap(), []);
}
