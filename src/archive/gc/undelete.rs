//! `undelete`: a manifest comes back from the trash (DESIGN §7).
//!
//! Only while its copy is younger than half the grace: a collector that takes the copy for an old one cannot be under way
//! then. The copy stays where it is, and protects the packs until every collector has seen the new manifest.

use super::trash::{Trashed, UNDELETE_LIMIT, withdraw};
use crate::archive::parent::millis;
use crate::archive::reuse::length_agrees;
use crate::archive::rules::Rules;
use crate::archive::upload::put;
use crate::archive::{ArchiveError, Repository, STORE_CLOCK_TOLERANCE};
use crate::keys::SourceKeyring;
use crate::pipeline::seal::{self, MANIFEST_OBJECT_LEN_BYTES_MAX};
use crate::store::StoreTime;
use bytes::Bytes;
use hah_vault_format::{Manifest, ManifestName, TrashName};
use std::time::Duration;

/// Brings a manifest back, under a name with a fresh suffix.
///
/// # Errors
/// [`ArchiveError::UndeleteTooLate`], [`ArchiveError::Vanished`] when packs are gone, [`ArchiveError::Manifest`],
/// [`ArchiveError::Store`], [`ArchiveError::Scope`].
pub async fn undelete(repository: &Repository, copy: &Trashed) -> Result<Manifest, ArchiveError> {
    undelete_by(repository, copy, Rules::ALL).await
}

/// [`undelete`] with some rules off, for tests.
#[doc(hidden)]
pub async fn undelete_by(repository: &Repository, copy: &Trashed, rules: Rules) -> Result<Manifest, ArchiveError> {
    let store = repository.store.as_ref();
    let keys = repository.source_keys(&copy.name.manifest.source)?;
    let bytes = store.get(&copy.name.key(), MANIFEST_OBJECT_LEN_BYTES_MAX).await?;
    let opened = seal::open_manifest(&bytes, &copy.name.manifest, &keys);
    let mut manifest = opened.map_err(|source| ArchiveError::Manifest { name: copy.name.manifest.clone(), source })?;
    let since_boot = repository.world.since_boot();
    let run = Run { repository, copy, rules, since_boot, set_aside: copy.set_aside(), left: Duration::MAX };
    let run = Run { left: run.left(store.now().await?)?, ..run };
    run.check_packs(&manifest).await?;
    // Rule: a name of its own: a collector that deletes the old name meanwhile must not hit this manifest.
    if rules.undelete_new_name {
        manifest.name.suffix = repository.world.random_u32();
    }
    run.commit(&manifest, &keys).await?;
    // Rule: the copy stays; a collector that has listed the manifests already needs it.
    if !rules.undelete_keeps_copy {
        store.delete(&copy.name.key()).await?;
    }
    Ok(manifest)
}

struct Run<'r> {
    repository: &'r Repository,
    copy: &'r Trashed,
    rules: Rules,
    since_boot: Duration,
    set_aside: StoreTime,
    left: Duration,
}

impl Run<'_> {
    fn too_late(&self) -> ArchiveError {
        ArchiveError::UndeleteTooLate { name: self.copy.name.clone(), limit_s: UNDELETE_LIMIT.as_secs() }
    }

    /// How much of half the grace is left; too little, or a copy from the future, is an error.
    fn left(&self, now: StoreTime) -> Result<Duration, ArchiveError> {
        // Rule: a copy older than half the grace may be deleted, and its packs with it, before anybody sees the manifest.
        if !self.rules.undelete_limit {
            return Ok(Duration::MAX);
        }
        let age_ms = now.unix_ms.saturating_sub(self.set_aside.unix_ms);
        if !(-millis(STORE_CLOCK_TOLERANCE)..=millis(UNDELETE_LIMIT)).contains(&age_ms) {
            return Err(self.too_late());
        }
        Ok(UNDELETE_LIMIT.saturating_sub(Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))))
    }

    fn check_boot(&self) -> Result<(), ArchiveError> {
        let took = self.repository.world.since_boot().saturating_sub(self.since_boot);
        if took > self.left { Err(self.too_late()) } else { Ok(()) }
    }

    async fn check_packs(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let there = self.repository.list_packs().await?;
        let is_missing = |id, len| !there.get(id).is_some_and(|l: &_| length_agrees(len, l.len_bytes));
        let missing = manifest.packs.iter().filter(|pack| is_missing(&pack.id, pack)).count();
        if missing > 0 {
            return Err(ArchiveError::Vanished { name: manifest.name.source.clone(), missing });
        }
        Ok(())
    }

    /// As a backup commits: in time, and looked at again.
    async fn commit(&self, manifest: &Manifest, keys: &SourceKeyring) -> Result<(), ArchiveError> {
        let store = self.repository.store.as_ref();
        let name = &manifest.name;
        let sealed = Bytes::from(seal::seal_manifest(manifest, keys)?);
        self.check_boot()?;
        let committed = match put(store, &name.key(), sealed.clone()).await {
            Ok(()) => self.check_committed(manifest).await,
            Err(ArchiveError::Store(error)) if error.is_transient() => Err(error.into()),
            Err(error) => return Err(error),
        };
        if let Err(error) = committed {
            withdraw(self.repository, &self.rules, name, sealed, self.copy.name.time).await;
            return Err(error);
        }
        Ok(())
    }

    async fn check_committed(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        // Rule: what came too late, or lost a pack meanwhile, must not stay.
        if !self.rules.undelete_check {
            return Ok(());
        }
        let Some(put) = self.repository.store.stat(&manifest.name.key()).await? else {
            return Err(ArchiveError::Vanished { name: manifest.name.source.clone(), missing: 1 });
        };
        self.left(put.modified)?;
        self.check_boot()?;
        self.check_packs(manifest).await
    }
}

impl Repository {
    /// The trash copy that a text means: its full name, or the newest copy of the only manifest there that is called, or begins,
    /// so.
    ///
    /// # Errors
    /// [`ArchiveError::NotInTrash`], [`ArchiveError::Ambiguous`], [`ArchiveError::Store`].
    pub async fn resolve_trash(&self, text: &str) -> Result<Trashed, ArchiveError> {
        let text = text.strip_prefix("trash/").unwrap_or(text);
        let none = || ArchiveError::NotInTrash { text: text.into() };
        let trash = self.list_trash(None).await?;
        if let Ok(name) = text.parse::<TrashName>() {
            return trash.into_iter().find(|copy| copy.name == name).ok_or_else(none);
        }
        let fits = |name: &ManifestName| name.to_string().starts_with(text) || name.stem().starts_with(text);
        let found = trash.into_iter().filter(|copy| !text.is_empty() && fits(&copy.name.manifest));
        let mut found: Vec<Trashed> = found.collect();
        found.sort_by_key(|copy| (copy.modified, copy.name.suffix));
        let newest = found.pop().ok_or_else(none)?;
        let mut others: Vec<ManifestName> = found.into_iter().map(|copy| copy.name.manifest).collect();
        others.retain(|name| *name != newest.name.manifest);
        if others.is_empty() {
            return Ok(newest);
        }
        others.push(newest.name.manifest);
        others.sort();
        others.dedup();
        Err(ArchiveError::Ambiguous { text: text.into(), candidates: others })
    }
}
