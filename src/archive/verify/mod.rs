//! `verify`: finds out that a backup is broken before it is needed. Three depths, each with what it proves:
//!
//! ```text
//! structure   manifests and indexes open, no pack that they name is missing or of another length   writer key
//! data        packs have the bytes that their names promise; opened, those that indexes list       writer key; identity
//! rehearse    snapshots are put together and thrown away; every check of a restore                 identity
//! ```
//! Manifests are listed before packs, so that a backup that runs at the same time looks whole or not at all; what gc or
//! a withdrawing backup takes away meanwhile is looked for again before it counts as damage.

mod chain;
mod choice;
mod data;
mod judge;
mod keys;
pub mod report;
mod structure;

pub use report::Report;

use super::host_state::{HostState, ReadDays};
use super::manifests::{Listed, choose};
use super::parent::chain as tell_chain;
use super::repository::Repository;
use super::restore::{Exactness, rehearse};
use super::{ArchiveError, Cancel};
use crate::pipeline::seal::SealError;
use crate::store::{StoreError, StoreTime};
use chain::Shown;
use choice::Candidate;
use hah_vault_format::text::Scope;
use hah_vault_format::{FormatError, ManifestName, ObjectId, SourceName};
use judge::Findings;
use report::{Data, Flaw, Rehearsed, Structure};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use structure::Survey;
use tokio::sync::{Semaphore, SemaphorePermit};

/// After so many packs the state is written, so that an interrupted run is not in vain.
const SAVE_EVERY_PACKS: usize = 64;
const DAY_MS: i64 = 86_400_000;

/// Which snapshots are looked at; all, if both are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All of these sources.
    pub sources: BTreeSet<SourceName>,
    /// These.
    pub manifests: BTreeSet<ManifestName>,
}

impl Wanted {
    fn wants(&self, name: &ManifestName) -> bool {
        let all = self.sources.is_empty() && self.manifests.is_empty();
        all || self.sources.contains(&name.source) || self.manifests.contains(name)
    }
}

/// Which of them are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearse {
    /// The newest of each source, and those that were named.
    Newest,
    /// All.
    All,
}

/// How deep to look.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions<'s> {
    /// At what.
    pub wanted: Wanted,
    /// Percent of the packs' bytes to read, 1 to 100.
    pub read_data: Option<u8>,
    /// Packs to read in any case.
    pub read_packs: BTreeSet<ObjectId>,
    /// What to put together.
    pub rehearse: Option<Rehearse>,
    /// What this host remembers, and is to remember.
    pub state: Option<&'s HostState>,
}

impl Repository {
    /// What words mean: sources that there are, and manifests as everywhere.
    ///
    /// # Errors
    /// [`ArchiveError::NoManifest`], [`ArchiveError::Ambiguous`], [`ArchiveError::Store`].
    pub async fn wanted(&self, words: &[String]) -> Result<Wanted, ArchiveError> {
        let mut wanted = Wanted::default();
        if words.is_empty() {
            return Ok(wanted);
        }
        let names: Vec<ManifestName> = self.list_manifests(None).await?.into_iter().map(|l| l.name).collect();
        for word in words {
            match word.parse::<SourceName>() {
                Ok(source) if names.iter().any(|name| name.source == source) => drop(wanted.sources.insert(source)),
                _ => drop(wanted.manifests.insert(choose(word, &names)?)),
            }
        }
        Ok(wanted)
    }
}

