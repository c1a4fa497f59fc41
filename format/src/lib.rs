//! The on-store format of hah-vault, version 1: names, text forms, codec, manifest, index and key derivation.
//!
//! This crate is pure: bytes and values in, bytes and values out. `SPEC.md` beside it is normative.
//!
//! Architecture invariant: no I/O, no async, no clock, no random numbers, no age and no zstd here; only
//! [`codec`] names bincode.
//!
//! ```text
//! manifest, index -> envelope -> codec
//!        \              \-> padme, derive
//!         \-> name -> time, text
//! ```

pub mod codec;
pub mod derive;
pub mod envelope;
pub mod error;
pub mod index;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod pack;
pub mod padme;
pub mod secret;
pub mod text;
pub mod time;

pub use error::FormatError;
pub use index::{Index, IndexEntry};
pub use manifest::Manifest;
pub use name::{ChunkId, Label, ManifestName, ObjectId, RepositoryId, SourceName, TrashName};
pub use secret::Secret;
pub use time::UnixTime;

/// The format version that this crate writes, and the newest one that it reads.
pub const FORMAT_VERSION: u16 = 1;
