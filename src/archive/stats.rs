//! `stats`: what a repository holds.

use super::repository::Repository;
use super::{ArchiveError, Cancel};
use hah_vault_format::name::{HOLDS_PREFIX, INDEX_PREFIX, KEYS_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, TRASH_PREFIX};
use hah_vault_format::{ManifestName, ObjectId};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Objects of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub len_bytes: u64,
}

/// One source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SourceStats {
    /// Manifests that open.
    pub snapshots: u64,
    /// Manifests that do not.
    pub unreadable: u64,
    /// Sum of the originals' lengths.
    pub original_bytes: u64,
    /// Packs that its manifests name.
    pub packs: u64,
    /// Bytes of these packs.
    pub pack_bytes: u64,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// By prefix: packs, index, manifests, keys, trash, holds.
    pub objects: BTreeMap<&'static str, Objects>,
    /// By source.
    pub sources: BTreeMap<String, SourceStats>,
    /// Packs that no readable manifest names: of runs that go on or crashed, or for gc.
    pub unnamed_packs: Objects,
    /// All bytes in the store.
    pub stored_bytes: u64,
    /// Originals' bytes for each stored byte.
    pub ratio: f64,
}

/// Counts.
///
/// # Errors
/// [`ArchiveError::Store`], [`ArchiveError::Interrupted`].
pub async fn stats(repository: &Repository, cancel: &Cancel) -> Result<Stats, ArchiveError> {
    let mut objects = BTreeMap::new();
    let mut packs: HashMap<ObjectId, u64> = HashMap::new();
    let prefixes = [PACKS_PREFIX, INDEX_PREFIX, MANIFESTS_PREFIX, KEYS_PREFIX, TRASH_PREFIX, HOLDS_PREFIX];
    for prefix in prefixes {
        let list = repository.store.list(prefix).await?;
        let total = list.iter().map(|o| o.len_bytes).sum();
        objects.insert(prefix.trim_end_matches('/'), Objects { count: list.len() as u64, len_bytes: total });
        if prefix == PACKS_PREFIX {
            let id = |key: &str| key.strip_prefix(PACKS_PREFIX)?.parse().ok();
            packs = list.iter().filter_map(|o| Some((id(&o.key)?, o.len_bytes))).collect();
        }
    }
    let names: Vec<ManifestName> = repository.list_manifests(None).await?.into_iter().map(|l| l.name).collect();
    let opened = repository.open_manifests(&names, cancel).await?;
    let mut named: HashMap<String, HashSet<ObjectId>> = HashMap::new();
    let mut sources: BTreeMap<String, SourceStats> = BTreeMap::new();
    for (name, manifest) in names.iter().zip(opened) {
        let source = sources.entry(name.source.to_string()).or_default();
        let Ok(manifest) = manifest else {
            source.unreadable += 1;
            continue;
        };
        source.snapshots += 1;
        source.original_bytes += manifest.original.len_bytes;
        named.entry(name.source.to_string()).or_default().extend(manifest.packs.iter().map(|p| p.id));
    }
    for (source, ids) in &named {
        let source = sources.entry(source.clone()).or_default();
        source.packs = ids.len() as u64;
        source.pack_bytes = ids.iter().filter_map(|id| packs.get(id)).sum();
    }
    let all: HashSet<ObjectId> = named.into_values().flatten().collect();
    let unnamed = packs.iter().filter(|(id, _)| !all.contains(id));
    let unnamed_packs = unnamed
        .fold(Objects::default(), |sum, (_, len)| Objects { count: sum.count + 1, len_bytes: sum.len_bytes + len });
    let stored_bytes: u64 = objects.values().map(|o| o.len_bytes).sum();
    let original_bytes: u64 = sources.values().map(|s| s.original_bytes).sum();
    let ratio = original_bytes as f64 / stored_bytes.max(1) as f64;
    Ok(Stats { objects, sources, unnamed_packs, stored_bytes, ratio })
}
