//! No lock: there is one agent. What it did is noted in a file, if it has a folder for it.

use super::{Attempt, Lock, LockError, LockKind};
use crate::agent::planner::Journal;
use async_trait::async_trait;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Nothing ends a lock that nobody else can take.
const TTL: Duration = Duration::from_secs(365 * 86_400);
/// Longest journal that is read, 1 MiB: a job takes some 60 bytes.
const JOURNAL_LEN_BYTES_MAX: u64 = 1 << 20;

/// The lock of an agent that has no replicas.
#[derive(Debug)]
pub struct Alone {
    path: Option<PathBuf>,
    written: Mutex<Option<Journal>>,
}

impl Alone {
    /// `path`: where the journal is kept; without it, the agent knows after a restart only what the repository tells.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, written: Mutex::default() }
    }

    fn write(&self, path: &Path, journal: &Journal) -> Result<(), LockError> {
        let failed = |action| move |source| LockError::File { action, path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        let text = serde_json::to_vec(journal).map_err(|e| failed("write")(e.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed("write"))?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed("write"))?;
        file.persist(path).map_err(|e| failed("write")(e.error))?;
        Ok(())
    }
}

#[async_trait]
impl Lock for Alone {
    fn kind(&self) -> LockKind {
        LockKind::None
    }

    fn ttl(&self) -> Duration {
        TTL
    }

    async fn take(&self) -> Result<Attempt, LockError> {
        let Some(path) = &self.path else { return Ok(Attempt::Held(Journal::new())) };
        let failed = |source| LockError::File { action: "read", path: path.clone(), source };
        let text = match std::fs::metadata(path) {
            Ok(meta) if meta.len() > JOURNAL_LEN_BYTES_MAX => {
                return Err(failed(std::io::Error::other("it is longer than 1 MiB")));
            }
            Ok(_) => std::fs::read(path).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Attempt::Held(Journal::new())),
            Err(error) => return Err(failed(error)),
        };
        let journal = serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the journal is unreadable; a new one is begun");
            Journal::new()
        });
        Ok(Attempt::Held(journal))
    }

    async fn renew(&self, journal: &Journal) -> Result<bool, LockError> {
        let Some(path) = &self.path else { return Ok(true) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref() != Some(journal) {
            self.write(path, journal)?;
            *written = Some(journal.clone());
        }
        Ok(true)
    }

    async fn release(&self, journal: &Journal) -> Result<(), LockError> {
        self.renew(journal).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::planner::Settled;

    #[tokio::test]
    async fn a_journal_outlives_the_process_and_rubbish_does_not_stop_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/agent.json");
        let journal = Journal::from([("gc".to_owned(), Settled { slot: 7, success: Some(8) })]);
        assert!(Alone::new(Some(path.clone())).renew(&journal).await.unwrap());
        assert_eq!(Alone::new(Some(path.clone())).take().await.unwrap(), Attempt::Held(journal));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Alone::new(Some(path)).take().await.unwrap(), Attempt::Held(Journal::new()));
    }
}
