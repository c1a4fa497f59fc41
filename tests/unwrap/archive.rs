//! Archives made for the tests, and the ways to take them apart.

use std::io::{Read, Write};

use flate2::{Compression, write::GzEncoder};
use hah_vault::pipeline::unwrap::{Expect, Unwrap, UnwrapError, Wrapping};
use hah_vault::snapshot::tar::{Region, SnapshotSummary, TarError, Walker};
use sha2::{Digest, Sha256};

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn meta_json(state_len_bytes: usize) -> Vec<u8> {
    format!("{{\"Version\":1,\"ID\":\"2-7-1\",\"Index\":7,\"Term\":2,\"Peers\":null,\"Size\":{state_len_bytes}}}\n")
        .into()
}

pub(super) fn sums(meta: &[u8], state: &[u8]) -> Vec<u8> {
    let line = |name, bytes| format!("{}  {name}\n", hex(&Sha256::digest(bytes)));
    format!("{}{}", line("state.bin", state), line("meta.json", meta)).into()
}

/// The members of a sound snapshot with this state.
pub(super) fn members(state: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let meta = meta_json(state.len());
    let sums = sums(&meta, state);
    vec![("meta.json", meta), ("state.bin", state.to_vec()), ("SHA256SUMS", sums)]
}

/// A tar of these members by the `tar` crate, which knows nothing of ours.
pub(super) fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A header block with its checksum, made by hand: `len` is the size field as it stands.
pub(super) fn header(name: &str, kind: u8, len: &[u8; 12]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000600\0");
    block[124..136].copy_from_slice(len);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

/// Makes the checksum of a header block right.
pub(super) fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(super) fn octal(len: usize) -> [u8; 12] {
    format!("{len:011o}\0").into_bytes().try_into().unwrap()
}

/// A block-padded content.
pub(super) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(512), 0);
    padded
}

/// A PAX header for the next member, with these records.
pub(super) fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = String::new();
    for (key, value) in records {
        let rest_len = key.len() + value.len() + 3;
        let mut len = rest_len + 1;
        while len != rest_len + len.to_string().len() {
            len += 1;
        }
        payload.push_str(&format!("{len} {key}={value}\n"));
    }
    let mut bytes = header("PaxHeaders.0/state.bin", kind, &octal(payload.len())).to_vec();
    bytes.extend(padded(payload.as_bytes()));
    bytes
}

pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Walks `pieces` as one archive; returns the summary and the runs of regions.
pub(super) fn walk<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(SnapshotSummary, Vec<(Region, u64)>), TarError> {
    let mut walker = Walker::new();
    let mut runs: Vec<(Region, u64)> = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let (len, region) = walker.next(piece)?;
            assert!(len > 0 && len <= piece.len());
            match runs.last_mut() {
                Some((last, run_len)) if *last == region => *run_len += len as u64,
                _ => runs.push((region, len as u64)),
            }
            piece = &piece[len..];
        }
    }
    Ok((walker.finish()?, runs))
}

pub(super) fn walk_error(archive: &[u8]) -> String {
    walk([archive]).expect_err("a bad archive was accepted").to_string()
}

/// Unwraps all of it: whether it is a snapshot, the stream, and the wrapping.
pub(super) fn unwrap(input: impl Read, expect: Expect) -> Result<(bool, Vec<u8>, Wrapping), UnwrapError> {
    let mut unwrap = Unwrap::open(input, expect)?;
    let snapshot = unwrap.is_snapshot();
    let mut stream = Vec::new();
    let mut buf = vec![0; 64 * 1024];
    loop {
        match unwrap.read(&mut buf)? {
            0 => break,
            len => stream.extend_from_slice(&buf[..len]),
        }
    }
    Ok((snapshot, stream, unwrap.finish()?))
}

pub(super) fn unwrap_error(input: &[u8], expect: Expect) -> UnwrapError {
    unwrap(input, expect).expect_err("a bad input was accepted")
}
