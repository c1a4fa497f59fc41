//! Doing what was planned: retire, then delete the old trash, then what nothing names (DESIGN §7, gc 6 and 7).

use super::plan::{Amount, Plan, Row, Unnamed};
use super::trash::{Aside, SetAside};
use super::{CONCURRENT_MAX, GcOptions, RETIRE_LIMIT};
use crate::archive::parent::chain;
use crate::archive::repository::unix_time;
use crate::archive::upload::put;
use crate::archive::{ArchiveError, Cancel, Repository};
use crate::pipeline::seal::MANIFEST_OBJECT_LEN_BYTES_MAX;
use crate::store::StoreError;
use bytes::Bytes;
use futures::StreamExt;
use hah_vault_format::name::PACKS_PREFIX;
use hah_vault_format::{ManifestName, UnixTime};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Manifests that lie in the trash now.
    pub retired: Vec<ManifestName>,
    /// Manifests that somebody else had taken away before.
    pub gone: u64,
    /// Manifests left for the next run, because this one took too long.
    pub late: u64,
    /// Manifests that were held while they were being retired: to be brought back.
    pub held_meanwhile: Vec<ManifestName>,
    /// Trash copies deleted.
    pub trash: Amount,
    /// Packs deleted.
    pub packs: Amount,
    /// Indexes deleted.
    pub indexes: Amount,
    /// Leftovers of the store's own trials, and terms of leases that newer ones have followed, deleted.
    pub leftovers: Amount,
    /// Objects that the store refused to delete, for example because they are locked.
    pub refused: u64,
    /// The first refusal.
    pub refusal: Option<String>,
}

impl GcReport {
    /// Bytes of all that was deleted but for manifests, of which copies remain.
    pub fn freed_bytes(&self) -> u64 {
        [self.trash, self.packs, self.indexes, self.leftovers].iter().map(|amount| amount.len_bytes).sum()
    }

    fn refuse(&mut self, error: &StoreError) {
        self.refused += 1;
        self.refusal.get_or_insert_with(|| chain(error));
    }

    /// Whether all that was planned was done.
    pub fn is_complete(&self) -> bool {
        self.refused == 0 && self.late == 0 && self.held_meanwhile.is_empty()
    }
}

/// Does what a plan says. An error in between leaves only what the next run deletes.
///
/// # Errors
/// [`ArchiveError::TooManyDropped`] unless forced; [`ArchiveError::MayNotDelete`], before anything was changed;
/// [`ArchiveError::Store`], [`ArchiveError::Interrupted`].
pub async fn execute(
    repository: &Repository,
    plan: &Plan,
    options: &GcOptions,
    cancel: &Cancel,
) -> Result<GcReport, ArchiveError> {
    options.check()?;
    if let Some(first) = plan.too_many.first().filter(|_| !options.force) {
        let (source, dropped, of) = (first.source.clone(), first.dropped, first.of);
        return Err(ArchiveError::TooManyDropped { source_name: source, dropped, of });
    }
    if plan.is_empty() {
        return Ok(GcReport::default());
    }
    let set_aside = unix_time(plan.start)?;
    let mut run = Run { repository, plan, options, cancel, set_aside, report: GcReport::default() };
    run.check_permission().await?;
    run.retire().await?;
    run.look_at_holds().await?;
    run.expire().await?;
    run.delete_unnamed().await?;
    run.delete_leftovers().await?;
    Ok(run.report)
}

struct Run<'r> {
    repository: &'r Repository,
    plan: &'r Plan,
    options: &'r GcOptions,
    cancel: &'r Cancel,
    /// S, for the names of trash copies.
    set_aside: UnixTime,
    report: GcReport,
}

/// What became of a manifest to be retired.
enum Retired {
    Done,
    Gone,
    Late,
    Refused(StoreError),
}

