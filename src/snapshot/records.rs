//! Record boundaries in `state.bin`.
//!
//! What the state holds is found out from its bytes alone, never from a name. Whatever is not as expected makes the rest
//! of the state opaque: then it has no records, and nothing is lost but sharing.

mod vault;

use super::msgpack::{Malformed, Scanner};
use vault::{Entry, EntryScanner};

/// Longer records are passed on in parts and never held as a whole: 1 MiB.
pub const RECORD_LEN_MAX: usize = 1 << 20;
/// A msgpack header longer than this is none. Consul's has about 13 bytes, Nomad's one.
const HEADER_LEN_MAX: usize = 4 << 10;
/// So much of the state is looked at to tell its form.
const DETECT_LEN: usize = 64;

/// How records follow each other in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Vault, OpenBao: a varint length, then a protobuf `StorageEntry`.
    Protobuf,
    /// Consul, Nomad: a msgpack header map, then a type byte and one msgpack value each.
    Msgpack(Service),
}

/// Whose msgpack it is, for display: judged by the header's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The header has `LastIndex`.
    Consul,
    /// The header is empty.
    Nomad,
    /// A header not seen yet.
    Unknown,
}

/// A stretch of the state. All of them, in order, are the whole of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'b> {
    /// Bytes outside records: the header, or a state that has none (any more).
    Opaque(&'b [u8]),
    /// One whole record.
    Record {
        /// How the records of this state follow each other.
        form: Form,
        /// Its bytes, for the taker to change as it likes.
        bytes: &'b mut [u8],
    },
    /// Part of a record longer than [`RECORD_LEN_MAX`].
    Part {
        /// How the records of this state follow each other.
        form: Form,
        /// The bytes; never empty.
        bytes: &'b [u8],
        /// The record begins with them.
        first: bool,
        /// The record ends with them.
        last: bool,
    },
}

/// Cuts a state into records.
#[derive(Debug)]
pub struct Splitter {
    state: State,
    form: Option<Form>,
    /// What has come of the current piece.
    begun: Vec<u8>,
    /// Bytes of the current record that were passed on as parts.
    long_len: u64,
    tally: Tally,
}

#[derive(Debug)]
enum State {
    Detecting,
    Header(Scanner),
    Msgpack(RecordScanner),
    Protobuf(EntryScanner),
    Opaque,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// A splitter at the beginning of a state.
    pub fn new() -> Self {
        Self { state: State::Detecting, form: None, begun: Vec::new(), long_len: 0, tally: Tally::default() }
    }

    /// The form of the state, as soon as it is known; it stays when the rest turns out opaque.
    pub fn form(&self) -> Option<Form> {
        self.form
    }

