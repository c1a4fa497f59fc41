//! Restoring into a server: plan, check everything into nowhere, then send, then wait for the truth (DESIGN §6).
//!
//! ```text
//! plan (looks at both sides) -> confirmation (the caller's) -> rehearse -> execute -> next_steps
//! ```
//! What is sent was checked once from its first to its last byte before the server sees the first one; and while it is
//! sent it is checked again: if anything differs, the request is broken off, which no server takes for a whole archive.

use super::restore::{rehearse, restore};
use super::{ArchiveError, Cancel, Repository, keystore, service};
use crate::source::restore::{BodyWriter, Preflight, Settled};
use crate::source::{ServiceKind, SourceError, Target};
use flate2::Compression;
use flate2::write::GzEncoder;
use hah_vault_format::manifest::{Kind, Wrapper};
use hah_vault_format::{Manifest, ManifestName, SourceName};
use std::io::{self, Write};
use std::time::Duration;

/// How long a server may take to work again: a Vault of 50 MB takes 6 s, a Consul re-runs its leader's actions for up
/// to a minute (facts 2.1, 8); a large one takes its time.
pub const SETTLE_LIMIT_DEFAULT: Duration = Duration::from_secs(10 * 60);

/// The label of a snapshot of what a restore was about to replace: the manifest that was restored (SPEC §6.4).
pub const LABEL_BEFORE_RESTORE: &str = "before-restore-of";

/// Something that whoever confirms a restore should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concern {
    /// The snapshot is one source's, the target another's: two clusters may well have one data center's name.
    OtherSource {
        /// The snapshot's source.
        source: SourceName,
        /// The target's.
        target: SourceName,
    },
    /// The target has come further than the snapshot.
    OlderThanTarget {
        /// The snapshot's index.
        snapshot_index: u64,
        /// The target's.
        target_index: u64,
    },
    /// The snapshot is of another cluster.
    OtherCluster {
        /// Its cluster's id; where there is none, the name of the data center or region.
        snapshot_id: String,
        /// The target's.
        target_id: String,
    },
    /// The snapshot is of another version of the server.
    OtherVersion {
        /// Its version.
        snapshot_version: String,
        /// The target's.
        target_version: String,
    },
    /// The target does not say whether the token may restore.
    UnknownPermission,
}

impl Concern {
    /// Whether a restore in spite of it loses what nobody may want to lose: it deserves more than a `y`.
    pub fn is_grave(&self) -> bool {
        matches!(self, Self::OtherSource { .. } | Self::OlderThanTarget { .. } | Self::OtherCluster { .. })
    }
}

impl std::fmt::Display for Concern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherSource { source, target } => {
                write!(f, "the snapshot is one of {source}, and would replace what {target} holds")
            }
            Self::OlderThanTarget { snapshot_index, target_index } => write!(
                f,
                "the target's Raft index is {target_index}, the snapshot's {snapshot_index}: what came after it is lost"
            ),
            Self::OtherCluster { snapshot_id, target_id } => {
                write!(f, "the snapshot is of cluster {snapshot_id}, the target is cluster {target_id}")
            }
            Self::OtherVersion { snapshot_version, target_version } => {
                write!(f, "the snapshot is of version {snapshot_version}, the target has {target_version}")
            }
            Self::UnknownPermission => f.write_str("whether the token may restore shows only when it is tried"),
        }
    }
}

/// What is about to be done.
#[derive(Debug)]
pub struct ServicePlan {
    /// The snapshot.
    pub manifest: Manifest,
    /// The target as it is now.
    pub preflight: Preflight,
    /// What it is.
    pub kind: ServiceKind,
    /// What to know before.
    pub concerns: Vec<Concern>,
    force: bool,
}

/// Looks at the snapshot and at the target. Nothing is changed.
///
/// # Errors
/// [`ArchiveError::Unfit`] if the snapshot is of another kind of server, or the token may not restore;
/// [`ArchiveError::Target`] if the target cannot be reached, has no leader, is sealed or not initialised.
pub async fn plan(
    repository: &Repository,
    name: &ManifestName,
    target: &dyn Target,
    force: bool,
) -> Result<ServicePlan, ArchiveError> {
    let manifest = repository.open_manifest(name).await?;
    let kind = target.kind();
    let fits = match kind {
        ServiceKind::Vault => Kind::Vault,
        ServiceKind::Consul => Kind::Consul,
        ServiceKind::Nomad => Kind::Nomad,
    };
    let unfit = |reason: String| ArchiveError::Unfit { name: name.clone(), reason };
    if manifest.kind != fits {
        return Err(unfit(format!("it is not a snapshot of {kind}")));
    }
    let preflight = target.preflight().await.map_err(|source| failed(name, source))?;
    let permitted =
        if force && kind == ServiceKind::Vault { preflight.is_force_permitted } else { preflight.is_permitted };
    if permitted == Some(false) {
        return Err(unfit(format!("the token may not restore into {kind} at {}", preflight.address)));
    }
    let mut concerns = concerns(&manifest, &preflight);
    concerns.extend(permitted.is_none().then_some(Concern::UnknownPermission));
    Ok(ServicePlan { manifest, preflight, kind, concerns, force })
}

