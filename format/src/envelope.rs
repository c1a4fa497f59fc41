//! The plaintext of manifests and indexes: magic, version, tag, length, body, zeros up to a PADMÉ length.
//!
//! ```text
//! offset  0  magic, 8 bytes
//!         8  version, u16 LE
//!        10  tag, 32 bytes: keyed BLAKE3 over magic, version, u64 LE length of the logical name, the name,
//!            u64 LE length of the body, the body
//!        42  length of the body, u64 LE
//!        50  body, then zeros
//! ```

use crate::padme::padded_len_bytes;
use crate::{FORMAT_VERSION, FormatError, Secret};

const VERSION_AT: usize = 8;
const TAG_AT: usize = 10;
const LEN_AT: usize = 42;
/// Length of everything before the body.
pub const HEADER_LEN_BYTES: usize = 50;

const _: () = assert!(TAG_AT == VERSION_AT + 2 && LEN_AT == TAG_AT + 32 && HEADER_LEN_BYTES == LEN_AT + 8);

/// The two types of enveloped objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A manifest, in `manifests/` or `trash/`.
    Manifest,
    /// A pack's chunk table.
    Index,
}

impl Type {
    /// The first 8 bytes.
    pub const fn magic(self) -> [u8; 8] {
        match self {
            Self::Manifest => *b"HAHVMANF",
            Self::Index => *b"HAHVINDX",
        }
    }

    /// The word for messages.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Index => "index",
        }
    }
}

fn tag(kind: Type, version: u16, key: &Secret, logical_name: &str, body: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(&kind.magic()).update(&version.to_le_bytes());
    hasher.update(&(logical_name.len() as u64).to_le_bytes()).update(logical_name.as_bytes());
    hasher.update(&(body.len() as u64).to_le_bytes()).update(body);
    hasher.finalize()
}

/// Wraps a body under its logical name.
pub fn wrap(kind: Type, key: &Secret, logical_name: &str, body: &[u8]) -> Vec<u8> {
    let len = padded_len_bytes((HEADER_LEN_BYTES + body.len()) as u64);
    let mut out = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    out.extend(kind.magic());
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend(tag(kind, FORMAT_VERSION, key, logical_name, body).as_bytes());
    out.extend((body.len() as u64).to_le_bytes());
    out.extend(body);
    out.resize(usize::try_from(len).unwrap_or(out.len()), 0);
    out
}

/// Checks an envelope and gives its body. Nothing of the body is looked at before the tag has been checked.
///
/// # Errors
/// [`FormatError`]: `Magic`, `TooNew` (before the tag: a newer tag may be made in another way), `Short`, `Tag`,
/// `Padding`.
pub fn unwrap<'a>(kind: Type, key: &Secret, logical_name: &str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let what = kind.what();
    let short = |needed: u64| FormatError::Short { what, needed, have: bytes.len() as u64 };
    if bytes.get(..VERSION_AT).is_some_and(|magic| magic != kind.magic()) {
        return Err(FormatError::Magic { what });
    }
    let header: &[u8; HEADER_LEN_BYTES] = bytes.first_chunk().ok_or_else(|| short(HEADER_LEN_BYTES as u64))?;
    let version = u16::from_le_bytes([header[VERSION_AT], header[VERSION_AT + 1]]);
    if version > FORMAT_VERSION {
        return Err(FormatError::TooNew { what, found: version, newest: FORMAT_VERSION });
    }
    let mut len = [0; 8];
    len.copy_from_slice(&header[LEN_AT..]);
    let body_len = u64::from_le_bytes(len);
    let rest = &bytes[HEADER_LEN_BYTES..];
    if body_len > rest.len() as u64 {
        return Err(short(body_len.saturating_add(HEADER_LEN_BYTES as u64)));
    }
    let (body, padding) = rest.split_at(usize::try_from(body_len).unwrap_or(0));
    let mut found = [0; 32];
    found.copy_from_slice(&header[TAG_AT..LEN_AT]);
    // blake3::Hash compares in constant time.
    if version == 0 || tag(kind, version, key, logical_name, body) != blake3::Hash::from_bytes(found) {
        return Err(FormatError::Tag { what });
    }
    let padded = padded_len_bytes((HEADER_LEN_BYTES + body.len()) as u64);
    if padded != bytes.len() as u64 || padding.iter().any(|b| *b != 0) {
        return Err(FormatError::Padding { what });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "manifest/vault/20261122T143000Z-1a2b3c4d";

    fn key() -> Secret {
        Secret::new([5; 32])
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = wrap(Type::Manifest, &key(), NAME, &[0xaa; 300]);
        for i in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(unwrap(Type::Manifest, &key(), NAME, &bad).is_err(), "bit {i}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let good = wrap(Type::Index, &key(), NAME, &[0xaa; 300]);
        for len in 0..good.len() {
            assert!(unwrap(Type::Index, &key(), NAME, &good[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn another_name_type_or_key_is_refused() {
        let good = wrap(Type::Manifest, &key(), NAME, b"body");
        let tag = Err(FormatError::Tag { what: "manifest" });
        assert_eq!(unwrap(Type::Manifest, &key(), "manifest/vault/20261122T143001Z-1a2b3c4d", &good), tag);
        assert_eq!(unwrap(Type::Manifest, &Secret::new([6; 32]), NAME, &good), tag);
        assert_eq!(unwrap(Type::Index, &key(), NAME, &good), Err(FormatError::Magic { what: "index" }));
    }

    proptest! {
        #[test]
        fn bodies_round_trip(body: Vec<u8>, name in ".{0,80}") {
            let wrapped = wrap(Type::Index, &key(), &name, &body);
            prop_assert_eq!(unwrap(Type::Index, &key(), &name, &wrapped), Ok(body.as_slice()));
        }
    }
}
