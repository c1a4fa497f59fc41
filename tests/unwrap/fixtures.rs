//! The real snapshots under `tests/fixtures`.

use std::path::{Path, PathBuf};

use hah_vault::pipeline::rewrap::{Rewrap, Rewrapper};
use hah_vault::pipeline::unwrap::{Expect, GzipEncoder};
use hah_vault::snapshot::tar::{Region, Walker};
use sha2::{Digest, Sha256};

use super::archive::{hex, unwrap, walk};

pub(super) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Names of all fixtures.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".snap"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 12);
    names
}

/// Hashes and sizes in the README, taken by other tools when the snapshots were made.
fn readme_says(name: &str, fact: &str) -> bool {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    readme.lines().any(|line| line.contains(&format!(" {name}")) && line.contains(fact))
}

#[test]
fn every_fixture_unwraps_and_verifies() {
    for name in names() {
        let original = fixture(&name);
        let (snapshot, stream, wrapping) = unwrap(&original[..], Expect::Any).unwrap();
        assert!(snapshot, "{name}");
        assert!(readme_says(&name, &hex(&Sha256::digest(&stream))), "{name}");
        assert_eq!(wrapping.original_len_bytes, original.len() as u64);
        assert_eq!(wrapping.original_sha256, <[u8; 32]>::from(Sha256::digest(&original)));

        let (summary, runs) = walk([&stream[..]]).unwrap();
        assert!(readme_says(&name, &format!("| {} | {} |", summary.raft.index, summary.raft.term)), "{name}");
        assert!(readme_says(&name, &format!("| {} |", summary.state_len_bytes)), "{name}");
        assert!(readme_says(&name, &hex(&summary.state_sha256)), "{name}");
        assert_eq!(summary.sealed, name.starts_with("vault"));
        assert_eq!(summary.raft.version, 1);
        assert_eq!(summary.raft.id == "bolt-snapshot", name.starts_with("vault"));
        let state = (Region::State, summary.state_len_bytes);
        assert!(runs.contains(&state), "{name}: {runs:?}");
    }
}

#[test]
fn every_fixture_rewraps_to_the_same_bytes() {
    for name in names() {
        let original = fixture(&name);
        let (_, stream, wrapping) = unwrap(&original[..], Expect::Snapshot).unwrap();
        let by_go_127 = name.contains("go127");
        let encoder = if by_go_127 { GzipEncoder::Unknown } else { GzipEncoder::GoTo126 };
        assert_eq!(wrapping.gzip.unwrap().encoder, encoder, "{name}");

        let mut rewrapper = Rewrapper::new(Vec::new(), Rewrap::GoTo126);
        rewrapper.write(&stream).unwrap();
        let (bytes, rewrapped) = rewrapper.finish().unwrap();
        assert_eq!(bytes == original, !by_go_127, "{name}");
        assert_eq!(rewrapped.len_bytes, bytes.len() as u64);
        assert_eq!(rewrapped.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }
}

#[test]
fn a_tar_without_gzip_is_a_snapshot_too() {
    let (_, stream, _) = unwrap(&fixture("consul-00.snap")[..], Expect::Any).unwrap();
    assert!(Walker::looks_like_snapshot(&stream));
    let (snapshot, same, wrapping) = unwrap(&stream[..], Expect::Snapshot).unwrap();
    assert!(snapshot);
    assert_eq!(same, stream);
    assert_eq!(wrapping.gzip, None);
    assert_eq!(wrapping.original_len_bytes, stream.len() as u64);
}

#[test]
fn raw_stores_a_snapshot_as_it_is() {
    let original = fixture("nomad-00.snap");
    let (snapshot, stream, wrapping) = unwrap(&original[..], Expect::Raw).unwrap();
    assert!(!snapshot);
    assert_eq!(stream, original);
    assert_eq!(wrapping.gzip, None);
    assert_eq!(wrapping.original_sha256, <[u8; 32]>::from(Sha256::digest(&original)));
}
