//! What can be wrong with a name, a key or an object.

use thiserror::Error;

/// Why bytes or text are not what the format asks for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The object is not of the expected type at all: garbage, or another type put in its place.
    #[error("{what}: not this type of object (its first bytes are wrong)")]
    Magic {
        /// The type expected.
        what: &'static str,
    },
    /// Written by a newer hah-vault.
    #[error("{what}: format version {found}, this program reads up to {newest}")]
    TooNew {
        /// The type of object or key.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The newest version understood.
        newest: u16,
    },
    /// Ends before its declared length: a cut object, or a hostile length.
    #[error("{what}: ends early, {needed} bytes needed, {have} there")]
    Short {
        /// The field or object.
        what: &'static str,
        /// Bytes that should be there.
        needed: u64,
        /// Bytes that are there.
        have: u64,
    },
    /// The tag does not match: changed bytes, another name (moved or renamed object), or another source's key.
    #[error("{what}: authentication failed (changed, renamed, or written with another key)")]
    Tag {
        /// The type of object.
        what: &'static str,
    },
    /// Bytes after the end, or padding that is not zero or not of the right length.
    #[error("{what}: padding is wrong")]
    Padding {
        /// The type of object.
        what: &'static str,
    },
    /// The body does not decode.
    #[error("{what}: cannot decode: {reason}")]
    Decode {
        /// The type of object.
        what: &'static str,
        /// The codec's reason.
        reason: String,
    },
    /// Decodes, but encodes to other bytes.
    #[error("{what}: not in canonical form")]
    NotCanonical {
        /// The type of object.
        what: &'static str,
    },
    /// A count or length above its limit.
    #[error("{what}: {found} is more than the limit of {limit}")]
    Limit {
        /// The field.
        what: &'static str,
        /// The value found.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Fields that contradict each other.
    #[error("{what}: {reason}")]
    Inconsistent {
        /// The type of object.
        what: &'static str,
        /// What contradicts what.
        reason: &'static str,
    },
    /// A name that breaks the rules for names.
    #[error("{what} {found:?} is not valid: {rule}")]
    Name {
        /// The kind of name.
        what: &'static str,
        /// What was given; never a secret.
        found: String,
        /// The rule.
        rule: &'static str,
    },
    /// A key text (never quoted here: it may be secret) that does not parse.
    #[error("{what}: {reason}")]
    Key {
        /// The kind of key.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}
