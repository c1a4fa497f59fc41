//! Who runs the schedules: one replica at a time.
//!
//! Backups need no lock (DESIGN §5.7) and gc is safe without one (§7): a lock only keeps work from being done twice. So two
//! replicas that both believe to hold it do no harm, and one that cannot reach the lock for long may go on without it.

mod alone;
mod consul;
mod lease;

pub use alone::Alone;
pub use consul::{ConsulLock, ConsulLockSettings, DEFAULT_KEY, LOCK_FLAGS};
pub use lease::{LEASE_OBJECT_LEN_BYTES_MAX, LeaseLock, TTL_DEFAULT as LEASE_TTL_DEFAULT};

use super::planner::Journal;
use crate::source::SourceError;
use crate::store::StoreError;
use async_trait::async_trait;
use serde::Serialize;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// How replicas agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockKind {
    /// There is only one.
    None,
    /// A session of Consul's.
    Consul,
    /// A lease in the store.
    Lease,
}

/// What came of an attempt to take the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It is ours; this is what the holder before us noted.
    Held(Journal),
    /// Somebody else has it, or had it a moment ago.
    Taken {
        /// Who, if that is known.
        holder: Option<String>,
    },
}

/// A lock that cannot be reached, or makes no sense.
#[derive(Debug, Error)]
pub enum LockError {
    /// Consul's.
    #[error("cannot use the lock {key} in Consul")]
    Consul {
        /// Its key.
        key: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// The key belongs to something else.
    #[error("the key {key} in Consul is not a lock: its flags are {flags:#x}")]
    NotALock {
        /// The key.
        key: String,
        /// What its flags are.
        flags: u64,
    },
    /// The store's.
    #[error("cannot use the lease {name}")]
    Store {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// No answer.
    #[error("the lock gave no answer within {} s", .waited.as_secs())]
    Silent {
        /// For how long it was waited.
        waited: Duration,
    },
    /// The journal of an agent that is alone.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A lock. One object per replica; its methods are called one at a time.
#[async_trait]
pub trait Lock: Send + Sync + fmt::Debug {
    /// Which kind.
    fn kind(&self) -> LockKind;

    /// How long it stays ours after a renewal, counted from before the renewal was sent.
    fn ttl(&self) -> Duration;

    /// Tries to take it.
    ///
    /// # Errors
    /// [`LockError`] if nobody can say whether it is free.
    async fn take(&self) -> Result<Attempt, LockError>;

    /// Keeps it for another [`Lock::ttl`], and notes what the next holder must know. `false`: it is lost.
    ///
    /// # Errors
    /// [`LockError`]: it may still be ours, until the time is up.
    async fn renew(&self, journal: &Journal) -> Result<bool, LockError>;

    /// Gives it back, so that nobody needs to wait for its end.
    ///
    /// # Errors
    /// [`LockError`]: it ends by itself.
    async fn release(&self, journal: &Journal) -> Result<(), LockError>;
}
