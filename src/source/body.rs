//! A body on its way from the server: taken at the line's rate into a bounded memory, read by somebody who blocks.

use std::io::{self, Read};
use std::sync::Arc;

use base64::Engine as _;
use bytes::{Buf, Bytes};
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::error::{DigestFault, Operation, SourceError};
use super::http::Answer;

/// How far the server may be ahead of the reader, 8 MiB per source: the pipeline reads faster than most lines bring,
/// and what it makes waits elsewhere, sealed (archive/upload).
const AHEAD_LEN_BYTES_MAX: u32 = 8 << 20;
/// The most of a wrong answer that is looked at.
const SEEN_LEN_BYTES_MAX: usize = 4096;

/// Content types of an archive (facts 8); other tools call any bytes the last one.
const CONTENT_TYPES: [&str; 4] =
    ["application/gzip", "application/x-gzip", "application/octet-stream", "binary/octet-stream"];

enum Piece {
    Bytes(Bytes, OwnedSemaphorePermit),
    End,
    Failed(SourceError),
}

/// A snapshot's bytes. Blocks; dropping it stops the transfer.
pub struct Body {
    pieces: mpsc::Receiver<Piece>,
    current: Option<(Bytes, OwnedSemaphorePermit)>,
    expected: Option<(Hash, Expected)>,
    transfer: Stopper,
    ended: bool,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// Stops a transfer; its reader then gets [`SourceError::Stopped`].
#[derive(Debug, Clone)]
pub struct Stopper(AbortHandle);

impl Stopper {
    /// Stops it.
    pub fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.transfer.stop();
    }
}

/// A hash that is under way.
enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// What it must come to.
struct Expected {
    hash: Vec<u8>,
    mismatch: SourceError,
}

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hash) => hash.finalize().to_vec(),
            Self::Sha512(hash) => hash.finalize().to_vec(),
        }
    }
}

/// `sha-256=<standard base64, padded>`, or `sha-512=`.
fn parse_digest(header: &str) -> Option<(Hash, Vec<u8>)> {
    let (name, value) = header.split_once('=')?;
    let (hash, len) = match name {
        "sha-256" => (Hash::Sha256(Sha256::new()), 32),
        "sha-512" => (Hash::Sha512(Sha512::new()), 64),
        _ => return None,
    };
    let value = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    (value.len() == len).then_some((hash, value))
}

