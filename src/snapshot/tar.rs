//! The tar inside a Raft snapshot, walked as it streams by.
//!
//! The archive is what raft-snapshot's `archive.go` writes: `meta.json`, `state.bin`, `SHA256SUMS` and, from Vault,
//! `SHA256SUMS.sealed`, each exactly once and nothing else. Any order is accepted. The walker changes nothing: it says of
//! every byte to which region it belongs, and at the end whether the archive is whole.

mod check;
mod error;
mod header;
mod pax;

use sha2::{Digest, Sha256};

pub use check::{RaftMeta, SnapshotSummary};
pub use error::TarError;

use super::printable::printable;
use header::{BLOCK_LEN_BYTES, Header, Kind};
use pax::Pax;

/// `meta.json`, `SHA256SUMS` and `SHA256SUMS.sealed` are shorter than this; the servers refuse longer ones too.
pub const SMALL_MEMBER_LEN_BYTES_LIMIT: u64 = 8192;

/// The longest PAX header that is read. Go's holds a few dozen bytes.
pub const PAX_LEN_BYTES_MAX: u64 = 64 * 1024;

/// The longest member that a tar header may claim: what Go's signed sizes hold.
const MEMBER_LEN_BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// The part of the archive that a byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Tar headers, padding, and the end of the archive.
    Frame,
    /// The content of `meta.json`.
    Meta,
    /// The content of `state.bin`.
    State,
    /// The content of `SHA256SUMS`.
    Sums,
    /// The content of `SHA256SUMS.sealed`.
    Sealed,
}

/// A member of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Meta,
    State,
    Sums,
    Sealed,
}

impl Member {
    const ALL: [Self; 4] = [Self::Meta, Self::State, Self::Sums, Self::Sealed];

    const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta.json",
            Self::State => "state.bin",
            Self::Sums => "SHA256SUMS",
            Self::Sealed => "SHA256SUMS.sealed",
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|member| member.name().as_bytes() == name)
    }

    const fn region(self) -> Region {
        match self {
            Self::Meta => Region::Meta,
            Self::State => Region::State,
            Self::Sums => Region::Sums,
            Self::Sealed => Region::Sealed,
        }
    }
}

/// A member whose content is kept.
#[derive(Debug, Default)]
struct Small {
    bytes: Option<Vec<u8>>,
}

/// Walks a Raft snapshot's tar, fed piece by piece.
#[derive(Debug)]
pub struct Walker {
    at: At,
    /// Bytes consumed so far.
    offset: u64,
    /// The PAX header that holds for the next member.
    pax: Option<Pax>,
    meta: Small,
    sums: Small,
    sealed: Small,
    state_len_bytes: Option<u64>,
    state_sha256: Sha256,
}

/// Where in the archive the walker stands.
#[derive(Debug)]
enum At {
    /// In a header block, or in the zero blocks at the end, of which `zero_blocks` are complete.
    Block { filled: Box<[u8; BLOCK_LEN_BYTES]>, filled_len: usize, zero_blocks: u64 },
    /// In the payload of a PAX header, with this many bytes to come.
    Pax { bytes: Vec<u8>, left_len_bytes: u64, padding_len_bytes: u64, global: bool },
    /// In a member's content.
    Body { member: Member, left_len_bytes: u64, padding_len_bytes: u64 },
    /// In the zeros that fill a block.
    Padding { left_len_bytes: u64 },
    /// An error has been returned.
    Failed,
}

impl At {
    fn block() -> Self {
        Self::zero_blocks(0)
    }

    fn zero_blocks(zero_blocks: u64) -> Self {
        Self::Block { filled: Box::new([0; BLOCK_LEN_BYTES]), filled_len: 0, zero_blocks }
    }

    fn padding(left_len_bytes: u64) -> Self {
        if left_len_bytes == 0 { Self::block() } else { Self::Padding { left_len_bytes } }
    }
}

impl Default for Walker {
    fn default() -> Self {
        Self::new()
    }
}

impl Walker {
    /// A walker at the start of an archive.
    pub fn new() -> Self {
        Self {
            at: At::block(),
            offset: 0,
            pax: None,
            meta: Small::default(),
            sums: Small::default(),
            sealed: Small::default(),
            state_len_bytes: None,
            state_sha256: Sha256::new(),
        }
    }

    /// Whether this head of a stream is that of a Raft snapshot's tar: a sound header with one of the known names.
    ///
    /// The head should hold 512 bytes or more; fewer are no tar. PAX headers in front are looked through as far as the head
    /// reaches; if it ends before a name is known, the answer is yes.
    pub fn looks_like_snapshot(head: &[u8]) -> bool {
        let mut rest = head;
        let mut pax_seen = false;
        loop {
            let Some((block, after)) = rest.split_first_chunk::<BLOCK_LEN_BYTES>() else {
                return pax_seen;
            };
            let Ok(header) = Header::parse(block) else {
                return false;
            };
            if header.kind == Kind::File {
                return Member::named(&header.name).is_some();
            }
            if header.len_bytes > PAX_LEN_BYTES_MAX {
                return false;
            }
            let payload_len = usize::try_from(header.len_bytes).unwrap_or(usize::MAX);
            let Some(payload) = after.get(..payload_len) else {
                return true;
            };
            match Pax::parse(payload) {
                Err(_) => return false,
                Ok(Pax { path: Some(path), .. }) => return Member::named(&path).is_some(),
                Ok(_) => pax_seen = true,
            }
            rest = after.get(payload_len.next_multiple_of(BLOCK_LEN_BYTES)..).unwrap_or_default();
        }
    }

