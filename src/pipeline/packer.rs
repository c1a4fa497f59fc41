//! Gathers new chunks into packs, and the stream's extents.

use super::table::{ChunkTable, Location};
use crate::room;
use hah_vault_format::derive::ChunkIdKey;
use hah_vault_format::limits::{PACK_CHUNKS_MAX, PACK_PLAINTEXT_LEN_BYTES_MAX};
use hah_vault_format::manifest::Extent;
use hah_vault_format::{ChunkId, IndexEntry};

/// The plaintext of a new pack. Its number continues the caller's numbering of reusable packs.
#[derive(Debug, Default)]
pub struct NewPack {
    /// Its number.
    pub number: u32,
    /// Its chunks back to back.
    pub plaintext: Vec<u8>,
    /// Its chunk table.
    pub chunks: Vec<IndexEntry>,
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackerCounts {
    /// Chunks seen.
    pub chunks: u64,
    /// Chunks that were new.
    pub chunks_new: u64,
    /// Their bytes.
    pub new_bytes: u64,
}

/// Deduplicates chunks and packs the new ones in order of first use.
pub struct Packer<'k> {
    key: &'k ChunkIdKey,
    table: ChunkTable,
    current: NewPack,
    next_number: u32,
    counts: PackerCounts,
}

impl<'k> Packer<'k> {
    /// With the chunks that may be reused, in packs numbered below `first_number`.
    pub fn new(key: &'k ChunkIdKey, table: ChunkTable, first_number: u32) -> Self {
        let current = NewPack { number: first_number, ..NewPack::default() };
        Self { key, table, current, next_number: first_number + 1, counts: PackerCounts::default() }
    }

    /// Takes a chunk, appends its place to `extents`, and hands a pack that is full to `full`.
    ///
    /// # Errors
    /// Only those of `full`.
    pub fn chunk<E>(
        &mut self,
        bytes: &[u8],
        extents: &mut Vec<Extent>,
        full: &mut impl FnMut(NewPack) -> Result<(), E>,
    ) -> Result<(), E> {
        // A chunk is at most 1 MiB long.
        let len_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let id = self.key.id(bytes);
        self.counts.chunks += 1;
        let location = match self.table.find(&id, len_bytes) {
            Some(location) => location,
            None => {
                self.make_room(len_bytes, full)?;
                self.add(id, bytes, len_bytes)
            }
        };
        join(extents, location, len_bytes);
        Ok(())
    }

    fn make_room<E>(&mut self, len_bytes: u32, full: &mut impl FnMut(NewPack) -> Result<(), E>) -> Result<(), E> {
        let room = PACK_PLAINTEXT_LEN_BYTES_MAX as usize - self.current.plaintext.len();
        if room >= len_bytes as usize && self.current.chunks.len() < PACK_CHUNKS_MAX as usize {
            return Ok(());
        }
        let number = self.next_number;
        self.next_number += 1;
        full(std::mem::replace(&mut self.current, NewPack { number, ..NewPack::default() }))
    }

    fn add(&mut self, id: ChunkId, bytes: &[u8], len_bytes: u32) -> Location {
        let offset_bytes = u32::try_from(self.current.plaintext.len()).unwrap_or(u32::MAX);
        let location = Location { pack: self.current.number, offset_bytes };
        if self.current.plaintext.is_empty() {
            self.current.plaintext = room::with_capacity(PACK_PLAINTEXT_LEN_BYTES_MAX as usize);
        }
        self.current.plaintext.extend_from_slice(bytes);
        self.current.chunks.push(IndexEntry { id, len_bytes });
        self.table.insert(id, len_bytes, location);
        self.counts.chunks_new += 1;
        self.counts.new_bytes += u64::from(len_bytes);
        location
    }

    /// The last pack, if there is one, and the figures.
    pub fn finish(self) -> (Option<NewPack>, PackerCounts) {
        let last = (!self.current.chunks.is_empty()).then_some(self.current);
        (last, self.counts)
    }
}

/// Appends a place; neighbours become one extent.
fn join(extents: &mut Vec<Extent>, location: Location, len_bytes: u32) {
    if let Some(last) = extents.last_mut()
        && last.pack == location.pack
        && last.offset_bytes + last.len_bytes == location.offset_bytes
    {
        last.len_bytes += len_bytes;
        return;
    }
    extents.push(Extent { pack: location.pack, offset_bytes: location.offset_bytes, len_bytes });
}

#[cfg(test)]
mod tests {
    use super::*;
    use hah_vault_format::Secret;
    use hah_vault_format::derive::SourceKeys;
    use std::convert::Infallible;

    /// Packs the chunks; gives the packs and the extents.
    fn pack(chunks: &[&[u8]]) -> (Vec<NewPack>, Vec<Extent>, PackerCounts) {
        let keys = SourceKeys::new(&Secret::new([1; 32]));
        let mut packer = Packer::new(&keys.chunk_id, ChunkTable::default(), 0);
        let (mut packs, mut extents) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let Ok(()) = packer.chunk(chunk, &mut extents, &mut |pack| -> Result<(), Infallible> {
                packs.push(pack);
                Ok(())
            });
        }
        let (last, counts) = packer.finish();
        packs.extend(last);
        (packs, extents, counts)
    }

    #[test]
    fn equal_chunks_are_stored_once_and_neighbours_join() {
        let (packs, extents, counts) = pack(&[b"one", b"two", b"one", b"two", b"three"]);
        assert_eq!(packs[0].plaintext, b"onetwothree");
        let extent = |offset_bytes, len_bytes| Extent { pack: 0, offset_bytes, len_bytes };
        assert_eq!(extents, [extent(0, 6), extent(0, 11)]);
        assert_eq!(counts, PackerCounts { chunks: 5, chunks_new: 3, new_bytes: 11 });
    }

    #[test]
    fn packs_never_exceed_their_limits() {
        let big = vec![7u8; 1 << 20];
        let chunks: Vec<Vec<u8>> = (0..20u8).map(|i| [&[i], &big[1..]].concat()).collect();
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let (packs, extents, _) = pack(&chunks);
        assert_eq!(packs.iter().map(|p| p.plaintext.len() >> 20).collect::<Vec<_>>(), [8, 8, 4]);
        assert_eq!(extents.len(), 3);
        assert_eq!(packs.iter().map(|p| p.number).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn packs_of_tiny_chunks_end_at_the_chunk_limit() {
        let chunks: Vec<[u8; 4]> = (0..PACK_CHUNKS_MAX + 5).map(u32::to_le_bytes).collect();
        let chunks: Vec<&[u8]> = chunks.iter().map(|c| &c[..]).collect();
        let (packs, _, _) = pack(&chunks);
        assert_eq!(packs.iter().map(|p| p.chunks.len()).collect::<Vec<_>>(), [PACK_CHUNKS_MAX as usize, 5]);
    }
}
