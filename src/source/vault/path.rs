//! Paths in Vault as people write them: `secret/app/s3`, `consul/creds/backup`, `aws/sts/backup?ttl=15m`.

use super::super::http::escaped;
use super::super::{ServiceKind, SourceError};
use crate::snapshot::printable::printable;

/// A path as it goes into a URL: each segment escaped, without slashes at its ends.
///
/// # Errors
/// [`SourceError::Setting`] if it is empty or would lead elsewhere.
pub(super) fn checked(path: &str) -> Result<String, SourceError> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is_bad = |segment: &&str| matches!(*segment, "" | "." | "..") || segment.chars().any(char::is_control);
    if segments.iter().any(is_bad) {
        return Err(wrong(path, "it is not a path in Vault"));
    }
    Ok(segments.into_iter().map(escaped).collect::<Vec<_>>().join("/"))
}

/// The same with a query behind it, which is taken as it is.
///
/// # Errors
/// As [`checked`].
pub(super) fn with_query(text: &str) -> Result<(String, &str), SourceError> {
    let text = text.trim();
    let text = text.strip_prefix("/v1/").or_else(|| text.strip_prefix("v1/")).unwrap_or(text);
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"?&=%-._~:/+,".contains(&byte);
    match query.bytes().all(plain) {
        true => Ok((checked(path)?, query)),
        false => Err(wrong(text, "its query has characters that must be escaped")),
    }
}

fn wrong(path: &str, reason: &str) -> SourceError {
    let name = format!("the path {:?}", printable(path.as_bytes()));
    SourceError::Setting { service: ServiceKind::Vault, name, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_as_people_write_them() {
        for (text, path, query) in [
            ("secret/app/s3", "secret/app/s3", ""),
            ("/v1/consul/creds/backup/", "consul/creds/backup", ""),
            (
                "aws/sts/backup?ttl=15m&role_arn=arn:aws:iam::1:role/b",
                "aws/sts/backup",
                "?ttl=15m&role_arn=arn:aws:iam::1:role/b",
            ),
            ("secret/a b?version=3", "secret/a%20b", "?version=3"),
        ] {
            assert_eq!(with_query(text).expect(text), (path.to_owned(), query), "{text}");
        }
        for text in ["", "/", "a//b", "../sys/seal", "secret/../x", "a\n/b", "secret/a?b c", "?x"] {
            assert!(with_query(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_place(text in ".{0,40}") {
            if let Ok(path) = checked(&text) {
                let url = reqwest::Url::parse(&format!("http://h/v1/{path}")).expect("a URL");
                prop_assert_eq!(url.path(), format!("/v1/{path}"));
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
