//! What happened, as figures for Prometheus and signs of life for a dead man's switch.
//!
//! ```text
//! archive's events and reports ─┐               ┌─> /metrics (agent)
//! store::RecordingStore ────────┴─> registry ───┼─> file (batch runs, node_exporter's textfile collector)
//!                                               └─> push (Pushgateway)          ping: start, success, failure
//! ```
//!
//! Architecture invariant: a backup counts as a success only by its [`crate::archive::backup::BackupReport`], which exists
//! only when its manifest is committed and checked. No label holds anything but source names and words of enums, and no
//! message of this module holds a URL's path, user or password.

pub mod catalog;
pub mod file;
mod http;
mod month;
pub mod ping;
pub mod push;
pub mod reason;
pub mod registry;
pub mod text;
pub mod values;

pub use http::HttpError;
pub use month::class;
pub use reason::Reason;
pub use registry::{Collected, Damage, Depth, Registry, Watching};
pub use values::Values;
