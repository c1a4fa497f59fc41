//! The trash: manifests set aside, each for the grace.

use super::STEP_LIMIT;
use crate::archive::parent::{chain, millis};
use crate::archive::rules::Rules;
use crate::archive::{ArchiveError, Cancel, GRACE, Repository, STORE_CLOCK_TOLERANCE};
use crate::store::{ObjectMeta, Put, StoreError, StoreTime};
use bytes::Bytes;
use hah_vault_format::name::TRASH_PREFIX;
use hah_vault_format::{ManifestName, SourceName, TrashName, UnixTime};
use std::time::Duration;

/// A trash copy younger than this can be brought back: half the grace.
pub const UNDELETE_LIMIT: Duration = Duration::from_secs(GRACE.as_secs() / 2);

/// A trash copy as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Its name.
    pub name: TrashName,
    /// Length of the object.
    pub len_bytes: u64,
    /// When it was put, by the store's time.
    pub modified: StoreTime,
}

impl Trashed {
    fn from_listed(object: ObjectMeta) -> Option<Self> {
        let name = TrashName::from_key(&object.key)?;
        Some(Self { name, len_bytes: object.len_bytes, modified: object.modified })
    }

    /// When the manifest was set aside: the earlier of the time in the name and that of the object.
    pub fn set_aside(&self) -> StoreTime {
        let named_ms = i64::try_from(self.name.time.unix_s()).unwrap_or(i64::MAX).saturating_mul(1000);
        StoreTime { unix_ms: self.modified.unix_ms.min(named_ms) }
    }

    /// Until when it can be brought back.
    pub fn undelete_until(&self) -> StoreTime {
        StoreTime { unix_ms: self.set_aside().unix_ms.saturating_add(millis(UNDELETE_LIMIT)) }
    }

    /// From when on a gc deletes it.
    pub fn deleted_after(&self) -> StoreTime {
        StoreTime { unix_ms: self.modified.unix_ms.saturating_add(millis(GRACE)) }
    }
}

impl Repository {
    /// What lies in the trash, of one source or of all, sorted by name. Objects with other names are left out.
    ///
    /// # Errors
    /// [`ArchiveError::Store`].
    pub async fn list_trash(&self, source: Option<&SourceName>) -> Result<Vec<Trashed>, ArchiveError> {
        let prefix = source.map_or_else(|| TRASH_PREFIX.to_owned(), TrashName::prefix);
        Ok(self.store.list(&prefix).await?.into_iter().filter_map(Trashed::from_listed).collect())
    }
}

/// How setting a manifest aside ended.
pub(super) enum SetAside {
    /// A copy is in the trash, and the manifest is gone.
    Done,
    /// Too much time went by after the copy was put: the manifest stays.
    Late,
    /// The store did not let the manifest be deleted.
    Refused(StoreError),
}

/// A manifest on its way into the trash. There is no other way for one to go: a backup that runs may have chosen it as its
/// parent, and the copy names the packs until that backup must have ended.
pub(super) struct Aside<'r> {
    pub repository: &'r Repository,
    pub rules: &'r Rules,
    pub cancel: &'r Cancel,
    pub name: &'r ManifestName,
    /// The sealed bytes.
    pub bytes: Bytes,
    /// For the name of the copy: until half the grace after it, it can be brought back.
    pub time: UnixTime,
}

impl Aside<'_> {
    /// A copy into the trash, then the manifest's end.
    pub async fn set(&self) -> Result<SetAside, ArchiveError> {
        let (store, world) = (&self.repository.store, &self.repository.world);
        let put_at = world.since_boot();
        let copy = self.put_copy().await?;
        // Rule: the copy must outlive the manifest by nearly the whole grace.
        let stalled = world.since_boot().saturating_sub(put_at) > STEP_LIMIT;
        if self.rules.retire_gap && stalled {
            return Ok(SetAside::Late);
        }
        match store.delete(&self.name.key()).await {
            Ok(()) => {}
            Err(error @ StoreError::Denied { .. }) => return Ok(SetAside::Refused(error)),
            Err(error) => return Err(error.into()),
        }
        if self.rules.retire_gap && !self.is_fresh(&copy).await? {
            self.put_copy().await?;
        }
        Ok(SetAside::Done)
    }

    /// The same sealed bytes, under a name that was never there.
    async fn put_copy(&self) -> Result<TrashName, ArchiveError> {
        let store = &self.repository.store;
        // Rule: an object of its own, not an old one of the same name, whose time of grace is nearly over.
        if !self.rules.fresh_copy {
            let name = TrashName { manifest: self.name.clone(), time: self.name.time, suffix: 0 };
            store.put_if_absent(&name.key(), self.bytes.clone()).await?;
            return Ok(name);
        }
        loop {
            let suffix = self.repository.world.random_u32();
            let name = TrashName { manifest: self.name.clone(), time: self.time, suffix };
            match store.put_if_absent(&name.key(), self.bytes.clone()).await? {
                Put::Created => return Ok(name),
                Put::Existed => self.cancel.check()?,
            }
        }
    }

    /// Whether a copy was put no more than an eighth of the grace ago, by the store's time.
    async fn is_fresh(&self, copy: &TrashName) -> Result<bool, ArchiveError> {
        let Some(found) = self.repository.store.stat(&copy.key()).await? else { return Ok(false) };
        let now = self.repository.store.now().await?;
        let age_ms = now.unix_ms.saturating_sub(found.modified.unix_ms);
        Ok((-millis(STORE_CLOCK_TOLERANCE)..=millis(STEP_LIMIT)).contains(&age_ms))
    }
}

/// Takes back a manifest that was put and must not be believed in. If that fails the manifest stays, which loses nothing: it
/// is a warning.
pub(in crate::archive) async fn withdraw(
    repository: &Repository,
    rules: &Rules,
    name: &ManifestName,
    bytes: Bytes,
    time: UnixTime,
) {
    // Also after ctrl-C.
    let cancel = Cancel::default();
    // Rule: somebody may have chosen it as a parent meanwhile.
    let failed = if rules.withdraw_copy {
        match (Aside { repository, rules, cancel: &cancel, name, bytes, time }).set().await {
            Ok(SetAside::Done) => None,
            Ok(SetAside::Late) => Some("it took too long".to_owned()),
            Ok(SetAside::Refused(error)) => Some(chain(&error)),
            Err(error) => Some(chain(&error)),
        }
    } else {
        repository.store.delete(&name.key()).await.err().map(|error| chain(&error))
    };
    if let Some(why) = failed {
        repository.monitor.warn(Some(&name.source), format!("could not withdraw {name}: {why}"));
    }
}