/// Looks.
///
/// # Errors
/// What keeps it from finding out: [`ArchiveError::Store`] of a store that does not answer or refuses,
/// [`ArchiveError::NeedsIdentity`] for a rehearsal, [`ArchiveError::Scope`]. What it finds is in the report.
pub async fn verify(
    repository: &Repository,
    options: &VerifyOptions<'_>,
    cancel: &Cancel,
) -> Result<Report, ArchiveError> {
    if options.rehearse.is_some() && repository.keyring.identity.is_none() {
        return Err(ArchiveError::NeedsIdentity { what: "a rehearsal" });
    }
    let now = repository.store.now().await?;
    // Before the listing: a backup that ends meanwhile on this host is not gone.
    let remembered = options.state.map(HostState::seen).unwrap_or_default();
    let listed = in_scope(repository, options).await?;
    let selected: Vec<Listed> = listed.iter().filter(|l| options.wanted.wants(&l.name)).cloned().collect();
    let survey = Survey::take(repository, &selected, cancel).await?;
    let mut findings = Findings::new(&survey);
    data::read_indexes(repository, &survey, cancel, |place, wrong| findings.index(place, wrong)).await?;
    findings.damage.extend(keys::check_hint(repository).await?);
    let keys = keys::check_copies(repository, options.state, &mut findings.damage).await?;
    let mut report = Report { structure: counted(&survey, keys), ..Report::default() };
    if options.read_data.is_some() || !options.read_packs.is_empty() {
        report.data = Some(read_data(repository, options, &survey, &mut findings, now, cancel).await?);
    }
    let newest = newest(&survey);
    if let Some(which) = options.rehearse {
        let names = to_rehearse(&survey, which, &options.wanted, &newest);
        report.rehearsed = Some(rehearse_all(repository, &names, &mut findings, cancel).await?);
    }
    // Which packs is it: of what could not be put together, and of what this host knows to be damaged? gc, backups and repair
    // go by what is remembered.
    let known = options.state.map(HostState::damaged).unwrap_or_default();
    let suspects = findings.suspects(&survey, &known);
    data::read(repository, &survey, &suspects, cancel, |reading| {
        let id = survey.packs[reading.place].id;
        findings.read(reading, id);
    })
    .await?;
    findings.recheck(repository, &survey).await?;
    let noted = remember(repository, options, &survey, &findings);
    report.chain = look_for_lost(options, remembered, &survey, &listed, now);
    findings.conclude(&survey, &newest, noted, &mut report);
    Ok(report)
}

/// All manifests of the sources that are looked at and that the writer key opens.
async fn in_scope(repository: &Repository, options: &VerifyOptions<'_>) -> Result<Vec<Listed>, ArchiveError> {
    let only = match &repository.keyring.writer.scope {
        Scope::All => None,
        Scope::Source(source) => Some(source),
    };
    let Wanted { sources, manifests } = &options.wanted;
    let mut listed = repository.list_manifests(only).await?;
    let named: BTreeSet<&SourceName> = sources.iter().chain(manifests.iter().map(|name| &name.source)).collect();
    listed.retain(|l| named.is_empty() || named.contains(&l.name.source));
    // Named, but not for this key.
    named.into_iter().try_for_each(|source| repository.source_keys(source).map(drop))?;
    Ok(listed)
}

fn counted(survey: &Survey, keys: usize) -> Structure {
    let mut structure = Structure {
        packs: survey.packs.len(),
        packs_bytes: survey.packs.iter().map(|pack| pack.object_len_bytes).sum(),
        unnamed_packs: survey.unnamed_packs,
        keys,
        ..Structure::default()
    };
    let names = survey.opened.iter().map(|o| &o.name).chain(survey.unopened.iter().map(|u| &u.name));
    for name in names {
        structure.sources.entry(name.source.clone()).or_default().snapshots += 1;
    }
    structure
}

/// The newest manifest of each source that opens.
fn newest(survey: &Survey) -> BTreeMap<SourceName, ManifestName> {
    // They are in the listing's order: by source, then from old to new.
    survey.opened.iter().map(|opened| (opened.name.source.clone(), opened.name.clone())).collect()
}

fn day(now: StoreTime) -> u32 {
    u32::try_from(now.unix_ms / DAY_MS).unwrap_or(0)
}

