//! Following a run: server-sent events.

use super::problem::Problem;
use super::{Api, look};
use crate::agent::registry::Entry;
use axum::extract::{Path, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// The shortest time between two events.
const EVERY: Duration = Duration::from_millis(250);
/// A stream ends after this; whoever still follows asks again.
const LONGEST: Duration = Duration::from_secs(3600);

/// The run as it is now, and again after every change, until it has ended.
pub(super) async fn follow(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let entry = look::find_run(&api, &id)?;
    let permit = Arc::clone(&api.0.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many streams are open", None))?;
    let ends = tokio::time::Instant::now() + LONGEST;
    let mut changes = entry.changes();
    changes.mark_changed();
    let start = Some((entry, changes, permit, false));
    let events = futures::stream::unfold(start, move |state| async move {
        let (entry, mut changes, permit, told) = state?;
        if told {
            tokio::time::sleep(EVERY).await;
        }
        tokio::time::timeout_at(ends, changes.changed()).await.ok()?.ok()?;
        let (event, is_over) = event(&entry);
        Some((Ok(event), (!is_over).then_some((entry, changes, permit, true))))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn event(entry: &Entry) -> (Event, bool) {
    let run = entry.run();
    let data = serde_json::to_string(&run).unwrap_or_default();
    (Event::default().event("run").data(data), run.state.is_over())
}
