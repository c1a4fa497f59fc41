//! States of every shape are backed up and restored exactly: known ones, unknown ones, cut ones, odd ones.

use crate::support::msgpack::{Value, Width, next, str};
use crate::support::repo::{TestRepository, fixture};
use crate::support::snapshot::archive;
use crate::support::state::state;
use hah_vault::archive::restore::Exactness;
use hah_vault_format::Manifest;
use hah_vault_format::manifest::{Kind, Transform};
use proptest::prelude::*;

/// Backs a state up twice, the second time with a parent, and restores both exactly.
async fn there_and_back(state: &[u8]) -> Manifest {
    let test = TestRepository::in_memory().await;
    let archive = archive(state);
    let first = test.backup_bytes("state", &archive).await.unwrap().manifest;
    test.backup_bytes("state", &archive).await.unwrap();
    for name in test.repository.list_manifests(None).await.unwrap() {
        let (restored, report) = test.restore(&name.name).await.unwrap();
        assert!(restored == archive, "restored bytes differ");
        assert_eq!(report.exactness, Exactness::Exact);
    }
    assert_eq!(test.recorder.warnings(), Vec::<String>::new());
    first
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

#[tokio::test]
async fn a_state_of_an_unknown_shape_comes_back() {
    for (what, state) in [
        ("noise", noise(300_000, 1)),
        ("text", b"neither protobuf nor msgpack\n".repeat(3_000)),
        ("zeros", vec![0; 500_000]),
        ("0x80 only, an empty header", vec![0x80]),
        ("0x81, a header cut off", vec![0x81]),
        ("0xc1, malformed msgpack", vec![0xc1; 1000]),
        ("nothing", Vec::new()),
    ] {
        let manifest = there_and_back(&state).await;
        assert!(matches!(manifest.kind, Kind::Raft | Kind::Nomad), "{what}: {:?}", manifest.kind);
    }
}

#[tokio::test]
async fn a_state_cut_within_a_record_comes_back() {
    for file in ["vault-02.snap", "consul-02.snap", "nomad-02.snap"] {
        let whole = state(&fixture(file));
        let mut seed = 7;
        for _ in 0..6 {
            let len = usize::try_from(next(&mut seed) % whole.len() as u64).unwrap();
            there_and_back(&whole[..len]).await;
        }
    }
}

#[tokio::test]
async fn a_state_that_turns_into_something_else_comes_back_and_keeps_its_records() {
    for (file, kind) in
        [("vault-02.snap", Kind::Vault), ("consul-02.snap", Kind::Consul), ("nomad-02.snap", Kind::Nomad)]
    {
        let mut odd = state(&fixture(file));
        odd.extend(noise(100_000, 3));
        odd.extend(state(&fixture("nomad-00.snap")));
        assert_eq!(there_and_back(&odd).await.kind, kind, "{file}");
    }
}

fn map(entries: Vec<(Value, Value)>) -> Value {
    Value::Map(Width::Fix, entries)
}

#[tokio::test]
async fn records_longer_than_a_mebibyte_come_back() {
    let long = |byte: u8| {
        let mut bin32 = vec![0xc6, 0, 0x30, 0, 0];
        bin32.resize(5 + (3 << 20), byte);
        map(vec![(str("b"), Value::Leaf(bin32)), (str("a"), str("x"))])
    };
    let mut state = vec![0x80];
    for byte in [1, 2, 3] {
        state.extend(long(byte).record());
        state.extend(map(vec![(str("z"), str("1")), (str("y"), str("2"))]).record());
    }
    let manifest = there_and_back(&state).await;
    let Transform::MapOrder { regions, .. } = &manifest.transform else { panic!("no regions") };
    assert_eq!(regions.len(), 1);
    // Cut off within a long one.
    there_and_back(&state[..state.len() - (1 << 20)]).await;
    there_and_back(&state[..5 << 20]).await;
}

#[tokio::test]
async fn many_tiny_records_are_joined_and_come_back() {
    let mut state = vec![0x80];
    let mut seed = 1;
    for _ in 0..200_000 {
        let byte = u8::try_from(next(&mut seed) % 100).unwrap();
        state.extend([7, byte]);
    }
    let manifest = there_and_back(&state).await;
    assert_eq!(manifest.records.iter().map(|r| r.count).sum::<u64>(), 200_000);
    assert!(manifest.counts.chunks < 20_000, "{}", manifest.counts.chunks);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_state_comes_back(
        records in proptest::collection::vec(crate::support::msgpack::value(), 0..30),
        at: prop::sample::Index,
        damage in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut state = vec![0x80];
        for record in &records {
            state.extend(record.record());
        }
        let at = at.index(state.len());
        state.splice(at..at, damage);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(there_and_back(&state));
    }
}
