//! The commands: what a repository does, put together from the parts.
pub mod error;
pub mod monitor;
pub mod reuse;
pub mod scratch;
pub mod upload;
pub use error::ArchiveError;
pub use monitor::{Cancel, Event, Monitor, Silent};
