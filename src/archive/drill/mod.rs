//! `verify --drill`: a snapshot is restored into a server that nobody needs, and what came back is counted.
//!
//! ```text
//! throwaway (or an empty server by its address) -> plan -> rehearse -> execute -> settle -> count
//! ```
//! What came back is counted in a snapshot that the server makes of itself afterwards: it has decoded the state, applied
//! it, and written it again. So every type of record is counted, by the same code as in a backup.

mod count;
mod error;
mod throwaway;

pub use count::{Counted, Verdict};
pub use error::DrillError;
pub use throwaway::{Throwaway, find_program};

use super::restore_service::{SETTLE_LIMIT_DEFAULT, plan};
use super::{ArchiveError, Cancel, Repository};
use crate::source::restore::Settled;
use crate::source::{Service, ServiceKind, Target};
use hah_vault_format::{Manifest, ManifestName};

/// More records than a server has that was just set up: it is in use.
const EMPTY_RECORDS_MAX: u64 = 200;

/// A server to restore into.
#[derive(Debug, Clone, Copy)]
pub struct DrillTarget<'s> {
    /// To restore into.
    pub target: &'s dyn Target,
    /// The same, to count what it has.
    pub service: &'s dyn Service,
    /// It was started for this drill: whether it is empty need not be found out.
    pub is_throwaway: bool,
}

/// How a drill went.
#[derive(Debug)]
pub struct DrillReport {
    /// The snapshot.
    pub manifest: Manifest,
    /// What it was restored into.
    pub kind: ServiceKind,
    /// The server's version.
    pub server_version: Option<String>,
    /// What the server came to.
    pub settled: Settled,
    /// Record types, with what the manifest says and what the server has; or why nothing could be counted.
    pub counted: Result<Vec<Counted>, String>,
}

impl DrillReport {
    /// Whether something that must come back did not.
    pub fn is_short(&self) -> bool {
        let is_short = |counted: &Counted| counted.verdict == Verdict::Fewer;
        self.counted.as_ref().is_ok_and(|all| all.iter().any(is_short))
    }
}

/// Restores into a server, and counts.
///
/// # Errors
/// [`ArchiveError::Drill`] if the server is in use; a restore's.
pub async fn drill(
    repository: &Repository,
    name: &ManifestName,
    into: DrillTarget<'_>,
    cancel: &Cancel,
) -> Result<DrillReport, ArchiveError> {
    let DrillTarget { target, service, is_throwaway } = into;
    let failed = |source| ArchiveError::Drill { name: name.clone(), source: Box::new(source) };
    // A fresh Vault has other unseal keys.
    let plan = plan(repository, name, target, target.kind() == ServiceKind::Vault).await?;
    if !is_throwaway {
        refuse_in_use(&plan.manifest, service, plan.kind, cancel).await.map_err(failed)?;
    }
    let rehearsed = plan.rehearse(repository, cancel).await?;
    let settled = rehearsed.execute(repository, target, SETTLE_LIMIT_DEFAULT, cancel).await?;
    let counted = match settled {
        Settled::Sealed => Err("it is sealed: unseal it with the keys of the snapshot's cluster, and look".into()),
        Settled::Active { .. } => match count::records_of(&name.source, service, cancel).await {
            Ok(found) => Ok(count::compare(plan.kind, &plan.manifest.records, &found)),
            Err(ArchiveError::Interrupted) => return Err(ArchiveError::Interrupted),
            Err(error) => Err(format!("it gives no snapshot of itself: {}", super::parent::chain(&error))),
        },
    };
    Ok(DrillReport {
        kind: plan.kind,
        server_version: plan.preflight.version.clone(),
        manifest: plan.manifest,
        settled,
        counted,
    })
}

/// Nobody shall drill into a server that somebody needs. Where that cannot be found out, it is one.
async fn refuse_in_use(
    manifest: &Manifest,
    service: &dyn Service,
    kind: ServiceKind,
    cancel: &Cancel,
) -> Result<(), DrillError> {
    let found = count::records_of(&manifest.name.source, service, cancel).await;
    let found = found.map_err(|source| DrillError::Unknown { kind, source: Box::new(source) })?;
    let records: u64 = found.iter().map(|count| count.count).sum();
    let data = found.iter().find(|count| count::is_user_data(kind, count));
    match data {
        Some(data) => {
            let what = format!("{} records of type {}", data.count, count::word(kind, &data.tag));
            Err(DrillError::InUse { kind, what })
        }
        None if records > EMPTY_RECORDS_MAX => Err(DrillError::InUse { kind, what: format!("{records} records") }),
        None => Ok(()),
    }
}
