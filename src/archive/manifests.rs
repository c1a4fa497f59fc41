//! Finding, opening and choosing manifests.

use super::parent::millis;
use super::repository::Repository;
use super::{ArchiveError, Cancel, STORE_CLOCK_TOLERANCE};
use crate::keys::SourceKeyring;
use crate::pipeline::seal::{self, MANIFEST_OBJECT_LEN_BYTES_MAX};
use crate::store::{ObjectMeta, StoreTime};
use futures::{StreamExt, TryStreamExt};
use hah_vault_format::name::MANIFESTS_PREFIX;
use hah_vault_format::{Manifest, ManifestName, SourceName, UnixTime};
use std::collections::{BTreeMap, BTreeSet};

/// Manifests that are read at the same time.
const READS_MAX: usize = 16;
/// How many near names an error offers.
const NEAR_MAX: usize = 3;

/// A manifest as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ManifestName,
    /// Length of the object.
    pub len_bytes: u64,
    /// When it was put, by the store's time.
    pub modified: StoreTime,
}

fn listed(object: ObjectMeta) -> Option<Listed> {
    let name = ManifestName::from_key(&object.key)?;
    Some(Listed { name, len_bytes: object.len_bytes, modified: object.modified })
}

impl Repository {
    /// The manifests of one source or of all, sorted by source, then time, then modification time. Objects with other names are left out.
    ///
    /// # Errors
    /// [`ArchiveError::Store`].
    pub async fn list_manifests(&self, source: Option<&SourceName>) -> Result<Vec<Listed>, ArchiveError> {
        let prefix = source.map_or_else(|| MANIFESTS_PREFIX.to_owned(), ManifestName::prefix);
        let mut list: Vec<Listed> = self.store.list(&prefix).await?.into_iter().filter_map(listed).collect();
        // Names of one second sort by their random part; which was committed last, the store knows.
        list.sort_by(|a, b| {
            (&a.name.source, a.name.time, a.modified, a.name.suffix).cmp(&(
                &b.name.source,
                b.name.time,
                b.modified,
                b.name.suffix,
            ))
        });
        Ok(list)
    }

    /// The keys of a source.
    ///
    /// # Errors
    /// [`ArchiveError::Scope`].
    pub fn source_keys(&self, source: &SourceName) -> Result<SourceKeyring, ArchiveError> {
        self.keyring.source(source).ok_or_else(|| ArchiveError::Scope {
            scope: self.keyring.writer.scope.to_string(),
            source_name: source.clone(),
        })
    }

    /// Reads and authenticates a manifest.
    ///
    /// # Errors
    /// [`ArchiveError::Manifest`], [`ArchiveError::Store`], [`ArchiveError::Scope`].
    pub async fn open_manifest(&self, name: &ManifestName) -> Result<Manifest, ArchiveError> {
        let keys = self.source_keys(&name.source)?;
        self.open_manifest_with(name, &keys).await
    }

    /// The same, with the source's keys at hand.
    ///
    /// # Errors
    /// [`ArchiveError::Manifest`], [`ArchiveError::Store`].
    pub async fn open_manifest_with(
        &self,
        name: &ManifestName,
        keys: &SourceKeyring,
    ) -> Result<Manifest, ArchiveError> {
        let bytes = self.store.get(&name.key(), MANIFEST_OBJECT_LEN_BYTES_MAX).await?;
        let opened = seal::open_manifest(&bytes, name, keys);
        opened.map_err(|source| ArchiveError::Manifest { name: name.clone(), source })
    }

    /// Opens many manifests; each answer stands for itself, in the order of `names`.
    ///
    /// # Errors
    /// [`ArchiveError::Interrupted`] only.
    pub async fn open_manifests(
        &self,
        names: &[ManifestName],
        cancel: &Cancel,
    ) -> Result<Vec<Result<Manifest, ArchiveError>>, ArchiveError> {
        let open = |name: ManifestName| async move {
            cancel.check()?;
            Ok(self.open_manifest(&name).await)
        };
        futures::stream::iter(names.to_vec()).map(open).buffered(READS_MAX).try_collect().await
    }

