//! Which packs of the parent a run may reuse: one rule for compaction, healing, rotation and horizons (DESIGN §5.5).
//!
//! Two bounds make the compaction: how many small packs a snapshot may name, and how much more than itself its restore may
//! read. Packs are given up only when one of them is exceeded, and then those first that cost least: of small packs the
//! least used ones, otherwise those with the smallest share in use. Measured in `benches/longrun.rs`; variants that were
//! tried, and why they lost, are in `format/decisions/015-reuse-rule.md`.

use hah_vault_format::manifest::PackRef;
use hah_vault_format::{Manifest, limits::PACK_PLAINTEXT_LEN_BYTES_MAX};
use std::time::Duration;

/// A pack with less plaintext than this is small.
pub const SMALL_PACK_LEN_BYTES: u32 = PACK_PLAINTEXT_LEN_BYTES_MAX / 2;
/// Most small packs that a snapshot may name. A run adds one as a rule, so that it begins with fewer: with so many, the
/// least used are given up, down to half as many.
pub const SMALL_PACKS_MAX: usize = 128;
/// The packs that a run goes on with may hold so many tenths of the bytes that are used of them: a restore reads what they
/// hold. One tenth below the 2.2 times that are promised, since the run's own changes come on top.
pub const HELD_PER_USED_TENTHS_MAX: u64 = 21;
/// The reuse horizon, unless the user sets another one.
pub const HORIZON_DEFAULT: Duration = Duration::from_secs(90 * 86_400);

/// Why a pack is not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `--fresh`.
    Fresh,
    /// It, or its index, is not in the listing, or has another length there.
    Missing,
    /// `verify` found on this host that its bytes are wrong.
    Damaged,
    /// Its index does not open, or does not describe it.
    IndexUnreadable,
    /// It was made with another generation of keys.
    OtherGeneration,
    /// It is one of the least used, of packs that hold more than twice what is used of them.
    LittleUsed,
    /// It is older than the reuse horizon.
    TooOld,
    /// Too many small packs are named, and it is one of the smallest.
    TooMany,
}

impl Reason {
    /// In words, for `-v`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "--fresh reuses nothing",
            Self::Missing => "missing in the store, or of another length there",
            Self::Damaged => "found damaged by verify",
            Self::IndexUnreadable => "index unreadable",
            Self::OtherGeneration => "of another key generation",
            Self::LittleUsed => "one of the least used, of packs that hold too much else",
            Self::TooOld => "older than the reuse horizon",
            Self::TooMany => "one of too many small packs",
        }
    }
}

/// What is known of a pack's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// Not looked at yet.
    NotLoaded,
    /// Not to be looked at: the pack is known to be damaged.
    OfDamagedPack,
    /// It does not open, or contradicts the parent.
    Unreadable,
    /// It opened.
    Read {
        /// Its key generation.
        key_generation: u32,
    },
}

/// What is known of a pack that the parent names.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Length of its plaintext.
    pub plaintext_len_bytes: u32,
    /// Bytes of it that the parent uses.
    pub used_bytes: u64,
    /// Its age by the store's time if both objects are listed with the expected length.
    pub age: Option<Duration>,
    /// Its index.
    pub index: IndexState,
}

/// The run's policy.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Reuse nothing.
    pub fresh: bool,
    /// Reuse horizon.
    pub horizon: Duration,
    /// The current key generation.
    pub key_generation: u32,
    /// Give packs up for [`Reason::TooMany`] and [`Reason::LittleUsed`]. Only simulations go without.
    pub compact: bool,
    /// Reuse only packs that the parent names, not others that are there. Only tests go without.
    pub parent_packs_only: bool,
}

/// The verdict on each candidate: `None` to reuse it.
pub fn judge(candidates: &[Candidate], policy: &Policy) -> Vec<Option<Reason>> {
    let mut verdicts: Vec<Option<Reason>> = candidates.iter().map(|c| judge_one(c, policy)).collect();
    if policy.compact {
        give_up_small(candidates, &mut verdicts);
        give_up_little_used(candidates, &mut verdicts);
    }
    verdicts
}

