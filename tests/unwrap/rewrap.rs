//! Wrappers put on again.

use std::io::Read;

use flate2::read::GzDecoder;
use hah_vault::pipeline::rewrap::{Rewrap, Rewrapped, Rewrapper};
use hah_vault::pipeline::unwrap::{Expect, GzipEncoder};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::archive::{members, tar, unwrap};
use super::fixtures::fixture;

fn rewrap<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, mode: Rewrap) -> Vec<u8> {
    let mut rewrapper = Rewrapper::new(Vec::new(), mode);
    for piece in pieces {
        rewrapper.write(piece).unwrap();
    }
    let (bytes, rewrapped) = rewrapper.finish().unwrap();
    assert_eq!(rewrapped, Rewrapped { len_bytes: bytes.len() as u64, sha256: Sha256::digest(&bytes).into() });
    bytes
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// Bytes that do not compress, the same each time.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

#[test]
fn pieces_of_any_length_give_go_s_bytes() {
    let original = fixture("nomad-00.snap");
    let (_, stream, _) = unwrap(&original[..], Expect::Snapshot).unwrap();
    for piece_len in [1, 511, 512, 4096, 32 * 1024, 65_535, 1 << 20] {
        assert!(rewrap(stream.chunks(piece_len), Rewrap::GoTo126) == original, "{piece_len}");
    }
}

/// Go's encoder misses this match, at the far end of its window, if a write ends just before it.
#[test]
fn pieces_cut_at_the_window_s_edge_give_go_s_bytes() {
    let mut stream = noise(200_000);
    stream.copy_within(65_274 - 32_600..65_274 - 32_560, 65_274);
    let whole = rewrap([&stream[..]], Rewrap::GoTo126);
    for len in [65_000, 65_273, 65_274, 65_275, 65_400, 65_534, 65_535, 65_536, 65_537] {
        let (first, rest) = stream.split_at(len);
        assert!(rewrap([first, rest], Rewrap::GoTo126) == whole, "{len}");
    }
    assert!(gunzip(&whole) == stream);
}

#[test]
fn a_long_go_stream_is_recognised_by_its_beginning() {
    let plain = tar(&members(&[noise(1_200_000), b"text ".repeat(1000)].concat()));
    let wrapped = rewrap([&plain[..]], Rewrap::GoTo126);
    let (_, stream, wrapping) = unwrap(&wrapped[..], Expect::Snapshot).unwrap();
    assert!(stream == plain);
    assert_eq!(wrapping.gzip.unwrap().encoder, GzipEncoder::GoTo126);
}

#[test]
fn fast_stores_what_does_not_compress_and_compresses_the_rest() {
    let noise = noise(1_000_000);
    let wrapped = rewrap([&noise[..]], Rewrap::Fast);
    assert!(gunzip(&wrapped) == noise);
    assert!(wrapped.len() < noise.len() + 200);

    let text = b"a text that comes again and again, ".repeat(30_000);
    let mixed = [&text[..], &noise, &text].concat();
    let wrapped = rewrap([&mixed[..]], Rewrap::Fast);
    assert!(gunzip(&wrapped) == mixed);
    // The segments at the borders are judged as a whole.
    assert!(wrapped.len() < noise.len() + 4 * 256 * 1024 / 3, "{}", wrapped.len());
}

#[test]
fn both_ends_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Rewrapper<Vec<u8>>>();
    assert_send::<hah_vault::pipeline::unwrap::Unwrap<std::fs::File>>();
    assert_send::<hah_vault::snapshot::tar::Walker>();
}

#[test]
fn none_writes_the_stream_as_it_is() {
    assert_eq!(rewrap([&b"one"[..], b"", b"two"], Rewrap::None), b"onetwo");
    assert_eq!(rewrap([], Rewrap::None), b"");
}

#[test]
fn an_empty_stream_is_wrapped_as_go_does() {
    // What Go 1.19 writes for gzip.NewWriter(w).Close().
    let empty = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\0\0\xff\xff\0\0\0\0\0\0\0\0";
    assert_eq!(rewrap([], Rewrap::GoTo126), empty);
    assert_eq!(rewrap([], Rewrap::Fast), empty);
}

#[test]
fn a_writer_that_fails_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for mode in [Rewrap::GoTo126, Rewrap::Fast, Rewrap::None] {
        let mut rewrapper = Rewrapper::new(Full, mode);
        let written = rewrapper.write(b"some bytes");
        assert!(written.is_err() || rewrapper.finish().is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_stream_comes_back(
        parts in proptest::collection::vec((any::<u8>(), 1usize..200_000, any::<bool>()), 0..6),
        piece_len in 1usize..300_000,
    ) {
        let stream: Vec<u8> = parts.iter().flat_map(|(byte, len, noisy)| {
            if *noisy { noise(*len) } else { vec![*byte; *len] }
        }).collect();
        for mode in [Rewrap::GoTo126, Rewrap::Fast] {
            let wrapped = rewrap(stream.chunks(piece_len), mode);
            prop_assert!(gunzip(&wrapped) == stream);
        }
    }
}
