//! All tests that need no unit's inside, in one binary.

mod join;
mod normalise;
mod records;
mod support;
