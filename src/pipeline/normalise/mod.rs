//! Map order put aside, exactly: SPEC §7.
//!
//! Go writes maps in random order, so a record that did not change has other bytes in every snapshot. Here the entries
//! of every map of a record are brought into ascending order of their keys, which changes no length, and the order in
//! which they came goes into the *order notes*, from which the inverse restores the bytes of any input exactly.
//!
//! The notes are noise by nature, so they are coded close to their entropy: a range coder, and a model that knows that
//! Go begins the same order at a random place each time.

mod forward;
mod inverse;
mod memory;
mod model;
mod range_coder;
mod walk;

pub use forward::{Counts, Normaliser};
pub use inverse::{Denormaliser, NotesError};
