//! As `tests/support/mod.rs`, only what the targets need.

#[path = "../../tests/support/fuzz_targets.rs"]
pub mod fuzz_targets;
#[path = "../../tests/support/state.rs"]
pub mod state;
