//! `restore`: a manifest and its packs to the bytes that were backed up.
//!
//! Oracle: the exact bytes or a named error. Nothing is believed but hashes and tags: the manifest's tag, each pack's
//! name, the stream's BLAKE3, the snapshot's own SHA256SUMS, and the SHA-256 of the original.

mod cache;
mod outlet;

use super::new_file::{NewFile, folder_of};
use super::repository::Repository;
use super::{ArchiveError, Cancel, Event};
use crate::keys::RepositoryIdentity;
use crate::pipeline::ingest;
use crate::pipeline::rewrap::{Rewrap, Rewrapped};
use crate::pipeline::seal;
use cache::{PackCache, Plan};
use futures::StreamExt;
use hah_vault_format::limits::PACK_OBJECT_LEN_BYTES_MAX;
use hah_vault_format::manifest::{Kind, RecordCount, Wrapper, extents_len_bytes};
use hah_vault_format::{Manifest, ManifestName};
use outlet::{Finished, Outlet};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Packs that are fetched and opened ahead of their use. Each holds up to 18 MiB, sealed and open.
const PACKS_AHEAD_MAX: usize = 2;
/// Order notes that are held in memory at most; writers keep the same limit.
const NOTES_LEN_BYTES_MAX: u64 = crate::pipeline::ingest::NOTES_LEN_BYTES_MAX + (1 << 20);
/// How often progress is told, in bytes.
const PROGRESS_LEN_BYTES: u64 = 1 << 20;

/// How the restored bytes compare with those that were backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exactness {
    /// The same bytes.
    Exact,
    /// The same snapshot in another gzip, as asked for by `--fast`.
    FastAsked,
    /// The same snapshot in another gzip: what made the original cannot be reproduced, as the manifest says.
    OtherGzip,
    /// The same snapshot in another gzip, although the manifest promised the same bytes.
    UnexpectedGzip,
}

impl Exactness {
    /// The word for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::FastAsked => "fast",
            Self::OtherGzip => "other-gzip",
            Self::UnexpectedGzip => "unexpected-gzip",
        }
    }
}

/// A restored snapshot that passed every check.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// Its manifest.
    pub manifest: Manifest,
    /// Bytes written.
    pub len_bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// How they compare with the original.
    pub exactness: Exactness,
}

/// A snapshot that was put together and thrown away.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// What a restore would have said.
    pub report: RestoreReport,
    /// What the records of `state.bin` show it to be.
    pub kind: Kind,
    /// Its records, counted anew.
    pub records: Vec<RecordCount>,
    /// Bytes of `state.bin` that are no records.
    pub opaque_bytes: u64,
}

/// Restores into `out`, which is not flushed. What was written is valid only if this succeeds.
///
/// # Errors
/// [`ArchiveError`]; then `out` has got a part of the snapshot, or something else.
pub async fn restore<W: Write + Send + 'static>(
    repository: &Repository,
    name: &ManifestName,
    out: W,
    fast: bool,
    cancel: &Cancel,
) -> Result<(W, RestoreReport), ArchiveError> {
    let wrapped = if fast { Wrapped::Fast } else { Wrapped::Original };
    let (finished, report) = run(repository, name, out, wrapped, false, cancel).await?;
    Ok((finished.out, report))
}

/// Restores the stream alone, without its wrapper.
///
/// # Errors
/// As a restore's.
pub(super) async fn restore_stream<W: Write + Send + 'static>(
    repository: &Repository,
    name: &ManifestName,
    out: W,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    run(repository, name, out, Wrapped::Stream, false, cancel).await.map(drop)
}

/// Restores into nowhere, the original gzip included or with a `fast` one, and counts the records of `state.bin`.
///
/// # Errors
/// As a restore's.
pub async fn rehearse(
    repository: &Repository,
    name: &ManifestName,
    fast: bool,
    cancel: &Cancel,
) -> Result<Rehearsal, ArchiveError> {
    let wrapped = if fast { Wrapped::Fast } else { Wrapped::Original };
    let (finished, report) = run(repository, name, io::sink(), wrapped, true, cancel).await?;
    let (form, tally) = finished.records.unwrap_or_default();
    let kind = ingest::kind(report.manifest.kind != Kind::Other, form);
    Ok(Rehearsal { report, kind, records: ingest::counted(&tally), opaque_bytes: tally.opaque_bytes })
}

