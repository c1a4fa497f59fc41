//! The only randomness of the stores: names that must not collide, and jitter. Nothing secret.

use std::fmt::Write;

/// 16 random hex digits.
pub(super) fn hex16() -> String {
    let mut out = String::with_capacity(16);
    for byte in bytes() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// A number in `0.0..1.0`.
pub(super) fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(first_four(bytes()))) / (f64::from(u32::MAX) + 1.0)
}

fn first_four([a, b, c, d, ..]: [u8; 8]) -> [u8; 4] {
    [a, b, c, d]
}

/// Falls back to the standard library's random hash keys when the system has no entropy to give: a collision is detected by
/// put-if-absent anyway.
fn bytes() -> [u8; 8] {
    use std::hash::{BuildHasher, Hasher};
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        let hasher = std::collections::hash_map::RandomState::new().build_hasher();
        bytes = hasher.finish().to_le_bytes();
    }
    bytes
}
