//! Sealing and opening of objects: zstd, padding, age, and the object's name.

use crate::keys::{KeyError, SourceKeyring, age_identity, age_recipient};
use crate::room;
use hah_vault_format::limits::{
    AGE_OVERHEAD_LEN_BYTES_MAX, HOLD_REASON_LEN_BYTES_MAX, PACK_OBJECT_LEN_BYTES_MAX, PACK_WINDOW_LOG_MAX,
};
use hah_vault_format::{FormatError, Index, Manifest, ManifestName, ObjectId, pack};
use std::io::{self, Read, Write};
use thiserror::Error;

/// What can go wrong between plaintext and object.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The format refuses it.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// age refuses it.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The object's bytes are not those that its name promises.
    #[error("its bytes are not what its name promises (damaged or replaced)")]
    Name,
    /// zstd refuses it, or it is not as long as declared.
    #[error("cannot decompress: {0}")]
    Decompress(String),
    /// More plaintext than the type of object may have.
    #[error("longer than the limit of {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// zstd or age could not write to memory.
    #[error("cannot seal: {0}")]
    Seal(#[source] io::Error),
}

/// A sealed object and its name.
#[derive(Debug, Clone)]
pub struct SealedPack {
    /// BLAKE3 of the bytes.
    pub id: ObjectId,
    /// The object.
    pub bytes: Vec<u8>,
}

/// How hard packs are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// zstd at the level that suits the amount of data.
    Auto,
    /// Stored: closes the guessing of secrets by watching sizes (SPEC §16).
    Off,
}

impl Compression {
    /// zstd's level for a pack, decisions/013; `None` to store it.
    fn level(self, plaintext: &[u8]) -> io::Result<Option<i32>> {
        if self == Self::Off {
            return Ok(None);
        }
        if plaintext.len() <= TINY_PACK_LEN_BYTES_MAX {
            return Ok(Some(SMALL_PACK_LEVEL));
        }
        let (sampled_len, compressed_len) = sample(plaintext)?;
        let level = if compressed_len * 5 >= sampled_len * 4 {
            // Vault's encrypted values: level 3 finds the keys between them, and no level finds more.
            LEVEL
        } else if plaintext.len() <= SMALL_PACK_LEN_BYTES_MAX {
            SMALL_PACK_LEVEL
        } else if compressed_len * 4 < sampled_len {
            ALIKE_LEVEL
        } else {
            LEVEL
        };
        Ok(Some(level))
    }
}

/// Fast on all data.
const LEVEL: i32 = 3;
/// Packs up to this length take a few milliseconds at any level, and are not sampled.
const TINY_PACK_LEN_BYTES_MAX: usize = 256 << 10;
/// Packs up to this length are compressed harder: a run's few changes, where a byte saved is saved for long.
const SMALL_PACK_LEN_BYTES_MAX: usize = 1 << 20;
/// For small packs that compress at all.
const SMALL_PACK_LEVEL: i32 = 15;
/// For large packs that shrink to less than a quarter, as Nomad's: then it finds much more in little more time.
const ALIKE_LEVEL: i32 = 9;

/// Samples of a pack that are tried.
const SAMPLES: usize = 4;
/// How long each is: an eighth of the pack in all, but neither nothing nor much.
const SAMPLE_LEN_BYTES_MIN: usize = 32 << 10;
const SAMPLE_LEN_BYTES_MAX: usize = 256 << 10;

/// Length of some samples, before and after compression.
fn sample(plaintext: &[u8]) -> io::Result<(usize, usize)> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let len = (plaintext.len() / (8 * SAMPLES)).clamp(SAMPLE_LEN_BYTES_MIN, SAMPLE_LEN_BYTES_MAX);
    let (mut sampled_len, mut compressed_len) = (0, 0);
    for sample in 0..SAMPLES {
        let rest = &plaintext[plaintext.len() / SAMPLES * sample..];
        let sample = &rest[..rest.len().min(len)];
        sampled_len += sample.len();
        compressed_len += compressor.compress(sample)?.len();
    }
    Ok((sampled_len, compressed_len))
}

