//! What can go wrong in a store.

use std::error::Error;
use std::fmt;

/// Why, when another library knows it. Printed by whoever walks the chain of sources.
pub type Cause = Box<dyn Error + Send + Sync>;

/// What was being done to which object in which store. Its text is the beginning of every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The operation.
    pub operation: Operation,
    /// The key or prefix; empty when the operation has none.
    pub key: String,
    /// The store's URL without secrets.
    pub store: String,
}

/// The kinds of store operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Put if absent.
    Put,
    /// Get a whole object.
    Get,
    /// List under a prefix.
    List,
    /// Stat one object.
    Stat,
    /// Delete one object.
    Delete,
    /// Ask for the time.
    Now,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Delete => "delete",
            Self::Now => "ask for the time",
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, key, store } = self;
        match (operation, key.is_empty()) {
            (_, true) => write!(f, "cannot {operation} in {store}"),
            (Operation::Put, _) => write!(f, "cannot put {key} into {store}"),
            (Operation::Delete | Operation::Get, _) => {
                write!(f, "cannot {operation} {key} from {store}")
            }
            _ => write!(f, "cannot {operation} {key} in {store}"),
        }
    }
}

/// An operation on a store failed, and trying again at once will not help: temporary failures were retried before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object: never put, deleted, or hidden by the store.
    #[error("{at}: no such object")]
    NotFound {
        /// Where.
        at: At,
    },
    /// The store refused: credentials that do not suffice, a bucket lock, a read-only file system.
    #[error("{at}: denied")]
    Denied {
        /// Where.
        at: At,
        /// What to try.
        hint: Option<&'static str>,
        /// The store's words.
        source: Cause,
    },
    /// The object is longer than any valid one, so it is damaged or not ours.
    #[error("{at}: longer than {len_max_bytes} bytes")]
    TooLong {
        /// Where.
        at: At,
        /// The limit.
        len_max_bytes: u64,
    },
    /// More than [`super::LIST_LEN_MAX`] objects.
    #[error("{at}: more than {len_max} objects")]
    TooMany {
        /// Where.
        at: At,
        /// The limit.
        len_max: usize,
    },
    /// No answer in time, with all attempts used up.
    #[error("{at}: no answer within {after_ms} ms, after {attempts} attempts")]
    Timeout {
        /// Where.
        at: At,
        /// The time-out of the last attempt.
        after_ms: u64,
        /// How often it was tried.
        attempts: u32,
    },
    /// The store could not be reached, or broke off, or kept answering that it is busy or broken.
    #[error("{at}: unreachable after {attempts} attempts")]
    Unreachable {
        /// Where.
        at: At,
        /// How often it was tried.
        attempts: u32,
        /// What to try.
        hint: Option<&'static str>,
        /// The last failure.
        source: Cause,
    },
    /// No space, or a quota is used up.
    #[error("{at}: no space left")]
    Full {
        /// Where.
        at: At,
        /// The store's words.
        source: Cause,
    },
    /// The store lacks something without which backups are not safe.
    #[error("{store} does not support {feature}")]
    Unsupported {
        /// The store.
        store: String,
        /// What is missing.
        feature: &'static str,
    },
    /// A URL, a setting or a key that makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong, with the value.
        what: String,
        /// What to write instead.
        hint: Option<&'static str>,
    },
    /// Anything else.
    #[error("{at}: {reason}")]
    Other {
        /// Where.
        at: At,
        /// In a few words.
        reason: &'static str,
        /// What to try.
        hint: Option<&'static str>,
        /// The cause, if one is known.
        source: Option<Cause>,
    },
}

impl StoreError {
    /// What to try, as a sentence of its own.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Denied { hint, .. }
            | Self::Unreachable { hint, .. }
            | Self::Invalid { hint, .. }
            | Self::Other { hint, .. } => *hint,
            Self::Timeout { .. } => Some("check the network, and that the endpoint is the right one"),
            Self::Full { .. } => Some("free some space: `hah-vault gc` drops old snapshots"),
            Self::Unsupported { .. } => Some(
                "use a store with conditional writes: a local folder, AWS S3, Cloudflare R2, MinIO, Garage or Ceph in a recent version",
            ),
            Self::NotFound { .. } | Self::TooLong { .. } | Self::TooMany { .. } => None,
        }
    }

    /// Whether the same operation may well succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. })
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
