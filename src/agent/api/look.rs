//! Everything that only looks.

use super::Api;
use super::guard::Control;
use super::input::Asked;
use super::problem::Problem;
use crate::agent::clock::Moment;
use crate::agent::core::Leadership;
use crate::agent::planner::JobStatus;
use crate::agent::registry::{Entry, Run, RunState};
use crate::agent::task::{Failure, RunKind, Summary};
use crate::agent::telemetry::METRICS_TYPE;
use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use hah_vault_format::{ManifestName, SourceName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

/// Manifests of a page, at most and by default.
const PAGE_LEN: (usize, usize) = (1000, 100);
/// Runs of an answer, at most and by default.
const RUNS_LEN: (usize, usize) = (500, 50);
/// A listing is believed for so long, unless a run ends.
const LISTING_FRESH_MS: i64 = 30_000;
/// Opened manifests that are remembered; some 300 bytes each.
const SUMMARIES_MAX: usize = 8192;

/// What the store or the repository refused.
pub(super) fn unavailable(failure: Failure) -> Problem {
    Problem::unavailable(failure.message, failure.hint)
}

pub(super) async fn readyz(State(api): State<Api>) -> impl IntoResponse {
    match why_not_ready(&api) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        // Without a token nobody learns more.
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn why_not_ready(api: &Api) -> Option<&'static str> {
    match (api.0.agent.is_stopping(), api.0.agent.trouble()) {
        (true, _) => Some("stopping"),
        (false, Some(_)) => Some("the repository cannot be opened"),
        (false, None) => None,
    }
}

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], api.0.agent.telemetry.render())
}

fn lock(api: &Api) -> Value {
    let instance = &api.0.agent.settings().instance;
    let (held, holder, since, error) = match api.0.agent.leadership() {
        Leadership::Standby { holder, error } => (false, holder, None, error),
        Leadership::Held { since } => (true, Some(instance.clone()), Some(since), None),
        Leadership::Unguarded { since, error } => (false, None, Some(since), Some(error)),
    };
    json!({"kind": api.0.agent.lock_kind, "held": held, "holder": holder, "since": since, "error": error})
}

pub(super) async fn status(State(api): State<Api>, Extension(control): Extension<Control>) -> Json<Value> {
    let agent = &api.0.agent;
    let settings = agent.settings();
    let open = agent.registry.open();
    let running: Vec<String> =
        open.iter().filter(|entry| entry.state() == RunState::Running).map(|entry| entry.id()).collect();
    let storage = agent.stored().map(|(stored, measured)| {
        json!({"objects": stored.objects, "bytes": stored.bytes, "budget_bytes": settings.budget_bytes,
               "measured": measured})
    });
    Json(json!({
        "instance": settings.instance,
        "version": env!("CARGO_PKG_VERSION"),
        "started": agent.started,
        "now": Moment(agent.clock.unix_ms()),
        "ready": why_not_ready(&api).is_none(),
        "stopping": agent.is_stopping(),
        "paused": agent.paused().0,
        "control": control.0,
        "repository": agent.worker().describe(),
        "lock": lock(&api),
        "jobs": agent.jobs(),
        "queued": open.len() - running.len(),
        "running": running,
        "storage": storage,
    }))
}

/// What the store listed.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    names: Arc<Vec<ManifestName>>,
    held: Arc<BTreeSet<ManifestName>>,
    at: Moment,
}

/// The store's listing: a moment old, or new if a run has ended since.
async fn listing(api: &Api) -> Result<Listing, Problem> {
    let (agent, now) = (&api.0.agent, Moment(api.0.agent.clock.unix_ms()));
    let known = api.0.listing.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(known) = known {
        let is_fresh = (0..LISTING_FRESH_MS).contains(&now.0.saturating_sub(known.at.0));
        let ended = |entry: &Arc<Entry>| entry.run().ended.is_some_and(|ended| ended >= known.at);
        if is_fresh && !agent.registry.all().iter().any(ended) {
            return Ok(known);
        }
    }
    let worker = agent.worker();
    let (names, _) = worker.names(now.0).await.map_err(unavailable)?;
    let held = worker.holds().await.map_err(unavailable)?.into_keys().collect();
    let listing = Listing { names: Arc::new(names), held: Arc::new(held), at: now };
    *api.0.listing.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing.clone());
    Ok(listing)
}

