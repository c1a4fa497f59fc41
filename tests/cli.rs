//! The real binary, in an empty home, as a person would use it.

mod happy;
mod into_server;
mod json;
mod keys;
mod keystore;
mod refusals;
mod sandbox;
mod services;
mod signals;
