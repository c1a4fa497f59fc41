//! Thirty days of a snapshot every ten minutes: what the reuse rule (`src/archive/reuse.rs`) does in the long run.
//!
//! ```text
//! cargo bench --bench longrun -- [--kind KIND]… [--size BYTES] [--runs N]
//! ```
//! Real backups of generated snapshots into two stores in memory, one with the rule and one that never gives a pack up.
//! The clock is the simulation's. Old snapshots are dropped as gc does: everything is kept for a day, the first of each
//! hour for a week, the first of each day for good; then all packs go that no manifest left names.
//!
//! Bounds, printed as passed or failed:
//! - A snapshot names at most 128 small packs. A pack of less than 4 MiB of plaintext is small, so all packs of a small
//!   state are.
//! - A restore reads packs that hold at most 2.2 times the stream, both as plaintext: how well packs compress does not
//!   count.
//! - In the end at most 1.3 times as much is stored as without the rule. The worst day is printed as well.

#[path = "../tests/support/held_world.rs"]
mod held_world;

#[path = "support/generate/mod.rs"]
mod generate;

use generate::{Kind, Options, Rewrap, Series};
use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup, backup_without_compaction};
use hah_vault::archive::reuse::{SMALL_PACK_LEN_BYTES, SMALL_PACKS_MAX};
use hah_vault::archive::{Cancel, Repository, Silent, repository};
use hah_vault::keys::{Keyring, RepositoryIdentity};
use hah_vault::store::{MemoryStore, Store, StoreTime};
use hah_vault::world::World;
use hah_vault_format::manifest::PackRef;
use hah_vault_format::{Manifest, ObjectId};
use held_world::HeldWorld;
use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const RUNS: u32 = 4_320;
const RUN_INTERVAL: Duration = Duration::from_secs(600);
const RUNS_PER_HOUR: u32 = 6;
const RUNS_PER_DAY: u32 = 144;
const BEGIN_UNIX_MS: i64 = 1_795_305_600_000;

const READ_TIMES_MAX: f64 = 2.2;
const STORED_TIMES_MAX: f64 = 1.3;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut words = std::env::args().skip(1).filter(|a| a != "--bench");
    let (mut kinds, mut size_bytes, mut runs) = (Vec::new(), 2_000_000, RUNS);
    while let Some(word) = words.next() {
        let value = words.next().ok_or("a value is missing")?;
        match word.as_str() {
            "--kind" => kinds.push(value.parse()?),
            "--size" => size_bytes = value.parse()?,
            "--runs" => runs = value.parse()?,
            _ => return Err(format!("{word} is no option").into()),
        }
    }
    if kinds.is_empty() {
        kinds = vec![Kind::Vault, Kind::Nomad];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut passed = true;
    for kind in kinds {
        passed &= runtime.block_on(simulate(Options::new(kind, size_bytes), runs))?;
    }
    Ok(passed)
}

/// One store and what is known of it.
struct Side {
    store: Arc<MemoryStore>,
    world: Arc<HeldWorld>,
    repository: Repository,
    compact: bool,
    kept: Vec<(u32, Manifest)>,
    new_bytes: u64,
    worst: Named,
}

/// What a manifest names.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    small: usize,
    full: usize,
    /// Plaintext of its packs, in streams.
    held_times: f64,
    /// Objects of its packs.
    object_bytes: u64,
}

impl Named {
    fn of(manifest: &Manifest) -> Self {
        let is_small = |p: &&PackRef| p.plaintext_len_bytes < SMALL_PACK_LEN_BYTES;
        let small = manifest.packs.iter().filter(is_small).count();
        let held: u64 = manifest.packs.iter().map(|p| u64::from(p.plaintext_len_bytes)).sum();
        Self {
            small,
            full: manifest.packs.len() - small,
            held_times: held as f64 / manifest.stream.len_bytes.max(1) as f64,
            object_bytes: manifest.packs.iter().map(|p| p.object_len_bytes).sum(),
        }
    }

    fn worst(self, other: Self) -> Self {
        Self {
            small: self.small.max(other.small),
            full: self.full.max(other.full),
            held_times: self.held_times.max(other.held_times),
            object_bytes: self.object_bytes.max(other.object_bytes),
        }
    }
}

impl Side {
    async fn new(compact: bool) -> Result<Self> {
        let (store, world) = (Arc::new(MemoryStore::new()), Arc::new(HeldWorld::default()));
        store.set_now(StoreTime { unix_ms: BEGIN_UNIX_MS });
        let identity = RepositoryIdentity::generate()?;
        repository::create(store.as_ref(), &identity, &[]).await?;
        let keyring = Keyring::from_identity(identity)?;
        let repository = Repository { store: store.clone(), keyring, world: world.clone(), monitor: Arc::new(Silent) };
        let worst = Named::default();
        Ok(Self { store, world, repository, compact, kept: Vec::new(), new_bytes: 0, worst })
    }

