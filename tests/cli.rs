//! The real binary, in an empty home, as a person would use it.

mod check;
mod config;
mod happy;
mod json;
mod keys;
mod refusals;
mod sandbox;
mod services;
mod sessions;
mod signals;
