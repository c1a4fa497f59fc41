//! From what was found of objects to what it means for snapshots.

use super::super::repository::Repository;
use super::super::{ArchiveError, manifests::Listed};
use super::data::Reading;
use super::report::{Affected, Damage, Flaw, Healing, REASONS_MAX, Report};
use super::structure::{Pack, Survey};
use hah_vault_format::{ManifestName, ObjectId, SourceName};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is wrong with a pack or an index.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub flaw: Flaw,
    pub detail: Option<String>,
    /// Only reading shows it: a backup cannot see it in a listing.
    pub by_reading: bool,
}

/// All that was found so far; packs and indexes by their places in the survey.
pub(super) struct Findings {
    pub damage: Vec<Damage>,
    pub packs: Vec<Option<Found>>,
    pub indexes: Vec<Option<Found>>,
    /// Packs that were read, and are good.
    read: HashSet<ObjectId>,
    not_restorable: BTreeMap<ManifestName, String>,
    /// Manifests that went while the run looked.
    gone: HashSet<ManifestName>,
}

impl Findings {
    /// What the listings show.
    pub(super) fn new(survey: &Survey) -> Self {
        let listed = |flaw: Option<Flaw>| flaw.map(|flaw| Found { flaw, detail: None, by_reading: false });
        Self {
            damage: Vec::new(),
            packs: survey.packs.iter().map(|pack| listed(Survey::pack_flaw(pack))).collect(),
            indexes: survey.packs.iter().map(|pack| listed(Survey::index_flaw(pack))).collect(),
            read: HashSet::new(),
            not_restorable: BTreeMap::new(),
            gone: HashSet::new(),
        }
    }

    /// Adds what reading a pack and its index has shown.
    pub(super) fn read(&mut self, reading: Reading, id: ObjectId) {
        let Reading { place, pack, index, .. } = reading;
        let found = |(flaw, detail)| Found { flaw, detail: Some(detail), by_reading: true };
        match pack {
            Some(pack) => self.packs[place] = Some(found(pack)),
            None => drop(self.read.insert(id)),
        }
        if self.indexes[place].is_none() {
            self.indexes[place] = index.map(found);
        }
    }

    /// Adds what reading an index has shown.
    pub(super) fn index(&mut self, place: usize, (flaw, detail): (Flaw, String)) {
        self.indexes[place] = Some(Found { flaw, detail: Some(detail), by_reading: true });
    }

    /// Whether backups must be told not to reuse a pack, because its listing shows nothing; none if nothing is known.
    pub(super) fn must_be_avoided(&self, place: usize, pack: &Pack) -> Option<bool> {
        let index_lies = self.indexes[place].as_ref().is_some_and(|found| matches!(found.flaw, Flaw::ChunkIds { .. }));
        match &self.packs[place] {
            Some(found) => Some(found.by_reading),
            None if index_lies => Some(true),
            None => self.read.contains(&pack.id).then_some(false),
        }
    }

    /// Adds a snapshot that could not be put together.
    pub(super) fn not_restorable(&mut self, name: &ManifestName, why: String) {
        self.not_restorable.insert(name.clone(), why);
    }

    /// Packs that nothing was found of yet, and that must be read: those of snapshots that could not be put together, and
    /// known ones.
    pub(super) fn suspects(&self, survey: &Survey, known: &BTreeSet<ObjectId>) -> Vec<usize> {
        let failed = survey.opened.iter().filter(|opened| self.not_restorable.contains_key(&opened.name));
        let mut places: BTreeSet<usize> =
            failed.flat_map(|opened| &opened.packs).map(|place| *place as usize).collect();
        places.extend((0..survey.packs.len()).filter(|place| known.contains(&survey.packs[*place].id)));
        places.retain(|place| self.packs[*place].is_none() && !self.read.contains(&survey.packs[*place].id));
        places.into_iter().collect()
    }

