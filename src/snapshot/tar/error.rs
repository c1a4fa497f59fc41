//! What can be wrong with a snapshot's tar.

use thiserror::Error;

/// Why an archive is not a whole Raft snapshot.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TarError {
    /// A tar header, or a PAX header's content, cannot be read: damage, or not a tar at all.
    #[error("bad tar header at byte {offset}: {reason}")]
    Header {
        /// Start of the block, in bytes from the start of the archive.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The fill after a member is not all zeros.
    #[error("bytes that are not zero in the padding at byte {offset} of the archive")]
    Padding {
        /// Start of the block, in bytes from the start of the archive.
        offset: u64,
    },
    /// Something follows the end of the archive.
    #[error("unexpected data after the end of the archive, at byte {offset}")]
    AfterEnd {
        /// Start of the block, in bytes from the start of the archive.
        offset: u64,
    },
    /// A file that no Raft snapshot holds.
    #[error("unexpected file {name:?} in the snapshot")]
    Unknown {
        /// Its name, made printable.
        name: String,
    },
    /// A member is there twice.
    #[error("{member} is in the archive twice")]
    Twice {
        /// The member.
        member: &'static str,
    },
    /// A small member is not small.
    #[error("{member} claims {len_bytes} bytes, too long for it")]
    TooLong {
        /// The member.
        member: &'static str,
        /// The length that its header claims.
        len_bytes: u64,
    },
    /// The archive breaks off.
    #[error("archive ends inside {place}")]
    Truncated {
        /// The member or the part of the frame.
        place: &'static str,
    },
    /// The archive breaks off between two members, or has only one of the two closing blocks.
    #[error("archive ends without its end marker")]
    NoEnd,
    /// A member is missing.
    #[error("{member} is missing from the archive")]
    Missing {
        /// The member.
        member: &'static str,
    },
    /// `SHA256SUMS` cannot be read, or does not cover the members.
    #[error("SHA256SUMS: {reason}")]
    Sums {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A member is not what `SHA256SUMS` says.
    #[error("{member}: sha256 differs from SHA256SUMS")]
    Hash {
        /// The member.
        member: &'static str,
    },
    /// `meta.json` cannot be read.
    #[error("meta.json cannot be read")]
    Meta(#[source] JsonFault),
    /// `meta.json` and `state.bin` disagree.
    #[error("state.bin has {state_len_bytes} bytes, meta.json says {meta_len_bytes}")]
    Size {
        /// Length of `state.bin`.
        state_len_bytes: u64,
        /// What `meta.json` says.
        meta_len_bytes: u64,
    },
    /// The walker was used after it had returned an error.
    #[error("the archive was already found to be bad")]
    Failed,
}

impl TarError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Failed => None,
            Self::Unknown { .. } => {
                Some("if it is no snapshot of Vault, Consul or Nomad, pass --raw to store it as it is")
            }
            _ => Some("the snapshot is incomplete or damaged: take it again, and look into the server's log"),
        }
    }
}

/// Where and why JSON could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct JsonFault(pub(super) String);
