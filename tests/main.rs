//! All integration tests, in one binary.

mod join;
mod layers;
mod normalise;
mod records;
mod roundtrip;
mod second_reader;
mod source;
mod store;
mod support;
mod unwrap;
