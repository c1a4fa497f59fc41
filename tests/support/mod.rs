//! What several tests need.

pub mod msgpack;
pub mod state;
