//! A repository in memory whose store and host know only the time that a test gives them.

use crate::support::held_world::HeldWorld;
use crate::support::repo::TestRepository;
use hah_vault::archive::gc::{GcOptions, GcReport, Plan, execute, plan};
use hah_vault::archive::retention::Policy;
use hah_vault::archive::{ArchiveError, Cancel, Repository};
use hah_vault::keys::RepositoryIdentity;
use hah_vault::store::{MemoryStore, Store, StoreTime};
use hah_vault_format::ManifestName;
use std::sync::Arc;
use std::time::Duration;

pub const HOUR: Duration = Duration::from_secs(3600);

/// 2026-11-22T14:30:00Z.
pub const BEGIN: StoreTime = StoreTime { unix_ms: 1_795_357_800_000 };

pub struct Lab {
    pub memory: Arc<MemoryStore>,
    pub world: Arc<HeldWorld>,
    pub test: TestRepository,
    pub identity: RepositoryIdentity,
}

/// Keeps the newest only.
pub fn newest_only() -> GcOptions {
    GcOptions { policy: Policy::NOTHING, force: true, ..GcOptions::default() }
}

impl Lab {
    pub async fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        memory.set_now(BEGIN);
        let identity = RepositoryIdentity::generate().unwrap();
        hah_vault::archive::repository::create(memory.as_ref(), &identity, &[]).await.unwrap();
        let world = Arc::new(HeldWorld::default());
        let mut test = TestRepository::with_identity(memory.clone(), identity.clone());
        test.repository.world = world.clone();
        Self { memory, world, test, identity }
    }

    /// Both clocks go on.
    pub fn advance(&self, by: Duration) {
        self.memory.advance_ms(i64::try_from(by.as_millis()).unwrap());
        self.world.advance(by);
    }

    /// The same repository through another store.
    pub fn through(&self, store: Arc<dyn Store>) -> Repository {
        Repository { store, ..self.test.repository.clone() }
    }

    /// Backs up bytes that nothing else shares.
    pub async fn backup(&self, source: &str, content: u8) -> ManifestName {
        self.test.backup_bytes(source, &content_of(content)).await.unwrap().manifest.name
    }

    /// One snapshot of other bytes each hour, numbered from 0.
    pub async fn hourly(&self, source: &str, count: u8) -> Vec<ManifestName> {
        let mut names = Vec::new();
        for content in 0..count {
            names.push(self.backup(source, content).await);
            self.advance(HOUR);
        }
        names
    }

    pub async fn plan(&self, options: &GcOptions) -> Result<Plan, ArchiveError> {
        plan(&self.test.repository, options, &Cancel::default()).await
    }

    pub async fn gc(&self, options: &GcOptions) -> Result<GcReport, ArchiveError> {
        gc(&self.test.repository, options).await
    }

    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        self.memory.list(prefix).await.unwrap().into_iter().map(|object| object.key).collect()
    }

    pub async fn count(&self, prefix: &str) -> usize {
        self.keys(prefix).await.len()
    }

    /// Every manifest restores to the bytes that its number stands for.
    pub async fn assert_all_restore(&self, names: &[ManifestName], contents: impl IntoIterator<Item = u8>) {
        for (name, content) in names.iter().zip(contents) {
            assert!(self.test.restore(name).await.unwrap().0 == content_of(content), "{name}");
        }
    }
}

pub async fn gc(repository: &Repository, options: &GcOptions) -> Result<GcReport, ArchiveError> {
    let plan = plan(repository, options, &Cancel::default()).await?;
    execute(repository, &plan, options, &Cancel::default()).await
}

/// Bytes that do not compress; those of each number are its own.
pub fn content_of(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; 20_000];
    blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
    bytes
}
