//! Memory for objects as long as packs.
//!
//! glibc gives threads heaps of their own, and a heap keeps the room of the largest objects that it had: a dozen threads that
//! read and open packs keep some hundred megabytes that nobody uses (`benches/verify.rs`). What is longer than 32 MiB it
//! takes from the system, always, and gives back when it is freed. So large objects get as much room as that. What is not written
//! to costs no memory.

/// From this length on an object is large.
const LARGE_LEN_BYTES: usize = 1 << 20;
/// More than glibc ever keeps: its `DEFAULT_MMAP_THRESHOLD_MAX` on 64-bit machines, and a page for what it adds.
const SYSTEM_LEN_BYTES: usize = (32 << 20) + 4096;

/// An empty vector with room for so many bytes, and perhaps more.
pub fn with_capacity(len_bytes: usize) -> Vec<u8> {
    Vec::with_capacity(if len_bytes < LARGE_LEN_BYTES { len_bytes } else { len_bytes.max(SYSTEM_LEN_BYTES) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_was_asked_for_and_large_objects_come_from_the_system() {
        for len_bytes in [0, 1, 1000, LARGE_LEN_BYTES - 1] {
            assert_eq!(with_capacity(len_bytes).capacity(), len_bytes);
        }
        for len_bytes in [LARGE_LEN_BYTES, 8 << 20, SYSTEM_LEN_BYTES + 1] {
            assert!(with_capacity(len_bytes).capacity() >= len_bytes.max(SYSTEM_LEN_BYTES));
        }
    }
}