/// Counts what passes through, since the padding depends on the frame's length.
struct Counting<W> {
    inner: W,
    len_bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.len_bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Compresses, pads and encrypts a pack. The whole pack is one zstd frame.
///
/// # Errors
/// [`SealError`].
pub fn seal_pack(plaintext: &[u8], recipient: &[u8; 32], compression: Compression) -> Result<SealedPack, SealError> {
    let recipient = age_recipient(recipient)?;
    let mut bytes = room::with_capacity(plaintext.len() / 2 + 1024);
    let writer = age_writer(&mut bytes, &[&recipient])?;
    let counting = Counting { inner: writer, len_bytes: 0 };
    let counting = compress(plaintext, compression, counting).map_err(SealError::Seal)?;
    let mut writer = counting.inner;
    let sealed = write_padding(&mut writer, counting.len_bytes).and_then(|()| writer.finish().map(drop));
    sealed.map_err(SealError::Seal)?;
    Ok(SealedPack { id: ObjectId::of(&bytes), bytes })
}

fn age_writer<'a>(
    out: &'a mut Vec<u8>,
    recipients: &[&dyn age::Recipient],
) -> Result<age::stream::StreamWriter<&'a mut Vec<u8>>, SealError> {
    let encryptor = age::Encryptor::with_recipients(recipients.iter().copied());
    let encryptor = encryptor.map_err(|e| KeyError::Encrypt(e.to_string()))?;
    encryptor.wrap_output(out).map_err(SealError::Seal)
}

fn compress<W: Write>(plaintext: &[u8], compression: Compression, mut out: W) -> io::Result<W> {
    let Some(level) = compression.level(plaintext)? else {
        write_stored_frame(plaintext, &mut out)?;
        return Ok(out);
    };
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(false)?;
    encoder.set_pledged_src_size(Some(plaintext.len() as u64))?;
    encoder.write_all(plaintext)?;
    encoder.finish()
}

/// A zstd frame of raw blocks, whose length depends on nothing but the plaintext's length (RFC 8878 §3.1.1).
fn write_stored_frame(plaintext: &[u8], out: &mut impl Write) -> io::Result<()> {
    /// Longest block: 128 KiB.
    const BLOCK_LEN_BYTES_MAX: usize = 128 << 10;
    /// Single segment, size in 4 bytes, no checksum, no dictionary.
    const DESCRIPTOR: u8 = 2 << 6 | 1 << 5;
    out.write_all(&0xFD2F_B528_u32.to_le_bytes())?;
    out.write_all(&[DESCRIPTOR])?;
    out.write_all(&u32::try_from(plaintext.len()).unwrap_or(u32::MAX).to_le_bytes())?;
    let mut blocks = plaintext.chunks(BLOCK_LEN_BYTES_MAX).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        let word = u32::try_from(block.len()).unwrap_or(0) << 3 | last;
        out.write_all(&word.to_le_bytes()[..3])?;
        out.write_all(block)?;
    }
    Ok(())
}

/// The skippable frame of zeros behind a data frame of `frame_len_bytes`.
fn write_padding(out: &mut impl Write, frame_len_bytes: u64) -> io::Result<()> {
    let mut padding = Vec::new();
    pack::padding_frame(frame_len_bytes, &mut padding);
    out.write_all(&padding)
}

/// Opens a pack: name, age, framing, zstd, length.
///
/// # Errors
/// [`SealError`].
pub fn open_pack(
    bytes: &[u8],
    id: &ObjectId,
    plaintext_len_bytes: u32,
    identity: &crate::keys::RepositoryIdentity,
) -> Result<Vec<u8>, SealError> {
    if ObjectId::of(bytes) != *id {
        return Err(SealError::Name);
    }
    let padded = decrypt(bytes, &identity.age()?, PACK_OBJECT_LEN_BYTES_MAX)?;
    unpack(&padded, plaintext_len_bytes)
}

/// What age gives back of a pack, to the pack's plaintext: framing, zstd, length.
///
/// # Errors
/// [`SealError`].
pub fn unpack(padded: &[u8], plaintext_len_bytes: u32) -> Result<Vec<u8>, SealError> {
    let frame = pack::unpad(padded, plaintext_len_bytes)?;
    let failed = |e: io::Error| SealError::Decompress(e.to_string());
    let mut decoder = zstd::bulk::Decompressor::new().map_err(failed)?;
    decoder.window_log_max(PACK_WINDOW_LOG_MAX).map_err(failed)?;
    let mut plaintext = room::with_capacity(plaintext_len_bytes as usize);
    decoder.decompress_to_buffer(frame, &mut plaintext).map_err(failed)?;
    if plaintext.len() != plaintext_len_bytes as usize {
        return Err(SealError::Decompress(format!("{} bytes instead of {plaintext_len_bytes}", plaintext.len())));
    }
    Ok(plaintext)
}

