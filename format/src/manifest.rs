//! The manifest: with it and the packs that it names, one snapshot is restored.

use crate::codec;
use crate::envelope::{self, Type};
use crate::limits::{
    LABEL_VALUE_LEN_BYTES_MAX, MANIFEST_EXTENTS_MAX, MANIFEST_LABELS_MAX, MANIFEST_LEN_BYTES_MAX, MANIFEST_PACKS_MAX,
    MANIFEST_RECORD_TAGS_MAX, MANIFEST_REGIONS_MAX, PACK_OBJECT_LEN_BYTES_MAX, PACK_PLAINTEXT_LEN_BYTES_MAX,
    STREAM_LEN_BYTES_MAX, TEXT_LEN_BYTES_MAX,
};
use crate::{FormatError, ManifestName, ObjectId, Secret, SourceName, UnixTime};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// What the snapshot's content was recognised as; from the content, never from the source's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Not a Raft snapshot: any bytes.
    Other,
    /// A Raft snapshot whose `state.bin` is of no known form.
    Raft,
    /// A Vault or OpenBao snapshot.
    Vault,
    /// A Consul snapshot.
    Consul,
    /// A Nomad snapshot.
    Nomad,
}

impl Kind {
    /// The word for tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Raft => "raft",
            Self::Vault => "vault",
            Self::Consul => "consul",
            Self::Nomad => "nomad",
        }
    }
}

/// From the snapshot's `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMeta {
    /// Raft index of the snapshot.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// Version of `meta.json`.
    pub version: u64,
    /// The snapshot's own id.
    pub id: String,
}

/// How the stream was wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wrapper {
    /// The stream is the original.
    None,
    /// gzip by Go 1.15 to 1.26 at the default level: can be made again byte for byte.
    GzipGoTo126,
    /// gzip by an unknown encoder: an equivalent one is made on restore.
    GzipUnknown,
}

/// What was read from the source, wrapper included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The wrapper.
    pub wrapper: Wrapper,
    /// Length of the original.
    pub len_bytes: u64,
    /// SHA-256 of the original.
    pub sha256: [u8; 32],
}

/// The stream: the original without its wrapper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its length.
    pub len_bytes: u64,
    /// Its BLAKE3.
    pub blake3: [u8; 32],
}

/// One run of bytes of one pack's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of the pack in the manifest's pack table.
    pub pack: u32,
    /// Where it begins in the pack's plaintext.
    pub offset_bytes: u32,
    /// Its length; not 0.
    pub len_bytes: u32,
}

/// A part of the stream that consists of whole records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Bytes between the end of the region before it (or the stream's start) and this one.
    pub skip_bytes: u64,
    /// Its length.
    pub len_bytes: u64,
}

/// What was done to the stream before it was cut into chunks, and must be undone. Lengths never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    /// Nothing.
    None,
    /// Maps of msgpack records are sorted; the notes bring back their order (SPEC §7).
    MapOrder {
        /// Where the records are.
        regions: Vec<Region>,
        /// The order notes, stored in packs as the stream is.
        notes: Vec<Extent>,
    },
}

/// A pack that the snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    /// Its name: BLAKE3 of the object.
    pub id: ObjectId,
    /// Length of the object.
    pub object_len_bytes: u64,
    /// Length of its plaintext.
    pub plaintext_len_bytes: u32,
}

/// How the writer cut the stream. Readers need none of it; the next writer keeps it while it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunker {
    /// FastCDC's mean.
    pub mean_len_bytes: u32,
    /// Mean length to which small records are joined; 0: records were not looked for.
    pub join_len_bytes: u32,
}

/// How many records of one tag there are: what a drill counts after a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCount {
    /// Type byte in decimal (Consul, Nomad), or the first path element (Vault).
    pub tag: String,
    /// Records.
    pub count: u64,
}

/// Figures of the run, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Chunks of the stream.
    pub chunks: u64,
    /// Chunks that were new.
    pub chunks_new: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Bytes put for this run: packs and indexes; not the manifest itself.
    pub stored_bytes: u64,
}

