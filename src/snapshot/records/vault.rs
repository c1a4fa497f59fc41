//! Vault's entries: a varint length, then a protobuf `StorageEntry { 1: key, 2: value, 3: bool }`.

/// A longer entry is none. Vault's own limit is 1 MiB by default, and an operator's choice.
const ENTRY_LEN_MAX: u64 = u32::MAX as u64;
/// Tag of field 1, a length-delimited one.
const TAG_KEY: u8 = 0x0a;
const TAG_VALUE: u8 = 0x12;
const TAG_BOOL: u8 = 0x18;
/// Bytes of a varint up to [`ENTRY_LEN_MAX`].
const VARINT_LEN_MAX: usize = 5;

/// Reads a varint; gives its value and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().enumerate().take(VARINT_LEN_MAX) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Whether a state begins with an entry, as far as `start` shows it.
///
/// No msgpack state does: Consul's begins with 81 a9 and a letter, Nomad's with 80, a type and a value that is no bare 10.
pub(super) fn begins_with_entry(start: &[u8]) -> bool {
    let Some((len, body)) = varint(start) else {
        return false;
    };
    let [TAG_KEY, rest @ ..] = body else {
        return false;
    };
    let Some((key_len, key)) = varint(rest) else {
        return false;
    };
    let header_len = (body.len() - key.len()) as u64;
    let shown = key.get(..usize::try_from(key_len).unwrap_or(usize::MAX)).unwrap_or(key);
    key_len > 0 && header_len + key_len <= len && len <= ENTRY_LEN_MAX && is_text(shown)
}

/// UTF-8 without control characters; the last character may be cut off.
fn is_text(bytes: &[u8]) -> bool {
    let is_utf8 = std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && !bytes.iter().any(u8::is_ascii_control)
}

/// One whole entry, or the start of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'b> {
    pub(super) key: &'b [u8],
}

impl<'b> Entry<'b> {
    /// Parses a record: the length, and exactly the fields of an entry in order.
    pub(super) fn parse(record: &'b [u8]) -> Option<Self> {
        let (entry, rest) = Self::split_key(record)?;
        let rest = match rest {
            [TAG_VALUE, rest @ ..] => {
                let (len, rest) = varint(rest)?;
                rest.get(usize::try_from(len).ok()?..)?
            }
            _ => rest,
        };
        matches!(rest, [] | [TAG_BOOL, 0 | 1]).then_some(entry)
    }

    /// Parses as far as the key, which must be there as a whole.
    pub(super) fn parse_start(record: &'b [u8]) -> Option<Self> {
        Self::split_key(record).map(|(entry, _)| entry)
    }

    fn split_key(record: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let (_, body) = varint(record)?;
        let [TAG_KEY, rest @ ..] = body else {
            return None;
        };
        let (len, rest) = varint(rest)?;
        let (key, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        Some((Self { key }, rest))
    }

    /// `core` of `core/lock`.
    pub(super) fn first_element(&self) -> Option<&'b str> {
        let element = self.key.split(|&byte| byte == b'/').next()?;
        std::str::from_utf8(element).ok()
    }
}

/// Finds the ends of entries.
#[derive(Debug)]
pub(super) struct EntryScanner {
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the length, of which so many bytes have come.
    Length { value: u64, bytes: usize },
    /// Before the first byte of an entry of this length.
    Tag { len: u64 },
    /// So many bytes before the end.
    Body { left: u64 },
}

impl EntryScanner {
    pub(super) fn new() -> Self {
        Self { place: Place::Length { value: 0, bytes: 0 } }
    }

    /// As [`Scanner::push`](crate::snapshot::msgpack::Scanner::push); `None` for what is no entry.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Option<usize>> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.place {
                Place::Length { value, bytes } => {
                    at += 1;
                    self.place = length_byte(value, bytes, byte)?;
                }
                Place::Tag { len } => {
                    if byte != TAG_KEY {
                        return None;
                    }
                    self.place = Place::Body { left: len };
                }
                Place::Body { left } => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += step;
                    let left = left - step as u64;
                    self.place = Place::Body { left };
                    if left == 0 {
                        *self = Self::new();
                        return Some(Some(at));
                    }
                }
            }
        }
        Some(None)
    }
}

fn length_byte(value: u64, bytes: usize, byte: u8) -> Option<Place> {
    let value = value | u64::from(byte & 0x7f) << (7 * bytes);
    if byte & 0x80 != 0 {
        return (bytes + 1 < VARINT_LEN_MAX).then_some(Place::Length { value, bytes: bytes + 1 });
    }
    (value > 0 && value <= ENTRY_LEN_MAX).then_some(Place::Tag { len: value })
}
