//! The table of packs: what was listed, and what names it. A few dozen bytes for each, however many manifests there are.

use crate::archive::reuse::length_agrees;
use crate::store::{ObjectMeta, StoreTime};
use hah_vault_format::manifest::PackRef;
use hah_vault_format::name::{INDEX_PREFIX, PACKS_PREFIX};
use hah_vault_format::{Manifest, ObjectId};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Numbers in the table that manifests hold altogether, for the figures of what they free: 64 MB. Beyond that the figures are
/// missing; what may be deleted is known all the same.
const NUMBERS_MAX: usize = 16 << 20;

/// One object as it was listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub len_bytes: u64,
    pub modified: StoreTime,
}

/// A pack and its index; either may be missing.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub id: ObjectId,
    pub pack: Option<Part>,
    pub index: Option<Part>,
    /// A manifest, or a trash copy younger than the grace, names it.
    pub named: bool,
}

impl Row {
    /// Bytes of both objects.
    pub fn len_bytes(&self) -> u64 {
        [self.pack, self.index].into_iter().flatten().map(|part| part.len_bytes).sum()
    }

    /// Modification time of the younger object.
    pub fn modified(&self) -> Option<StoreTime> {
        [self.pack, self.index].into_iter().flatten().map(|part| part.modified).max()
    }
}

/// Packs that a snapshot needs, and how many of them are not as it needs them. Indexes are not looked at: a restore does
/// without them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LostPacks {
    /// How many it names.
    pub of: usize,
    /// Not listed.
    pub missing: usize,
    /// Listed with another length.
    pub other_length: usize,
    /// Of the right length, but `verify` found on this host that their bytes are wrong.
    pub damaged: usize,
}

impl LostPacks {
    /// Whether all are there.
    pub fn is_none(&self) -> bool {
        self.missing + self.other_length + self.damaged == 0
    }
}

/// `of its 5 packs 2 missing, 1 of another length`.
impl fmt::Display for LostPacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [(self.missing, "missing"), (self.other_length, "of another length"), (self.damaged, "damaged")];
        let kinds: Vec<String> = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        write!(f, "of its {} packs {}", self.of, kinds.join(", "))
    }
}

/// Numbers of the packs that a manifest names.
pub(super) type Numbers = Box<[u32]>;

/// All packs and indexes that were listed.
#[derive(Debug, Default)]
pub(super) struct Packs {
    numbers: HashMap<ObjectId, u32>,
    rows: Vec<Row>,
    listed: bool,
    numbers_given: usize,
}

impl Packs {
    /// Takes the two listings.
    pub fn listed(&mut self, packs: Vec<ObjectMeta>, indexes: Vec<ObjectMeta>) {
        let part = |o: &ObjectMeta| Some(Part { len_bytes: o.len_bytes, modified: o.modified });
        for object in packs {
            if let Some(row) = id(&object, PACKS_PREFIX).and_then(|id| self.row(id)) {
                row.pack = part(&object);
            }
        }
        for object in indexes {
            if let Some(row) = id(&object, INDEX_PREFIX).and_then(|id| self.row(id)) {
                row.index = part(&object);
            }
        }
        self.listed = true;
    }

    fn row(&mut self, id: ObjectId) -> Option<&mut Row> {
        let number = self.number(id)?;
        self.rows.get_mut(number as usize)
    }

    /// What is not listed has no number: a forged manifest cannot make the table grow. Only where a test has the packs
    /// listed last are all names noted.
    fn number(&mut self, id: ObjectId) -> Option<u32> {
        if let Some(number) = self.numbers.get(&id) {
            return Some(*number);
        }
        if self.listed {
            return None;
        }
        let number = u32::try_from(self.rows.len()).ok()?;
        self.rows.push(Row { id, pack: None, index: None, named: false });
        self.numbers.insert(id, number);
        Some(number)
    }

    /// Notes that something that is kept names these.
    pub fn name(&mut self, ids: &[ObjectId]) {
        for id in ids {
            if let Some(row) = self.row(*id) {
                row.named = true;
            }
        }
    }

    /// The same packs by their numbers; `None` once there are too many of these.
    pub fn numbers(&mut self, ids: &[ObjectId]) -> Option<Numbers> {
        if self.numbers_given + ids.len() > NUMBERS_MAX {
            return None;
        }
        let numbers: Numbers = ids.iter().filter_map(|id| self.number(*id)).collect();
        self.numbers_given += numbers.len();
        Some(numbers)
    }

    /// Which packs of a manifest are not there as it needs them; `damaged` ones are known to be. Only where a test has the
    /// packs listed last nothing is known.
    pub fn lost(&self, manifest: &Manifest, damaged: &BTreeSet<ObjectId>) -> LostPacks {
        let mut lost = LostPacks { of: manifest.packs.len(), ..LostPacks::default() };
        for pack in manifest.packs.iter().filter(|_| self.listed) {
            match self.listed_len_bytes(pack) {
                None => lost.missing += 1,
                Some(len_bytes) if !length_agrees(pack, len_bytes) => lost.other_length += 1,
                Some(_) => lost.damaged += usize::from(damaged.contains(&pack.id)),
            }
        }
        lost
    }

    fn listed_len_bytes(&self, pack: &PackRef) -> Option<u64> {
        let row = self.rows.get(*self.numbers.get(&pack.id)? as usize)?;
        row.pack.map(|part| part.len_bytes)
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

fn id(object: &ObjectMeta, prefix: &str) -> Option<ObjectId> {
    object.key.strip_prefix(prefix)?.parse().ok()
}
