//! `--repo`: which store is meant.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::StoreError;

/// A repository's place, parsed. Holds no secrets, and prints as it would be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder: a path or `file:///path`.
    Local {
        /// As given.
        path: PathBuf,
    },
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `r2://account/bucket/prefix`.
    R2 {
        /// The Cloudflare account's 32 hex digits, for a jurisdiction followed by `.eu` or `.fedramp`.
        account: String,
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

const HINT_FORMS: &str = "write a path, file:///path, s3://bucket/prefix or r2://account/bucket/prefix";
const HINT_BUCKET: &str = "bucket names have 3 to 63 lower-case letters, digits, dots and hyphens";
const HINT_ACCOUNT: &str =
    "write r2://ACCOUNT/BUCKET/PREFIX, where ACCOUNT is the 32 hex digits on the R2 page of Cloudflare's dashboard";
const HINT_SECRET: &str = "keys do not belong into the URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const HINT_PREFIX: &str = "a prefix has letters, digits and ._=+/- only, and no empty, \".\" or \"..\" parts";

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text.split_once("://") {
            None if text.is_empty() => Err(invalid("the repository's URL is empty", HINT_FORMS)),
            None => Ok(Self::Local { path: text.into() }),
            Some(("file", rest)) => parse_file(rest),
            Some(("s3", rest)) => parse_s3(rest),
            Some(("r2", rest)) => parse_r2(rest),
            // The text is not repeated: it may hold a password.
            Some((scheme, _)) => {
                Err(invalid(format!("repositories of the kind {scheme:?} are not supported"), HINT_FORMS))
            }
        }
    }
}

fn parse_file(rest: &str) -> Result<StoreUrl, StoreError> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        let what = format!("not an absolute path in a file URL: {rest:?}");
        return Err(invalid(what, "write file:///absolute/path, or only the path"));
    }
    Ok(StoreUrl::Local { path: path.into() })
}

fn parse_s3(rest: &str) -> Result<StoreUrl, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(StoreUrl::S3 { bucket: parse_bucket(bucket)?, prefix: parse_prefix(prefix)? })
}

fn parse_r2(rest: &str) -> Result<StoreUrl, StoreError> {
    let (account, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if account.contains('@') {
        return Err(invalid("the repository's URL holds a user name or key", HINT_SECRET));
    }
    let digits = account.strip_suffix(".eu").or_else(|| account.strip_suffix(".fedramp")).unwrap_or(account);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 32 || !digits.bytes().all(is_hex) {
        return Err(invalid(format!("not an R2 account: {account:?}"), HINT_ACCOUNT));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(StoreUrl::R2 { account: account.to_owned(), bucket: parse_bucket(bucket)?, prefix: parse_prefix(prefix)? })
}

fn parse_bucket(bucket: &str) -> Result<String, StoreError> {
    if bucket.contains('@') {
        return Err(invalid("the repository's URL holds a user name or key", HINT_SECRET));
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let ends = |c: char| c.is_ascii_alphanumeric();
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(allowed)
        && bucket.starts_with(ends)
        && bucket.ends_with(ends)
        && !bucket.contains("..");
    if !is_bucket {
        return Err(invalid(format!("not a bucket name: {bucket:?}"), HINT_BUCKET));
    }
    Ok(bucket.to_owned())
}

fn parse_prefix(prefix: &str) -> Result<String, StoreError> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'+' | b'-');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    if prefix.is_empty() {
        return Ok(String::new());
    }
    // S3 allows keys of 1024 bytes, and ours need up to 512.
    if prefix.len() > 480 || !prefix.split('/').all(is_part) {
        return Err(invalid(format!("not a usable prefix: {prefix:?}"), HINT_PREFIX));
    }
    Ok(prefix.to_owned())
}

fn invalid(what: impl Into<String>, hint: &'static str) -> StoreError {
    StoreError::Invalid { what: what.into(), hint: Some(hint) }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, prefix) = match self {
            Self::Local { path } => return path.display().fmt(f),
            Self::S3 { bucket, prefix } => (format!("s3://{bucket}"), prefix),
            Self::R2 { account, bucket, prefix } => (format!("r2://{account}/{bucket}"), prefix),
        };
        f.write_str(&head)?;
        if prefix.is_empty() {
            return Ok(());
        }
        write!(f, "/{prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_four_forms_are_understood_and_print_as_typed() {
        for text in [
            "backups",
            "/srv/backups",
            "s3://bucket",
            "s3://my.bucket-1/a/b=c",
            &format!("r2://{ACCOUNT}/bucket"),
            &format!("r2://{ACCOUNT}.eu/bucket/prefix"),
        ] {
            let url: StoreUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), text);
        }
        let local = StoreUrl::Local { path: "/srv".into() };
        assert_eq!("file:///srv".parse::<StoreUrl>().expect("file"), local);
        assert_eq!("file://localhost/srv".parse::<StoreUrl>().expect("file"), local);
        let slash: StoreUrl = "s3://bucket/a/".parse().expect("slash");
        assert_eq!(slash.to_string(), "s3://bucket/a");
    }

    #[test]
    fn what_is_not_understood_comes_with_a_hint() {
        for text in [
            "",
            "gs://bucket",
            "http://host/bucket",
            "file://",
            "file://host/path",
            "file://relative",
            "s3://",
            "s3:///prefix",
            "s3://UPPER/x",
            "s3://ab",
            "s3://a..b",
            "s3://-abc",
            "s3://bucket//x",
            "s3://bucket/../x",
            "s3://bucket/a b",
            "s3://key:secret@bucket/x",
            "r2://bucket/prefix",
            "r2://",
            "s3://bucket/x?region=y",
            &format!("r2://{ACCOUNT}"),
            &format!("r2://{ACCOUNT}.xx/bucket"),
            &format!("s3://bucket/{}", "a".repeat(481)),
        ] {
            let error = text.parse::<StoreUrl>().expect_err(text);
            assert!(error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn a_key_in_the_url_is_not_repeated_in_the_message() {
        for text in ["s3://id:hunter2@bucket/x", "r2://id:hunter2@x/y", "https://id:hunter2@host/"] {
            let error = text.parse::<StoreUrl>().expect_err(text);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
