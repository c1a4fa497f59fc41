//! Snapshots with other states than the fixtures.

use super::repo::fixture;
use super::state::{Owned, split, state};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::io::Write;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A snapshot's tar with any state in it, sound in every other respect.
pub fn archive(state: &[u8]) -> Vec<u8> {
    let meta =
        format!(r#"{{"Version":1,"ID":"2-15-1700000000000","Index":15,"Term":2,"Size":{}}}"#, state.len()) + "\n";
    let sums =
        format!("{}  meta.json\n{}  state.bin\n", hex(&Sha256::digest(meta.as_bytes())), hex(&Sha256::digest(state)));
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [("meta.json", meta.as_bytes()), ("state.bin", state), ("SHA256SUMS", sums.as_bytes())] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A fixture's snapshot with only those records that `keep` says.
pub fn only(name: &str, keep: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let pieces = split(&state(&fixture(name)), 1 << 20).pieces;
    let kept = pieces.iter().filter(|piece| !matches!(piece, Owned::Record(record) if !keep(record)));
    let state: Vec<u8> = kept.flat_map(|piece| piece.bytes().to_vec()).collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&archive(&state)).unwrap();
    gzip.finish().unwrap()
}
