//! Holds: marks that keep a manifest from being retired.
//!
//! A hold is an object of its own, so that manifests stay as they are. That it is there is all that counts; nothing
//! authenticates it. Whoever can write to the store can therefore add holds, which only keep more, and remove them, which
//! takes the right to delete: with that one deletes the snapshot itself.

use super::manifests::choose;
use super::{ArchiveError, Repository};
use crate::pipeline::seal::{self, HOLD_OBJECT_LEN_BYTES_MAX};
use crate::store::{ObjectMeta, Put, StoreTime};
use hah_vault_format::name::HOLDS_PREFIX;
use hah_vault_format::{ManifestName, SourceName};

/// A hold as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What is held.
    pub name: ManifestName,
    /// When it was put, by the store's time.
    pub modified: StoreTime,
    /// Length of the object.
    pub len_bytes: u64,
}

impl Held {
    fn from_listed(object: ObjectMeta) -> Option<Self> {
        let name = ManifestName::from_hold_key(&object.key)?;
        Some(Self { name, modified: object.modified, len_bytes: object.len_bytes })
    }
}

impl Repository {
    /// The holds of one source or of all. Objects with other names are left out.
    ///
    /// # Errors
    /// [`ArchiveError::Store`].
    pub async fn list_holds(&self, source: Option<&SourceName>) -> Result<Vec<Held>, ArchiveError> {
        let prefix = source.map_or_else(|| HOLDS_PREFIX.to_owned(), |source| format!("{HOLDS_PREFIX}{source}/"));
        Ok(self.store.list(&prefix).await?.into_iter().filter_map(Held::from_listed).collect())
    }

    /// Holds a manifest. `false`: it was held before, and the reason given then stands.
    ///
    /// # Errors
    /// [`ArchiveError::HeldTooLate`] when a gc retired it at the same time; [`ArchiveError::Store`],
    /// [`ArchiveError::Scope`], [`ArchiveError::Seal`] for a reason that is too long.
    pub async fn hold(&self, name: &ManifestName, reason: &str) -> Result<bool, ArchiveError> {
        let keys = self.source_keys(&name.source)?;
        let put = self.store.put_if_absent(&name.hold_key(), seal::seal_hold(reason, &keys)?.into()).await?;
        // A gc that did not see the hold has deleted the manifest by now, or lists the holds once more and says so.
        if self.store.stat(&name.key()).await?.is_none() {
            // Nothing is there to be held; what is left of it harms nobody.
            let _ = self.store.delete(&name.hold_key()).await;
            return Err(ArchiveError::HeldTooLate { name: name.clone() });
        }
        Ok(put == Put::Created)
    }

    /// Releases a hold. `false`: there was none.
    ///
    /// # Errors
    /// [`ArchiveError::Store`].
    pub async fn release(&self, name: &ManifestName) -> Result<bool, ArchiveError> {
        let there = self.store.stat(&name.hold_key()).await?.is_some();
        if there {
            self.store.delete(&name.hold_key()).await?;
        }
        Ok(there)
    }

    /// Why a manifest is held; `None` without a reason, or with one that does not open.
    ///
    /// # Errors
    /// [`ArchiveError::Store`], [`ArchiveError::Scope`].
    pub async fn hold_reason(&self, name: &ManifestName) -> Result<Option<String>, ArchiveError> {
        let keys = self.source_keys(&name.source)?;
        let bytes = self.store.get(&name.hold_key(), HOLD_OBJECT_LEN_BYTES_MAX).await?;
        Ok(seal::open_hold(&bytes, &keys).ok().filter(|reason| !reason.is_empty()))
    }

    /// The manifest that a text means, also one that is gone and whose hold is still there.
    ///
    /// # Errors
    /// [`ArchiveError::NoManifest`], [`ArchiveError::Ambiguous`], [`ArchiveError::Store`].
    pub async fn resolve_held(&self, text: &str) -> Result<ManifestName, ArchiveError> {
        match self.resolve(text).await {
            Err(error @ ArchiveError::NoManifest { .. }) => {
                let held: Vec<ManifestName> = self.list_holds(None).await?.into_iter().map(|h| h.name).collect();
                choose(text, &held).map_err(|_| error)
            }
            resolved => resolved,
        }
    }
}
