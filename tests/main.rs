//! All integration tests, in one binary.

mod corpus;
mod damage;
mod faults;
mod join;
mod normalise;
mod records;
mod roundtrip;
mod store;
mod support;
mod unwrap;
