//! `backup`: sources to packs, the manifest last.
//!
//! ```text
//! reader thread -> ingest thread -> seal thread -> upload queue -> store; then the manifest
//! ```
//! Every run of every source stands for itself: one that fails leaves nothing but packs that no manifest names.

use super::gc::trash::withdraw;
use super::keystore;
use super::parent::{Before, Reusable, chain, millis};
use super::repository::{Repository, unix_time};
use super::reuse::{HORIZON_DEFAULT, Policy, length_agrees};
use super::rules::Rules;
use super::service;
use super::tags::{self, Tag};
use super::upload::{Upload, UploadQueue, Uploaded, Uploader, put};
use super::{ArchiveError, COMMIT_LIMIT, Cancel, Event, STORE_CLOCK_TOLERANCE};
use crate::keys::SourceKeyring;
use crate::pipeline::ingest::{Ingest, IngestError, IngestOptions, Ingested};
use crate::pipeline::packer::NewPack;
use crate::pipeline::seal::{self, Compression};
use crate::pipeline::unwrap::{Expect, GzipEncoder, Unwrap, UnwrapError, Wrapping};
use crate::source::{Service, Stopper};
use crate::store::StoreTime;
use bytes::Bytes;
use hah_vault_format::manifest::{
    Chunker, Counts, Extent, Kind, ManifestLabel, Original, PackRef, RaftMeta, Transform, Wrapper,
};
use hah_vault_format::{Index, Manifest, ManifestName, ObjectId, SourceName, UnixTime};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How much is read at once, and handed from thread to thread.
const PIECE_LEN_BYTES: usize = 256 << 10;
/// Pieces that wait between the reader and the ingest thread.
const PIECES_WAITING_MAX: usize = 4;
/// How soon a wish to stop is noticed while uploads are waited for.
const CANCEL_LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Where a source's bytes come from.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A server.
    Service(Arc<dyn Service>),
}

impl PartialEq for Input {
    /// Two servers are the same only if they are one object.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Stdin, Self::Stdin) => true,
            (Self::Service(one), Self::Service(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Input {}

/// One source of a run.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Its name.
    pub name: SourceName,
    /// Where its bytes come from.
    pub input: Input,
}

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Reuse nothing.
    pub fresh: bool,
    /// Store any input as it is.
    pub raw: bool,
    /// Packs that are not reused because they are known to be damaged, though their listing does not show it.
    pub avoid: BTreeSet<ObjectId>,
    /// Reuse horizon.
    pub horizon: Duration,
    /// Compression of packs.
    pub compression: Compression,
    /// How long to wait before a server's snapshot is taken again after a passing failure; as often as there are
    /// entries.
    pub service_retry_delays: Vec<Duration>,
    /// A server's snapshot that has less than this many percent of its parent's bytes is warned of; 0 for never.
    pub shrink_warn_below_percent: u8,
    /// Words for the snapshots of this run.
    pub tags: Vec<Tag>,
    /// Which rules hold: all.
    #[doc(hidden)]
    pub rules: Rules,
    /// What holds for some sources instead of all of the above.
    pub sources: BTreeMap<SourceName, BackupOptions>,
    /// Whether a server's snapshot is compared with its parent at all.
    pub compare: bool,
    /// Keystore folders of Nomad 1.4 to 1.8, to be stored with the snapshots of these sources.
    pub keystores: BTreeMap<SourceName, PathBuf>,
    /// Labels that every manifest of the run gets.
    pub labels: Vec<ManifestLabel>,
}

/// Waits before a snapshot is taken again: 1, 2 and 4 s.
const SERVICE_RETRY_DELAYS_S: [u64; 3] = [1, 2, 4];

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            fresh: false,
            raw: false,
            avoid: BTreeSet::new(),
            horizon: HORIZON_DEFAULT,
            compression: Compression::Auto,
            service_retry_delays: SERVICE_RETRY_DELAYS_S.map(Duration::from_secs).to_vec(),
            shrink_warn_below_percent: 50,
            tags: Vec::new(),
            rules: Rules::ALL,
            sources: BTreeMap::new(),
            compare: true,
            keystores: BTreeMap::new(),
            labels: Vec::new(),
        }
    }
}

