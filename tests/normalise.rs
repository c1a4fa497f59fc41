//! Map order put aside and put back.

use std::collections::HashSet;

use hah_vault::pipeline::normalise::{Denormaliser, Normaliser, NotesError};
use hah_vault::pipeline::regions::{REGIONS_MAX, Region, Regions};
use hah_vault::snapshot::records::RECORD_LEN_MAX;
use proptest::prelude::*;

use crate::support::msgpack::{Value, Width, next, str, value};
use crate::support::state::{Owned, fixture, normalise, restore, state};

/// Through both directions and back, with the checks that hold for every input.
fn round(state: &[u8], slice_len: usize) -> Vec<u8> {
    let normal = normalise(state, slice_len);
    assert_eq!(normal.bytes.len(), state.len());
    let restored = restore(&normal.bytes, &normal.notes, &normal.regions, slice_len).unwrap();
    assert!(restored == state, "restored bytes differ");
    let again = normalise(&normal.bytes, slice_len);
    assert!(again.bytes == normal.bytes, "the normal form is not its own normal form");
    assert_eq!(again.counts.reordered_maps, 0);
    normal.bytes
}

/// One record alone: its normal form, and the notes.
fn normal_form(record: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut record = record.to_vec();
    let mut normaliser = Normaliser::new();
    normaliser.record(&mut record);
    (record, normaliser.finish())
}

fn state_of(records: &[Vec<u8>]) -> Vec<u8> {
    [&[0x80], &records.concat()[..]].concat()
}

#[test]
fn real_states_come_back_and_hardly_anything_is_kept_as_it_is() {
    for (name, notes_len_max) in [("nomad-02.snap", 200), ("nomad-02-again.snap", 200), ("consul-02.snap", 35)] {
        let state = fixture(name);
        round(&state, 1000);
        let normal = normalise(&state, 1000);
        assert_eq!(normal.counts.as_is, 0);
        assert_eq!(normal.regions.regions().len(), 1);
        assert!(normal.notes.len() <= notes_len_max, "{name}: {}", normal.notes.len());
    }
}

#[test]
fn an_unchanged_state_has_the_same_records_again() {
    for name in ["consul-02", "nomad-02"] {
        let [before, after] = ["", "-again"].map(|again| normalise(&fixture(&format!("{name}{again}.snap")), 5000));
        assert!(before.pieces == after.pieces, "{name}");
    }
}

#[test]
fn the_worked_example_of_the_notes_has_not_changed() {
    let map =
        |keys: [&str; 3]| Value::Map(Width::Fix, keys.map(|key| (str(key), Value::Leaf(vec![0x01]))).to_vec()).record();
    let state = state_of(&[
        map(["a", "b", "c"]),
        map(["b", "c", "a"]),
        map(["b", "a", "c"]),
        vec![7, 0x82, 0xa1, b'a', 1, 0xa1, b'a', 2],
    ]);
    let normal = normalise(&state, 7);
    assert_eq!(normal.notes, EXAMPLE_NOTES);
    round(&state, 7);
}

const EXAMPLE_NOTES: [u8; 5] = [0xbb, 0xd4, 0xac, 0xaa, 0x00];

#[test]
fn large_maps_come_back() {
    let mut seed = 1;
    for (entries, normalised) in [(257, true), (5_000, true), (65_535, true), (65_536, false), (100_000, false)] {
        let keys = (0..entries).map(|at: u32| Value::Leaf([&[0xce], &at.to_be_bytes()[..]].concat()));
        let map = Value::Map(Width::Fix, keys.map(|key| (key, Value::Leaf(vec![0xc0]))).collect());
        let records = [map.shuffled(&mut seed).record(), map.record(), map.shuffled(&mut seed).record()];
        assert!(records[0].len() <= RECORD_LEN_MAX);
        let state = state_of(&records);
        assert_eq!(round(&state, 50_000) != state, normalised, "{entries}");
    }
}

