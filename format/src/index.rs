//! The chunk table of one pack.

use crate::codec::{self, Blob};
use crate::envelope::{self, Type};
use crate::limits::{
    CHUNK_LEN_BYTES_MAX, INDEX_LEN_BYTES_MAX, PACK_CHUNKS_MAX, PACK_OBJECT_LEN_BYTES_MAX, PACK_PLAINTEXT_LEN_BYTES_MAX,
};
use crate::{ChunkId, FormatError, ObjectId, Secret, SourceName, UnixTime};
use serde::{Deserialize, Serialize};

/// One chunk of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its id.
    pub id: ChunkId,
    /// Its length, 1 to 1 MiB.
    pub len_bytes: u32,
}

/// The chunk table of one pack: the pack's plaintext is the chunks in this order, back to back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Generation of the keys that the pack was made with.
    pub key_generation: u32,
    /// The source whose run made the pack.
    pub source: SourceName,
    /// Store time at which that run began.
    pub created: UnixTime,
    /// Length of the pack object.
    pub pack_len_bytes: u64,
    /// The chunks; at least one.
    pub chunks: Vec<IndexEntry>,
}

/// The body as it is encoded: ids as one byte string (16 bytes each), lengths in a column of their own.
#[derive(Serialize, Deserialize)]
struct Wire {
    key_generation: u32,
    source: SourceName,
    created_unix_s: u64,
    pack_len_bytes: u64,
    ids: Blob,
    lens: Vec<u32>,
}

const WHAT: &str = "index";

fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), FormatError> {
    if found <= limit { Ok(()) } else { Err(FormatError::Limit { what, found, limit }) }
}

impl Index {
    /// Length of the pack's plaintext.
    pub fn plaintext_len_bytes(&self) -> u32 {
        self.chunks.iter().map(|c| c.len_bytes).sum()
    }

    /// The sealed envelope of the index of `pack`, ready for age.
    ///
    /// # Errors
    /// [`FormatError`] if the table breaks a limit.
    pub fn to_envelope(&self, tag_key: &Secret, pack: &ObjectId) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        let wire = Wire {
            key_generation: self.key_generation,
            source: self.source.clone(),
            created_unix_s: self.created.unix_s(),
            pack_len_bytes: self.pack_len_bytes,
            ids: Blob(self.chunks.iter().flat_map(|c| c.id.0).collect()),
            lens: self.chunks.iter().map(|c| c.len_bytes).collect(),
        };
        Ok(envelope::wrap(Type::Index, tag_key, &pack.index_key(), &codec::encode(WHAT, &wire)?))
    }

    /// Authenticates and decodes the index of `pack`.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn from_envelope(tag_key: &Secret, pack: &ObjectId, bytes: &[u8]) -> Result<Self, FormatError> {
        limit("index length", bytes.len() as u64, INDEX_LEN_BYTES_MAX as u64)?;
        let body = envelope::unwrap(Type::Index, tag_key, &pack.index_key(), bytes)?;
        let wire: Wire = codec::decode::<_, INDEX_LEN_BYTES_MAX>(WHAT, body)?;
        let (ids, rest) = wire.ids.0.as_chunks::<16>();
        if !rest.is_empty() || ids.len() != wire.lens.len() {
            return Err(FormatError::Inconsistent { what: WHAT, reason: "the columns have different lengths" });
        }
        let pairs = ids.iter().zip(&wire.lens);
        let index = Self {
            key_generation: wire.key_generation,
            source: wire.source,
            created: UnixTime::from_unix_s(wire.created_unix_s)?,
            pack_len_bytes: wire.pack_len_bytes,
            chunks: pairs.map(|(id, len)| IndexEntry { id: ChunkId(*id), len_bytes: *len }).collect(),
        };
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), FormatError> {
        limit("pack object length", self.pack_len_bytes, PACK_OBJECT_LEN_BYTES_MAX)?;
        limit("chunks of a pack", self.chunks.len() as u64, u64::from(PACK_CHUNKS_MAX))?;
        let mut total = 0u64;
        for chunk in &self.chunks {
            limit("chunk length", u64::from(chunk.len_bytes), u64::from(CHUNK_LEN_BYTES_MAX))?;
            if chunk.len_bytes == 0 {
                return Err(FormatError::Inconsistent { what: WHAT, reason: "a chunk is empty" });
            }
            total += u64::from(chunk.len_bytes);
        }
        limit("pack plaintext length", total, u64::from(PACK_PLAINTEXT_LEN_BYTES_MAX))?;
        if self.chunks.is_empty() || self.key_generation == 0 {
            return Err(FormatError::Inconsistent { what: WHAT, reason: "it has no chunk, or no key generation" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(chunks: Vec<([u8; 16], u32)>) -> Index {
        Index {
            key_generation: 1,
            source: "vault".parse().unwrap(),
            created: UnixTime::from_unix_s(1_795_361_015).unwrap(),
            pack_len_bytes: 4711,
            chunks: chunks.into_iter().map(|(id, len_bytes)| IndexEntry { id: ChunkId(id), len_bytes }).collect(),
        }
    }

    #[test]
    fn tables_outside_the_limits_are_refused() {
        let (key, pack) = (Secret::new([1; 32]), ObjectId([2; 32]));
        let mib = CHUNK_LEN_BYTES_MAX;
        for bad in [vec![], vec![([0; 16], 0)], vec![([0; 16], mib + 1)], vec![([0; 16], mib); 9]] {
            assert!(index(bad).to_envelope(&key, &pack).is_err());
        }
        let large = Index { pack_len_bytes: PACK_OBJECT_LEN_BYTES_MAX + 1, ..index(vec![([0; 16], 1)]) };
        assert!(matches!(large.to_envelope(&key, &pack), Err(FormatError::Limit { .. })));
        let long = Index::from_envelope(&key, &pack, &vec![0; INDEX_LEN_BYTES_MAX + 1]);
        assert!(matches!(long, Err(FormatError::Limit { .. })));
    }

    #[test]
    fn an_index_under_another_packs_name_is_refused() {
        let key = Secret::new([1; 32]);
        let bytes = index(vec![([3; 16], 9)]).to_envelope(&key, &ObjectId([2; 32])).unwrap();
        let moved = Index::from_envelope(&key, &ObjectId([9; 32]), &bytes);
        assert_eq!(moved, Err(FormatError::Tag { what: "index" }));
    }

    proptest! {
        #[test]
        fn tables_round_trip(chunks in proptest::collection::vec((any::<[u8; 16]>(), 1u32..9000), 1..200)) {
            let (key, pack) = (Secret::new([1; 32]), ObjectId([2; 32]));
            let index = index(chunks);
            let bytes = index.to_envelope(&key, &pack).unwrap();
            prop_assert_eq!(Index::from_envelope(&key, &pack, &bytes), Ok(index));
        }

        #[test]
        fn any_body_is_refused_or_canonical(body: Vec<u8>) {
            let (key, pack) = (Secret::new([1; 32]), ObjectId([2; 32]));
            let bytes = envelope::wrap(Type::Index, &key, &pack.index_key(), &body);
            if let Ok(index) = Index::from_envelope(&key, &pack, &bytes) {
                prop_assert_eq!(index.to_envelope(&key, &pack), Ok(bytes));
            }
        }
    }
}
