//! Ends of msgpack values, and records of real states.

use hah_vault::snapshot::msgpack::{DEPTH_MAX, Malformed, Scanner};
use hah_vault::snapshot::records::{Form, Group, RECORD_LEN_MAX, Service};
use proptest::prelude::*;

use crate::support::msgpack::value;
use crate::support::state::{Owned, fixture, split};

/// The pieces joined where neighbours are both opaque or of one long record.
fn whole(pieces: &[Owned]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect()
}

fn records(pieces: &[Owned]) -> Vec<&[u8]> {
    pieces.iter().filter(|piece| matches!(piece, Owned::Record(_))).map(Owned::bytes).collect()
}

fn groups(name: &str) -> (Option<Form>, Vec<(Group, u64)>) {
    let split = split(&fixture(name), 4096);
    assert_eq!(split.tally.opaque_bytes, 0, "{name}");
    (split.form, split.tally.groups.into_iter().map(|(group, count)| (group, count.records)).collect())
}

#[test]
fn a_consul_state_has_the_records_that_its_server_wrote() {
    let expected = [
        (0, 35),
        (2, 71),
        (3, 4),
        (5, 2),
        (6, 5),
        (7, 1),
        (9, 1),
        (12, 1),
        (13, 1),
        (14, 1),
        (15, 1),
        (16, 25),
        (17, 10),
        (19, 4),
        (22, 1),
        (23, 1),
        (29, 1),
        (30, 1),
    ];
    let expected = expected.map(|(kind, records)| (Group::Type(kind), records)).to_vec();
    assert_eq!(groups("consul-02.snap"), (Some(Form::Msgpack(Service::Consul)), expected));
}

#[test]
fn a_nomad_state_has_the_records_that_its_server_wrote() {
    let expected = [
        (0, 3),
        (1, 6),
        (2, 12),
        (3, 12),
        (4, 12),
        (5, 1),
        (7, 6),
        (9, 8),
        (10, 5),
        (11, 1),
        (12, 3),
        (13, 1),
        (14, 1),
        (64, 2),
    ];
    let expected = expected.map(|(kind, records)| (Group::Type(kind), records)).to_vec();
    assert_eq!(groups("nomad-02.snap"), (Some(Form::Msgpack(Service::Nomad)), expected));
}

#[test]
fn a_vault_state_has_the_records_that_its_server_wrote() {
    let expected = [("auth", 6), ("core", 17), ("logical", 52), ("sys", 23)];
    let expected = expected.map(|(prefix, records)| (Group::Prefix(prefix.to_owned()), records)).to_vec();
    assert_eq!(groups("vault-02.snap"), (Some(Form::Protobuf), expected));
}

#[test]
fn slicing_does_not_matter() {
    for name in ["consul-02.snap", "nomad-02.snap", "vault-02.snap"] {
        let state = fixture(name);
        let expected = split(&state, usize::MAX);
        assert_eq!(whole(&expected.pieces), state);
        for slice_len in [1, 2, 3, 7, 63, 64, 65, 1000] {
            assert_eq!(split(&state, slice_len).pieces, expected.pieces, "{name}, {slice_len}");
        }
    }
}

