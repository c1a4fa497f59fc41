//! Keys from keys: BLAKE3 `derive_key` with fixed context strings (SPEC §4, decisions/004).
//!
//! ```text
//! R (repository identity) -> repository id
//!                         -> W (writer secret) -> per source W_s -> chunk id, gear, join, tag keys, M_s
//! ```

use crate::limits::CHUNK_LEN_BYTES_MAX;
use crate::{ChunkId, RepositoryId, Secret, SourceName};
use zeroize::Zeroize;

/// Context of the repository id.
pub const CONTEXT_REPOSITORY_ID: &str = "hah-vault 2026-11-22 v1 repository id";
/// Context of the writer secret W.
pub const CONTEXT_WRITER: &str = "hah-vault 2026-11-22 v1 writer secret";
/// Context of a source's secret W_s; the key material is W and then the source's name.
pub const CONTEXT_SOURCE: &str = "hah-vault 2026-11-22 v1 source secret";
/// Context of the chunk id key.
pub const CONTEXT_CHUNK_ID: &str = "hah-vault 2026-11-22 v1 chunk id key";
/// Context of the gear table.
pub const CONTEXT_GEAR: &str = "hah-vault 2026-11-22 v1 gear table";
/// Context of the join rule's key.
pub const CONTEXT_JOIN: &str = "hah-vault 2026-11-22 v1 join rule key";
/// Context of the manifest tag key.
pub const CONTEXT_MANIFEST_TAG: &str = "hah-vault 2026-11-22 v1 manifest tag key";
/// Context of the index tag key.
pub const CONTEXT_INDEX_TAG: &str = "hah-vault 2026-11-22 v1 index tag key";
/// Context of the metadata identity M_s.
pub const CONTEXT_METADATA: &str = "hah-vault 2026-11-22 v1 metadata identity";

/// The repository id of the identity R: the first 16 bytes.
pub fn repository_id(identity: &Secret) -> RepositoryId {
    let mut hash = blake3::derive_key(CONTEXT_REPOSITORY_ID, identity.expose());
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    hash.zeroize();
    RepositoryId(id)
}

/// The writer secret W of the identity R.
pub fn writer_secret(identity: &Secret) -> Secret {
    Secret::new(blake3::derive_key(CONTEXT_WRITER, identity.expose()))
}

/// The secret W_s of one source, from the writer secret W.
pub fn source_secret(writer: &Secret, source: &SourceName) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_SOURCE);
    hasher.update(writer.expose()).update(source.as_str().as_bytes());
    let secret = Secret::new(*hasher.finalize().as_bytes());
    hasher.zeroize();
    secret
}

/// Names chunks of one source: keyed BLAKE3 of the plaintext, 16 bytes of it.
pub struct ChunkIdKey(Secret);

impl ChunkIdKey {
    /// The id of a chunk.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        debug_assert!(plaintext.len() <= CHUNK_LEN_BYTES_MAX as usize);
        let hash = blake3::keyed_hash(self.0.expose(), plaintext);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        ChunkId(id)
    }
}

/// All keys of one source.
pub struct SourceKeys {
    /// Names chunks.
    pub chunk_id: ChunkIdKey,
    /// FastCDC's gear table: 256 random numbers.
    pub gear: Box<[u64; 256]>,
    /// Key of the rule that joins small records.
    pub join: Secret,
    /// Key of manifest tags.
    pub manifest_tag: Secret,
    /// Key of index tags.
    pub index_tag: Secret,
    /// The 32 bytes of the age identity M_s that opens manifests and indexes.
    pub metadata_identity: Secret,
}

impl SourceKeys {
    /// Derives all keys from W_s.
    pub fn new(source_secret: &Secret) -> Self {
        let key = |context: &str| Secret::new(blake3::derive_key(context, source_secret.expose()));
        Self {
            chunk_id: ChunkIdKey(key(CONTEXT_CHUNK_ID)),
            gear: gear_table(source_secret),
            join: key(CONTEXT_JOIN),
            manifest_tag: key(CONTEXT_MANIFEST_TAG),
            index_tag: key(CONTEXT_INDEX_TAG),
            metadata_identity: key(CONTEXT_METADATA),
        }
    }
}

/// 2048 bytes of BLAKE3's extended output, as 256 little-endian numbers.
fn gear_table(source_secret: &Secret) -> Box<[u64; 256]> {
    let mut bytes = [0; 2048];
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT_GEAR);
    hasher.update(source_secret.expose()).finalize_xof().fill(&mut bytes);
    let mut gear = Box::new([0; 256]);
    for (number, chunk) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*chunk);
    }
    bytes.zeroize();
    gear
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_hold_the_derivation_still() {
        let identity = Secret::new([1; 32]);
        let keys = SourceKeys::new(&source_secret(&writer_secret(&identity), &"vault".parse().unwrap()));
        let all = format!("{} {} {:016x}", repository_id(&identity), keys.chunk_id.id(b"abc"), keys.gear[255]);
        assert_eq!(all, include_str!("../vectors/v1/derive.txt").trim_end());
    }

    #[test]
    fn sources_and_purposes_have_different_keys() {
        let writer = writer_secret(&Secret::new([1; 32]));
        let vault = SourceKeys::new(&source_secret(&writer, &"vault".parse().unwrap()));
        let consul = SourceKeys::new(&source_secret(&writer, &"consul".parse().unwrap()));
        let mut all = Vec::new();
        for keys in [&vault, &consul] {
            all.extend([&keys.chunk_id.0, &keys.join, &keys.manifest_tag, &keys.index_tag, &keys.metadata_identity]);
        }
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
        assert_ne!(vault.gear, consul.gear);
    }
}
