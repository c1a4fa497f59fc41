//! The fuzz targets' bodies, shared with `tests/corpus.rs`, which replays the corpora.

pub mod support {
    #[path = "../../../tests/support/fuzz_targets.rs"]
    pub mod fuzz_targets;
    #[path = "../../../tests/support/state.rs"]
    pub mod state;
}
