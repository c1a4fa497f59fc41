//! Everything that changes something.

use super::Api;
use super::input::Json;
use super::look::{find_run, forget_listing, manifest_name, unavailable};
use super::problem::Problem;
use crate::agent::core::{Leadership, needs_lock};
use crate::agent::registry::{Entry, Refused, Request, Run, RunState, Trigger};
use crate::agent::task::{RunKind, Task};
use crate::archive::manifests::choose;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use hah_vault_format::SourceName;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::sync::Arc;

/// A plan is followed for so long.
const PLAN_AGE_MAX_MS: i64 = 3_600_000;
/// Longest reason of a hold, in characters.
const REASON_LEN_CHARS_MAX: usize = 200;
/// Longest name of a restored file.
const FILE_LEN_BYTES_MAX: usize = 128;

/// A field that is left out, or has a value: a script whose variable is empty must not pause everything with a null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRequest {
    kind: Kind,
    #[serde(default, deserialize_with = "given")]
    source: Option<SourceName>,
    #[serde(default, deserialize_with = "given")]
    dry_run: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    plan: Option<String>,
    #[serde(default, deserialize_with = "given")]
    fresh: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    read_data_percent: Option<u8>,
}

/// What can be asked for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Backup,
    Verify,
    Rehearse,
    Gc,
}

impl From<Kind> for RunKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Backup => Self::Backup,
            Kind::Verify => Self::Verify,
            Kind::Rehearse => Self::Rehearse,
            Kind::Gc => Self::Gc,
        }
    }
}

/// Refuses what would not mean anything.
fn check_fields(request: &RunRequest) -> Result<(), Problem> {
    let kind = request.kind;
    let fields = [
        ("source", request.source.is_some(), kind != Kind::Gc),
        ("dry_run", request.dry_run.is_some(), kind == Kind::Gc),
        ("plan", request.plan.is_some(), kind == Kind::Gc),
        ("fresh", request.fresh.is_some(), kind == Kind::Backup),
        ("read_data_percent", request.read_data_percent.is_some(), kind == Kind::Verify),
    ];
    for (name, is_given, is_known) in fields {
        if is_given && !is_known {
            return Err(Problem::invalid(format!("{name} means nothing for {}", RunKind::from(kind).as_str())));
        }
    }
    if request.read_data_percent.is_some_and(|percent| percent > 100) {
        return Err(Problem::invalid("read_data_percent must be 0 to 100"));
    }
    if kind == Kind::Backup && request.source.is_none() {
        return Err(Problem::invalid("a backup needs a source"));
    }
    if kind == Kind::Gc && request.dry_run == Some(true) && request.plan.is_some() {
        return Err(Problem::invalid("a dry run makes a plan, and follows none"));
    }
    if kind == Kind::Gc && request.dry_run != Some(true) && request.plan.is_none() {
        return Err(Problem::invalid("gc needs a plan")
            .hint("start one with dry_run first, look at its result, and name its id as plan"));
    }
    Ok(())
}

fn check_source(api: &Api, request: &RunRequest) -> Result<(), Problem> {
    let Some(source) = &request.source else { return Ok(()) };
    let known = api.0.agent.settings().sources.iter().any(|known| known.name == *source);
    // Other runs may be about sources that are not configured any more.
    if known || request.kind != Kind::Backup {
        return Ok(());
    }
    Err(Problem::not_found(format!("there is no source {source}")).hint("GET /v1/sources lists them"))
}

/// The finished dry run that a gc follows.
fn plan(api: &Api, id: &str) -> Result<Arc<Entry>, Problem> {
    let entry = find_run(api, id)?;
    let run = entry.run();
    if run.kind != RunKind::Gc || !run.dry_run {
        return Err(Problem::conflict(format!("{id} is no dry run of gc")));
    }
    if run.state != RunState::Done {
        return Err(Problem::conflict(format!("the dry run {id} did not end well")));
    }
    let ended = run.ended.map_or(0, |ended| ended.0);
    if api.0.agent.clock.unix_ms() - ended > PLAN_AGE_MAX_MS {
        return Err(Problem::conflict(format!("the plan {id} is older than an hour")).hint("make a new one"));
    }
    let used = |entry: &Arc<Entry>| entry.run().plan.as_deref() == Some(id);
    if api.0.agent.registry.all().iter().any(used) {
        return Err(Problem::conflict(format!("the plan {id} was followed already")).hint("make a new one"));
    }
    Ok(entry)
}

