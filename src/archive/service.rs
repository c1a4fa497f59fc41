//! Backing up a server: its snapshot is opened before the pipeline starts, taken again after a passing failure, and
//! compared with the one before.

use super::backup::BackupOptions;
use super::{ArchiveError, Cancel, Monitor};
use crate::pipeline::unwrap::UnwrapError;
use crate::source::{Service, Snapshot, SourceError, Stopper};
use hah_vault_format::limits::{LABEL_VALUE_LEN_BYTES_MAX, MANIFEST_LABELS_MAX, TEXT_LEN_BYTES_MAX};
use hah_vault_format::manifest::ManifestLabel;
use hah_vault_format::{Manifest, SourceName};
use std::convert::Infallible;
use std::time::Duration;

/// How often the wish to stop is looked at while nothing else happens.
const CANCEL_LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits for the wish to stop.
pub(super) async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_LOOK_EVERY).await;
    }
}

/// Opens a snapshot.
pub(super) async fn open(name: &SourceName, service: &dyn Service, cancel: &Cancel) -> Result<Snapshot, ArchiveError> {
    tokio::select! {
        opened = service.open_snapshot() => opened.map_err(|source| failed(name, source)),
        () = cancelled(cancel) => Err(ArchiveError::Interrupted),
    }
}

/// Stops a transfer once that is wished for: its reader may be waiting for a silent server.
pub(super) async fn stop_when_cancelled(stopper: Option<Stopper>, cancel: &Cancel) -> Infallible {
    if let Some(stopper) = stopper {
        cancelled(cancel).await;
        stopper.stop();
    }
    std::future::pending().await
}

/// Waits before another try.
pub(super) async fn pause(delay: Duration, cancel: &Cancel) -> Result<(), ArchiveError> {
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = cancelled(cancel) => Err(ArchiveError::Interrupted),
    }
}

fn failed(name: &SourceName, source: SourceError) -> ArchiveError {
    ArchiveError::Service { name: name.clone(), source: Box::new(source) }
}

/// What went wrong while a source was read: the server's own error if it is one.
pub(super) fn read_failed(name: &SourceName, error: UnwrapError) -> ArchiveError {
    let source = match error {
        UnwrapError::Read(error) => match error.downcast::<SourceError>() {
            Ok(source) => return failed(name, source),
            Err(error) => UnwrapError::Read(error),
        },
        error => error,
    };
    ArchiveError::Unwrap { name: name.clone(), source }
}

/// Whether a snapshot taken again may well be whole. A cut or damaged archive counts: servers answer 200 and break off
/// (facts 6).
pub(super) fn is_transient(error: &ArchiveError) -> bool {
    match error {
        ArchiveError::Service { source, .. } => source.is_transient(),
        ArchiveError::Tar { .. } => true,
        ArchiveError::Unwrap { source, .. } => {
            !matches!(source, UnwrapError::NotASnapshot { .. } | UnwrapError::Bomb { .. } | UnwrapError::SecondMember)
        }
        _ => false,
    }
}

/// Facts as labels: sorted, unique, within the format's limits.
pub(super) fn labels(facts: &[(&'static str, String)]) -> Vec<ManifestLabel> {
    let label = |(key, value): &(&'static str, String)| ManifestLabel {
        key: cut(key, TEXT_LEN_BYTES_MAX),
        value: cut(value, LABEL_VALUE_LEN_BYTES_MAX),
    };
    let mut labels: Vec<ManifestLabel> = facts.iter().filter(|(_, value)| !value.is_empty()).map(label).collect();
    labels.sort();
    labels.dedup_by(|a, b| a.key == b.key);
    labels.truncate(MANIFEST_LABELS_MAX);
    labels
}

/// The longest start of a text that has at most so many bytes.
fn cut(text: &str, len_bytes_max: usize) -> String {
    let mut len = text.len().min(len_bytes_max);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text[..len].to_owned()
}

/// Warns of a snapshot that does not follow from its parent.
pub(super) fn compare(monitor: &dyn Monitor, new: &Manifest, parent: Option<&Manifest>, options: &BackupOptions) {
    let Some(parent) = parent else { return };
    let warn = |text: String| monitor.warn(Some(&new.name.source), text);
    let (len, before) = (new.stream.len_bytes, parent.stream.len_bytes);
    let percent = u64::from(options.shrink_warn_below_percent);
    if u128::from(len) * 100 < u128::from(before) * u128::from(percent) {
        warn(format!(
            "the snapshot has {len} bytes, less than {percent} % of the {before} bytes of {}: has the cluster lost \
             data?",
            parent.name
        ));
    }
    if let (Some(index), Some(before)) = (new.raft.as_ref().map(|r| r.index), parent.raft.as_ref().map(|r| r.index))
        && index < before
    {
        warn(format!(
            "the Raft index went back from {before} to {index} since {}: was a snapshot restored, or another cluster \
             asked?",
            parent.name
        ));
    }
    let id = |manifest: &Manifest| {
        manifest.labels.iter().find(|label| label.key == "cluster-id").map(|label| label.value.clone())
    };
    if let (Some(id), Some(before)) = (id(new), id(parent))
        && id != before
    {
        warn(format!("the cluster's id is {id}; in {} it was {before}", parent.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_unique_and_within_the_limits() {
        let facts =
            [("b", "\u{e4}".repeat(4000)), ("a", "1".to_owned()), ("empty", String::new()), ("a", "2".to_owned())];
        let labels = labels(&facts);
        let keys: Vec<&str> = labels.iter().map(|label| label.key.as_str()).collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!((labels[0].value.as_str(), labels[1].value.len()), ("1", 4096));
    }
}
