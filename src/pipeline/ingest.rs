//! From the stream to chunks, extents and notes: hash, walk the tar, cut at records, put map order aside, pack.

use super::join::{self, Joiner};
use super::normalise::Normaliser;
use super::packer::{NewPack, Packer, PackerCounts};
use super::regions::Regions;
use super::split::{Splitter, mean_fits, mean_for};
use super::table::ChunkTable;
use crate::snapshot::records::{self, Form, Group, Piece, Service};
use crate::snapshot::tar::{Region as Part, SnapshotSummary, TarError, Walker};
use hah_vault_format::derive::SourceKeys;
use hah_vault_format::manifest::{Chunker, Extent, Kind, RecordCount, Region, Stream, Transform};
use thiserror::Error;

/// Order notes of one snapshot that are kept at most, 64 MiB: the reader holds them in memory. What comes after is
/// stored in the order in which it came.
pub const NOTES_LEN_BYTES_MAX: u64 = 64 << 20;
/// Records from this length on are cut by FastCDC: shorter ones are stored whole when a byte of them changes.
const LONG_RECORD_LEN_BYTES: usize = 16 << 10;

/// Why ingesting stopped.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The snapshot is not sound.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Whoever takes the packs is gone; the reason is with them.
    #[error("nobody takes the packs any more")]
    Stopped,
}

/// What the caller knows before the stream begins.
pub struct IngestOptions<'k> {
    /// The source's keys.
    pub keys: &'k SourceKeys,
    /// Chunks that may be reused.
    pub table: ChunkTable,
    /// Number of the first new pack.
    pub first_pack: u32,
    /// The parent's chunker.
    pub parent_chunker: Option<Chunker>,
    /// Length of the stream, if it is known in advance.
    pub len_hint_bytes: Option<u64>,
    /// Whether it is the tar of a Raft snapshot.
    pub is_snapshot: bool,
}

/// The result.
#[derive(Debug)]
pub struct Ingested {
    /// The last pack.
    pub last_pack: Option<NewPack>,
    /// What the stream was recognised as.
    pub kind: Kind,
    /// Of a snapshot.
    pub summary: Option<SnapshotSummary>,
    /// Length and hash.
    pub stream: Stream,
    /// Extents in the caller's pack numbers.
    pub extents: Vec<Extent>,
    /// Regions, and the extents of the notes in the caller's pack numbers.
    pub transform: Transform,
    /// How it was cut.
    pub chunker: Chunker,
    /// Records by tag.
    pub records: Vec<RecordCount>,
    /// Figures.
    pub counts: PackerCounts,
}

/// The stage. Give it the stream by [`Ingest::push`], then [`Ingest::finish`].
pub struct Ingest<'k, F> {
    hasher: blake3::Hasher,
    len_bytes: u64,
    walker: Option<Walker>,
    part: Part,
    records: Option<records::Splitter>,
    outcome: Option<(Option<Form>, records::Tally)>,
    keys: &'k SourceKeys,
    parent_join: Option<u32>,
    chunks: Chunks<'k, F>,
}

/// Everything behind the record splitter.
struct Chunks<'k, F> {
    splitter: Splitter,
    packer: Packer<'k>,
    extents: Vec<Extent>,
    normaliser: Normaliser,
    notes: Vec<u8>,
    regions: Regions,
    joined: Vec<u8>,
    joiner: Joiner,
    join_len_bytes: u32,
    full: F,
}

