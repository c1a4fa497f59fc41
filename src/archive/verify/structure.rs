//! The first depth: every manifest is opened, and what they name is compared with one listing of each kind.
//!
//! Costs one get for each manifest and each index, and a few listings. A manifest is dropped as soon as its packs are noted: what stays is
//! 4 bytes for each pack of each manifest, and some 100 for each pack.

use super::super::manifests::Listed;
use super::super::repair::BROKEN_PREFIX;
use super::super::{ArchiveError, Cancel, Event, Repository};
use super::report::Flaw;
use super::{Budget, flaw_of, is_verdict, tell_chain};
use crate::keys::SourceKeyring;
use crate::pipeline::seal::{self, INDEX_OBJECT_LEN_BYTES_MAX, MANIFEST_OBJECT_LEN_BYTES_MAX};
use crate::store::StoreError;
use futures::StreamExt;
use hah_vault_format::manifest::PackRef;
use hah_vault_format::name::{INDEX_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, TRASH_PREFIX};
use hah_vault_format::{Manifest, ManifestName, ObjectId, SourceName};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Manifests that are read at the same time, if the budget allows.
const READS_MAX: usize = 16;
/// Bytes of manifests that are in memory at the same time, sealed; open they have about as many again.
const IN_FLIGHT_LEN_BYTES_MAX: u64 = 34 << 20;

/// A pack that manifests name.
#[derive(Debug, Clone)]
pub(super) struct Pack {
    pub id: ObjectId,
    /// The source of the manifests that name it: its index is sealed with that source's keys.
    pub source: SourceName,
    pub object_len_bytes: u64,
    pub plaintext_len_bytes: u32,
    pub listed_len_bytes: Option<u64>,
    pub index_len_bytes: Option<u64>,
    /// Place of another entry for the same id: a manifest that says something else of it.
    next: Option<u32>,
}

impl Pack {
    fn new(pack: &PackRef, source: &SourceName) -> Self {
        Self {
            id: pack.id,
            source: source.clone(),
            object_len_bytes: pack.object_len_bytes,
            plaintext_len_bytes: pack.plaintext_len_bytes,
            listed_len_bytes: None,
            index_len_bytes: None,
            next: None,
        }
    }

    /// Whether a manifest of a source says the same of it.
    fn is_as(&self, pack: &PackRef, source: &SourceName) -> bool {
        let said = (self.object_len_bytes, self.plaintext_len_bytes, &self.source);
        said == (pack.object_len_bytes, pack.plaintext_len_bytes, source)
    }
}

/// A manifest that opened.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub name: ManifestName,
    pub parent: Option<ManifestName>,
    /// Places in [`Survey::packs`].
    pub packs: Vec<u32>,
}

/// A manifest that did not.
#[derive(Debug)]
pub(super) struct Unopened {
    pub name: ManifestName,
    pub flaw: Flaw,
    pub detail: String,
}

/// What the store holds, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub opened: Vec<Opened>,
    pub unopened: Vec<Unopened>,
    pub packs: Vec<Pack>,
    by_id: HashMap<ObjectId, u32>,
    pub unnamed_packs: usize,
    /// Manifests that gc has put into the trash, and that `repair` has set aside.
    pub trash: HashSet<ManifestName>,
}

impl Survey {
    /// Opens the manifests, and compares what they name with the listings made afterwards: packs are there before the
    /// manifest that names them.
    pub(super) async fn take(
        repository: &Repository,
        selected: &[Listed],
        cancel: &Cancel,
    ) -> Result<Self, ArchiveError> {
        let mut survey = Self::default();
        survey.open_all(repository, selected, cancel).await?;
        if survey.unopened.iter().any(|u| u.flaw == Flaw::Missing) {
            // Retired or withdrawn since it was listed; or the store lists what it does not give.
            let again = names(repository, MANIFESTS_PREFIX, ManifestName::from_key).await?;
            survey.unopened.retain(|u| u.flaw != Flaw::Missing || again.contains(&u.name));
        }
        survey.list(repository, cancel).await?;
        Ok(survey)
    }

    async fn open_all(
        &mut self,
        repository: &Repository,
        selected: &[Listed],
        cancel: &Cancel,
    ) -> Result<(), ArchiveError> {
        let sources: BTreeSet<&SourceName> = selected.iter().map(|listed| &listed.name.source).collect();
        let mut keys: BTreeMap<&SourceName, Arc<SourceKeyring>> = BTreeMap::new();
        for source in sources {
            keys.insert(source, Arc::new(repository.source_keys(source)?));
        }
        let budget = Budget::new(IN_FLIGHT_LEN_BYTES_MAX);
        let opening = selected.iter().filter_map(|listed| Some((listed, Arc::clone(keys.get(&listed.name.source)?))));
        let opening = opening.map(|(listed, keys)| {
            let budget = &budget;
            async move {
                cancel.check()?;
                let _room = budget.take(listed.len_bytes).await?;
                open(repository, listed, keys).await.map(|opened| (listed, opened))
            }
        });
        let mut opening = std::pin::pin!(futures::stream::iter(opening).buffered(READS_MAX));
        let total = selected.len() as u64;
        while let Some(opened) = opening.next().await {
            match opened? {
                (_, Ok(manifest)) => self.note(&manifest),
                (listed, Err((flaw, detail))) => {
                    self.unopened.push(Unopened { name: listed.name.clone(), flaw, detail });
                }
            }
            repository.monitor.event(Event::Checked { what: "manifests", done: 1, total, are_bytes: false });
        }
        Ok(())
    }

