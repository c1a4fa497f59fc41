//! Key files of Nomad's keystore, as one tar.
//!
//! Nomad 1.4 to 1.8 keep their keyring in `<data_dir>/server/keystore`, one file for each key, and not in the snapshot;
//! 1.9 and later keep it in Raft (facts 3.2). The tar is plain ustar, so that `tar x` reads it, and the same files give
//! the same bytes: sorted by name, mode 0600, no owner, no time.

use super::printable::printable;
use thiserror::Error;
use zeroize::Zeroizing;

/// How a key file's name ends.
const SUFFIX: &str = ".nks.json";
/// Length of the UUID that it begins with.
const UUID_LEN: usize = 36;
/// Longest name: what a ustar header holds.
const NAME_LEN_BYTES_MAX: usize = 100;
/// Most files: Nomad makes one each month.
pub const FILES_MAX: usize = 256;
/// Longest file: they have some 500 bytes, and with an RSA key (1.7 and later) some 2,500.
pub const FILE_LEN_BYTES_MAX: usize = 32 << 10;
/// Length of a tar's blocks.
const BLOCK_LEN_BYTES: usize = 512;
/// Longest tar of so many files.
pub const TAR_LEN_BYTES_MAX: usize = 4 << 20;

/// One file of a keystore. Its content is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    name: String,
    content: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("name", &self.name).field("len_bytes", &self.content.len()).finish()
    }
}

/// What is wrong with key files, or with a tar of them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyFileError {
    /// No file at all.
    #[error("there is no key file (*.nks.json)")]
    Empty,
    /// Too many.
    #[error("there are more than {FILES_MAX} key files")]
    TooMany,
    /// Not the name of a key file.
    #[error("{name} is not the name of a key file")]
    Name {
        /// It, printable.
        name: String,
    },
    /// The content is not a JSON object, or too long.
    #[error("{name} is not a whole key file")]
    Content {
        /// The file.
        name: String,
    },
    /// The same name twice, or names out of order.
    #[error("{name} is out of order")]
    Order {
        /// The second.
        name: String,
    },
    /// The tar is not one of ours.
    #[error("the keystore's tar is damaged at byte {at}")]
    Tar {
        /// Where.
        at: usize,
    },
}

impl KeyFile {
    /// A key file: a UUID, in later versions another part, and `.nks.json`; a JSON object. Half-written ones are none:
    /// Nomad does not replace its files in one go.
    ///
    /// # Errors
    /// [`KeyFileError::Name`], [`KeyFileError::Content`].
    pub fn new(name: &str, content: Zeroizing<Vec<u8>>) -> Result<Self, KeyFileError> {
        if !is_key_file(name) {
            return Err(KeyFileError::Name { name: printable(name.as_bytes()) });
        }
        let is_object = serde_json::from_slice::<Object>(&content).is_ok();
        if content.len() > FILE_LEN_BYTES_MAX || !is_object {
            return Err(KeyFileError::Content { name: name.into() });
        }
        Ok(Self { name: name.into(), content })
    }

    /// Its name, without a folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bytes.
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}

/// Any JSON object; what is in it is not kept.
struct Object;

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Object)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Whether Nomad would read a file of this name.
pub fn is_key_file(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(SUFFIX).filter(|_| name.len() <= NAME_LEN_BYTES_MAX) else { return false };
    let Some((uuid, rest)) = stem.split_at_checked(UUID_LEN) else { return false };
    let is_uuid = uuid.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    is_uuid && (rest.is_empty() || rest.starts_with('.') && rest.len() > 1 && rest.bytes().all(is_plain))
}

/// The tar of some files, in any order.
///
/// # Errors
/// [`KeyFileError::Empty`], [`KeyFileError::TooMany`], [`KeyFileError::Order`] if a name is there twice.
pub fn encode(files: &[KeyFile]) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut files: Vec<&KeyFile> = files.iter().collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    check(&files)?;
    let len = files.iter().map(|file| BLOCK_LEN_BYTES + padded(file.content.len())).sum::<usize>();
    // All of it at once: a vector that grows leaves copies behind.
    let mut tar = Zeroizing::new(Vec::with_capacity(len + 2 * BLOCK_LEN_BYTES));
    for file in files {
        tar.extend_from_slice(&header(&file.name, file.content.len()));
        tar.extend_from_slice(&file.content);
        let end = padded(tar.len());
        tar.resize(end, 0);
    }
    tar.resize(len + 2 * BLOCK_LEN_BYTES, 0);
    Ok(tar)
}

/// The files of a tar that [`encode`] made; any other is refused.
///
/// # Errors
/// [`KeyFileError`].
pub fn decode(tar: &[u8]) -> Result<Vec<KeyFile>, KeyFileError> {
    let mut files = Vec::new();
    let mut at = 0;
    loop {
        let damaged = || KeyFileError::Tar { at };
        let block = tar.get(at..at + BLOCK_LEN_BYTES).ok_or_else(damaged)?;
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        if files.len() == FILES_MAX {
            return Err(KeyFileError::TooMany);
        }
        let (name, len) = parse_header(block).ok_or_else(damaged)?;
        at += BLOCK_LEN_BYTES;
        let content = tar.get(at..at + len).ok_or(KeyFileError::Tar { at })?;
        files.push(KeyFile::new(&name, Zeroizing::new(content.to_vec()))?);
        let end = at + padded(len);
        let padding = tar.get(at + len..end).ok_or(KeyFileError::Tar { at })?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(KeyFileError::Tar { at });
        }
        at = end;
    }
    let rest = &tar[at..];
    if rest.len() != 2 * BLOCK_LEN_BYTES || rest.iter().any(|byte| *byte != 0) {
        return Err(KeyFileError::Tar { at });
    }
    check(&files.iter().collect::<Vec<_>>())?;
    Ok(files)
}

