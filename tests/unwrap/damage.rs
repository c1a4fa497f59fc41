//! The oracle for damage: the exact stream or an error, never anything else.

use std::io::Read;

use hah_vault::pipeline::unwrap::{Expect, GzipEncoder, UnwrapError};
use proptest::prelude::*;

use super::archive::{gzip, members, tar, unwrap, unwrap_error, walk};
use super::fixtures::fixture;

#[test]
fn a_snapshot_cut_anywhere_is_an_error() {
    let original = fixture("consul-00.snap");
    for len in 0..original.len() {
        let expect = if len % 2 == 0 { Expect::Any } else { Expect::Snapshot };
        let error = unwrap_error(&original[..len], expect);
        let fits = match error {
            UnwrapError::Empty => len == 0,
            UnwrapError::Unjudged { .. } => len < 1000,
            UnwrapError::Truncated { len_bytes, place, .. } => {
                len_bytes == len as u64 && (place == "trailer") == (len >= original.len() - 8)
            }
            _ => false,
        };
        assert!(fits, "{len}: {error}");
        assert!(error.hint().is_some());
    }
    assert!(matches!(unwrap_error(&original[..1], Expect::Any), UnwrapError::Unjudged { .. }));
}

#[test]
fn a_tar_cut_anywhere_is_an_error() {
    let whole = tar(&members(b"a state of some bytes"));
    for len in 0..whole.len() {
        assert!(walk([&whole[..len]]).is_err(), "{len}");
    }
    assert!(walk([&whole[..]]).is_ok());
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing_in_the_stream() {
    let original = fixture("vault-00.snap");
    let (_, stream, _) = unwrap(&original[..], Expect::Snapshot).unwrap();
    let mut passed = Vec::new();
    // All bits of the header, the first blocks and the end; of the middle every 61st.
    let bits_len = original.len() * 8;
    let dense = |bit: &usize| *bit < 4096 || *bit > bits_len - 4096 || bit.is_multiple_of(61);
    for bit in (0..bits_len).filter(dense) {
        let mut flipped = original.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok((snapshot, flipped_stream, wrapping)) = unwrap(&flipped[..], Expect::Snapshot) else {
            continue;
        };
        assert!(snapshot && flipped_stream == stream, "bit {bit}");
        assert_eq!(wrapping.gzip.unwrap().encoder, GzipEncoder::Unknown, "bit {bit}");
        passed.push(bit);
    }
    // FTEXT, MTIME, XFL and OS.
    let header: Vec<usize> = passed.iter().copied().filter(|bit| *bit < 80).collect();
    assert_eq!(header, [24].into_iter().chain(32..80).collect::<Vec<usize>>());
    // A few in the deflate stream: the bits skipped in front of a stored block, and distances that lead to other copies of
    // the same bytes. The stream is the same, as asserted above; only the original gzip cannot be made again.
    assert!(passed.len() - header.len() < 64, "{passed:?}");
}

#[test]
fn error_text_after_the_snapshot_is_shown() {
    let mut input = fixture("consul-00.snap");
    input.extend_from_slice(b"rpc error: failed to read\r\n\x1b[2Jsnapshot: EOF\n");
    let error = unwrap_error(&input, Expect::Any);
    assert!(matches!(error, UnwrapError::AfterEnd { .. }));
    let message = error.to_string();
    assert!(message.ends_with("; the input ends with: [2Jsnapshot: EOF"), "{message}");
    assert!(!message.contains('\x1b'));
}

#[test]
fn error_text_in_place_of_the_rest_is_shown() {
    let mut input = fixture("consul-00.snap");
    input.truncate(9000);
    input.extend_from_slice(b"Unexpected response: failed to stream snapshot: connection lost\n");
    let message = unwrap_error(&input, Expect::Snapshot).to_string();
    assert!(message.ends_with("Unexpected response: failed to stream snapshot: connection lost"), "{message}");
}

#[test]
fn zeros_after_the_snapshot_are_an_error() {
    let mut input = fixture("consul-00.snap");
    input.push(0);
    assert!(matches!(unwrap_error(&input, Expect::Any), UnwrapError::AfterEnd { .. }));
    input.extend_from_slice(&[0; 511]);
    assert!(matches!(unwrap_error(&input, Expect::Any), UnwrapError::AfterEnd { .. }));
}

#[test]
fn a_second_snapshot_after_the_first_is_an_error() {
    let mut input = fixture("consul-00.snap");
    input.extend_from_slice(&fixture("consul-01.snap"));
    assert!(matches!(unwrap_error(&input, Expect::Any), UnwrapError::SecondMember));
}

#[test]
fn a_wrong_checksum_or_length_is_an_error() {
    let original = fixture("consul-00.snap");
    let trailer = original.len() - 8;
    let mut input = original.clone();
    input[trailer] ^= 1;
    assert!(matches!(unwrap_error(&input, Expect::Any), UnwrapError::Checksum));
    let mut input = original;
    input[trailer + 7] ^= 1;
    assert!(matches!(unwrap_error(&input, Expect::Any), UnwrapError::Length));
}

#[test]
fn a_bomb_is_refused() {
    let head = tar(&members(b""));
    let mut plain = head[..512].to_vec();
    plain.resize(160 << 20, 0);
    let bomb = gzip(&plain);
    assert!(bomb.len() < 200_000);
    assert!(matches!(unwrap_error(&bomb, Expect::Any), UnwrapError::Bomb { .. }));
}

#[test]
fn many_zeros_are_no_bomb() {
    let plain = tar(&members(&vec![0; 32 << 20]));
    let (snapshot, stream, _) = unwrap(&gzip(&plain)[..], Expect::Any).unwrap();
    assert!(snapshot && stream == plain);
}

#[test]
fn after_an_error_there_is_no_way_to_finish() {
    use hah_vault::pipeline::unwrap::Unwrap;
    let original = fixture("consul-00.snap");
    let mut unwrap = Unwrap::open(&original[..original.len() - 1], Expect::Any).unwrap();
    let mut buf = vec![0; 1 << 20];
    while unwrap.read(&mut buf).is_ok_and(|len| len > 0) {}
    assert!(unwrap.read(&mut buf).is_err());
    assert!(matches!(unwrap.finish(), Err(UnwrapError::Unfinished)));
    let early = Unwrap::open(&original[..], Expect::Any).unwrap();
    assert!(matches!(early.finish(), Err(UnwrapError::Unfinished)));
}

#[test]
fn a_reader_that_fails_is_an_error() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let original = fixture("consul-00.snap");
            if self.0 >= 9000 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            let len = buf.len().min(9000 - self.0);
            buf[..len].copy_from_slice(&original[self.0..self.0 + len]);
            self.0 += len;
            Ok(len)
        }
    }
    assert!(matches!(unwrap(Failing(0), Expect::Any), Err(UnwrapError::Read(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_unwrap_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 1..3000)) {
        let (_, stream, wrapping) = unwrap(&bytes[..], Expect::Any).unwrap_or_else(|error| {
            assert!(bytes.starts_with(&[0x1f, 0x8b]), "{error}");
            unwrap(&bytes[..], Expect::Raw).unwrap()
        });
        prop_assert_eq!(stream, bytes);
        prop_assert_eq!(wrapping.gzip, None);
    }

    #[test]
    fn damaged_stretches_never_give_other_bytes(
        at in 0usize..18_000, noise in proptest::collection::vec(any::<u8>(), 1..64)
    ) {
        let original = fixture("consul-00.snap");
        let mut input = original.clone();
        for (to, from) in input.iter_mut().skip(at).zip(&noise) {
            *to = *from;
        }
        if let Ok((true, stream, _)) = unwrap(&input[..], Expect::Any) {
            prop_assert_eq!(stream, unwrap(&original[..], Expect::Any).unwrap().1);
        }
    }
}
