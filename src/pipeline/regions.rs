//! Where in a stream the records in normal form are.

/// More regions than this are not kept: what comes after is stored as it is. A snapshot has one.
pub const REGIONS_MAX: usize = 1_024;

/// A stretch of the stream that is whole records in normal form, a type byte and one msgpack value each.
///
/// It may end within a record longer than [`RECORD_LEN_MAX`](crate::snapshot::records::RECORD_LEN_MAX). Everything outside
/// of regions is verbatim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins in the stream, in bytes.
    pub offset: u64,
    /// Its length in bytes; never 0.
    pub len: u64,
}

/// Collects the regions of a stream from its stretches in order.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    regions: Vec<Region>,
    offset: u64,
}

impl Regions {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the next stretch may be records: adjacent to the last region, or there is room for another one.
    pub fn has_room(&self) -> bool {
        self.regions.len() < REGIONS_MAX || self.regions.last().is_some_and(|last| self.is_next(last))
    }

    /// Adds the next `len` bytes: verbatim.
    pub fn verbatim(&mut self, len: u64) {
        self.offset += len;
    }

    /// Adds the next `len` bytes: records that the notes tell of.
    pub fn records(&mut self, len: u64) {
        let offset = self.offset;
        self.offset += len;
        match self.regions.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += len,
            _ if len > 0 => self.regions.push(Region { offset, len }),
            _ => {}
        }
    }

    /// The regions so far, ascending and not adjacent.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn is_next(&self, region: &Region) -> bool {
        region.offset + region.len == self.offset
    }
}
