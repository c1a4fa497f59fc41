//! What `verify` found, and what it proved.

use crate::store::Counts;
use hah_vault_format::{ManifestName, SourceName};
use std::collections::BTreeMap;
use std::fmt;

/// What is wrong with one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// Not in the store.
    Missing,
    /// Of another length than its manifest says.
    Length {
        /// What the store has.
        found_bytes: u64,
        /// What it should be.
        expected_bytes: u64,
    },
    /// Longer than the store's own listing says, or than any object of its kind.
    TooLong,
    /// Its bytes are not those that its name promises.
    Hash,
    /// Another object than the one that this host has seen under this name.
    Changed,
    /// It does not open, or is not authentic, or is not in canonical form.
    Unreadable,
    /// Written by a newer version.
    TooNew,
    /// An index that contradicts its pack or the manifests.
    Contradiction,
    /// An index whose chunk ids are not those of the pack's bytes.
    ChunkIds {
        /// Of how many chunks.
        chunks: usize,
    },
}

impl Flaw {
    /// The word for JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Length { .. } => "length",
            Self::TooLong => "too-long",
            Self::Hash => "hash",
            Self::Changed => "changed",
            Self::Unreadable => "unreadable",
            Self::TooNew => "too-new",
            Self::Contradiction => "contradiction",
            Self::ChunkIds { .. } => "chunk-ids",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Length { found_bytes, expected_bytes } => {
                write!(f, "{found_bytes} bytes long instead of {expected_bytes}")
            }
            Self::TooLong => f.write_str("longer than the store lists it"),
            Self::Hash => f.write_str("its bytes are not what its name promises"),
            Self::Changed => f.write_str("not the object that this host saw before"),
            Self::Unreadable => f.write_str("does not open"),
            Self::TooNew => f.write_str("written by a newer version"),
            Self::Contradiction => f.write_str("contradicts its pack"),
            Self::ChunkIds { chunks } => write!(f, "the ids of {chunks} chunks are not those of the pack's bytes"),
        }
    }
}

/// What mends a damaged object, as far as anything does. Snapshots that need the lost bytes stay damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healing {
    /// The next backup of the source stores again what is still current.
    NextBackup,
    /// The same, after `repair` has set the object aside: a backup cannot see this damage.
    RepairThenBackup,
    /// `repair` makes the object again, or sets it aside.
    Repair,
    /// Nothing: only a copy from elsewhere.
    Copy,
    /// Nothing is damaged: a newer program reads it.
    NewerProgram,
}

impl Healing {
    /// The word for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NextBackup => "next-backup",
            Self::RepairThenBackup => "repair-then-backup",
            Self::Repair => "repair",
            Self::Copy => "copy",
            Self::NewerProgram => "newer-program",
        }
    }
}

impl fmt::Display for Healing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NextBackup => "the next backup stores again what is still current of it",
            Self::RepairThenBackup => {
                "after `hah-vault repair` the next backup stores again what is still current of it"
            }
            Self::Repair => "`hah-vault repair` mends it",
            Self::Copy => "only a copy from elsewhere brings it back",
            Self::NewerProgram => "use a newer hah-vault",
        })
    }
}

/// A damaged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub flaw: Flaw,
    /// More about it, in words.
    pub detail: Option<String>,
    /// Snapshots that cannot be restored because of it.
    pub snapshots: usize,
    /// What mends it.
    pub healing: Healing,
}

/// A snapshot that cannot be restored as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// Its manifest.
    pub name: ManifestName,
    /// It is the newest of its source.
    pub is_newest: bool,
    /// Why, in words; at most [`REASONS_MAX`].
    pub reasons: Vec<String>,
}

/// Reasons that are told of one snapshot.
pub const REASONS_MAX: usize = 4;

/// A manifest that should be there and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its name.
    pub name: ManifestName,
    /// Who knows of it: the snapshot that was made upon it; none if this host remembers it.
    pub child: Option<ManifestName>,
    /// Nothing newer of the source is there: gc always keeps the newest, so the store was rolled back or somebody
    /// deleted it.
    pub is_newest: bool,
}