fn decrypt(bytes: &[u8], identity: &age::x25519::Identity, len_max: u64) -> Result<Vec<u8>, SealError> {
    let decryptor = age::Decryptor::new_buffered(bytes).map_err(|e| KeyError::Decrypt(e.to_string()))?;
    let reader = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => KeyError::NoMatch,
        other => KeyError::Decrypt(other.to_string()),
    })?;
    let mut plaintext = room::with_capacity(bytes.len());
    let mut limited = reader.take(len_max + 1);
    limited.read_to_end(&mut plaintext).map_err(|e| KeyError::Decrypt(e.to_string()))?;
    if plaintext.len() as u64 > len_max {
        return Err(SealError::TooLong { limit: len_max });
    }
    Ok(plaintext)
}

fn seal_metadata(envelope: &[u8], keyring: &SourceKeyring) -> Result<Vec<u8>, SealError> {
    let metadata = age_identity(&keyring.keys.metadata_identity)?.to_public();
    let reader = age_recipient(&keyring.recipient)?;
    let mut bytes = Vec::with_capacity(envelope.len() + 1024);
    let mut writer = age_writer(&mut bytes, &[&metadata, &reader])?;
    writer.write_all(envelope).and_then(|()| writer.finish().map(drop)).map_err(SealError::Seal)?;
    Ok(bytes)
}

/// Seals the index of a pack.
///
/// # Errors
/// [`SealError`].
pub fn seal_index(index: &Index, pack: &ObjectId, keyring: &SourceKeyring) -> Result<Vec<u8>, SealError> {
    seal_metadata(&index.to_envelope(&keyring.keys.index_tag, pack)?, keyring)
}

/// Opens and authenticates the index of a pack.
///
/// # Errors
/// [`SealError`].
pub fn open_index(bytes: &[u8], pack: &ObjectId, keyring: &SourceKeyring) -> Result<Index, SealError> {
    let identity = age_identity(&keyring.keys.metadata_identity)?;
    let envelope = decrypt(bytes, &identity, hah_vault_format::limits::INDEX_LEN_BYTES_MAX as u64)?;
    Ok(Index::from_envelope(&keyring.keys.index_tag, pack, &envelope)?)
}

/// Seals a manifest.
///
/// # Errors
/// [`SealError`].
pub fn seal_manifest(manifest: &Manifest, keyring: &SourceKeyring) -> Result<Vec<u8>, SealError> {
    seal_metadata(&manifest.to_envelope(&keyring.keys.manifest_tag)?, keyring)
}

/// Opens and authenticates the manifest called `name`.
///
/// # Errors
/// [`SealError`].
pub fn open_manifest(bytes: &[u8], name: &ManifestName, keyring: &SourceKeyring) -> Result<Manifest, SealError> {
    let identity = age_identity(&keyring.keys.metadata_identity)?;
    let envelope = decrypt(bytes, &identity, hah_vault_format::limits::MANIFEST_LEN_BYTES_MAX as u64)?;
    Ok(Manifest::from_envelope(&keyring.keys.manifest_tag, name, &envelope)?)
}

/// Reasons are padded with spaces to a multiple of this, so that their lengths say little.
const HOLD_STEP_LEN_BYTES: usize = 256;
/// The most bytes that a hold may have.
pub const HOLD_OBJECT_LEN_BYTES_MAX: u64 = HOLD_REASON_LEN_BYTES_MAX as u64 + AGE_OVERHEAD_LEN_BYTES_MAX;

/// Seals the reason of a hold: only the source's writers and readers can read it. It carries no tag; nothing depends on
/// it.
///
/// # Errors
/// [`SealError::TooLong`], and those of age.
pub fn seal_hold(text: &str, keyring: &SourceKeyring) -> Result<Vec<u8>, SealError> {
    if text.len() > HOLD_REASON_LEN_BYTES_MAX {
        return Err(SealError::TooLong { limit: HOLD_REASON_LEN_BYTES_MAX as u64 });
    }
    let mut padded = text.as_bytes().to_vec();
    padded.resize(text.len().next_multiple_of(HOLD_STEP_LEN_BYTES).max(HOLD_STEP_LEN_BYTES), b' ');
    seal_metadata(&padded, keyring)
}

