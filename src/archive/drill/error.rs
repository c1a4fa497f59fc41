//! Why a drill did not come about.

use crate::archive::ArchiveError;
use crate::source::{ServiceKind, SourceError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// A drill did not come about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The program cannot be started.
    #[error("cannot run {program}")]
    Program {
        /// Its path or name.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder for the throwaway server.
    #[error("cannot use {folder} for the throwaway server")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// How it is reached.
    #[error("the throwaway server cannot be reached")]
    Reach(#[from] SourceError),
    /// The throwaway server ended by itself.
    #[error("the throwaway server ended: {log}")]
    Ended {
        /// The end of its log.
        log: String,
    },
    /// The throwaway server does not become leader.
    #[error("the throwaway server has no leader after {} s: {log}", .after.as_secs())]
    NotReady {
        /// How long it was waited for.
        after: Duration,
        /// The end of its log.
        log: String,
    },
    /// The server has data.
    #[error("this {kind} is in use: it has {what}; a drill would replace them")]
    InUse {
        /// What it is.
        kind: ServiceKind,
        /// What it has.
        what: String,
    },
    /// Whether the server has data cannot be found out.
    #[error("whether this {kind} is empty cannot be found out")]
    Unknown {
        /// What it is.
        kind: ServiceKind,
        /// Why.
        source: Box<ArchiveError>,
    },
}

impl DrillError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Program { .. } => Some("name the program with --consul-binary"),
            Self::Folder { .. } => Some("set TMPDIR to another folder"),
            Self::Ended { .. } | Self::NotReady { .. } => {
                Some("use the version of the server that the snapshot was taken from: `show` has it as a label")
            }
            Self::InUse { .. } | Self::Unknown { .. } => {
                Some("a drill is for a server that was just set up; to restore into one in use: `restore --to`")
            }
            Self::Reach(_) => None,
        }
    }
}
