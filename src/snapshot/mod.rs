//! What a Raft snapshot is: its tar, the value format and the records of `state.bin`.
//!
//! Architecture invariant: no I/O, no clock, no async; bytes come in, facts and errors go out.

pub mod keystore;
pub mod msgpack;
pub(crate) mod printable;
pub mod records;
pub mod tar;
