//! x

pub mod pipeline;
pub mod snapshot;