impl BackupOptions {
    fn of(&self, source: &SourceName) -> &Self {
        self.sources.get(source).unwrap_or(self)
    }
}

/// A committed backup.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The manifest, as it stands in the store.
    pub manifest: Manifest,
    /// Length of the manifest object.
    pub manifest_len_bytes: u64,
    /// Packs of the parent that were given up.
    pub packs_given_up: usize,
    /// Key files of a Nomad keystore that are stored with it.
    pub keystore_files: usize,
    /// Wall time.
    pub took: Duration,
    /// How it divides.
    pub stages: Stages,
}

/// The stages of a backup, one after the other: their sum is the whole time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Until the source gave its first byte: parent and indexes loaded, the server asked, failed tries included.
    pub open: Duration,
    /// Until the source was read to its end and all of it was sealed.
    pub read: Duration,
    /// Until the store had every pack.
    pub upload: Duration,
    /// Until the manifest was put and checked.
    pub commit: Duration,
}

impl BackupReport {
    /// Bytes that the run put: packs, indexes, manifest.
    pub fn stored_bytes(&self) -> u64 {
        self.manifest.counts.stored_bytes + self.manifest_len_bytes
    }
}

/// The outcome of each source, in the order given.
pub type Outcomes = Vec<(SourceName, Result<BackupReport, ArchiveError>)>;

/// Backs up all sources at the same time.
///
/// # Errors
/// [`ArchiveError::Store`] if the store cannot even be listed; everything else is in the outcomes.
pub async fn backup(
    repository: &Repository,
    sources: Vec<SourceSpec>,
    options: &BackupOptions,
    cancel: &Cancel,
) -> Result<Outcomes, ArchiveError> {
    run(repository, sources, options, cancel, true).await
}

/// [`backup`] that gives no pack up to bound what restores read and how many packs a snapshot names: what
/// `benches/longrun.rs` compares with.
#[doc(hidden)]
pub async fn backup_without_compaction(
    repository: &Repository,
    sources: Vec<SourceSpec>,
    options: &BackupOptions,
    cancel: &Cancel,
) -> Result<Outcomes, ArchiveError> {
    run(repository, sources, options, cancel, false).await
}

async fn run(
    repository: &Repository,
    sources: Vec<SourceSpec>,
    options: &BackupOptions,
    cancel: &Cancel,
    compact: bool,
) -> Result<Outcomes, ArchiveError> {
    let since_boot = repository.world.since_boot();
    let before = repository.look().await?;
    let uploader = Uploader::start(&repository.store, &repository.monitor);
    let outcomes = sources.into_iter().map(|source| {
        let (before, options, queue) = (&before, options.of(&source.name), uploader.queue());
        let run = Run { repository, before, since_boot, options, compact, cancel, queue };
        async move {
            let name = source.name.clone();
            (name, run.source(source).await)
        }
    });
    let outcomes = futures::future::join_all(outcomes).await;
    uploader.finish().await;
    Ok(outcomes)
}

/// One source's part of a run.
struct Run<'r> {
    repository: &'r Repository,
    before: &'r Before,
    since_boot: Duration,
    options: &'r BackupOptions,
    compact: bool,
    cancel: &'r Cancel,
    queue: UploadQueue,
}

/// A pack of this run on its way to the store.
struct Sealed {
    number: u32,
    pack: PackRef,
    index_len_bytes: u64,
    uploaded: Uploaded,
}

/// Everything that the threads of a source gave.
struct Piped {
    ingested: Ingested,
    wrapping: Wrapping,
    sealed: Vec<Sealed>,
    labels: Vec<ManifestLabel>,
    /// Packs of the parent, as numbered in the pipeline.
    reused: Vec<PackRef>,
    packs_given_up: usize,
    opened: Instant,
}

