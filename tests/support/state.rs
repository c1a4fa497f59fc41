//! States taken from fixtures, and their way through splitter and normaliser.

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;

use hah_vault::pipeline::normalise::{Counts, Denormaliser, Normaliser, NotesError};
use hah_vault::pipeline::regions::Regions;
use hah_vault::snapshot::records::{Form, Piece, Splitter, Tally};

/// `state.bin` of a fixture.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().as_os_str() == "state.bin" {
            let mut state = Vec::new();
            entry.read_to_end(&mut state).unwrap();
            return state;
        }
    }
    panic!("{name} has no state.bin");
}

/// A piece of a state with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    Opaque(Vec<u8>),
    Record(Vec<u8>),
    Part { bytes: Vec<u8>, first: bool, last: bool },
}

impl Owned {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Opaque(bytes) | Self::Record(bytes) | Self::Part { bytes, .. } => bytes,
        }
    }
}

pub struct Split {
    pub pieces: Vec<Owned>,
    pub form: Option<Form>,
    pub tally: Tally,
}

/// Cuts a state that arrives in slices of at most `slice_len` bytes.
pub fn split(state: &[u8], slice_len: usize) -> Split {
    let mut pieces = Vec::new();
    let mut sink = |piece: Piece<'_>| {
        pieces.push(match piece {
            Piece::Opaque(bytes) => Owned::Opaque(bytes.to_vec()),
            Piece::Record { bytes, .. } => Owned::Record(bytes.to_vec()),
            Piece::Part { bytes, first, last, .. } => Owned::Part { bytes: bytes.to_vec(), first, last },
        });
        Ok::<(), Infallible>(())
    };
    let mut splitter = Splitter::new();
    for slice in state.chunks(slice_len) {
        let Ok(()) = splitter.push(slice, &mut sink);
    }
    let Ok((form, tally)) = splitter.finish(&mut sink);
    Split { pieces, form, tally }
}

/// A state in normal form.
pub struct Normal {
    pub pieces: Vec<Owned>,
    pub bytes: Vec<u8>,
    pub notes: Vec<u8>,
    pub regions: Regions,
    pub counts: Counts,
}

/// Brings a state into normal form.
pub fn normalise(state: &[u8], slice_len: usize) -> Normal {
    let Split { mut pieces, form, .. } = split(state, slice_len);
    let mut normaliser = Normaliser::new();
    let (mut bytes, mut notes, mut regions) = (Vec::new(), Vec::new(), Regions::new());
    for piece in &mut pieces {
        let len = piece.bytes().len() as u64;
        match (&mut *piece, form) {
            (Owned::Opaque(_), _) | (_, Some(Form::Protobuf) | None) => regions.verbatim(len),
            (Owned::Record(record), _) => {
                normaliser.record(record);
                notes.append(normaliser.notes());
                regions.records(len);
            }
            (Owned::Part { .. }, _) => regions.records(len),
        }
        bytes.extend_from_slice(piece.bytes());
    }
    let counts = normaliser.counts();
    notes.extend(normaliser.finish());
    Normal { pieces, bytes, notes, regions, counts }
}

/// The inverse of [`normalise`].
pub fn restore(bytes: &[u8], notes: &[u8], regions: &Regions, slice_len: usize) -> Result<Vec<u8>, NotesError> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut denormaliser = Denormaliser::new(notes);
    for region in regions.regions() {
        let from = region.offset as usize;
        let to = from + region.len as usize;
        out.extend_from_slice(&bytes[at..from]);
        for slice in bytes[from..to].chunks(slice_len) {
            denormaliser.push(slice, &mut out)?;
        }
        denormaliser.end_region()?;
        at = to;
    }
    out.extend_from_slice(&bytes[at..]);
    denormaliser.finish()?;
    Ok(out)
}