/// A label: a named fact about the run, such as a server's version. Keys are sorted and unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ManifestLabel {
    /// Key, 1 to 255 bytes.
    pub key: String,
    /// Value, at most 4,096 bytes.
    pub value: String,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its own name; the time in it is the claimed time.
    pub name: ManifestName,
    /// Generation of the keys it was made with.
    pub key_generation: u32,
    /// What the content was recognised as.
    pub kind: Kind,
    /// Host of the writer.
    pub host: String,
    /// Program and version.
    pub tool: String,
    /// The manifest that it was deduplicated against; same source.
    pub parent: Option<ManifestName>,
    /// Of a Raft snapshot.
    pub raft: Option<RaftMeta>,
    /// Named facts.
    pub labels: Vec<ManifestLabel>,
    /// What was read.
    pub original: Original,
    /// What is stored.
    pub stream: Stream,
    /// What was done to it.
    pub transform: Transform,
    /// How it was cut.
    pub chunker: Chunker,
    /// The packs, in order of first use.
    pub packs: Vec<PackRef>,
    /// The stream, in order; neighbours joined.
    pub extents: Vec<Extent>,
    /// Records by tag; empty where none were looked for.
    pub records: Vec<RecordCount>,
    /// Figures.
    pub counts: Counts,
}

/// An extent as it is encoded: the offset relative to the end of the last extent of the same pack in the same
/// list (0 before the first), so that runs of reused chunks cost few bytes (decisions/006).
#[derive(Serialize, Deserialize)]
struct WireExtent {
    pack: u32,
    offset_delta: i64,
    len_bytes: u32,
}

#[derive(Serialize, Deserialize)]
enum WireTransform {
    None,
    MapOrder { regions: Vec<Region>, notes: Vec<WireExtent> },
}

#[derive(Serialize, Deserialize)]
struct WireName {
    time_unix_s: u64,
    suffix: u32,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    key_generation: u32,
    source: SourceName,
    name: WireName,
    kind: Kind,
    host: String,
    tool: String,
    parent: Option<WireName>,
    raft: Option<RaftMeta>,
    labels: Vec<ManifestLabel>,
    original: Original,
    stream: Stream,
    transform: WireTransform,
    chunker: Chunker,
    packs: Vec<PackRef>,
    extents: Vec<WireExtent>,
    records: Vec<RecordCount>,
    counts: Counts,
}

const WHAT: &str = "manifest";
/// What a body may claim: bincode counts a number at the width of its type (an extent: 16 bytes), however few bytes
/// it takes, so the two longest lists of extents claim as much as the longest envelope by themselves.
const CLAIM_LEN_BYTES_MAX: usize = 2 * MANIFEST_LEN_BYTES_MAX;

// Both lists of extents in full, and at least as much again for all the rest.
const _: () = assert!(CLAIM_LEN_BYTES_MAX >= 2 * (2 * MANIFEST_EXTENTS_MAX * 16));

fn inconsistent(reason: &'static str) -> FormatError {
    FormatError::Inconsistent { what: WHAT, reason }
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), FormatError> {
    if found <= limit { Ok(()) } else { Err(FormatError::Limit { what, found: found as u64, limit: limit as u64 }) }
}

fn to_wire(extents: &[Extent], packs: usize) -> Vec<WireExtent> {
    let mut ends = vec![0i64; packs];
    let mut wire = Vec::with_capacity(extents.len());
    for extent in extents {
        let offset = i64::from(extent.offset_bytes);
        let mut offset_delta = offset;
        if let Some(end) = ends.get_mut(extent.pack as usize) {
            offset_delta -= *end;
            *end = offset + i64::from(extent.len_bytes);
        }
        wire.push(WireExtent { pack: extent.pack, offset_delta, len_bytes: extent.len_bytes });
    }
    wire
}

/// Back to absolute offsets; every extent lies inside its pack.
fn from_wire(wire: &[WireExtent], packs: &[PackRef]) -> Result<Vec<Extent>, FormatError> {
    limit("extents", wire.len(), MANIFEST_EXTENTS_MAX)?;
    let mut ends = vec![0i64; packs.len()];
    let mut extents = Vec::with_capacity(wire.len());
    for extent in wire {
        let pack = extent.pack as usize;
        let (Some(end), Some(pack)) = (ends.get_mut(pack), packs.get(pack)) else {
            return Err(inconsistent("an extent names a pack that is not in the table"));
        };
        let offset = end.checked_add(extent.offset_delta).and_then(|offset| u32::try_from(offset).ok());
        let offset_bytes = offset.ok_or(inconsistent("an extent lies outside its pack"))?;
        *end = i64::from(offset_bytes) + i64::from(extent.len_bytes);
        if *end > i64::from(pack.plaintext_len_bytes) || extent.len_bytes == 0 {
            return Err(inconsistent("an extent is empty or lies outside its pack"));
        }
        extents.push(Extent { pack: extent.pack, offset_bytes, len_bytes: extent.len_bytes });
    }
    Ok(extents)
}

