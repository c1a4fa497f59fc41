//! Who acts in a history, and what they do: the product's own code.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hah_vault::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use hah_vault::archive::gc::undelete::undelete_by;
use hah_vault::archive::gc::{GcOptions, GcReport, Plan, gc};
use hah_vault::archive::retention::Policy;
use hah_vault::archive::rules::Rules;
use hah_vault::archive::{ArchiveError, Cancel, GRACE, Repository, Silent};
use hah_vault::keys::Keyring;
use hah_vault_format::{Manifest, ManifestName, SourceName};

use super::Random;
use super::double::{Host, SimStore};
use super::objects::Objects;
use super::oracle::Promise;

/// A source's content is this many blocks of random bytes; each run finds some of them changed.
const BLOCKS: usize = 6;
const BLOCK_LEN_BYTES: usize = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Backs a source up.
    Writer { source: usize },
    /// Collects, and keeps so many snapshots of each source.
    Collector { keep_last: u32 },
    /// Brings snapshots back from the trash.
    Undeleter,
}

/// Who takes part.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    /// The source of each writer.
    pub writers: Vec<usize>,
    /// How many snapshots each collector keeps.
    pub collectors: Vec<u32>,
    /// Mean time between two runs: of writers, of collectors, of the undeleter.
    pub pauses_h: [f64; 3],
    /// How many backups reuse nothing.
    pub fresh: f64,
    /// The collectors' own grace, where it is not that of everybody.
    pub grace_h: Option<u64>,
    /// Which rules hold for all of them.
    pub rules: Rules,
}

impl Cast {
    /// Mean time between two runs.
    pub fn pause_h(&self, role: Role) -> f64 {
        match role {
            Role::Writer { .. } => self.pauses_h[0],
            Role::Collector { .. } => self.pauses_h[1],
            Role::Undeleter => self.pauses_h[2],
        }
    }
}

/// How a run ended.
pub(super) enum Outcome {
    Backup { result: Result<BackupReport, ArchiveError>, content: Arc<Vec<u8>>, began_ms: i64 },
    Collection { result: Result<(Plan, GcReport), ArchiveError> },
    Undeletion { result: Option<(ManifestName, Result<Manifest, ArchiveError>)>, began_ms: i64 },
}

impl Outcome {
    pub fn words(&self) -> String {
        match self {
            Self::Backup { result: Ok(report), .. } => format!("done, {}", report.manifest.name),
            Self::Backup { result: Err(error), .. } => format!("failed: {error}"),
            Self::Collection { result: Ok((plan, report)) } => {
                format!(
                    "done, blocked by {:?}, {} retired, {} packs",
                    plan.blocked_by,
                    report.retired.len(),
                    report.packs.count
                )
            }
            Self::Collection { result: Err(error) } => format!("failed: {error}"),
            Self::Undeletion { result: None, .. } => "found nothing".into(),
            Self::Undeletion { result: Some((of, Ok(manifest))), .. } => format!("{of} is back as {}", manifest.name),
            Self::Undeletion { result: Some((of, Err(error))), .. } => format!("{of} did not come back: {error}"),
        }
    }

    /// What holds from now on.
    pub fn promise(self, promises: &BTreeMap<String, Promise>) -> Option<Promise> {
        match self {
            Self::Collection { .. } | Self::Undeletion { result: None, .. } => None,
            Self::Undeletion { result: Some((of, result)), began_ms } => {
                // What a crashed writer left was promised to nobody, and its content is not known here.
                let before = promises.get(&of.key())?;
                let manifest = result.ok()?;
                Some(Promise { name: manifest.name, began_ms, ..before.clone() })
            }
            Self::Backup { result, content, began_ms } => {
                let manifest = result.ok()?.manifest;
                let packs = manifest.packs.iter().map(|pack| pack.id.to_string()).collect();
                Some(Promise { name: manifest.name, packs, content, began_ms })
            }
        }
    }
}

/// The actors, and what they know.
pub(super) struct History {
    keyring: Keyring,
    pub cast: Cast,
    contents: Vec<Vec<u8>>,
    scratch: tempfile::TempDir,
    files: usize,
    random: Random,
    pub counts: BTreeMap<&'static str, usize>,
}

impl History {
    pub fn new(seed: u64, keyring: Keyring, cast: Cast) -> Self {
        let mut random = Random::new(seed, 2);
        let sources = cast.writers.iter().max().map_or(0, |source| source + 1);
        let contents = (0..sources).map(|_| bytes(&mut random, BLOCKS * BLOCK_LEN_BYTES)).collect();
        let scratch = tempfile::tempdir().expect("scratch");
        Self { keyring, cast, contents, scratch, files: 0, random, counts: BTreeMap::new() }
    }

