//! Which missing manifests gc can have taken, and which it cannot.
//!
//! gc retires nothing that is younger than the grace, keeps the newest snapshot of each source, and leaves a copy in the
//! trash for the grace (DESIGN §7). So whatever began less than twice the grace ago is there, or in the trash. Of what is
//! older nobody can tell whether gc dropped it or the store hides it.

use super::super::GRACE;
use super::super::STORE_CLOCK_TOLERANCE;
use super::super::parent::millis;
use super::report::{Chain, Lost};
use crate::store::StoreTime;
use hah_vault_format::{ManifestName, SourceName};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a store shows.
pub(super) struct Shown {
    /// The store's time, read before the listings.
    pub now: StoreTime,
    /// Manifests listed, of the sources looked at.
    pub listed: HashSet<ManifestName>,
    /// Manifests with a copy in the trash.
    pub trash: HashSet<ManifestName>,
}

fn claimed_ms(name: &ManifestName) -> i64 {
    i64::try_from(name.time.unix_s()).unwrap_or(i64::MAX).saturating_mul(1000)
}

impl Shown {
    /// Looks for every manifest that one of `children` was made upon, and for those that this host remembers.
    pub(super) fn chain(
        &self,
        children: impl IntoIterator<Item = (ManifestName, ManifestName)>,
        remembered: &BTreeMap<SourceName, Vec<ManifestName>>,
    ) -> Chain {
        let mut newest: HashMap<&SourceName, &ManifestName> = HashMap::new();
        for name in &self.listed {
            let newest = newest.entry(&name.source).or_insert(name);
            *newest = (*newest).max(name);
        }
        let mut known: BTreeMap<ManifestName, Option<ManifestName>> = BTreeMap::new();
        for name in remembered.values().flatten() {
            known.insert(name.clone(), None);
        }
        for (child, parent) in children {
            known.insert(parent, Some(child));
        }
        let mut chain = Chain::default();
        for (name, child) in known.into_iter().filter(|(name, _)| !self.listed.contains(name)) {
            let is_newest = newest.get(&name.source).is_none_or(|newest| **newest < name);
            if self.trash.contains(&name) {
                chain.retired += 1;
            } else if is_newest || self.is_young(&name) {
                chain.lost.push(Lost { name, child, is_newest });
            } else {
                chain.expired += 1;
            }
        }
        let limit_ms = self.now.unix_ms.saturating_add(millis(STORE_CLOCK_TOLERANCE));
        let future: BTreeSet<&ManifestName> = self.listed.iter().filter(|n| claimed_ms(n) > limit_ms).collect();
        chain.future = future.into_iter().cloned().collect();
        chain
    }

    /// Too young for gc to have dropped the manifest and then its copy in the trash.
    fn is_young(&self, name: &ManifestName) -> bool {
        let age_ms = self.now.unix_ms.saturating_sub(claimed_ms(name));
        age_ms < 2 * millis(GRACE) - millis(STORE_CLOCK_TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(hour: u64) -> ManifestName {
        let time = hah_vault_format::UnixTime::from_unix_s(1_795_000_000 + hour * 3600).unwrap();
        ManifestName { source: "vault".parse().unwrap(), time, suffix: 1 }
    }

    /// At hour 100.
    fn shown(listed: &[u64], trash: &[u64]) -> Shown {
        let names = |hours: &[u64]| hours.iter().map(|h| name(*h)).collect();
        let now = StoreTime { unix_ms: (1_795_000_000 + 100 * 3600) * 1000 };
        Shown { now, listed: names(listed), trash: names(trash) }
    }

    fn remembered(hours: &[u64]) -> BTreeMap<SourceName, Vec<ManifestName>> {
        [("vault".parse().unwrap(), hours.iter().map(|h| name(*h)).collect())].into()
    }

    #[test]
    fn a_missing_parent_is_explained_by_its_age_and_by_the_trash() {
        for (parent, trash, expected) in [
            (99, &[][..], (0, 0, 1)),
            (53, &[], (0, 0, 1)),
            (53, &[53], (1, 0, 0)),
            (51, &[], (0, 1, 0)),
            (51, &[51], (1, 0, 0)),
        ] {
            let chain = shown(&[100], trash).chain([(name(100), name(parent))], &BTreeMap::new());
            assert_eq!((chain.retired, chain.expired, chain.lost.len()), expected, "{parent}");
        }
        let there = shown(&[99, 100], &[]).chain([(name(100), name(99))], &remembered(&[99, 100]));
        assert_eq!(there, Chain::default());
    }

    #[test]
    fn the_newest_manifest_that_this_host_saw_is_never_gone_by_gc() {
        // However old: gc keeps the newest.
        let chain = shown(&[1, 2], &[]).chain([], &remembered(&[1, 2, 3]));
        assert_eq!(chain.lost, [Lost { name: name(3), child: None, is_newest: true }]);
        // With something newer it may have been gc, if it is old enough.
        let chain = shown(&[1, 4], &[]).chain([], &remembered(&[1, 2, 3]));
        assert_eq!((chain.expired, chain.lost.len()), (2, 0));
        let chain = shown(&[1, 99], &[]).chain([], &remembered(&[98]));
        assert_eq!(chain.lost, [Lost { name: name(98), child: None, is_newest: false }]);
        // A source that is gone as a whole.
        assert_eq!(shown(&[], &[]).chain([], &remembered(&[3])).lost.len(), 1);
    }

    #[test]
    fn a_manifest_from_the_future_is_told_of() {
        assert_eq!(shown(&[99, 100, 101], &[]).chain([], &BTreeMap::new()).future, [name(101)]);
    }
}
