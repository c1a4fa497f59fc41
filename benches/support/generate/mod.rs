//! A generator of snapshot series that look like real ones: states that evolve, in the bytes in which Vault, Consul and
//! Nomad write them. Deterministic by seed; needs no file and no server.
//!
//! An object is only a number and a version; its bytes are made of these whenever they are written, so that a state of
//! many gigabytes takes no more memory than 16 bytes per object. What is modelled, because it decides what deduplication
//! finds: the order and the mean length of records, incompressible values (Vault), Go's random order of maps (Consul,
//! Nomad), which records change and how much of each, new and deleted ones, a hot set, and the archive with its gzip.
//!
//! For benches and tests alike: include it with `#[path = "…/benches/support/generate/mod.rs"] mod generate;`.

mod archive;
mod consul;
mod encode;
mod nomad;
mod vault;

use encode::{Pack, Rng};
use std::io::{self, Write};
use std::str::FromStr;

pub use archive::Written;
pub use hah_vault::pipeline::rewrap::Rewrap;

/// Whose snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Vault and OpenBao.
    Vault,
    /// Consul.
    Consul,
    /// Nomad.
    Nomad,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vault, Self::Consul, Self::Nomad];

    /// Its name, as a source's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Consul => "consul",
            Self::Nomad => "nomad",
        }
    }

    fn shapes(self) -> &'static [Shape] {
        match self {
            Self::Vault => vault::SHAPES,
            Self::Consul => consul::SHAPES,
            Self::Nomad => nomad::SHAPES,
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == text)
            .ok_or_else(|| format!("{text} is not vault, consul or nomad"))
    }
}

/// What a series is like.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose snapshots.
    pub kind: Kind,
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// Length of the first `state.bin`, about.
    pub state_len_bytes: u64,
    /// Objects that change from one snapshot to the next, in a million.
    pub changed_ppm: u64,
    /// Of the changed ones, how many lie in the hot twentieth of all; in a million.
    pub hot_ppm: u64,
    /// Objects that come, in a million.
    pub added_ppm: u64,
    /// Objects that go, in a million.
    pub removed_ppm: u64,
}

impl Options {
    /// Churn as measured between real snapshots: 0.5 % changed, half of them hot, a few new and gone.
    pub fn new(kind: Kind, state_len_bytes: u64) -> Self {
        let (seed, changed_ppm, hot_ppm, added_ppm, removed_ppm) = (1, 5_000, 500_000, 600, 300);
        Self { kind, seed, state_len_bytes, changed_ppm, hot_ppm, added_ppm, removed_ppm }
    }
}

/// Objects of one type, as they follow each other in a state.
struct Shape {
    /// Its part of the state's bytes, in a thousand; 0 for tables of `count_min` objects.
    share: u64,
    /// How many there are at least.
    count_min: u64,
    /// All of it changes from each snapshot to the next: counters, coordinates, leader records.
    restless: bool,
}

/// One object: its bytes depend on nothing else, and on the snapshot only in the order of its maps.
#[derive(Clone, Copy, Debug)]
struct Object {
    number: u64,
    /// The snapshot in which it last changed.
    version: u32,
}

/// What the bytes of an object are made of.
struct Made {
    seed: u64,
    table: usize,
    /// Sorts the objects of a table.
    identity: u64,
    version: u32,
    /// Raft index of the last change.
    modify_index: u64,
    create_index: u64,
}

impl Made {
    /// Random numbers that stay while the object lives.
    fn base(&self) -> Rng {
        Rng::of(&[self.identity, self.seed])
    }

    /// Random numbers that a change changes.
    fn changed(&self) -> Rng {
        Rng::of(&[self.identity, self.seed, u64::from(self.version) + 1])
    }

    /// For part `part` of an object, of which a change changes one in `parts`.
    fn part(&self, part: u64, parts: u64) -> Rng {
        let version = u64::from(self.version);
        let hit = version > 0 && version % parts.max(1) == part % parts.max(1);
        Rng::of(&[self.identity, self.seed, part + 100, if hit { version + 1 } else { 0 }])
    }
}

/// A state and its evolution.
#[derive(Clone, Debug)]
pub struct Series {
    options: Options,
    step: u32,
    tables: Vec<Vec<Object>>,
    next_number: u64,
}

impl Series {
    /// The first state.
    pub fn new(options: Options) -> Self {
        let mut series = Self { options, step: 0, tables: Vec::new(), next_number: 0 };
        for (table, shape) in options.kind.shapes().iter().enumerate() {
            let mean_len = series.mean_len(table);
            let count = (options.state_len_bytes * shape.share / 1000 / mean_len).max(shape.count_min);
            let first = series.next_number;
            series.next_number += count;
            let objects = (first..series.next_number).map(|number| Object { number, version: 0 }).collect();
            series.tables.push(objects);
            series.sort(table);
        }
        series
    }

