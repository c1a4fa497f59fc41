//! The inverse direction: records in normal form and notes to the original bytes.

use std::io::{self, BufRead};

use super::model::{MapOrder, Model};
use super::range_coder::Decoder;
use super::walk::{MapEnd, Unsuitable, Visitor, Walker};
use crate::snapshot::msgpack::Malformed;
use crate::snapshot::records::{RECORD_LEN_MAX, RecordScanner};

/// Notes, or normalised bytes, from which nothing can be restored.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    /// The notes end too early: cut off, or not those of this stream.
    #[error("the order notes end before the records do")]
    Short,
    /// The notes go on after the last record: not those of this stream.
    #[error("the order notes go on after the last record")]
    Long,
    /// The notes say what no writer says.
    #[error("the order notes are corrupt")]
    Corrupt,
    /// A region of records holds bytes that are not msgpack.
    #[error("a region of records holds something else: {0}")]
    Records(#[from] Malformed),
    /// A region of records ends within one.
    #[error("a region of records ends within a record")]
    Cut,
    /// The notes could not be read.
    #[error("cannot read the order notes")]
    Read(#[source] io::Error),
}

impl From<Unsuitable> for NotesError {
    fn from(_: Unsuitable) -> Self {
        Self::Corrupt
    }
}

/// Puts the map order of one snapshot's records back.
///
/// Memory: a few times the largest record, and some MiB of remembered orders. Of wrong notes or records come an error or
/// other bytes of the same length; the caller compares the hash of the stream.
#[derive(Debug)]
pub struct Denormaliser<R> {
    scanner: RecordScanner,
    /// The record so far, if it began in an earlier slice.
    begun: Vec<u8>,
    /// The current record is longer than [`RECORD_LEN_MAX`] and goes through as it is.
    long: bool,
    walker: Walker,
    restorer: Restorer<R>,
}

impl<R: BufRead> Denormaliser<R> {
    /// The state at the beginning of a snapshot. `notes` is read byte by byte as the records come.
    pub fn new(notes: R) -> Self {
        Self {
            scanner: RecordScanner::new(),
            begun: Vec::new(),
            long: false,
            walker: Walker::default(),
            restorer: Restorer {
                model: Model::new(),
                decoder: Decoder::new(notes),
                order: MapOrder::default(),
                moved: Vec::new(),
            },
        }
    }

    /// Takes the next bytes of a region of records, in slices of any length, and appends to `out` the original bytes
    /// of all records that have ended.
    ///
    /// # Errors
    /// Any [`NotesError`] but [`NotesError::Long`]; `out` then holds nothing that may be used.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotesError> {
        while !bytes.is_empty() {
            let end = self.scanner.push(bytes)?;
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            bytes = rest;
            if !self.long && self.begun.len() + part.len() > RECORD_LEN_MAX {
                out.append(&mut self.begun);
                self.long = true;
            }
            if self.long {
                out.extend_from_slice(part);
                self.long = end.is_none();
            } else if end.is_none() {
                self.begun.extend_from_slice(part);
            } else {
                let record_at = out.len();
                out.append(&mut self.begun);
                out.extend_from_slice(part);
                let record = out.get_mut(record_at..).unwrap_or_default();
                self.restorer.restore(&mut self.walker, record)?;
            }
        }
        Ok(())
    }

    /// Ends a region. The next bytes pushed begin another one.
    ///
    /// A region may end within a record longer than [`RECORD_LEN_MAX`]: the writer finds out late that the rest of
    /// such a record is something else.
    ///
    /// # Errors
    /// [`NotesError::Cut`].
    pub fn end_region(&mut self) -> Result<(), NotesError> {
        let whole = self.long || (self.begun.is_empty() && self.scanner.is_between());
        self.scanner = RecordScanner::new();
        self.long = false;
        if whole { Ok(()) } else { Err(NotesError::Cut) }
    }

    /// Ends the last region and checks that all notes have been read.
    ///
    /// # Errors
    /// [`NotesError::Cut`], [`NotesError::Long`], [`NotesError::Read`].
    pub fn finish(mut self) -> Result<(), NotesError> {
        self.end_region()?;
        self.restorer.decoder.finish()
    }
}

/// Restores the order of the maps of one record.
#[derive(Debug)]
struct Restorer<R> {
    model: Model,
    decoder: Decoder<R>,
    order: MapOrder,
    moved: Vec<u8>,
}

impl<R: BufRead> Restorer<R> {
    fn restore(&mut self, walker: &mut Walker, record: &mut [u8]) -> Result<(), NotesError> {
        if self.model.as_is(&mut self.decoder, false)? { Ok(()) } else { walker.walk(record, self) }
    }
}

impl<R: BufRead> Visitor for Restorer<R> {
    type Error = NotesError;
    const SORTS: bool = false;

    #[inline]
    fn map_ended(&mut self, record: &mut [u8], map: MapEnd<'_>) -> Result<(), NotesError> {
        let entries = u16::try_from(map.entries.len()).map_err(|_| Unsuitable)?;
        self.model.order(&mut self.decoder, map.keys_hash, entries, &mut self.order)?;
        if self.order.ascending {
            return Ok(());
        }
        self.moved.clear();
        for &place in &self.order.places {
            let entry = map.entries.get(usize::from(place)).ok_or(NotesError::Corrupt)?;
            self.moved.extend_from_slice(record.get(entry.bytes()).unwrap_or_default());
        }
        let place = record.get_mut(map.bytes()).filter(|place| place.len() == self.moved.len());
        place.ok_or(NotesError::Corrupt)?.copy_from_slice(&self.moved);
        Ok(())
    }
}
