//! The synchronous, CPU-only stages between a snapshot's bytes and the store.
//!
//! Architecture invariant: no async, no clock, no store, no printing.

mod go_deflate;
pub mod rewrap;
pub mod unwrap;
