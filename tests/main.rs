//! All integration tests, in one binary.

mod cli;
mod generated;
mod join;
mod layers;
mod normalise;
mod records;
mod roundtrip;
mod second_reader;
mod shapes;
mod store;
mod support;
mod unwrap;