impl Run<'_> {
    async fn source(&self, source: SourceSpec) -> Result<BackupReport, ArchiveError> {
        let started = Instant::now();
        let keys = Arc::new(self.repository.source_keys(&source.name)?);
        let parent = self.repository.find_parent(&keys, self.before.time, &self.options.rules).await?;
        let time = unix_time(self.before.time)?;
        let mut piped = self.pipe_until_whole(&source, parent.as_ref(), time, &keys).await?;
        // After the snapshot: what it names is in the keystore by now.
        let keystore_files = self.add_keystore(&source.name, &keys, &mut piped.labels).await?;
        self.cancel.check()?;
        let (packs_given_up, opened, read) = (piped.packs_given_up, piped.opened, Instant::now());
        let name = ManifestName { source: source.name, time, suffix: self.repository.world.random_u32() };
        let (draft, uploads) = self.draft(name, parent.as_ref(), piped);
        self.warn_of_kind(&draft, parent.as_ref());
        keystore::warn(self.repository.monitor.as_ref(), &draft);
        if matches!(source.input, Input::Service(_)) && self.options.compare {
            service::compare(self.repository.monitor.as_ref(), &draft, parent.as_ref(), self.options);
        }
        for uploaded in uploads {
            self.wait(uploaded).await?;
        }
        let uploaded = Instant::now();
        let manifest_len_bytes = self.commit(&draft, &keys).await?;
        let committed = Instant::now();
        let stages = Stages {
            open: opened - started,
            read: read - opened,
            upload: uploaded - read,
            commit: committed - uploaded,
        };
        let took = committed - started;
        Ok(BackupReport { manifest: draft, manifest_len_bytes, packs_given_up, keystore_files, took, stages })
    }

    /// Adds the keystore that belongs to a source, if one was given; how many files it has.
    async fn add_keystore(
        &self,
        source: &SourceName,
        keys: &SourceKeyring,
        labels: &mut Vec<ManifestLabel>,
    ) -> Result<usize, ArchiveError> {
        let Some(folder) = self.options.keystores.get(source) else { return Ok(0) };
        let (source, folder, recipient) = (source.clone(), folder.clone(), keys.recipient);
        let sealing = tokio::task::spawn_blocking(move || keystore::seal(&source, &folder, &recipient));
        let sealed = sealing.await.map_err(|e| ArchiveError::Internal(e.to_string()))??;
        labels.extend(sealed.labels);
        Ok(sealed.files)
    }

    /// Another service's snapshot under this name is stored, but somebody should know: two paths may have been swapped.
    fn warn_of_kind(&self, draft: &Manifest, parent: Option<&Manifest>) {
        let known = [Kind::Vault, Kind::Consul, Kind::Nomad];
        let named = known.into_iter().find(|kind| kind.as_str() == draft.name.source.as_str());
        let expected = named.or(parent.map(|p| p.kind)).filter(|kind| known.contains(kind));
        if let Some(expected) = expected.filter(|expected| *expected != draft.kind) {
            let (found, expected) = (draft.kind.as_str(), expected.as_str());
            let text = format!("this is a {found} snapshot, where one of {expected} was expected; it is backed up");
            self.repository.monitor.warn(Some(&draft.name.source), text);
        }
    }

    /// Waits for an upload, unless there is a wish to stop: a slow store must not hold it up.
    async fn wait(&self, mut uploaded: Uploaded) -> Result<(), ArchiveError> {
        loop {
            match tokio::time::timeout(CANCEL_LOOKS_EVERY, &mut uploaded).await {
                Ok(done) => return done.map_err(|_| ArchiveError::Internal("an upload was dropped".into()))?,
                Err(_) => self.cancel.check()?,
            }
        }
    }

    fn policy(&self, keys: &SourceKeyring) -> Policy {
        let BackupOptions { fresh, horizon, rules, .. } = *self.options;
        let parent_packs_only = rules.parent_packs_only;
        Policy { fresh, horizon, key_generation: keys.generation, compact: self.compact, parent_packs_only }
    }

    /// Pipes a source; a server's snapshot again from its beginning after a passing failure. What the failed tries
    /// stored is named by no manifest.
    async fn pipe_until_whole(
        &self,
        source: &SourceSpec,
        parent: Option<&Manifest>,
        created: UnixTime,
        keys: &Arc<SourceKeyring>,
    ) -> Result<Piped, ArchiveError> {
        let mut delays = self.options.service_retry_delays.iter();
        loop {
            let error = match self.pipe(source, parent, created, keys).await {
                Ok(piped) => return Ok(piped),
                Err(_) if self.cancel.is_cancelled() => return Err(ArchiveError::Interrupted),
                Err(error) => error,
            };
            let again = matches!(source.input, Input::Service(_)) && service::is_transient(&error);
            let Some(delay) = delays.next().filter(|_| again) else { return Err(error) };
            let text = format!("taking the snapshot again in {} s: {}", delay.as_secs_f32(), chain(&error));
            self.repository.monitor.warn(Some(&source.name), text);
            service::pause(*delay, self.cancel).await?;
        }
    }

    async fn open(&self, source: &SourceSpec) -> Result<Opened, ArchiveError> {
        let Input::Service(server) = &source.input else {
            // A FIFO opens only when somebody writes to it: not on a thread that others need.
            let source = source.clone();
            let opened = tokio::task::spawn_blocking(move || open_input(&source)).await;
            return opened.map_err(|e| ArchiveError::Internal(e.to_string()))?;
        };
        let snapshot = service::open(&source.name, server.as_ref(), self.cancel).await?;
        for text in snapshot.warnings {
            self.repository.monitor.warn(Some(&source.name), text);
        }
        let labels = service::labels(&snapshot.facts);
        let stopper = Some(snapshot.body.stopper());
        Ok(Opened { input: Box::new(snapshot.body), len_hint_bytes: None, labels, stopper })
    }

    /// Runs the three threads of a source and waits for them.
    async fn pipe(
        &self,
        source: &SourceSpec,
        parent: Option<&Manifest>,
        created: UnixTime,
        keys: &Arc<SourceKeyring>,
    ) -> Result<Piped, ArchiveError> {
        let reusable = match parent {
            Some(parent) => {
                let (policy, avoid) = (self.policy(keys), &self.options.avoid);
                self.repository.load_reusable(parent, self.before, &policy, avoid, keys).await
            }
            None => Reusable::default(),
        };
        let packs_given_up = parent.map_or(0, |p| p.packs.len().saturating_sub(reusable.packs.len()));
        let reused = reusable.packs.clone();
        let Opened { input, len_hint_bytes, labels, stopper } = self.open(source).await?;
        let opened = Instant::now();
        let expect = expect(source, parent, self.options.raw);
        let reader =
            Reader { name: source.name.clone(), repository: self.repository.clone(), cancel: self.cancel.clone() };
        let (piece_tx, piece_rx) = sync_channel(PIECES_WAITING_MAX);
        let (pack_tx, pack_rx) = sync_channel(0);
        let reading = tokio::task::spawn_blocking(move || reader.read(input, expect, &piece_tx));
        let stage = IngestStage {
            name: source.name.clone(),
            keys: Arc::clone(keys),
            first_pack: u32::try_from(reusable.packs.len()).unwrap_or(u32::MAX),
            table: reusable.table,
            parent_chunker: parent.map(|p| p.chunker),
            len_hint_bytes,
        };
        let ingesting = tokio::task::spawn_blocking(move || stage.run(&piece_rx, &pack_tx));
        let sealer = Sealer {
            keys: Arc::clone(keys),
            created,
            compression: self.options.compression,
            queue: self.queue.clone(),
        };
        let sealing = tokio::task::spawn_blocking(move || sealer.run(&pack_rx));
        let (read, ingested, sealed) = tokio::select! {
            ended = async { tokio::join!(reading, ingesting, sealing) } => ended,
            never = service::stop_when_cancelled(stopper, self.cancel) => match never {},
        };
        let joined = |e: tokio::task::JoinError| ArchiveError::Internal(e.to_string());
        // The cause before its consequences: a stage whose neighbour is gone only says that it stopped.
        let (read, ingested, sealed) = (read.map_err(joined)?, ingested.map_err(joined)?, sealed.map_err(joined)?);
        let sealed = sealed?;
        match (read, ingested) {
            (Ok(wrapping), Ok(ingested)) => {
                Ok(Piped { ingested, wrapping, sealed, labels, reused, packs_given_up, opened })
            }
            (Err(Stage::Error(error)), _) | (_, Err(Stage::Error(error))) => Err(error),
            _ => Err(ArchiveError::Internal("a stage stopped without a cause".into())),
        }
    }

    /// The manifest, and the uploads that it has to wait for.
    fn draft(&self, name: ManifestName, parent: Option<&Manifest>, piped: Piped) -> (Manifest, Vec<Uploaded>) {
        let Piped { ingested, wrapping, sealed, mut labels, reused: mut packs, .. } = piped;
        tags::add(&mut labels, &self.options.tags);
        labels.extend_from_slice(&self.options.labels);
        labels.sort();
        let mut stored_bytes = 0;
        let mut uploads = Vec::with_capacity(sealed.len());
        for sealed in sealed {
            debug_assert_eq!(sealed.number as usize, packs.len());
            stored_bytes += sealed.pack.object_len_bytes + sealed.index_len_bytes;
            packs.push(sealed.pack);
            uploads.push(sealed.uploaded);
        }
        let mut numbering = Numbering::new(&packs);
        let extents = numbering.renumber(ingested.extents);
        let transform = match ingested.transform {
            Transform::None => Transform::None,
            Transform::MapOrder { regions, notes } => Transform::MapOrder { regions, notes: numbering.renumber(notes) },
        };
        let counts = ingested.counts;
        let manifest = Manifest {
            name,
            key_generation: self.repository.keyring.writer.generation,
            kind: ingested.kind,
            host: shortened(self.repository.world.host()),
            tool: concat!("hah-vault ", env!("CARGO_PKG_VERSION")).into(),
            parent: parent.map(|p| p.name.clone()),
            raft: ingested.summary.map(|s| RaftMeta {
                index: s.raft.index,
                term: s.raft.term,
                version: s.raft.version,
                id: shortened(s.raft.id),
            }),
            labels,
            original: original(&wrapping),
            stream: ingested.stream,
            transform,
            chunker: ingested.chunker,
            packs: numbering.used,
            extents,
            records: ingested.records,
            counts: Counts {
                chunks: counts.chunks,
                chunks_new: counts.chunks_new,
                new_bytes: counts.new_bytes,
                stored_bytes,
            },
        };
        (manifest, uploads)
    }

    /// Puts the manifest if there is still time, and checks afterwards that everything is there (DESIGN §7, backup
    /// 3 and 4). Only then is the backup a success.
    async fn commit(&self, manifest: &Manifest, keys: &SourceKeyring) -> Result<u64, ArchiveError> {
        let name = &manifest.name;
        let store = self.repository.store.as_ref();
        let sealed = Bytes::from(seal::seal_manifest(manifest, keys)?);
        let len_bytes = sealed.len() as u64;
        self.check_time(name, store.now().await?)?;
        self.cancel.check()?;
        let committed = match put(store, &name.key(), sealed.clone()).await {
            Ok(()) => self.check_committed(manifest).await,
            // Done or not, nobody knows: what nobody has checked must not stay.
            Err(ArchiveError::Store(error)) if error.is_transient() => Err(error.into()),
            Err(error) => return Err(error),
        };
        match committed {
            Ok(()) => Ok(len_bytes),
            Err(error) => {
                withdraw(self.repository, &self.options.rules, name, sealed, name.time).await;
                Err(error)
            }
        }
    }

    async fn check_committed(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let name = &manifest.name;
        let store = self.repository.store.as_ref();
        // Rule: a commit that came too late, or whose packs a collector took meanwhile, must not be believed in.
        if !self.options.rules.check_committed {
            return Ok(());
        }
        let Some(put) = store.stat(&name.key()).await? else {
            return Err(ArchiveError::Vanished { name: name.source.clone(), missing: 1 });
        };
        self.check_time(name, put.modified)?;
        let there = self.repository.list_packs().await?;
        let is_there = |pack: &PackRef| there.get(&pack.id).is_some_and(|l| length_agrees(pack, l.len_bytes));
        let missing = manifest.packs.iter().filter(|pack| !is_there(pack)).count();
        if missing > 0 {
            return Err(ArchiveError::Vanished { name: name.source.clone(), missing });
        }
        Ok(())
    }

    /// By the store's time, and by a clock that counts suspension.
    fn check_time(&self, name: &ManifestName, now: StoreTime) -> Result<(), ArchiveError> {
        let by_store_ms = now.unix_ms.saturating_sub(self.before.time.unix_ms);
        let by_boot = self.repository.world.since_boot().saturating_sub(self.since_boot);
        let range = -millis(STORE_CLOCK_TOLERANCE)..=millis(COMMIT_LIMIT);
        // Rules: collectors count on it that nobody commits what was seen longer ago.
        let rules = &self.options.rules;
        let in_time_by_store = !rules.commit_limit_store || range.contains(&by_store_ms);
        let in_time_by_boot = !rules.commit_limit_boot || by_boot <= COMMIT_LIMIT;
        if in_time_by_store && in_time_by_boot {
            return Ok(());
        }
        let took_s = by_boot.as_secs().max(by_store_ms.unsigned_abs() / 1000);
        Err(ArchiveError::TooLate { name: name.source.clone(), took_s, limit_s: COMMIT_LIMIT.as_secs() })
    }
}