#[test]
fn many_key_sets_are_forgotten_alike_in_both_directions() {
    let mut seed = 2;
    let sets: Vec<Value> = (0..9_000)
        .map(|set: u32| {
            let keys = (0..3 + set % 5).map(|key| str(&format!("{set}.{key}")));
            Value::Map(Width::Fix, keys.map(|key| (key, Value::Leaf(vec![0xc0]))).collect())
        })
        .collect();
    let records: Vec<_> = (0..40_000)
        .map(|_| sets[(next(&mut seed) % 9_000 * (next(&mut seed) % 9_000) / 9_000) as usize].shuffled(&mut seed))
        .map(|value| value.record())
        .collect();
    round(&state_of(&records), 100_000);
}

#[test]
fn long_records_stay_as_they_are_even_when_they_end_in_junk() {
    let mut seed = 3;
    let entries = (0..5).map(|key| (str(&key.to_string()), str(&"x".repeat(30_000)))).collect();
    let long = Value::Array(Width::Fix, vec![Value::Map(Width::Fix, entries); 8]).shuffled(&mut seed).record();
    assert!(long.len() > RECORD_LEN_MAX);
    let small = Value::Map(Width::Fix, vec![(str("b"), str("1")), (str("a"), str("2"))]).record();
    let state = state_of(&[small.clone(), long.clone(), small]);
    let junk = [&state[..], &long[..long.len() - 50_000], &[0xc1; 9]].concat();
    for slice_len in [9_999, 2_000_000] {
        let normal = round(&state, slice_len);
        assert_ne!(normal, state);
        assert!(normal.windows(long.len()).any(|window| window == long));
        round(&junk, slice_len);
    }
}

#[test]
fn unsuitable_records_stay_as_they_are() {
    for value in [
        &b"\x82\xa1b\x01\xa1b\x02"[..],
        b"\x82\xa1b\x82\xa1z\x01\xa1a\x02\x90\x02",
        b"\x82\x80\x01\xa1a\x02",
        b"\x82\xc7\x00\x05\x01\xa1a\x02",
        b"\x82\xd4\x01\x02\x01\xa1a\x02",
    ] {
        let record = [&[1], value].concat();
        assert_eq!(normal_form(&record).0, record);
        assert_eq!(round(&state_of(&[record.clone(), record.clone()]), 3), state_of(&[record.clone(), record]));
    }
    for not_one_value in [&b""[..], b"\x01", b"\x01\x82\xa1b\x01", b"\x01\xc0\xc0", b"\x01\xdf\xff\xff\xff\xff"] {
        assert_eq!(normal_form(not_one_value).0, not_one_value);
    }
}

#[test]
fn equal_texts_in_different_encodings_are_different_keys() {
    let forms = [&b"\xa1k"[..], b"\xd9\x01k", b"\xda\x00\x01k", b"\xc4\x01k", b"\xc6\x00\x00\x00\x01k"];
    let entries = forms.map(|key| (Value::Leaf(key.to_vec()), Value::Leaf(key.to_vec()))).to_vec();
    let map = Value::Map(Width::Fix, entries);
    let normal: HashSet<_> = (0..50).map(|seed| normal_form(&map.shuffled(&mut { seed }).record()).0).collect();
    assert_eq!(normal.len(), 1);
}

#[test]
fn wrong_notes_are_told() {
    let normal = normalise(&fixture("nomad-02.snap"), 5000);
    let cut = &normal.notes[..normal.notes.len() - 1];
    assert!(matches!(restore(&normal.bytes, cut, &normal.regions, 999), Err(NotesError::Short)));
    let more = [&normal.notes[..], &[0]].concat();
    assert!(matches!(restore(&normal.bytes, &more, &normal.regions, 999), Err(NotesError::Long)));
    let cut = &normal.bytes[..normal.bytes.len() - 1];
    let mut regions = Regions::new();
    regions.verbatim(1);
    regions.records(cut.len() as u64 - 1);
    assert!(matches!(restore(cut, &normal.notes, &regions, 999), Err(NotesError::Cut)));
}

