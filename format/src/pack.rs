//! The plaintext of a pack object: exactly one zstd data frame, then exactly one skippable frame of zeros that
//! pads the whole to a PADMÉ length. Only the framing is looked at here; zstd itself is the caller's.

use crate::FormatError;
use crate::limits::{PACK_PLAINTEXT_LEN_BYTES_MAX, PACK_WINDOW_LOG_MAX};
use crate::padme::padded_len_bytes;

const WHAT: &str = "pack";
/// RFC 8878 §3.1.1: magic number of a data frame.
const DATA_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// RFC 8878 §3.1.2: the first of the magic numbers of skippable frames; the only one used.
const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
const SKIPPABLE_HEADER_LEN_BYTES: usize = 8;

/// Appends to `out` the padding frame that belongs behind a data frame of `frame_len_bytes`.
pub fn padding_frame(frame_len_bytes: u64, out: &mut Vec<u8>) {
    let unpadded = frame_len_bytes + SKIPPABLE_HEADER_LEN_BYTES as u64;
    let zeros = u32::try_from(padded_len_bytes(unpadded) - unpadded).unwrap_or(0);
    out.extend(SKIPPABLE_MAGIC);
    out.extend(zeros.to_le_bytes());
    out.resize(out.len() + zeros as usize, 0);
}

/// Checks the framing and gives the data frame, which declares exactly `plaintext_len_bytes`.
///
/// # Errors
/// [`FormatError`] for anything but: a data frame with the declared size, without dictionary, with a window of
/// at most 8 MiB; a skippable frame of zeros; a PADMÉ length in all.
pub fn unpad(bytes: &[u8], plaintext_len_bytes: u32) -> Result<&[u8], FormatError> {
    let len = data_frame_len(bytes, plaintext_len_bytes)?;
    let (frame, padding) = bytes.split_at_checked(len).ok_or_else(|| short(bytes, len))?;
    let (header, zeros) = padding.split_at_checked(SKIPPABLE_HEADER_LEN_BYTES).ok_or_else(|| short(bytes, len + 8))?;
    let declared = u32::try_from(zeros.len()).map(u32::to_le_bytes);
    let framed = header[..4] == SKIPPABLE_MAGIC && Ok(&header[4..]) == declared.as_ref().map(|d| &d[..]);
    let padded = padded_len_bytes((len + SKIPPABLE_HEADER_LEN_BYTES) as u64) == bytes.len() as u64;
    if framed && padded && zeros.iter().all(|b| *b == 0) { Ok(frame) } else { Err(FormatError::Padding { what: WHAT }) }
}

fn short(bytes: &[u8], needed: usize) -> FormatError {
    FormatError::Short { what: WHAT, needed: needed as u64, have: bytes.len() as u64 }
}

/// Length of the data frame at the start, from its header and block headers (RFC 8878 §3.1.1).
fn data_frame_len(bytes: &[u8], plaintext_len_bytes: u32) -> Result<usize, FormatError> {
    let header = FrameHeader::parse(bytes)?;
    if header.content_len_bytes != u64::from(plaintext_len_bytes) || plaintext_len_bytes > PACK_PLAINTEXT_LEN_BYTES_MAX
    {
        return Err(FormatError::Inconsistent { what: WHAT, reason: "its declared length is not the manifest's" });
    }
    let mut at = header.len_bytes;
    loop {
        let block = bytes.get(at..at + 3).ok_or_else(|| short(bytes, at + 3))?;
        let word = u32::from_le_bytes([block[0], block[1], block[2], 0]);
        let (last, kind, size) = (word & 1 == 1, word >> 1 & 3, (word >> 3) as usize);
        at += 3 + match kind {
            0 | 2 => size,
            1 => 1,
            _ => return Err(FormatError::Inconsistent { what: WHAT, reason: "a zstd block is of a reserved type" }),
        };
        if last {
            return Ok(at + if header.checksum { 4 } else { 0 });
        }
    }
}

struct FrameHeader {
    len_bytes: usize,
    content_len_bytes: u64,
    checksum: bool,
}

