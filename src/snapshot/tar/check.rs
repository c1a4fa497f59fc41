//! The checks over a whole archive: `SHA256SUMS` and `meta.json`.

use serde::Deserialize;

use super::error::{JsonFault, TarError};
use super::{Member, len_u64};

/// What `meta.json` says about the Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMeta {
    /// Version of the snapshot format, 1 today.
    pub version: u64,
    /// `<term>-<index>-<unix ms>` from Consul and Nomad, `bolt-snapshot` from Vault.
    pub id: String,
    /// The last log index that the snapshot contains.
    pub index: u64,
    /// The term of that index.
    pub term: u64,
}

/// What is known of a snapshot that passed all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// From `meta.json`.
    pub raft: RaftMeta,
    /// Length of `state.bin`.
    pub state_len_bytes: u64,
    /// SHA-256 of `state.bin`, equal to that in `SHA256SUMS`.
    pub state_sha256: [u8; 32],
    /// Whether there is a `SHA256SUMS.sealed`. Only the server that sealed it can check it.
    pub sealed: bool,
}

/// The fields of raft's `SnapshotMeta` that are read.
#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Version")]
    version: u64,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Index")]
    index: u64,
    #[serde(rename = "Term")]
    term: u64,
    #[serde(rename = "Size")]
    len_bytes: u64,
}

/// Reads `meta.json` and compares its size with `state.bin`.
pub(super) fn check_meta(meta: &[u8], state_len_bytes: u64) -> Result<RaftMeta, TarError> {
    let meta: Meta = serde_json::from_slice(meta).map_err(|error| TarError::Meta(JsonFault(error.to_string())))?;
    if meta.len_bytes != state_len_bytes {
        return Err(TarError::Size { state_len_bytes, meta_len_bytes: meta.len_bytes });
    }
    Ok(RaftMeta { version: meta.version, id: meta.id, index: meta.index, term: meta.term })
}

/// Checks that `SHA256SUMS` covers exactly `meta.json` and `state.bin`, with these hashes.
pub(super) fn check_sums(sums: &[u8], meta: &[u8; 32], state: &[u8; 32]) -> Result<(), TarError> {
    let text = std::str::from_utf8(sums).map_err(|_| TarError::Sums { reason: "not text" })?;
    let lines = text.strip_suffix('\n').ok_or(TarError::Sums { reason: "does not end with a newline" })?;
    let (mut meta_seen, mut state_seen) = (false, false);
    for line in lines.split('\n') {
        let (hash, name) = line.split_once("  ").ok_or(TarError::Sums { reason: "a malformed line" })?;
        let (seen, member, actual) = match name {
            "meta.json" => (&mut meta_seen, Member::Meta, meta),
            "state.bin" => (&mut state_seen, Member::State, state),
            _ => {
                return Err(TarError::Sums { reason: "a line for another file" });
            }
        };
        if std::mem::replace(seen, true) {
            return Err(TarError::Sums { reason: "two lines for one file" });
        }
        let expected = hash_from_hex(hash).ok_or(TarError::Sums { reason: "a malformed hash" })?;
        if expected != *actual {
            return Err(TarError::Hash { member: member.name() });
        }
    }
    match (meta_seen, state_seen) {
        (true, true) => Ok(()),
        (false, _) => Err(TarError::Sums { reason: "no line for meta.json" }),
        (true, false) => Err(TarError::Sums { reason: "no line for state.bin" }),
    }
}

/// 64 lower-case hexadecimal digits, as Go's `%x` writes them.
fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if len_u64(text.len()) != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(hash)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
