//! The fuzz targets' bodies, shared with `tests/corpus.rs`, which replays the corpora.

pub mod support;
