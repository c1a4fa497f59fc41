//! x
pub mod keys;
pub mod pipeline;
pub mod world;
