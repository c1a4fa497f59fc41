//! The stores: one conformance suite for all of them, then what is particular to each.

mod conformance;
mod doubles;
mod local;
mod s3;
