//! Progress and warnings on their way to whoever runs a command; and the wish to stop.

use hah_vault_format::{ManifestName, SourceName};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something worth telling while a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes read from a source since the last event.
    Read {
        /// The source.
        source: SourceName,
        /// Bytes.
        len_bytes: u64,
    },
    /// A pack and its index were put.
    Stored {
        /// The source.
        source: SourceName,
        /// Their bytes.
        len_bytes: u64,
    },
    /// Packs of the parent that are not reused; `-v`.
    GivenUp {
        /// The source.
        source: SourceName,
        /// How many.
        packs: usize,
        /// Why, in words.
        reason: &'static str,
    },
    /// Bytes of a stream restored since the last event.
    Restored {
        /// The manifest.
        manifest: ManifestName,
        /// Bytes.
        len_bytes: u64,
        /// Of how many.
        total_bytes: u64,
    },
    /// `verify` has looked at something since the last event.
    Checked {
        /// What is being looked at, in the plural.
        what: &'static str,
        /// How many, or how many bytes.
        done: u64,
        /// Of how many.
        total: u64,
        /// Whether both are bytes.
        are_bytes: bool,
    },
    /// Something is not as it should be, and the command goes on.
    Warning {
        /// The source, if it is one's.
        source: Option<SourceName>,
        /// In words; holds no secret.
        text: String,
    },
}

/// Takes events; must not block for long.
pub trait Monitor: Send + Sync + fmt::Debug {
    /// Takes one.
    fn event(&self, event: Event);

    /// A warning.
    fn warn(&self, source: Option<&SourceName>, text: String) {
        self.event(Event::Warning { source: source.cloned(), text });
    }
}

/// Drops every event.
#[derive(Debug)]
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event) {}
}

/// The wish to stop, shared by a command's stages: each looks at it between two pieces of work.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks everybody to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if it is time to stop.
    ///
    /// # Errors
    /// [`super::ArchiveError::Interrupted`].
    pub fn check(&self) -> Result<(), super::ArchiveError> {
        if self.is_cancelled() { Err(super::ArchiveError::Interrupted) } else { Ok(()) }
    }
}
