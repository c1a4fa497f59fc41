//! Takes the wrapper off a snapshot: gzip bytes come in, the stream goes out, and the original is described so that it can
//! be made again.
//!
//! What comes in may break off anywhere, and servers append error text to a body they could not finish, so from the moment
//! on that the input is known to be a snapshot every oddity is an error.

mod error;
mod gunzip;
mod source;

use std::io::Read;

use crate::snapshot::printable::{is_text, printable};
use crate::snapshot::tar::Walker;

pub use error::UnwrapError;
use gunzip::{Gunzip, GzipHead};
use source::Source;

/// How much more than [`INFLATED_LEN_PER_COMPRESSED_MAX`] allows a snapshot may inflate to: small snapshots full of zeros
/// are no bombs.
pub const INFLATED_LEN_BYTES_FREE: u64 = 64 * 1024 * 1024;

/// How many inflated bytes each compressed byte may bring, beyond the free ones. Deflate's own limit is 1,032; real
/// snapshots stay below 10.
pub const INFLATED_LEN_PER_COMPRESSED_MAX: u64 = 200;

/// What the caller knows about the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It must be a Raft snapshot.
    Snapshot,
    /// It may be anything: a Raft snapshot is found by its content, all else is stored as it is.
    Any,
    /// It is stored as it is, whatever it is.
    Raw,
}

/// The input as it came, so that it can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// Length of all input bytes.
    pub original_len_bytes: u64,
    /// SHA-256 of all input bytes.
    pub original_sha256: [u8; 32],
    /// The gzip around the stream; none if the stream is the input.
    pub gzip: Option<GzipWrapping>,
}

/// A gzip wrapper that was taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GzipWrapping {
    /// What made it.
    pub encoder: GzipEncoder,
}

/// What compressed the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GzipEncoder {
    /// Go 1.15 to 1.26 at the default level, as far as it was compared: [`super::rewrap::Rewrap::GoTo126`] gives the same
    /// bytes again.
    GoTo126,
    /// Something else: only an equivalent gzip can be made.
    Unknown,
}

/// Reads a snapshot without its wrapper.
pub struct Unwrap<R> {
    source: Source<R>,
    body: Body,
    snapshot: bool,
}

enum Body {
    /// The stream is the input.
    Plain,
    Gzip(Box<Gunzip>),
    Ended(Option<GzipWrapping>),
    /// An error has been returned.
    Failed,
}

impl<R: Read> Unwrap<R> {
    /// Reads the head of the input and decides what it is. Reads up to 64 KiB before it returns.
    ///
    /// # Errors
    /// The input is empty, cannot be read, is not what was expected, or is a gzip too damaged to say.
    pub fn open(input: R, expect: Expect) -> Result<Self, UnwrapError> {
        let mut source = Source::new(input);
        let head = source.fill_to(source::HEAD_LEN_BYTES)?;
        if head.is_empty() {
            return Err(UnwrapError::Empty);
        }
        let (body, snapshot) = if expect == Expect::Raw { (Body::Plain, false) } else { judge(head)? };
        if expect == Expect::Snapshot && !snapshot {
            return Err(UnwrapError::NotASnapshot { seen: describe(head) });
        }
        Ok(Self { source, body, snapshot })
    }

    /// Whether the stream is the tar of a Raft snapshot, to judge by its head.
    pub fn is_snapshot(&self) -> bool {
        self.snapshot
    }

    /// Reads some of the stream; 0 is its end, which is only reached if the wrapper was whole.
    ///
    /// Large buffers (256 KiB) are fast.
    ///
    /// # Errors
    /// The input cannot be read, or its gzip is damaged, incomplete, a bomb, or followed by something.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, UnwrapError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let (len, body) = match std::mem::replace(&mut self.body, Body::Failed) {
            Body::Plain => match self.source.read(buf)? {
                0 => (0, Body::Ended(None)),
                len => (len, Body::Plain),
            },
            Body::Gzip(mut gunzip) => match gunzip.read(&mut self.source, buf)? {
                0 => (0, Body::Ended(Some(gunzip.finish(&mut self.source)?))),
                len => (len, Body::Gzip(gunzip)),
            },
            Body::Ended(gzip) => (0, Body::Ended(gzip)),
            Body::Failed => return Err(UnwrapError::Unfinished),
        };
        self.body = body;
        Ok(len)
    }

    /// Describes the original. The stream must have been read to its end.
    ///
    /// # Errors
    /// The end of the stream was not reached.
    pub fn finish(self) -> Result<Wrapping, UnwrapError> {
        let Body::Ended(gzip) = self.body else {
            return Err(UnwrapError::Unfinished);
        };
        let (original_len_bytes, original_sha256) = self.source.finish();
        Ok(Wrapping { original_len_bytes, original_sha256, gzip })
    }
}

/// Decides by the head how the input is read, and whether it is a snapshot.
fn judge(head: &[u8]) -> Result<(Body, bool), UnwrapError> {
    if !gunzip::has_magic(head) {
        return Ok((Body::Plain, Walker::looks_like_snapshot(head)));
    }
    let gzip = GzipHead::parse(head).map_err(|reason| UnwrapError::Unjudged { reason })?;
    let inflated = gunzip::inflate_head(head, &gzip).map_err(|reason| UnwrapError::Unjudged { reason })?;
    if Walker::looks_like_snapshot(&inflated) {
        Ok((Body::Gzip(Box::new(Gunzip::new(gzip))), true))
    } else {
        Ok((Body::Plain, false))
    }
}

/// What the head of something that is no snapshot looks like, in words.
fn describe(head: &[u8]) -> String {
    if gunzip::has_magic(head) {
        return "gzip of something else".to_owned();
    }
    let start = head.get(..1024).unwrap_or(head);
    if start.iter().all(|byte| is_text(*byte) || *byte >= 0x80) {
        return format!("text: {}", printable(start));
    }
    let bytes: Vec<String> = head.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("binary data: {}", bytes.join(" "))
}
