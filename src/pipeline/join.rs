//! Joining small records to chunks, so that a change stays where it is.
//!
//! Whether a chunk ends after a record is decided by that record alone: a keyed hash of its identity, weighed with its
//! length. So a changed record moves no boundary but its own, and a record that comes or goes touches one chunk. This is
//! policy of the writer; readers never depend on it. Measured targets: see `TARGET_LEN`.

use crate::snapshot::records::{Form, vault_key};
use zeroize::Zeroizing;

/// Records shorter than this are joined to about this length, by default.
///
/// Stored per further snapshot of the measured series (zstd -3, 19 bytes of index per new chunk, 8 bytes of manifest per
/// extent), for targets 0, 256, 512, 1024 and 2048: Vault 48.8, 51.8, 58.7, 91.2, 169.7 KB; Consul 41.4, 41.5, 42.5, 49.1,
/// 84.1 KB; Nomad 38.7, 38.8, 41.5, 45.0, 50.9 KB. So 256 costs next to nothing, and bounds the number of chunks where
/// records are tiny.
pub const TARGET_LEN: u32 = 256;
/// A chunk of joined records ends at the latest at so many times the target.
const LEN_MAX_TARGETS: u64 = 8;
/// The largest target: 64 KiB, for states of 32 GiB and more.
const TARGET_LEN_MAX: u32 = 64 << 10;
/// So much of the start of a msgpack record, normalised, stands for its identity: the keys of structs ascend, so that
/// these bytes hold `CreateIndex` and `ID`, `Key` or the like rather than what changes.
const IDENTITY_LEN_MAX: usize = 64;

/// The target for a state of this length: [`TARGET_LEN`], doubled until the chunks are within
/// [`CHUNKS_MAX`](super::split::CHUNKS_MAX).
pub fn target_len(state_len_bytes: u64) -> u32 {
    let mut target = TARGET_LEN;
    while state_len_bytes / u64::from(target) > super::split::CHUNKS_MAX && target < TARGET_LEN_MAX {
        target *= 2;
    }
    target
}

/// Where chunks end around a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// The chunk of the records before it ends here, if there is one open.
    pub before: bool,
    /// The chunk ends with this record.
    pub after: bool,
}

/// Decides where chunks end in a run of records.
pub struct Joiner {
    key: Zeroizing<[u8; 32]>,
    target_len: u32,
    /// Length of the chunk that is open.
    open_len: u64,
}

impl std::fmt::Debug for Joiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joiner").field("target_len", &self.target_len).finish_non_exhaustive()
    }
}

impl Joiner {
    /// `key` keeps the boundaries from telling anything about the records; with a target of 0 every record is a chunk.
    pub fn new(key: &[u8; 32], target_len: u32) -> Self {
        Self { key: Zeroizing::new(*key), target_len, open_len: 0 }
    }

    /// Decides for the next record, in the form in which it is stored.
    pub fn record(&mut self, form: Form, record: &[u8]) -> Cuts {
        let len = record.len() as u64;
        let target = u64::from(self.target_len);
        if len >= target {
            let before = self.open_len > 0;
            self.open_len = 0;
            return Cuts { before, after: true };
        }
        self.open_len += len;
        // The chance is len / target_len, so that chunks are target_len long on average whatever the records' lengths.
        let after =
            u64::from(self.hash(form, record)) * target < len << 32 || self.open_len >= target * LEN_MAX_TARGETS;
        if after {
            self.open_len = 0;
        }
        Cuts { before: false, after }
    }

    /// Something else than a whole record follows; true if a chunk is open, which ends here.
    pub fn interrupt(&mut self) -> bool {
        std::mem::take(&mut self.open_len) > 0
    }

    /// BLAKE3 takes some 60 ns for so few bytes, and only records below the target come here.
    fn hash(&self, form: Form, record: &[u8]) -> u32 {
        let identity = match form {
            Form::Protobuf => vault_key(record).unwrap_or(record),
            Form::Msgpack(_) => record.get(..IDENTITY_LEN_MAX).unwrap_or(record),
        };
        let hash = blake3::keyed_hash(&self.key, identity);
        let [a, b, c, d, ..] = *hash.as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}
