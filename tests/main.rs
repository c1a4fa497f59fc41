//! All integration tests, in one binary.

mod generated;
mod join;
mod normalise;
mod records;
mod roundtrip;
mod store;
mod support;
mod unwrap;
