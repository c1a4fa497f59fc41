//! All integration tests, in one binary.

mod store;
mod support;
mod unwrap;
