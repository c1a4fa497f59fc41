//! A repository in some store, with all its keys, and short ways to back up and restore.

use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use hah_vault::archive::restore::{RestoreReport, restore};
use hah_vault::archive::{ArchiveError, Cancel, Event, Monitor, Repository, repository};
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::store::{MemoryStore, Store};
use hah_vault::world::Machine;
use hah_vault_format::ManifestName;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Keeps every event.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Monitor for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        let text = |e: &Event| match e {
            Event::Warning { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(text).collect()
    }
}

/// A repository for tests.
pub struct TestRepository {
    pub repository: Repository,
    pub recorder: Arc<Recorder>,
}

/// A fixture's path.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

impl TestRepository {
    /// In memory.
    pub async fn in_memory() -> Self {
        Self::create(Arc::new(MemoryStore::new())).await
    }

    /// In any store.
    pub async fn create(store: Arc<dyn Store>) -> Self {
        let identity = RepositoryIdentity::generate().unwrap();
        repository::create(store.as_ref(), &identity, &[]).await.unwrap();
        Self::with_identity(store, identity)
    }

    /// With keys that exist already.
    pub fn with_identity(store: Arc<dyn Store>, identity: RepositoryIdentity) -> Self {
        let recorder = Arc::new(Recorder::default());
        let keyring = Keyring::from_identity(identity).unwrap();
        let repository = Repository { store, keyring, world: Machine::shared(), monitor: recorder.clone() };
        Self { repository, recorder }
    }

    /// Backs up one file.
    pub async fn backup(&self, source: &str, path: &Path) -> Result<BackupReport, ArchiveError> {
        self.backup_with(source, path, &BackupOptions::default()).await
    }

    /// The same, with options.
    pub async fn backup_with(
        &self,
        source: &str,
        path: &Path,
        options: &BackupOptions,
    ) -> Result<BackupReport, ArchiveError> {
        let spec = SourceSpec { name: source.parse().unwrap(), input: Input::File(path.to_owned()) };
        let mut outcomes = backup(&self.repository, vec![spec], options, &Cancel::default()).await?;
        outcomes.remove(0).1
    }

    /// Backs up bytes.
    pub async fn backup_bytes(&self, source: &str, bytes: &[u8]) -> Result<BackupReport, ArchiveError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        self.backup(source, file.path()).await
    }

    /// Names of all manifests.
    pub async fn manifests(&self) -> Vec<ManifestName> {
        self.repository.list_manifests(None).await.unwrap().into_iter().map(|listed| listed.name).collect()
    }

    /// Restores into memory.
    pub async fn restore(&self, name: &ManifestName) -> Result<(Vec<u8>, RestoreReport), ArchiveError> {
        restore(&self.repository, name, Vec::new(), false, &Cancel::default()).await
    }

    /// Restores the newest of a source into memory.
    pub async fn restore_latest(&self, source: &str) -> Result<(Vec<u8>, RestoreReport), ArchiveError> {
        let name = self.repository.resolve(&format!("{source}@latest")).await?;
        self.restore(&name).await
    }
}
