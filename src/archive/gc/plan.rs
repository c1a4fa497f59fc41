//! What a gc would do, and why.

use super::budget::Growth;
use super::packs::{self, LostPacks, Numbers};
use super::survey::{self, Facts, Found, Survey, older};
use super::{GcOptions, GcReport, check_scope};
use crate::archive::manifests::Listed;
use crate::archive::retention::{self, Candidate, Health, Moment, Reason, Verdict};
use crate::archive::{ArchiveError, Cancel, GRACE, Repository, STORE_CLOCK_TOLERANCE};
use crate::store::StoreTime;
use hah_vault_format::{ManifestName, ObjectId, SourceName, TrashName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One manifest and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: ManifestName,
    /// Length of the object.
    pub len_bytes: u64,
    /// When it was put, by the store's time.
    pub modified: StoreTime,
    /// Packs that it needs and that are not there: it cannot be restored.
    pub lost: Option<LostPacks>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// A source of which more than half would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMany {
    /// The source.
    pub source: SourceName,
    /// How many manifests would go.
    pub dropped: usize,
    /// Of how many.
    pub of: usize,
}

/// Objects to be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub len_bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, len_bytes: u64) {
        self.count += 1;
        self.len_bytes += len_bytes;
    }
}

/// A pack or an index, or both, that nothing names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unnamed {
    pub id: ObjectId,
    /// Length of the pack if it is there.
    pub pack_len_bytes: Option<u64>,
    /// Length of the index if it is there.
    pub index_len_bytes: Option<u64>,
}

/// A whole plan.
#[derive(Debug)]
pub struct Plan {
    /// Store time S: what ages are relative to.
    pub start: StoreTime,
    /// All manifests, by source and time.
    pub rows: Vec<Row>,
    /// Sources of which more than half would go: to be done only when forced.
    pub too_many: Vec<TooMany>,
    /// Manifests and trash copies that do not open, and so keep all packs from being deleted.
    pub blocked_by: Vec<String>,
    /// Manifests that do not open, and are ignored as asked for.
    pub ignored: Vec<ManifestName>,
    /// Manifests to be ignored that are not among those that do not open.
    pub ignored_in_vain: Vec<ManifestName>,
    /// Bytes that become free once the grace has passed, and a gc after it; `None` where that was too much to find
    /// out.
    pub later_bytes: Option<u64>,
    /// Bytes of all objects that were listed.
    pub listed_bytes: u64,
    /// How the repository grows.
    pub growth: Option<Growth>,
    /// Trash copies, packs, indexes and leftovers to be deleted now.
    pub delete_now: Amount,
    pub(super) since_boot: Duration,
    pub(super) expire: Vec<(TrashName, u64)>,
    pub(super) unnamed: Vec<Unnamed>,
    pub(super) leftovers: Vec<(String, u64)>,
}

impl Plan {
    /// The manifests to retire.
    pub fn retire(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.verdict.keeps())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.retire().next().is_none() && self.delete_now.count == 0
    }

    /// What [`execute`](super::execute()) would report if everything went as planned.
    pub fn foretell(&self) -> GcReport {
        let sum = |lens: &mut dyn Iterator<Item = u64>| {
            lens.fold(Amount::default(), |mut sum, len_bytes| {
                sum.add(len_bytes);
                sum
            })
        };
        GcReport {
            retired: self.retire().map(|row| row.name.clone()).collect(),
            trash: sum(&mut self.expire.iter().map(|(_, len)| *len)),
            packs: sum(&mut self.unnamed.iter().filter_map(|unnamed| unnamed.pack_len_bytes)),
            indexes: sum(&mut self.unnamed.iter().filter_map(|unnamed| unnamed.index_len_bytes)),
            leftovers: sum(&mut self.leftovers.iter().map(|(_, len)| *len)),
            ..GcReport::default()
        }
    }

    /// Until when what is retired now can be brought back.
    pub fn undelete_until(&self) -> StoreTime {
        let limit_ms = crate::archive::parent::millis(super::trash::UNDELETE_LIMIT);
        StoreTime { unix_ms: self.start.unix_ms.saturating_add(limit_ms) }
    }
}

/// Looks at the whole repository and decides. Changes nothing.
///
/// # Errors
/// [`ArchiveError::ScopeAll`], [`ArchiveError::ShortGrace`], [`ArchiveError::PlanTooLate`],
/// [`ArchiveError::ManifestVanished`], [`ArchiveError::Store`], [`ArchiveError::Interrupted`].
pub async fn plan(repository: &Repository, options: &GcOptions, cancel: &Cancel) -> Result<Plan, ArchiveError> {
    options.check()?;
    check_scope(repository)?;
    let survey = survey::take(repository, options, cancel).await?;
    Ok(decide(&survey, options))
}