    /// Takes the first bytes of `input`, all of one region: returns how many, and of which region.
    ///
    /// At least one byte is taken unless `input` is empty. How the archive is cut into inputs makes no difference.
    ///
    /// # Errors
    /// The archive is not a Raft snapshot's. The walker is of no use afterwards.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Region), TarError> {
        if input.is_empty() {
            return Ok((0, Region::Frame));
        }
        let at = std::mem::replace(&mut self.at, At::Failed);
        let (taken_len, region, at) = self.step(at, input)?;
        self.at = at;
        self.offset = self.offset.saturating_add(len_u64(taken_len));
        Ok((taken_len, region))
    }

    /// Length of `state.bin`, once its header has been read.
    pub fn state_len_bytes(&self) -> Option<u64> {
        self.state_len_bytes
    }

    /// Ends the archive and checks it as a whole: complete, every member there, hashes and sizes right.
    ///
    /// # Errors
    /// The first check that failed, naming the member.
    pub fn finish(self) -> Result<SnapshotSummary, TarError> {
        self.check_ended()?;
        let meta = self.meta.bytes.ok_or(TarError::Missing { member: Member::Meta.name() })?;
        let state_len_bytes = self.state_len_bytes.ok_or(TarError::Missing { member: Member::State.name() })?;
        let sums = self.sums.bytes.ok_or(TarError::Missing { member: Member::Sums.name() })?;
        let state_sha256 = self.state_sha256.finalize().into();
        check::check_sums(&sums, &Sha256::digest(&meta).into(), &state_sha256)?;
        let raft = check::check_meta(&meta, state_len_bytes)?;
        Ok(SnapshotSummary { raft, state_len_bytes, state_sha256, sealed: self.sealed.bytes.is_some() })
    }

    fn check_ended(&self) -> Result<(), TarError> {
        let place = match &self.at {
            At::Block { filled_len: 0, zero_blocks, .. } if *zero_blocks >= 2 => return Ok(()),
            At::Block { filled_len: 0, .. } => return Err(TarError::NoEnd),
            At::Block { zero_blocks: 0, .. } => "a tar header",
            At::Block { .. } => "its end marker",
            At::Pax { .. } => "a pax header",
            At::Body { member, .. } => member.name(),
            At::Padding { .. } => "the padding after a member",
            At::Failed => return Err(TarError::Failed),
        };
        Err(TarError::Truncated { place })
    }

    fn step(&mut self, at: At, input: &[u8]) -> Result<(usize, Region, At), TarError> {
        match at {
            At::Block { filled, filled_len, zero_blocks } => self.step_block(filled, filled_len, zero_blocks, input),
            At::Pax { bytes, left_len_bytes, padding_len_bytes, global } => {
                self.step_pax(bytes, left_len_bytes, padding_len_bytes, global, input)
            }
            At::Body { member, left_len_bytes, padding_len_bytes } => {
                Ok(self.step_body(member, left_len_bytes, padding_len_bytes, input))
            }
            At::Padding { left_len_bytes } => {
                let (part, left_len_bytes) = take(input, left_len_bytes);
                if part.iter().any(|byte| *byte != 0) {
                    return Err(TarError::Padding { offset: block_start(self.offset) });
                }
                Ok((part.len(), Region::Frame, At::padding(left_len_bytes)))
            }
            At::Failed => Err(TarError::Failed),
        }
    }

    fn step_block(
        &mut self,
        mut filled: Box<[u8; BLOCK_LEN_BYTES]>,
        filled_len: usize,
        zero_blocks: u64,
        input: &[u8],
    ) -> Result<(usize, Region, At), TarError> {
        let room = filled.get_mut(filled_len..).unwrap_or_default();
        let part = input.get(..room.len()).unwrap_or(input);
        for (to, from) in room.iter_mut().zip(part) {
            *to = *from;
        }
        // Past the first zero block only zeros may come: say so at once, whatever a block is still short of.
        if zero_blocks > 0 && part.iter().any(|byte| *byte != 0) {
            return Err(TarError::AfterEnd { offset: block_start(self.offset) });
        }
        let filled_len = filled_len.saturating_add(part.len());
        if filled_len < BLOCK_LEN_BYTES {
            return Ok((part.len(), Region::Frame, At::Block { filled, filled_len, zero_blocks }));
        }
        let at = if filled.iter().all(|byte| *byte == 0) {
            if self.pax.is_some() {
                return Err(self.header_error("a pax header with no member after it"));
            }
            At::zero_blocks(zero_blocks.saturating_add(1))
        } else {
            self.open_header(&filled)?
        };
        Ok((part.len(), Region::Frame, at))
    }

    fn step_pax(
        &mut self,
        mut bytes: Vec<u8>,
        left_len_bytes: u64,
        padding_len_bytes: u64,
        global: bool,
        input: &[u8],
    ) -> Result<(usize, Region, At), TarError> {
        let (part, left_len_bytes) = take(input, left_len_bytes);
        bytes.extend_from_slice(part);
        if left_len_bytes > 0 {
            return Ok((part.len(), Region::Frame, At::Pax { bytes, left_len_bytes, padding_len_bytes, global }));
        }
        let last = self.offset.saturating_add(len_u64(part.len())).saturating_sub(1);
        let error = |reason| TarError::Header { offset: block_start(last), reason };
        let pax = Pax::parse(&bytes).map_err(error)?;
        if !global {
            self.pax = Some(pax);
        } else if pax.path.is_some() || pax.len_bytes.is_some() {
            return Err(error("a global pax header that sets a path or a size"));
        }
        Ok((part.len(), Region::Frame, At::padding(padding_len_bytes)))
    }

    fn step_body(
        &mut self,
        member: Member,
        left_len_bytes: u64,
        padding_len_bytes: u64,
        input: &[u8],
    ) -> (usize, Region, At) {
        let (part, left_len_bytes) = take(input, left_len_bytes);
        match self.small(member) {
            None => self.state_sha256.update(part),
            Some(small) => small.bytes.get_or_insert_default().extend_from_slice(part),
        }
        let at = if left_len_bytes > 0 {
            At::Body { member, left_len_bytes, padding_len_bytes }
        } else {
            At::padding(padding_len_bytes)
        };
        (part.len(), member.region(), at)
    }

    /// A complete, non-zero header block: decides what comes after it.
    fn open_header(&mut self, block: &[u8; BLOCK_LEN_BYTES]) -> Result<At, TarError> {
        let header = Header::parse(block).map_err(|reason| self.header_error(reason))?;
        match header.kind {
            Kind::File => self.open_member(header),
            Kind::Pax | Kind::PaxGlobal => self.open_pax(&header),
        }
    }

    fn open_pax(&mut self, header: &Header) -> Result<At, TarError> {
        if self.pax.is_some() {
            return Err(self.header_error("two pax headers in front of one member"));
        }
        if header.len_bytes == 0 || header.len_bytes > PAX_LEN_BYTES_MAX {
            return Err(self.header_error("a pax header that is empty or too long"));
        }
        Ok(At::Pax {
            bytes: Vec::new(),
            left_len_bytes: header.len_bytes,
            padding_len_bytes: padding_len_bytes(header.len_bytes),
            global: header.kind == Kind::PaxGlobal,
        })
    }

    fn open_member(&mut self, header: Header) -> Result<At, TarError> {
        let pax = self.pax.take().unwrap_or_default();
        let name = pax.path.unwrap_or(header.name);
        let len_bytes = pax.len_bytes.unwrap_or(header.len_bytes);
        let member = Member::named(&name).ok_or_else(|| TarError::Unknown { name: printable(&name) })?;
        if len_bytes > MEMBER_LEN_BYTES_MAX {
            return Err(self.header_error("a size beyond 2^63"));
        }
        let seen = match self.small(member) {
            None => self.state_len_bytes.replace(len_bytes).is_some(),
            Some(_) if len_bytes >= SMALL_MEMBER_LEN_BYTES_LIMIT => {
                return Err(TarError::TooLong { member: member.name(), len_bytes });
            }
            Some(small) => small.bytes.replace(Vec::new()).is_some(),
        };
        if seen {
            return Err(TarError::Twice { member: member.name() });
        }
        if len_bytes == 0 {
            return Ok(At::block());
        }
        Ok(At::Body { member, left_len_bytes: len_bytes, padding_len_bytes: padding_len_bytes(len_bytes) })
    }

    /// Where the content of `member` is kept; none for `state.bin`.
    fn small(&mut self, member: Member) -> Option<&mut Small> {
        match member {
            Member::Meta => Some(&mut self.meta),
            Member::Sums => Some(&mut self.sums),
            Member::Sealed => Some(&mut self.sealed),
            Member::State => None,
        }
    }

    /// A fault of the block that contains the current offset.
    fn header_error(&self, reason: &'static str) -> TarError {
        TarError::Header { offset: block_start(self.offset), reason }
    }
}

/// Start of the block that holds this byte.
fn block_start(offset: u64) -> u64 {
    offset - offset % len_u64(BLOCK_LEN_BYTES)
}

/// Zeros that follow a content of this length.
fn padding_len_bytes(len_bytes: u64) -> u64 {
    let block = len_u64(BLOCK_LEN_BYTES);
    (block - len_bytes % block) % block
}

/// The first `left` bytes of `input`, or all of it; and what is left then.
fn take(input: &[u8], left_len_bytes: u64) -> (&[u8], u64) {
    let part = usize::try_from(left_len_bytes).ok().and_then(|left| input.get(..left)).unwrap_or(input);
    (part, left_len_bytes.saturating_sub(len_u64(part.len())))
}

/// A length in memory as a u64.
fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
