//! A local file that gets its name when it is whole. Until then it has none, where the file system can do that: so a
//! process that is killed leaves nothing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What the names of temporary files begin and end with.
const PREFIX: &str = ".hah-vault-";
const SUFFIX: &str = ".part";

/// A file, 0600, that disappears unless it is given its name.
pub(super) enum NewFile {
    /// Linux, on most file systems.
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// Elsewhere: with a temporary name.
    Named(NamedTempFile),
}

impl NewFile {
    /// In a folder.
    pub(super) fn create_in(folder: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed(folder) {
            return Ok(Self::Unnamed(file));
        }
        named(folder).map(Self::Named)
    }

    /// To be written.
    pub(super) fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives it its name, in the folder that it was made in, durably; in place of another file only with `force`.
    pub(super) fn keep(self, path: &Path, force: bool) -> io::Result<()> {
        self.file().sync_all()?;
        let folder = folder_of(path);
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) if force => replace(&file, &folder, path)?,
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => link(&file, path)?,
            Self::Named(file) if force => file.persist(path).map(drop).map_err(|e| e.error)?,
            Self::Named(file) => file.persist_noclobber(path).map(drop).map_err(|e| e.error)?,
        }
        File::open(folder)?.sync_all()
    }
}

fn named(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder)
}

/// A file without a name, if it can be given one later: file system and `/proc` decide (open(2), O_TMPFILE).
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).ok()?);
    descriptor_path(&file).symlink_metadata().is_ok().then_some(file)
}

#[cfg(target_os = "linux")]
fn descriptor_path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Names a file; never in place of another one.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor_path(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Names a file in place of another one. There is a temporary name for a moment: a link never replaces anything.
#[cfg(target_os = "linux")]
fn replace(file: &File, folder: &Path, path: &Path) -> io::Result<()> {
    // A name that nobody has: the file that had it is gone when this one gets it.
    let temporary = named(folder)?.into_temp_path();
    std::fs::remove_file(&temporary)?;
    link(file, &temporary)?;
    temporary.persist(path).map_err(|e| e.error)
}

/// The folder that a path is in.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder");
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn either_kind_gets_its_name_at_the_end_and_replaces_only_by_force() {
        let kinds: [fn(&Path) -> io::Result<NewFile>; 2] =
            [NewFile::create_in, |folder| named(folder).map(NewFile::Named)];
        for create in kinds {
            let folder = tempfile::tempdir().expect("folder");
            let path = folder.path().join("x");
            for (text, force) in [("first", false), ("second", true)] {
                let file = create(folder.path()).expect("file");
                file.file().write_all(text.as_bytes()).expect("written");
                file.keep(&path, force).expect("named");
                assert_eq!(fs::read_to_string(&path).expect("there"), text);
            }
            let refused = create(folder.path()).expect("file").keep(&path, false).expect_err("there already");
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            drop(create(folder.path()).expect("file"));
            assert_eq!(names(folder.path()), ["x"]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_unfinished_file_has_no_name() {
        let folder = tempfile::tempdir().expect("folder");
        let file = NewFile::create_in(folder.path()).expect("file");
        if matches!(file, NewFile::Unnamed(_)) {
            assert!(names(folder.path()).is_empty());
        }
    }
}