/// From here on a pure function.
fn decide(survey: &Survey, options: &GcOptions) -> Plan {
    let judged = judge(survey, options);
    let (blocked_by, ignored, ignored_in_vain) = unreadable(survey, options);
    let expired = survey.trash.iter().filter(|copy| older(copy.modified, survey.now, options.grace));
    let expire: Vec<(TrashName, u64)> = expired.map(|copy| (copy.name.clone(), copy.len_bytes)).collect();
    // Rule: a manifest that does not open may name any pack.
    let may_delete = blocked_by.is_empty() || !options.rules.unreadable_stops;
    let unnamed = if may_delete { unnamed(survey, options) } else { Vec::new() };
    let leftovers = survey.leftovers.iter().filter(|o| older(o.modified, survey.now, options.grace));
    let leftovers: Vec<(String, u64)> = leftovers.map(|o| (o.key.clone(), o.len_bytes)).collect();
    let mut plan = Plan {
        start: survey.start,
        too_many: too_many(&judged),
        blocked_by,
        ignored,
        ignored_in_vain,
        later_bytes: None,
        listed_bytes: 0,
        growth: None,
        delete_now: Amount::default(),
        since_boot: survey.since_boot,
        expire,
        unnamed,
        leftovers,
        rows: judged.iter().map(|judged| judged.row.clone()).collect(),
    };
    plan.count(survey, &judged);
    plan
}

/// A manifest with what its packs are.
pub(super) struct Judged<'s> {
    pub row: Row,
    pub packs: Option<&'s Numbers>,
}

/// Retention, source by source.
fn judge<'s>(survey: &'s Survey, options: &GcOptions) -> Vec<Judged<'s>> {
    // Rule: a manifest younger than the grace may be the parent of a backup that goes on.
    let young = if options.rules.young_stay { options.grace.min(GRACE) } else { Duration::ZERO };
    let moment = Moment { now: survey.now, young };
    let mut by_source: BTreeMap<&SourceName, Vec<Known<'s>>> = BTreeMap::new();
    for seen in &survey.manifests {
        let facts = match &seen.found {
            Found::Gone => continue,
            Found::Broken(_) => None,
            Found::Open(facts) => Some(facts),
        };
        let Listed { name, len_bytes, modified } = &seen.listed;
        let (held, tags) = (survey.holds.contains_key(name), facts.map(|facts| facts.tags.clone()).unwrap_or_default());
        let health = health(facts, *modified, survey, options);
        let candidate = Candidate { name: name.clone(), modified: *modified, health, tags, held };
        by_source.entry(&name.source).or_default().push(Known { candidate, len_bytes: *len_bytes, facts });
    }
    let mut judged = Vec::with_capacity(survey.manifests.len());
    for (source, known) in by_source {
        let candidates: Vec<Candidate> = known.iter().map(|known| known.candidate.clone()).collect();
        let asked = options.source.as_ref().is_none_or(|only| only == source);
        let verdicts = if asked {
            retention::plan(&candidates, options.policy_of(source), &moment)
        } else {
            vec![Verdict::Keep(vec![Reason::NotAsked]); candidates.len()]
        };
        for (Known { candidate, len_bytes, facts }, verdict) in known.into_iter().zip(verdicts) {
            let Candidate { name, modified, health, .. } = candidate;
            let lost = facts.filter(|_| health == Health::Damaged).map(|facts| facts.lost);
            let row = Row { name, len_bytes, modified, lost, verdict };
            judged.push(Judged { row, packs: facts.and_then(|facts| facts.packs.as_ref()) });
        }
    }
    judged
}

/// A manifest before it is judged.
struct Known<'s> {
    candidate: Candidate,
    len_bytes: u64,
    /// `None`: it does not open.
    facts: Option<&'s Facts>,
}

/// What the listings show of a manifest.
fn health(facts: Option<&Facts>, modified: StoreTime, survey: &Survey, options: &GcOptions) -> Health {
    let Some(Facts { lost, .. }) = facts else { return Health::Unreadable };
    if lost.is_none() {
        return Health::Whole;
    }
    // Packs are put before their manifest, but listed before it, too: those of one that was put meanwhile may be too young.
    let was_there = older(modified, survey.start, STORE_CLOCK_TOLERANCE) || options.exclusive;
    let is_only_missing = lost.other_length + lost.damaged == 0;
    if is_only_missing && !was_there { Health::Unknown } else { Health::Damaged }
}