async fn read_data(
    repository: &Repository,
    options: &VerifyOptions<'_>,
    survey: &Survey,
    findings: &mut Findings,
    now: StoreTime,
    cancel: &Cancel,
) -> Result<Data, ArchiveError> {
    let mut days = options.state.map(|state| state.read_days().by_pack()).unwrap_or_default();
    if options.wanted == Wanted::default() && repository.keyring.writer.scope == Scope::All {
        let named: HashSet<&ObjectId> = survey.packs.iter().map(|pack| &pack.id).collect();
        days.retain(|id, _| named.contains(id));
    }
    let readable: Vec<usize> = (0..survey.packs.len()).filter(|place| findings.packs[*place].is_none()).collect();
    let candidate = |place: &usize| {
        let pack = &survey.packs[*place];
        Candidate { id: pack.id, len_bytes: pack.object_len_bytes }
    };
    let candidates: Vec<Candidate> = readable.iter().map(candidate).collect();
    let percent = options.read_data.unwrap_or(0);
    let chosen = choice::choose(&candidates, &days, percent, repository.world.random_u32());
    let mut places: BTreeSet<usize> = chosen.into_iter().map(|chosen| readable[chosen]).collect();
    places.extend(readable.iter().filter(|place| options.read_packs.contains(&survey.packs[**place].id)));
    let places: Vec<usize> = places.into_iter().collect();
    let opened = repository.keyring.identity.is_some();
    let mut data = Data { percent, opened, ..Data::default() };
    let mut saver = Saver { repository, state: options.state, failed: false };
    data::read(repository, survey, &places, cancel, |reading| {
        data.packs += 1;
        data.packs_bytes += reading.len_bytes;
        data.chunks += reading.chunks as u64;
        if reading.pack.is_none() {
            days.insert(survey.packs[reading.place].id, day(now));
        }
        let id = survey.packs[reading.place].id;
        findings.read(reading, id);
        if data.packs.is_multiple_of(SAVE_EVERY_PACKS) {
            saver.save(&days);
        }
    })
    .await?;
    saver.save(&days);
    let last = survey.packs.iter().map(|pack| days.get(&pack.id)).min().flatten();
    data.oldest_days = last.filter(|_| options.state.is_some()).map(|last| day(now).saturating_sub(*last));
    Ok(data)
}

/// Writes what was read when, and warns once if that fails.
struct Saver<'s> {
    repository: &'s Repository,
    state: Option<&'s HostState>,
    failed: bool,
}

impl Saver<'_> {
    fn save(&mut self, days: &HashMap<ObjectId, u32>) {
        let Some(state) = self.state.filter(|_| !self.failed) else { return };
        if let Err(error) = state.save_read_days(&ReadDays::from_packs(days)) {
            self.failed = true;
            let text = format!(
                "which packs were read is not remembered, the next run chooses at random: {}",
                tell_chain(&error)
            );
            self.repository.monitor.warn(None, text);
        }
    }
}

fn to_rehearse(
    survey: &Survey,
    which: Rehearse,
    wanted: &Wanted,
    newest: &BTreeMap<SourceName, ManifestName>,
) -> Vec<ManifestName> {
    let is_named = |name: &ManifestName| wanted.manifests.contains(name);
    let is_newest = |name: &ManifestName| {
        let source_wanted = wanted.manifests.is_empty() || wanted.sources.contains(&name.source);
        source_wanted && newest.get(&name.source) == Some(name)
    };
    let names = survey.opened.iter().map(|opened| &opened.name);
    names.filter(|name| which == Rehearse::All || is_named(name) || is_newest(name)).cloned().collect()
}

async fn rehearse_all(
    repository: &Repository,
    names: &[ManifestName],
    findings: &mut Findings,
    cancel: &Cancel,
) -> Result<Vec<Rehearsed>, ArchiveError> {
    let mut whole = Vec::new();
    for name in names {
        cancel.check()?;
        let rehearsal = match rehearse(repository, name, false, cancel).await {
            Ok(rehearsal) => rehearsal,
            Err(error) if is_damage(&error) => {
                findings.not_restorable(name, tell_chain(&error));
                continue;
            }
            Err(error) => return Err(error),
        };
        let manifest = &rehearsal.report.manifest;
        if rehearsal.kind != manifest.kind || rehearsal.records != manifest.records {
            findings.not_restorable(name, "its records are not those that its manifest counts".into());
            continue;
        }
        if rehearsal.report.exactness == Exactness::UnexpectedGzip {
            let text = "its content is right, but in another gzip than its manifest promises".to_owned();
            findings.not_restorable(name, text);
            continue;
        }
        let is_state = !manifest.records.is_empty();
        if is_state && rehearsal.opaque_bytes > 0 {
            let bytes = rehearsal.opaque_bytes;
            let text = format!("{name}: {bytes} bytes of its state are no records; they came so from the server");
            repository.monitor.warn(Some(&name.source), text);
        }
        whole.push(Rehearsed {
            name: name.clone(),
            stream_len_bytes: manifest.stream.len_bytes,
            records: rehearsal.records.iter().map(|r| r.count).sum(),
            opaque_bytes: if is_state { rehearsal.opaque_bytes } else { 0 },
            exact: rehearsal.report.exactness == Exactness::Exact,
        });
    }
    Ok(whole)
}

