//! The walk over one whole record: iterative, and without an allocation per value.

use crate::snapshot::msgpack::{self, DEPTH_MAX, Form};

/// Most entries that one map of a normalised record may have.
pub(super) const ENTRIES_MAX: usize = 65_535;

/// One entry of a map that has been walked: `key_at..value_at..end_at` in the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key_at: u32,
    /// Where the key's bytes without its header begin (str and bin), else `key_at`.
    text_at: u32,
    pub(super) value_at: u32,
    pub(super) end_at: u32,
    /// What [`Visitor::mark`] said when the entry began.
    pub(super) mark: u32,
}

impl Entry {
    /// What the entries of a map in normal form ascend by.
    #[inline]
    pub(super) fn sort_key<'r>(&self, record: &'r [u8]) -> (&'r [u8], &'r [u8]) {
        (span(record, self.text_at, self.value_at), span(record, self.key_at, self.value_at))
    }

    /// Whether its key is the smaller one.
    #[inline]
    fn is_before(&self, other: &Self, record: &[u8]) -> bool {
        let (text, other_text) = (record.get(self.text_at as usize), record.get(other.text_at as usize));
        let both = self.text_at < self.value_at && other.text_at < other.value_at;
        if both && text != other_text { text < other_text } else { self.sort_key(record) < other.sort_key(record) }
    }

    /// Where the entry is in the record.
    #[inline]
    pub(super) fn bytes(&self) -> std::ops::Range<usize> {
        self.key_at as usize..self.end_at as usize
    }
}

/// A map whose last entry has just ended; it has two or more.
pub(super) struct MapEnd<'e> {
    pub(super) entries: &'e [Entry],
    /// Of the set of keys, whatever their order.
    pub(super) keys_hash: u64,
    /// The keys ascend strictly.
    pub(super) sorted: bool,
}

impl MapEnd<'_> {
    /// Where the entries are in the record.
    #[inline]
    pub(super) fn bytes(&self) -> std::ops::Range<usize> {
        let (first, last) = (self.entries.first(), self.entries.last());
        first.map_or(0, |entry| entry.key_at as usize)..last.map_or(0, |entry| entry.end_at as usize)
    }
}

/// Who is told of the maps, each after the maps inside it. It may reorder the bytes of the entries.
pub(super) trait Visitor {
    type Error: From<Unsuitable>;
    /// It wants to know whether maps are sorted.
    const SORTS: bool;

    /// A number for the entry that begins.
    fn mark(&self) -> u32 {
        0
    }

    fn map_ended(&mut self, record: &mut [u8], map: MapEnd<'_>) -> Result<(), Self::Error>;
}

/// A record that has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsuitable;

/// The buffers of the walk, reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Walker {
    open: Vec<Open>,
    entries: Vec<Entry>,
}

/// An array or map that is being walked.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Values (array) or entries (map) still to come, the current one included.
    left: u32,
    map: bool,
    /// Where a map's entries begin in [`Walker::entries`].
    entries_at: u32,
    keys_hash: u64,
    sorted: bool,
}

impl Open {
    fn new(left: u32, map: bool, entries_at: u32) -> Self {
        Self { left, map, entries_at, keys_hash: 0, sorted: true }
    }
}

#[inline]
fn span(record: &[u8], from: u32, to: u32) -> &[u8] {
    record.get(from as usize..to as usize).unwrap_or_default()
}

impl Walker {
    /// Walks `record`: a type byte, then exactly one value.
    pub(super) fn walk<V: Visitor>(&mut self, record: &mut [u8], visitor: &mut V) -> Result<(), V::Error> {
        self.open.clear();
        self.entries.clear();
        let mut top = Open::new(1, false, 0);
        let mut at = 1;
        loop {
            let head = Head::read(record, at)?;
            at = head.end_at;
            if head.count > 0 {
                at = self.enter(record, &head, &mut top, visitor)?;
                continue;
            }
            // A value has ended, and perhaps what is around it.
            loop {
                top.left -= 1;
                if top.map
                    && let Some(entry) = self.entries.last_mut()
                {
                    entry.end_at = index(at)?;
                }
                if top.left > 0 {
                    break;
                }
                self.close(record, &top, visitor)?;
                match self.open.pop() {
                    Some(outer) => top = outer,
                    None if at == record.len() => return Ok(()),
                    None => return Err(Unsuitable.into()),
                }
            }
            if top.map {
                at = self.map_key(record, at, &mut top, visitor)?;
            }
        }
    }

    /// Opens a container that is not empty; gives where its first value begins.
    fn enter<V: Visitor>(
        &mut self,
        record: &[u8],
        head: &Head,
        top: &mut Open,
        visitor: &V,
    ) -> Result<usize, Unsuitable> {
        // The stack also holds what stands for the record itself.
        if self.open.len() == DEPTH_MAX || (head.map && head.count as usize > ENTRIES_MAX) {
            return Err(Unsuitable);
        }
        let new = Open::new(head.count, head.map, index(self.entries.len())?);
        self.open.push(std::mem::replace(top, new));
        if head.map { self.map_key(record, head.end_at, top, visitor) } else { Ok(head.end_at) }
    }