    async fn back_up(&mut self, run: u32, kind: Kind, file: &Path) -> Result<()> {
        let since = RUN_INTERVAL * run;
        self.store.set_now(StoreTime { unix_ms: BEGIN_UNIX_MS + i64::try_from(since.as_millis())? });
        self.world.advance(since.saturating_sub(self.world.since_boot()));
        let spec = vec![SourceSpec { name: kind.as_str().parse()?, input: Input::File(file.to_owned()) }];
        let (options, cancel) = (BackupOptions::default(), Cancel::default());
        let outcomes = if self.compact {
            backup(&self.repository, spec, &options, &cancel).await?
        } else {
            backup_without_compaction(&self.repository, spec, &options, &cancel).await?
        };
        let (_, outcome) = outcomes.into_iter().next().ok_or("no outcome")?;
        let BackupReport { manifest, .. } = outcome?;
        if run > 0 {
            self.new_bytes += manifest.counts.new_bytes;
        }
        self.worst = self.worst.worst(Named::of(&manifest));
        self.kept.push((run, manifest));
        if run % RUNS_PER_DAY == RUNS_PER_DAY - 1 {
            self.expire(run).await?;
        }
        Ok(())
    }

    async fn expire(&mut self, now: u32) -> Result<()> {
        let keep = |run: u32| {
            let age = now - run;
            age < RUNS_PER_DAY
                || (age < 7 * RUNS_PER_DAY && run.is_multiple_of(RUNS_PER_HOUR))
                || run.is_multiple_of(RUNS_PER_DAY)
        };
        let (kept, dropped): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept).into_iter().partition(|(r, _)| keep(*r));
        self.kept = kept;
        for (_, manifest) in &dropped {
            self.store.delete(&manifest.name.key()).await?;
        }
        let packs = |manifests: &[(u32, Manifest)]| -> HashSet<ObjectId> {
            manifests.iter().flat_map(|(_, m)| m.packs.iter().map(|p| p.id)).collect()
        };
        let named = packs(&self.kept);
        for id in packs(&dropped).difference(&named) {
            self.store.delete(&id.pack_key()).await?;
            self.store.delete(&id.index_key()).await?;
        }
        Ok(())
    }

    async fn stored_bytes(&self) -> Result<u64> {
        Ok(self.store.list("").await?.iter().map(|o| o.len_bytes).sum())
    }
}

async fn simulate(options: Options, runs: u32) -> Result<bool> {
    let mut series = Series::new(options);
    let folder = Path::new("/dev/shm");
    let file = if folder.is_dir() { tempfile::NamedTempFile::new_in(folder)? } else { tempfile::NamedTempFile::new()? };
    let (mut with, mut without) = (Side::new(true).await?, Side::new(false).await?);
    let first = series.generate(std::io::sink(), Rewrap::None)?;
    println!("\n## {}: {} objects, {runs} runs\n", options.kind.as_str(), series.objects());
    println!("The first state has {} bytes, its tar {}.\n", first.state_len_bytes, first.len_bytes);
    println!(
        "| day | stored | without rule | times | manifests | packs named: small + full (without) | held per stream (without) | restore reads (without) | rewritten per fresh byte |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut worst_times, mut last_times) = (0.0_f64, 0.0);
    for run in 0..runs {
        let mut bytes = Vec::new();
        series.generate(&mut bytes, Rewrap::None)?;
        std::fs::write(file.path(), &bytes)?;
        with.back_up(run, options.kind, file.path()).await?;
        without.back_up(run, options.kind, file.path()).await?;
        series.advance();
        if run % RUNS_PER_DAY != RUNS_PER_DAY - 1 && run + 1 != runs {
            continue;
        }
        let (stored, plain) = (with.stored_bytes().await?, without.stored_bytes().await?);
        last_times = stored as f64 / plain as f64;
        worst_times = worst_times.max(last_times);
        let day = (run + 1).div_ceil(RUNS_PER_DAY);
        if day.is_multiple_of(3) || day == 1 || run + 1 == runs {
            let named = |side: &Side| side.kept.last().map(|(_, m)| Named::of(m)).unwrap_or_default();
            let (a, b) = (named(&with), named(&without));
            println!(
                "| {day} | {:.2} MB | {:.2} MB | {last_times:.2} | {} | {} + {} ({} + {}) | {:.2} ({:.2}) | {:.2} MB ({:.2} MB) | {:.2} |",
                stored as f64 / 1e6,
                plain as f64 / 1e6,
                with.kept.len(),
                a.small,
                a.full,
                b.small,
                b.full,
                a.held_times,
                b.held_times,
                a.object_bytes as f64 / 1e6,
                b.object_bytes as f64 / 1e6,
                with.new_bytes as f64 / without.new_bytes.max(1) as f64 - 1.0,
            );
        }
    }
    println!("\n| bound | worst | limit | |\n|---|---|---|---|");
    let small = line("small packs that a snapshot names", with.worst.small as f64, SMALL_PACKS_MAX as f64);
    let read = line("a restore reads, times its size", with.worst.held_times, READ_TIMES_MAX);
    let stored = line("stored in the end, times without the rule", last_times, STORED_TIMES_MAX);
    println!("| stored on the worst day, times without the rule | {worst_times:.2} | - | - |");
    Ok(small && read && stored)
}

fn line(what: &str, value: f64, limit: f64) -> bool {
    let passed = value <= limit;
    println!("| {what} | {value:.2} | {limit} | {} |", if passed { "pass" } else { "FAIL" });
    passed
}
