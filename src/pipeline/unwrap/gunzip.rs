//! Gzip, one member exactly: RFC 1952 around flate2's raw inflate.

use std::io::Read;
use std::thread::{self, JoinHandle};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::error::UnwrapError;
use super::source::Source;
use super::{GzipEncoder, GzipWrapping, INFLATED_LEN_BYTES_FREE, INFLATED_LEN_PER_COMPRESSED_MAX};
use crate::pipeline::go_deflate::{GO_GZIP_HEADER, made_by_go_to_126};

/// How much of the inflated head is looked at. PAX headers may come before the first name.
const INFLATED_HEAD_LEN_BYTES: usize = 16 * 1024;

/// A tar header: with this much, the head can be judged.
const JUDGED_LEN_BYTES: usize = 512;

/// How much of the deflate stream is compared with what Go would write: several of its blocks, whose borders, codes and
/// matches all have to agree.
const COMPARED_LEN_BYTES: usize = 256 * 1024;

/// With so much of the deflate stream the comparison also ends at [`COMPARED_PLAIN_LEN_BYTES`]: it runs at 20 to 50 MB/s, on
/// a thread of its own.
const COMPARED_LEN_BYTES_MIN: usize = 64 * 1024;
const COMPARED_PLAIN_LEN_BYTES: usize = 1024 * 1024;

/// And here at the latest. A block may stand for 4 MiB of plaintext, if that is all the same.
const COMPARED_PLAIN_LEN_BYTES_MAX: usize = 6 * 1024 * 1024;

const FLAG_HEADER_CRC: u8 = 0x02;
const FLAG_EXTRA: u8 = 0x04;
const FLAG_NAME: u8 = 0x08;
const FLAG_COMMENT: u8 = 0x10;
const FLAGS_RESERVED: u8 = 0xe0;

const CUT_OFF: &str = "it ends";
const CORRUPT: &str = "it is corrupt";

/// Whether this is gzip by its first two bytes, or may be if there is only one.
pub(super) fn has_magic(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b]) || head == [0x1f]
}

/// A gzip header that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct GzipHead {
    len: usize,
    /// Byte for byte what Go writes.
    by_go: bool,
}

impl GzipHead {
    /// Reads the header, which must lie within `head`; the error is the reason in words.
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let (fixed, mut rest) = head.split_first_chunk::<10>().ok_or(CUT_OFF)?;
        let [_, _, method, flags, ..] = *fixed;
        if method != 8 || flags & FLAGS_RESERVED != 0 {
            return Err(CORRUPT);
        }
        if flags & FLAG_EXTRA != 0 {
            let (extra_len, after) = rest.split_first_chunk::<2>().ok_or(CUT_OFF)?;
            rest = after.get(usize::from(u16::from_le_bytes(*extra_len))..).ok_or(CUT_OFF)?;
        }
        for flag in [FLAG_NAME, FLAG_COMMENT] {
            if flags & flag != 0 {
                let end = rest.iter().position(|byte| *byte == 0).ok_or(CUT_OFF)?;
                rest = rest.get(end.saturating_add(1)..).ok_or(CUT_OFF)?;
            }
        }
        if flags & FLAG_HEADER_CRC != 0 {
            let (claimed, after) = rest.split_first_chunk::<2>().ok_or(CUT_OFF)?;
            let mut crc = Crc::new();
            crc.update(head.get(..head.len().saturating_sub(rest.len())).unwrap_or_default());
            if crc.sum() & 0xffff != u32::from(u16::from_le_bytes(*claimed)) {
                return Err(CORRUPT);
            }
            rest = after;
        }
        Ok(Self { len: head.len().saturating_sub(rest.len()), by_go: *fixed == GO_GZIP_HEADER })
    }
}

/// Inflates the beginning: at least 512 bytes, or all that was compressed. The error is the reason in words.
pub(super) fn inflate_head(head: &[u8], gzip: &GzipHead) -> Result<Vec<u8>, &'static str> {
    let mut inflate = Decompress::new(false);
    let mut inflated = Vec::with_capacity(INFLATED_HEAD_LEN_BYTES);
    let deflated = head.get(gzip.len..).unwrap_or_default();
    let result = inflate.decompress_vec(deflated, &mut inflated, FlushDecompress::None);
    match result {
        _ if inflated.len() >= JUDGED_LEN_BYTES => Ok(inflated),
        Ok(Status::StreamEnd) => Ok(inflated),
        Ok(_) => Err(CUT_OFF),
        Err(_) => Err(CORRUPT),
    }
}

/// Inflates one gzip member.
pub(super) struct Gunzip {
    header_len: usize,
    header_consumed: bool,
    inflate: Decompress,
    crc: Crc,
    ended: bool,
    detector: Detector,
}

impl Gunzip {
    pub(super) fn new(head: GzipHead) -> Self {
        Self {
            header_len: head.len,
            header_consumed: false,
            inflate: Decompress::new(false),
            crc: Crc::new(),
            ended: false,
            detector: Detector::new(head.by_go),
        }
    }