fn too_many(judged: &[Judged]) -> Vec<TooMany> {
    let mut counts: BTreeMap<&SourceName, (usize, usize)> = BTreeMap::new();
    for Judged { row, .. } in judged {
        let (dropped, of) = counts.entry(&row.name.source).or_default();
        *of += 1;
        *dropped += usize::from(!row.verdict.keeps());
    }
    let above = counts.into_iter().filter(|(_, (dropped, of))| dropped * 2 > *of);
    above.map(|(source, (dropped, of))| TooMany { source: source.clone(), dropped, of }).collect()
}

/// What keeps packs from being deleted; what is ignored; what would be, but opens.
fn unreadable(survey: &Survey, options: &GcOptions) -> (Vec<String>, Vec<ManifestName>, Vec<ManifestName>) {
    let mut blocked_by = survey.trash_unreadable.clone();
    let mut ignored = Vec::new();
    for seen in &survey.manifests {
        let Found::Broken(why) = &seen.found else { continue };
        let name = &seen.listed.name;
        if options.ignore.contains(name) {
            ignored.push(name.clone());
        } else {
            blocked_by.push(format!("{name}: {why}"));
        }
    }
    let in_vain = options.ignore.iter().filter(|name| !ignored.contains(name)).cloned().collect();
    (blocked_by, ignored, in_vain)
}

/// Packs and indexes that nothing names, and that were there for longer than the grace when the run began.
fn unnamed(survey: &Survey, options: &GcOptions) -> Vec<Unnamed> {
    let old = |row: &&packs::Row| row.modified().is_some_and(|m| older(m, survey.now, options.grace));
    let rows = survey.packs.rows().iter().filter(|row| !row.named).filter(old);
    rows.map(|row| Unnamed {
        id: row.id,
        pack_len_bytes: row.pack.map(|part| part.len_bytes),
        index_len_bytes: row.index.map(|part| part.len_bytes),
    })
    .collect()
}

impl Plan {
    /// The figures.
    fn count(&mut self, survey: &Survey, judged: &[Judged]) {
        let lens = self.expire.iter().map(|(_, len)| *len).chain(self.leftovers.iter().map(|(_, len)| *len));
        let parts = self.unnamed.iter().flat_map(|u| [u.pack_len_bytes, u.index_len_bytes]).flatten();
        for len_bytes in lens.chain(parts) {
            self.delete_now.add(len_bytes);
        }
        let rows: u64 = survey.packs.rows().iter().map(packs::Row::len_bytes).sum();
        let manifests: u64 = self.rows.iter().map(|row| row.len_bytes).sum();
        let trash: u64 = survey.trash.iter().map(|copy| copy.len_bytes).sum();
        let others: u64 = survey.holds.values().map(|held| held.len_bytes).sum::<u64>()
            + survey.leftovers.iter().chain(&survey.terms).map(|o| o.len_bytes).sum::<u64>();
        self.listed_bytes = rows + manifests + trash + others;
        let Some(stays) = self.stays(survey, judged) else { return };
        let kept_rows: u64 =
            survey.packs.rows().iter().zip(&stays).filter(|(_, stays)| **stays).map(|(row, _)| row.len_bytes()).sum();
        let kept_manifests: u64 = self.rows.iter().filter(|r| r.verdict.keeps()).map(|r| r.len_bytes).sum();
        let kept = kept_rows + kept_manifests + others;
        self.later_bytes = Some(self.listed_bytes.saturating_sub(kept).saturating_sub(self.delete_now.len_bytes));
        self.growth = Growth::measure(survey, judged, &stays);
    }
}

impl Plan {
    /// For each pack whether it is still there after the next gc: a manifest that stays names it, or nothing does and it is
    /// not deleted now. `None` if there was too much to remember. What a manifest that does not open names is unknown, and
    /// left out.
    fn stays(&self, survey: &Survey, judged: &[Judged]) -> Option<Vec<bool>> {
        let mut deleted = self.unnamed.iter().map(|unnamed| unnamed.id).peekable();
        let stays = |row: &packs::Row| !row.named && deleted.next_if_eq(&row.id).is_none();
        let mut stays: Vec<bool> = survey.packs.rows().iter().map(stays).collect();
        for judged in judged {
            let Verdict::Keep(reasons) = &judged.row.verdict else { continue };
            match judged.packs {
                Some(numbers) => numbers.iter().for_each(|n| stays[*n as usize] = true),
                None if reasons.contains(&Reason::Unreadable) => {}
                // Nobody opened it for the figures, or there were too many packs.
                None => return None,
            }
        }
        Some(stays)
    }
}
