//! Puts a gzip wrapper back around a stream: the very bytes that Go made, or any gzip, fast.

mod fast;

use std::io::{self, Write};

use flate2::Crc;
use sha2::{Digest, Sha256};

use super::go_deflate::{GO_GZIP_HEADER, GoDeflate};
use fast::FastDeflate;

/// How much output is gathered before it is written.
const BUF_LEN_BYTES: usize = 256 * 1024;

/// Which wrapper to put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrap {
    /// What Go 1.15 to 1.26 writes at the default level, byte for byte. 20 to 50 MB/s of stream.
    GoTo126,
    /// Some valid gzip, made fast: data that does not compress is stored.
    Fast,
    /// None: the stream as it is.
    None,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// Length of the output.
    pub len_bytes: u64,
    /// SHA-256 of the output.
    pub sha256: [u8; 32],
}

/// Writes a stream with its wrapper to `W`.
pub struct Rewrapper<W> {
    out: Out<W>,
    body: Body,
    crc: Crc,
    /// Length of the stream so far, as gzip counts it: modulo 2^32.
    stream_len_bytes: u32,
}

enum Body {
    GoTo126(GoDeflate),
    Fast(FastDeflate),
    Plain,
}

impl<W: Write> Rewrapper<W> {
    /// A wrapper around nothing yet; writes nothing yet.
    pub fn new(out: W, mode: Rewrap) -> Self {
        let body = match mode {
            Rewrap::GoTo126 => Body::GoTo126(GoDeflate::new()),
            Rewrap::Fast => Body::Fast(FastDeflate::new()),
            Rewrap::None => Body::Plain,
        };
        let mut out = Out { inner: out, buf: Vec::with_capacity(BUF_LEN_BYTES), len_bytes: 0, sha256: Sha256::new() };
        if mode != Rewrap::None {
            out.buf.extend_from_slice(&GO_GZIP_HEADER);
        }
        Self { out, body, crc: Crc::new(), stream_len_bytes: 0 }
    }

    /// Takes the next bytes of the stream, however many.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Pieces keep the buffers small, whatever the caller hands over.
        for piece in bytes.chunks(BUF_LEN_BYTES) {
            match &mut self.body {
                Body::GoTo126(deflate) => deflate.write(piece, &mut self.out.buf)?,
                Body::Fast(deflate) => deflate.write(piece, &mut self.out.buf)?,
                Body::Plain => self.out.buf.extend_from_slice(piece),
            }
            if !matches!(self.body, Body::Plain) {
                self.crc.update(piece);
                let piece_len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                self.stream_len_bytes = self.stream_len_bytes.wrapping_add(piece_len);
            }
            if self.out.buf.len() >= BUF_LEN_BYTES {
                self.out.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the wrapper and writes all that is left; `W` itself is not flushed.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> io::Result<(W, Rewrapped)> {
        let wrapped = match self.body {
            Body::GoTo126(deflate) => {
                deflate.finish(&mut self.out.buf)?;
                true
            }
            Body::Fast(deflate) => {
                deflate.finish(&mut self.out.buf)?;
                true
            }
            Body::Plain => false,
        };
        if wrapped {
            self.out.buf.extend_from_slice(&self.crc.sum().to_le_bytes());
            self.out.buf.extend_from_slice(&self.stream_len_bytes.to_le_bytes());
        }
        self.out.flush()?;
        let Out { inner, len_bytes, sha256, .. } = self.out;
        Ok((inner, Rewrapped { len_bytes, sha256: sha256.finalize().into() }))
    }
}

/// The output: gathered, counted and hashed.
struct Out<W> {
    inner: W,
    buf: Vec<u8>,
    len_bytes: u64,
    sha256: Sha256,
}

impl<W: Write> Out<W> {
    fn flush(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.buf)?;
        self.sha256.update(&self.buf);
        self.len_bytes = self.len_bytes.saturating_add(u64::try_from(self.buf.len()).unwrap_or(u64::MAX));
        self.buf.clear();
        Ok(())
    }
}