/// Opens the reason of a hold.
///
/// # Errors
/// [`SealError`].
pub fn open_hold(bytes: &[u8], keyring: &SourceKeyring) -> Result<String, SealError> {
    let identity = age_identity(&keyring.keys.metadata_identity)?;
    let text = decrypt(bytes, &identity, HOLD_REASON_LEN_BYTES_MAX as u64)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// The most bytes that a manifest object may have.
pub const MANIFEST_OBJECT_LEN_BYTES_MAX: u64 =
    hah_vault_format::limits::MANIFEST_LEN_BYTES_MAX as u64 + AGE_OVERHEAD_LEN_BYTES_MAX;
/// The most bytes that an index object may have.
pub const INDEX_OBJECT_LEN_BYTES_MAX: u64 =
    hah_vault_format::limits::INDEX_LEN_BYTES_MAX as u64 + AGE_OVERHEAD_LEN_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Keyring, RepositoryIdentity};
    use proptest::prelude::*;

    #[test]
    fn every_flipped_bit_of_a_pack_is_noticed() {
        let identity = RepositoryIdentity::generate().unwrap();
        let sealed =
            seal_pack(b"some plaintext, some more", &identity.recipient().unwrap(), Compression::Auto).unwrap();
        for i in 0..sealed.bytes.len() * 8 {
            let mut bad = sealed.bytes.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(open_pack(&bad, &sealed.id, 25, &identity).is_err(), "bit {i} under its own name");
            // Even under the name that fits the changed bytes, age's own authentication holds.
            assert!(open_pack(&bad, &ObjectId::of(&bad), 25, &identity).is_err(), "bit {i} renamed");
        }
    }

    #[test]
    fn a_stranger_opens_neither_packs_nor_metadata() {
        let (ours, theirs) = (RepositoryIdentity::generate().unwrap(), RepositoryIdentity::generate().unwrap());
        let sealed = seal_pack(b"secret", &ours.recipient().unwrap(), Compression::Auto).unwrap();
        let opened = open_pack(&sealed.bytes, &sealed.id, 6, &theirs);
        assert!(matches!(opened, Err(SealError::Key(KeyError::NoMatch))));
    }

    #[test]
    fn an_index_opens_with_its_own_sources_keys_only() {
        let keyring = Keyring::from_identity(RepositoryIdentity::generate().unwrap()).unwrap();
        let vault = keyring.source(&"vault".parse().unwrap()).unwrap();
        let consul = keyring.source(&"consul".parse().unwrap()).unwrap();
        let index = Index {
            key_generation: 1,
            source: vault.source.clone(),
            created: hah_vault_format::UnixTime::from_unix_s(1).unwrap(),
            pack_len_bytes: 1,
            chunks: vec![hah_vault_format::IndexEntry { id: hah_vault_format::ChunkId([1; 16]), len_bytes: 5 }],
        };
        let id = ObjectId([7; 32]);
        let bytes = seal_index(&index, &id, &vault).unwrap();
        assert_eq!(open_index(&bytes, &id, &vault).unwrap(), index);
        assert!(matches!(open_index(&bytes, &id, &consul), Err(SealError::Key(KeyError::NoMatch))));
    }

    #[test]
    fn effort_is_spent_where_it_saves_something() {
        let mut noise = vec![0; 3 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let text: Vec<u8> = noise.iter().map(|b| b"abcdefghijklmnop"[usize::from(b % 16)]).collect();
        let alike = noise[..2_000].repeat(1_000);
        let level = |bytes: &[u8]| Compression::Auto.level(bytes).unwrap();
        assert_eq!(level(&noise), Some(LEVEL));
        assert_eq!(level(&noise[..TINY_PACK_LEN_BYTES_MAX]), Some(SMALL_PACK_LEVEL));
        assert_eq!(level(&noise[..TINY_PACK_LEN_BYTES_MAX + 1]), Some(LEVEL));
        assert_eq!(level(&text), Some(LEVEL));
        assert_eq!(level(&text[..1 << 20]), Some(SMALL_PACK_LEVEL));
        assert_eq!(level(&alike), Some(ALIKE_LEVEL));
        assert_eq!(level(&alike[..1 << 20]), Some(SMALL_PACK_LEVEL));
        assert_eq!(level(&[]), Some(SMALL_PACK_LEVEL));
        assert_eq!(Compression::Off.level(&text).unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn packs_round_trip(plaintext in proptest::collection::vec(any::<u8>(), 1..300_000), off: bool) {
            let identity = RepositoryIdentity::generate().unwrap();
            let compression = if off { Compression::Off } else { Compression::Auto };
            let sealed = seal_pack(&plaintext, &identity.recipient().unwrap(), compression).unwrap();
            let len = u32::try_from(plaintext.len()).unwrap();
            prop_assert_eq!(open_pack(&sealed.bytes, &sealed.id, len, &identity).unwrap(), plaintext);
        }
    }
}
