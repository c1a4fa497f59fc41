//! Go's `compress/flate` at the default level, as Go 1.15 to 1.26 wrote it: `ggstd`'s port, made to be pushed.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ggstd::compress::flate::{DEFAULT_COMPRESSION, Writer};

/// The gzip header that Go's `gzip.NewWriter` writes: no name, no time, no extra flags, unknown system.
pub(super) const GO_GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Deflate's window, by which Go's encoder moves on in its buffer of two.
///
/// Go's output depends, if rarely, on how its input was cut: a write that ends within the last 261 bytes of the buffer can
/// make it move on one byte earlier, and then it misses a match at the far end of the window. Writes of whole windows never
/// end there, as the 32 KiB copies of `io.Copy` after the tar's 1,536 bytes of headers do not.
const WINDOW_LEN_BYTES: usize = 32 * 1024;

/// What goes between the caller and the encoder.
#[derive(Default)]
struct Pipe {
    plain: Vec<u8>,
    plain_ended: bool,
    deflated: Vec<u8>,
}

/// An encoder that owns what it writes to.
///
/// `ggstd`'s `Writer` borrows its output, so it cannot live in a struct beside it. An async block can hold both: it is
/// polled by hand whenever there is input, and never waits for anything else. How the input is cut makes no difference.
pub(super) struct GoDeflate {
    pipe: Arc<Mutex<Pipe>>,
    encoder: Pin<Box<dyn Future<Output = io::Result<()>> + Send>>,
}

impl GoDeflate {
    /// An encoder at the start of a stream.
    pub(super) fn new() -> Self {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        Self { encoder: Box::pin(encode(Arc::clone(&pipe))), pipe }
    }

    /// Takes plaintext; appends to `deflated` what comes out so far.
    pub(super) fn write(&mut self, plain: &[u8], deflated: &mut Vec<u8>) -> io::Result<()> {
        lock(&self.pipe).plain.extend_from_slice(plain);
        match self.poll(deflated) {
            Poll::Pending => Ok(()),
            Poll::Ready(result) => result,
        }
    }

    /// Ends the stream; appends to `deflated` what is left.
    pub(super) fn finish(mut self, deflated: &mut Vec<u8>) -> io::Result<()> {
        lock(&self.pipe).plain_ended = true;
        match self.poll(deflated) {
            Poll::Pending => Err(io::Error::other("the encoder did not end")),
            Poll::Ready(result) => result,
        }
    }

    fn poll(&mut self, deflated: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let poll = self.encoder.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        deflated.append(&mut lock(&self.pipe).deflated);
        poll
    }
}

async fn encode(pipe: Arc<Mutex<Pipe>>) -> io::Result<()> {
    let mut sink = Sink(Arc::clone(&pipe));
    let mut writer = Writer::new(&mut sink, DEFAULT_COMPRESSION)?;
    let mut plain = Vec::new();
    loop {
        let ended = std::future::poll_fn(|_| next_input(&pipe, &mut plain)).await;
        writer.write_all(&plain)?;
        if ended {
            return writer.close();
        }
    }
}

/// Moves waiting input into `plain`, in whole windows until the end; says whether it is the last.
fn next_input(pipe: &Mutex<Pipe>, plain: &mut Vec<u8>) -> Poll<bool> {
    plain.clear();
    let mut pipe = lock(pipe);
    let rest_len = if pipe.plain_ended { 0 } else { pipe.plain.len() % WINDOW_LEN_BYTES };
    let whole_len = pipe.plain.len() - rest_len;
    if whole_len == 0 && !pipe.plain_ended {
        return Poll::Pending;
    }
    plain.extend(pipe.plain.drain(..whole_len));
    Poll::Ready(pipe.plain_ended)
}

/// Takes the encoder's output. It must take all it is given: `ggstd` drops what a short write leaves.
struct Sink(Arc<Mutex<Pipe>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).deflated.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether Go up to 1.26 makes exactly this deflate stream of this plaintext.
///
/// With `complete`, both are whole; otherwise both are beginnings, and what both have is compared.
pub(super) fn made_by_go_to_126(plain: &[u8], deflated: &[u8], complete: bool) -> bool {
    let mut sink = Compare { expected: deflated, equal: true };
    let Ok(mut writer) = Writer::new(&mut sink, DEFAULT_COMPRESSION) else {
        return false;
    };
    // The comparison ends the writing by an error: at the first difference, or when nothing is left to compare.
    let written = writer.write_all(plain).and_then(|()| if complete { writer.close() } else { Ok(()) });
    sink.equal && (!complete || (written.is_ok() && sink.expected.is_empty()))
}

/// Compares what it is given, and keeps nothing.
struct Compare<'a> {
    expected: &'a [u8],
    equal: bool,
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let common_len = bytes.len().min(self.expected.len());
        let (expected, rest) = self.expected.split_at_checked(common_len).unwrap_or_default();
        self.equal &= bytes.starts_with(expected);
        self.expected = rest;
        if self.equal && common_len == bytes.len() {
            Ok(bytes.len())
        } else {
            Err(io::Error::other("nothing more to compare"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
