//! The key sets seen last, and the orders that each came in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::model::{MapOrder, Told};

/// Largest map whose orders are remembered.
const REMEMBERED_ENTRIES_MAX: u16 = 256;
/// Orders, up to rotation, that are remembered of one key set.
pub(super) const CYCLES_MAX: usize = 4;
/// Key sets in one generation.
const KEY_SETS_MAX: usize = 4_096;
/// Entries of the cycles that were put into one generation.
const CYCLE_ENTRIES_MAX: usize = 1 << 20;

/// The remembered key sets in two generations: what the young one has not seen again is forgotten with the old one.
#[derive(Debug, Default)]
pub(super) struct Memory {
    young: HashMap<(u64, u16), KeySet>,
    old: HashMap<(u64, u16), KeySet>,
    young_cycle_entries: usize,
}

impl Memory {
    /// Begins a new generation when the young one is full. To be called before each map.
    #[inline]
    pub(super) fn age(&mut self) {
        if self.young.len() >= KEY_SETS_MAX || self.young_cycle_entries >= CYCLE_ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_cycle_entries = 0;
        }
    }

    /// The key set, which is young after that.
    #[inline]
    pub(super) fn recall(&mut self, keys_hash: u64, entries: u16) -> Option<&mut KeySet> {
        let key = (keys_hash, entries);
        match self.young.entry(key) {
            Entry::Occupied(set) => Some(set.into_mut()),
            Entry::Vacant(place) => {
                let set = self.old.remove(&key)?;
                self.young_cycle_entries += usize::from(entries) * set.cycles.len();
                Some(place.insert(set))
            }
        }
    }

    /// Remembers a new key set, unless it is too large.
    pub(super) fn add(&mut self, keys_hash: u64, entries: u16, order: &MapOrder) {
        if entries <= REMEMBERED_ENTRIES_MAX {
            let set = KeySet { cycles: vec![Cycle::new(entries, order)], steady: order.ascending };
            self.young.insert((keys_hash, entries), set);
            self.young_cycle_entries += usize::from(entries);
        }
    }

    /// Counts the entries that [`KeySet::learn`] says were added.
    #[inline]
    pub(super) fn grown(&mut self, cycle_entries: usize) {
        self.young_cycle_entries += cycle_entries;
    }
}

/// What is known of one key set.
#[derive(Debug)]
pub(super) struct KeySet {
    /// The last one seen comes first; never empty.
    pub(super) cycles: Vec<Cycle>,
    /// It always came in normal form.
    pub(super) steady: bool,
}

impl KeySet {
    /// How an order is told to somebody who knows this key set.
    pub(super) fn tell(&self, order: &MapOrder) -> Told {
        let rotation = order.rotation();
        let same = |cycle: &Cycle| {
            if cycle.ascending && order.ascending {
                return true;
            }
            (0..cycle.places.len()).all(|at| cycle.place(at, rotation) == order.place(at))
        };
        match self.cycles.iter().position(same) {
            Some(cycle) => Told::Known { cycle, rotation },
            None => Told::InFull,
        }
    }

    /// Remembers how it came this time; gives the number of entries of a new cycle.
    #[inline]
    pub(super) fn learn(&mut self, entries: u16, told: Told, order: &MapOrder) -> usize {
        match told {
            Told::Known { cycle, rotation } => {
                self.seen(cycle, rotation);
                0
            }
            Told::InFull => {
                self.steady = false;
                self.cycles.truncate(CYCLES_MAX - 1);
                self.cycles.insert(0, Cycle::new(entries, order));
                usize::from(entries)
            }
        }
    }

    fn seen(&mut self, at: usize, rotation: u16) {
        let Some(cycle) = self.cycles.get_mut(at) else {
            return;
        };
        if cycle.rotation == rotation {
            cycle.confidence = cycle.confidence.saturating_add(1);
        } else {
            self.steady = false;
            if cycle.confidence == 0 {
                cycle.rotation = rotation;
                cycle.confidence = 1;
            } else {
                cycle.confidence -= 1;
            }
        }
        if at > 0
            && let Some(seen) = self.cycles.get_mut(..=at)
        {
            seen.rotate_right(1);
        }
    }
}

/// An order up to rotation, with the rotation to expect.
#[derive(Debug)]
pub(super) struct Cycle {
    /// Places in normal form, beginning with place 0.
    places: Box<[u8]>,
    ascending: bool,
    /// Where place 0 is expected.
    pub(super) rotation: u16,
    /// How sure that is.
    pub(super) confidence: u8,
}

impl Cycle {
    fn new(entries: u16, order: &MapOrder) -> Self {
        let rotation = order.rotation();
        let from_first = (rotation..entries).chain(0..rotation);
        // At most REMEMBERED_ENTRIES_MAX entries, so that no place is cut off.
        let places: Box<[u8]> = from_first.map(|at| order.place(at.into()) as u8).collect();
        let ascending = places.is_sorted();
        Self { places, ascending, rotation, confidence: 1 }
    }

    /// The place in normal form of the entry written at `at`, when place 0 is written at `rotation`.
    #[inline]
    fn place(&self, at: usize, rotation: u16) -> u16 {
        let len = self.places.len();
        let from_first = (at + len - usize::from(rotation)) % len;
        self.places.get(from_first).copied().map_or(0, u16::from)
    }

    /// Writes the order down.
    pub(super) fn rotated(&self, rotation: u16, order: &mut MapOrder) {
        order.ascending = self.ascending && rotation == 0;
        if !order.ascending {
            order.places.clear();
            order.places.extend((0..self.places.len()).map(|at| self.place(at, rotation)));
        }
    }
}