/// Sum of the lengths of extents.
pub fn extents_len_bytes(extents: &[Extent]) -> u64 {
    extents.iter().map(|e| u64::from(e.len_bytes)).sum()
}

impl Manifest {
    /// The source.
    pub fn source(&self) -> &SourceName {
        &self.name.source
    }

    /// The order notes; empty without the transform.
    pub fn notes(&self) -> &[Extent] {
        match &self.transform {
            Transform::None => &[],
            Transform::MapOrder { notes, .. } => notes,
        }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|l| l.key == key).map(|l| l.value.as_str())
    }

    /// The sealed envelope, ready for age.
    ///
    /// # Errors
    /// [`FormatError`] if the manifest breaks a limit or contradicts itself.
    pub fn to_envelope(&self, tag_key: &Secret) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        let body = codec::encode(WHAT, &self.to_wire())?;
        let bytes = envelope::wrap(Type::Manifest, tag_key, &self.name.logical_name(), &body);
        limit("manifest length", bytes.len(), MANIFEST_LEN_BYTES_MAX)?;
        Ok(bytes)
    }

    /// Authenticates and decodes the manifest that is called `name`, wherever the object lies.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn from_envelope(tag_key: &Secret, name: &ManifestName, bytes: &[u8]) -> Result<Self, FormatError> {
        limit("manifest length", bytes.len(), MANIFEST_LEN_BYTES_MAX)?;
        let body = envelope::unwrap(Type::Manifest, tag_key, &name.logical_name(), bytes)?;
        let manifest = Self::from_wire(codec::decode::<_, CLAIM_LEN_BYTES_MAX>(WHAT, body)?)?;
        if manifest.name != *name {
            return Err(inconsistent("the name inside is not its own"));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn to_wire(&self) -> Wire {
        let name = |n: &ManifestName| WireName { time_unix_s: n.time.unix_s(), suffix: n.suffix };
        let packs = self.packs.len();
        Wire {
            key_generation: self.key_generation,
            source: self.name.source.clone(),
            name: name(&self.name),
            kind: self.kind,
            host: self.host.clone(),
            tool: self.tool.clone(),
            parent: self.parent.as_ref().map(name),
            raft: self.raft.clone(),
            labels: self.labels.clone(),
            original: self.original,
            stream: self.stream,
            transform: match &self.transform {
                Transform::None => WireTransform::None,
                Transform::MapOrder { regions, notes } => {
                    WireTransform::MapOrder { regions: regions.clone(), notes: to_wire(notes, packs) }
                }
            },
            chunker: self.chunker,
            packs: self.packs.clone(),
            extents: to_wire(&self.extents, packs),
            records: self.records.clone(),
            counts: self.counts,
        }
    }

    fn from_wire(wire: Wire) -> Result<Self, FormatError> {
        let source = wire.source;
        let name = |n: WireName| -> Result<ManifestName, FormatError> {
            let time = UnixTime::from_unix_s(n.time_unix_s)?;
            Ok(ManifestName { source: source.clone(), time, suffix: n.suffix })
        };
        limit("packs of a manifest", wire.packs.len(), MANIFEST_PACKS_MAX)?;
        let transform = match wire.transform {
            WireTransform::None => Transform::None,
            WireTransform::MapOrder { regions, notes } => {
                Transform::MapOrder { regions, notes: from_wire(&notes, &wire.packs)? }
            }
        };
        Ok(Self {
            name: name(wire.name)?,
            key_generation: wire.key_generation,
            kind: wire.kind,
            host: wire.host,
            tool: wire.tool,
            parent: wire.parent.map(name).transpose()?,
            raft: wire.raft,
            labels: wire.labels,
            original: wire.original,
            stream: wire.stream,
            transform,
            chunker: wire.chunker,
            extents: from_wire(&wire.extents, &wire.packs)?,
            packs: wire.packs,
            records: wire.records,
            counts: wire.counts,
        })
    }

    /// Everything that must hold of a manifest; checked before it is written and after it is read.
    fn check(&self) -> Result<(), FormatError> {
        limit("packs of a manifest", self.packs.len(), MANIFEST_PACKS_MAX)?;
        limit("extents", self.extents.len(), MANIFEST_EXTENTS_MAX)?;
        limit("notes", self.notes().len(), MANIFEST_EXTENTS_MAX)?;
        limit("host", self.host.len(), TEXT_LEN_BYTES_MAX)?;
        limit("tool", self.tool.len(), TEXT_LEN_BYTES_MAX)?;
        limit("record tags", self.records.len(), MANIFEST_RECORD_TAGS_MAX)?;
        self.check_labels()?;
        self.check_packs()?;
        if self.key_generation == 0 {
            return Err(inconsistent("its key generation is 0"));
        }
        if self.stream.len_bytes > STREAM_LEN_BYTES_MAX || extents_len_bytes(&self.extents) != self.stream.len_bytes {
            return Err(inconsistent("its extents do not add up to the stream's length"));
        }
        if self.original.wrapper == Wrapper::None && self.original.len_bytes != self.stream.len_bytes {
            return Err(inconsistent("it has no wrapper, but the original and the stream differ in length"));
        }
        self.check_regions()
    }

    fn check_labels(&self) -> Result<(), FormatError> {
        limit("labels", self.labels.len(), MANIFEST_LABELS_MAX)?;
        for label in &self.labels {
            limit("label key", label.key.len(), TEXT_LEN_BYTES_MAX)?;
            if label.key.is_empty() {
                return Err(inconsistent("a label has no key"));
            }
            limit("label value", label.value.len(), LABEL_VALUE_LEN_BYTES_MAX)?;
        }
        for record in &self.records {
            limit("record tag", record.tag.len(), TEXT_LEN_BYTES_MAX)?;
        }
        if let Some(raft) = &self.raft {
            limit("raft id", raft.id.len(), TEXT_LEN_BYTES_MAX)?;
        }
        if !self.labels.is_sorted_by(|a, b| a.key < b.key) {
            return Err(inconsistent("its labels are not sorted and unique"));
        }
        Ok(())
    }

    fn check_packs(&self) -> Result<(), FormatError> {
        let mut seen = HashSet::with_capacity(self.packs.len());
        if !self.packs.iter().all(|pack| seen.insert(pack.id)) {
            return Err(inconsistent("it names a pack twice"));
        }
        for pack in &self.packs {
            limit("pack plaintext length", pack.plaintext_len_bytes as usize, PACK_PLAINTEXT_LEN_BYTES_MAX as usize)?;
            let (found, limit) = (pack.object_len_bytes, PACK_OBJECT_LEN_BYTES_MAX);
            if found > limit {
                return Err(FormatError::Limit { what: "pack object length", found, limit });
            }
        }
        let mut used = vec![false; self.packs.len()];
        for extent in self.extents.iter().chain(self.notes()) {
            let Some(pack) = self.packs.get(extent.pack as usize) else {
                return Err(inconsistent("an extent names a pack that is not in the table"));
            };
            let end = u64::from(extent.offset_bytes) + u64::from(extent.len_bytes);
            if extent.len_bytes == 0 || end > u64::from(pack.plaintext_len_bytes) {
                return Err(inconsistent("an extent is empty or lies outside its pack"));
            }
            used[extent.pack as usize] = true;
        }
        if used.contains(&false) {
            return Err(inconsistent("it names a pack that it does not use"));
        }
        Ok(())
    }

    fn check_regions(&self) -> Result<(), FormatError> {
        let Transform::MapOrder { regions, .. } = &self.transform else { return Ok(()) };
        limit("regions", regions.len(), MANIFEST_REGIONS_MAX)?;
        let mut end = 0u64;
        for region in regions {
            let sum = end.checked_add(region.skip_bytes).and_then(|at| at.checked_add(region.len_bytes));
            end = sum
                .filter(|end| *end <= self.stream.len_bytes && region.len_bytes > 0)
                .ok_or(inconsistent("a region is empty or lies outside the stream"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
