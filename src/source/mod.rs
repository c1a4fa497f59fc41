//! Where snapshots come from and go back to: Vault (and OpenBao), Consul and Nomad over HTTP.
//!
//! ```text
//! env -> settings ─┬─> vault, consul, nomad ──> http ──> body (a blocking reader) or upload (a blocking writer)
//! catalog ─────────┘        each is a Service (snapshots) and a Target (restores); raft: what the last two share
//! vault::session   logs in, reads secrets, has tokens made for Consul and Nomad, and gives everything back
//! ```
//!
//! Architecture invariant: status 200 proves nothing. A body is whole only if its framing, and for Nomad its Digest,
//! says so; otherwise the reader ends in an error, and the archive itself is checked by whoever reads it. No secret is
//! in a URL, a log line or an error. Nothing here prints or sleeps for long: whole snapshots are retried by the caller.

pub mod address;
mod body;
pub mod catalog;
pub mod consul;
pub mod deferred;
pub mod env;
pub mod error;
mod http;
pub mod inspect;
pub mod keystore;
pub mod nomad;
mod raft;
pub mod restore;
pub mod secret;
pub mod settings;
mod tls;
pub mod token;
mod upload;
pub mod vault;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

pub use address::Address;
pub use body::{Body, Stopper};
pub use consul::Consul;
pub use error::SourceError;
pub(crate) use http::root_cause;
pub use nomad::Nomad;
pub use restore::Target;
pub use secret::Secret;
pub(crate) use tls::install_provider as install_tls_provider;
pub use vault::{Vault, VaultSession};

/// No lock here is held over anything that can fail halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// Vault or OpenBao.
    Vault,
    /// Consul.
    Consul,
    /// Nomad.
    Nomad,
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vault => "Vault",
            Self::Consul => "Consul",
            Self::Nomad => "Nomad",
        })
    }
}

/// A server, or a cluster of them, that gives snapshots.
#[async_trait]
pub trait Service: Send + Sync + fmt::Debug {
    /// What it is.
    fn kind(&self) -> ServiceKind;

    /// Asks for a snapshot and waits for the beginning of the answer. Dropping the future gives up.
    ///
    /// # Errors
    /// [`SourceError`]: whether it is worth another try, says [`SourceError::is_transient`].
    async fn open_snapshot(&self) -> Result<Snapshot, SourceError>;
}

/// A snapshot on its way.
#[derive(Debug)]
pub struct Snapshot {
    /// Its bytes. Blocks; to be read outside of async code. An error of it holds a [`SourceError`].
    pub body: Body,
    /// What is known about server and cluster, for the manifest: `server-version`, `cluster-id`, …; no secret.
    pub facts: Vec<(&'static str, String)>,
    /// What is odd, in words.
    pub warnings: Vec<String>,
}