/// The manifest's numbering of packs: only those used, in order of first use.
struct Numbering<'p> {
    all: &'p [PackRef],
    new_number: Vec<Option<u32>>,
    used: Vec<PackRef>,
}

impl<'p> Numbering<'p> {
    fn new(all: &'p [PackRef]) -> Self {
        Self { all, new_number: vec![None; all.len()], used: Vec::new() }
    }

    fn renumber(&mut self, mut extents: Vec<Extent>) -> Vec<Extent> {
        for extent in &mut extents {
            let old = extent.pack as usize;
            extent.pack = *self.new_number[old].get_or_insert_with(|| {
                self.used.push(self.all[old]);
                u32::try_from(self.used.len() - 1).unwrap_or(u32::MAX)
            });
        }
        extents
    }
}

fn shortened(text: String) -> String {
    text.chars().take(60).collect()
}

fn original(wrapping: &Wrapping) -> Original {
    let wrapper = match wrapping.gzip.map(|g| g.encoder) {
        None => Wrapper::None,
        Some(GzipEncoder::GoTo126) => Wrapper::GzipGoTo126,
        Some(GzipEncoder::Unknown) => Wrapper::GzipUnknown,
    };
    Original { wrapper, len_bytes: wrapping.original_len_bytes, sha256: wrapping.original_sha256 }
}

