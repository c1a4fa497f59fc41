//! What is no snapshot, and odd gzips that are.

use hah_vault::pipeline::unwrap::{Expect, GzipEncoder, UnwrapError};

use super::archive::{gzip, members, pax, tar, unwrap, unwrap_error};

fn assert_stored_as_it_is(input: &[u8]) {
    let (snapshot, stream, wrapping) = unwrap(input, Expect::Any).unwrap();
    assert!(!snapshot);
    assert_eq!(stream, input);
    assert_eq!(wrapping.gzip, None);
    assert_eq!(wrapping.original_len_bytes, input.len() as u64);
    assert!(matches!(unwrap_error(input, Expect::Snapshot), UnwrapError::NotASnapshot { .. }));
}

#[test]
fn an_empty_input_is_an_error_whatever_is_expected() {
    for expect in [Expect::Any, Expect::Snapshot, Expect::Raw] {
        assert!(matches!(unwrap_error(b"", expect), UnwrapError::Empty));
    }
}

#[test]
fn other_files_are_stored_as_they_are() {
    assert_stored_as_it_is(b"x");
    assert_stored_as_it_is(b"some text\n");
    assert_stored_as_it_is(&[0; 100_000]);
    assert_stored_as_it_is(&gzip(b"some text\n"));
    assert_stored_as_it_is(&gzip(&b"long text\n".repeat(100_000)));
    assert_stored_as_it_is(&gzip(b""));
    let mut two = gzip(b"one");
    two.extend(gzip(b"two"));
    assert_stored_as_it_is(&two);
    assert_stored_as_it_is(&tar(&[("README", b"an ordinary tar".to_vec())]));
    assert_stored_as_it_is(&gzip(&tar(&[("README", b"an ordinary tar".to_vec())])));
    let mut with_pax = pax(b'x', &[("mtime", "1700000000.5")]);
    with_pax.extend(tar(&[("README", b"an ordinary tar".to_vec())]));
    assert_stored_as_it_is(&with_pax);
}

#[test]
fn a_server_error_in_place_of_a_snapshot_is_shown() {
    let error = unwrap_error(b"{\"errors\":[\"permission denied\"]}\n", Expect::Snapshot);
    assert_eq!(error.to_string(), "the input is not a Raft snapshot but text: {\"errors\":[\"permission denied\"]}");
    assert!(error.hint().is_some());
    let page = format!("<html>\n{}", "x".repeat(10_000));
    assert!(unwrap_error(page.as_bytes(), Expect::Snapshot).to_string().len() < 260);
    let error = unwrap_error(b"PK\x03\x04\0\0\0\0", Expect::Snapshot);
    assert_eq!(error.to_string(), "the input is not a Raft snapshot but binary data: 50 4b 03 04 00 00 00 00");
    let error = unwrap_error(&gzip(b"text"), Expect::Snapshot);
    assert_eq!(error.to_string(), "the input is not a Raft snapshot but gzip of something else");
}

#[test]
fn a_gzip_that_cannot_be_judged_points_to_raw() {
    for input in [
        &b"\x1f\x8b"[..],
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        b"\x1f\x8b\x09junk-junk",
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff",
    ] {
        for expect in [Expect::Any, Expect::Snapshot] {
            let error = unwrap_error(input, expect);
            assert!(matches!(error, UnwrapError::Unjudged { .. }), "{error}");
            assert!(error.hint().unwrap().contains("--raw"));
        }
        assert_eq!(unwrap(input, Expect::Raw).unwrap().1, input);
    }
}

#[test]
fn gzip_headers_with_all_fields_are_read() {
    let plain = tar(&members(b"state"));
    let deflated = gzip(&plain);
    let mut head = vec![0x1f, 0x8b, 8, 0x1f, 1, 2, 3, 4, 0, 3];
    head.extend_from_slice(b"\x05\0extra");
    head.extend_from_slice(b"name.tar\0a comment\0");
    let mut crc = flate2::Crc::new();
    crc.update(&head);
    let crc = crc.sum().to_le_bytes();
    head.extend_from_slice(&crc[..2]);
    let crc_at = head.len() - 2;
    head.extend_from_slice(&deflated[10..]);
    let (snapshot, stream, wrapping) = unwrap(&head[..], Expect::Snapshot).unwrap();
    assert!(snapshot && stream == plain);
    assert_eq!(wrapping.gzip.unwrap().encoder, GzipEncoder::Unknown);
    head[crc_at] ^= 1;
    assert!(matches!(unwrap_error(&head, Expect::Snapshot), UnwrapError::Unjudged { .. }));
}

#[test]
fn another_encoder_under_go_s_header_is_unknown() {
    let plain = tar(&members(&b"a state that compresses ".repeat(50_000)));
    let mut input = gzip(&plain);
    input[9] = 0xff;
    assert_eq!(input[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let (_, stream, wrapping) = unwrap(&input[..], Expect::Snapshot).unwrap();
    assert_eq!(stream, plain);
    assert_eq!(wrapping.gzip.unwrap().encoder, GzipEncoder::Unknown);
}
