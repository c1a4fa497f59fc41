//! The protocol of DESIGN §7 under a seeded scheduler: real backups, collections and undeletions against a store double,
//! in virtual time, with crashes at any operation, lost answers, late and doubled deliveries, stalls of any length,
//! paused machines, skewed clocks, lost packs and damaged manifests.
//!
//! ```text
//! history: actors and what they do ──> real code ──> double: store and host ──> sim: one operation at a time
//!                                                                                └─> oracle: looks at every change
//! ```
//! The code under test is the product's own: only `Store` and `World` are doubles. Which actor goes on, when,
//! and what happens to it comes from numbers drawn from the seed, each actor's from its own stream. The names of packs are
//! random all the same, as their keys are, and so a seed gives nearly, but not always, the same history again.
//!
//! What must hold, always: a backup or an undeletion that reported success can be restored, as long as its manifest is
//! there, and it is there for as long as it is young; a manifest that was retired can be had back from the trash for half
//! the grace. Nothing is promised of the trash where requests are held up for days (`unfenced`), where the store's clock
//! errs (`ahead`), or of a manifest whose collector's machine was paused between copy and deletion: no clock of the
//! collector knows then, and the fresh copy that follows may come late.
//!
//! What it found in rules that seemed complete is in decision 019.
//!
//! A stall is that of a process or a machine: what it had asked for by then has been sent, and is done; what it is told, it
//! hears later.

mod double;
mod history;
mod objects;
mod oracle;
mod seeds;
mod sim;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): small, and a stream for
/// each use.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        random.next_u64();
        random
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    fn uniform(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next_u64() % end as u64) as usize
    }

    fn choose<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}