/// Keeps [`SMALL_PACKS_MAX`].
fn give_up_small(candidates: &[Candidate], verdicts: &mut [Option<Reason>]) {
    let mut small: Vec<usize> = (0..candidates.len())
        .filter(|i| verdicts[*i].is_none() && candidates[*i].plaintext_len_bytes < SMALL_PACK_LEN_BYTES)
        .collect();
    if small.len() >= SMALL_PACKS_MAX {
        // By used bytes: that is what giving them up costs.
        small.sort_by_key(|i| candidates[*i].used_bytes);
        for i in &small[..small.len() - SMALL_PACKS_MAX / 2] {
            verdicts[*i] = Some(Reason::TooMany);
        }
    }
}

/// Keeps [`HELD_PER_USED_TENTHS_MAX`]: what is used of a pack that is given up is written again, and held without anything
/// else. The smallest share in use first: it frees most for each byte that is written again.
fn give_up_little_used(candidates: &[Candidate], verdicts: &mut [Option<Reason>]) {
    let used_bytes: u64 = candidates.iter().map(|c| c.used_bytes).sum();
    let held = |(c, verdict): (&Candidate, &Option<Reason>)| match verdict {
        None => u64::from(c.plaintext_len_bytes),
        Some(_) => c.used_bytes,
    };
    let mut held_bytes: u64 = candidates.iter().zip(verdicts.iter()).map(held).sum();
    let mut kept: Vec<usize> = (0..candidates.len()).filter(|i| verdicts[*i].is_none()).collect();
    // Both factors are below 2^32.
    kept.sort_by(|a, b| {
        let (a, b) = (&candidates[*a], &candidates[*b]);
        (a.used_bytes * u64::from(b.plaintext_len_bytes)).cmp(&(b.used_bytes * u64::from(a.plaintext_len_bytes)))
    });
    for i in kept {
        if held_bytes * 10 <= used_bytes * HELD_PER_USED_TENTHS_MAX {
            break;
        }
        held_bytes -= u64::from(candidates[i].plaintext_len_bytes).saturating_sub(candidates[i].used_bytes);
        verdicts[i] = Some(Reason::LittleUsed);
    }
}

fn judge_one(candidate: &Candidate, policy: &Policy) -> Option<Reason> {
    if policy.fresh {
        return Some(Reason::Fresh);
    }
    let Some(age) = candidate.age else { return Some(Reason::Missing) };
    if age > policy.horizon {
        return Some(Reason::TooOld);
    }
    match candidate.index {
        IndexState::OfDamagedPack => Some(Reason::Damaged),
        IndexState::Unreadable => Some(Reason::IndexUnreadable),
        IndexState::Read { key_generation } if key_generation != policy.key_generation => Some(Reason::OtherGeneration),
        IndexState::NotLoaded | IndexState::Read { .. } => None,
    }
}

/// Bytes of each of its packs that a manifest uses; bytes used twice count once.
pub fn used_bytes(manifest: &Manifest) -> Vec<u64> {
    let mut ranges: Vec<Vec<(u32, u32)>> = vec![Vec::new(); manifest.packs.len()];
    for extent in manifest.extents.iter().chain(manifest.notes()) {
        if let Some(list) = ranges.get_mut(extent.pack as usize) {
            list.push((extent.offset_bytes, extent.offset_bytes.saturating_add(extent.len_bytes)));
        }
    }
    ranges.into_iter().map(union_len).collect()
}

fn union_len(mut ranges: Vec<(u32, u32)>) -> u64 {
    ranges.sort_unstable();
    let (mut total, mut end) = (0u64, 0u32);
    for (from, to) in ranges {
        let from = from.max(end);
        if to > from {
            total += u64::from(to - from);
            end = to;
        }
    }
    total
}

