//! All integration tests, in one binary.

mod agent;
mod cli;
mod corpus;
mod damage;
mod deploy;
mod faults;
mod gc;
mod generated;
mod join;
mod layers;
mod model;
mod normalise;
mod records;
mod repair;
mod roundtrip;
mod second_reader;
mod shapes;
mod source;
mod store;
mod support;
mod telemetry;
mod unwrap;
mod verify;
