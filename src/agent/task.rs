//! What the agent does, and whoever does it.

use super::clock::Moment;
use crate::archive::{Cancel, Monitor};
use async_trait::async_trait;
use hah_vault_format::{ManifestName, SourceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// Backs one source up.
    Backup,
    /// Verifies structure, and reads a share of the packs.
    Verify,
    /// Reassembles the newest snapshots and checks them as a restore would.
    Rehearse,
    /// Retires snapshots and deletes what nothing needs.
    Gc,
    /// Restores a snapshot to a file.
    Restore,
}

impl RunKind {
    /// The kind as it stands in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Verify => "verify",
            Self::Rehearse => "rehearse",
            Self::Gc => "gc",
            Self::Restore => "restore",
        }
    }
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What to do.
    pub kind: RunKind,
    /// The source of a backup; the only one that is verified or rehearsed.
    pub source: Option<SourceName>,
    /// gc: only plan.
    pub dry_run: bool,
    /// gc: retire nothing but these; `None` for what the policy says.
    pub only: Option<Vec<ManifestName>>,
    /// backup: reuse nothing.
    pub fresh: bool,
    /// verify: share of the packs to read, in percent.
    pub read_data_percent: Option<u8>,
    /// restore: what.
    pub manifest: Option<ManifestName>,
    /// restore: the name of the new file in the restore folder.
    pub file: Option<String>,
}

impl Task {
    /// A task of a kind, with nothing special about it.
    pub fn new(kind: RunKind, source: Option<SourceName>) -> Self {
        Self {
            kind,
            source,
            dry_run: false,
            only: None,
            fresh: false,
            read_data_percent: None,
            manifest: None,
            file: None,
        }
    }
}

/// How something failed. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code that the command would have ended with.
    pub code: u8,
    /// One word of a bounded set, for metrics.
    pub reason: String,
}

impl Failure {
    /// A failure of the agent itself.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: 1, reason: reason.into() }
    }
}

/// What a run that went to its end found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The object that the command prints with `--json`.
    pub result: serde_json::Value,
    /// Something is damaged or was skipped (exit code 3): the run counts as failed, for this reason.
    pub partial: Option<Failure>,
    /// gc, dry run: what it would retire.
    pub planned: Vec<ManifestName>,
}

/// A snapshot in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its full name.
    pub manifest: String,
    /// Its source.
    pub source: SourceName,
    /// The time that it claims.
    pub time: Moment,
    /// `vault`, `consul`, `nomad` or `other`; none of these if it cannot be opened.
    pub kind: Option<String>,
    /// The host that made it.
    pub host: Option<String>,
    /// The manifest before it.
    pub parent: Option<String>,
    /// Length of the snapshot as it came.
    pub original_len_bytes: Option<u64>,
    /// Length without its gzip.
    pub stream_len_bytes: Option<u64>,
    /// Bytes that were not stored before.
    pub new_bytes: Option<u64>,
    /// Bytes that the run put.
    pub stored_bytes: Option<u64>,
    /// gc keeps it.
    pub hold: bool,
    /// Why it cannot be opened.
    pub error: Option<String>,
}

/// Objects and bytes in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Does the work, on one repository. Errors are told in words: only the command line knows all that can go wrong.
#[async_trait]
pub trait Worker: Send + Sync + fmt::Debug {
    /// The repository's URL without secrets.
    fn describe(&self) -> String;

    /// Whether repository and keys can be opened.
    async fn check(&self) -> Result<(), Failure>;

    /// The names of all manifests, sorted; and the store's clock minus `now_unix_ms`, in milliseconds.
    async fn names(&self, now_unix_ms: i64) -> Result<(Vec<ManifestName>, i64), Failure>;

    /// Manifests in short, in the order of the names.
    async fn summaries(&self, names: &[ManifestName]) -> Result<Vec<Summary>, Failure>;

    /// All that is known of one, as `show --json` prints it; `None` if there is none of that name.
    async fn details(&self, name: &ManifestName) -> Result<Option<serde_json::Value>, Failure>;

    /// Manifests that are held, with the reason.
    async fn holds(&self) -> Result<BTreeMap<ManifestName, String>, Failure>;

    /// Holds a manifest, or lets it go. `false` if there is none of that name.
    async fn hold(&self, name: &ManifestName, reason: Option<&str>) -> Result<bool, Failure>;

    /// What the repository holds.
    async fn stored(&self) -> Result<Stored, Failure>;

    /// Does a task. A wish to stop ends it soon, in good order.
    async fn run(&self, task: &Task, monitor: Arc<dyn Monitor>, cancel: &Cancel) -> Result<Outcome, Failure>;

    /// The process ends: sessions are closed.
    async fn close(&self) {}
}
