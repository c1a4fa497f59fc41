//! Backups and restores by the library: in a child process of the benchmark for the times, in this one for counts.

use crate::Result;
use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use hah_vault::archive::restore::restore_to_file;
use hah_vault::archive::{Cancel, Repository, Silent, repository};
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::pipeline::seal;
use hah_vault::store::{Counts, LocalStore, MemoryStore, RecordingStore, Store};
use hah_vault::world::Machine;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A command of the child process.
///
/// # Errors
/// The library's.
pub fn run(words: &[&str]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command(words))
}

async fn command(words: &[&str]) -> Result<()> {
    let ["init" | "backup" | "restore", folder, ..] = words else { return Err("init, backup or restore".into()) };
    let (data, key) = (Path::new(folder).join("repository"), Path::new(folder).join("identity"));
    if words[0] == "init" {
        std::fs::create_dir_all(&data)?;
        let store = LocalStore::open(&data)?;
        let identity = RepositoryIdentity::generate()?;
        repository::create(&store, &identity, &[]).await?;
        std::fs::write(key, identity.to_text().as_bytes())?;
        return Ok(());
    }
    let identity = RepositoryIdentity::parse(std::fs::read_to_string(key)?.trim())?;
    let repository = open(Arc::new(LocalStore::open(&data)?), identity)?;
    match words {
        ["backup", _, source, file] => back_up(&repository, source, Path::new(file)).await.map(drop),
        ["restore", _, source, to, rest @ ..] => {
            let name = repository.resolve(&format!("{source}@latest")).await?;
            let fast = rest == ["--fast"];
            restore_to_file(&repository, &name, Path::new(to), true, fast, &Cancel::default()).await?;
            Ok(())
        }
        _ => Err("too few arguments".into()),
    }
}

fn open(store: Arc<dyn Store>, identity: RepositoryIdentity) -> Result<Repository> {
    let keyring = Keyring::from_identity(identity)?;
    Ok(Repository { store, keyring, world: Machine::shared(), monitor: Arc::new(Silent) })
}

async fn back_up(repository: &Repository, source: &str, file: &Path) -> Result<BackupReport> {
    let spec = SourceSpec { name: source.parse()?, input: Input::File(file.to_owned()) };
    let outcomes = backup(repository, vec![spec], &BackupOptions::default(), &Cancel::default()).await?;
    let (_, outcome) = outcomes.into_iter().next().ok_or("no outcome")?;
    Ok(outcome?)
}

/// What each run of a series asks of the store.
///
/// # Errors
/// The library's.
pub fn operations(source: &str, files: &[PathBuf]) -> Result<Vec<Counts>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let recording = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
        let identity = RepositoryIdentity::generate()?;
        repository::create(recording.as_ref(), &identity, &[]).await?;
        let repository = open(recording.clone(), identity)?;
        let mut counts = vec![recording.counts()];
        for file in files {
            back_up(&repository, source, file).await?;
            counts.push(recording.counts());
        }
        Ok(counts.windows(2).map(|pair| difference(&pair[0], &pair[1])).collect())
    })
}

/// What zstd's levels make of the packs of a series, and how long they take: the table of decisions/013.
///
/// # Errors
/// The library's.
pub fn compression(source: &str, files: &[PathBuf]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let packs = runtime.block_on(async {
        let store = Arc::new(MemoryStore::new());
        let identity = RepositoryIdentity::generate()?;
        repository::create(store.as_ref(), &identity, &[]).await?;
        let repository = open(store.clone(), identity.clone())?;
        let (mut seen, mut packs) = (HashSet::new(), Vec::new());
        for file in files {
            for pack in back_up(&repository, source, file).await?.manifest.packs {
                if seen.insert(pack.id) {
                    let bytes = store.get(&pack.id.pack_key(), pack.object_len_bytes).await?;
                    packs.push(seal::open_pack(&bytes, &pack.id, pack.plaintext_len_bytes, &identity)?);
                }
            }
        }
        Result::Ok(packs)
    })?;
    let (full, small): (Vec<_>, Vec<_>) = packs.into_iter().partition(|p| p.len() > 1 << 20);
    println!(
        "\n| {source} | packs | plaintext | level | compressed | CPU | bytes saved per ms more than level 3 |\n|---|---|---|---|---|---|---|"
    );
    for (name, packs) in [("above 1 MiB", full), ("up to 1 MiB", small)] {
        let plain: usize = packs.iter().map(Vec::len).sum();
        let mut base = None;
        for level in [3, 1, 6, 9, 12, 15, 17, 19] {
            // This thread's own time: the machine may do other things.
            let started = clock_gettime(ClockId::ThreadCPUTime);
            let mut len = 0;
            for pack in &packs {
                len += zstd::bulk::compress(pack, level)?.len();
            }
            let ended = clock_gettime(ClockId::ThreadCPUTime);
            let ms = (ended.tv_sec - started.tv_sec) as f64 * 1e3 + (ended.tv_nsec - started.tv_nsec) as f64 / 1e6;
            let (base_len, base_ms) = *base.get_or_insert((len, ms));
            let saved = (base_len as f64 - len as f64) / (ms - base_ms).max(0.01);
            println!("| {name} | {} | {plain} | {level} | {len} | {ms:.1} ms | {saved:.0} |", packs.len());
        }
    }
    Ok(())
}

fn difference(before: &Counts, after: &Counts) -> Counts {
    Counts {
        put: after.put - before.put,
        get: after.get - before.get,
        list: after.list - before.list,
        list_pages: after.list_pages - before.list_pages,
        stat: after.stat - before.stat,
        delete: after.delete - before.delete,
        now: after.now - before.now,
        put_bytes: after.put_bytes - before.put_bytes,
        get_bytes: after.get_bytes - before.get_bytes,
    }
}
