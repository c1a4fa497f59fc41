//! Why a wrapper could not be taken off.

use std::io;

use thiserror::Error;

/// Why a wrapper could not be taken off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// There is nothing: servers and tools leave empty files behind when they fail.
    #[error("the input is empty")]
    Empty,
    /// The input could not be read.
    #[error("cannot read the input")]
    Read(#[from] io::Error),
    /// A snapshot was expected; often this is the error page of a server or proxy.
    #[error("the input is not a Raft snapshot but {seen}")]
    NotASnapshot {
        /// What it is instead, printable, cut to 200 characters.
        seen: String,
    },
    /// Gzip, but too short or too damaged to say what is in it.
    #[error("the input starts like gzip, but {reason} before its content could be told")]
    Unjudged {
        /// What is wrong.
        reason: &'static str,
    },
    /// The input ends inside the gzip: the connection broke, or the server gave up.
    #[error("the gzip is cut off after {len_bytes} bytes, inside its {place}{tail}")]
    Truncated {
        /// Length of the input.
        len_bytes: u64,
        /// Which part of the gzip.
        place: &'static str,
        /// Text at the end of the input.
        tail: Tail,
    },
    /// The compressed data makes no sense: damage, or error text in the middle of it.
    #[error("the gzip is corrupt near byte {offset}{tail}")]
    Corrupt {
        /// Near which byte of the input.
        offset: u64,
        /// Text at the end of the input.
        tail: Tail,
    },
    /// The content is not what was compressed.
    #[error("the gzip's checksum does not match its content")]
    Checksum,
    /// The content has another length than what was compressed.
    #[error("the gzip's length does not match its content")]
    Length,
    /// Something follows the gzip: servers that fail late write their error there.
    #[error("unexpected data after the end of the gzip{tail}")]
    AfterEnd {
        /// Text at the end of the input.
        tail: Tail,
    },
    /// Two gzips, one after the other: two snapshots in one file.
    #[error("a second gzip follows the first")]
    SecondMember,
    /// It inflates to more than any snapshot would.
    #[error("{compressed_len_bytes} compressed bytes inflate to more than {inflated_len_bytes_max}")]
    Bomb {
        /// Compressed bytes read so far.
        compressed_len_bytes: u64,
        /// How much they may inflate to.
        inflated_len_bytes_max: u64,
    },
    /// The end of the stream was not reached, or an error was passed over.
    #[error("the stream was not read to its end")]
    Unfinished,
}

impl UnwrapError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("the server or the tool before this one has failed: look for its error"),
            Self::Unjudged { .. } => Some("if it is no snapshot, pass --raw to store it as it is"),
            Self::NotASnapshot { .. } => Some("check address, token and path; for other files pass --raw"),
            Self::Truncated { .. } | Self::Corrupt { .. } | Self::AfterEnd { .. } | Self::Checksum | Self::Length => {
                Some("the snapshot is incomplete or damaged: take it again, and look into the server's log")
            }
            Self::SecondMember => Some("store the files one by one"),
            Self::Bomb { .. } => Some("pass --raw to store the file as it is"),
            Self::Read(_) | Self::Unfinished => None,
        }
    }
}

/// Text found at the end of the input, printable, cut to 200 characters; often a server's error message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail(pub(super) Option<String>);

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(text) => write!(f, "; the input ends with: {text}"),
            None => Ok(()),
        }
    }
}
