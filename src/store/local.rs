//! A folder as a store.
//!
//! An object is written to a temporary file, synced, and given its name by an operation that fails when the name is taken, so
//! that a crash leaves either the whole object or none. Only the folder's own clock is used.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::NamedTempFile;

use super::key::{self, check_key, check_prefix};
use super::{At, LIST_LEN_MAX, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};
use crate::room;

/// A temporary file older than this was left by a crash: no put takes a day.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// Begins the names of temporary files.
const TMP_NAME: &str = "new-";
/// Guards the names where the file system has no other way to refuse an overwrite.
const LOCK_NAME: &str = "lock";
/// After a longer gap between writing and naming, an object's time is set again: gc must not take it for an old one.
const SLOW: Duration = Duration::from_secs(5);

const HINT_LINK: &str = "link or mount the repository's own folder, not one inside it";

/// A folder of objects, one file each. Files are made with mode 0600 and folders with 0700.
#[derive(Debug, Clone)]
pub struct LocalStore {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    swept: AtomicBool,
}

impl LocalStore {
    /// Opens a folder, which need not exist: the first put makes it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the path is empty or something else than a folder is there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let invalid = |what: String| StoreError::Invalid { what, hint: None };
        let root =
            std::path::absolute(path).map_err(|error| invalid(format!("not a usable path: {path:?}: {error}")))?;
        if fs::metadata(&root).is_ok_and(|found| !found.is_dir()) {
            return Err(invalid(format!("not a folder: {}", root.display())));
        }
        let swept = AtomicBool::new(false);
        Ok(Self { folder: Arc::new(Folder { root, swept }) })
    }

    /// Runs file operations on a thread that may block. When the caller goes away they still run to their end, so that
    /// temporary files are removed.
    async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        key: &str,
        work: impl FnOnce(&Folder) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        let at = At { operation, key: key.to_owned(), store: self.describe() };
        match done {
            Ok(result) => result.map_err(|failure| failure.at(at)),
            Err(panic) => Err(Failure::Io(io::Error::other(panic)).at(at)),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        self.folder.root.display().to_string()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        check_key(key)?;
        let name = key.to_owned();
        let put = move |folder: &Folder| folder.put(&name, &bytes);
        self.run(Operation::Put, key, put).await
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        check_key(key)?;
        let name = key.to_owned();
        let get = move |folder: &Folder| folder.get(&name, len_max_bytes);
        self.run(Operation::Get, key, get).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        check_prefix(prefix)?;
        let name = prefix.to_owned();
        let list = move |folder: &Folder| folder.list(&name, LIST_LEN_MAX);
        self.run(Operation::List, prefix, list).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        check_key(key)?;
        let name = key.to_owned();
        let stat = move |folder: &Folder| folder.stat(&name);
        self.run(Operation::Stat, key, stat).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let name = key.to_owned();
        let delete = move |folder: &Folder| folder.delete(&name);
        self.run(Operation::Delete, key, delete).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.run(Operation::Now, "", |folder| Ok(folder.now()?.into())).await
    }
}

impl Folder {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<Put, Failure> {
        let path = self.object_path(key)?;
        let parent = path.parent().unwrap_or(&self.root);
        if let Some(found) = look(&path)? {
            // Whoever made it may have crashed before its name was durable.
            sync_folder(parent)?;
            return if found.is_dir() { Err(Failure::IsFolder) } else { Ok(Put::Existed) };
        }
        create_folders(parent)?;
        let mut temporary = self.temporary()?;
        temporary.write_all(bytes)?;
        let written = SystemTime::now();
        temporary.as_file().sync_all()?;
        let Some(file) = self.name(temporary, &path)? else {
            return Ok(Put::Existed);
        };
        self.refresh_time(&file, written)?;
        sync_folder(parent)?;
        Ok(Put::Created)
    }