    /// The manifest that a text means: a full name, a unique prefix, `SOURCE@latest`, `SOURCE@latest~N`, or
    /// `SOURCE@TIME`.
    ///
    /// # Errors
    /// [`ArchiveError::NoManifest`], [`ArchiveError::Ambiguous`], [`ArchiveError::Store`].
    pub async fn resolve(&self, text: &str) -> Result<ManifestName, ArchiveError> {
        if let Ok(name) = text.parse::<ManifestName>() {
            let there = self.store.stat(&name.key()).await?.is_some();
            if there {
                return Ok(name);
            }
        }
        let mut listed = self.list_manifests(None).await?;
        if let Some((source, _)) = text.split_once("@latest") {
            self.drop_future(&mut listed, source.strip_prefix(MANIFESTS_PREFIX).unwrap_or(source)).await;
        }
        let names: Vec<ManifestName> = listed.into_iter().map(|l| l.name).collect();
        choose(text, &names)
    }

    /// Takes out a source's manifests that claim a later time than they were put at and than it is now, unless there are
    /// no others: whoever can write to the store, but has no key, could make a manifest the latest for ever (SPEC §2.3).
    async fn drop_future(&self, listed: &mut Vec<Listed>, source: &str) {
        let latest_ms = |unix_ms: i64| unix_ms.saturating_add(millis(STORE_CLOCK_TOLERANCE));
        let is_after = |l: &Listed, ms| l.name.source.as_str() == source && claimed_ms(&l.name) > latest_ms(ms);
        // Copying a repository changes these times, but hardly to earlier ones.
        if !listed.iter().any(|l| is_after(l, l.modified.unix_ms)) {
            return;
        }
        let now_ms = match self.store.now().await {
            Ok(now) => now.unix_ms,
            // Where nothing can be written, the store does not tell.
            Err(_) => self.world.host_unix_ms(),
        };
        let is_future = |l: &Listed| is_after(l, l.modified.unix_ms.max(now_ms));
        let future: Vec<ManifestName> = listed.iter().filter(|l| is_future(l)).map(|l| l.name.clone()).collect();
        let Some(first) = future.first() else { return };
        let text = format!(
            "{} manifests claim a time that has not come yet, and are not taken for the latest, first {first}: has \
             somebody put them there?",
            future.len()
        );
        self.monitor.warn(Some(&first.source), text);
        if listed.iter().any(|l| l.name.source.as_str() == source && !is_future(l)) {
            listed.retain(|l| !is_future(l));
        }
    }
}

/// Chooses by the rules of [`Repository::resolve`] from sorted names.
///
/// # Errors
/// [`ArchiveError::NoManifest`], [`ArchiveError::Ambiguous`].
pub fn choose(text: &str, names: &[ManifestName]) -> Result<ManifestName, ArchiveError> {
    let text = text.strip_prefix(MANIFESTS_PREFIX).unwrap_or(text);
    let none = || ArchiveError::NoManifest { text: text.into(), near: near(text, names) };
    if let Some((source, at)) = text.split_once('@') {
        let of_source: Vec<&ManifestName> = names.iter().filter(|n| n.source.as_str() == source).collect();
        if of_source.is_empty() && !names.is_empty() {
            return Err(ArchiveError::NoSource { text: source.into(), sources: sources(names) });
        }
        if let (Some(time), Some(first)) = (parse_time(at), of_source.first())
            && time < first.time
        {
            return Err(ArchiveError::TooEarly { text: text.into(), first: (*first).clone() });
        }
        return choose_at(at, &of_source).cloned().ok_or_else(none);
    }
    let fits = |n: &&ManifestName| !text.is_empty() && (n.to_string().starts_with(text) || n.stem().starts_with(text));
    let mut found: Vec<ManifestName> = names.iter().filter(fits).cloned().collect();
    match found.len() {
        0 => Err(none()),
        1 => Ok(found.remove(0)),
        _ => Err(ArchiveError::Ambiguous { text: text.into(), candidates: found }),
    }
}

fn choose_at<'n>(at: &str, of_source: &[&'n ManifestName]) -> Option<&'n ManifestName> {
    if let Some(rest) = at.strip_prefix("latest") {
        let back: usize = match rest.strip_prefix('~') {
            Some(n) => n.parse().ok()?,
            None if rest.is_empty() => 0,
            None => return None,
        };
        return of_source.iter().rev().nth(back).copied();
    }
    let time = parse_time(at)?;
    of_source.iter().rev().find(|n| n.time <= time).copied()
}