    fn note(&mut self, manifest: &Manifest) {
        let packs = manifest.packs.iter().map(|pack| self.place(pack, &manifest.name.source)).collect();
        self.opened.push(Opened { name: manifest.name.clone(), parent: manifest.parent.clone(), packs });
    }

    /// The place of a pack; a new one if nobody has said the same of it.
    fn place(&mut self, pack: &PackRef, source: &SourceName) -> u32 {
        let fresh = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let mut place = *self.by_id.entry(pack.id).or_insert(fresh);
        while let Some(known) = self.packs.get_mut(place as usize) {
            if known.is_as(pack, source) {
                return place;
            }
            place = *known.next.get_or_insert(fresh);
        }
        self.packs.push(Pack::new(pack, source));
        fresh
    }

    /// All places of a pack.
    fn places(&self, id: &ObjectId) -> Vec<u32> {
        let next = |place: &u32| self.packs.get(*place as usize).and_then(|pack| pack.next);
        std::iter::successors(self.by_id.get(id).copied(), next).collect()
    }

    async fn list(&mut self, repository: &Repository, cancel: &Cancel) -> Result<(), ArchiveError> {
        for prefix in [PACKS_PREFIX, INDEX_PREFIX] {
            cancel.check()?;
            for object in repository.store.list(prefix).await? {
                let id = object.key.strip_prefix(prefix).and_then(|id| id.parse::<ObjectId>().ok());
                let Some(id) = id else { continue };
                let places = self.places(&id);
                self.unnamed_packs += usize::from(prefix == PACKS_PREFIX && places.is_empty());
                for place in places {
                    let Some(pack) = self.packs.get_mut(place as usize) else { continue };
                    let len =
                        if prefix == PACKS_PREFIX { &mut pack.listed_len_bytes } else { &mut pack.index_len_bytes };
                    *len = Some(object.len_bytes);
                }
            }
        }
        self.trash = names(repository, TRASH_PREFIX, trashed).await?;
        self.trash.extend(names(repository, BROKEN_PREFIX, broken).await?);
        Ok(())
    }

    /// What the listings show of a pack.
    pub(super) fn pack_flaw(pack: &Pack) -> Option<Flaw> {
        let expected_bytes = pack.object_len_bytes;
        match pack.listed_len_bytes {
            None => Some(Flaw::Missing),
            Some(found_bytes) if found_bytes != expected_bytes => Some(Flaw::Length { found_bytes, expected_bytes }),
            Some(_) => None,
        }
    }

    /// What the listings show of its index.
    pub(super) fn index_flaw(pack: &Pack) -> Option<Flaw> {
        match pack.index_len_bytes {
            None => Some(Flaw::Missing),
            Some(len) if len > INDEX_OBJECT_LEN_BYTES_MAX => Some(Flaw::TooLong),
            Some(_) => None,
        }
    }
}

type Verdict<T> = Result<T, (Flaw, String)>;

/// Reads and opens one manifest; the outer error is for what says nothing about the object.
async fn open(
    repository: &Repository,
    listed: &Listed,
    keys: Arc<SourceKeyring>,
) -> Result<Verdict<Manifest>, ArchiveError> {
    // What is longer than it was listed is not read to its end.
    let len_max = listed.len_bytes.min(MANIFEST_OBJECT_LEN_BYTES_MAX);
    let bytes = match repository.store.get(&listed.name.key(), len_max).await {
        Ok(bytes) => bytes,
        Err(error) if is_verdict(&error) => return Ok(Err(flaw_of_store(&error))),
        Err(error) => return Err(error.into()),
    };
    let name = listed.name.clone();
    let opened = tokio::task::spawn_blocking(move || seal::open_manifest(&bytes, &name, &keys)).await;
    let opened = opened.map_err(|error| ArchiveError::Internal(error.to_string()))?;
    Ok(opened.map_err(|error| (flaw_of(&error), tell_chain(&error))))
}

/// A store's answer that says something about the object.
pub(super) fn flaw_of_store(error: &StoreError) -> (Flaw, String) {
    let flaw = if error.is_not_found() { Flaw::Missing } else { Flaw::TooLong };
    (flaw, error.to_string())
}

/// The manifest that an object in the trash is a copy of.
fn trashed(key: &str) -> Option<ManifestName> {
    key.strip_prefix(TRASH_PREFIX)?.split_once('.')?.0.parse().ok()
}

/// The manifest that `repair` has set aside as an object.
fn broken(key: &str) -> Option<ManifestName> {
    key.strip_prefix(BROKEN_PREFIX)?.strip_prefix(MANIFESTS_PREFIX)?.split_once('.')?.0.parse().ok()
}

async fn names(
    repository: &Repository,
    prefix: &str,
    name: fn(&str) -> Option<ManifestName>,
) -> Result<HashSet<ManifestName>, ArchiveError> {
    Ok(repository.store.list(prefix).await?.iter().filter_map(|object| name(&object.key)).collect())
}
