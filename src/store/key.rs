//! Which keys and prefixes are allowed, in every store alike.

use super::StoreError;

/// The longest key. S3 allows 1024 bytes with the prefix; the longest name of DESIGN §3 has about 170.
pub const KEY_LEN_BYTES_MAX: usize = 512;

/// The folder for unfinished files in a local store. No object may be in it.
pub(super) const TMP: &str = "tmp";

/// Refuses a key that could leave the repository or mean different things to different stores.
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    if is_key(key) {
        return Ok(());
    }
    Err(StoreError::Invalid { what: format!("not a valid object key: {key:?}"), hint: None })
}

/// A prefix is empty, or a key and a slash.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    if prefix.is_empty() || prefix.strip_suffix('/').is_some_and(is_key) {
        return Ok(());
    }
    Err(StoreError::Invalid { what: format!("not a valid key prefix: {prefix:?}"), hint: None })
}

pub(super) fn is_key(key: &str) -> bool {
    let mut parts = key.split('/');
    key.len() <= KEY_LEN_BYTES_MAX && key.split('/').all(is_part) && parts.next() != Some(TMP)
}

/// Whether a name may be one part of a key.
pub(super) fn is_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_design_are_allowed() {
        for key in [
            "repository.json",
            "keys/alice.age",
            "manifests/vault/20261122T143000Z-1a2b3c4d",
            "trash/vault/20261122T143000Z-1a2b3c4d.20261122T143000Z-1a2b3c4d",
            "packs/tmp",
        ] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        assert!(check_prefix("").is_ok());
        assert!(check_prefix("manifests/vault/").is_ok());
    }

    #[test]
    fn keys_that_could_leave_the_repository_are_refused() {
        let long = "a".repeat(KEY_LEN_BYTES_MAX + 1);
        for key in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/",
            ".hidden",
            "a/.b",
            "tmp",
            "tmp/x",
            "a b",
            "a\\b",
            "a\0b",
            "é",
            "a?b",
            "a%2fb",
            &long,
        ] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        for prefix in ["/", "a", "../", "a//", "tmp/"] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }
}
