//! Bringing back.

use super::lab::{HOUR, Lab, newest_only};
use crate::support::fault_store::{Fault, FaultStore, Rule};
use hah_vault::archive::gc::trash::UNDELETE_LIMIT;
use hah_vault::archive::gc::undelete::undelete;
use hah_vault::archive::{ArchiveError, GRACE};
use hah_vault::store::{Operation, Store};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn what_is_brought_back_restores_also_when_its_copy_is_gone() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 3).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(UNDELETE_LIMIT);
    let copy = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    assert_eq!(copy.undelete_until(), lab.memory.now().await.unwrap());
    let back = undelete(&lab.test.repository, &copy).await.unwrap();
    assert_eq!((back.name.time, &back.name.source), (names[0].time, &names[0].source));
    assert_ne!(back.name, names[0]);
    assert_eq!(lab.count("trash/").await, 2, "the copy stays");
    lab.assert_all_restore(std::slice::from_ref(&back.name), [0]).await;
    // The copy goes, the manifest is young and stays, and with it its packs.
    lab.advance(13 * HOUR);
    let report = lab.gc(&newest_only()).await.unwrap();
    assert_eq!((report.trash.count, report.packs.count, report.retired.len()), (2, 1, 0));
    lab.assert_all_restore(std::slice::from_ref(&back.name), [0]).await;
    // It is no parent while it is young: by its name it was committed late.
    assert_eq!(lab.test.backup_bytes("alpha", b"x").await.unwrap().manifest.parent, Some(names[2].clone()));
}

#[tokio::test]
async fn after_half_the_grace_it_is_too_late() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(UNDELETE_LIMIT + Duration::from_millis(1));
    let copy = lab.test.repository.resolve_trash(names[0].stem().as_str()).await.unwrap();
    let error = undelete(&lab.test.repository, &copy).await.unwrap_err();
    assert!(matches!(error, ArchiveError::UndeleteTooLate { .. }), "{error:?}");
    // A copy put later, under a name that tells an earlier time: the earlier counts.
    lab.memory.overwrite(&copy.name.key(), lab.memory.get(&copy.name.key(), 1 << 20).await.unwrap());
    let copy = lab.test.repository.resolve_trash(&copy.name.to_string()).await.unwrap();
    assert!(undelete(&lab.test.repository, &copy).await.is_err());
    assert_eq!(lab.count("manifests/").await, 1);
}

#[tokio::test]
async fn without_its_packs_it_does_not_come_back() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    let copy = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    for prefix in ["packs/", "index/"] {
        // Only after the put, and before.
        for skip in [1, 0] {
            let store = Arc::new(FaultStore::new(lab.memory.clone()));
            let fault = Fault::Hide(prefix.into());
            store.rule(Rule { operation: Operation::List, key_part: prefix.into(), skip, times: 1, fault });
            let error = undelete(&lab.through(store), &copy).await.unwrap_err();
            assert!(matches!(error, ArchiveError::Vanished { .. }), "{error:?}");
            assert_eq!(lab.count("manifests/").await, 1);
        }
    }
}

#[tokio::test]
async fn a_put_that_comes_late_is_withdrawn() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    lab.advance(UNDELETE_LIMIT - Duration::from_secs(60));
    let copy = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    let memory = lab.memory.clone();
    let store = crate::support::hooked_store::HookedStore::new(memory, |when, key, memory| {
        if key.starts_with("manifests/") && when == crate::support::hooked_store::When::Before {
            memory.advance_ms(61_000);
        }
        Vec::new()
    });
    let error = undelete(&lab.through(Arc::new(store)), &copy).await.unwrap_err();
    assert!(matches!(error, ArchiveError::UndeleteTooLate { .. }), "{error:?}");
    assert_eq!(lab.count("manifests/").await, 1);
}

#[tokio::test]
async fn a_damaged_copy_and_an_unknown_name_are_named() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 3).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    let copy = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    let other = lab.test.repository.resolve_trash(&names[1].to_string()).await.unwrap();
    // Another manifest's bytes are not this one's.
    lab.memory.overwrite(&copy.name.key(), lab.memory.get(&other.name.key(), 1 << 20).await.unwrap());
    let error = undelete(&lab.test.repository, &copy).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Manifest { .. }), "{error:?}");
    for text in ["", "beta", "alpha@latest", "alpha/20200101T000000Z-00000000.20200101T000000Z-00000000"] {
        let error = lab.test.repository.resolve_trash(text).await.unwrap_err();
        assert!(matches!(error, ArchiveError::NotInTrash { .. }), "{text}: {error:?}");
    }
    let error = lab.test.repository.resolve_trash("alpha/").await.unwrap_err();
    assert!(matches!(error, ArchiveError::Ambiguous { ref candidates, .. } if candidates.len() == 2), "{error:?}");
}

#[tokio::test]
async fn the_newest_of_several_copies_is_taken() {
    let lab = Lab::new().await;
    let names = lab.hourly("alpha", 2).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    let first = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    // As after a crash between the copy and the delete.
    lab.memory.overwrite(&names[0].key(), lab.memory.get(&first.name.key(), 1 << 20).await.unwrap());
    lab.advance(GRACE - HOUR);
    lab.advance(2 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    let second = lab.test.repository.resolve_trash(&names[0].to_string()).await.unwrap();
    assert_ne!(first.name, second.name);
    lab.advance(HOUR);
    let back = undelete(&lab.test.repository, &second).await.unwrap();
    lab.assert_all_restore(&[back.name], [0]).await;
}
