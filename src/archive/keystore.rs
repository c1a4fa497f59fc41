//! Nomad's keystore beside its snapshot: sealed like a pack, and kept in labels of the manifest (decisions/016).
//!
//! ```text
//! folder -> tar -> age( zstd ), as a pack -> base64 -> keystore, keystore-00, keystore-01, … -> manifest
//! ```
//! So it is committed with the snapshot or not at all, needs no keys but those of its source, lives as long as the
//! snapshot does, and opens with an identity only: a writer key shows the labels and not what is in them.

use super::{ArchiveError, Monitor, Repository};
use crate::pipeline::seal::{self, Compression};
use crate::snapshot::keystore::{self as files, KeyFile};
use crate::source::keystore::{self as folder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hah_vault_format::limits::LABEL_VALUE_LEN_BYTES_MAX;
use hah_vault_format::manifest::{Kind, ManifestLabel};
use hah_vault_format::{Manifest, ManifestName, ObjectId, SourceName};
use std::path::Path;

/// Label with the sealed object's BLAKE3 and its plaintext's length, `<64 hex> <bytes>`. Its parts follow.
pub const LABEL: &str = "keystore";
/// Beginning of the parts' labels: two digits follow.
const LABEL_PART: &str = "keystore-";
/// Most parts: 48 of 64 labels, 147,456 bytes sealed, some 80 keys.
const PARTS_MAX: usize = 48;
/// Versions of Nomad whose snapshots do not hold the keyring: 1.4 to 1.8 (facts 3.2).
const MINORS_OUTSIDE: std::ops::RangeInclusive<u64> = 4..=8;

/// Whether a label is a part of a sealed keystore, of no use to people.
pub fn is_part(key: &str) -> bool {
    key.strip_prefix(LABEL_PART).is_some_and(|number| number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit()))
}

/// A keystore on its way into a manifest.
pub(super) struct Sealed {
    pub(super) labels: Vec<ManifestLabel>,
    pub(super) files: usize,
}

/// Reads and seals a folder. Blocks.
pub(super) fn seal(source: &SourceName, path: &Path, recipient: &[u8; 32]) -> Result<Sealed, ArchiveError> {
    let failed = |error| ArchiveError::Keystore { what: format!("{source}: not backed up"), source: error };
    let wrong = |error| failed(folder::KeystoreError::Keys { folder: path.to_owned(), source: error });
    let found = folder::read(path).map_err(failed)?;
    let tar = files::encode(&found).map_err(wrong)?;
    let pack = seal::seal_pack(&tar, recipient, Compression::Auto)?;
    // A multiple of four, so that each part is base64 by itself too.
    let part_len = LABEL_VALUE_LEN_BYTES_MAX / 4 * 3;
    if pack.bytes.len() > part_len * PARTS_MAX {
        return Err(wrong(files::KeyFileError::TooMany));
    }
    let mut labels = vec![ManifestLabel { key: LABEL.into(), value: format!("{} {}", pack.id, tar.len()) }];
    labels.extend(
        pack.bytes.chunks(part_len).enumerate().map(|(number, part)| ManifestLabel {
            key: format!("{LABEL_PART}{number:02}"),
            value: STANDARD.encode(part),
        }),
    );
    Ok(Sealed { labels, files: found.len() })
}

/// The keystore that was backed up with a snapshot.
///
/// # Errors
/// [`ArchiveError::NoKeystore`], [`ArchiveError::KeystoreSeal`], [`ArchiveError::NotTheSame`],
/// [`ArchiveError::NeedsIdentity`].
pub fn open(repository: &Repository, manifest: &Manifest) -> Result<Vec<KeyFile>, ArchiveError> {
    let name = &manifest.name;
    let identity = repository.keyring.identity.as_ref();
    let identity = identity.ok_or(ArchiveError::NeedsIdentity { what: "opening a keystore" })?;
    let head = manifest.labels.iter().find(|label| label.key == LABEL);
    let head = head.ok_or_else(|| ArchiveError::NoKeystore { name: name.clone() })?;
    let damaged = || ArchiveError::NotTheSame { name: name.clone(), what: "keystore" };
    let (id, len) = head.value.split_once(' ').ok_or_else(damaged)?;
    let id: ObjectId = id.parse().map_err(|_| damaged())?;
    let len: u32 = len.parse().map_err(|_| damaged())?;
    if len as usize > files::TAR_LEN_BYTES_MAX {
        return Err(damaged());
    }
    let mut sealed = Vec::new();
    for label in manifest.labels.iter().filter(|label| is_part(&label.key)) {
        sealed.extend(STANDARD.decode(&label.value).map_err(|_| damaged())?);
    }
    let opened = seal::open_pack(&sealed, &id, len, identity);
    let tar = opened.map_err(|source| ArchiveError::KeystoreSeal { name: name.clone(), source })?;
    let tar = zeroize::Zeroizing::new(tar);
    files::decode(&tar).map_err(|_| damaged())
}