/// What is wanted around the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapped {
    /// What was around it, as far as it can be made again.
    Original,
    /// Some gzip, if it was one.
    Fast,
    /// Nothing.
    Stream,
}

async fn run<W: Write + Send + 'static>(
    repository: &Repository,
    name: &ManifestName,
    out: W,
    wrapped: Wrapped,
    count_records: bool,
    cancel: &Cancel,
) -> Result<(Finished<W>, RestoreReport), ArchiveError> {
    let what = "reading packs";
    let identity = repository.keyring.identity.clone().ok_or(ArchiveError::NeedsIdentity { what })?;
    let manifest = Arc::new(repository.open_manifest(name).await?);
    if extents_len_bytes(manifest.notes()) > NOTES_LEN_BYTES_MAX {
        let (name, what) = (name.clone(), "the part that holds its order notes");
        return Err(ArchiveError::TooLarge { name, what, limit_bytes: NOTES_LEN_BYTES_MAX });
    }
    let plan = Plan::new(&manifest);
    let (opened_tx, opened) = mpsc::channel(1);
    let fetch = fetch(repository, &manifest, identity, plan.order.clone(), opened_tx);
    let joiner = Joiner {
        manifest: Arc::clone(&manifest),
        cache: PackCache::new(plan, opened).map_err(scratch_error)?,
        repository: repository.clone(),
        cancel: cancel.clone(),
    };
    let mode = rewrap(&manifest, wrapped);
    let join = tokio::task::spawn_blocking(move || joiner.run(out, mode, count_records));
    let (fetched, joined) = tokio::join!(fetch, join);
    let joined = joined.map_err(|e| ArchiveError::Internal(e.to_string()))?;
    // A fetch that failed is the cause of a join that starved.
    fetched?;
    let finished = joined?;
    let exactness = compare(&manifest, wrapped, &finished.rewrapped)?;
    let Rewrapped { len_bytes, sha256 } = finished.rewrapped;
    let report = RestoreReport { manifest: Arc::unwrap_or_clone(manifest), len_bytes, sha256, exactness };
    Ok((finished, report))
}

fn rewrap(manifest: &Manifest, wrapped: Wrapped) -> Rewrap {
    match (manifest.original.wrapper, wrapped) {
        (Wrapper::None, _) | (_, Wrapped::Stream) => Rewrap::None,
        (Wrapper::GzipGoTo126, Wrapped::Original) => Rewrap::GoTo126,
        (Wrapper::GzipGoTo126 | Wrapper::GzipUnknown, _) => Rewrap::Fast,
    }
}

fn compare(manifest: &Manifest, wrapped: Wrapped, rewrapped: &Rewrapped) -> Result<Exactness, ArchiveError> {
    let original = &manifest.original;
    let same = rewrapped.len_bytes == original.len_bytes && rewrapped.sha256 == original.sha256;
    match (original.wrapper, wrapped) {
        _ if same => Ok(Exactness::Exact),
        (Wrapper::None, _) => Err(ArchiveError::NotTheSame { name: manifest.name.clone(), what: "file" }),
        (_, Wrapped::Stream) => Ok(Exactness::FastAsked),
        (Wrapper::GzipUnknown, _) => Ok(Exactness::OtherGzip),
        (Wrapper::GzipGoTo126, Wrapped::Fast) => Ok(Exactness::FastAsked),
        (Wrapper::GzipGoTo126, Wrapped::Original) => Ok(Exactness::UnexpectedGzip),
    }
}

/// Fetches and opens packs in the order of their first use, some ahead.
async fn fetch(
    repository: &Repository,
    manifest: &Arc<Manifest>,
    identity: RepositoryIdentity,
    order: Vec<u32>,
    opened: mpsc::Sender<(u32, Vec<u8>)>,
) -> Result<(), ArchiveError> {
    let jobs = order.into_iter().map(|number| fetch_one(repository, manifest, &identity, number));
    let mut jobs = std::pin::pin!(futures::stream::iter(jobs).buffered(PACKS_AHEAD_MAX));
    while let Some(pack) = jobs.next().await {
        if opened.send(pack?).await.is_err() {
            // The joiner has failed, and says why.
            return Ok(());
        }
    }
    Ok(())
}