/// What was listed is not true any more.
pub(super) fn forget_listing(api: &Api) {
    *api.0.listing.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Short forms, from memory where they are known.
async fn summaries(api: &Api, names: Vec<ManifestName>, listing: &Listing) -> Result<Vec<Summary>, Problem> {
    let unknown: Vec<ManifestName> = {
        let known = api.0.summaries.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter(|name| !known.contains_key(&name.to_string())).cloned().collect()
    };
    let worker = api.0.agent.worker();
    let opened = if unknown.is_empty() { Vec::new() } else { worker.summaries(&unknown).await.map_err(unavailable)? };
    let mut known = api.0.summaries.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() + opened.len() > SUMMARIES_MAX {
        known.clear();
    }
    let fresh: HashMap<&str, &Summary> = opened.iter().map(|summary| (summary.manifest.as_str(), summary)).collect();
    let found = names.iter().filter_map(|name| {
        let text = name.to_string();
        let mut summary = fresh.get(text.as_str()).copied().or_else(|| known.get(&text))?.clone();
        summary.hold = listing.held.contains(name);
        Some(summary)
    });
    let found = found.collect();
    // One that does not open may open tomorrow, with a newer program or a healed store.
    known.extend(opened.into_iter().filter(|s| s.error.is_none()).map(|s| (s.manifest.clone(), s)));
    Ok(found)
}

pub(super) async fn sources(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let agent = &api.0.agent;
    let listing = listing(&api).await?;
    let (names, jobs, settings) = (&listing.names, agent.jobs(), agent.settings());
    let mut all: Vec<(SourceName, String)> =
        settings.sources.iter().map(|source| (source.name.clone(), source.kind.clone())).collect();
    // Sources that are not configured any more may still have snapshots.
    for name in names.iter() {
        if all.iter().all(|(known, _)| *known != name.source) {
            all.push((name.source.clone(), "file".into()));
        }
    }
    all.sort();
    let newest: Vec<ManifestName> =
        all.iter().filter_map(|(source, _)| names.iter().rev().find(|name| name.source == *source)).cloned().collect();
    let newest = summaries(&api, newest, &listing).await?;
    let open = agent.registry.open();
    let source = |(name, kind): (SourceName, String)| {
        let job = jobs.iter().find(|job| job.kind == RunKind::Backup && job.source.as_ref() == Some(&name));
        let newest = newest.iter().find(|summary| summary.source == name);
        let running = open.iter().find(|entry| {
            entry.state() == RunState::Running
                && entry.task.kind == RunKind::Backup
                && entry.task.source.as_ref() == Some(&name)
        });
        let job_value = |pick: fn(&JobStatus) -> Value| job.map_or(Value::Null, pick);
        let success = newest.map(|summary| summary.time).max(job.and_then(|job| job.last_success));
        json!({
            "name": name,
            "kind": kind,
            "schedule": job_value(|job| json!(job.schedule)),
            "paused": job.is_some_and(|job| job.paused),
            "running": running.map(|entry| entry.id()),
            "next": job_value(|job| json!(job.next)),
            "last_attempt": job_value(|job| json!(job.last_attempt)),
            "last_success": success,
            "last_error": job_value(|job| json!(job.last_error)),
            "failures": job.map_or(0, |job| job.failures),
            "late": job.and_then(|job| job.late_before).is_some_and(|before| success.is_none_or(|at| at < before)),
            "newest": newest,
            "manifests": names.iter().filter(|manifest| manifest.source == name).count(),
        })
    };
    let sources: Vec<Value> = all.into_iter().map(source).collect();
    Ok(Json(json!({ "sources": sources })))
}

/// Which manifests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestsQuery {
    source: Option<SourceName>,
    since: Option<Moment>,
    until: Option<Moment>,
    after: Option<String>,
    limit: Option<usize>,
}