fn failed(name: &ManifestName, source: SourceError) -> ArchiveError {
    ArchiveError::Target { name: name.clone(), source: Box::new(source) }
}

fn concerns(manifest: &Manifest, preflight: &Preflight) -> Vec<Concern> {
    let label = |key: &str| manifest.labels.iter().find(|label| label.key == key).map(|label| label.value.clone());
    let mut concerns = Vec::new();
    if let (Some(raft), Some(target_index)) = (&manifest.raft, preflight.index)
        && raft.index < target_index
    {
        concerns.push(Concern::OlderThanTarget { snapshot_index: raft.index, target_index });
    }
    // Consul and Nomad have no id, but a data center or region.
    let ids = label("cluster-id").zip(preflight.cluster_id.clone());
    let names = || label("cluster-name").zip(preflight.cluster_name.clone());
    if let Some((snapshot_id, target_id)) = ids.or_else(names)
        && snapshot_id != target_id
    {
        concerns.push(Concern::OtherCluster { snapshot_id, target_id });
    }
    if let (Some(snapshot_version), Some(target_version)) = (label("server-version"), preflight.version.clone())
        && snapshot_version != target_version
    {
        concerns.push(Concern::OtherVersion { snapshot_version, target_version });
    }
    concerns
}

impl ServicePlan {
    /// Notes whose server the target is: another source's is a concern, the first of all.
    #[must_use]
    pub fn aimed_at(mut self, target: &SourceName) -> Self {
        let source = &self.manifest.name.source;
        if source != target {
            self.concerns.insert(0, Concern::OtherSource { source: source.clone(), target: target.clone() });
        }
        self
    }

    /// The first pass: restores into nowhere. Nothing is sent.
    ///
    /// # Errors
    /// As a restore's; [`ArchiveError::Unfit`] without force if part of the state is no records: a server that cannot read
    /// its state panics in the middle of the restore (facts 0.8), and keeps doing so at each start.
    pub async fn rehearse(&self, repository: &Repository, cancel: &Cancel) -> Result<Rehearsed<'_>, ArchiveError> {
        let name = &self.manifest.name;
        match rehearse(repository, name, true, cancel).await?.opaque_bytes {
            bytes @ 1.. if !self.force => {
                let reason = format!(
                    "{bytes} bytes of its state are no records, as they came from the server, and {} may crash on them; \
                     --force sends it all the same",
                    self.kind
                );
                Err(ArchiveError::Unfit { name: name.clone(), reason })
            }
            _ => Ok(Rehearsed { plan: self }),
        }
    }
}

/// A plan whose snapshot was checked from its first to its last byte.
#[derive(Debug)]
pub struct Rehearsed<'p> {
    plan: &'p ServicePlan,
}

impl<'p> Rehearsed<'p> {
    /// Sends the snapshot, and waits until the target works again or says that it will not.
    ///
    /// # Errors
    /// Those of [`Rehearsed::send`] and [`Sent::settle`].
    pub async fn execute(
        self,
        repository: &Repository,
        target: &dyn Target,
        settle_limit: Duration,
        cancel: &Cancel,
    ) -> Result<Settled, ArchiveError> {
        self.send(repository, target, cancel).await?.settle(repository, target, settle_limit, cancel).await
    }

    /// The second pass: sends the snapshot. Dropping the future breaks the request off.
    ///
    /// # Errors
    /// [`ArchiveError::Target`] for whatever the server did; a restore's errors otherwise. Nothing was restored, as far
    /// as can be known.
    pub async fn send(
        self,
        repository: &Repository,
        target: &dyn Target,
        cancel: &Cancel,
    ) -> Result<Sent<'p>, ArchiveError> {
        let ServicePlan { manifest, preflight, force, .. } = self.plan;
        let target_failed = |source| failed(&manifest.name, source);
        let (writer, restoring) = target.restore(&preflight.address, *force).await.map_err(target_failed)?;
        let sending = send(repository, manifest, writer, cancel);
        let answered = async {
            tokio::select! {
                answer = restoring.wait() => Some(answer),
                () = service::cancelled(cancel) => None,
            }
        };
        match tokio::join!(sending, answered) {
            (Ok(()), Some(Ok(()))) => Ok(Sent { plan: self.plan }),
            // The writer only sees that nobody takes its bytes any more; the server says why.
            (Ok(()) | Err(ArchiveError::Output { .. }), Some(Err(source))) => Err(target_failed(source)),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(ArchiveError::Interrupted),
        }
    }
}