#[test]
fn a_state_cut_anywhere_keeps_its_whole_records() {
    for name in ["consul-02.snap", "nomad-02.snap", "vault-02.snap"] {
        let state = fixture(name);
        let all = split(&state, usize::MAX).pieces;
        for cut in (0..state.len()).step_by(1009).chain(0..100) {
            let pieces = split(&state[..cut], 500).pieces;
            assert_eq!(whole(&pieces), &state[..cut]);
            let cut_off = usize::from(matches!(pieces.last(), Some(Owned::Opaque(_))));
            let kept = pieces.len() - cut_off;
            assert!(cut < 64 || pieces[..kept] == all[..kept], "{name} cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_record_makes_the_rest_opaque() {
    for (name, junk) in [("nomad-02.snap", &b"\x05\xc1"[..]), ("vault-02.snap", b"\x05\x12\x03abc")] {
        let state = fixture(name);
        let mut damaged = [&state[..], junk].concat();
        damaged.extend_from_slice(&state[1..]);
        for slice_len in [13, usize::MAX] {
            let pieces = split(&damaged, slice_len).pieces;
            assert_eq!(whole(&pieces), damaged);
            assert_eq!(records(&pieces), records(&split(&state, 4096).pieces), "{name}");
        }
    }
}

#[test]
fn other_states_are_opaque() {
    for state in [&b""[..], b"x", b"\x80", b"SQLite format 3\0", &[0; 5000], &[0x1f; 100], b"\x81\xa1"] {
        let split = split(state, 10);
        assert!(records(&split.pieces).is_empty());
        assert_eq!(whole(&split.pieces), state);
    }
}

#[test]
fn a_msgpack_state_that_looks_like_a_varint_is_told_from_an_entry() {
    let state = b"\x80\x05\x0a\x05\xa3abc";
    let split = split(state, 1);
    assert_eq!(split.form, Some(Form::Msgpack(Service::Nomad)));
    assert_eq!(records(&split.pieces), [&b"\x05\x0a"[..], b"\x05\xa3abc"]);
}

#[test]
fn long_records_come_in_parts() {
    let len = RECORD_LEN_MAX as u32;
    for bin_len in [len - 6, len - 5, len, 3 * len] {
        let long = [&[4, 0xc6], &bin_len.to_be_bytes()[..], &vec![9; bin_len as usize]].concat();
        let state = [b"\x80\x01\xc3", &long[..], b"\x01\xc2"].concat();
        let split = split(&state, 100_000);
        assert_eq!(whole(&split.pieces), state);
        let parts: Vec<_> = split.pieces.iter().filter(|piece| matches!(piece, Owned::Part { .. })).collect();
        assert_eq!(parts.is_empty(), long.len() <= RECORD_LEN_MAX);
        let ends = |piece: &&Owned| matches!(piece, Owned::Part { last: true, .. });
        let begins = |piece: &&Owned| matches!(piece, Owned::Part { first: true, .. });
        assert_eq!(parts.iter().position(|part| ends(part)), parts.len().checked_sub(1));
        assert_eq!(parts.iter().rposition(|part| begins(part)), (!parts.is_empty()).then_some(0));
        assert_eq!(split.tally.groups[&Group::Type(4)].bytes, long.len() as u64);
        assert_eq!(split.tally.opaque_bytes, 0);
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    assert_eq!(Scanner::new().push(&nested(DEPTH_MAX)), Ok(Some(DEPTH_MAX + 1)));
    assert_eq!(Scanner::new().push(&nested(DEPTH_MAX + 1)), Err(Malformed::TooDeep));
    assert_eq!(Scanner::new().push(b"\x92\xc1"), Err(Malformed::Never));
}

#[test]
fn counts_and_lengths_up_to_u32_are_believed_but_not_allocated() {
    for form in [0xdd, 0xdf, 0xc6, 0xdb, 0xc9] {
        let mut scanner = Scanner::new();
        assert_eq!(scanner.push(&[form, 0xff, 0xff, 0xff, 0xff]), Ok(None));
        for _ in 0..100 {
            assert_eq!(scanner.push(&[0xc0; 1000]), Ok(None));
        }
    }
}

proptest! {
    #[test]
    fn the_end_of_a_value_is_found_in_any_slices(value in value(), slice_len in 1_usize..20) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        let len = bytes.len();
        bytes.extend_from_slice(&[0xc1; 3]);
        let mut scanner = Scanner::new();
        let mut scanned = 0;
        for slice in bytes.chunks(slice_len) {
            match scanner.push(slice).unwrap() {
                None => scanned += slice.len(),
                Some(end) => {
                    scanned += end;
                    break;
                }
            }
        }
        prop_assert_eq!(scanned, len);
    }

    #[test]
    fn any_bytes_come_out_again(
        start in prop::sample::select(vec![&b""[..], b"\x80", b"\x81\xa9LastIndex\x05", b"\x0a\x0a\x03a/b\x12\x03xyz"]),
        rest in prop::collection::vec(any::<u8>(), 0..400),
        slice_len in 1_usize..100,
    ) {
        let state = [start, &rest].concat();
        prop_assert_eq!(whole(&split(&state, slice_len).pieces), state);
    }
}
