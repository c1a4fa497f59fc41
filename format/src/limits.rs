//! Every limit of the format. A decoder compares a length with its limit before it allocates anything.

/// Most plaintext bytes in one pack, 8 MiB: decisions/002.
pub const PACK_PLAINTEXT_LEN_BYTES_MAX: u32 = 8 << 20;
/// Most chunks in one pack. Bounds an index object: 65,536 × 21 bytes, about 1.4 MB.
pub const PACK_CHUNKS_MAX: u32 = 1 << 16;
/// Longest chunk, 1 MiB.
pub const CHUNK_LEN_BYTES_MAX: u32 = 1 << 20;
/// Longest pack object: incompressible plaintext, zstd's bound on it, padding (at most 12 %), age's framing.
pub const PACK_OBJECT_LEN_BYTES_MAX: u64 = 10 << 20;
/// Largest window a pack's zstd frame may declare, log2 of bytes: 8 MiB.
pub const PACK_WINDOW_LOG_MAX: u32 = 23;
/// Longest manifest envelope (before age), 32 MiB.
pub const MANIFEST_LEN_BYTES_MAX: usize = 32 << 20;
/// Longest index envelope (before age), 4 MiB.
pub const INDEX_LEN_BYTES_MAX: usize = 4 << 20;
/// What age adds at most to a manifest or an index: header (two X25519 stanzas), nonce, 16 bytes per 64 KiB.
pub const AGE_OVERHEAD_LEN_BYTES_MAX: u64 = 64 << 10;
/// Longest file in `keys/`, 64 KiB.
pub const KEY_OBJECT_LEN_BYTES_MAX: u64 = 64 << 10;
/// Longest `repository.json`, 4 KiB.
pub const REPOSITORY_OBJECT_LEN_BYTES_MAX: u64 = 4 << 10;
/// Most packs that one manifest names.
pub const MANIFEST_PACKS_MAX: usize = 1 << 16;
/// Most extents in one list of a manifest.
pub const MANIFEST_EXTENTS_MAX: usize = 1 << 20;
/// Most regions in the transform description of a manifest.
pub const MANIFEST_REGIONS_MAX: usize = 1 << 12;
/// Most labels of one manifest.
pub const MANIFEST_LABELS_MAX: usize = 64;
/// Most record tags counted in one manifest.
pub const MANIFEST_RECORD_TAGS_MAX: usize = 256;
/// Longest short text field (host, tool, label key), bytes.
pub const TEXT_LEN_BYTES_MAX: usize = 255;
/// Longest value of a label, bytes.
pub const LABEL_VALUE_LEN_BYTES_MAX: usize = 4096;
/// Longest reason of a hold, bytes.
pub const HOLD_REASON_LEN_BYTES_MAX: usize = 1024;
/// Longest source name and key label, bytes.
pub const NAME_LEN_BYTES_MAX: usize = 63;
/// Longest stream, 2^46 bytes (64 TiB): keeps every sum far from overflow.
pub const STREAM_LEN_BYTES_MAX: u64 = 1 << 46;

const _: () = {
    assert!(PACK_OBJECT_LEN_BYTES_MAX > PACK_PLAINTEXT_LEN_BYTES_MAX as u64);
    assert!(CHUNK_LEN_BYTES_MAX <= PACK_PLAINTEXT_LEN_BYTES_MAX);
    assert!(INDEX_LEN_BYTES_MAX > PACK_CHUNKS_MAX as usize * 21 + 4096);
};
