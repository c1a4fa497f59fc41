//! All integration tests, in one binary.

mod cli;
mod join;
mod normalise;
mod records;
mod store;
mod support;
mod unwrap;