    /// Takes back what was found of manifests that have gone since: retired by gc, or withdrawn by their own backup.
    pub(super) async fn recheck(&mut self, repository: &Repository, survey: &Survey) -> Result<(), ArchiveError> {
        let is_missing = |found: &Option<Found>| found.as_ref().is_some_and(|found| found.flaw == Flaw::Missing);
        if !self.packs.iter().any(is_missing) && self.not_restorable.is_empty() {
            return Ok(());
        }
        let listed = repository.list_manifests(None).await?;
        let there: HashSet<ManifestName> = listed.into_iter().map(|Listed { name, .. }| name).collect();
        let gone = survey.opened.iter().map(|opened| &opened.name).filter(|name| !there.contains(name));
        self.gone = gone.cloned().collect();
        self.not_restorable.retain(|name, _| there.contains(name));
        Ok(())
    }

    /// Writes it all down. `noted`: this host's next backups know which packs are damaged.
    pub(super) fn conclude(
        self,
        survey: &Survey,
        newest: &BTreeMap<SourceName, ManifestName>,
        noted: bool,
        report: &mut Report,
    ) {
        let mut snapshots = vec![0usize; survey.packs.len()];
        let mut is_current = vec![false; survey.packs.len()];
        let mut is_named = vec![false; survey.packs.len()];
        for opened in survey.opened.iter().filter(|opened| !self.gone.contains(&opened.name)) {
            let is_newest = newest.get(&opened.name.source) == Some(&opened.name);
            let mut reasons = Vec::new();
            for place in opened.packs.iter().map(|place| *place as usize) {
                is_named[place] = true;
                is_current[place] |= is_newest;
                if let Some(found) = &self.packs[place] {
                    snapshots[place] += 1;
                    reasons.push(format!("pack {}: {}", survey.packs[place].id, found.flaw));
                }
            }
            reasons.extend(self.not_restorable.get(&opened.name).cloned());
            affect(report, &opened.name, is_newest, reasons);
        }
        for unopened in &survey.unopened {
            let healing = match unopened.flaw {
                Flaw::TooNew => Healing::NewerProgram,
                Flaw::Missing => Healing::Copy,
                _ => Healing::Repair,
            };
            let detail = Some(unopened.detail.clone());
            let key = unopened.name.key();
            report.damage.push(Damage { key, flaw: unopened.flaw, detail, snapshots: 1, healing });
            affect(report, &unopened.name, false, vec![format!("its manifest: {}", unopened.flaw)]);
        }
        for place in (0..survey.packs.len()).filter(|place| is_named[*place]) {
            let pack = &survey.packs[place];
            if let Some(Found { flaw, detail, by_reading }) = self.packs[place].clone() {
                let healing = match (is_current[place], by_reading && !noted) {
                    (true, false) => Healing::NextBackup,
                    (true, true) => Healing::RepairThenBackup,
                    (false, _) => Healing::Copy,
                };
                let (key, snapshots) = (pack.id.pack_key(), snapshots[place]);
                report.damage.push(Damage { key, flaw, detail, snapshots, healing });
            }
            if let Some(Found { flaw, detail, .. }) = self.indexes[place].clone() {
                let healing = match flaw {
                    Flaw::TooNew => Healing::NewerProgram,
                    // It opens and lies: a backup believes it.
                    Flaw::ChunkIds { .. } => Healing::Repair,
                    _ if is_current[place] => Healing::NextBackup,
                    _ => Healing::Repair,
                };
                report.damage.push(Damage { key: pack.id.index_key(), flaw, detail, snapshots: 0, healing });
            }
        }
        report.damage.extend(self.damage);
        report.damage.sort_by(|a, b| a.key.cmp(&b.key));
        report.affected.sort_by(|a, b| a.name.cmp(&b.name));
        count_whole(report);
    }
}

fn affect(report: &mut Report, name: &ManifestName, is_newest: bool, mut reasons: Vec<String>) {
    if reasons.is_empty() {
        return;
    }
    if reasons.len() > REASONS_MAX {
        let more = reasons.len() - REASONS_MAX + 1;
        reasons.truncate(REASONS_MAX - 1);
        reasons.push(format!("and {more} more"));
    }
    report.affected.push(Affected { name: name.clone(), is_newest, reasons });
}

fn count_whole(report: &mut Report) {
    for counts in report.structure.sources.values_mut() {
        counts.whole = counts.snapshots;
    }
    for affected in &report.affected {
        if let Some(counts) = report.structure.sources.get_mut(&affected.name.source) {
            counts.whole = counts.whole.saturating_sub(1);
        }
    }
}
