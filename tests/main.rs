//! The test suite of the whole tool, as one binary.

mod store;
mod support;
