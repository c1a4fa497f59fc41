//! What is in the store, looked at in the one order in which nothing in use can be overlooked (DESIGN §7, gc 1 to 5).

use super::packs::{LostPacks, Numbers, Packs};
use super::trash::Trashed;
use super::{CONCURRENT_MAX, GcOptions, STEP_LIMIT};
use crate::archive::hold::Held;
use crate::archive::manifests::Listed;
use crate::archive::parent::{chain, millis};
use crate::archive::tags::{self, Tag};
use crate::archive::{ArchiveError, Cancel, Repository, STORE_CLOCK_TOLERANCE};
use crate::keys::SourceKeyring;
use crate::pipeline::seal::{self, MANIFEST_OBJECT_LEN_BYTES_MAX};
use crate::store::{ObjectMeta, StoreError, StoreTime};
use futures::StreamExt;
use hah_vault_format::name::{INDEX_PREFIX, LEASES_PREFIX, PACKS_PREFIX, lease_term};
use hah_vault_format::{Label, Manifest, ManifestName, ObjectId, SourceName};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where the store's own trials leave objects when they are cut off.
const PROBE_PREFIX: &str = "probe/";
/// Objects that are read at the same time have at most so many kibibytes altogether: 32 MiB. What opening makes of one
/// is a small multiple.
const READ_KIB_MAX: u32 = 32 << 10;

/// A manifest of the listing.
#[derive(Debug)]
pub(super) struct Seen {
    pub listed: Listed,
    pub found: Found,
}

/// What reading it gave.
#[derive(Debug)]
pub(super) enum Found {
    /// It is gone.
    Gone,
    /// It does not open.
    Broken(String),
    /// It opens.
    Open(Facts),
}

/// What is remembered of a manifest.
#[derive(Debug)]
pub(super) struct Facts {
    pub tags: Vec<Tag>,
    /// `None`: too many to be remembered.
    pub packs: Option<Numbers>,
    /// What is not there of these packs.
    pub lost: LostPacks,
}

/// Everything that a plan is made from.
pub(super) struct Survey {
    /// Store time S.
    pub start: StoreTime,
    /// The host's clock just before it was read.
    pub since_boot: Duration,
    /// What ages are relative to: S.
    pub now: StoreTime,
    pub packs: Packs,
    pub manifests: Vec<Seen>,
    pub trash: Vec<Trashed>,
    /// Manifests of which a young trash copy was read.
    pub set_aside: HashSet<ManifestName>,
    /// Young trash copies that do not open.
    pub trash_unreadable: Vec<String>,
    pub holds: HashMap<ManifestName, Held>,
    /// What may go once it is older than the grace: the store's own trials, and terms of leases that newer ones have followed.
    pub leftovers: Vec<ObjectMeta>,
    /// The highest terms of leases, which stay whatever their age: the next one follows them.
    pub terms: Vec<ObjectMeta>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Packs,
    Manifests,
    Trash,
}

pub(super) async fn take(
    repository: &Repository,
    options: &GcOptions,
    cancel: &Cancel,
) -> Result<Survey, ArchiveError> {
    let since_boot = repository.world.since_boot();
    let start = repository.store.now().await?;
    let mut survey = Survey {
        start,
        since_boot,
        now: start,
        packs: Packs::default(),
        manifests: Vec::new(),
        trash: Vec::new(),
        set_aside: HashSet::new(),
        trash_unreadable: Vec::new(),
        holds: HashMap::new(),
        leftovers: Vec::new(),
        terms: Vec::new(),
    };
    let looker =
        Looker { repository, options, cancel, keys: HashMap::new(), room: Semaphore::new(READ_KIB_MAX as usize) };
    looker.look(&mut survey).await?;
    survey.holds = repository.list_holds(None).await?.into_iter().map(|held| (held.name.clone(), held)).collect();
    survey.leftovers = repository.store.list(PROBE_PREFIX).await?;
    survey.leases(repository.store.list(LEASES_PREFIX).await?);
    survey.check_gone(options)?;
    let end = repository.store.now().await?;
    survey.check_time(end, repository.world.since_boot(), options)?;
    Ok(survey)
}

