//! One tar header block: ustar and GNU, with sizes in octal or base 256.

use std::ops::Range;

/// Length of a tar block.
pub(super) const BLOCK_LEN_BYTES: usize = 512;

const NAME: Range<usize> = 0..100;
const LEN: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;

const USTAR: &[u8] = b"ustar\x0000";
const GNU: &[u8] = b"ustar  \0";

/// What a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A PAX header for the next member.
    Pax,
    /// A PAX header for all members that follow.
    PaxGlobal,
}

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// As claimed; not compared with any limit yet.
    pub(super) len_bytes: u64,
}

impl Header {
    /// Reads a block that is not all zeros; the error is the reason in words.
    pub(super) fn parse(block: &[u8; BLOCK_LEN_BYTES]) -> Result<Self, &'static str> {
        let claimed = octal(field(block, CHECKSUM)).ok_or("the checksum is no number")?;
        if claimed != checksum(block) {
            return Err("the checksum is wrong");
        }
        let magic = field(block, MAGIC);
        if magic != USTAR && magic != GNU {
            return Err("neither ustar nor gnu");
        }
        let kind = match block.get(KIND) {
            Some(b'0' | 0) => Kind::File,
            Some(b'x') => Kind::Pax,
            Some(b'g') => Kind::PaxGlobal,
            Some(b'L' | b'K') => return Err("gnu long names do not occur in snapshots"),
            _ => return Err("an entry that is no plain file"),
        };
        if magic == USTAR && until_nul(field(block, PREFIX)) != b"" {
            return Err("a name with a path prefix");
        }
        let len_bytes = number(field(block, LEN)).ok_or("the size is no number")?;
        Ok(Self { name: until_nul(field(block, NAME)).to_vec(), kind, len_bytes })
    }
}

fn field(block: &[u8; BLOCK_LEN_BYTES], range: Range<usize>) -> &[u8] {
    block.get(range).unwrap_or_default()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sum of all bytes, those of the checksum itself counted as spaces.
fn checksum(block: &[u8; BLOCK_LEN_BYTES]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let spaces = u64::from(b' ') * 8;
    sum(block) - sum(field(block, CHECKSUM)) + spaces
}

/// Octal digits, then only spaces and zeros; spaces in front are allowed.
fn octal(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.trim_ascii_start();
    let digits_len = bytes.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, rest) = bytes.split_at_checked(digits_len)?;
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| value.checked_mul(8)?.checked_add(u64::from(digit - b'0')))
}

/// Octal, or GNU's base 256: the first bit set, then a big-endian number, here never a negative one.
fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            if *first != 0x80 {
                return None;
            }
            rest.iter().try_fold(0u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)))
        }
        _ => octal(bytes),
    }
}
