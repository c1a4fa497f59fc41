//! The input: buffered, counted and hashed.

use std::io::{self, ErrorKind, Read};

use sha2::{Digest, Sha256};

use super::error::Tail;
use crate::snapshot::printable::{SHOWN_CHARS_MAX, is_text, printable};

/// How much of the input is looked at to tell what it is.
pub(super) const HEAD_LEN_BYTES: usize = 64 * 1024;

/// The read buffer. Small ones cost inflate its fast path.
const BUF_LEN_BYTES: usize = 256 * 1024;

/// How far to look for the text at the end of a broken input.
const TAIL_SEARCH_LEN_BYTES_MAX: u64 = 1024 * 1024;

/// Fewer printable bytes than this in a row are chance, not text.
const TAIL_LEN_BYTES_MIN: usize = 12;

/// The last bytes that were read, in which an error message is looked for.
const LAST_LEN_BYTES: usize = 512;

/// A reader that hashes all that it reads.
pub(super) struct Source<R> {
    input: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    len_bytes: u64,
    sha256: Sha256,
    last: Vec<u8>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buf: vec![0; BUF_LEN_BYTES],
            start: 0,
            end: 0,
            ended: false,
            len_bytes: 0,
            sha256: Sha256::new(),
            last: Vec::new(),
        }
    }

    /// What has been read and not yet been consumed.
    pub(super) fn available(&self) -> &[u8] {
        self.buf.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    /// How much of the input was read.
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// How much of the input was consumed.
    pub(super) fn offset(&self) -> u64 {
        let available_len = u64::try_from(self.available().len()).unwrap_or(u64::MAX);
        self.len_bytes.saturating_sub(available_len)
    }

    /// Reads once more if there is room. False at the end of the input.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        let room = self.buf.get_mut(self.end..).unwrap_or_default();
        if self.ended || room.is_empty() {
            return Ok(!self.ended);
        }
        let read_len = loop {
            match self.input.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let read = room.get(..read_len).unwrap_or_default();
        self.ended = read.is_empty();
        self.sha256.update(read);
        self.len_bytes = self.len_bytes.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
        self.last.extend_from_slice(read.get(read.len().saturating_sub(LAST_LEN_BYTES)..).unwrap_or_default());
        self.last.drain(..self.last.len().saturating_sub(LAST_LEN_BYTES));
        self.end = self.end.saturating_add(read.len());
        Ok(!self.ended)
    }

    /// Reads until `len` bytes are available, or all that there are.
    pub(super) fn fill_to(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.available().len() < len && self.fill()? {}
        Ok(self.available())
    }

    /// Reads into `buf`; 0 at the end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.available().is_empty() {
            self.fill()?;
        }
        let len = self.available().read(buf)?;
        self.consume(len);
        Ok(len)
    }

    /// The text at the end of the input, which is read on for that, within limits. Faults are passed over.
    pub(super) fn tail(&mut self) -> Tail {
        let searched_max = self.len_bytes.saturating_add(TAIL_SEARCH_LEN_BYTES_MAX);
        while !self.ended && self.len_bytes < searched_max {
            self.consume(usize::MAX);
            if self.fill().is_err() {
                return Tail(None);
            }
        }
        if !self.ended {
            return Tail(None);
        }
        let text_len = self.last.iter().rev().take_while(|byte| is_text(**byte)).count();
        let shown_len = text_len.min(SHOWN_CHARS_MAX);
        let text = self.last.get(self.last.len().saturating_sub(shown_len)..).unwrap_or_default();
        Tail((text.len() >= TAIL_LEN_BYTES_MIN).then(|| printable(text)))
    }

    /// Length and SHA-256 of all that was read.
    pub(super) fn finish(self) -> (u64, [u8; 32]) {
        (self.len_bytes, self.sha256.finalize().into())
    }
}
