//! What a command failed with, how it is told, and with which exit code.

use crate::agent::client::ClientError;
use crate::agent::serve::ServeError;
use crate::archive::ArchiveError;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::keys::KeyError;
use crate::source::SourceError;
use crate::store::StoreError;
use hah_vault_format::{FormatError, SourceName};
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A command failed. Errors of a repository are [`ArchiveError`]s; the rest is about this machine and what was typed.
#[derive(Debug, Error)]
pub(super) enum CliError {
    /// Of the repository.
    #[error(transparent)]
    Archive(Box<ArchiveError>),
    /// What was typed makes no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        hint: Option<String>,
    },
    /// A restore into a server was not confirmed.
    #[error("not confirmed: nothing was sent")]
    NotConfirmed,
    /// What a restore was about to replace was not backed up.
    #[error("{to} was not backed up first, and so nothing was sent to it")]
    BackupFirst {
        /// The target.
        to: SourceName,
        /// Why.
        source: Box<ArchiveError>,
    },
    /// A key, or a text that should be one.
    #[error("{name}")]
    Key {
        /// The file or variable.
        name: String,
        /// Why.
        source: KeyError,
    },
    /// A `--key-file` that holds no wrapped identity.
    #[error("{path} is not a wrapped repository identity")]
    NotAKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// An identity file that is none; the error names it.
    #[error(transparent)]
    Identity(KeyError),
    /// The configuration.
    #[error(transparent)]
    Config(ConfigError),
    /// A secret of the configuration or the environment cannot be had.
    #[error("cannot get {key} ({origin})")]
    Secret {
        /// The key: `s3.access_key_id`.
        key: String,
        /// Where it is said.
        origin: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A command has no key to work with.
    #[error("{what} needs {needs}")]
    NoKey {
        /// The command.
        what: &'static str,
        /// What it needs.
        needs: &'static str,
        /// Keys that were found and not used, and why.
        ignored: Vec<String>,
    },
    /// A local file that would be written over.
    #[error("{path} is there already")]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A local file.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The agent cannot listen, or its access is wrong.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Another agent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A server that the agent itself needs.
    #[error("{name}")]
    Server {
        /// Its block.
        name: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A run of another agent failed; in its words.
    #[error("{message}")]
    Run {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
        /// The code that the command would have ended with.
        code: u8,
    },
    /// `key remove` would lock everybody out.
    #[error("{label} is the last wrapped copy of the repository identity")]
    LastKey {
        /// Its label.
        label: String,
    },
}

impl From<ArchiveError> for CliError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(Box::new(error))
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        ArchiveError::from(error).into()
    }
}

impl CliError {
    /// A usage error with a hint.
    pub(super) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: Some(hint.into()) }
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::Usage { hint, .. } => hint.clone(),
            Self::Config(error) => error.hint(),
            Self::Secret { source, .. } => source.hint(),
            Self::NotConfirmed => None,
            Self::BackupFirst { source, .. } => {
                let without = "--no-backup-first restores without it, and then nothing leads back";
                Some(source.hint().map_or_else(|| without.into(), |hint| format!("{hint}; {without}")))
            }
            Self::Key { source: KeyError::Recipient { .. }, .. } => {
                Some("recipients are public keys: see `age-keygen -y FILE`, or the .pub file of an SSH key".into())
            }
            Self::Key { source: KeyError::Format(FormatError::TooNew { .. }), .. } => {
                Some("use a newer hah-vault".into())
            }
            Self::Key { .. } | Self::Identity(_) => {
                Some("check that the right file or text was given, whole and unchanged".into())
            }
            Self::NotAKeyFile { .. } => {
                Some("--key-file takes the repository-key.age that init wrote; identities go to --identity".into())
            }
            Self::NoKey { needs, ignored, .. } => Some(no_key_hint(needs, ignored)),
            Self::Exists { hint, .. } => Some((*hint).into()),
            Self::LastKey { .. } => Some(
                "add another reader first with `hah-vault key add`; --force removes it all the same, and then only \
                 copies kept elsewhere (--key-file) open the repository"
                    .into(),
            ),
            Self::Serve(error) => error.hint().map(Into::into),
            Self::Client(ClientError::Refused { hint, .. }) | Self::Run { hint, .. } => hint.clone(),
            Self::Client(ClientError::Connect { .. }) => {
                Some("check the URL, and that the agent runs: --agent-ca-file names its certificate authority".into())
            }
            Self::Server { source, .. } => source.hint(),
            Self::Client(_) | Self::File { .. } | Self::Output(_) => None,
        }
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Archive(error) | Self::BackupFirst { source: error, .. } => error.exit(),
            Self::NotConfirmed => Exit::Failed,
            Self::Usage { .. } | Self::Config(_) | Self::Key { source: KeyError::Recipient { .. }, .. } => Exit::Usage,
            Self::Secret { source, .. } if matches!(**source, SourceError::Setting { .. }) => Exit::Usage,
            Self::Secret { .. } => Exit::Failed,
            Self::Key { source: KeyError::Format(FormatError::TooNew { .. }), .. } => Exit::TooNew,
            Self::Key { .. } | Self::Identity(_) | Self::NoKey { .. } | Self::NotAKeyFile { .. } => Exit::NoKey,
            Self::Exists { .. } | Self::Client(ClientError::Refused { status: 409, .. }) => Exit::Conflict,
            Self::Serve(ServeError::Listen { .. } | ServeError::NeedsToken { .. } | ServeError::Token { .. })
            | Self::Client(ClientError::Url { .. } | ClientError::Refused { status: 400, .. }) => Exit::Usage,
            Self::Run { code, .. } => Exit::from_code(*code),
            Self::Serve(_) | Self::Client(_) | Self::Server { .. } => Exit::Failed,
            Self::File { .. } | Self::Output(_) | Self::LastKey { .. } => Exit::Failed,
        }
    }
}

fn no_key_hint(needs: &str, ignored: &[String]) -> String {
    let pass = if needs == NEEDS_IDENTITY {
        "pass the identity file with --identity, or set HAH_VAULT_IDENTITY"
    } else {
        "pass the writer key with --writer-key-file, or set HAH_VAULT_WRITER_KEY; an identity (--identity) will do too"
    };
    if ignored.is_empty() { pass.into() } else { format!("{pass}; {}", ignored.join("; ")) }
}

/// What reading commands need.
pub(super) const NEEDS_IDENTITY: &str = "an identity";
/// What the others need.
pub(super) const NEEDS_WRITER: &str = "a writer key or an identity";

/// An error and its sources on one line: `a: b: c`. A source that the text before it already ends with is left out, and
/// line breaks become blanks: the words of servers and files must not look like ours.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_repeats_nothing_and_is_one_line() {
        let source = io::Error::other("first\nsecond");
        let error = CliError::File { action: "read", path: "x".into(), source };
        assert_eq!(chain(&error), "cannot read x: first second");
        let source = KeyError::NoMatch;
        let error = CliError::Key { name: "no identity matches its recipient".into(), source };
        assert_eq!(chain(&error), "no identity matches its recipient");
    }
}
