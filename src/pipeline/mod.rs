//! The synchronous, CPU-only stages between a snapshot's bytes and sealed objects, and back.
//!
//! Architecture invariant: no async, no clock, no store, no printing.

mod go_deflate;
pub mod ingest;
pub mod join;
pub mod normalise;
pub mod packer;
pub mod regions;
pub mod rewrap;
pub mod seal;
pub mod split;
pub mod table;
pub mod unwrap;