/// `20261122T143000Z`, `2026-11-22T14:30:00Z`, `2026-11-22T14:30`, `2026-11-22 14:30`, `2026-11-22` (its last second).
pub fn parse_time(text: &str) -> Option<UnixTime> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let shape = shape.trim_end_matches('Z').replace(' ', "T");
    let part = |from: usize, to: usize| digits.get(from..to).and_then(|d| d.parse::<u64>().ok());
    let (h, min, s) = match shape.as_str() {
        "0000-00-00" => (23, 59, 59),
        "0000-00-00T00:00" => (part(8, 10)?, part(10, 12)?, 59),
        "0000-00-00T00:00:00" => (part(8, 10)?, part(10, 12)?, part(12, 14)?),
        _ => return None,
    };
    UnixTime::from_civil(part(0, 4)?, part(4, 6)?, part(6, 8)?, h, min, s)
}

/// The sources of some manifests.
pub fn sources(names: &[ManifestName]) -> Vec<SourceName> {
    let sources: BTreeSet<&SourceName> = names.iter().map(|name| &name.source).collect();
    sources.into_iter().cloned().collect()
}

/// The time in a manifest's name, in milliseconds.
pub(super) fn claimed_ms(name: &ManifestName) -> i64 {
    i64::try_from(name.time.unix_s()).unwrap_or(i64::MAX).saturating_mul(1000)
}

/// The names that resemble a text most.
fn near(text: &str, names: &[ManifestName]) -> Vec<ManifestName> {
    let mut by_distance: BTreeMap<(usize, usize), &ManifestName> = BTreeMap::new();
    for (i, name) in names.iter().rev().enumerate() {
        let full = name.to_string();
        let shared = full.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        by_distance.insert((full.len() - shared, i), name);
    }
    by_distance.into_values().take(NEAR_MAX).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<ManifestName> {
        let texts = [
            "consul/20261122T143000Z-00000001",
            "vault/20261121T120000Z-00000002",
            "vault/20261122T120000Z-00000003",
            "vault/20261122T130000Z-0000000a",
        ];
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn chosen(text: &str) -> Option<String> {
        choose(text, &names()).ok().map(|n| n.to_string())
    }

    #[test]
    fn texts_choose_the_manifest_that_is_meant() {
        for (text, expected) in [
            ("vault@latest", "vault/20261122T130000Z-0000000a"),
            ("vault@latest~1", "vault/20261122T120000Z-00000003"),
            ("vault@2026-11-22T12:59:59Z", "vault/20261122T120000Z-00000003"),
            ("vault@20261122T120000Z", "vault/20261122T120000Z-00000003"),
            ("vault@2026-11-22 12:00", "vault/20261122T120000Z-00000003"),
            ("vault@2026-11-21", "vault/20261121T120000Z-00000002"),
            ("vault/20261121", "vault/20261121T120000Z-00000002"),
            ("20261122T1430", "consul/20261122T143000Z-00000001"),
            ("manifests/vault/20261122T13", "vault/20261122T130000Z-0000000a"),
            ("c", "consul/20261122T143000Z-00000001"),
        ] {
            assert_eq!(chosen(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn texts_that_mean_nothing_or_too_much_are_refused() {
        for text in ["", "vault@", "vault@latest~3", "vault@latestx", "vault@-1", "x"] {
            assert!(matches!(choose(text, &names()), Err(ArchiveError::NoManifest { .. })), "{text}");
        }
        let Err(ArchiveError::TooEarly { first, .. }) = choose("vault@2020-01-01", &names()) else { panic!() };
        assert_eq!(first.to_string(), "vault/20261121T120000Z-00000002");
        for text in ["nomad@latest", "nomad@2020-01-01", "@latest"] {
            let Err(ArchiveError::NoSource { sources, .. }) = choose(text, &names()) else { panic!("{text}") };
            assert_eq!(sources.iter().map(SourceName::as_str).collect::<Vec<_>>(), ["consul", "vault"]);
        }
        // In an empty repository there is nothing to offer.
        assert!(matches!(choose("nomad@latest", &[]), Err(ArchiveError::NoManifest { .. })));
        assert!(
            matches!(choose("vault/20261122", &names()), Err(ArchiveError::Ambiguous { candidates, .. }) if candidates.len() == 2)
        );
    }

    #[test]
    fn an_unknown_name_brings_near_names() {
        let Err(ArchiveError::NoManifest { near, .. }) = choose("vault/20261122T12000x", &names()) else { panic!() };
        assert_eq!(near[0].to_string(), "vault/20261122T120000Z-00000003");
    }
}
