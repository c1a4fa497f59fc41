//! The stages between a snapshot's stream and the store: synchronous, CPU only.

pub mod join;
pub mod normalise;
pub mod regions;