impl<'k, F: FnMut(NewPack) -> Result<(), IngestError>> Ingest<'k, F> {
    /// At the beginning of a stream; `full` takes every pack that is full.
    pub fn new(options: IngestOptions<'k>, full: F) -> Self {
        let parent_mean = options.parent_chunker.map(|c| c.mean_len_bytes);
        let mean = choose_mean(parent_mean, options.len_hint_bytes);
        let chunks = Chunks {
            splitter: Splitter::new(&options.keys.gear, mean),
            packer: Packer::new(&options.keys.chunk_id, options.table, options.first_pack),
            extents: Vec::new(),
            normaliser: Normaliser::new(),
            notes: Vec::new(),
            regions: Regions::new(),
            joined: Vec::new(),
            joiner: Joiner::new(options.keys.join.expose(), 0),
            join_len_bytes: 0,
            full,
        };
        Self {
            hasher: blake3::Hasher::new(),
            len_bytes: 0,
            walker: options.is_snapshot.then(Walker::new),
            part: Part::Frame,
            records: None,
            outcome: None,
            keys: options.keys,
            parent_join: options.parent_chunker.map(|c| c.join_len_bytes),
            chunks,
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`IngestError`]; the stage is of no use afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        self.hasher.update(bytes);
        self.len_bytes += bytes.len() as u64;
        let Some(mut walker) = self.walker.take() else { return self.chunks.opaque(bytes) };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (len, part) = walker.next(rest)?;
            let (now, later) = rest.split_at(len);
            if part != self.part {
                self.enter(part, &walker)?;
            }
            self.take(now)?;
            rest = later;
        }
        self.walker = Some(walker);
        Ok(())
    }

    /// A boundary between parts of the archive is always a boundary of chunks.
    fn enter(&mut self, part: Part, walker: &Walker) -> Result<(), IngestError> {
        self.leave()?;
        self.part = part;
        if let (Part::State, Some(len)) = (part, walker.state_len_bytes()) {
            let mean = choose_mean(Some(self.chunks.splitter.mean_len_bytes()), Some(len));
            self.chunks.splitter.set_mean(mean);
            self.chunks.join_len_bytes = join::target_len(len, self.parent_join);
            self.chunks.joiner = Joiner::new(self.keys.join.expose(), self.chunks.join_len_bytes);
            self.records = Some(records::Splitter::new());
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), IngestError> {
        if let Some(records) = self.records.take() {
            let chunks = &mut self.chunks;
            self.outcome = Some(records.finish(&mut |piece| chunks.piece(piece))?);
        }
        self.chunks.flush()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let Some(mut records) = self.records.take() else { return self.chunks.opaque(bytes) };
        let chunks = &mut self.chunks;
        records.push(bytes, &mut |piece| chunks.piece(piece))?;
        self.records = Some(records);
        Ok(())
    }

    /// Ends the stream: checks the snapshot as a whole and gives everything that the manifest needs.
    ///
    /// # Errors
    /// [`IngestError`].
    pub fn finish(mut self) -> Result<Ingested, IngestError> {
        self.leave()?;
        let summary = self.walker.take().map(Walker::finish).transpose()?;
        let (form, tally) = self.outcome.take().unwrap_or_default();
        let stream = Stream { len_bytes: self.len_bytes, blake3: *self.hasher.finalize().as_bytes() };
        let chunker = Chunker {
            mean_len_bytes: self.chunks.splitter.mean_len_bytes(),
            join_len_bytes: self.chunks.join_len_bytes,
        };
        let (transform, extents, last_pack, counts) = self.chunks.finish()?;
        let kind = kind(summary.is_some(), form);
        Ok(Ingested { last_pack, kind, summary, stream, extents, transform, chunker, records: counted(&tally), counts })
    }
}

fn choose_mean(parent: Option<u32>, len_hint_bytes: Option<u64>) -> u32 {
    match (parent, len_hint_bytes) {
        (Some(mean), Some(len)) if mean_fits(mean, len) => mean,
        (_, Some(len)) => mean_for(len),
        (Some(mean), None) => mean,
        (None, None) => mean_for(0),
    }
}

/// What a stream is, by what was found in it.
pub fn kind(is_snapshot: bool, form: Option<Form>) -> Kind {
    match form {
        Some(Form::Protobuf) => Kind::Vault,
        Some(Form::Msgpack(Service::Consul)) => Kind::Consul,
        Some(Form::Msgpack(Service::Nomad)) => Kind::Nomad,
        _ if is_snapshot => Kind::Raft,
        _ => Kind::Other,
    }
}

