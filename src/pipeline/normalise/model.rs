//! How the order of a map is told: SPEC §7.5.

use super::memory::{CYCLES_MAX, KeySet, Memory};
use super::range_coder::{Coder, Probability};

/// Maps of 2, 3, … 8 and of more entries have probabilities of their own.
const SIZE_CLASSES: usize = 8;
/// Expected rotations have been right 0, 1, 2, 3 times more often than wrong, or more.
const CONFIDENCES: usize = 5;

/// The order in which a map's entries were written.
#[derive(Debug, Default)]
pub(super) struct MapOrder {
    /// Normal form; then `places` means nothing.
    pub(super) ascending: bool,
    /// The place in normal form of each entry as written.
    pub(super) places: Vec<u16>,
}

impl MapOrder {
    #[inline]
    pub(super) fn place(&self, at: usize) -> u16 {
        if self.ascending {
            u16::try_from(at).unwrap_or(u16::MAX)
        } else {
            self.places.get(at).copied().unwrap_or_default()
        }
    }

    /// Where the first entry of the normal form was written.
    pub(super) fn rotation(&self) -> u16 {
        if self.ascending {
            return 0;
        }
        let at = self.places.iter().position(|&place| place == 0);
        at.and_then(|at| u16::try_from(at).ok()).unwrap_or_default()
    }
}

/// How an order is told when its key set is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// One of the set's cycles, begun so that place 0 is written at `rotation`.
    Known { cycle: usize, rotation: u16 },
    /// Place by place.
    InFull,
}

/// What both directions know and learn.
#[derive(Debug)]
pub(super) struct Model {
    memory: Memory,
    probabilities: Probabilities,
    permutation: Permutation,
}

#[derive(Debug)]
struct Probabilities {
    as_is: Probability,
    ascending: Probability,
    another_cycle: [[[Probability; CYCLES_MAX]; SIZE_CLASSES]; 2],
    as_expected: [[[Probability; CONFIDENCES]; SIZE_CLASSES]; 2],
}

impl Model {
    pub(super) fn new() -> Self {
        let even = Probability::EVEN;
        Self {
            memory: Memory::default(),
            probabilities: Probabilities {
                as_is: even,
                ascending: even,
                another_cycle: [[[even; CYCLES_MAX]; SIZE_CLASSES]; 2],
                as_expected: [[[even; CONFIDENCES]; SIZE_CLASSES]; 2],
            },
            permutation: Permutation::default(),
        }
    }

    /// Tells whether a record is kept as it is.
    pub(super) fn as_is<C: Coder>(&mut self, coder: &mut C, wanted: bool) -> Result<bool, C::Error> {
        coder.bit(&mut self.probabilities.as_is, wanted)
    }

    /// Tells the order of a map of two or more entries.
    #[inline]
    pub(super) fn order<C: Coder>(
        &mut self,
        coder: &mut C,
        keys_hash: u64,
        entries: u16,
        order: &mut MapOrder,
    ) -> Result<(), C::Error> {
        self.memory.age();
        let Some(set) = self.memory.recall(keys_hash, entries) else {
            order.ascending = coder.bit(&mut self.probabilities.ascending, order.ascending)?;
            if !order.ascending {
                self.permutation.code(coder, entries, &mut order.places)?;
            }
            self.memory.add(keys_hash, entries, order);
            return Ok(());
        };
        let wanted = if C::WRITES { set.tell(order) } else { Told::InFull };
        let told = self.probabilities.told(coder, set, entries, wanted)?;
        match told {
            Told::Known { cycle, rotation } => {
                if let (false, Some(cycle)) = (C::WRITES, set.cycles.get(cycle)) {
                    cycle.rotated(rotation, order);
                }
            }
            Told::InFull => {
                order.spell_out(entries);
                self.permutation.code(coder, entries, &mut order.places)?;
            }
        }
        let grown = set.learn(entries, told, order);
        self.memory.grown(grown);
        Ok(())
    }
}

impl MapOrder {
    /// Fills `places` also for the normal form.
    fn spell_out(&mut self, entries: u16) {
        if std::mem::take(&mut self.ascending) {
            self.places.clear();
            self.places.extend(0..entries);
        }
    }
}

impl Probabilities {
    /// Tells which cycle and which rotation.
    #[inline]
    fn told<C: Coder>(&mut self, coder: &mut C, set: &KeySet, entries: u16, wanted: Told) -> Result<Told, C::Error> {
        let steady = usize::from(set.steady);
        let size_class = usize::from(entries.saturating_sub(2)).min(SIZE_CLASSES - 1);
        let (wanted_cycle, wanted_rotation) = match wanted {
            Told::Known { cycle, rotation } => (cycle, rotation),
            Told::InFull => (usize::MAX, 0),
        };
        // Two entries have but one order up to rotation.
        let another_cycle = &mut self.another_cycle[steady][size_class];
        let mut at = 0;
        while entries > 2
            && let Some(probability) = another_cycle[..set.cycles.len().min(CYCLES_MAX)].get_mut(at)
            && coder.bit(probability, wanted_cycle > at)?
        {
            at += 1;
        }
        let Some(cycle) = set.cycles.get(at) else {
            return Ok(Told::InFull);
        };
        let expected = cycle.rotation;
        let confidence = usize::from(cycle.confidence).min(CONFIDENCES - 1);
        let as_expected = &mut self.as_expected[steady][size_class][confidence];
        if coder.bit(as_expected, wanted_rotation == expected)? {
            return Ok(Told::Known { cycle: at, rotation: expected });
        }
        // The expected one is left out of the choices.
        let wanted = wanted_rotation.wrapping_sub(u16::from(wanted_rotation > expected));
        let choice = coder.choice(entries - 1, wanted)?;
        Ok(Told::Known { cycle: at, rotation: choice + u16::from(choice >= expected) })
    }
}

/// Tells permutations place by place, each one of those not yet used.
#[derive(Debug, Default)]
struct Permutation {
    /// What was told, then what was not.
    places: Vec<u16>,
    /// Where in `places` each place is; kept only when writing.
    at: Vec<u16>,
}

impl Permutation {
    fn code<C: Coder>(&mut self, coder: &mut C, entries: u16, order: &mut Vec<u16>) -> Result<(), C::Error> {
        self.places.clear();
        self.places.extend(0..entries);
        self.at.clear();
        self.at.extend(0..entries);
        for told in 0..entries.saturating_sub(1) {
            let wanted = if C::WRITES { self.choice(told, order) } else { 0 };
            let choice = coder.choice(entries - told, wanted)?;
            let (to, from) = (usize::from(told), usize::from(told + choice));
            self.places.swap(to, from);
            if let Some(at) = self.places.get(from).and_then(|&place| self.at.get_mut(usize::from(place))) {
                *at = told + choice;
            }
        }
        if !C::WRITES {
            order.clone_from(&self.places);
        }
        Ok(())
    }

    fn choice(&self, told: u16, order: &[u16]) -> u16 {
        let place = order.get(usize::from(told)).copied().unwrap_or_default();
        let at = self.at.get(usize::from(place)).copied().unwrap_or_default();
        at.saturating_sub(told)
    }
}