/// Remembers what is there, and which packs are damaged; whether the latter succeeded.
fn remember(repository: &Repository, options: &VerifyOptions<'_>, survey: &Survey, findings: &Findings) -> bool {
    let Some(state) = options.state else { return false };
    let mut seen: BTreeMap<&SourceName, Vec<ManifestName>> = BTreeMap::new();
    for opened in &survey.opened {
        seen.entry(&opened.name.source).or_default().push(opened.name.clone());
    }
    let mut damaged = state.damaged();
    for (place, pack) in survey.packs.iter().enumerate() {
        match findings.must_be_avoided(place, pack) {
            Some(true) => drop(damaged.insert(pack.id)),
            Some(false) => drop(damaged.remove(&pack.id)),
            None => {}
        }
    }
    let noted = seen.into_iter().try_for_each(|(source, names)| state.note_seen(source, &names));
    let noted = noted.and_then(|()| state.save_damaged(&damaged));
    if let Err(error) = &noted {
        repository.monitor.warn(None, format!("what was found is not remembered: {}", tell_chain(error)));
    }
    noted.is_ok()
}

fn look_for_lost(
    options: &VerifyOptions<'_>,
    mut remembered: BTreeMap<SourceName, Vec<ManifestName>>,
    survey: &Survey,
    listed: &[Listed],
    now: StoreTime,
) -> report::Chain {
    if options.wanted != Wanted::default() {
        remembered.retain(|source, _| options.wanted.sources.contains(source));
    }
    let listed = listed.iter().map(|l| l.name.clone()).collect();
    let shown = Shown { now, listed, trash: survey.trash.clone() };
    let children = survey.opened.iter().filter_map(|o| Some((o.name.clone(), o.parent.clone()?)));
    shown.chain(children, &remembered)
}

/// Whether an error of a rehearsal says something about the repository, and not about the way to it.
fn is_damage(error: &ArchiveError) -> bool {
    match error {
        ArchiveError::Store(error) => is_verdict(error),
        ArchiveError::Manifest { .. }
        | ArchiveError::Pack { .. }
        | ArchiveError::NotTheSame { .. }
        | ArchiveError::RestoredTar { .. }
        | ArchiveError::Notes { .. }
        | ArchiveError::TooLarge { .. } => true,
        _ => false,
    }
}

/// Whether a store's error says something about the object, and not about the store.
fn is_verdict(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. } | StoreError::TooLong { .. })
}

fn flaw_of(error: &SealError) -> Flaw {
    match error {
        SealError::Name => Flaw::Hash,
        SealError::Format(FormatError::TooNew { .. }) => Flaw::TooNew,
        _ => Flaw::Unreadable,
    }
}

/// Bytes that may be in memory at the same time.
struct Budget(Semaphore, u32);

impl Budget {
    fn new(len_bytes: u64) -> Self {
        let units = u32::try_from(len_bytes >> 10).unwrap_or(u32::MAX).max(1);
        Self(Semaphore::new(units as usize), units)
    }

    /// Waits for room; something larger than the whole budget gets all of it.
    async fn take(&self, len_bytes: u64) -> Result<SemaphorePermit<'_>, ArchiveError> {
        let units = u32::try_from(len_bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.1);
        self.0.acquire_many(units).await.map_err(|error| ArchiveError::Internal(error.to_string()))
    }
}
