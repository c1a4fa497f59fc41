//! A month of a snapshot every ten minutes, collected to the default policy: time, operations, bytes.
//!
//! ```text
//! cargo bench --bench gc -- [--runs N] [--size BYTES]
//! ```
//! Real backups, sealed and all, of a small state of which a hundredth changes each time, into a store in memory whose clock
//! is the simulation's. While it is filled, listings show only what the newest manifest names: a backup uses nothing else,
//! and thousands of them would list everything else each time. Then `gc`, a day later again: the first sets aside, the
//! second deletes. The same repository is copied into a folder and collected there without grace, for the time that
//! disks take.

#[path = "../tests/support/held_world.rs"]
mod held_world;

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::archive::backup::{BackupOptions, Input, SourceSpec, backup};
use hah_vault::archive::gc::{GcOptions, execute, plan};
use hah_vault::archive::{Cancel, GRACE, Repository, Silent, repository};
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::store::{
    Counts, LocalStore, MemoryStore, ObjectMeta, Put, RecordingStore, Store, StoreError, StoreTime,
};
use hah_vault::world::Machine;
use hah_vault_format::Manifest;
use held_world::HeldWorld;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const RUNS: u32 = 4_320;
const RUN_INTERVAL: Duration = Duration::from_secs(600);
const SIZE_BYTES: usize = 60_000;
/// Bytes of a record.
const RECORD_LEN_BYTES: usize = 100;
/// 2023-11-14: long enough ago that a folder, whose clock is the real one, does not take the last for one from the future.
const BEGIN_UNIX_MS: i64 = 1_700_000_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1).filter(|a| a != "--bench");
    let (mut runs, mut size_bytes) = (RUNS, SIZE_BYTES);
    while let Some(word) = words.next() {
        let value = words.next().ok_or("a value is missing")?;
        match word.as_str() {
            "--runs" => runs = value.parse()?,
            "--size" => size_bytes = value.parse()?,
            _ => return Err(format!("{word} is no option").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(simulate(runs, size_bytes))
}

/// Lists only what the newest manifest names, and what was put since.
#[derive(Debug)]
struct Recent {
    memory: Arc<MemoryStore>,
    keys: Mutex<BTreeSet<String>>,
}

impl Recent {
    fn with_keys<T>(&self, work: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        work(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This manifest is the newest now.
    fn committed(&self, manifest: &Manifest) {
        let packs = manifest.packs.iter().flat_map(|pack| [pack.id.pack_key(), pack.id.index_key()]);
        self.with_keys(|keys| *keys = packs.chain([manifest.name.key()]).collect());
    }
}

#[async_trait]
impl Store for Recent {
    fn describe(&self) -> String {
        self.memory.describe()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> std::result::Result<Put, StoreError> {
        let put = self.memory.put_if_absent(key, bytes).await?;
        self.with_keys(|keys| keys.insert(key.to_owned()));
        Ok(put)
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> std::result::Result<Bytes, StoreError> {
        self.memory.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> std::result::Result<Vec<ObjectMeta>, StoreError> {
        let keys = self.with_keys(|keys| keys.clone());
        let mut found = Vec::new();
        for key in keys.iter().filter(|key| key.starts_with(prefix)) {
            found.extend(self.memory.stat(key).await?);
        }
        Ok(found)
    }

    async fn stat(&self, key: &str) -> std::result::Result<Option<ObjectMeta>, StoreError> {
        self.memory.stat(key).await
    }

    async fn delete(&self, key: &str) -> std::result::Result<(), StoreError> {
        self.memory.delete(key).await
    }

    async fn now(&self) -> std::result::Result<StoreTime, StoreError> {
        self.memory.now().await
    }
}

async fn simulate(runs: u32, size_bytes: usize) -> Result<()> {
    let memory = Arc::new(MemoryStore::new());
    memory.set_now(StoreTime { unix_ms: BEGIN_UNIX_MS });
    let identity = RepositoryIdentity::generate()?;
    repository::create(memory.as_ref(), &identity, &[]).await?;
    let world = Arc::new(HeldWorld::default());
    let keyring = Keyring::from_identity(identity)?;
    let held = Repository { store: memory.clone(), keyring, world: world.clone(), monitor: Arc::new(Silent) };
    let began = Instant::now();
    let recent = Arc::new(Recent { memory: memory.clone(), keys: Mutex::default() });
    fill(&held, &recent, &world, runs, size_bytes).await?;
    println!("{runs} backups of {size_bytes} bytes in {:.1} s", began.elapsed().as_secs_f64());

    // A copy as it is now, for the folder.
    let dir = tempfile::tempdir()?;
    copy(memory.as_ref(), dir.path()).await?;
    let folder: Arc<dyn Store> = Arc::new(LocalStore::open(dir.path())?);

    println!("{:<26} {:>8} {:>9} {:>9} {:>12} {:>12}", "", "time", "class A", "class B", "bytes before", "bytes after");
    let options = GcOptions { force: true, ..GcOptions::default() };
    collect("memory: set aside", &held, &options).await?;
    pass(&memory, &world, GRACE + Duration::from_secs(3600));
    collect("memory: a day later", &held, &options).await?;

    let local = Repository { store: folder, world: Machine::shared(), ..held };
    let options = GcOptions { grace: Duration::ZERO, exclusive: true, ..options };
    collect("folder: set aside", &local, &options).await?;
    collect("folder: delete", &local, &options).await
}

fn pass(memory: &MemoryStore, world: &HeldWorld, time: Duration) {
    memory.advance_ms(i64::try_from(time.as_millis()).unwrap_or(0));
    world.advance(time);
}

/// Every backup changes a hundredth of the records, here and there.
async fn fill(held: &Repository, recent: &Arc<Recent>, world: &HeldWorld, runs: u32, size_bytes: usize) -> Result<()> {
    let repository = Repository { store: recent.clone(), ..held.clone() };
    let mut state = vec![0; size_bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut state);
    let records = (size_bytes / RECORD_LEN_BYTES).max(1);
    let file = tempfile::NamedTempFile::new()?;
    for run in 0..runs {
        let mut choices = vec![0; records.div_ceil(100) * 4];
        blake3::Hasher::new().update(&run.to_le_bytes()).finalize_xof().fill(&mut choices);
        for choice in choices.chunks_exact(4) {
            let record = u32::from_le_bytes([choice[0], choice[1], choice[2], choice[3]]) as usize % records;
            let end = ((record + 1) * RECORD_LEN_BYTES).min(size_bytes);
            blake3::Hasher::new().update(choice).finalize_xof().fill(&mut state[record * RECORD_LEN_BYTES..end]);
        }
        std::fs::write(file.path(), &state)?;
        let source = SourceSpec { name: "state".parse()?, input: Input::File(file.path().to_owned()) };
        for (_, outcome) in backup(&repository, vec![source], &BackupOptions::default(), &Cancel::default()).await? {
            recent.committed(&outcome?.manifest);
        }
        pass(&recent.memory, world, RUN_INTERVAL);
    }
    Ok(())
}

/// As plain files: durability, object by object, would take minutes.
async fn copy(from: &dyn Store, folder: &Path) -> Result<()> {
    for object in from.list("").await? {
        let path = folder.join(&object.key);
        std::fs::create_dir_all(path.parent().ok_or("a key has no folder")?)?;
        std::fs::write(path, from.get(&object.key, object.len_bytes).await?)?;
    }
    Ok(())
}

async fn stored_bytes(store: &dyn Store) -> Result<u64> {
    Ok(store.list("").await?.iter().map(|object| object.len_bytes).sum())
}

async fn collect(what: &str, repository: &Repository, options: &GcOptions) -> Result<()> {
    let before = stored_bytes(repository.store.as_ref()).await?;
    let counter = Arc::new(RecordingStore::new(repository.store.clone()));
    let counted = Repository { store: counter.clone(), ..repository.clone() };
    let began = Instant::now();
    let plan = plan(&counted, options, &Cancel::default()).await?;
    let planned = began.elapsed();
    let report = execute(&counted, &plan, options, &Cancel::default()).await?;
    let took = began.elapsed();
    let after = stored_bytes(repository.store.as_ref()).await?;
    let counts: Counts = counter.counts();
    println!(
        "{what:<26} {:>6.2} s {:>9} {:>9} {before:>12} {after:>12}",
        took.as_secs_f64(),
        counts.class_a(),
        counts.class_b()
    );
    println!(
        "  planned in {:.2} s; {} snapshots, {} set aside; deleted {} packs, {} indexes, {} trash copies; {} deletes",
        planned.as_secs_f64(),
        plan.rows.len(),
        report.retired.len(),
        report.packs.count,
        report.indexes.count,
        report.trash.count,
        counts.delete,
    );
    Ok(())
}
