//! `gc`: retires snapshots and deletes what nothing names any more, without locks (DESIGN §7, SPEC §11).
//!
//! ```text
//! survey (S, packs and indexes, manifests, trash) -> plan (retention; what may be deleted) -> execute
//! ```
//! First [`plan`], which changes nothing; then [`execute`]. A retired manifest lies in the trash until the grace has passed;
//! until half of it, [`undelete`](undelete::undelete) brings it back. Whatever ends a run early leaves only garbage, which
//! the next run deletes.
//!
//! Architecture invariant: every rule of the protocol is one condition that consults [`Rules`], and all times come from
//! the store and from [`World`](crate::world::World).

pub mod budget;
mod execute;
mod packs;
mod plan;
mod survey;
pub mod trash;
pub mod undelete;

pub use execute::{GcReport, execute};
pub use packs::LostPacks;
pub use plan::{Plan, Row, TooMany, plan};

use super::retention::Policy;
use super::rules::Rules;
use super::{ArchiveError, Cancel, GRACE, Repository};
use hah_vault_format::text::Scope;
use hah_vault_format::{ManifestName, ObjectId, SourceName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Planning may take this long, and so may the time between a trash copy and the end of its manifest: an eighth of the
/// grace, also where a run's own grace is longer.
pub const STEP_LIMIT: Duration = Duration::from_secs(GRACE.as_secs() / 8);
/// No retirement begins later after the beginning of the run.
pub const RETIRE_LIMIT: Duration = Duration::from_secs(GRACE.as_secs() / 4);
/// Operations that run at the same time.
const CONCURRENT_MAX: usize = 16;

/// How to collect.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// What is kept of a source that has no policy of its own.
    pub policy: Policy,
    /// Policies of single sources.
    pub policies: BTreeMap<SourceName, Policy>,
    /// Retire only snapshots of this source. Packs are deleted of all.
    pub source: Option<SourceName>,
    /// How long the trash and unnamed packs are kept: [`GRACE`] or longer, shorter only with `exclusive`.
    pub grace: Duration,
    /// The caller's promise that nothing else runs on this repository, from the beginning to the end.
    pub exclusive: bool,
    /// Manifests that do not open and shall not keep packs from being deleted.
    pub ignore: Vec<ManifestName>,
    /// Packs whose bytes `verify` found wrong: what needs them takes no place in retention.
    pub damaged: BTreeSet<ObjectId>,
    /// Retire also more than half of a source's manifests.
    pub force: bool,
    /// Which rules hold: all.
    #[doc(hidden)]
    pub rules: Rules,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            policies: BTreeMap::new(),
            source: None,
            grace: GRACE,
            exclusive: false,
            ignore: Vec::new(),
            damaged: BTreeSet::new(),
            force: false,
            rules: Rules::ALL,
        }
    }
}

impl GcOptions {
    fn policy_of(&self, source: &SourceName) -> &Policy {
        self.policies.get(source).unwrap_or(&self.policy)
    }

    /// Refuses a grace that would break the backups of others (DESIGN §7).
    fn check(&self) -> Result<(), ArchiveError> {
        if self.grace < GRACE && !self.exclusive {
            return Err(ArchiveError::ShortGrace { grace_s: self.grace.as_secs(), least_s: GRACE.as_secs() });
        }
        Ok(())
    }
}

/// Plans and executes.
///
/// # Errors
/// Those of [`plan`](plan()) and [`execute`](execute()).
pub async fn gc(
    repository: &Repository,
    options: &GcOptions,
    cancel: &Cancel,
) -> Result<(Plan, GcReport), ArchiveError> {
    let plan = plan(repository, options, cancel).await?;
    let report = execute(repository, &plan, options, cancel).await?;
    Ok((plan, report))
}

/// A collector must be able to read the metadata of every source.
fn check_scope(repository: &Repository) -> Result<(), ArchiveError> {
    match &repository.keyring.writer.scope {
        Scope::All => Ok(()),
        Scope::Source(source) => Err(ArchiveError::ScopeAll { what: "gc", scope: source.clone() }),
    }
}