/// Refuses to restore over files that differ, unless forced. Nothing is changed. Blocks.
///
/// # Errors
/// [`ArchiveError::Keystore`].
pub fn check(name: &ManifestName, path: &Path, files: &[KeyFile], force: bool) -> Result<(), ArchiveError> {
    folder::check(path, files, force).map_err(|source| not_restored(name, source))
}

/// Writes the files into a folder; gives how many were not there already. Blocks.
///
/// # Errors
/// [`ArchiveError::Keystore`].
pub fn write(name: &ManifestName, path: &Path, files: &[KeyFile], force: bool) -> Result<usize, ArchiveError> {
    folder::write(path, files, force).map_err(|source| not_restored(name, source))
}

fn not_restored(name: &ManifestName, source: folder::KeystoreError) -> ArchiveError {
    ArchiveError::Keystore { what: format!("{name}: the keystore is not restored"), source }
}

/// Warns of a Nomad whose keyring is not where it is looked for.
pub(super) fn warn(monitor: &dyn Monitor, manifest: &Manifest) {
    let Some(version) = manifest.labels.iter().find(|label| label.key == "server-version") else { return };
    let has_keystore = manifest.labels.iter().any(|label| label.key == LABEL);
    let text = match (manifest.kind, is_outside(&version.value)) {
        (Kind::Nomad, Some(true)) if !has_keystore => {
            "keeps its keyring outside of the snapshot, and without it variables cannot be read: back up a server's \
             keystore folder too, with --keystore"
        }
        (Kind::Nomad, Some(false)) if has_keystore => {
            "keeps its keyring in the snapshot: --keystore is needed only until its keys have been rotated after an \
             upgrade from 1.8 or older"
        }
        _ => return,
    };
    monitor.warn(Some(&manifest.name.source), format!("Nomad {} {text}", version.value));
}

/// What is left to do about the keyring after a restore into a Nomad.
pub(super) fn next_step(manifest: &Manifest, is_written: bool) -> Option<String> {
    let label = |key: &str| manifest.labels.iter().find(|label| label.key == key);
    if is_written {
        return Some(
            "restart the Nomad server whose keystore folder was written: it reads the keys at its start, and the other \
             servers get them from it"
                .into(),
        );
    }
    if label(LABEL).is_some() {
        return Some(
            "the keyring was backed up with the snapshot: write it into a server's keystore folder with --keystore, or \
             variables and workload identities stay unreadable"
                .into(),
        );
    }
    // Without a version nobody knows.
    let outside = label("server-version").is_none_or(|version| is_outside(&version.value) == Some(true));
    outside.then(|| {
        "Nomad 1.4 to 1.8 keep the keyring outside of the snapshot: put the files of the keystore folder back, or \
         variables and workload identities stay unreadable"
            .into()
    })
}

/// Whether a version keeps its keyring outside of the snapshot; older ones have none.
fn is_outside(version: &str) -> Option<bool> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']);
    let (major, minor): (u64, u64) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    if (major, minor) < (1, *MINORS_OUTSIDE.start()) {
        return None;
    }
    Some(major == 1 && MINORS_OUTSIDE.contains(&minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (version, expected) in [
            ("1.3.9", None),
            ("0.12.0", None),
            ("1.4.0-beta.1", Some(true)),
            ("1.8.4+ent", Some(true)),
            ("1.9.0", Some(false)),
            ("1.10.1", Some(false)),
            ("2.0.0", Some(false)),
            ("", None),
            ("x.y", None),
        ] {
            assert_eq!(is_outside(version), expected, "{version}");
        }
    }

    #[test]
    fn parts_are_known_by_their_names() {
        assert!(is_part("keystore-00") && is_part("keystore-47"));
        assert!(!is_part("keystore") && !is_part("keystore-1") && !is_part("keystore-ab") && !is_part("keystore-000"));
    }
}
