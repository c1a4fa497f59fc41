//! Opened packs between their first and their last use: in memory up to a limit, beyond it in the encrypted scratch.

use super::super::ArchiveError;
use super::super::scratch::{Scratch, Slot};
use super::scratch_error;
use hah_vault_format::Manifest;
use hah_vault_format::manifest::Extent;
use std::io;
use tokio::sync::mpsc;

/// Opened packs that stay in memory.
const MEMORY_LEN_BYTES_MAX: usize = 48 << 20;
/// How much is read from the scratch at once.
const PIECE_LEN_BYTES: usize = 256 << 10;

/// In which order packs are needed, and for how long. Extents are read notes first, then the stream.
pub(super) struct Plan {
    /// Packs in the order of their first use.
    pub order: Vec<u32>,
    /// For each pack, how many extents use it.
    uses: Vec<u32>,
}

impl Plan {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let mut uses = vec![0u32; manifest.packs.len()];
        let mut order = Vec::with_capacity(manifest.packs.len());
        for extent in manifest.notes().iter().chain(&manifest.extents) {
            // A checked manifest names no pack that is not in its table.
            let Some(count) = uses.get_mut(extent.pack as usize) else { continue };
            if *count == 0 {
                order.push(extent.pack);
            }
            *count = count.saturating_add(1);
        }
        Self { order, uses }
    }
}

enum Opened {
    Memory(Vec<u8>),
    Scratch(Slot),
}

/// The packs at hand.
pub(super) struct PackCache {
    uses: Vec<u32>,
    packs: Vec<Option<Opened>>,
    memory_bytes: usize,
    scratch: Scratch,
    opened: mpsc::Receiver<(u32, Vec<u8>)>,
    piece: Vec<u8>,
}

impl PackCache {
    pub(super) fn new(plan: Plan, opened: mpsc::Receiver<(u32, Vec<u8>)>) -> io::Result<Self> {
        let packs = plan.uses.iter().map(|_| None).collect();
        Ok(Self { uses: plan.uses, packs, memory_bytes: 0, scratch: Scratch::new()?, opened, piece: Vec::new() })
    }

    /// Gives the bytes of an extent to `sink`, in one or more pieces.
    pub(super) fn read(
        &mut self,
        extent: &Extent,
        sink: &mut impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let number = extent.pack as usize;
        while self.packs.get(number).is_some_and(Option::is_none) {
            self.receive()?;
        }
        let (from, len) = (extent.offset_bytes as usize, extent.len_bytes as usize);
        match self.packs.get(number) {
            Some(Some(Opened::Memory(bytes))) => sink(bytes.get(from..from + len).ok_or_else(starved)?)?,
            Some(Some(Opened::Scratch(slot))) => {
                for at in (0..len).step_by(PIECE_LEN_BYTES) {
                    self.piece.resize(PIECE_LEN_BYTES.min(len - at), 0);
                    let offset = extent.offset_bytes + u32::try_from(at).unwrap_or(u32::MAX);
                    self.scratch.read(*slot, offset, &mut self.piece).map_err(scratch_error)?;
                    sink(&self.piece)?;
                }
            }
            _ => return Err(starved()),
        }
        self.used(number);
        Ok(())
    }

    fn receive(&mut self) -> Result<(), ArchiveError> {
        let (number, bytes) = self.opened.blocking_recv().ok_or_else(starved)?;
        let slot = self.packs.get_mut(number as usize).ok_or_else(starved)?;
        *slot = Some(if self.memory_bytes + bytes.len() <= MEMORY_LEN_BYTES_MAX {
            self.memory_bytes += bytes.len();
            Opened::Memory(bytes)
        } else {
            Opened::Scratch(self.scratch.store(bytes).map_err(scratch_error)?)
        });
        Ok(())
    }

    /// Drops a pack after its last use.
    fn used(&mut self, number: usize) {
        let Some(uses) = self.uses.get_mut(number) else { return };
        *uses = uses.saturating_sub(1);
        if *uses == 0
            && let Some(slot) = self.packs.get_mut(number)
            && let Some(Opened::Memory(bytes)) = slot.take()
        {
            self.memory_bytes -= bytes.len();
        }
    }
}

/// The fetching side stopped; its own error is reported instead of this one.
fn starved() -> ArchiveError {
    ArchiveError::Internal("a pack did not arrive".into())
}