struct Looker<'r> {
    repository: &'r Repository,
    options: &'r GcOptions,
    cancel: &'r Cancel,
    keys: HashMap<SourceName, Arc<SourceKeyring>>,
    room: Semaphore,
}

impl Looker<'_> {
    async fn look(mut self, survey: &mut Survey) -> Result<(), ArchiveError> {
        let rules = &self.options.rules;
        let mut order = vec![Step::Packs, Step::Manifests, Step::Trash];
        // Rule: what was listed before the manifests were, and none of them names, no backup can have begun to use.
        if !rules.packs_first {
            order.retain(|step| *step != Step::Packs);
            order.push(Step::Packs);
        }
        // Rule: a manifest that moves to the trash meanwhile is seen in one of the two places.
        if !rules.trash_last {
            order.retain(|step| *step != Step::Trash);
            order.insert(0, Step::Trash);
        }
        for step in order {
            match step {
                Step::Packs => self.packs(survey).await?,
                Step::Manifests => self.manifests(survey).await?,
                Step::Trash => self.trash(survey).await?,
            }
        }
        Ok(())
    }

    async fn packs(&self, survey: &mut Survey) -> Result<(), ArchiveError> {
        let packs = self.repository.store.list(PACKS_PREFIX).await?;
        let indexes = self.repository.store.list(INDEX_PREFIX).await?;
        survey.packs.listed(packs, indexes);
        Ok(())
    }

    async fn manifests(&mut self, survey: &mut Survey) -> Result<(), ArchiveError> {
        let listed = self.repository.list_manifests(None).await?;
        self.keys_of(listed.iter().map(|l| &l.name))?;
        let reads = listed.into_iter().map(|listed| async {
            let read = self.read(&listed.name.key(), &listed.name, listed.len_bytes).await;
            (listed, read)
        });
        let mut reads = futures::stream::iter(reads).buffered(CONCURRENT_MAX);
        while let Some((listed, read)) = reads.next().await {
            let found = match read? {
                Read::Gone => Found::Gone,
                Read::Broken(why) => Found::Broken(why),
                Read::Open(manifest) => {
                    let ids = ids(&manifest);
                    // Rule: a backup whose claimed time has not come yet needs its packs as any other.
                    if self.options.rules.future_names || !is_future(&listed, survey.now) {
                        survey.packs.name(&ids);
                    }
                    let lost = survey.packs.lost(&manifest, &self.options.damaged);
                    Found::Open(Facts { tags: tags::of(&manifest), packs: survey.packs.numbers(&ids), lost })
                }
            };
            survey.manifests.push(Seen { listed, found });
        }
        Ok(())
    }

    async fn trash(&mut self, survey: &mut Survey) -> Result<(), ArchiveError> {
        survey.trash = self.repository.list_trash(None).await?;
        // Rule: ages are relative to the time at which the run began.
        if !self.options.rules.ages_at_start {
            survey.now = self.repository.store.now().await?;
        }
        self.keys_of(survey.trash.iter().map(|t| &t.name.manifest))?;
        let young = survey.trash.iter().filter(|copy| !older(copy.modified, survey.now, self.options.grace));
        let young: Vec<Trashed> = young.cloned().collect();
        let this = &*self;
        let reads = young.into_iter().map(|copy| async move {
            let read = this.read(&copy.name.key(), &copy.name.manifest, copy.len_bytes).await;
            (copy.name, read)
        });
        let mut reads = futures::stream::iter(reads).buffered(CONCURRENT_MAX);
        while let Some((name, read)) = reads.next().await {
            match read? {
                // Another collector, which began later, found it old enough to be deleted.
                Read::Gone => continue,
                Read::Broken(why) => survey.trash_unreadable.push(format!("{}: {why}", name.key())),
                Read::Open(manifest) => survey.packs.name(&ids(&manifest)),
            }
            survey.set_aside.insert(name.manifest);
        }
        Ok(())
    }

    fn keys_of<'n>(&mut self, names: impl Iterator<Item = &'n ManifestName>) -> Result<(), ArchiveError> {
        for name in names {
            if !self.keys.contains_key(&name.source) {
                self.keys.insert(name.source.clone(), Arc::new(self.repository.source_keys(&name.source)?));
            }
        }
        Ok(())
    }

    /// Reads a manifest, wherever it lies. A store that does not answer is an error: nothing is known then.
    async fn read(&self, key: &str, name: &ManifestName, len_bytes: u64) -> Result<Read, ArchiveError> {
        self.cancel.check()?;
        let len_max_bytes = len_bytes.min(MANIFEST_OBJECT_LEN_BYTES_MAX);
        let kib = u32::try_from(len_max_bytes / 1024 + 1).unwrap_or(READ_KIB_MAX).min(READ_KIB_MAX);
        let _room = self.room.acquire_many(kib).await.map_err(|e| ArchiveError::Internal(e.to_string()))?;
        let bytes = match self.repository.store.get(key, len_max_bytes).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(Read::Gone),
            Err(error @ StoreError::TooLong { .. }) => return Ok(Read::Broken(chain(&error))),
            Err(error) => return Err(error.into()),
        };
        let Some(keys) = self.keys.get(&name.source) else {
            return Err(ArchiveError::Internal(format!("no keys for {name}")));
        };
        Ok(match seal::open_manifest(&bytes, name, keys) {
            Ok(manifest) => Read::Open(Box::new(manifest)),
            Err(error) => Read::Broken(chain(&error)),
        })
    }
}

