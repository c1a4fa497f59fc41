//! As `tests/support/mod.rs`, only what the targets need.

#[path = "../../tests/support/fuzz_answers.rs"]
pub mod fuzz_answers;
#[path = "../../tests/support/fuzz_targets.rs"]
pub mod fuzz_targets;
#[path = "../../tests/support/fuzz_texts.rs"]
pub mod fuzz_texts;
#[path = "../../tests/support/state.rs"]
pub mod state;
