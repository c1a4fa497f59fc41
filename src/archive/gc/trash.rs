//! The trash: manifests set aside, each for the grace.

use crate::archive::parent::millis;
use crate::archive::{ArchiveError, GRACE, Repository};
use crate::store::{ObjectMeta, StoreTime};
use hah_vault_format::name::TRASH_PREFIX;
use hah_vault_format::{SourceName, TrashName};
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
