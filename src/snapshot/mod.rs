//! What a Raft snapshot is.
//!
//! Architecture invariant: no I/O, no clock, no async; bytes come in, facts and errors go out.

pub(crate) mod printable;
pub mod tar;