impl Body {
    /// Takes a snapshot from an answer of status 200, and warns of what is odd about it.
    pub(super) async fn open(
        answer: Answer,
        needs_digest: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, SourceError> {
        let answer = checked(answer).await?;
        let (service, address) = (answer.endpoint.service, answer.address());
        let digest = |reason| SourceError::Digest { service, address: address.clone(), reason };
        let expected = match answer.header("digest") {
            _ if !needs_digest => None,
            None => return Err(digest(DigestFault::Missing)),
            Some(header) => {
                let (hash, expected) = parse_digest(header).ok_or_else(|| digest(DigestFault::Unknown))?;
                Some((hash, Expected { hash: expected, mismatch: digest(DigestFault::Mismatch) }))
            }
        };
        let framed = answer.header("content-length").is_some()
            || answer.header("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
        if !framed {
            // Behind such a proxy a cut snapshot looks whole (facts 8): the archive's own checks have to find it.
            warnings.push(format!(
                "{service} at {address} does not say where the snapshot ends (an HTTP/1.0 proxy?): only the archive's \
                 own checks can tell a cut one"
            ));
        }
        Ok(Self::start(answer, expected))
    }

    fn start(answer: Answer, expected: Option<(Hash, Expected)>) -> Self {
        // Room for more pieces than the permits allow in practice: they are what bounds the memory.
        let (sender, pieces) = mpsc::channel(1024);
        let transfer = tokio::spawn(transfer(answer, sender));
        Self { pieces, current: None, expected, transfer: Stopper(transfer.abort_handle()), ended: false }
    }

    /// What stops it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.transfer.clone()
    }

    fn next(&mut self) -> io::Result<()> {
        match self.pieces.blocking_recv() {
            Some(Piece::Bytes(bytes, permit)) => {
                if let Some((hash, _)) = &mut self.expected {
                    hash.update(&bytes);
                }
                self.current = Some((bytes, permit));
                Ok(())
            }
            // An end that does not hold stays none: who reads on gets another error.
            Some(Piece::End) => match self.expected.take() {
                Some((hash, expected)) => {
                    self.ended = hash.finish() == expected.hash;
                    if self.ended { Ok(()) } else { Err(io::Error::other(expected.mismatch)) }
                }
                None => {
                    self.ended = true;
                    Ok(())
                }
            },
            Some(Piece::Failed(error)) => Err(io::Error::other(error)),
            None => Err(io::Error::other(SourceError::Stopped)),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((bytes, _)) = &mut self.current {
                let len = bytes.len().min(buf.len());
                bytes.copy_to_slice(&mut buf[..len]);
                if bytes.is_empty() {
                    self.current = None;
                }
                if len > 0 || buf.is_empty() {
                    return Ok(len);
                }
            } else if self.ended {
                return Ok(0);
            } else {
                self.next()?;
            }
        }
    }
}

/// Whether the answer can be a snapshot at all.
async fn checked(mut answer: Answer) -> Result<Answer, SourceError> {
    let content_type = answer.header("content-type").unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoding = answer.header("content-encoding").unwrap_or("identity").trim().to_ascii_lowercase();
    let what = if encoding != "identity" && !encoding.is_empty() {
        // We asked for identity. Undoing it would be possible, trusting it would not: whatever changed the body may
        // have cut it too.
        let encoding = answer.quote(encoding.as_bytes());
        format!("a body of Content-Encoding {encoding}, which was not asked for,")
    } else if !content_type.is_empty() && !CONTENT_TYPES.contains(&content_type.as_str()) {
        answer.quote(content_type.as_bytes())
    } else if answer.status != 200 {
        format!("status {}", answer.status)
    } else {
        return Ok(answer);
    };
    let seen = answer.start_of_body(SEEN_LEN_BYTES_MAX).await;
    let is_text = content_type.starts_with("text/") || content_type.ends_with("json");
    let seen = if is_text && encoding == "identity" { answer.quote(&seen) } else { String::new() };
    Err(SourceError::NotASnapshot { service: answer.endpoint.service, address: answer.address(), what, seen })
}

/// Moves pieces until the end, the first failure, or until nobody wants them.
async fn transfer(mut answer: Answer, pieces: mpsc::Sender<Piece>) {
    let room = Arc::new(Semaphore::new(AHEAD_LEN_BYTES_MAX as usize));
    let mut len_bytes: u64 = 0;
    loop {
        let piece = match next_chunk(&mut answer, len_bytes).await {
            Err(error) => Piece::Failed(error),
            Ok(None) => Piece::End,
            Ok(Some(bytes)) => {
                len_bytes += bytes.len() as u64;
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(AHEAD_LEN_BYTES_MAX);
                let Ok(permit) = Arc::clone(&room).acquire_many_owned(len).await else { return };
                Piece::Bytes(bytes, permit)
            }
        };
        let is_last = !matches!(piece, Piece::Bytes(..));
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

async fn next_chunk(answer: &mut Answer, len_bytes: u64) -> Result<Option<Bytes>, SourceError> {
    let patience = &answer.endpoint.patience;
    let (limit, phase) = match len_bytes {
        0 => (patience.first_byte, "before the snapshot's first byte"),
        _ => (patience.gap, "in the middle of the snapshot"),
    };
    let chunk = tokio::time::timeout(limit, answer.response.chunk()).await;
    let chunk = chunk.map_err(|_| answer.endpoint.silent(phase, limit))?;
    chunk.map_err(|error| SourceError::Broken {
        service: answer.endpoint.service,
        address: answer.address(),
        operation: Operation::Snapshot,
        len_bytes,
        reason: super::http::root_cause(&error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256_or_sha_512_in_padded_base64() {
        let nomads = "sha-256=RNJTDmR3AjBCTRpIsmn+Q0t9HbsAumbRMTqLfgvpXBs=";
        assert_eq!(parse_digest(nomads).map(|(_, value)| value.len()), Some(32));
        let long = format!("sha-512={}==", "A".repeat(86));
        assert_eq!(parse_digest(&long).map(|(_, value)| value.len()), Some(64));
        for odd in ["", "sha-256", "sha-256=", "md5=AAAA", "sha-256=RNJTDmR3", "SHA-256=!!", &nomads[..51]] {
            assert!(parse_digest(odd).is_none(), "{odd}");
        }
    }
}
