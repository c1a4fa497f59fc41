//! The real binary, in an empty home, as a person would use it.

mod agent;
mod agent_telling;
mod check;
mod config;
mod drill;
mod happy;
mod into_server;
mod json;
mod keys;
mod keystore;
mod kills;
mod kit;
mod readme;
mod refusals;
mod retention;
mod sandbox;
mod services;
mod sessions;
mod signals;
mod soak;
mod telemetry;
mod verify;
