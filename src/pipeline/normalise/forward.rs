//! The forward direction: records to normal form, and notes.

use super::model::{MapOrder, Model};
use super::range_coder::Encoder;
use super::walk::{MapEnd, Unsuitable, Visitor, Walker};
use crate::snapshot::records::RECORD_LEN_MAX;

/// Brings the records of one snapshot into normal form, one after the other, and writes the order notes.
///
/// Memory: a few times the largest record, and some MiB of remembered orders.
#[derive(Debug)]
pub struct Normaliser {
    walker: Walker,
    sorter: Sorter,
    model: Model,
    encoder: Encoder,
    order: MapOrder,
    counts: Counts,
}

/// What a [`Normaliser`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records brought into normal form (or found in it).
    pub normalised: u64,
    /// Records kept as they are: duplicate keys, keys that are no scalars, a value that does not fill the record.
    pub as_is: u64,
    /// Maps of two or more entries in the normalised records.
    pub maps: u64,
    /// Those of them that were not in normal form.
    pub reordered_maps: u64,
}

impl Default for Normaliser {
    fn default() -> Self {
        Self::new()
    }
}

impl Normaliser {
    /// The state at the beginning of a snapshot.
    pub fn new() -> Self {
        Self {
            walker: Walker::default(),
            sorter: Sorter::default(),
            model: Model::new(),
            encoder: Encoder::new(),
            order: MapOrder::default(),
            counts: Counts::default(),
        }
    }

    /// Normalises one whole record, a type byte and one msgpack value, in place. Its length stays.
    ///
    /// A record without a normal form stays as it is, and the notes say so. A record longer than
    /// [`RECORD_LEN_MAX`] stays as it is too, and the notes do not mention it: the inverse sees its length.
    pub fn record(&mut self, record: &mut [u8]) {
        if record.len() > RECORD_LEN_MAX {
            return;
        }
        self.sorter.begin();
        let as_is = self.walker.walk(record, &mut self.sorter).is_err();
        if as_is {
            self.sorter.undo(record);
        }
        let Ok(_) = self.model.as_is(&mut self.encoder, as_is);
        if as_is {
            self.counts.as_is += 1;
        } else {
            self.counts.normalised += 1;
            self.write_orders();
        }
    }

    fn write_orders(&mut self) {
        self.counts.maps += self.sorter.maps.len() as u64;
        for map in &self.sorter.maps {
            self.order.ascending = map.order_at.is_none();
            if let Some(order_at) = map.order_at {
                let from = order_at as usize;
                let places = self.sorter.orders.get(from..from + usize::from(map.entries)).unwrap_or_default();
                self.order.places.clear();
                self.order.places.extend_from_slice(places);
                self.counts.reordered_maps += 1;
            }
            let Ok(()) = self.model.order(&mut self.encoder, map.keys_hash, map.entries, &mut self.order);
        }
    }

    /// The notes that have settled, for the caller to drain as they grow. They go on in what [`Self::finish`] gives.
    pub fn notes(&mut self) -> &mut Vec<u8> {
        &mut self.encoder.out
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The rest of the notes. Empty if there was no record.
    pub fn finish(self) -> Vec<u8> {
        self.encoder.finish()
    }
}

/// Sorts the maps of one record and remembers in which order they were.
#[derive(Debug, Default)]
struct Sorter {
    /// The record as it came, once something has been moved.
    original: Vec<u8>,
    /// The maps so far, in the order in which the inverse meets them.
    maps: Vec<SortedMap>,
    /// Backing of [`SortedMap::order_at`].
    orders: Vec<u16>,
    by_key: Vec<u16>,
    moved: Vec<u8>,
    moved_maps: Vec<SortedMap>,
}

#[derive(Clone, Copy, Debug)]
struct SortedMap {
    keys_hash: u64,
    entries: u16,
    /// Where its order begins in [`Sorter::orders`]; none if it came in normal form.
    order_at: Option<u32>,
}

impl Sorter {
    fn begin(&mut self) {
        self.original.clear();
        self.maps.clear();
        self.orders.clear();
    }

    fn undo(&mut self, record: &mut [u8]) {
        if !self.original.is_empty() {
            record.copy_from_slice(&self.original);
        }
    }

    /// Fills `by_key` with the entries' indices in ascending order of their keys.
    fn sort(&mut self, record: &[u8], map: &MapEnd<'_>, entries: u16) -> Result<(), Unsuitable> {
        let key = |&at: &u16| map.entries.get(usize::from(at)).map(|entry| entry.sort_key(record));
        self.by_key.clear();
        self.by_key.extend(0..entries);
        self.by_key.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        match self.by_key.array_windows().all(|[a, b]| key(a) < key(b)) {
            true => Ok(()),
            false => Err(Unsuitable),
        }
    }

    /// Moves the entries, and what was noted of the maps inside them.
    fn reorder(&mut self, record: &mut [u8], map: &MapEnd<'_>) {
        let maps_at = map.entries.first().map_or(0, |entry| entry.mark as usize);
        self.moved.clear();
        self.moved_maps.clear();
        for &at in &self.by_key {
            let at = usize::from(at);
            let Some(entry) = map.entries.get(at) else { continue };
            let inside_end = map.entries.get(at + 1).map_or(self.maps.len(), |next| next.mark as usize);
            self.moved.extend_from_slice(record.get(entry.bytes()).unwrap_or_default());
            self.moved_maps.extend_from_slice(self.maps.get(entry.mark as usize..inside_end).unwrap_or_default());
        }
        if let Some(place) = record.get_mut(map.bytes()) {
            place.copy_from_slice(&self.moved);
        }
        self.maps.truncate(maps_at);
        self.maps.extend_from_slice(&self.moved_maps);
    }
}

impl Visitor for Sorter {
    type Error = Unsuitable;
    const SORTS: bool = true;

    #[inline]
    fn mark(&self) -> u32 {
        // A record has fewer maps than bytes.
        self.maps.len() as u32
    }

    #[inline]
    fn map_ended(&mut self, record: &mut [u8], map: MapEnd<'_>) -> Result<(), Unsuitable> {
        let entries = u16::try_from(map.entries.len()).map_err(|_| Unsuitable)?;
        let mut order_at = None;
        if !map.sorted {
            self.sort(record, &map, entries)?;
            if self.original.is_empty() {
                self.original.extend_from_slice(record);
            }
            self.reorder(record, &map);
            let at = self.orders.len();
            self.orders.resize(at + map.entries.len(), 0);
            for (place, &written) in (0..entries).zip(&self.by_key) {
                if let Some(order) = self.orders.get_mut(at + usize::from(written)) {
                    *order = place;
                }
            }
            order_at = Some(at as u32);
        }
        self.maps.push(SortedMap { keys_hash: map.keys_hash, entries, order_at });
        Ok(())
    }
}