#[test]
fn no_records_have_no_notes() {
    assert!(Normaliser::new().finish().is_empty());
    Denormaliser::new(&[][..]).finish().unwrap();
    assert!(matches!(Denormaliser::new(&[0][..]).finish(), Err(NotesError::Long)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn records_come_back_and_shuffled_ones_have_the_same_normal_form(
        values in prop::collection::vec(value(), 1..8),
        mut seed in any::<u64>(),
        slice_len in 1_usize..200,
        tail in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut records: Vec<_> = values.iter().map(Value::record).collect();
        for value in &values {
            for _ in 0..3 {
                let shuffled = value.shuffled(&mut seed).record();
                if value.is_suitable() {
                    prop_assert_eq!(normal_form(&shuffled).0, normal_form(&value.record()).0);
                }
                records.push(shuffled);
            }
        }
        records.push(tail);
        round(&state_of(&records), slice_len);
    }

    #[test]
    fn any_bytes_come_back(
        start in prop::sample::select(vec![&b"\x80"[..], b"\x81\xa9LastIndex\x05", b"\x0a\x0a\x03a/b\x12\x03xyz", b""]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..0x86_u8, 0xa0..0xa2_u8, 0x60..0x63_u8], 0..600),
        slice_len in 1_usize..100,
    ) {
        round(&[start, &rest].concat(), slice_len);
    }

    #[test]
    fn any_bytes_as_a_record_come_back(
        rest in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..0x86_u8, 0xa0..0xa2_u8], 0..200),
    ) {
        let (normal, _) = normal_form(&rest);
        prop_assert_eq!(normal.len(), rest.len());
        prop_assert_eq!(&normal_form(&normal).0, &normal);
    }

    #[test]
    fn wrong_notes_never_panic(
        values in prop::collection::vec(value(), 1..8),
        notes in prop::collection::vec(any::<u8>(), 0..300),
        slice_len in 1_usize..100,
    ) {
        let normal = normalise(&state_of(&values.iter().map(Value::record).collect::<Vec<_>>()), 100);
        if let Ok(restored) = restore(&normal.bytes, &notes, &normal.regions, slice_len) {
            prop_assert_eq!(restored.len(), normal.bytes.len());
        }
    }

    #[test]
    fn damage_to_a_real_state_or_its_notes_never_panics(
        at in any::<prop::sample::Index>(),
        with in 1_u8..,
        in_notes in any::<bool>(),
    ) {
        let mut normal = normalise(&fixture("consul-02.snap"), 5000);
        let damaged = if in_notes { &mut normal.notes } else { &mut normal.bytes };
        let at = at.index(damaged.len());
        damaged[at] ^= with;
        if let Ok(restored) = restore(&normal.bytes, &normal.notes, &normal.regions, 5000) {
            prop_assert_eq!(restored.len(), normal.bytes.len());
        }
    }
}

#[test]
fn pieces_keep_their_kinds() {
    let normal = normalise(&fixture("nomad-02.snap"), 5000);
    assert!(matches!(normal.pieces.first(), Some(Owned::Opaque(header)) if header == &[0x80]));
    assert!(normal.pieces[1..].iter().all(|piece| matches!(piece, Owned::Record(_))));
}

/// `HAH_VAULT_SERIES=/path/to/series cargo test --test suite a_series`
#[test]
fn a_series_of_real_states_comes_back() {
    let Some(series) = std::env::var_os("HAH_VAULT_SERIES") else {
        println!("SKIPPED: HAH_VAULT_SERIES names no folder of real snapshots");
        return;
    };
    let mut folders = vec![std::path::PathBuf::from(series)];
    let mut states = 0;
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "snap") {
                round(&state(&path), 65_536);
                states += 1;
            }
        }
    }
    assert!(states > 0);
}

#[test]
fn notes_that_cannot_be_read_are_told_as_such() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    let mut denormaliser = Denormaliser::new(std::io::BufReader::new(Broken));
    let pushed = denormaliser.push(b"\x01\xc0", &mut Vec::new());
    assert!(matches!(pushed, Err(NotesError::Read(_))));
}

#[test]
fn adjacent_stretches_of_records_are_one_region() {
    let mut regions = Regions::new();
    regions.records(0);
    regions.verbatim(10);
    regions.records(3);
    regions.records(4);
    regions.verbatim(0);
    regions.records(5);
    regions.verbatim(1);
    regions.records(6);
    let expected = [Region { offset: 10, len: 12 }, Region { offset: 23, len: 6 }];
    assert_eq!(regions.regions(), expected);
    while regions.regions().len() < REGIONS_MAX {
        assert!(regions.has_room());
        regions.verbatim(1);
        regions.records(1);
    }
    assert!(regions.has_room());
    regions.verbatim(1);
    assert!(!regions.has_room());
}