async fn fetch_one(
    repository: &Repository,
    manifest: &Arc<Manifest>,
    identity: &RepositoryIdentity,
    number: u32,
) -> Result<(u32, Vec<u8>), ArchiveError> {
    let internal = |text: &str| ArchiveError::Internal(text.into());
    let pack = *manifest.packs.get(number as usize).ok_or_else(|| internal("no such pack"))?;
    let bytes = repository.store.get(&pack.id.pack_key(), PACK_OBJECT_LEN_BYTES_MAX).await?;
    let identity = identity.clone();
    let opened =
        tokio::task::spawn_blocking(move || seal::open_pack(&bytes, &pack.id, pack.plaintext_len_bytes, &identity));
    let opened = opened.await.map_err(|e| ArchiveError::Internal(e.to_string()))?;
    let failed = |source| ArchiveError::Pack { id: pack.id, manifest: Box::new(manifest.name.clone()), source };
    Ok((number, opened.map_err(failed)?))
}

fn scratch_error(source: io::Error) -> ArchiveError {
    ArchiveError::Spill { dir: std::env::temp_dir(), source }
}

/// Puts the stream together, on a thread of its own.
struct Joiner {
    manifest: Arc<Manifest>,
    cache: PackCache,
    repository: Repository,
    cancel: Cancel,
}

impl Joiner {
    fn run<W: Write>(mut self, out: W, mode: Rewrap, count_records: bool) -> Result<Finished<W>, ArchiveError> {
        let manifest = Arc::clone(&self.manifest);
        let mut notes = Vec::new();
        for extent in manifest.notes() {
            self.cache.read(extent, &mut |bytes| {
                notes.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        let mut outlet = Outlet::new(&manifest, notes, out, mode, count_records);
        let mut untold_bytes = 0;
        for extent in &manifest.extents {
            self.cancel.check()?;
            self.cache.read(extent, &mut |bytes| outlet.push(bytes))?;
            untold_bytes += u64::from(extent.len_bytes);
            if untold_bytes >= PROGRESS_LEN_BYTES {
                self.tell(std::mem::take(&mut untold_bytes));
            }
        }
        self.tell(untold_bytes);
        outlet.finish()
    }

    fn tell(&self, len_bytes: u64) {
        let (manifest, total_bytes) = (self.manifest.name.clone(), self.manifest.stream.len_bytes);
        self.repository.monitor.event(Event::Restored { manifest, len_bytes, total_bytes });
    }
}

/// The file name that a restore without `-o` writes to.
pub fn default_file_name(manifest: &ManifestName, kind: Option<Kind>) -> String {
    let extension = if kind == Some(Kind::Other) { "restored" } else { "snap" };
    format!("{}-{}.{extension}", manifest.source, manifest.stem())
}

/// Restores to a file: a temporary name in the same folder, every check, fsync, then the final name.
///
/// # Errors
/// [`ArchiveError`]; then nothing is under the final name that was not there before.
pub async fn restore_to_file(
    repository: &Repository,
    name: &ManifestName,
    path: &Path,
    force: bool,
    fast: bool,
    cancel: &Cancel,
) -> Result<RestoreReport, ArchiveError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source| ArchiveError::File { action, path, source }
    };
    if !force && path.symlink_metadata().is_ok() {
        return Err(failed("write over")(io::ErrorKind::AlreadyExists.into()));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        let reason = format!("there is no folder {}", folder.display());
        return Err(failed("write")(io::Error::new(io::ErrorKind::NotFound, reason)));
    }
    let file = NewFile::create_in(&folder).map_err(failed("write beside"))?;
    // The file stays with this function, so that it is gone however the restore ends.
    let out = file.file().try_clone().map_err(failed("write"))?;
    let (_, report) = restore(repository, name, out, fast, cancel).await?;
    cancel.check()?;
    file.keep(path, force).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => failed("write over")(source),
        _ => failed("write")(source),
    })?;
    Ok(report)
}