/// The name of the lease whose term lies under a key.
fn lease_of(key: &str) -> Option<Label> {
    let name: Label = key.strip_prefix(LEASES_PREFIX)?.split_once('/')?.0.parse().ok()?;
    lease_term(&name, key).map(|_| name)
}

enum Read {
    Gone,
    Broken(String),
    Open(Box<Manifest>),
}

fn ids(manifest: &Manifest) -> Vec<ObjectId> {
    manifest.packs.iter().map(|pack| pack.id).collect()
}

fn is_future(listed: &Listed, now: StoreTime) -> bool {
    let claimed_ms = i64::try_from(listed.name.time.unix_s()).unwrap_or(i64::MAX).saturating_mul(1000);
    claimed_ms > now.unix_ms.saturating_add(millis(STORE_CLOCK_TOLERANCE))
}

/// Whether something was put longer ago than this.
pub(super) fn older(modified: StoreTime, now: StoreTime, than: Duration) -> bool {
    modified.unix_ms < now.unix_ms.saturating_sub(millis(than))
}

impl Survey {
    /// Agents whose credentials may not delete leave their old terms here. Keys of another form are left alone.
    fn leases(&mut self, mut listed: Vec<ObjectMeta>) {
        listed.retain(|object| lease_of(&object.key).is_some());
        // By name, then term: terms have leading zeros.
        listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut listed = listed.into_iter().peekable();
        while let Some(object) = listed.next() {
            let is_last = listed.peek().is_none_or(|next| lease_of(&next.key) != lease_of(&object.key));
            if is_last { self.terms.push(object) } else { self.leftovers.push(object) }
        }
    }

    /// A manifest that was there and is gone was set aside by another collector, and then its copy is in the trash that was
    /// listed afterwards. Otherwise something goes on that this run does not understand.
    fn check_gone(&self, options: &GcOptions) -> Result<(), ArchiveError> {
        let gone = self.manifests.iter().filter(|seen| matches!(seen.found, Found::Gone));
        for seen in gone {
            // Rule: what vanished without a copy names packs that nobody knows.
            if options.rules.vanished_stops && !self.set_aside.contains(&seen.listed.name) {
                return Err(ArchiveError::ManifestVanished { name: seen.listed.name.clone() });
            }
        }
        Ok(())
    }

    fn check_time(&self, end: StoreTime, since_boot: Duration, options: &GcOptions) -> Result<(), ArchiveError> {
        let by_store_ms = end.unix_ms.saturating_sub(self.start.unix_ms);
        let by_boot = since_boot.saturating_sub(self.since_boot);
        let range = -millis(STORE_CLOCK_TOLERANCE)..=millis(STEP_LIMIT);
        // Rule: what was seen is too old to act on.
        if options.rules.planning_limit && !(range.contains(&by_store_ms) && by_boot <= STEP_LIMIT) {
            let took_s = by_boot.as_secs().max(by_store_ms.unsigned_abs() / 1000);
            return Err(ArchiveError::PlanTooLate { took_s, limit_s: STEP_LIMIT.as_secs() });
        }
        Ok(())
    }
}
