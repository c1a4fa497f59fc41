//! What a failed attempt means: whether to try again, whether it may have been done, and what to call it.

use std::time::Duration;

use super::super::{At, StoreError};
use super::wire::{Fault, find_fault};

/// How one attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// On the network, or by an answer of the store.
    Fault(Fault),
    /// Our time-out for the whole attempt.
    Late(Duration),
    /// Before anything was sent, or an answer that makes no sense: opendal's words, and whether it would try again.
    Local { words: String, transient: bool },
}

const HINT_CLOCK: &str = "set this host's clock: the store compares it with its own";
const HINT_KEYS: &str = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile";
const HINT_RIGHTS: &str = "check that the key may do this in this bucket and under this prefix";
const HINT_REGION: &str = "the bucket is elsewhere: check AWS_REGION and the endpoint";
const HINT_BUCKET: &str = "create the bucket first, or correct its name in the URL";
const HINT_NETWORK: &str = "check the network, and that the endpoint is the right one";
const HINT_TRUST: &str = "name the authority's certificate in AWS_CA_BUNDLE";

impl From<opendal::Error> for Failure {
    fn from(error: opendal::Error) -> Self {
        match find_fault(&error) {
            Some(fault) => Self::Fault(fault),
            None => Self::Local { words: words(&error), transient: error.is_temporary() },
        }
    }
}

/// The messages of an error and its causes in one line, without opendal's context, which may hold whole requests.
fn words(error: &opendal::Error) -> String {
    let mut text = error.message().to_owned();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl Failure {
    /// An answer lacks what it has to have.
    pub(super) fn not_understood(why: &str) -> Self {
        Self::Local { words: why.to_owned(), transient: false }
    }

    fn refusal(&self) -> Option<(u16, &str)> {
        match self {
            Self::Fault(Fault::Refused(refusal)) => Some((refusal.status, refusal.code.as_str())),
            _ => None,
        }
    }

    /// Worth another attempt.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Fault(Fault::Refused(_)) => {
                let (status, code) = self.refusal().unwrap_or_default();
                matches!(status, 408 | 409 | 425 | 429 | 499 | 500 | 502..=504 | 520..=599)
                    // AWS says this with status 400.
                    || code == "RequestTimeout"
            }
            // A certificate does not become valid by asking again.
            Self::Fault(Fault::Connect(why)) => !is_distrust(why),
            Self::Fault(Fault::Broken(_) | Fault::Silent(_)) | Self::Late(_) => true,
            Self::Local { transient, .. } => *transient,
            Self::Fault(Fault::TooLong(_)) => false,
        }
    }

    /// The request may have been done all the same.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self {
            Self::Fault(Fault::Refused(refusal)) => refusal.status >= 499,
            Self::Fault(Fault::Broken(_) | Fault::Silent(_)) | Self::Late(_) => true,
            Self::Fault(Fault::Connect(_) | Fault::TooLong(_)) | Self::Local { .. } => false,
        }
    }

    /// The store says that the key is taken.
    pub(super) fn is_taken(&self) -> bool {
        self.refusal().is_some_and(|(status, _)| status == 412)
    }

    /// The store says that the key is locked, or being written by somebody else: it may well be taken.
    pub(super) fn is_maybe_taken(&self) -> bool {
        self.is_taken()
            || self.refusal().is_some_and(|(status, code)| {
                // R2's bucket lock; whether it or 412 wins for a locked key is not documented.
                status == 409 || (status == 403 && code == "ObjectLockedByBucketPolicy")
            })
    }

    pub(super) fn is_absent(&self) -> bool {
        self.refusal().is_some_and(|(status, code)| status == 404 && code != "NoSuchBucket")
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fault(Fault::Refused(refusal)) => refusal.retry_after,
            _ => None,
        }
    }

    /// The named error. `len_max_bytes` is the limit that the caller set.
    pub(super) fn into_error(self, at: At, attempts: u32, len_max_bytes: u64) -> StoreError {
        let transient = self.is_transient();
        match self {
            Self::Late(after) | Self::Fault(Fault::Silent(after)) => {
                StoreError::Timeout { at, after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX), attempts }
            }
            Self::Fault(Fault::TooLong(_)) => StoreError::TooLong { at, len_max_bytes },
            Self::Fault(fault @ Fault::Refused(_)) if !transient => refused(at, fault),
            Self::Fault(fault @ Fault::Connect(_)) if !transient => StoreError::Other {
                at,
                reason: "the server's certificate is not trusted",
                hint: Some(HINT_TRUST),
                source: Some(fault.into()),
            },
            Self::Fault(fault) => {
                StoreError::Unreachable { at, attempts, hint: unreachable_hint(&fault), source: fault.into() }
            }
            Self::Local { words, .. } => local(at, words),
        }
    }
}

fn is_distrust(why: &str) -> bool {
    why.contains("certificate")
}