/// A plan whose snapshot the target has taken. Vault has not applied it yet.
#[derive(Debug)]
pub struct Sent<'p> {
    plan: &'p ServicePlan,
}

impl Sent<'_> {
    /// Waits until the target works again or says that it will not; then looks whether it is as it should be, and warns
    /// of what is not.
    ///
    /// # Errors
    /// [`ArchiveError::Unsettled`] after `limit`.
    pub async fn settle(
        self,
        repository: &Repository,
        target: &dyn Target,
        limit: Duration,
        cancel: &Cancel,
    ) -> Result<Settled, ArchiveError> {
        let ServicePlan { manifest, preflight, .. } = self.plan;
        let settled = tokio::select! {
            settled = target.settle(&preflight.address, limit) => settled,
            () = service::cancelled(cancel) => return Err(ArchiveError::Interrupted),
        };
        let settled = settled
            .map_err(|source| ArchiveError::Unsettled { name: manifest.name.clone(), source: Box::new(source) })?;
        if matches!(settled, Settled::Active { .. }) {
            for text in target.faults_after(&preflight.address).await {
                repository.monitor.warn(None, text);
            }
        }
        Ok(settled)
    }
}

/// Restores into the request's body, and ends it only if everything was as it should be.
async fn send(
    repository: &Repository,
    manifest: &Manifest,
    writer: BodyWriter,
    cancel: &Cancel,
) -> Result<(), ArchiveError> {
    // Any gzip will do for a server (facts 8), and the fast one keeps the upload short: Vault's listener allows a
    // request 30 s (http_read_timeout, facts 1.3).
    let out = match manifest.original.wrapper {
        Wrapper::None => Out::Tar(Box::new(GzEncoder::new(writer, Compression::fast()))),
        Wrapper::GzipGoTo126 | Wrapper::GzipUnknown => Out::Gzip(writer),
    };
    let (out, _) = restore(repository, &manifest.name, out, true, cancel).await?;
    cancel.check()?;
    let finished = tokio::task::spawn_blocking(move || out.finish()).await;
    let finished = finished.map_err(|error| ArchiveError::Internal(error.to_string()))?;
    finished.map_err(|source| ArchiveError::Output { source })
}

/// Servers take gzip; what was backed up as a plain tar is wrapped on its way.
enum Out {
    Gzip(BodyWriter),
    Tar(Box<GzEncoder<BodyWriter>>),
}

impl Out {
    fn finish(self) -> io::Result<()> {
        match self {
            Self::Gzip(writer) => writer.finish(),
            Self::Tar(encoder) => encoder.finish()?.finish(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(writer) => writer.write(bytes),
            Self::Tar(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(writer) => writer.flush(),
            Self::Tar(encoder) => encoder.flush(),
        }
    }
}

/// What is left to do for whoever restored (facts 1.3, 2.1, 3.2). `has_keystore`: Nomad's key files were written too.
pub fn next_steps(plan: &ServicePlan, settled: &Settled, has_keystore: bool) -> Vec<String> {
    let (kind, source) = (plan.kind, &plan.manifest.name.source);
    let mut steps = Vec::new();
    match (kind, settled) {
        (ServiceKind::Vault, Settled::Sealed) => steps.push(format!(
            "Vault is sealed: unseal every node with the unseal or recovery keys of the cluster that {source} was \
             backed up from (with auto-unseal: its KMS key)"
        )),
        (ServiceKind::Vault, Settled::Active { .. }) => {
            steps.push("log in again: tokens made after the snapshot are gone".into());
        }
        (ServiceKind::Consul, _) => {
            steps.push("ACL tokens are those of the snapshot: use one of them from now on".into());
            steps.push("give agents the tokens that the snapshot knows".into());
        }
        (ServiceKind::Nomad, _) => {
            steps.push("ACL tokens are those of the snapshot: use one of them from now on".into());
            steps.push("watch the clients: allocations that the snapshot does not know are stopped".into());
            steps.extend(keystore::next_step(&plan.manifest, has_keystore));
        }
    }
    if kind == ServiceKind::Vault {
        steps.push(
            "leases that have run out since the snapshot are revoked at once, and credentials issued after it belong \
             to no lease any more: look for them"
                .into(),
        );
    }
    steps
}