/// Records by tag, as they stand in a manifest.
pub fn counted(tally: &records::Tally) -> Vec<RecordCount> {
    let tag = |group: &Group| match group {
        Group::Type(byte) => byte.to_string(),
        Group::Prefix(prefix) => prefix.chars().take(60).collect(),
        Group::Other => "other".into(),
    };
    tally.groups.iter().map(|(group, count)| RecordCount { tag: tag(group), count: count.records }).collect()
}

impl<F: FnMut(NewPack) -> Result<(), IngestError>> Chunks<'_, F> {
    /// Bytes without records.
    fn opaque(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        self.end_join()?;
        self.regions.verbatim(bytes.len() as u64);
        self.split(bytes)
    }

    fn piece(&mut self, piece: Piece<'_>) -> Result<(), IngestError> {
        match piece {
            Piece::Opaque(bytes) => self.opaque(bytes),
            Piece::Record { form, bytes } => {
                self.flush_split()?;
                if self.place(bytes.len(), form) {
                    self.normaliser.record(bytes);
                    self.notes.append(self.normaliser.notes());
                }
                self.record(form, bytes)
            }
            Piece::Part { form, bytes, first, last } => {
                if first {
                    self.flush()?;
                }
                self.place(bytes.len(), form);
                self.split(bytes)?;
                if last { self.flush() } else { Ok(()) }
            }
        }
    }

    /// Notes where the next record lies: in a region of records that the notes tell of, or outside.
    fn place(&mut self, len: usize, form: Form) -> bool {
        let room = self.regions.has_room() && (self.notes.len() as u64) < NOTES_LEN_BYTES_MAX;
        let normal = room && matches!(form, Form::Msgpack(_));
        if normal {
            self.regions.records(len as u64)
        } else {
            self.regions.verbatim(len as u64)
        }
        normal
    }

    fn record(&mut self, form: Form, record: &[u8]) -> Result<(), IngestError> {
        if record.len() >= LONG_RECORD_LEN_BYTES {
            self.end_join()?;
            self.split(record)?;
            return self.flush_split();
        }
        let cuts = self.joiner.record(form, record);
        if cuts.before {
            self.emit_joined()?;
        }
        self.joined.extend_from_slice(record);
        if cuts.after { self.emit_joined() } else { Ok(()) }
    }

    fn split(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let Self { splitter, packer, extents, full, .. } = self;
        splitter.push(bytes, &mut |chunk| packer.chunk(chunk, extents, full))
    }

    fn flush_split(&mut self) -> Result<(), IngestError> {
        let Self { splitter, packer, extents, full, .. } = self;
        splitter.flush(&mut |chunk| packer.chunk(chunk, extents, full))
    }

    /// Something else than a whole short record follows.
    fn end_join(&mut self) -> Result<(), IngestError> {
        self.joiner.interrupt();
        self.emit_joined()
    }

    fn emit_joined(&mut self) -> Result<(), IngestError> {
        if self.joined.is_empty() {
            return Ok(());
        }
        let Self { packer, extents, full, joined, .. } = self;
        packer.chunk(joined, extents, full)?;
        joined.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IngestError> {
        self.end_join()?;
        self.flush_split()
    }

    fn finish(mut self) -> Result<(Transform, Vec<Extent>, Option<NewPack>, PackerCounts), IngestError> {
        self.flush()?;
        let mut notes = self.notes;
        notes.extend(self.normaliser.finish());
        let mut end = 0;
        let regions: Vec<Region> = self.regions.regions().iter().map(|r| relative(r, &mut end)).collect();
        let transform = if regions.is_empty() {
            Transform::None
        } else {
            let mut note_extents = Vec::new();
            let (packer, full) = (&mut self.packer, &mut self.full);
            for part in notes.chunks(LONG_RECORD_LEN_BYTES) {
                packer.chunk(part, &mut note_extents, full)?;
            }
            Transform::MapOrder { regions, notes: note_extents }
        };
        let (last, counts) = self.packer.finish();
        Ok((transform, self.extents, last, counts))
    }
}

fn relative(region: &super::regions::Region, end: &mut u64) -> Region {
    let skip_bytes = region.offset - *end;
    *end = region.offset + region.len;
    Region { skip_bytes, len_bytes: region.len }
}
