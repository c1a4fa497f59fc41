//! `repair`: what can be mended is, and nothing is thrown away.

use crate::support::repo::{TestRepository, fixture};
use hah_vault::archive::Cancel;
use hah_vault::archive::repair::{Action, Outcome, RepairOptions, execute, plan};
use hah_vault::archive::verify::{VerifyOptions, verify};
use hah_vault::pipeline::seal;
use hah_vault::store::{MemoryStore, Store, StoreTime};
use hah_vault_format::{Index, Manifest, ObjectId};
use std::sync::Arc;

async fn repository() -> (Arc<MemoryStore>, TestRepository) {
    let memory = Arc::new(MemoryStore::new());
    memory.set_now(StoreTime { unix_ms: 1_795_361_015_000 });
    let test = TestRepository::create(memory.clone()).await;
    let identity = test.repository.keyring.identity.clone().unwrap();
    let (_, reader) = hah_vault::keys::generate_reader(identity.id());
    memory.put_if_absent("keys/alice.age", identity.wrap(&reader).unwrap().into()).await.unwrap();
    (memory, test)
}

async fn backup(memory: &MemoryStore, test: &TestRepository, source: &str, name: &str) -> Manifest {
    memory.advance_ms(60_000);
    test.backup(source, &fixture(name)).await.unwrap().manifest
}

async fn flip(memory: &MemoryStore, key: &str) {
    let mut bytes = memory.get(key, u64::MAX).await.unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    memory.overwrite(key, bytes.into());
}

async fn index(test: &TestRepository, manifest: &Manifest, id: &ObjectId) -> Index {
    let bytes = test.repository.store.get(&id.index_key(), u64::MAX).await.unwrap();
    seal::open_index(&bytes, id, &test.repository.source_keys(&manifest.name.source).unwrap()).unwrap()
}

/// Plans, does it all, and says what was done.
async fn repair(test: &TestRepository, options: &RepairOptions<'_>) -> Vec<(Action, Outcome)> {
    let (plan, _) = plan(&test.repository, options, &Cancel::default()).await.unwrap();
    let mut done = Vec::new();
    for action in plan.actions {
        let outcome = execute(&test.repository, &action, &Cancel::default()).await.unwrap();
        done.push((action, outcome));
    }
    done
}

async fn is_clean(test: &TestRepository) -> bool {
    let options = VerifyOptions { read_data: Some(100), ..VerifyOptions::default() };
    !verify(&test.repository, &options, &Cancel::default()).await.unwrap().is_damaged()
}

#[tokio::test]
async fn an_index_is_made_again_as_its_writer_made_it() {
    for kind in ["vault", "consul", "nomad"] {
        let (memory, test) = repository().await;
        backup(&memory, &test, kind, &format!("{kind}-00.snap")).await;
        let manifest = backup(&memory, &test, kind, &format!("{kind}-01.snap")).await;
        for pack in &manifest.packs {
            let before = index(&test, &manifest, &pack.id).await;
            memory.delete(&pack.id.index_key()).await.unwrap();
            let done = repair(&test, &RepairOptions::default()).await;
            assert_eq!(done.len(), 1, "{done:?}");
            assert_eq!(done[0].1, Outcome::Done { set_aside: None });
            let after = index(&test, &manifest, &pack.id).await;
            assert_eq!(after, before, "{kind}");
        }
        assert!(is_clean(&test).await);
        let next = backup(&memory, &test, kind, &format!("{kind}-02.snap")).await;
        assert!(next.packs.iter().any(|pack| manifest.packs.iter().any(|old| old.id == pack.id)), "it is reused");
        test.restore(&next.name).await.unwrap();
    }
}

#[tokio::test]
async fn an_index_is_made_again_when_the_snapshot_that_made_it_is_gone() {
    let (memory, test) = repository().await;
    let maker = backup(&memory, &test, "consul", "consul-00.snap").await;
    let manifest = backup(&memory, &test, "consul", "consul-01.snap").await;
    let id = maker.packs[0].id;
    let before = index(&test, &manifest, &id).await;
    memory.delete(&maker.name.key()).await.unwrap();
    memory.delete(&id.index_key()).await.unwrap();
    repair(&test, &RepairOptions::default()).await;
    let after = index(&test, &manifest, &id).await;
    // What nobody uses any more is cut otherwise; what is used is found again.
    let kept = before.chunks.iter().filter(|chunk| after.chunks.contains(chunk)).count();
    assert!(kept * 2 > before.chunks.len() && kept < before.chunks.len(), "{kept} of {}", before.chunks.len());
    let data = VerifyOptions { read_data: Some(100), ..VerifyOptions::default() };
    let report = verify(&test.repository, &data, &Cancel::default()).await.unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    memory.advance_ms(60_000);
    let next = test.backup("consul", &fixture("consul-01.snap")).await.unwrap().manifest;
    assert_eq!(next.counts.chunks_new, 0, "every chunk is found again");
}

