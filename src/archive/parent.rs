//! The manifest that a run is deduplicated against, and what of it may be reused.

use super::manifests::claimed_ms;
use super::repository::Repository;
use super::restore_service::LABEL_BEFORE_RESTORE;
use super::reuse::{self, Candidate, IndexState, Policy, Reason};
use super::rules::Rules;
use super::{ArchiveError, COMMIT_LIMIT, Event, GRACE, STORE_CLOCK_TOLERANCE};
use crate::keys::SourceKeyring;
use crate::pipeline::seal::{self, INDEX_OBJECT_LEN_BYTES_MAX};
use crate::pipeline::table::{ChunkTable, Location};
use crate::store::{ObjectMeta, StoreTime};
use futures::StreamExt;
use hah_vault_format::manifest::PackRef;
use hah_vault_format::name::{INDEX_PREFIX, PACKS_PREFIX};
use hah_vault_format::{Index, Manifest, ObjectId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// How many of the newest manifests are tried before a run goes without a parent.
const PARENTS_TRIED_MAX: usize = 4;
/// Indexes that are read at the same time.
const READS_MAX: usize = 16;

/// What a run saw of the store before it began: taken once for all sources of a run.
#[derive(Debug)]
pub struct Before {
    /// Store time, noted before the first listing.
    pub time: StoreTime,
    /// Packs and their indexes, both listed: length of the pack, and the older of the two modification times.
    pub packs: HashMap<ObjectId, ListedPack>,
}

/// A pack whose object and index are both listed.
#[derive(Debug, Clone, Copy)]
pub struct ListedPack {
    /// Length of the pack object.
    pub len_bytes: u64,
    /// Modification time of the older of the two objects.
    pub modified: StoreTime,
}

fn ids(objects: Vec<ObjectMeta>, prefix: &str) -> HashMap<ObjectId, ObjectMeta> {
    let id = |o: &ObjectMeta| o.key.strip_prefix(prefix)?.parse::<ObjectId>().ok();
    objects.into_iter().filter_map(|o| Some((id(&o)?, o))).collect()
}

impl Repository {
    /// The packs that are there with their indexes.
    ///
    /// # Errors
    /// [`ArchiveError::Store`].
    pub(super) async fn list_packs(&self) -> Result<HashMap<ObjectId, ListedPack>, ArchiveError> {
        let packs = ids(self.store.list(PACKS_PREFIX).await?, PACKS_PREFIX);
        let index = ids(self.store.list(INDEX_PREFIX).await?, INDEX_PREFIX);
        let both = |(id, pack): (ObjectId, ObjectMeta)| {
            let modified = index.get(&id)?.modified.min(pack.modified);
            Some((id, ListedPack { len_bytes: pack.len_bytes, modified }))
        };
        Ok(packs.into_iter().filter_map(both).collect())
    }

    /// Notes the store's time, then lists (DESIGN §7, backup 1).
    ///
    /// # Errors
    /// [`ArchiveError::Store`].
    pub(super) async fn look(&self) -> Result<Before, ArchiveError> {
        let time = self.store.now().await?;
        Ok(Before { time, packs: self.list_packs().await? })
    }

    /// The newest manifest of the source that opens, claims no time after the store's, and was committed in time. One that
    /// was made because a restore was about to replace what it holds is the parent only where there is no other: what
    /// comes next is like what was restored.
    ///
    /// # Errors
    /// [`ArchiveError::Store`], when the listing fails; a manifest that does not open is a warning.
    pub(super) async fn find_parent(
        &self,
        keys: &SourceKeyring,
        now: StoreTime,
        rules: &Rules,
    ) -> Result<Option<Manifest>, ArchiveError> {
        let (mut tried, mut replaced) = (0, None);
        for listed in self.list_manifests(Some(&keys.source)).await?.into_iter().rev() {
            let claimed_ms = claimed_ms(&listed.name);
            let latest_ms = now.unix_ms.saturating_add(millis(STORE_CLOCK_TOLERANCE));
            if claimed_ms > latest_ms {
                continue;
            }
            // Rule: a collector may already have taken the packs of one that was committed late.
            if rules.no_late_parent && !in_time(claimed_ms, listed.modified, now) {
                continue;
            }
            tried += 1;
            match self.open_manifest_with(&listed.name, keys).await {
                Ok(manifest) if manifest.label(LABEL_BEFORE_RESTORE).is_none() => return Ok(Some(manifest)),
                Ok(manifest) => replaced = replaced.or(Some(manifest)),
                Err(error) => self.monitor.warn(Some(&keys.source), format!("not used as parent: {}", chain(&error))),
            }
            if tried == PARENTS_TRIED_MAX {
                break;
            }
        }
        Ok(replaced)
    }

    /// Judges the parent's packs, and loads the indexes of those that may be reused; never of those to `avoid`.
    pub(super) async fn load_reusable(
        &self,
        parent: &Manifest,
        before: &Before,
        policy: &Policy,
        avoid: &BTreeSet<ObjectId>,
        keys: &SourceKeyring,
    ) -> Reusable {
        let used = reuse::used_bytes(parent);
        let mut candidates: Vec<Candidate> = parent
            .packs
            .iter()
            .zip(used)
            .map(|(pack, used_bytes)| Candidate {
                plaintext_len_bytes: pack.plaintext_len_bytes,
                used_bytes,
                age: age(pack, before),
                index: if avoid.contains(&pack.id) { IndexState::OfDamagedPack } else { IndexState::NotLoaded },
            })
            .collect();
        let first = reuse::judge(&candidates, policy);
        let wanted: Vec<usize> = (0..candidates.len()).filter(|i| first[*i].is_none()).collect();
        let mut indexes: HashMap<usize, Index> = HashMap::new();
        let loads = wanted.into_iter().map(|i| async move { (i, self.load_index(&parent.packs[i], keys).await) });
        let loaded: Vec<(usize, Option<Index>)> = futures::stream::iter(loads).buffered(READS_MAX).collect().await;
        for (i, index) in loaded {
            candidates[i].index = match &index {
                Some(index) => IndexState::Read { key_generation: index.key_generation },
                None => IndexState::Unreadable,
            };
            indexes.extend(index.map(|index| (i, index)));
        }
        // A pack whose index was not worth loading stays given up, whatever came out since.
        let second = reuse::judge(&candidates, policy);
        let verdicts: Vec<Option<Reason>> =
            first.into_iter().zip(second).map(|(first, second)| first.or(second)).collect();
        self.tell(&verdicts, keys);
        let mut reusable = Reusable::new(&parent.packs, &verdicts, &indexes);
        // Rule: a collector may be about to delete what was merely found in the listing.
        if !policy.parent_packs_only {
            self.add_found(&mut reusable, parent, before, keys).await;
        }
        reusable
    }

    /// Adds every listed pack whose index opens: what the rule forbids, for tests that show why.
    async fn add_found(&self, reusable: &mut Reusable, parent: &Manifest, before: &Before, keys: &SourceKeyring) {
        let named: HashSet<ObjectId> = parent.packs.iter().map(|pack| pack.id).collect();
        for (id, listed) in before.packs.iter().filter(|(id, _)| !named.contains(id)) {
            let Ok(bytes) = self.store.get(&id.index_key(), INDEX_OBJECT_LEN_BYTES_MAX).await else { continue };
            let Ok(index) = seal::open_index(&bytes, id, keys) else { continue };
            let plaintext_len_bytes = index.plaintext_len_bytes();
            let pack = PackRef { id: *id, object_len_bytes: listed.len_bytes, plaintext_len_bytes };
            reusable.add(pack, &index);
        }
    }

    /// The index of a pack if it opens and describes the pack that the parent names.
    async fn load_index(&self, pack: &PackRef, keys: &SourceKeyring) -> Option<Index> {
        let bytes = self.store.get(&pack.id.index_key(), INDEX_OBJECT_LEN_BYTES_MAX).await.ok()?;
        let index = seal::open_index(&bytes, &pack.id, keys).ok()?;
        let fits =
            index.plaintext_len_bytes() == pack.plaintext_len_bytes && index.pack_len_bytes == pack.object_len_bytes;
        (fits && index.source == keys.source).then_some(index)
    }

    fn tell(&self, verdicts: &[Option<Reason>], keys: &SourceKeyring) {
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for reason in verdicts.iter().flatten() {
            *counts.entry(*reason).or_default() += 1;
        }
        for (reason, packs) in counts {
            let source = keys.source.clone();
            if matches!(reason, Reason::Missing | Reason::Damaged | Reason::IndexUnreadable) {
                let text =
                    format!("{packs} packs of the last snapshot: {}; their data is stored again", reason.as_str());
                self.monitor.warn(Some(&source), text);
            }
            self.monitor.event(Event::GivenUp { source, packs, reason: reason.as_str() });
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a manifest was put within the commit limit of the time it claims. A recent one that was not may be
/// withdrawn by its writer at any moment; one that has outlived the grace stays.
fn in_time(claimed_ms: i64, modified: StoreTime, now: StoreTime) -> bool {
    let took = modified.unix_ms.saturating_sub(claimed_ms);
    let recent = modified.unix_ms >= now.unix_ms.saturating_sub(millis(GRACE));
    !recent || (-millis(STORE_CLOCK_TOLERANCE)..=millis(COMMIT_LIMIT)).contains(&took)
}

fn age(pack: &PackRef, before: &Before) -> Option<Duration> {
    let listed = before.packs.get(&pack.id)?;
    let age_ms = before.time.unix_ms.saturating_sub(listed.modified.unix_ms);
    reuse::length_agrees(pack, listed.len_bytes).then(|| Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
}

/// An error with its sources, for warnings.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What a run may reuse.
#[derive(Default)]
pub(super) struct Reusable {
    /// The packs; their numbers are their places here.
    pub packs: Vec<PackRef>,
    /// Their chunks.
    pub table: ChunkTable,
}

impl Reusable {
    fn new(packs: &[PackRef], verdicts: &[Option<Reason>], indexes: &HashMap<usize, Index>) -> Self {
        let mut reusable = Self::default();
        for (i, pack) in packs.iter().enumerate() {
            if let (None, Some(index)) = (verdicts[i], indexes.get(&i)) {
                reusable.add(*pack, index);
            }
        }
        reusable
    }

    fn add(&mut self, pack: PackRef, index: &Index) {
        let Ok(number) = u32::try_from(self.packs.len()) else { return };
        self.packs.push(pack);
        let mut offset_bytes = 0;
        for chunk in &index.chunks {
            if self.table.find(&chunk.id, chunk.len_bytes).is_none() {
                self.table.insert(chunk.id, chunk.len_bytes, Location { pack: number, offset_bytes });
            }
            offset_bytes += chunk.len_bytes;
        }
    }
}