    pub fn roles(&self) -> Vec<Role> {
        let mut roles: Vec<Role> = self.cast.writers.iter().map(|source| Role::Writer { source: *source }).collect();
        roles.extend(self.cast.collectors.iter().map(|keep_last| Role::Collector { keep_last: *keep_last }));
        roles.push(Role::Undeleter);
        roles
    }

    /// An empty repository: what `init` puts is read by none of the actors.
    pub fn initial_objects(&self, _: i64) -> Objects {
        Objects::default()
    }

    pub fn count(&mut self, outcome: &Outcome) {
        let what = match outcome {
            Outcome::Backup { result: Ok(_), .. } => "backups",
            Outcome::Backup { result: Err(ArchiveError::TooLate { .. }), .. } => "backups too late",
            Outcome::Backup { result: Err(ArchiveError::Vanished { .. }), .. } => "backups withdrawn",
            Outcome::Backup { result: Err(_), .. } => "backups failed",
            Outcome::Collection { result: Ok((_, report)) } => {
                *self.counts.entry("packs deleted").or_default() += report.packs.count as usize;
                *self.counts.entry("manifests retired").or_default() += report.retired.len();
                "collections"
            }
            Outcome::Collection { result: Err(_) } => "collections given up",
            Outcome::Undeletion { result: None, .. } => "trash empty",
            Outcome::Undeletion { result: Some((_, Ok(_))), .. } => "undeletions",
            Outcome::Undeletion { result: Some((_, Err(_))), .. } => "undeletions refused",
        };
        *self.counts.entry(what).or_default() += 1;
    }

    /// One run of an actor.
    pub fn run(
        &mut self,
        role: &Role,
        store: Arc<SimStore>,
        host: Arc<Host>,
        random: &mut Random,
        began_ms: i64,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let repository = Repository { store, keyring: self.keyring.clone(), world: host, monitor: Arc::new(Silent) };
        match *role {
            Role::Writer { source } => {
                let content = Arc::new(self.changed(source));
                self.files += 1;
                let path = self.scratch.path().join(self.files.to_string());
                std::fs::write(&path, &*content).expect("source");
                let options = BackupOptions {
                    fresh: random.chance(self.cast.fresh),
                    rules: self.cast.rules,
                    ..BackupOptions::default()
                };
                Box::pin(async move {
                    let result = back_up(&repository, source, path, &options).await;
                    Outcome::Backup { result, content, began_ms }
                })
            }
            Role::Collector { keep_last } => {
                let policy = Policy { keep_last, ..Policy::NOTHING };
                let grace = self.cast.grace_h.map_or(GRACE, |hours| Duration::from_secs(hours * 3600));
                let exclusive = grace < GRACE;
                let rules = self.cast.rules;
                let options = GcOptions { policy, grace, exclusive, force: true, rules, ..GcOptions::default() };
                Box::pin(async move {
                    let result = gc(&repository, &options, &Cancel::default()).await;
                    Outcome::Collection { result }
                })
            }
            Role::Undeleter => {
                let (rules, oldest, chosen) = (self.cast.rules, random.chance(0.5), random.next_u32() as usize);
                Box::pin(async move {
                    let result = undelete_some(&repository, rules, oldest, chosen).await;
                    Outcome::Undeletion { result, began_ms }
                })
            }
        }
    }

    /// The source as it is by now.
    fn changed(&mut self, source: usize) -> Vec<u8> {
        for _ in 0..self.random.below(3) {
            let from = self.random.below(BLOCKS) * BLOCK_LEN_BYTES;
            let block = bytes(&mut self.random, BLOCK_LEN_BYTES);
            self.contents[source][from..from + BLOCK_LEN_BYTES].copy_from_slice(&block);
        }
        self.contents[source].clone()
    }

    /// A repository with everything that is left.
    pub fn repository(&self, store: Arc<dyn hah_vault::store::Store>) -> Repository {
        let world = hah_vault::world::Machine::shared();
        Repository { store, keyring: self.keyring.clone(), world, monitor: Arc::new(Silent) }
    }
}

async fn back_up(
    repository: &Repository,
    source: usize,
    path: std::path::PathBuf,
    options: &BackupOptions,
) -> Result<BackupReport, ArchiveError> {
    let name: SourceName = format!("source-{source}").parse().expect("name");
    let specs = vec![SourceSpec { name, input: Input::File(path) }];
    let mut outcomes = backup(repository, specs, options, &Cancel::default()).await?;
    outcomes.remove(0).1
}

/// The oldest copy, which is about to be deleted, or any.
async fn undelete_some(
    repository: &Repository,
    rules: Rules,
    oldest: bool,
    chosen: usize,
) -> Option<(ManifestName, Result<Manifest, ArchiveError>)> {
    let copies = repository.list_trash(None).await.ok()?;
    let copy = match oldest {
        true => copies.iter().min_by_key(|copy| copy.modified)?,
        false => copies.get(chosen % copies.len().max(1))?,
    };
    Some((copy.name.manifest.clone(), undelete_by(repository, copy, rules).await))
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