/// Whether the store's listing still shows what a manifest's pack table says.
pub fn length_agrees(pack: &PackRef, listed_len_bytes: u64) -> bool {
    pack.object_len_bytes == listed_len_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { fresh: false, horizon: HORIZON_DEFAULT, key_generation: 1, compact: true, parent_packs_only: true };

    fn good() -> Candidate {
        Candidate {
            plaintext_len_bytes: 1000,
            used_bytes: 1000,
            age: Some(Duration::from_secs(60)),
            index: IndexState::Read { key_generation: 1 },
        }
    }

    #[test]
    fn every_reason_is_given_for_its_own_cause() {
        type Change = fn(&mut Candidate, &mut Policy);
        let table: [(Option<Reason>, Change); 13] = [
            (Some(Reason::Damaged), |c, _| c.index = IndexState::OfDamagedPack),
            (None, |_, _| ()),
            (None, |c, _| c.index = IndexState::NotLoaded),
            // 1000 bytes held, 477 used: 2.1 times.
            (None, |c, _| c.used_bytes = 477),
            (None, |c, p| (c.used_bytes, p.compact) = (1, false)),
            (None, |c, p| c.age = Some(p.horizon)),
            (Some(Reason::Fresh), |_, p| p.fresh = true),
            (Some(Reason::Missing), |c, _| c.age = None),
            (Some(Reason::IndexUnreadable), |c, _| c.index = IndexState::Unreadable),
            (Some(Reason::OtherGeneration), |_, p| p.key_generation = 2),
            (Some(Reason::LittleUsed), |c, _| c.used_bytes = 476),
            (Some(Reason::TooOld), |c, p| c.age = Some(p.horizon + Duration::from_secs(1))),
            (Some(Reason::Fresh), |c, p| (c.age, p.fresh) = (None, true)),
        ];
        for (at, (expected, change)) in table.into_iter().enumerate() {
            let (mut candidate, mut policy) = (good(), POLICY);
            change(&mut candidate, &mut policy);
            assert_eq!(judge(&[candidate], &policy), [expected], "case {at}");
        }
    }

    #[test]
    fn of_too_many_small_packs_the_least_used_are_given_up_and_full_ones_never() {
        let mut candidates: Vec<Candidate> =
            (0..SMALL_PACKS_MAX as u64).map(|i| Candidate { used_bytes: 1000 - i, ..good() }).collect();
        let full = Candidate { plaintext_len_bytes: SMALL_PACK_LEN_BYTES, used_bytes: 8 << 20, ..good() };
        candidates.extend([full; 300]);
        let verdicts = judge(&candidates, &POLICY);
        let given_up: Vec<usize> = (0..verdicts.len()).filter(|i| verdicts[*i] == Some(Reason::TooMany)).collect();
        assert_eq!(given_up, (64..128).collect::<Vec<_>>());
        assert!(judge(&candidates, &Policy { compact: false, ..POLICY }).iter().all(Option::is_none));
        candidates.remove(0);
        assert!(judge(&candidates, &POLICY).iter().all(Option::is_none));
    }

    #[test]
    fn the_least_used_packs_are_given_up_until_a_restore_reads_little_enough() {
        let used = [1000, 100, 700, 300, 0, 800, 200];
        let candidates = used.map(|used_bytes| Candidate { used_bytes, ..good() });
        // 7,000 bytes held for 3,100 used: without the one of which nothing is used 6,000, which is 1.94 times.
        let verdicts = judge(&candidates, &POLICY);
        assert_eq!(verdicts, [None, None, None, None, Some(Reason::LittleUsed), None, None]);
        // 6,000 bytes held for 2,100 used: 5,000, then 4,100, which is 1.95 times.
        let verdicts = judge(&candidates[1..], &POLICY);
        let little = Some(Reason::LittleUsed);
        assert_eq!(verdicts, [little, None, None, little, None, None]);
    }

    #[test]
    fn what_is_given_up_for_another_reason_counts_as_written_again() {
        let lost = Candidate { age: None, used_bytes: 10, ..good() };
        let half = Candidate { used_bytes: 480, ..good() };
        // 10 + 1000 held for 490 used: 2.06 times. With the lost pack as it lies it would be 4.1 times.
        assert_eq!(judge(&[lost, half], &POLICY), [Some(Reason::Missing), None]);
    }

    #[test]
    fn bytes_used_twice_count_once() {
        assert_eq!(union_len(vec![(0, 10), (5, 20), (20, 25), (40, 41), (0, 3)]), 26);
        assert_eq!(union_len(vec![]), 0);
    }
}