    fn mean_len(&self, table: usize) -> u64 {
        const SAMPLES: u64 = 3_000;
        let (mut bytes, mut order) = (Vec::new(), Rng::of(&[1]));
        for number in 0..SAMPLES {
            self.object(table, Object { number, version: 0 }, &mut order, &mut bytes);
        }
        (bytes.len() as u64 / SAMPLES).max(1)
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        self.tables.iter().map(Vec::len).sum()
    }

    /// The Raft index.
    fn index(&self) -> u64 {
        7_000 + u64::from(self.step) * 61
    }

    fn identity(&self, table: usize, object: Object) -> u64 {
        Rng::of(&[self.options.seed, table as u64, object.number]).next()
    }

    fn sort(&mut self, table: usize) {
        let mut objects = std::mem::take(&mut self.tables[table]);
        objects.sort_by_cached_key(|o| self.identity(table, *o));
        self.tables[table] = objects;
    }

    /// Goes on to the next state.
    pub fn advance(&mut self) {
        self.step += 1;
        let mut rng = Rng::of(&[self.options.seed, u64::from(self.step), 0xad]);
        for (table, shape) in self.options.kind.shapes().iter().enumerate() {
            if shape.share > 0 && !shape.restless {
                self.churn(table, &mut rng);
            }
        }
    }

    fn churn(&mut self, table: usize, rng: &mut Rng) {
        let Options { changed_ppm, hot_ppm, added_ppm, removed_ppm, .. } = self.options;
        let mut objects = std::mem::take(&mut self.tables[table]);
        let len = objects.len() as u64;
        // Hot are those whose number is: they lie scattered over the table, as keys do.
        let hot: Vec<usize> = (0..objects.len()).filter(|i| objects[*i].number.is_multiple_of(20)).collect();
        for _ in 0..rounded(len * changed_ppm, rng) {
            let at = match rng.chance_ppm(hot_ppm) {
                true if !hot.is_empty() => hot[rng.below(hot.len() as u64) as usize],
                _ => rng.below(len) as usize,
            };
            objects[at].version = self.step;
        }
        for _ in 0..rounded(len * removed_ppm, rng) {
            if objects.len() > 1 {
                objects.remove(rng.below(objects.len() as u64) as usize);
            }
        }
        let added = rounded(len * added_ppm, rng);
        objects.extend((0..added).map(|i| Object { number: self.next_number + i, version: self.step }));
        self.next_number += added;
        self.tables[table] = objects;
        if added > 0 {
            self.sort(table);
        }
    }

    /// Gives `sink` the state, piece by piece; each time the same.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn state(&self, sink: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        const PIECE_LEN_BYTES: usize = 128 << 10;
        let mut order = Rng::of(&[self.options.seed, u64::from(self.step), 0x0de7]);
        let mut bytes = Vec::with_capacity(2 * PIECE_LEN_BYTES);
        match self.options.kind {
            Kind::Vault => {}
            Kind::Consul => consul::header(self.index(), &mut Pack { out: &mut bytes, order: &mut order }),
            Kind::Nomad => bytes.push(0x80),
        }
        for (table, objects) in self.tables.iter().enumerate() {
            for object in objects {
                self.object(table, *object, &mut order, &mut bytes);
                if bytes.len() >= PIECE_LEN_BYTES {
                    sink(&bytes)?;
                    bytes.clear();
                }
            }
        }
        sink(&bytes)
    }

    fn object(&self, table: usize, object: Object, order: &mut Rng, out: &mut Vec<u8>) {
        let restless = self.options.kind.shapes()[table].restless;
        let version = if restless { self.step } else { object.version };
        let create_index = 12 + object.number % 6_900;
        let modify_index =
            if version == 0 { create_index } else { 7_000 + u64::from(version) * 61 - object.number % 60 };
        let identity = self.identity(table, object);
        let made = Made { seed: self.options.seed, table, identity, version, modify_index, create_index };
        match self.options.kind {
            Kind::Vault => vault::object(&made, out),
            Kind::Consul => consul::object(&made, &mut Pack { out, order }),
            Kind::Nomad => nomad::object(&made, &mut Pack { out, order }),
        }
    }

    /// Writes the snapshot.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn generate(&self, out: impl Write, wrapper: Rewrap) -> io::Result<Written> {
        archive::write(self, out, wrapper)
    }
}

/// `ppm` millionths, rounded up or down by chance so that the mean is right.
fn rounded(ppm: u64, rng: &mut Rng) -> u64 {
    ppm / 1_000_000 + u64::from(rng.chance_ppm(ppm % 1_000_000))
}
