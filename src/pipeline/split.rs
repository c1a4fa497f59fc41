//! Cuts bytes into chunks at places that depend on their content: FastCDC (2020) with a secret gear table.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use hah_vault_format::limits::CHUNK_LEN_BYTES_MAX;

/// Mean chunk length of a stream that is not large, 2 KiB: decisions/003.
pub const MEAN_LEN_BYTES: u32 = 2 << 10;
/// Chunks that a stream should not exceed by much: bounds the memory of every writer (20 MB) and the manifest.
pub const CHUNKS_MAX: u64 = 1 << 19;
/// Bytes that are gathered before cutting; larger than the longest chunk.
const BUFFER_LEN_BYTES: usize = 2 << 20;

const _: () = assert!(BUFFER_LEN_BYTES > CHUNK_LEN_BYTES_MAX as usize);

/// The mean chunk length for a stream of this length: 2 KiB, doubled until the count is within [`CHUNKS_MAX`].
pub fn mean_for(stream_len_bytes: u64) -> u32 {
    let mut mean = MEAN_LEN_BYTES;
    while stream_len_bytes / u64::from(mean) > CHUNKS_MAX && mean < CHUNK_LEN_BYTES_MAX / 2 {
        mean *= 2;
    }
    mean
}

/// Whether a parent's mean still suits a stream of this length: kept so that chunks stay shared.
pub fn mean_fits(mean_len_bytes: u32, stream_len_bytes: u64) -> bool {
    let ideal = mean_for(stream_len_bytes);
    mean_len_bytes.is_power_of_two()
        && (ideal / 2..=ideal.saturating_mul(4)).contains(&mean_len_bytes)
        && mean_len_bytes >= MEAN_LEN_BYTES
}

/// FastCDC over pushed bytes.
pub struct Splitter {
    gear: Box<[u64; 256]>,
    gear_ls: Box<[u64; 256]>,
    mean_len_bytes: u32,
    chunks: u64,
    buffer: Vec<u8>,
}

impl Splitter {
    /// With a source's gear table and a mean that is a power of two from 2 KiB to 512 KiB.
    pub fn new(gear: &[u64; 256], mean_len_bytes: u32) -> Self {
        let gear_ls = Box::new(gear.map(|g| g << 1));
        let buffer = Vec::with_capacity(BUFFER_LEN_BYTES);
        Self { gear: Box::new(*gear), gear_ls, mean_len_bytes, chunks: 0, buffer }
    }

    /// The mean, as it stands in the manifest: before any growth.
    pub fn mean_len_bytes(&self) -> u32 {
        self.mean_len_bytes
    }

    /// Sets the mean once the length of what follows is known. Chunks already cut stay.
    pub fn set_mean(&mut self, mean_len_bytes: u32) {
        self.mean_len_bytes = mean_len_bytes;
    }

    /// The mean in force. A stream of unknown length that turns out to be large gets longer chunks as it goes on:
    /// from the 2^19th chunk on the mean is doubled, and four times that after each further 2^17 chunks, so that
    /// even the largest stream has less than 2^20.
    fn mean_now(&self) -> u32 {
        let over = self.chunks.saturating_sub(CHUNKS_MAX);
        if self.chunks < CHUNKS_MAX {
            return self.mean_len_bytes;
        }
        let doublings = 1 + 2 * u32::try_from(over / (CHUNKS_MAX / 4)).unwrap_or(10).min(10);
        self.mean_len_bytes.saturating_mul(1 << doublings).min(CHUNK_LEN_BYTES_MAX / 2)
    }