fn check(sorted: &[&KeyFile]) -> Result<(), KeyFileError> {
    if sorted.is_empty() {
        return Err(KeyFileError::Empty);
    }
    if sorted.len() > FILES_MAX {
        return Err(KeyFileError::TooMany);
    }
    match sorted.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        Some(pair) => Err(KeyFileError::Order { name: pair[1].name.clone() }),
        None => Ok(()),
    }
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK_LEN_BYTES)
}

/// A ustar header (POSIX.1-1988): name, mode, owner, length, time, checksum, type, magic.
fn header(name: &str, len: usize) -> [u8; BLOCK_LEN_BYTES] {
    let mut block = [0; BLOCK_LEN_BYTES];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{len:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Name and length of a header that is exactly the one that [`header`] makes of them.
fn parse_header(block: &[u8]) -> Option<(String, usize)> {
    let name_len = block.iter().position(|byte| *byte == 0).filter(|len| *len <= NAME_LEN_BYTES_MAX)?;
    let name = std::str::from_utf8(block.get(..name_len)?).ok()?;
    let digits = std::str::from_utf8(block.get(124..135)?).ok()?;
    let len = usize::from_str_radix(digits, 8).ok().filter(|len| *len <= FILE_LEN_BYTES_MAX)?;
    (header(name, len) == block).then(|| (name.to_owned(), len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn file() -> impl Strategy<Value = (String, Vec<u8>)> {
        let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        let name = (uuid, prop_oneof![Just(String::new()), "\\.[a-z0-9]{1,9}"]);
        let content = (0_usize..1200).prop_map(|len| format!("{{\"KEK\":\"{}\"}}", "x".repeat(len)).into_bytes());
        (name.prop_map(|(uuid, part)| format!("{uuid}{part}.nks.json")), content)
    }

    fn files(list: Vec<(String, Vec<u8>)>) -> Vec<KeyFile> {
        list.into_iter().map(|(name, content)| KeyFile::new(&name, Zeroizing::new(content)).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_keystore_comes_back_sorted_and_any_tar_reads_it(list in proptest::collection::vec(file(), 1..12)) {
            let mut expected = files(list);
            expected.sort_by(|a, b| a.name.cmp(&b.name));
            expected.dedup_by(|a, b| a.name == b.name);
            let mut shuffled = expected.clone();
            shuffled.reverse();
            let tar = encode(&shuffled).unwrap();
            prop_assert!(tar == encode(&expected).unwrap());
            prop_assert_eq!(&decode(&tar).unwrap(), &expected);
            let mut archive = tar::Archive::new(&tar[..]);
            for (entry, file) in archive.entries().unwrap().zip(&expected) {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                prop_assert_eq!(&entry.path_bytes()[..], file.name().as_bytes());
                prop_assert_eq!(&content[..], file.content());
                prop_assert_eq!(entry.header().mode().unwrap(), 0o600);
            }
        }

        #[test]
        fn what_decodes_is_what_was_encoded(list in proptest::collection::vec(file(), 1..4), at in any::<prop::sample::Index>(), with in 1_u8..=255) {
            let mut list = files(list);
            list.sort_by(|a, b| a.name.cmp(&b.name));
            list.dedup_by(|a, b| a.name == b.name);
            let mut tar = encode(&list).unwrap().to_vec();
            let at = at.index(tar.len());
            tar[at] ^= with;
            // Only the content of a file can differ and still be a keystore: it is covered by the seal.
            if let Ok(decoded) = decode(&tar) {
                prop_assert_eq!(&encode(&decoded).unwrap()[..], &tar[..]);
                prop_assert!(decoded.iter().zip(&list).all(|(a, b)| a.content.len() == b.content.len()));
            }
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn names_are_those_that_nomad_reads_and_never_lead_out_of_the_folder() {
        let uuid = "1b1cbf2b-9a3f-4a5e-8b0f-0123456789ab";
        for name in [format!("{uuid}.nks.json"), format!("{uuid}.aead.nks.json"), format!("{uuid}.0.nks.json")] {
            assert!(is_key_file(&name), "{name}");
        }
        for name in [
            "",
            ".nks.json",
            "x.nks.json",
            &format!("{uuid}.json"),
            &format!("{uuid}x.nks.json"),
            &format!("{uuid}..nks.json"),
            &format!("{uuid}./../x.nks.json"),
            &format!("../{uuid}.nks.json"),
            &format!("{uuid}.{}.nks.json", "a".repeat(60)),
        ] {
            assert!(!is_key_file(name), "{name}");
        }
    }

    #[test]
    fn half_a_file_and_no_file_are_refused() {
        let name = "1b1cbf2b-9a3f-4a5e-8b0f-0123456789ab.nks.json";
        for content in ["", "{", "{\"Meta\":{}", "[]", "1", "{}x"] {
            let made = KeyFile::new(name, Zeroizing::new(content.into()));
            assert_eq!(made, Err(KeyFileError::Content { name: name.into() }), "{content}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(FILE_LEN_BYTES_MAX));
        assert!(KeyFile::new(name, Zeroizing::new(long.into())).is_err());
        assert_eq!(encode(&[]), Err(KeyFileError::Empty));
        let one = KeyFile::new(name, Zeroizing::new(b"{}".to_vec())).unwrap();
        assert_eq!(encode(&[one.clone(), one]), Err(KeyFileError::Order { name: name.into() }));
    }
}