/// Queues a run, if this replica may do it.
fn queue(api: &Api, task: Task, plan: Option<String>) -> Result<impl IntoResponse + use<>, Problem> {
    let agent = &api.0.agent;
    if agent.is_stopping() {
        return Err(Problem::unavailable("the agent is stopping", None));
    }
    if let (Leadership::Standby { holder, .. }, true) = (agent.leadership(), needs_lock(task.kind)) {
        return Err(Problem::not_leader(holder.as_deref()));
    }
    let request = Request { task, trigger: Trigger::Api, slot: None, plan };
    let entry = agent.request(request).map_err(|refused| match refused {
        Refused::Busy(id) => Problem::conflict(format!("the run {id} does this already")),
        Refused::Full => Problem::unavailable("too many runs wait", None),
    })?;
    let run = entry.run();
    let location = format!("/v1/runs/{}", run.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], axum::Json(run)))
}

pub(super) async fn start(
    State(api): State<Api>,
    Json(request): Json<RunRequest>,
) -> Result<impl IntoResponse, Problem> {
    check_fields(&request)?;
    check_source(&api, &request)?;
    let followed = request.plan.as_deref().map(|id| plan(&api, id)).transpose()?;
    let task = Task {
        dry_run: request.dry_run.unwrap_or(false),
        only: followed.map(|entry| entry.planned()),
        fresh: request.fresh.unwrap_or(false),
        read_data_percent: request.read_data_percent,
        ..Task::new(request.kind.into(), request.source)
    };
    queue(&api, task, request.plan)
}

/// A snapshot to a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreRequest {
    manifest: String,
    file: String,
}

/// A file's name and nothing else: no path, nothing hidden.
fn is_file_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= FILE_LEN_BYTES_MAX && !name.starts_with('.') && name.bytes().all(legal)
}

pub(super) async fn restore(
    State(api): State<Api>,
    Json(request): Json<RestoreRequest>,
) -> Result<impl IntoResponse, Problem> {
    if !is_file_name(&request.file) {
        return Err(Problem::invalid("file must be a name of A-Z, a-z, 0-9, '.', '_' and '-', and no path"));
    }
    if request.manifest.is_empty() || request.manifest.len() > 256 {
        return Err(Problem::invalid("manifest must be a name"));
    }
    if !api.0.agent.settings().can_restore {
        let hint = "set restore_folder in the agent's configuration";
        return Err(Problem::forbidden("no folder for restores is configured", hint));
    }
    let names = api.0.agent.worker().names(api.0.agent.clock.unix_ms()).await.map_err(unavailable)?.0;
    let manifest = choose(&request.manifest, &names).map_err(|error| Problem::not_found(error.to_string()))?;
    let source = Some(manifest.source.clone());
    let task = Task { manifest: Some(manifest), file: Some(request.file), ..Task::new(RunKind::Restore, source) };
    queue(&api, task, None)
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<(StatusCode, axum::Json<Run>), Problem> {
    let entry = find_run(&api, &id)?;
    if !entry.state().is_over() {
        api.0.agent.cancel(&entry);
    }
    Ok((StatusCode::ACCEPTED, axum::Json(entry.run())))
}

/// Whose schedule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleRequest {
    #[serde(default, deserialize_with = "given")]
    source: Option<SourceName>,
}

pub(super) async fn pause(api: State<Api>, request: Json<ScheduleRequest>) -> Result<axum::Json<Value>, Problem> {
    set_paused(&api, &request.0, true)
}

pub(super) async fn resume(api: State<Api>, request: Json<ScheduleRequest>) -> Result<axum::Json<Value>, Problem> {
    set_paused(&api, &request.0, false)
}

fn set_paused(api: &Api, request: &ScheduleRequest, pause: bool) -> Result<axum::Json<Value>, Problem> {
    if !api.0.agent.pause(request.source.as_ref(), pause) {
        return Err(Problem::not_found("there is no schedule of this source"));
    }
    let (paused, sources) = api.0.agent.paused();
    Ok(axum::Json(json!({"paused": paused, "sources": sources})))
}

/// Why it is held.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldRequest {
    #[serde(default, deserialize_with = "given")]
    reason: Option<String>,
}

pub(super) async fn hold(
    State(api): State<Api>,
    Path((source, name)): Path<(String, String)>,
    Json(request): Json<HoldRequest>,
) -> Result<axum::Json<Value>, Problem> {
    let name = manifest_name(&source, &name)?;
    let reason = request.reason.unwrap_or_default();
    if reason.chars().count() > REASON_LEN_CHARS_MAX || reason.chars().any(char::is_control) {
        return Err(Problem::invalid("reason must have at most 200 characters, and no line breaks"));
    }
    let held = api.0.agent.worker().hold(&name, Some(&reason)).await.map_err(unavailable)?;
    forget_listing(&api);
    held.then(|| axum::Json(json!({"manifest": name.to_string(), "reason": reason})))
        .ok_or_else(|| Problem::not_found(format!("there is no manifest {name}")))
}

pub(super) async fn release(
    State(api): State<Api>,
    Path((source, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let name = manifest_name(&source, &name)?;
    let known = api.0.agent.worker().hold(&name, None).await.map_err(unavailable)?;
    forget_listing(&api);
    if known { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found(format!("there is no manifest {name}"))) }
}