    /// Gives a finished file its name, or `None` when the name is taken. tempfile renames without replacing, or where that is
    /// not to be had makes a hard link.
    fn name(&self, temporary: NamedTempFile, path: &Path) -> Result<Option<File>, Failure> {
        match temporary.persist_noclobber(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) => match error.error.kind() {
                ErrorKind::AlreadyExists => Ok(None),
                // What FAT, some FUSE and some network file systems answer to a hard link.
                ErrorKind::Unsupported | ErrorKind::PermissionDenied => self.name_under_lock(error.file, path),
                _ => Err(error.error.into()),
            },
        }
    }

    /// The fall-back: all who write to this folder look and rename under one lock, so nothing is overwritten.
    fn name_under_lock(&self, temporary: NamedTempFile, path: &Path) -> Result<Option<File>, Failure> {
        let lock =
            File::options().create(true).truncate(false).write(true).open(self.root.join(key::TMP).join(LOCK_NAME))?;
        lock.lock()?;
        if look(path)?.is_some() {
            return Ok(None);
        }
        let named = temporary.persist(path).map_err(|error| error.error)?;
        Ok(Some(named))
    }

    /// A machine that slept between writing and naming would publish an object that looks old.
    fn refresh_time(&self, file: &File, written: SystemTime) -> Result<(), Failure> {
        if written.elapsed().is_ok_and(|gap| gap < SLOW) {
            return Ok(());
        }
        file.set_modified(self.now()?)?;
        file.sync_all()?;
        Ok(())
    }

    fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, Failure> {
        let path = self.object_path(key)?;
        let found = look(&path)?.filter(Metadata::is_file).ok_or(Failure::NotFound)?;
        if found.len() > len_max_bytes {
            return Err(Failure::TooLong { len_max_bytes });
        }
        // One byte more, to see the end.
        let mut bytes = room::with_capacity(usize::try_from(found.len().saturating_add(1)).unwrap_or(0));
        // Not by its stated length: the file could grow while it is read.
        let mut file = File::open(&path)?.take(len_max_bytes.saturating_add(1));
        file.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > len_max_bytes {
            return Err(Failure::TooLong { len_max_bytes });
        }
        Ok(bytes.into())
    }

    fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, Failure> {
        let found = look(&self.object_path(key)?)?.filter(Metadata::is_file);
        Ok(found.map(|found| meta(key.to_owned(), &found)).transpose()?)
    }

    fn delete(&self, key: &str) -> Result<(), Failure> {
        let path = self.object_path(key)?;
        match fs::remove_file(&path) {
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(sync_folder(path.parent().unwrap_or(&self.root))?),
        }
    }

    fn list(&self, prefix: &str, len_max: usize) -> Result<Vec<ObjectMeta>, Failure> {
        let mut found = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        if let Some(folder) = prefix.strip_suffix('/')
            && look(&self.object_path(folder)?)?.is_some_and(|found| found.is_symlink())
        {
            return Err(Failure::Symlink);
        }
        while let Some(prefix) = folders.pop() {
            self.list_folder(&prefix, len_max, &mut found, &mut folders)?;
        }
        if found.len() > len_max {
            return Err(Failure::TooMany { len_max });
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// One folder's objects and folders. What is neither, or could not be a key, is somebody else's.
    fn list_folder(
        &self,
        prefix: &str,
        len_max: usize,
        found: &mut Vec<ObjectMeta>,
        folders: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let entries = match fs::read_dir(self.root.join(prefix)) {
            Err(error) if is_absent(&error) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            if found.len() + folders.len() > len_max {
                return Err(Failure::TooMany { len_max });
            }
            let entry = entry?;
            let Some(key) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else {
                continue;
            };
            let kind = entry.file_type()?;
            if !key::is_key(&key) {
                continue;
            } else if kind.is_dir() {
                folders.push(key + "/");
            } else if kind.is_file() {
                // Deleted since: not in the listing.
                if let Some(file) = look(&entry.path())? {
                    found.push(meta(key, &file)?);
                }
            } else if kind.is_symlink() {
                tracing::warn!(%key, store = %self.root.display(), "symbolic link in the repository is not followed");
            }
        }
        Ok(())
    }

    /// The folder's own time: that of a file just written. Its clock may be a file server's.
    fn now(&self) -> Result<SystemTime, Failure> {
        let mut temporary = self.temporary()?;
        temporary.write_all(b"now")?;
        temporary.flush()?;
        Ok(temporary.as_file().metadata()?.modified()?)
    }

    /// A file that removes itself unless it is given a name, 0600.
    fn temporary(&self) -> Result<NamedTempFile, Failure> {
        let folder = self.root.join(key::TMP);
        create_folders(&folder)?;
        let temporary = tempfile::Builder::new().prefix(TMP_NAME).tempfile_in(&folder)?;
        if !self.swept.swap(true, Relaxed) {
            let now = temporary.as_file().metadata()?.modified()?;
            sweep(&folder, now);
        }
        Ok(temporary)
    }

    /// The path of a key. None of the folders on the way may be a symbolic link, or a listing, which follows none, would not
    /// show what a put has written.
    fn object_path(&self, key: &str) -> Result<PathBuf, Failure> {
        let mut path = self.root.clone();
        let mut parts = key.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_some() && look(&path)?.is_some_and(|found| found.is_symlink()) {
                return Err(Failure::Symlink);
            }
        }
        Ok(path)
    }
}

/// Metadata without following a link; `None` when nothing is there.
fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn meta(key: String, found: &Metadata) -> io::Result<ObjectMeta> {
    Ok(ObjectMeta { key, len_bytes: found.len(), modified: found.modified()?.into() })
}

/// Makes a folder and those above it, durably.
fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_folders(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
    }
}

/// Makes the names in a folder durable. Some network file systems refuse to sync a folder, and then there is no more to do.
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Removes what crashed runs left. Best effort: the next run tries again.
fn sweep(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let is_ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(TMP_NAME));
    for entry in entries.flatten() {
        let modified = entry.metadata().and_then(|found| found.modified());
        let is_stale = modified.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > STALE));
        if is_stale && is_ours(&entry.file_name()) && fs::remove_file(entry.path()).is_ok() {
            tracing::debug!(path = %entry.path().display(), "removed a stale temporary file");
        }
    }
}

/// What went wrong, before it is known where.
#[derive(Debug)]
enum Failure {
    NotFound,
    TooLong { len_max_bytes: u64 },
    TooMany { len_max: usize },
    IsFolder,
    Symlink,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Failure {
    fn at(self, at: At) -> StoreError {
        let other = |at, reason, hint| StoreError::Other { at, reason, hint, source: None };
        match self {
            Self::NotFound => StoreError::NotFound { at },
            Self::TooLong { len_max_bytes } => StoreError::TooLong { at, len_max_bytes },
            Self::TooMany { len_max } => StoreError::TooMany { at, len_max },
            Self::IsFolder => other(at, "a folder has that name", None),
            Self::Symlink => other(at, "a folder on the way is a symbolic link", Some(HINT_LINK)),
            Self::Io(error) => from_io(at, error),
        }
    }
}

fn from_io(at: At, error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound { at },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { at, source: error.into() },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Denied {
            at,
            hint: Some("check the owner and mode of the repository's folder"),
            source: error.into(),
        },
        _ => StoreError::Other { at, reason: "the file system failed", hint: None, source: Some(error.into()) },
    }
}

#[cfg(test)]
mod tests;