#[tokio::test]
async fn an_index_of_any_bytes_is_made_again_too() {
    let (memory, test) = repository().await;
    let mut bytes = vec![0; 300_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let manifest = test.backup_bytes("noise", &bytes).await.unwrap().manifest;
    let id = manifest.packs[0].id;
    let before = index(&test, &manifest, &id).await;
    flip(&memory, &id.index_key()).await;
    let done = repair(&test, &RepairOptions::default()).await;
    let Outcome::Done { set_aside: Some(aside) } = &done[0].1 else { panic!("{done:?}") };
    assert!(aside.starts_with(&format!("broken/index/{id}.damaged.20261122T")), "{aside}");
    assert!(memory.stat(aside).await.unwrap().is_some());
    assert_eq!(index(&test, &manifest, &id).await, before);
    assert!(is_clean(&test).await);
}

#[tokio::test]
async fn without_an_identity_no_index_is_made_and_that_is_said() {
    let (memory, mut test) = repository().await;
    let manifest = backup(&memory, &test, "vault", "vault-00.snap").await;
    memory.delete(&manifest.packs[0].id.index_key()).await.unwrap();
    test.repository.keyring.identity = None;
    let (plan, _) = plan(&test.repository, &RepairOptions::default(), &Cancel::default()).await.unwrap();
    assert_eq!((plan.actions.len(), plan.left.len()), (0, 1));
    assert!(plan.left[0].1.contains("identity"));
}

#[tokio::test]
async fn a_damaged_pack_is_set_aside_and_the_next_backup_heals() {
    let (memory, test) = repository().await;
    let first = backup(&memory, &test, "consul", "consul-00.snap").await;
    backup(&memory, &test, "consul", "consul-01.snap").await;
    let key = first.packs[0].id.pack_key();
    flip(&memory, &key).await;
    let damaged = memory.get(&key, u64::MAX).await.unwrap();
    let done = repair(&test, &RepairOptions { read_data: true, ..RepairOptions::default() }).await;
    let Outcome::Done { set_aside: Some(aside) } = &done[0].1 else { panic!("{done:?}") };
    assert!(memory.stat(&key).await.unwrap().is_none());
    assert_eq!(memory.get(aside, u64::MAX).await.unwrap(), damaged);
    let third = backup(&memory, &test, "consul", "consul-02.snap").await;
    let (bytes, _) = test.restore(&third.name).await.unwrap();
    assert!(bytes == std::fs::read(fixture("consul-02.snap")).unwrap());
    // The old snapshots stay damaged, until somebody gives them up.
    let report = verify(&test.repository, &VerifyOptions::default(), &Cancel::default()).await.unwrap();
    let damaged: Vec<_> = report.affected.into_iter().map(|affected| affected.name).collect();
    assert_eq!(damaged.len(), 2);
    assert!(repair(&test, &RepairOptions::default()).await.is_empty());
    let give_up = damaged.into_iter().collect();
    assert_eq!(repair(&test, &RepairOptions { give_up, ..RepairOptions::default() }).await.len(), 2);
    assert!(is_clean(&test).await, "what was set aside is not missed");
}

#[tokio::test]
async fn a_broken_manifest_is_set_aside_and_a_sound_or_newer_one_is_not() {
    let (memory, test) = repository().await;
    let first = backup(&memory, &test, "vault", "vault-00.snap").await;
    let second = backup(&memory, &test, "vault", "vault-01.snap").await;
    flip(&memory, &first.name.key()).await;
    let (plan, _) = plan(&test.repository, &RepairOptions::default(), &Cancel::default()).await.unwrap();
    assert_eq!(plan.actions.len(), 1);
    // Put right before it is done.
    flip(&memory, &first.name.key()).await;
    assert_eq!(execute(&test.repository, &plan.actions[0], &Cancel::default()).await.unwrap(), Outcome::Sound);
    flip(&memory, &first.name.key()).await;
    let done = repair(&test, &RepairOptions::default()).await;
    let Outcome::Done { set_aside: Some(aside) } = &done[0].1 else { panic!("{done:?}") };
    assert!(aside.starts_with(&format!("broken/manifests/{}.unreadable.", first.name)), "{aside}");
    assert_eq!(test.manifests().await, std::slice::from_ref(&second.name));
    assert!(is_clean(&test).await);
    // A sound one is not given up, even by name.
    let give_up = [second.name.clone()].into();
    assert!(repair(&test, &RepairOptions { give_up, ..RepairOptions::default() }).await.is_empty());
}

#[tokio::test]
async fn repository_json_is_written_again() {
    for damage in ["gone", "wrong"] {
        let (memory, test) = repository().await;
        let before = memory.get("repository.json", 4096).await.unwrap();
        memory.delete("repository.json").await.unwrap();
        if damage == "wrong" {
            memory.overwrite("repository.json", "{}".into());
        }
        let done = repair(&test, &RepairOptions::default()).await;
        assert!(
            matches!(&done[0], (Action::WriteHint { .. }, Outcome::Done { set_aside }) if set_aside.is_some() == (damage == "wrong"))
        );
        assert_eq!(memory.get("repository.json", 4096).await.unwrap().len(), before.len());
        assert!(is_clean(&test).await);
    }
}
