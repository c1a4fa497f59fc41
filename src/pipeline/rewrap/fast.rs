//! A deflate stream made fast: segments that compress go through zlib-rs at level 1, the others into stored blocks.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

/// Each segment is judged and compressed by itself.
const SEGMENT_LEN_BYTES: usize = 256 * 1024;

/// A segment is judged by samples of this length, spread evenly over it.
const SAMPLE_LEN_BYTES: usize = 4 * 1024;

/// How many samples of a segment are taken.
const SAMPLES: usize = 3;

/// Segments whose samples shrink by less than an eighth are stored: level 1 runs at some 90 MB/s on them.
const SAVED_ONE_IN: usize = 8;

/// The most a stored block holds (RFC 1951, 3.2.4).
const STORED_LEN_BYTES_MAX: usize = 65_535;

/// An encoder for segments, with the rest that is not a whole segment yet.
pub(super) struct FastDeflate {
    compress: Compress,
    segment: Vec<u8>,
    sample: Vec<u8>,
    sample_deflated: Vec<u8>,
}

impl FastDeflate {
    pub(super) fn new() -> Self {
        Self {
            compress: Compress::new(Compression::fast(), false),
            segment: Vec::with_capacity(SEGMENT_LEN_BYTES),
            sample: Vec::new(),
            sample_deflated: Vec::new(),
        }
    }

    /// Takes plaintext; appends to `deflated` what comes out so far.
    pub(super) fn write(&mut self, mut plain: &[u8], deflated: &mut Vec<u8>) -> io::Result<()> {
        while !plain.is_empty() {
            let room_len = SEGMENT_LEN_BYTES.saturating_sub(self.segment.len()).min(plain.len());
            let (part, rest) = plain.split_at_checked(room_len).unwrap_or((plain, &[]));
            self.segment.extend_from_slice(part);
            plain = rest;
            if self.segment.len() == SEGMENT_LEN_BYTES {
                self.end_segment(deflated)?;
            }
        }
        Ok(())
    }

    /// Ends the stream with an empty final block.
    pub(super) fn finish(mut self, deflated: &mut Vec<u8>) -> io::Result<()> {
        self.end_segment(deflated)?;
        push_stored_block(&[], true, deflated);
        Ok(())
    }

    fn end_segment(&mut self, deflated: &mut Vec<u8>) -> io::Result<()> {
        if self.compresses()? {
            // Each segment starts with an empty window and ends on a whole byte, so stored blocks fit in between.
            push_compressed(&mut self.compress, &self.segment, deflated)?;
        } else {
            for block in self.segment.chunks(STORED_LEN_BYTES_MAX) {
                push_stored_block(block, false, deflated);
            }
        }
        self.segment.clear();
        Ok(())
    }

    fn compresses(&mut self) -> io::Result<bool> {
        let stride_len = self.segment.len().div_ceil(SAMPLES).max(SAMPLE_LEN_BYTES);
        self.sample.clear();
        for stretch in self.segment.chunks(stride_len) {
            let sample = stretch.get(..SAMPLE_LEN_BYTES).unwrap_or(stretch);
            self.sample.extend_from_slice(sample);
        }
        self.sample_deflated.clear();
        push_compressed(&mut self.compress, &self.sample, &mut self.sample_deflated)?;
        let worthwhile_len = self.sample.len() - self.sample.len() / SAVED_ONE_IN;
        Ok(self.sample_deflated.len() < worthwhile_len)
    }
}

/// Compresses `plain` by itself into whole bytes, without a final block.
fn push_compressed(compress: &mut Compress, plain: &[u8], deflated: &mut Vec<u8>) -> io::Result<()> {
    compress.reset();
    loop {
        // With spare room for the worst case plus the sync marker, one round is enough.
        deflated.reserve(plain.len() + plain.len() / 8 + 256);
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let status = compress
            .compress_vec(plain.get(done..).unwrap_or_default(), deflated, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        if status == Status::BufError || (done >= plain.len() && deflated.len() < deflated.capacity()) {
            return Ok(());
        }
    }
}

/// Appends one stored block, byte-aligned before and after.
fn push_stored_block(block: &[u8], last: bool, deflated: &mut Vec<u8>) {
    let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
    deflated.push(u8::from(last));
    deflated.extend_from_slice(&len.to_le_bytes());
    deflated.extend_from_slice(&(!len).to_le_bytes());
    deflated.extend_from_slice(block);
}
