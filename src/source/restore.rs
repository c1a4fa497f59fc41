//! The way back: what a target says about itself before, the body, and the truth afterwards.
//!
//! ```text
//! preflight() -> plan, confirmation (the caller's) -> restore(): writer + answer -> settle()
//! ```

use std::time::Duration;

use async_trait::async_trait;
use http::Method;

use super::address::Address;
use super::error::Operation;
use super::http::Request;
use super::secret::Secret;
use super::{ServiceKind, SourceError};

pub use super::upload::{BodyWriter, Restoring};

/// How often a server that settles is looked at.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(250);
/// How long a good state has to last before it is believed: Vault answers before it applies (facts 1.3), and may look
/// as it did before for a moment.
pub(super) const CALM: Duration = Duration::from_secs(2);

/// What a target is before a restore. It was reachable, and has a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// The server to restore into: the leader, for Vault.
    pub address: Address,
    /// Its version.
    pub version: Option<String>,
    /// Its cluster's id (Vault).
    pub cluster_id: Option<String>,
    /// Its cluster's name, data center or region.
    pub cluster_name: Option<String>,
    /// Its current Raft index. A snapshot with a lower one takes the cluster back in time, which no server refuses.
    pub index: Option<u64>,
    /// Whether the token may restore, where the server tells: Vault by `capabilities-self`, Nomad by the
    /// token's type, Consul by asking itself.
    pub is_permitted: Option<bool>,
    /// The same of Vault's `snapshot-force`.
    pub is_force_permitted: Option<bool>,
}

impl Preflight {
    pub(super) fn at(address: Address) -> Self {
        Self {
            address,
            version: None,
            cluster_id: None,
            cluster_name: None,
            index: None,
            is_permitted: None,
            is_force_permitted: None,
        }
    }
}

/// What a target came to after a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It works again.
    Active {
        /// Its cluster's id now (Vault): that of the snapshot.
        cluster_id: Option<String>,
        /// Its Raft index now, where it tells: the token used may be gone with the old state.
        index: Option<u64>,
    },
    /// Vault is sealed: it needs the unseal or recovery keys of the snapshot's cluster.
    Sealed,
}

/// A server, or a cluster, that a snapshot can be restored into.
#[async_trait]
pub trait Target: Send + Sync + std::fmt::Debug {
    /// What it is.
    fn kind(&self) -> ServiceKind;

    /// Looks at the target without changing it.
    ///
    /// # Errors
    /// It cannot be reached, has no leader, is sealed or not initialised.
    async fn preflight(&self) -> Result<Preflight, SourceError>;

    /// Begins a restore at the preflight's address. The body is an archive, gzip included; it must have been checked
    /// before: a server that cannot decode it panics (facts 0.8). `force` is Vault's: other unseal keys.
    ///
    /// # Errors
    /// Settings and tokens; all else comes from [`Restoring::wait`].
    async fn restore(&self, at: &Address, force: bool) -> Result<(BodyWriter, Restoring), SourceError>;

    /// Waits until the target works again, or says that it will not.
    ///
    /// # Errors
    /// [`SourceError::Unsettled`] after `limit`.
    async fn settle(&self, at: &Address, limit: Duration) -> Result<Settled, SourceError>;

    /// What is not as it should be after a restore that has settled, in words, as far as the token still lets us look.
    async fn faults_after(&self, _at: &Address) -> Vec<String> {
        Vec::new()
    }
}

impl<'r> Request<'r> {
    /// A restore. Its time-outs are the upload's.
    pub(super) fn restore(
        operation: Operation,
        method: Method,
        path: &'r str,
        headers: &'r [(&'static str, Secret)],
    ) -> Self {
        Self { operation, method, path, headers, limit: Duration::MAX, phase: "during the restore" }
    }
}
