//! Where each known chunk lies. 33 to 40 bytes a chunk: half a million chunks take 20 MB.

use hah_vault_format::ChunkId;
use hashbrown::HashTable;

/// Where a chunk lies: pack number (the caller's numbering), offset in the pack's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Number of the pack.
    pub pack: u32,
    /// Offset in its plaintext.
    pub offset_bytes: u32,
}

struct Entry {
    id: ChunkId,
    len_bytes: u32,
    location: Location,
}

/// Chunk id and length -> location. The first location of a chunk wins.
#[derive(Default)]
pub struct ChunkTable {
    slots: HashTable<u32>,
    entries: Vec<Entry>,
}

/// Ids are keyed hashes already: 8 bytes of one are as good a hash as any.
fn slot_hash(id: &ChunkId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(first)
}

impl ChunkTable {
    /// Where a chunk lies; an equal id with another length is not the same chunk.
    pub fn find(&self, id: &ChunkId, len_bytes: u32) -> Option<Location> {
        let same = |at: &u32| self.entries.get(*at as usize).is_some_and(|e| e.id == *id && e.len_bytes == len_bytes);
        let at = self.slots.find(slot_hash(id), same)?;
        self.entries.get(*at as usize).map(|e| e.location)
    }

    /// Adds a chunk that `find` did not find.
    pub fn insert(&mut self, id: ChunkId, len_bytes: u32, location: Location) {
        let Ok(at) = u32::try_from(self.entries.len()) else { return };
        self.entries.push(Entry { id, len_bytes, location });
        let entries = &self.entries;
        let rehash = |at: &u32| entries.get(*at as usize).map_or(0, |e| slot_hash(&e.id));
        self.slots.insert_unique(slot_hash(&id), at, rehash);
    }

    /// Chunks known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_by_id_and_length() {
        let mut table = ChunkTable::default();
        for i in 0..5000u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&i.to_le_bytes());
            table.insert(ChunkId(id), i + 1, Location { pack: i / 100, offset_bytes: i });
        }
        for i in 0..5000u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&i.to_le_bytes());
            assert_eq!(table.find(&ChunkId(id), i + 1), Some(Location { pack: i / 100, offset_bytes: i }));
            assert_eq!(table.find(&ChunkId(id), i + 2), None);
        }
        assert_eq!(table.find(&ChunkId([9; 16]), 1), None);
        assert_eq!(table.len(), 5000);
    }
}