impl Run<'_> {
    /// Credentials that may not delete must not fill the trash with copies that nobody can take away.
    async fn check_permission(&self) -> Result<(), ArchiveError> {
        let store = &self.repository.store;
        let random = || self.repository.world.random_u32();
        let key = format!("probe/{:08x}{:08x}", random(), random());
        put(store.as_ref(), &key, Bytes::from_static(b"gc\n")).await?;
        store.delete(&key).await.map_err(|error| match error {
            error @ StoreError::Denied { .. } => ArchiveError::MayNotDelete { source: error },
            error => error.into(),
        })
    }

    async fn retire(&mut self) -> Result<(), ArchiveError> {
        let stop = AtomicBool::new(false);
        let this = &*self;
        let rows: Vec<&Row> = this.plan.retire().collect();
        // By number: a closure over references gives futures that no other thread may take over.
        let retirements = (0..rows.len()).map(|i| {
            let (stop, row) = (&stop, rows[i]);
            async move {
                // After a failure what is under way ends, and nothing more begins.
                let retired = if stop.load(Ordering::Relaxed) { Ok(Retired::Late) } else { this.retire_one(row).await };
                if !matches!(retired, Ok(Retired::Done | Retired::Gone)) {
                    stop.store(true, Ordering::Relaxed);
                }
                (row, retired)
            }
        });
        let mut retirements = futures::stream::iter(retirements).buffer_unordered(CONCURRENT_MAX);
        let mut report = GcReport::default();
        let mut failed = None;
        while let Some((row, retired)) = retirements.next().await {
            match retired {
                Ok(Retired::Done) => report.retired.push(row.name.clone()),
                Ok(Retired::Gone) => report.gone += 1,
                Ok(Retired::Late) => report.late += 1,
                Ok(Retired::Refused(error)) => report.refuse(&error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        drop(retirements);
        report.retired.sort();
        self.report = report;
        failed.map_or(Ok(()), Err)
    }

    /// A copy into the trash, then the manifest's end.
    async fn retire_one(&self, row: &Row) -> Result<Retired, ArchiveError> {
        self.cancel.check()?;
        let store = &self.repository.store;
        let bytes = match store.get(&row.name.key(), row.len_bytes.min(MANIFEST_OBJECT_LEN_BYTES_MAX)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(Retired::Gone),
            Err(error) => return Err(error.into()),
        };
        let world = &self.repository.world;
        // Rule: what the plan knows is too old to begin anything on.
        let late = world.since_boot().saturating_sub(self.plan.since_boot) > RETIRE_LIMIT;
        if self.options.rules.retire_limit && late {
            return Ok(Retired::Late);
        }
        let Self { repository, cancel, set_aside: time, .. } = *self;
        let aside = Aside { repository, rules: &self.options.rules, cancel, name: &row.name, bytes, time };
        Ok(match aside.set().await? {
            SetAside::Done => Retired::Done,
            SetAside::Late => Retired::Late,
            SetAside::Refused(error) => Retired::Refused(error),
        })
    }

    /// A hold that came while its manifest was being retired came too late, and somebody must know.
    async fn look_at_holds(&mut self) -> Result<(), ArchiveError> {
        if self.report.retired.is_empty() {
            return Ok(());
        }
        let held: HashSet<ManifestName> =
            self.repository.list_holds(None).await?.into_iter().map(|held| held.name).collect();
        self.report.held_meanwhile = self.report.retired.iter().filter(|name| held.contains(name)).cloned().collect();
        Ok(())
    }

    async fn expire(&mut self) -> Result<(), ArchiveError> {
        let copies = self.plan.expire.iter().map(|(name, len_bytes)| vec![(name.key(), *len_bytes)]).collect();
        [self.report.trash, _] = self.delete_all(copies).await?;
        Ok(())
    }

    /// The index before its pack: an index without a pack is known to be rubbish.
    async fn delete_unnamed(&mut self) -> Result<(), ArchiveError> {
        let both = |unnamed: &Unnamed| {
            let index = unnamed.index_len_bytes.map(|len_bytes| (unnamed.id.index_key(), len_bytes));
            let pack = unnamed.pack_len_bytes.map(|len_bytes| (unnamed.id.pack_key(), len_bytes));
            [index, pack].into_iter().flatten().collect()
        };
        let pairs = self.plan.unnamed.iter().map(both).collect();
        [self.report.indexes, self.report.packs] = self.delete_all(pairs).await?;
        Ok(())
    }

    async fn delete_leftovers(&mut self) -> Result<(), ArchiveError> {
        let leftovers = self.plan.leftovers.iter().map(|leftover| vec![leftover.clone()]).collect();
        [self.report.leftovers, _] = self.delete_all(leftovers).await?;
        Ok(())
    }

    /// Deletes objects, each list in its order; what was deleted of `packs/` comes second, all else first.
    /// What the store refuses is noted, and the others go on: it may be locked.
    async fn delete_all(&mut self, lists: Vec<Vec<(String, u64)>>) -> Result<[Amount; 2], ArchiveError> {
        let (repository, cancel) = (self.repository, self.cancel);
        let deletions = lists.into_iter().map(|list| async move {
            let mut done = Vec::with_capacity(list.len());
            for (key, len_bytes) in list {
                cancel.check()?;
                match repository.store.delete(&key).await {
                    Ok(()) => done.push((key, len_bytes)),
                    Err(error @ StoreError::Denied { .. }) => return Ok((done, Some(error))),
                    Err(error) => return Err(ArchiveError::from(error)),
                }
            }
            Ok((done, None))
        });
        let mut deletions = futures::stream::iter(deletions).buffer_unordered(CONCURRENT_MAX);
        let mut amounts = [Amount::default(); 2];
        while let Some(deleted) = deletions.next().await {
            let (done, refused) = deleted?;
            for (key, len_bytes) in done {
                amounts[usize::from(key.starts_with(PACKS_PREFIX))].add(len_bytes);
            }
            refused.iter().for_each(|error| self.report.refuse(error));
        }
        Ok(amounts)
    }
}
