//! The keystore folder of a Nomad server, read and written. Blocks.
//!
//! Nomad writes its files in place (encrypter.go, `saveKeyToStore`), also at each start, and wraps the keys anew then:
//! the same key has other bytes on each server and after each start.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::snapshot::keystore::{FILE_LEN_BYTES_MAX, FILES_MAX, KeyFile, KeyFileError, is_key_file};

/// How often a file that is being written is read again.
const READS_MAX: usize = 20;
/// How long to wait in between.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A keystore folder cannot be read or written.
#[derive(Debug, Error)]
pub enum KeystoreError {
    /// A file or the folder.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the folder is no keystore.
    #[error("{}: {source}", .folder.display())]
    Keys {
        /// The folder.
        folder: PathBuf,
        /// Why; told already.
        source: KeyFileError,
    },
    /// Files of these names are there, with other content.
    #[error("{} holds other files of these names: {}", .folder.display(), .names.join(", "))]
    Differs {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        names: Vec<String>,
    },
}

impl KeystoreError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("the files belong to the user that Nomad runs as: run as that user, or as root".into())
            }
            Self::File { .. } => None,
            Self::Keys { source: KeyFileError::Empty, .. } => {
                Some("it should be <data_dir>/server/keystore of a Nomad 1.4 to 1.8 server".into())
            }
            Self::Keys { .. } => Some("is a Nomad server writing there at this moment, or is its disk full?".into()),
            Self::Differs { .. } => Some(
                "Nomad wraps a key anew at each start, so these may well be the same keys; --force replaces the files"
                    .into(),
            ),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeystoreError {
    let path = path.to_owned();
    move |source| KeystoreError::File { action, path, source }
}

/// All key files of a folder. Other files are left out, as Nomad does.
///
/// # Errors
/// [`KeystoreError::File`], [`KeystoreError::Keys`] if there is none, too many, or one that is not whole.
pub fn read(folder: &Path) -> Result<Vec<KeyFile>, KeystoreError> {
    let wrong = |source| KeystoreError::Keys { folder: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("read the keystore", folder))? {
        let entry = entry.map_err(failed("read the keystore", folder))?;
        let Some(name) = entry.file_name().to_str().filter(|name| is_key_file(name)).map(str::to_owned) else {
            continue;
        };
        if files.len() == FILES_MAX {
            return Err(wrong(KeyFileError::TooMany));
        }
        files.push(read_file(&entry.path(), &name).and_then(|file| file.map_err(wrong))?);
    }
    if files.is_empty() {
        return Err(wrong(KeyFileError::Empty));
    }
    files.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(files)
}

/// A file, read again for a while if it is not whole.
fn read_file(path: &Path, name: &str) -> Result<Result<KeyFile, KeyFileError>, KeystoreError> {
    for _ in 1..READS_MAX {
        let file = KeyFile::new(name, content(path)?);
        if !matches!(file, Err(KeyFileError::Content { .. })) {
            return Ok(file);
        }
        std::thread::sleep(READ_AGAIN_AFTER);
    }
    Ok(KeyFile::new(name, content(path)?))
}

fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    // All of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN_BYTES_MAX + 1));
    let file = File::open(path).map_err(failed("read", path))?;
    file.take(FILE_LEN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

/// Refuses files that differ from those to be written, unless forced. Nothing is changed.
///
/// # Errors
/// [`KeystoreError::Differs`], [`KeystoreError::File`].
pub fn check(folder: &Path, files: &[KeyFile], force: bool) -> Result<(), KeystoreError> {
    let mut names = Vec::new();
    for file in files {
        if is_there(folder, file)? == Some(false) {
            names.push(file.name().to_owned());
        }
    }
    if names.is_empty() || force { Ok(()) } else { Err(KeystoreError::Differs { folder: folder.to_owned(), names }) }
}

/// Whether the same content is there; nothing if there is no such file.
fn is_there(folder: &Path, file: &KeyFile) -> Result<Option<bool>, KeystoreError> {
    let path = folder.join(file.name());
    match path.symlink_metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
        Ok(found) if !found.is_file() => Ok(Some(false)),
        Ok(_) => Ok(Some(*content(&path)? == file.content())),
    }
}

