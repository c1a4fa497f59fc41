//! Why something failed, as one of a few words: what an alert can name without a label for each message.

use crate::archive::ArchiveError;
use crate::keys::KeyError;
use crate::source::SourceError;
use crate::store::StoreError;
use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $id:ident = $word:literal,)*) => {
        /// Why something failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $id,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$id),*];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$id => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// A setting that makes no sense, or something typed.
    Configuration = "configuration",
    /// No key, or one that does not fit.
    Key = "key",
    /// No repository, another one, a newer one.
    Repository = "repository",
    /// The server cannot be reached, is sealed, or has no leader.
    SourceUnreachable = "source_unreachable",
    /// The server says no.
    SourceRefused = "source_refused",
    /// What came is no sound snapshot.
    SourceInvalid = "source_invalid",
    /// The store cannot be reached.
    StoreUnreachable = "store_unreachable",
    /// The store says no.
    StoreDenied = "store_denied",
    /// The store has no room.
    StoreFull = "store_full",
    /// Anything else of the store.
    Store = "store",
    /// The commit limit has passed.
    TooLate = "too_late",
    /// Objects disappeared under the run.
    Vanished = "vanished",
    /// Something stored is damaged.
    Damaged = "damaged",
    /// A file or folder of this machine.
    Local = "local",
    /// Stopped by a signal or by hand.
    Interrupted = "interrupted",
    /// Anything else.
    Other = "other",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&ArchiveError> for Reason {
    fn from(error: &ArchiveError) -> Self {
        match error {
            ArchiveError::Service { source, .. } | ArchiveError::Target { source, .. } => source.as_ref().into(),
            ArchiveError::Store(source) => source.into(),
            ArchiveError::Unwrap { .. } | ArchiveError::Tar { .. } => Self::SourceInvalid,
            ArchiveError::NoRepository { .. }
            | ArchiveError::OtherRepository { .. }
            | ArchiveError::BadRepository { .. }
            | ArchiveError::TooNew { .. }
            | ArchiveError::Exists { .. } => Self::Repository,
            ArchiveError::NoIdentity { .. }
            | ArchiveError::NeedsIdentity { .. }
            | ArchiveError::Scope { .. }
            | ArchiveError::Key { source: KeyError::NoMatch, .. } => Self::Key,
            ArchiveError::TooLate { .. } => Self::TooLate,
            ArchiveError::Vanished { .. } => Self::Vanished,
            ArchiveError::Manifest { .. }
            | ArchiveError::Pack { .. }
            | ArchiveError::Key { .. }
            | ArchiveError::NotTheSame { .. }
            | ArchiveError::RestoredTar { .. }
            | ArchiveError::Notes { .. }
            | ArchiveError::TooLarge { .. } => Self::Damaged,
            ArchiveError::Open { .. }
            | ArchiveError::File { .. }
            | ArchiveError::Spill { .. }
            | ArchiveError::Output { .. } => Self::Local,
            ArchiveError::Name(_) | ArchiveError::NoManifest { .. } | ArchiveError::Ambiguous { .. } => {
                Self::Configuration
            }
            ArchiveError::Interrupted => Self::Interrupted,
            _ => Self::Other,
        }
    }
}

impl From<&StoreError> for Reason {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Denied { .. } => Self::StoreDenied,
            StoreError::Timeout { .. } | StoreError::Unreachable { .. } => Self::StoreUnreachable,
            StoreError::Full { .. } => Self::StoreFull,
            StoreError::Unsupported { .. } | StoreError::Invalid { .. } => Self::Configuration,
            _ => Self::Store,
        }
    }
}

impl From<&SourceError> for Reason {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Setting { .. } | SourceError::File { .. } => Self::Configuration,
            SourceError::Refused { status: 500..=599, .. } => Self::SourceUnreachable,
            SourceError::Refused { .. } | SourceError::Redirect { .. } => Self::SourceRefused,
            SourceError::NotASnapshot { .. } | SourceError::Digest { .. } | SourceError::Nonsense { .. } => {
                Self::SourceInvalid
            }
            SourceError::Leader { source, .. } => source.as_ref().into(),
            SourceError::Several { errors, .. } => errors.last().map_or(Self::SourceUnreachable, Self::from),
            SourceError::Stopped => Self::Interrupted,
            // Connect, Silent, Broken, NoLeader, Sealed and what is like them.
            _ => Self::SourceUnreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::unwrap::UnwrapError;
    use crate::source::ServiceKind;
    use crate::store::{At, Operation};

    #[test]
    fn words_are_unique_label_values() {
        let mut words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')), "{words:?}");
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn each_error_has_the_reason_that_an_operator_would_give() {
        let at = || At { operation: Operation::Put, key: "packs/x".into(), store: "r2://a/b".into() };
        let service = ServiceKind::Vault;
        let of = |source| ArchiveError::Service { name: "vault".parse().unwrap(), source: Box::new(source) };
        let sealed = || SourceError::Sealed { address: "x".into() };
        let refused = SourceError::Refused {
            service,
            address: "x".into(),
            operation: crate::source::error::Operation::Snapshot,
            status: 403,
            message: String::new(),
        };
        let errors = [
            (
                ArchiveError::Store(StoreError::Denied { at: at(), hint: None, source: "no".into() }),
                Reason::StoreDenied,
            ),
            (ArchiveError::Store(StoreError::Full { at: at(), source: "no".into() }), Reason::StoreFull),
            (ArchiveError::Store(StoreError::Timeout { at: at(), after_ms: 1, attempts: 1 }), Reason::StoreUnreachable),
            (of(sealed()), Reason::SourceUnreachable),
            (of(SourceError::Several { service, errors: vec![sealed(), refused] }), Reason::SourceRefused),
            (
                ArchiveError::Unwrap { name: "vault".parse().unwrap(), source: UnwrapError::Empty },
                Reason::SourceInvalid,
            ),
            (ArchiveError::Interrupted, Reason::Interrupted),
        ];
        for (error, reason) in errors {
            assert_eq!(Reason::from(&error), reason, "{error}");
        }
    }
}
