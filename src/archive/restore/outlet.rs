//! The last stretch of a restore: map order put back, every hash checked, the wrapper put on.

use super::super::ArchiveError;
use crate::pipeline::normalise::{Denormaliser, NotesError};
use crate::pipeline::rewrap::{Rewrap, Rewrapped, Rewrapper};
use crate::snapshot::records::{Form, Splitter, Tally};
use crate::snapshot::tar::{self, TarError, Walker};
use hah_vault_format::Manifest;
use hah_vault_format::ManifestName;
use hah_vault_format::manifest::{Kind, Region, Transform};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{Cursor, Write};

/// Takes the stored bytes of a stream, in order.
pub(super) struct Outlet<W> {
    name: ManifestName,
    expected_blake3: [u8; 32],
    /// Regions ahead, each with what is left of it: bytes to skip, bytes of records.
    regions: VecDeque<Region>,
    denormaliser: Denormaliser<Cursor<Vec<u8>>>,
    has_notes: bool,
    restored: Vec<u8>,
    checks: Checks<W>,
}

struct Checks<W> {
    hasher: blake3::Hasher,
    walker: Option<Walker>,
    /// The stream's hash is judged before the snapshot in it: a fault of ours must not look like the server's.
    walker_error: Option<TarError>,
    /// Only where the records of `state.bin` are counted.
    records: Option<Splitter>,
    rewrapper: Rewrapper<W>,
}

/// What came out.
pub(super) struct Finished<W> {
    pub out: W,
    pub rewrapped: Rewrapped,
    /// The records of `state.bin`, if they were counted.
    pub records: Option<(Option<Form>, Tally)>,
}

impl<W: Write> Checks<W> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.hasher.update(bytes);
        let mut rest = bytes;
        while let Some(walker) = self.walker.as_mut().filter(|_| !rest.is_empty()) {
            match walker.next(rest) {
                Ok((len, region)) => {
                    let (now, later) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                    if let (tar::Region::State, Some(records)) = (region, &mut self.records) {
                        let Ok(()) = records.push(now, &mut |_| Ok::<(), Infallible>(()));
                    }
                    rest = later;
                }
                Err(error) => {
                    self.walker = None;
                    self.walker_error = Some(error);
                }
            }
        }
        self.rewrapper.write(bytes).map_err(|source| ArchiveError::Output { source })
    }
}

impl<W: Write> Outlet<W> {
    pub(super) fn new(manifest: &Manifest, notes: Vec<u8>, out: W, mode: Rewrap, count_records: bool) -> Self {
        let regions = match &manifest.transform {
            Transform::None => VecDeque::new(),
            Transform::MapOrder { regions, .. } => regions.iter().copied().collect(),
        };
        let checks = Checks {
            hasher: blake3::Hasher::new(),
            walker: (manifest.kind != Kind::Other).then(Walker::new),
            walker_error: None,
            records: count_records.then(Splitter::new),
            rewrapper: Rewrapper::new(out, mode),
        };
        Self {
            name: manifest.name.clone(),
            expected_blake3: manifest.stream.blake3,
            has_notes: !regions.is_empty(),
            regions,
            denormaliser: Denormaliser::new(Cursor::new(notes)),
            restored: Vec::new(),
            checks,
        }
    }

    /// Takes the next stored bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let (limit, in_records) = match self.regions.front() {
                None => (u64::MAX, false),
                Some(region) if region.skip_bytes > 0 => (region.skip_bytes, false),
                Some(region) => (region.len_bytes, true),
            };
            let len = usize::try_from(limit).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(len);
            bytes = later;
            if in_records {
                self.records(now)?;
            } else {
                self.checks.take(now)?;
            }
            self.advance(len as u64, in_records)?;
        }
        Ok(())
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let pushed = self.denormaliser.push(bytes, &mut self.restored);
        pushed.map_err(|source| notes_error(&self.name, source))?;
        self.checks.take(&self.restored)?;
        self.restored.clear();
        Ok(())
    }

    fn advance(&mut self, len_bytes: u64, in_records: bool) -> Result<(), ArchiveError> {
        let Some(region) = self.regions.front_mut() else { return Ok(()) };
        if !in_records {
            region.skip_bytes -= len_bytes;
            return Ok(());
        }
        region.len_bytes -= len_bytes;
        if region.len_bytes == 0 {
            self.regions.pop_front();
            self.denormaliser.end_region().map_err(|source| notes_error(&self.name, source))?;
        }
        Ok(())
    }

    /// Every check of the whole; gives back the output and what was written.
    pub(super) fn finish(mut self) -> Result<Finished<W>, ArchiveError> {
        if self.has_notes {
            self.denormaliser.finish().map_err(|source| notes_error(&self.name, source))?;
        }
        if *self.checks.hasher.finalize().as_bytes() != self.expected_blake3 {
            return Err(ArchiveError::NotTheSame { name: self.name, what: "stream" });
        }
        let sound = match (self.checks.walker_error.take(), self.checks.walker.take()) {
            (Some(error), _) => Err(error),
            (None, Some(walker)) => walker.finish().map(drop),
            (None, None) => Ok(()),
        };
        sound.map_err(|source| ArchiveError::RestoredTar { name: self.name.clone(), source })?;
        let records = self.checks.records.take().map(|records| {
            let Ok(counted) = records.finish(&mut |_| Ok::<(), Infallible>(()));
            counted
        });
        let finished = self.checks.rewrapper.finish();
        let (out, rewrapped) = finished.map_err(|source| ArchiveError::Output { source })?;
        Ok(Finished { out, rewrapped, records })
    }
}

fn notes_error(name: &ManifestName, source: NotesError) -> ArchiveError {
    ArchiveError::Notes { name: name.clone(), source }
}
