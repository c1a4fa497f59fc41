//! The metrics file of batch runs: node_exporter's textfile collector reads it, and the next run does.
//!
//! Counters and the time of the last success go on over runs that fail, crash or overlap: each run adds what it learnt to
//! what is in the file, under a lock, and replaces the file as a whole.

use super::registry::complete;
use super::text::{Parsed, encode, parse};
use super::{Registry, Values};
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// No metrics file is longer: 4096 series of each metric would be 40 MB, what people have is some 10 KB.
const FILE_LEN_BYTES_MAX: u64 = 4 << 20;
/// How long another run may hold the lock; it writes some KB meanwhile.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Read by everybody: node_exporter is another user.
const MODE: u32 = 0o644;

/// The metrics file could not be brought up to date.
#[derive(Debug, Error)]
pub enum FileError {
    /// node_exporter reads no other, and no other kind of file is ever written over.
    #[error("the metrics file {} does not end in .prom", .path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// Of the file or its folder.
    #[error("cannot {action} the metrics file {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A metrics file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsFile {
    path: PathBuf,
}

/// What came of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// All that is in the file now.
    pub values: Values,
    /// Lines of the old file that nobody understands, and that are gone.
    pub rubbish_lines: usize,
}

impl MetricsFile {
    /// At a path that ends in `.prom`; nothing is touched yet.
    ///
    /// # Errors
    /// [`FileError::Name`].
    pub fn new(path: PathBuf) -> Result<Self, FileError> {
        match path.extension() {
            Some(extension) if extension == "prom" => Ok(Self { path }),
            _ => Err(FileError::Name { path }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what the registry learnt since the last update. Blocks. When it fails, the registry keeps it for the next.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn update(&self, registry: &Registry) -> Result<Updated, FileError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let _lock = self.lock(folder)?;
        let Parsed { mut values, rubbish_lines } = self.read()?;
        let learnt = registry.take();
        values.absorb(learnt.clone());
        complete(&mut values, registry.now_unix_s());
        match self.replace(folder, &encode(&values)) {
            Ok(()) => Ok(Updated { values, rubbish_lines }),
            Err(source) => {
                registry.resume(learnt);
                Err(self.failed("write", source))
            }
        }
    }

    /// What is in the file; nothing if there is none.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn read(&self) -> Result<Parsed, FileError> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(FILE_LEN_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Parsed::default()),
            Err(source) => Err(self.failed("read", source)),
            Ok(_) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> FileError {
        FileError::Io { action, path: self.path.clone(), source }
    }

    /// Locks the folder: the file itself is replaced, and one beside it would stay behind. Where folders cannot be
    /// locked, runs that overlap may lose each other's figures.
    fn lock(&self, folder: &Path) -> Result<File, FileError> {
        let file = File::open(folder).map_err(|source| self.failed("write", source))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(folder = %folder.display(), %error, "the folder cannot be locked");
                    return Ok(file);
                }
                Err(TryLockError::WouldBlock) if started.elapsed() >= LOCK_WAIT_MAX => {
                    let busy = io::Error::new(ErrorKind::TimedOut, "another run has locked its folder for 5 s");
                    return Err(self.failed("write", busy));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_LOOK_EVERY),
            }
        }
    }

    /// The name of the temporary file does not end in `.prom`: nobody reads half of it.
    fn replace(&self, folder: &Path, text: &str) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".hah-vault-").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        // Exactly so, whatever the umask is.
        file.as_file().set_permissions(Permissions::from_mode(MODE))?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}
