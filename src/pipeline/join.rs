//! Joining.

/// Mean length to which small records of a state of this length are joined; 0: none are.
pub fn target_len_bytes(_state_len_bytes: u64) -> u32 {
    0
}