    /// Takes bytes; gives `sink` every chunk that is certain.
    ///
    /// # Errors
    /// Only the sink's.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            let room = BUFFER_LEN_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_LEN_BYTES {
                self.cut(false, sink)?;
            }
        }
        Ok(())
    }

    /// Ends a run of bytes: what is gathered is cut to its end.
    ///
    /// # Errors
    /// Only the sink's.
    pub fn flush<E>(&mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.cut(true, sink)
    }

    fn cut<E>(&mut self, end: bool, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        loop {
            let mean = self.mean_now() as usize;
            let max = (mean * 8).min(CHUNK_LEN_BYTES_MAX as usize);
            if rest.is_empty() || (!end && rest.len() < max) {
                break;
            }
            let (chunk, after) = rest.split_at(self.cut_point(rest, mean, max));
            sink(chunk)?;
            self.chunks += 1;
            rest = after;
        }
        let keep_from = buffer.len() - rest.len();
        self.buffer = buffer;
        self.buffer.drain(..keep_from);
        Ok(())
    }

    fn cut_point(&self, source: &[u8], mean: usize, max: usize) -> usize {
        let (mask_s, mask_l) = select_masks(mean, Normalization::Level1);
        let source = &source[..source.len().min(max)];
        let (gear, gear_ls) = (&self.gear[..], &self.gear_ls[..]);
        let (_, at) = cut_gear(source, mean / 4, mean, max, mask_s, mask_l, mask_s << 1, mask_l << 1, gear, gear_ls);
        at.clamp(1, source.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    fn gear(seed: u64) -> [u64; 256] {
        let bytes = noise(2048, seed);
        let mut gear = [0; 256];
        for (g, b) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *g = u64::from_le_bytes(*b);
        }
        gear
    }

    fn split(bytes: &[u8], pieces: &[usize], gear_seed: u64) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new(&gear(gear_seed), MEAN_LEN_BYTES);
        let mut chunks = Vec::new();
        let mut sink = |chunk: &[u8]| -> Result<(), Infallible> {
            chunks.push(chunk.to_vec());
            Ok(())
        };
        let mut rest = bytes;
        for piece in pieces.iter().cycle().take_while(|_| true) {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*piece).clamp(1, rest.len()));
            let Ok(()) = splitter.push(now, &mut sink);
            rest = later;
        }
        let Ok(()) = splitter.flush(&mut sink);
        chunks
    }

    #[test]
    fn the_mean_is_near_what_is_asked_for() {
        let chunks = split(&noise(8 << 20, 1), &[1 << 20], 1);
        let mean = (8 << 20) / chunks.len();
        assert!((1500..3000).contains(&mean), "{mean}");
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let old = noise(4 << 20, 2);
        let mut new = old.clone();
        new.splice(1_000_000..1_000_000, *b"inserted");
        let before: std::collections::HashSet<_> = split(&old, &[4 << 20], 1).into_iter().collect();
        let fresh = split(&new, &[4 << 20], 1).into_iter().filter(|c| !before.contains(c)).count();
        assert!(fresh <= 4, "{fresh}");
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = noise(1 << 20, 3);
        let lens = |seed| split(&bytes, &[1 << 20], seed).iter().map(Vec::len).collect::<Vec<_>>();
        assert_ne!(lens(1), lens(2));
    }

    #[test]
    fn the_number_of_chunks_is_bounded_for_any_length() {
        for (len, mean) in
            [(0, 2048), (1 << 30, 2048), ((1 << 30) + (1 << 21), 4096), (32 << 30, 65_536), (1 << 46, 524_288)]
        {
            assert_eq!(mean_for(len), mean, "{len}");
        }
        let mut splitter = Splitter::new(&gear(1), MEAN_LEN_BYTES);
        let mut total = 0u64;
        while total < 1 << 40 {
            total += u64::from(splitter.mean_now()) << 10;
            splitter.chunks += 1 << 10;
        }
        // 1 TiB of unknown length in advance.
        assert!(splitter.chunks < 4 << 20, "{}", splitter.chunks);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn chunks_make_up_the_input_however_it_is_pushed(
            len in 0usize..100_000, seed: u64, pieces in proptest::collection::vec(1usize..50_000, 1..6)
        ) {
            let bytes = noise(len, seed);
            let chunks = split(&bytes, &pieces, 1);
            prop_assert_eq!(chunks.concat(), bytes.clone());
            prop_assert_eq!(chunks, split(&bytes, &[usize::MAX], 1));
        }
    }
}