/// A source with a service's name, or whose last backup was a snapshot, must give a snapshot again: a cut or broken
/// one must not pass for some other file.
fn expect(source: &SourceSpec, parent: Option<&Manifest>, raw: bool) -> Expect {
    let service = matches!(source.name.as_str(), "vault" | "consul" | "nomad");
    match parent {
        _ if matches!(source.input, Input::Service(_)) => Expect::Snapshot,
        _ if raw => Expect::Raw,
        _ if service => Expect::Snapshot,
        Some(parent) if parent.kind != Kind::Other => Expect::Snapshot,
        _ => Expect::Any,
    }
}

/// An input, ready to be read by a thread.
struct Opened {
    input: Box<dyn Read + Send>,
    len_hint_bytes: Option<u64>,
    labels: Vec<ManifestLabel>,
    stopper: Option<Stopper>,
}

fn open_input(source: &SourceSpec) -> Result<Opened, ArchiveError> {
    let opened = |input, len_hint_bytes| Opened { input, len_hint_bytes, labels: Vec::new(), stopper: None };
    match &source.input {
        Input::Stdin => Ok(opened(Box::new(std::io::stdin()), None)),
        Input::File(path) => {
            let failed = |error| ArchiveError::Open { name: source.name.clone(), path: path.clone(), source: error };
            let file = File::open(path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if metadata.is_dir() {
                return Err(failed(std::io::ErrorKind::IsADirectory.into()));
            }
            Ok(opened(Box::new(file), metadata.is_file().then_some(metadata.len())))
        }
        // Opened before, by async code.
        Input::Service(_) => Err(ArchiveError::Internal("a server is not opened like a file".into())),
    }
}

/// Why a thread of the pipeline ended early.
enum Stage {
    /// It failed.
    Error(ArchiveError),
    /// Its neighbour is gone.
    Stopped,
}

impl From<ArchiveError> for Stage {
    fn from(error: ArchiveError) -> Self {
        Self::Error(error)
    }
}

/// The first pieces tell what the stream is.
enum Piece {
    Begin { is_snapshot: bool },
    Bytes(Vec<u8>),
    End,
}

struct Reader {
    name: SourceName,
    repository: Repository,
    cancel: Cancel,
}

impl Reader {
    fn read(&self, input: Box<dyn Read + Send>, expect: Expect, pieces: &SyncSender<Piece>) -> Result<Wrapping, Stage> {
        let failed = |source: UnwrapError| service::read_failed(&self.name, source);
        let mut unwrap = Unwrap::open(input, expect).map_err(failed)?;
        let send = |piece| pieces.send(piece).map_err(|_| Stage::Stopped);
        send(Piece::Begin { is_snapshot: unwrap.is_snapshot() })?;
        loop {
            self.cancel.check()?;
            let mut piece = vec![0; PIECE_LEN_BYTES];
            let mut filled = 0;
            while filled < piece.len() {
                match unwrap.read(&mut piece[filled..]).map_err(failed)? {
                    0 => break,
                    n => filled += n,
                }
            }
            if filled == 0 {
                break;
            }
            piece.truncate(filled);
            self.repository.monitor.event(Event::Read { source: self.name.clone(), len_bytes: filled as u64 });
            send(Piece::Bytes(piece))?;
        }
        let wrapping = unwrap.finish().map_err(failed)?;
        send(Piece::End)?;
        Ok(wrapping)
    }
}

struct IngestStage {
    name: SourceName,
    keys: Arc<SourceKeyring>,
    table: crate::pipeline::table::ChunkTable,
    first_pack: u32,
    parent_chunker: Option<Chunker>,
    len_hint_bytes: Option<u64>,
}

impl IngestStage {
    fn run(self, pieces: &Receiver<Piece>, packs: &SyncSender<NewPack>) -> Result<Ingested, Stage> {
        let name = self.name;
        let failed = |error: IngestError| match error {
            IngestError::Tar(source) => Stage::Error(ArchiveError::Tar { name: name.clone(), source }),
            IngestError::Stopped => Stage::Stopped,
        };
        let Ok(Piece::Begin { is_snapshot }) = pieces.recv() else { return Err(Stage::Stopped) };
        let options = IngestOptions {
            keys: &self.keys.keys,
            table: self.table,
            first_pack: self.first_pack,
            parent_chunker: self.parent_chunker,
            // A snapshot's length is in its tar; the file's is that of the gzip.
            len_hint_bytes: self.len_hint_bytes.filter(|_| !is_snapshot),
            is_snapshot,
        };
        let full = |pack: NewPack| packs.send(pack).map_err(|_| IngestError::Stopped);
        let mut ingest = Ingest::new(options, full);
        loop {
            match pieces.recv() {
                Ok(Piece::Bytes(bytes)) => ingest.push(&bytes).map_err(failed)?,
                Ok(Piece::End) => break,
                Ok(Piece::Begin { .. }) | Err(_) => return Err(Stage::Stopped),
            }
        }
        let mut ingested = ingest.finish().map_err(failed)?;
        if let Some(last) = ingested.last_pack.take() {
            packs.send(last).map_err(|_| Stage::Stopped)?;
        }
        Ok(ingested)
    }
}

struct Sealer {
    keys: Arc<SourceKeyring>,
    created: UnixTime,
    compression: Compression,
    queue: UploadQueue,
}

impl Sealer {
    fn run(&self, packs: &Receiver<NewPack>) -> Result<Vec<Sealed>, ArchiveError> {
        packs.iter().map(|pack| self.seal(pack)).collect()
    }

    fn seal(&self, pack: NewPack) -> Result<Sealed, ArchiveError> {
        let sealed = seal::seal_pack(&pack.plaintext, &self.keys.recipient, self.compression)?;
        let plaintext_len_bytes = u32::try_from(pack.plaintext.len()).unwrap_or(u32::MAX);
        drop(pack.plaintext);
        let id: ObjectId = sealed.id;
        let object_len_bytes = sealed.bytes.len() as u64;
        let index = Index {
            key_generation: self.keys.generation,
            source: self.keys.source.clone(),
            created: self.created,
            pack_len_bytes: object_len_bytes,
            chunks: pack.chunks,
        };
        let index = seal::seal_index(&index, &id, &self.keys)?;
        let index_len_bytes = index.len() as u64;
        let source = self.keys.source.clone();
        let upload = Upload { source, pack_key: id.pack_key(), pack: sealed.bytes, index_key: id.index_key(), index };
        let uploaded = self.queue.push(upload)?;
        Ok(Sealed {
            number: pack.number,
            pack: PackRef { id, object_len_bytes, plaintext_len_bytes },
            index_len_bytes,
            uploaded,
        })
    }
}