    /// The records that have ended.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes the next bytes of the state, in slices of any length, and hands on every piece that is complete.
    ///
    /// # Errors
    /// Those of `sink`; the splitter is of no use after that.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if matches!(self.state, State::Detecting) {
            let (start, rest) = bytes.split_at(bytes.len().min(DETECT_LEN - self.begun.len()));
            self.begun.extend_from_slice(start);
            if self.begun.len() < DETECT_LEN {
                return Ok(());
            }
            self.detect(sink)?;
            bytes = rest;
        }
        self.split(bytes, sink)
    }

    /// Ends the state: what is left over is opaque.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn finish<E>(mut self, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(Option<Form>, Tally), E> {
        if matches!(self.state, State::Detecting) {
            self.detect(sink)?;
        }
        self.give_up(&[], sink)?;
        Ok((self.form, self.tally))
    }

    /// Decides on what has come so far, and splits it.
    fn detect<E>(&mut self, sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let start = std::mem::take(&mut self.begun);
        self.state = if vault::begins_with_entry(&start) {
            self.form = Some(Form::Protobuf);
            State::Protobuf(EntryScanner::new())
        } else if matches!(start.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
            State::Header(Scanner::new())
        } else {
            State::Opaque
        };
        self.split(&start, sink)
    }

    fn split<E>(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            let end = match &mut self.state {
                State::Header(scanner) => scanner.push(bytes).ok(),
                State::Msgpack(scanner) => scanner.push(bytes).ok(),
                State::Protobuf(scanner) => scanner.push(bytes),
                State::Detecting | State::Opaque => None,
            };
            let Some(end) = end else {
                return self.give_up(bytes, sink);
            };
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if matches!(self.state, State::Header(_)) {
                self.header(part, end.is_some(), sink)?;
            } else {
                self.record(part, end.is_some(), sink)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn header<E>(
        &mut self,
        part: &[u8],
        ended: bool,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.begun.len() + part.len() > HEADER_LEN_MAX {
            return self.give_up(part, sink);
        }
        self.begun.extend_from_slice(part);
        if !ended {
            return Ok(());
        }
        self.form = Some(Form::Msgpack(service(&self.begun)));
        self.state = State::Msgpack(RecordScanner::new());
        sink(Piece::Opaque(&self.begun))?;
        self.begun.clear();
        Ok(())
    }

    fn record<E>(
        &mut self,
        part: &[u8],
        last: bool,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Only a state whose form is known has records.
        let Some(form) = self.form else { return self.give_up(part, sink) };
        let first = self.long_len == 0;
        if first && self.begun.len() + part.len() <= RECORD_LEN_MAX {
            self.begun.extend_from_slice(part);
            if last {
                if matches!(self.state, State::Protobuf(_)) && Entry::parse(&self.begun).is_none() {
                    return self.give_up(&[], sink);
                }
                self.tally.record(self.form, &self.begun, self.begun.len() as u64);
                sink(Piece::Record { form, bytes: &mut self.begun })?;
                self.begun.clear();
            }
            return Ok(());
        }
        self.long_len += (self.begun.len() + part.len()) as u64;
        if first {
            self.tally.begin_long(self.form, if self.begun.is_empty() { part } else { &self.begun });
        }
        if !self.begun.is_empty() {
            sink(Piece::Part { form, bytes: &self.begun, first, last: false })?;
            self.begun.clear();
            sink(Piece::Part { form, bytes: part, first: false, last })?;
        } else {
            sink(Piece::Part { form, bytes: part, first, last })?;
        }
        if last {
            self.tally.end_long(std::mem::take(&mut self.long_len));
        }
        Ok(())
    }

    /// Passes on what has come, `bytes` and everything after it as it is.
    fn give_up<E>(&mut self, bytes: &[u8], sink: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.state = State::Opaque;
        for rest in [&self.begun, bytes] {
            if !rest.is_empty() {
                self.tally.opaque_bytes += rest.len() as u64;
                sink(Piece::Opaque(rest))?;
            }
        }
        self.begun.clear();
        Ok(())
    }
}

/// The key of a whole Vault entry.
pub fn vault_key(record: &[u8]) -> Option<&[u8]> {
    Entry::parse_start(record).map(|entry| entry.key)
}

/// Judges a header map by its bytes.
fn service(header: &[u8]) -> Service {
    match header {
        [0x80] | [0xde, 0, 0] | [0xdf, 0, 0, 0, 0] => Service::Nomad,
        _ if header.windows(10).any(|window| window == b"\xa9LastIndex") => Service::Consul,
        _ => Service::Unknown,
    }
}

/// Finds the ends of msgpack records: a type byte and one value each.
#[derive(Debug, Default)]
pub struct RecordScanner {
    typed: bool,
    value: Scanner,
}

impl RecordScanner {
    /// A scanner that expects a type byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// No record has begun since the last one ended.
    pub fn is_between(&self) -> bool {
        !self.typed
    }

    /// As [`Scanner::push`], for a record.
    ///
    /// # Errors
    /// [`Malformed`]; the scanner is of no use after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let value_at = usize::from(!self.typed);
        let Some(value) = bytes.get(value_at..) else {
            return Ok(None);
        };
        self.typed = true;
        let end = self.value.push(value)?;
        self.typed = end.is_none();
        Ok(end.map(|end| value_at + end))
    }
}

/// Numbers of records, for statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records and their bytes by group.
    pub groups: std::collections::BTreeMap<Group, Count>,
    /// Bytes without records, the header not counted.
    pub opaque_bytes: u64,
    long: Option<Group>,
}

/// What records are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The type byte of a msgpack record.
    Type(u8),
    /// The first path element of the key of a Vault entry.
    Prefix(String),
    /// Vault entries with yet another first element, after [`PREFIXES_MAX`] different ones.
    Other,
}

/// Different first path elements that are counted apart.
pub const PREFIXES_MAX: usize = 64;

/// Records of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub records: u64,
    /// Their length together.
    pub bytes: u64,
}

impl Tally {
    /// All records.
    pub fn total(&self) -> Count {
        self.groups.values().fold(Count::default(), |sum, count| Count {
            records: sum.records + count.records,
            bytes: sum.bytes + count.bytes,
        })
    }

    fn record(&mut self, form: Option<Form>, start: &[u8], len: u64) {
        let group = match form {
            Some(Form::Protobuf) => self.prefix(start),
            Some(Form::Msgpack(_)) | None => Group::Type(start.first().copied().unwrap_or_default()),
        };
        self.add(group, len);
    }

    fn begin_long(&mut self, form: Option<Form>, start: &[u8]) {
        self.long = Some(match form {
            Some(Form::Protobuf) => self.prefix(start),
            Some(Form::Msgpack(_)) | None => Group::Type(start.first().copied().unwrap_or_default()),
        });
    }

    fn end_long(&mut self, len: u64) {
        if let Some(group) = self.long.take() {
            self.add(group, len);
        }
    }

    fn add(&mut self, group: Group, len: u64) {
        let count = self.groups.entry(group).or_default();
        count.records += 1;
        count.bytes += len;
    }

    fn prefix(&self, start: &[u8]) -> Group {
        let prefix = Entry::parse_start(start).and_then(|entry| entry.first_element().map(str::to_owned));
        match prefix.map(Group::Prefix) {
            Some(group) if self.groups.len() < PREFIXES_MAX || self.groups.contains_key(&group) => group,
            Some(_) | None => Group::Other,
        }
    }
}