/// Writes key files, 0600, the folder 0700 if it has to be made, each at once and durably. What is the same already stays;
/// gives how many were written. Run by root, they belong to whom the folder belongs to.
///
/// # Errors
/// [`KeystoreError::Differs`] before anything was written, [`KeystoreError::File`].
pub fn write(folder: &Path, files: &[KeyFile], force: bool) -> Result<usize, KeystoreError> {
    check(folder, files, force)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make the folder", folder))?;
    let owner = fs::metadata(folder).map_err(failed("read", folder))?;
    let mut written = 0;
    for file in files {
        if is_there(folder, file)? != Some(true) {
            write_file(folder, file, &owner, force).map_err(failed("write", &folder.join(file.name())))?;
            written += 1;
        }
    }
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("write", folder))?;
    Ok(written)
}

fn write_file(folder: &Path, file: &KeyFile, owner: &fs::Metadata, force: bool) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix(".hah-vault-").suffix(".part").tempfile_in(folder)?;
    temporary.write_all(file.content())?;
    let own = temporary.as_file().metadata()?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) && own.uid() == 0 {
        std::os::unix::fs::fchown(temporary.as_file(), Some(owner.uid()), Some(owner.gid()))?;
    }
    temporary.as_file().sync_all()?;
    let path = folder.join(file.name());
    match force {
        true => temporary.persist(path).map(drop).map_err(|error| error.error),
        false => temporary.persist_noclobber(path).map(drop).map_err(|error| error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NAMES: [&str; 2] =
        ["1b1cbf2b-9a3f-4a5e-8b0f-0123456789ab.nks.json", "0b1cbf2b-9a3f-4a5e-8b0f-0123456789ab.nks.json"];

    fn keystore(content: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        for name in NAMES {
            fs::write(folder.path().join(name), content).expect("write");
        }
        fs::write(folder.path().join("README"), "no key").expect("write");
        fs::create_dir(folder.path().join("old")).expect("folder");
        folder
    }

    #[test]
    fn a_keystore_is_read_and_written_with_its_modes() {
        let files = read(keystore("{\"KEK\":1}").path()).expect("files");
        assert_eq!(files.iter().map(KeyFile::name).collect::<Vec<_>>(), [NAMES[1], NAMES[0]]);
        let parent = tempfile::tempdir().expect("folder");
        let to = parent.path().join("server/keystore");
        assert_eq!(write(&to, &files, false).expect("written"), 2);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&to), mode(&to.join(NAMES[0]))), (0o700, 0o600));
        assert!(read(&to).expect("files") == files);
        assert_eq!(write(&to, &files, false).expect("again"), 0);
    }

    #[test]
    fn nothing_is_written_over_without_force_and_nothing_at_all_if_one_differs() {
        let files = read(keystore("{\"KEK\":1}").path()).expect("files");
        let to = tempfile::tempdir().expect("folder");
        fs::write(to.path().join(NAMES[0]), "{\"KEK\":2}").expect("write");
        let error = write(to.path(), &files, false).expect_err("differs");
        assert!(matches!(&error, KeystoreError::Differs { names, .. } if names == &[NAMES[0]]), "{error}");
        assert_eq!(fs::read_dir(to.path()).expect("folder").count(), 1);
        assert_eq!(write(to.path(), &files, true).expect("forced"), 2);
        assert!(read(to.path()).expect("files") == files);
        assert_eq!(fs::read_dir(to.path()).expect("folder").count(), 2);
    }

    #[test]
    fn a_folder_without_whole_keys_is_refused() {
        let empty = tempfile::tempdir().expect("folder");
        let error = read(empty.path()).expect_err("empty");
        assert!(error.hint().expect("hint").contains("server/keystore"), "{error}");
        assert!(read(&empty.path().join("nowhere")).is_err());
        let half = read(keystore("{\"KEK\":").path()).expect_err("half");
        assert!(half.to_string().contains("not a whole key file"), "{half}");
    }

    #[test]
    fn a_file_that_is_being_written_is_read_again() {
        let folder = keystore("{}");
        let path = folder.path().join(NAMES[0]);
        fs::write(&path, "").expect("write");
        let late = path.clone();
        let (seen, begin) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            begin.recv().expect("begun");
            fs::write(late, "{\"KEK\":7}").expect("write");
        });
        assert!(matches!(KeyFile::new(NAMES[0], content(&path).expect("empty")), Err(KeyFileError::Content { .. })));
        seen.send(()).expect("writer");
        let files = read(folder.path()).expect("files");
        writer.join().expect("writer");
        assert!(files.iter().any(|file| file.content() == b"{\"KEK\":7}"));
    }
}