/// What became of the manifests that others name as parents, or that this host remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Gone, with a copy in the trash: gc.
    pub retired: usize,
    /// Gone for long enough that gc may have deleted the copy in the trash too. A store that hides them looks the same.
    pub expired: usize,
    /// Gone, and no gc that keeps the rules can have done it.
    pub lost: Vec<Lost>,
    /// There, but claiming a time later than the store's: they count for nothing when old ones are chosen.
    pub future: Vec<ManifestName>,
}

/// Snapshots of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Looked at.
    pub snapshots: usize,
    /// Of these, without any finding.
    pub whole: usize,
}

/// What the first depth looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Structure {
    /// By source.
    pub sources: BTreeMap<SourceName, SourceCounts>,
    /// Packs that they name.
    pub packs: usize,
    /// Bytes of these packs.
    pub packs_bytes: u64,
    /// Packs in the store that no snapshot looked at names.
    pub unnamed_packs: usize,
    /// Wrapped copies of the repository identity that are age files.
    pub keys: usize,
}

/// What the second depth looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Data {
    /// Percent of the bytes that were asked for.
    pub percent: u8,
    /// Packs read.
    pub packs: usize,
    /// Their bytes.
    pub packs_bytes: u64,
    /// Chunks whose ids were compared; 0 without an identity.
    pub chunks: u64,
    /// Whether packs were opened.
    pub opened: bool,
    /// The longest that a pack of those looked at has not been read, in days; none if some never was, or without state.
    pub oldest_days: Option<u32>,
}

/// A snapshot that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsed {
    /// Its manifest.
    pub name: ManifestName,
    /// Bytes of the stream.
    pub stream_len_bytes: u64,
    /// Records of `state.bin`.
    pub records: u64,
    /// Bytes of `state.bin` that are no records.
    pub opaque_bytes: u64,
    /// The gzip is the original one, byte for byte.
    pub exact: bool,
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// First depth.
    pub structure: Structure,
    /// Second depth.
    pub data: Option<Data>,
    /// Third depth: what could be put together.
    pub rehearsed: Option<Vec<Rehearsed>>,
    /// Damaged objects.
    pub damage: Vec<Damage>,
    /// Damaged snapshots, by name.
    pub affected: Vec<Affected>,
    /// The chain of parents.
    pub chain: Chain,
    /// What was asked of the store, where it was counted.
    pub operations: Option<Counts>,
}

impl Report {
    /// Whether anything is not as it should be.
    pub fn is_damaged(&self) -> bool {
        !(self.damage.is_empty() && self.affected.is_empty() && self.chain.lost.is_empty())
    }

    /// Snapshots looked at, and those of them without any finding.
    pub fn snapshots(&self) -> (usize, usize) {
        let sum = |(all, whole), counts: &SourceCounts| (all + counts.snapshots, whole + counts.whole);
        self.structure.sources.values().fold((0, 0), sum)
    }

    /// What the run has proved, depth by depth; with findings, of all but what they name.
    pub fn proved(&self) -> Vec<String> {
        let (snapshots, _) = self.snapshots();
        let Structure { packs, keys, .. } = &self.structure;
        let but = if self.is_damaged() { "but for what was found, " } else { "" };
        let mut proved = vec![format!(
            "structure: {but}{snapshots} manifests open and are authentic; their {packs} packs are there with the right \
             lengths, and their indexes open and agree; {keys} wrapped keys are age files"
        )];
        if let Some(data) = &self.data {
            let what = if data.opened {
                format!("hold the {} chunks that their indexes list", data.chunks)
            } else {
                "have the bytes that their names promise (not opened: no identity)".into()
            };
            proved.push(format!("data: {but}{} of {packs} packs were read and {what}", data.packs));
        }
        if let Some(rehearsed) = &self.rehearsed {
            let exact = rehearsed.iter().filter(|r| r.exact).count();
            let records: u64 = rehearsed.iter().map(|r| r.records).sum();
            proved.push(format!(
                "rehearsal: {} snapshots were put together; stream, SHA256SUMS and {records} records are right; {exact} \
                 are the original file byte for byte",
                rehearsed.len()
            ));
        }
        proved
    }
}
