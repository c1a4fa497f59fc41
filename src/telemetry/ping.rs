//! A dead man's switch: a place that raises the alarm when no backup has told of its success for too long. Spoken as
//! healthchecks.io does: `URL/start`, `URL`, `URL/fail`.

use super::http::{HttpError, Place};
use super::reason::Reason;
use crate::exit::Exit;
use hah_vault_format::SourceName;
use std::fmt::Write as _;

const TEXT: &str = "text/plain; charset=utf-8";

/// Where a run tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping(Place);

impl Ping {
    /// Reads the URL; it may hold a secret and is never shown.
    ///
    /// # Errors
    /// [`HttpError::NotAUrl`], which does not repeat it.
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        Place::parse(url, "ping").map(Self)
    }

    /// A run begins.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn start(&self) -> Result<(), HttpError> {
        self.0.post(self.0.url(&["start"]), TEXT, "").await
    }

    /// A run ended. Only [`Exit::Done`] is a success. The message has the exit code and why which source failed.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn end(&self, exit: Exit, failed: &[(SourceName, Reason)]) -> Result<(), HttpError> {
        let mut text = format!("exit code {}\n", exit.code());
        for (source, reason) in failed {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{source}: {reason}");
        }
        let more: &[&str] = if exit == Exit::Done { &[] } else { &["fail"] };
        self.0.post(self.0.url(more), TEXT, &text).await
    }
}