fn limited(limit: Option<usize>, (most, default): (usize, usize)) -> Result<usize, Problem> {
    match limit.unwrap_or(default) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Problem::invalid(format!("limit must be 1 to {most}"))),
    }
}

/// Those that follow a name. If that is gone, those of an older second.
fn older(names: Vec<ManifestName>, after: &ManifestName) -> Vec<ManifestName> {
    match names.iter().position(|name| name == after) {
        Some(at) => names.into_iter().skip(at + 1).collect(),
        None => names.into_iter().filter(|name| name.time < after.time).collect(),
    }
}

pub(super) async fn manifests(
    State(api): State<Api>,
    Asked(query): Asked<ManifestsQuery>,
) -> Result<Json<Value>, Problem> {
    let limit = limited(query.limit, PAGE_LEN)?;
    let bad = |error: hah_vault_format::FormatError| Problem::invalid(error.to_string());
    let after: Option<ManifestName> = query.after.as_deref().map(str::parse).transpose().map_err(bad)?;
    let time_ms = |name: &ManifestName| i64::try_from(name.time.unix_s()).unwrap_or(i64::MAX).saturating_mul(1000);
    let listing = listing(&api).await?;
    let mut names = listing.names.as_ref().clone();
    names.retain(|name| {
        query.source.as_ref().is_none_or(|source| name.source == *source)
            && query.since.is_none_or(|since| time_ms(name) >= since.0)
            && query.until.is_none_or(|until| time_ms(name) <= until.0)
    });
    // Names of one second stay in the order in which the store has them: that of their commits.
    names.sort_by_key(|name| name.time);
    names.reverse();
    if let Some(after) = after {
        names = older(names, &after);
    }
    let more = names.len() > limit;
    names.truncate(limit);
    let next = names.last().filter(|_| more).map(ToString::to_string);
    let manifests = summaries(&api, names, &listing).await?;
    Ok(Json(json!({"manifests": manifests, "next": next})))
}

/// A manifest's name from the path.
pub(super) fn manifest_name(source: &str, name: &str) -> Result<ManifestName, Problem> {
    format!("{source}/{name}").parse().map_err(|_| Problem::not_found("this is no manifest's name"))
}

pub(super) async fn manifest(
    State(api): State<Api>,
    Path((source, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let name = manifest_name(&source, &name)?;
    let details = api.0.agent.worker().details(&name).await.map_err(unavailable)?;
    details.map(Json).ok_or_else(|| Problem::not_found(format!("there is no manifest {name}")))
}

/// Which runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunsQuery {
    kind: Option<RunKind>,
    state: Option<RunState>,
    source: Option<SourceName>,
    limit: Option<usize>,
}

pub(super) async fn runs(State(api): State<Api>, Asked(query): Asked<RunsQuery>) -> Result<Json<Value>, Problem> {
    let limit = limited(query.limit, RUNS_LEN)?;
    let wanted = |run: &Run| {
        query.kind.is_none_or(|kind| run.kind == kind)
            && query.state.is_none_or(|state| run.state == state)
            && query.source.as_ref().is_none_or(|source| run.source.as_ref() == Some(source))
    };
    let runs = api.0.agent.registry.all().into_iter().map(|entry| entry.run());
    let runs: Vec<Run> = runs.filter(wanted).take(limit).collect();
    Ok(Json(json!({ "runs": runs })))
}

pub(super) fn find_run(api: &Api, id: &str) -> Result<Arc<Entry>, Problem> {
    let known = id.len() <= 64;
    known.then(|| api.0.agent.registry.find(id)).flatten().ok_or_else(|| Problem::not_found("there is no such run"))
}

pub(super) async fn run(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Run>, Problem> {
    Ok(Json(find_run(&api, &id)?.run()))
}
