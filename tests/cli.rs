//! The real binary, in an empty home, as a person would use it.

mod happy;
mod json;
mod keys;
mod refusals;
mod retention;
mod sandbox;
mod services;
mod signals;
mod telemetry;