fn unreachable_hint(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Connect(_) => Some(HINT_NETWORK),
        _ => None,
    }
}

fn refused(at: At, fault: Fault) -> StoreError {
    let Fault::Refused(refusal) = &fault else {
        return local(at, fault.to_string());
    };
    let other = |at, reason, hint, fault: Fault| StoreError::Other { at, reason, hint, source: Some(fault.into()) };
    match (refusal.status, refusal.code.as_str()) {
        (404, "NoSuchBucket") => other(at, "no such bucket", Some(HINT_BUCKET), fault),
        (404, _) => StoreError::NotFound { at },
        (401 | 403, code) => StoreError::Denied { at, hint: Some(denied_hint(code)), source: fault.into() },
        (_, "InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken") => {
            StoreError::Denied { at, hint: Some(HINT_KEYS), source: fault.into() }
        }
        (501, _) => {
            StoreError::Unsupported { store: at.store, feature: "a request that hah-vault needs (If-None-Match)" }
        }
        (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull") => StoreError::Full { at, source: fault.into() },
        (300..=399, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            other(at, "wrong region or endpoint", Some(HINT_REGION), fault)
        }
        _ => other(at, "the store refused", None, fault),
    }
}

fn denied_hint(code: &str) -> &'static str {
    match code {
        "RequestTimeTooSkewed" => HINT_CLOCK,
        "InvalidAccessKeyId" | "NotSignedUp" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => HINT_KEYS,
        "ObjectLockedByBucketPolicy" => "a bucket lock protects this object until its age is reached",
        _ => HINT_RIGHTS,
    }
}

/// opendal signs before it sends, and says so when it found nothing to sign with.
fn local(at: At, words: String) -> StoreError {
    let (reason, hint) = if words.contains("sign") || words.contains("credential") {
        ("no usable credentials", Some(HINT_KEYS))
    } else {
        ("the answer was not understood", None)
    };
    StoreError::Other { at, reason, hint, source: Some(words.into()) }
}

#[cfg(test)]
mod tests {
    use super::super::super::Operation;
    use super::super::wire::Refusal;
    use super::*;

    fn refused_by(status: u16, code: &str) -> Failure {
        Failure::Fault(Fault::Refused(Refusal {
            status,
            code: code.to_owned(),
            message: String::new(),
            retry_after: None,
        }))
    }

    fn error_of(failure: Failure) -> StoreError {
        let at = At { operation: Operation::Put, key: "packs/a".into(), store: "s3://bucket".into() };
        failure.into_error(at, 3, 10)
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408, 409, 429, 499, 500, 502, 503, 504, 522] {
            assert!(refused_by(status, "").is_transient(), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 412, 416, 501] {
            assert!(!refused_by(status, "").is_transient(), "{status}");
        }
        assert!(refused_by(400, "RequestTimeout").is_transient());
        let distrust = "invalid peer certificate: UnknownIssuer".to_owned();
        assert!(!Failure::Fault(Fault::Connect(distrust)).is_transient());
    }

    #[test]
    fn only_what_may_have_been_done_is_ambiguous() {
        assert!(refused_by(500, "").is_ambiguous());
        assert!(!refused_by(429, "").is_ambiguous());
        assert!(!Failure::Fault(Fault::Connect(String::new())).is_ambiguous());
        assert!(Failure::Fault(Fault::Broken(String::new())).is_ambiguous());
        assert!(Failure::Late(Duration::ZERO).is_ambiguous());
    }

    #[test]
    fn a_locked_key_may_be_taken_and_a_denied_one_is_not() {
        assert!(refused_by(403, "ObjectLockedByBucketPolicy").is_maybe_taken());
        assert!(!refused_by(403, "AccessDenied").is_maybe_taken());
        assert!(refused_by(412, "").is_taken());
    }

    #[test]
    fn answers_get_their_names() {
        assert!(matches!(error_of(refused_by(404, "")), StoreError::NotFound { .. }));
        let bucket = error_of(refused_by(404, "NoSuchBucket"));
        assert_eq!(bucket.to_string(), "cannot put packs/a into s3://bucket: no such bucket");
        assert_eq!(bucket.hint(), Some(HINT_BUCKET));
        let skewed = error_of(refused_by(403, "RequestTimeTooSkewed"));
        assert_eq!(skewed.hint(), Some(HINT_CLOCK));
        assert!(matches!(error_of(refused_by(501, "NotImplemented")), StoreError::Unsupported { .. }));
        assert!(matches!(error_of(refused_by(507, "")), StoreError::Full { .. }));
        assert!(matches!(error_of(refused_by(503, "")), StoreError::Unreachable { attempts: 3, .. }));
        assert!(matches!(error_of(Failure::Late(Duration::ZERO)), StoreError::Timeout { .. }));
        assert!(matches!(error_of(Failure::Fault(Fault::TooLong(1))), StoreError::TooLong { len_max_bytes: 10, .. }));
    }
}