impl FrameHeader {
    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.get(..4).is_none_or(|magic| magic != DATA_MAGIC) {
            return Err(FormatError::Magic { what: WHAT });
        }
        let descriptor = *bytes.get(4).ok_or_else(|| short(bytes, 5))?;
        let single_segment = descriptor >> 5 & 1 == 1;
        let bad = |reason| Err(FormatError::Inconsistent { what: WHAT, reason });
        if descriptor & 3 != 0 {
            return bad("its zstd frame needs a dictionary");
        }
        if descriptor >> 3 & 1 != 0 {
            return bad("its zstd frame uses a reserved bit");
        }
        let size_at = if single_segment { 5 } else { 6 };
        if !single_segment {
            let window = *bytes.get(5).ok_or_else(|| short(bytes, 6))?;
            let log = 10 + u32::from(window >> 3);
            if log > PACK_WINDOW_LOG_MAX || log == PACK_WINDOW_LOG_MAX && window & 7 != 0 {
                return bad("its zstd window is larger than 8 MiB");
            }
        }
        let (size_len, offset) = match (descriptor >> 6, single_segment) {
            (0, false) => return bad("its zstd frame declares no size"),
            (0, true) => (1, 0),
            (1, _) => (2, 256),
            (2, _) => (4, 0),
            (_, _) => (8, 0),
        };
        let field = bytes.get(size_at..size_at + size_len).ok_or_else(|| short(bytes, size_at + size_len))?;
        let value = field.iter().rev().fold(0u64, |value, b| value << 8 | u64::from(*b));
        let content_len_bytes = value.saturating_add(offset);
        Ok(Self { len_bytes: size_at + size_len, content_len_bytes, checksum: descriptor >> 2 & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of one raw block, made by hand: single segment, 4-byte size.
    fn raw_frame(plaintext: &[u8]) -> Vec<u8> {
        let mut frame = DATA_MAGIC.to_vec();
        frame.push(2 << 6 | 1 << 5);
        frame.extend(u32::try_from(plaintext.len()).unwrap().to_le_bytes());
        let word = u32::try_from(plaintext.len()).unwrap() << 3 | 1;
        frame.extend(&word.to_le_bytes()[..3]);
        frame.extend(plaintext);
        frame
    }

    #[test]
    fn padded_frames_are_accepted_and_every_cut_is_refused() {
        let frame = raw_frame(&[7; 1000]);
        let mut padded = frame.clone();
        padding_frame(frame.len() as u64, &mut padded);
        assert_eq!(unpad(&padded, 1000), Ok(frame.as_slice()));
        for len in 0..padded.len() {
            assert!(unpad(&padded[..len], 1000).is_err(), "{len}");
        }
        assert!(unpad(&padded, 999).is_err());
        for extra in [1, 8, 24] {
            let mut longer = padded.clone();
            longer.resize(padded.len() + extra, 0);
            assert!(unpad(&longer, 1000).is_err());
        }
    }

    #[test]
    fn dictionaries_large_windows_and_second_frames_are_refused() {
        let with = |change: fn(&mut Vec<u8>)| {
            let mut frame = raw_frame(&[7; 100]);
            change(&mut frame);
            padding_frame(frame.len() as u64, &mut frame);
            unpad(&frame, 100).map(<[u8]>::len)
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|f| f[4] |= 1).is_err());
        assert!(with(|f| f[4] |= 8).is_err());
        assert!(with(|f| f[4] = 0).is_err());
        assert!(with(|f| f.extend(raw_frame(&[7; 100]))).is_err());
        let mut windowed = raw_frame(&[7; 100]);
        windowed[4] = 2 << 6;
        windowed.insert(5, 13 << 3);
        padding_frame(windowed.len() as u64, &mut windowed);
        assert!(unpad(&windowed, 100).is_ok());
        windowed[5] += 1;
        assert!(unpad(&windowed, 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes: Vec<u8>, len: u32) {
            let mut framed = DATA_MAGIC.to_vec();
            framed.extend(&bytes);
            let _ = unpad(&bytes, len);
            let _ = unpad(&framed, len);
        }
    }
}
