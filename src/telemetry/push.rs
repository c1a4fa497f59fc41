//! Pushing the figures of a batch run to a Prometheus Pushgateway.
//!
//! Each source has a group of its own, so that runs of different sources do not wipe each other out; and POST replaces
//! only what is pushed, so that the time of the last success outlives a run that failed.

use super::Values;
use super::http::{HttpError, Place};
use super::text::{CONTENT_TYPE, encode};

/// The job in the grouping key.
const JOB: &str = "hah-vault";

/// A Pushgateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    place: Place,
    /// Between `metrics` and the source; empty when the URL has a group itself.
    group: Vec<String>,
}

impl Push {
    /// Reads the URL: the gateway's, or one with `/metrics/job/…` in it. Without that, the group is job `hah-vault` and
    /// this host as instance.
    ///
    /// # Errors
    /// [`HttpError::NotAUrl`], which does not repeat it.
    pub fn parse(url: &str, host: &str) -> Result<Self, HttpError> {
        let place = Place::parse(url, "push")?;
        let group = if place.url(&[]).path().contains("/metrics/job") {
            Vec::new()
        } else {
            ["metrics", "job", JOB, "instance", if host.is_empty() { "unknown" } else { host }].map(Into::into).into()
        };
        Ok(Self { place, group })
    }

    /// Pushes what is of these sources, and what is of none.
    ///
    /// # Errors
    /// The first [`HttpError`]; the other groups were pushed all the same, unless nobody answers there.
    pub async fn send(&self, values: &Values, sources: &[&str]) -> Result<(), HttpError> {
        let mut first = Ok(());
        for source in std::iter::once(None).chain(sources.iter().copied().map(Some)) {
            let part = values.of_source(source);
            if part.is_empty() {
                continue;
            }
            let mut path: Vec<&str> = self.group.iter().map(String::as_str).collect();
            path.extend(source.iter().flat_map(|source| ["source", source]));
            let sent = self.place.post(self.place.url(&path), CONTENT_TYPE, &encode(&part)).await;
            let is_dead = matches!(sent, Err(HttpError::Unreachable { .. } | HttpError::Silent { .. }));
            first = first.and(sent);
            if is_dead {
                break;
            }
        }
        first
    }
}
