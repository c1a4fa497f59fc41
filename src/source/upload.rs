//! A body on its way to the server: written by somebody who blocks, sent by an async task.
//!
//! A writer that is dropped without [`BodyWriter::finish`] breaks the request off: the server never takes the part for
//! the whole.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::address::Address;
use super::http::{Answer, Endpoint, Request};
use super::settings::Patience;
use super::{SourceError, lock};

/// How much is sent at once.
const PIECE_LEN_BYTES: usize = 256 << 10;
/// Pieces that wait between the writer and the line.
const PIECES_WAITING_MAX: usize = 8;
/// How often the watch looks.
const WATCH_EVERY: Duration = Duration::from_millis(100);

enum Piece {
    Bytes(Bytes),
    End,
}

/// Takes the body of a restore. Blocks.
#[derive(Debug)]
pub struct BodyWriter {
    pieces: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::End) { "End" } else { "Bytes" })
    }
}

impl BodyWriter {
    /// Ends the body: everything was written, and is what it should be.
    ///
    /// # Errors
    /// Nobody takes it any more: [`Restoring::wait`] says why.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Piece::End)
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        self.pieces.blocking_send(piece).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_LEN_BYTES.saturating_sub(self.buffer.len());
        let taken = &bytes[..bytes.len().min(room)];
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= PIECE_LEN_BYTES {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_LEN_BYTES));
        self.send(Piece::Bytes(piece.into()))
    }
}

/// A restore on its way.
#[derive(Debug)]
pub struct Restoring {
    address: Address,
    task: JoinHandle<Result<(), SourceError>>,
}

impl Restoring {
    /// The server that takes it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for the server's answer. Vault gives it before it applies anything.
    ///
    /// # Errors
    /// Why the server did not take it; where the writer failed too, this is the cause.
    pub async fn wait(self) -> Result<(), SourceError> {
        self.task.await.unwrap_or(Err(SourceError::Stopped))
    }
}

/// The line's end of the channel, and how it goes.
struct Line {
    pieces: Mutex<mpsc::Receiver<Piece>>,
    last_taken: Mutex<Instant>,
    /// The line waits for the writer, not for the server.
    starving: AtomicBool,
    ended: AtomicBool,
}

impl Line {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ended.load(Ordering::Relaxed) {
            return Poll::Ready(None);
        }
        self.starving.store(true, Ordering::Relaxed);
        let piece = ready!(lock(&self.pieces).poll_recv(context));
        self.starving.store(false, Ordering::Relaxed);
        *lock(&self.last_taken) = Instant::now();
        Poll::Ready(match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => {
                self.ended.store(true, Ordering::Relaxed);
                None
            }
            None => Some(Err(io::Error::other("the body was broken off"))),
        })
    }

    /// Returns when the server has neither taken nor answered anything for too long.
    async fn watch(&self, patience: &Patience) -> (&'static str, Duration) {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let (phase, limit) = match self.ended.load(Ordering::Relaxed) {
                true => ("after the whole snapshot was sent", patience.first_byte),
                false => ("in the middle of the restore", patience.gap),
            };
            if !self.starving.load(Ordering::Relaxed) && lock(&self.last_taken).elapsed() > limit {
                return (phase, limit);
            }
        }
    }
}

/// Begins to send a body.
pub(super) fn begin(endpoint: &Endpoint, request: &Request<'_>) -> Result<(BodyWriter, Restoring), SourceError> {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let line = Arc::new(Line {
        pieces: Mutex::new(receiver),
        last_taken: Mutex::new(Instant::now()),
        starving: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    let for_body = Arc::clone(&line);
    let body = futures::stream::poll_fn(move |context| for_body.poll(context));
    let sending = endpoint
        .prepared(request)?
        .header(http::header::CONTENT_TYPE, "application/octet-stream")
        .body(reqwest::Body::wrap_stream(body))
        .send();
    // What an answer needs of the request outlives it.
    let (endpoint, operation) = (endpoint.clone(), request.operation);
    let headers: Vec<_> = request.headers.to_vec();
    let address = endpoint.address.clone();
    let task = tokio::spawn(async move {
        let outcome = tokio::select! {
            response = sending => response.map_err(|error| endpoint.failed(&error, operation)),
            (phase, limit) = line.watch(&endpoint.patience) => Err(endpoint.silent(phase, limit)),
        };
        let outcome = match outcome {
            Ok(response) => judged(endpoint.answered(operation, &headers, response), &line).await,
            Err(error) => Err(error),
        };
        // A writer that still waits for room must not wait for ever.
        lock(&line.pieces).close();
        outcome
    });
    Ok((BodyWriter { pieces: sender, buffer: Vec::new() }, Restoring { address, task }))
}

async fn judged(answer: Answer, line: &Line) -> Result<(), SourceError> {
    let (service, address) = (answer.endpoint.service, answer.address());
    if answer.is_redirect() {
        let to = answer.header("location").and_then(|to| Address::from_location(to, "").ok());
        let to = to.map_or_else(|| "nowhere".into(), |to| to.to_string());
        let reason = "the leader has changed in the meantime";
        return Err(SourceError::Redirect { service, address, to, reason });
    }
    if !answer.is_success() {
        return Err(answer.refused().await);
    }
    if !line.ended.load(Ordering::Relaxed) {
        let (operation, reason) = (answer.operation, "it says yes before it has got everything".into());
        return Err(SourceError::Nonsense { service, address, operation, reason });
    }
    Ok(())
}