    #[inline]
    fn close<V: Visitor>(&mut self, record: &mut [u8], top: &Open, visitor: &mut V) -> Result<(), V::Error> {
        if top.map {
            let entries_at = top.entries_at as usize;
            let entries = self.entries.get(entries_at..).unwrap_or_default();
            if entries.len() > 1 {
                visitor.map_ended(record, MapEnd { entries, keys_hash: top.keys_hash, sorted: top.sorted })?;
            }
            self.entries.truncate(entries_at);
        }
        Ok(())
    }

    /// Reads the key at `at` of the innermost map; gives where its value begins.
    #[inline]
    fn map_key<V: Visitor>(
        &mut self,
        record: &[u8],
        at: usize,
        top: &mut Open,
        visitor: &V,
    ) -> Result<usize, Unsuitable> {
        let head = Head::read(record, at)?;
        if !head.key {
            return Err(Unsuitable);
        }
        let entry = Entry {
            key_at: index(at)?,
            text_at: index(head.text_at)?,
            value_at: index(head.end_at)?,
            end_at: index(head.end_at)?,
            mark: visitor.mark(),
        };
        top.keys_hash = top.keys_hash.wrapping_add(key_hash(record, at, head.end_at));
        if V::SORTS
            && top.sorted
            && self.entries.len() > top.entries_at as usize
            && let Some(before) = self.entries.last()
        {
            top.sorted = before.is_before(&entry, record);
        }
        self.entries.push(entry);
        Ok(head.end_at)
    }
}

#[inline]
fn index(at: usize) -> Result<u32, Unsuitable> {
    u32::try_from(at).map_err(|_| Unsuitable)
}

/// The first bytes of a value, and the whole of a leaf.
struct Head {
    /// A scalar that may be a map key.
    key: bool,
    map: bool,
    /// Values of an array, entries of a map; 0 for leaves and for empty ones.
    count: u32,
    /// Where the text of a str or bin begins, else where the value begins.
    text_at: usize,
    end_at: usize,
}

impl Head {
    #[inline]
    fn read(record: &[u8], at: usize) -> Result<Self, Unsuitable> {
        let &first = record.get(at).ok_or(Unsuitable)?;
        let after = at + 1;
        let form = msgpack::form(first);
        let head = match form {
            Form::Fixed(len) => {
                let text_at = if first & 0xe0 == 0xa0 { after } else { at };
                let key = !matches!(first, 0xd4..=0xd8);
                Self { key, map: false, count: 0, text_at, end_at: after + usize::from(len) }
            }
            Form::Map(count) => Self { key: false, map: true, count: count.into(), text_at: at, end_at: after },
            Form::Array(count) => Self { key: false, map: false, count: count.into(), text_at: at, end_at: after },
            Form::Sized { width, extra } => {
                let (len, text_at) = field(record, after, width)?;
                let end_at = text_at.checked_add(len as usize + usize::from(extra)).ok_or(Unsuitable)?;
                Self { key: extra == 0, map: false, count: 0, text_at, end_at }
            }
            Form::ArrayCounted(width) => {
                let (count, end_at) = field(record, after, width)?;
                Self { key: false, map: false, count, text_at: at, end_at }
            }
            Form::MapCounted(width) => {
                let (count, end_at) = field(record, after, width)?;
                Self { key: false, map: true, count, text_at: at, end_at }
            }
            Form::Never => return Err(Unsuitable),
        };
        if head.end_at > record.len() { Err(Unsuitable) } else { Ok(head) }
    }
}

/// A big-endian length or count field, and where it ends.
#[inline]
fn field(record: &[u8], at: usize, width: u8) -> Result<(u32, usize), Unsuitable> {
    let end_at = at + usize::from(width);
    let bytes = record.get(at..end_at).ok_or(Unsuitable)?;
    Ok((bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)), end_at))
}

/// Hash of the encoded key at `from..to`: SPEC §7.4.
#[inline]
fn key_hash(record: &[u8], from: usize, to: usize) -> u64 {
    let mut hash = (to - from) as u64;
    let mut at = from;
    while at < to {
        hash = mix(hash, word(record, at, to));
        at += 8;
    }
    hash
}

/// The little-endian word at `from`, zeros from `to` on.
#[inline]
fn word(record: &[u8], from: usize, to: usize) -> u64 {
    let rest = record.get(from..).unwrap_or_default();
    let len = to - from;
    match rest.first_chunk() {
        Some(&word) if len >= 8 => u64::from_le_bytes(word),
        Some(&word) => u64::from_le_bytes(word) & ((1 << (8 * len)) - 1),
        None => rest.iter().take(len).rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}
