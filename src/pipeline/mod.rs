//! The stages between a source's bytes and sealed objects, and back: synchronous, CPU only.
pub mod packer;
pub mod seal;
pub mod split;
pub mod table;