    /// Inflates some; 0 at the end of the deflate stream, before the trailer.
    pub(super) fn read(&mut self, source: &mut Source<impl Read>, buf: &mut [u8]) -> Result<usize, UnwrapError> {
        if !self.header_consumed {
            source.consume(self.header_len);
            self.header_consumed = true;
        }
        while !self.ended {
            if source.available().is_empty() {
                source.fill()?;
            }
            let (consumed_len, len) = self.inflate(source, buf)?;
            if len > 0 {
                return Ok(len);
            }
            if consumed_len == 0 && source.available().is_empty() && !self.ended {
                return Err(truncated(source, "data"));
            }
        }
        Ok(0)
    }

    /// Inflates what is available into `buf`: how much was consumed, how much came out.
    fn inflate(&mut self, source: &mut Source<impl Read>, buf: &mut [u8]) -> Result<(usize, usize), UnwrapError> {
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let Ok(status) = self.inflate.decompress(source.available(), buf, FlushDecompress::None) else {
            return Err(UnwrapError::Corrupt { offset: source.offset(), tail: source.tail() });
        };
        let consumed_len = len_usize(self.inflate.total_in().saturating_sub(before_in));
        let len = len_usize(self.inflate.total_out().saturating_sub(before_out));
        let plain = buf.get(..len).unwrap_or_default();
        self.crc.update(plain);
        self.detector.push(source.available().get(..consumed_len).unwrap_or_default(), plain);
        source.consume(consumed_len);
        self.ended = status == Status::StreamEnd;
        self.check_bomb()?;
        Ok((consumed_len, len))
    }

    fn check_bomb(&self) -> Result<(), UnwrapError> {
        let compressed_len_bytes = self.inflate.total_in();
        let inflated_len_bytes_max = compressed_len_bytes
            .saturating_mul(INFLATED_LEN_PER_COMPRESSED_MAX)
            .saturating_add(INFLATED_LEN_BYTES_FREE);
        if self.inflate.total_out() > inflated_len_bytes_max {
            return Err(UnwrapError::Bomb { compressed_len_bytes, inflated_len_bytes_max });
        }
        Ok(())
    }

    /// Checks the trailer, and that nothing follows it.
    pub(super) fn finish(self, source: &mut Source<impl Read>) -> Result<GzipWrapping, UnwrapError> {
        let trailer = source.fill_to(8)?.first_chunk::<8>().copied();
        let Some([c0, c1, c2, c3, l0, l1, l2, l3]) = trailer else {
            return Err(truncated(source, "trailer"));
        };
        source.consume(8);
        if u32::from_le_bytes([c0, c1, c2, c3]) != self.crc.sum() {
            return Err(UnwrapError::Checksum);
        }
        if u64::from(u32::from_le_bytes([l0, l1, l2, l3])) != self.inflate.total_out() & 0xffff_ffff {
            return Err(UnwrapError::Length);
        }
        let after = source.fill_to(2)?;
        if has_magic(after) {
            return Err(UnwrapError::SecondMember);
        }
        if !after.is_empty() {
            return Err(UnwrapError::AfterEnd { tail: source.tail() });
        }
        Ok(GzipWrapping { encoder: self.detector.finish() })
    }
}

fn truncated(source: &mut Source<impl Read>, place: &'static str) -> UnwrapError {
    UnwrapError::Truncated { len_bytes: source.len_bytes(), place, tail: source.tail() }
}

/// Never more than one buffer's length.
fn len_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// Finds out what encoder was at work: keeps the beginning of the stream until there is enough to tell, then compares.
enum Detector {
    Collecting { deflated: Vec<u8>, plain: Vec<u8> },
    Comparing(JoinHandle<GzipEncoder>),
    Decided(GzipEncoder),
}

impl Detector {
    fn new(by_go: bool) -> Self {
        if by_go {
            Self::Collecting { deflated: Vec::new(), plain: Vec::new() }
        } else {
            Self::Decided(GzipEncoder::Unknown)
        }
    }

    fn push(&mut self, deflated_part: &[u8], plain_part: &[u8]) {
        let Self::Collecting { deflated, plain } = self else {
            return;
        };
        deflated.extend_from_slice(deflated_part);
        plain.extend_from_slice(plain_part);
        let several_blocks = deflated.len() >= COMPARED_LEN_BYTES
            || (deflated.len() >= COMPARED_LEN_BYTES_MIN && plain.len() >= COMPARED_PLAIN_LEN_BYTES);
        if several_blocks || plain.len() >= COMPARED_PLAIN_LEN_BYTES_MAX {
            deflated.truncate(COMPARED_LEN_BYTES);
            let (plain, deflated) = (std::mem::take(plain), std::mem::take(deflated));
            *self = Self::Comparing(thread::spawn(move || decide(&plain, &deflated, false)));
        }
    }

    fn finish(self) -> GzipEncoder {
        match self {
            Self::Collecting { deflated, plain } => decide(&plain, &deflated, true),
            // A panic in the comparison proves nothing about the encoder.
            Self::Comparing(thread) => thread.join().unwrap_or(GzipEncoder::Unknown),
            Self::Decided(encoder) => encoder,
        }
    }
}

fn decide(plain: &[u8], deflated: &[u8], complete: bool) -> GzipEncoder {
    if made_by_go_to_126(plain, deflated, complete) { GzipEncoder::GoTo126 } else { GzipEncoder::Unknown }
}
