//! The commands: what a repository does, put together from the parts.
//!
//! Branches live here, straight lines in the leaves: [`backup`] and [`restore`] decide, `pipeline/` computes, `store/`
//! keeps.

pub mod backup;
pub mod drill;
pub mod error;
pub mod gc;
pub mod hold;
pub mod host_state;
pub mod keystore;
pub mod manifests;
pub mod monitor;
mod new_file;
mod parent;
pub mod repair;
pub mod repository;
pub mod restore;
pub mod restore_service;
pub mod retention;
pub mod reuse;
#[doc(hidden)]
pub mod rules;
mod scratch;
mod service;
pub mod stats;
pub mod tags;
mod upload;
pub mod verify;

pub use error::ArchiveError;
pub use monitor::{Cancel, Event, Monitor, Silent};
pub(crate) use parent::chain;
pub use repository::Repository;

use std::time::Duration;

/// How long trash and unnamed packs are kept before gc deletes them; the same for everybody (DESIGN §7).
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// A backup must commit within half the grace.
pub const COMMIT_LIMIT: Duration = Duration::from_secs(12 * 3600);
/// How far two readings of one store's clock may disagree: its time is given in whole seconds, by several machines.
pub const STORE_CLOCK_TOLERANCE: Duration = Duration::from_secs(360);
