//! Which packs a run reads: those that have not been read for longest.

use hah_vault_format::ObjectId;
use std::collections::HashMap;

/// A pack that could be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub id: ObjectId,
    pub len_bytes: u64,
}

/// The places of at least `percent` percent of the bytes: never read ones first, then those that were read longest ago;
/// among equals in an order that `seed` shuffles. So runs of 5 % read everything in 20 runs, if nothing is added.
pub(super) fn choose(
    candidates: &[Candidate],
    read_days: &HashMap<ObjectId, u32>,
    percent: u8,
    seed: u32,
) -> Vec<usize> {
    let shuffled = |id: &ObjectId| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&id.0);
        *hasher.finalize().as_bytes()
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_cached_key(|place| {
        let id = &candidates[*place].id;
        (read_days.get(id).copied().unwrap_or(0), shuffled(id))
    });
    let total_bytes: u128 = candidates.iter().map(|c| u128::from(c.len_bytes)).sum();
    let wanted_bytes = (total_bytes * u128::from(percent.min(100))).div_ceil(100);
    let mut chosen_bytes = 0;
    order.retain(|place| {
        let take = chosen_bytes < wanted_bytes;
        chosen_bytes += if take { u128::from(candidates[*place].len_bytes) } else { 0 };
        take
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn candidates(lens: &[u64]) -> Vec<Candidate> {
        let id = |n: usize| ObjectId::of(&n.to_le_bytes());
        lens.iter().enumerate().map(|(n, len)| Candidate { id: id(n), len_bytes: *len }).collect()
    }

    #[test]
    fn packs_never_read_come_first_then_the_oldest() {
        let all = candidates(&[10; 4]);
        let days = HashMap::from([(all[0].id, 7), (all[1].id, 9), (all[3].id, 8)]);
        assert_eq!(choose(&all, &days, 100, 1), [2, 0, 3, 1]);
        assert_eq!(choose(&all, &days, 1, 1), [2]);
        assert_eq!(choose(&all, &days, 50, 1), [2, 0]);
        assert_eq!(choose(&[], &days, 100, 1), [0; 0]);
    }

    #[test]
    fn seeds_differ() {
        let all = candidates(&[10; 40]);
        assert_ne!(choose(&all, &HashMap::new(), 10, 1), choose(&all, &HashMap::new(), 10, 2));
    }

    proptest! {
        #[test]
        fn a_share_is_enough_and_no_more_and_all_are_read_in_turn(
            lens in proptest::collection::vec(1u64..5_000_000, 1..60), percent in 1u8..=100, seed: u32
        ) {
            let all = candidates(&lens);
            let total: u64 = lens.iter().sum();
            let mut days = HashMap::new();
            let mut read = HashSet::new();
            for day in 1..=100u32.div_ceil(u32::from(percent)) {
                let chosen = choose(&all, &days, percent, seed.wrapping_add(day));
                let bytes: u64 = chosen.iter().map(|place| lens[*place]).sum();
                prop_assert!(bytes * 100 >= total * u64::from(percent));
                let without_last = bytes - lens[*chosen.last().unwrap()];
                prop_assert!(without_last * 100 < total * u64::from(percent));
                days.extend(chosen.iter().map(|place| (all[*place].id, day)));
                read.extend(chosen);
            }
            prop_assert_eq!(read.len(), all.len());
        }
    }
}
