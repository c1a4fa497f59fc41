//! The agent's work, on the configured repository: each run as its command would do it, with sessions of its own.

use super::super::args::Gc;
use super::super::context::{Context, Need};
use super::super::error::{CliError, chain};
use super::super::telemetry::reason;
use super::super::{backup, gc, restore, show, verify};
use super::Base;
use super::plan::AgentPlan;
use crate::agent::{Failure, Moment, Outcome, RunKind, Stored, Summary, Task, Worker};
use crate::archive::gc::{GcOptions, execute, plan};
use crate::archive::host_state::HostState;
use crate::archive::restore::{Exactness, restore_to_file};
use crate::archive::{ArchiveError, Cancel, Monitor, Repository};
use crate::exit::Exit;
use crate::store::RecordingStore;
use crate::telemetry::{Depth, Reason};
use async_trait::async_trait;
use futures::FutureExt;
use hah_vault_format::name::{INDEX_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, TRASH_PREFIX};
use hah_vault_format::{Manifest, ManifestName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

/// A repository that is open for looking is opened again after this: credentials end, keys change.
const REOPEN_AFTER: Duration = Duration::from_secs(600);

/// Does what commands do.
pub(super) struct ArchiveWorker {
    base: Base,
    plan: AgentPlan,
    describe: String,
    opened: Mutex<Option<Opened>>,
}

/// A repository that is open for looking.
struct Opened {
    context: Context,
    repository: Repository,
    at: Duration,
}

impl std::fmt::Debug for ArchiveWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWorker").field("repository", &self.describe).finish_non_exhaustive()
    }
}

fn failure(error: &CliError) -> Failure {
    Failure {
        message: chain(error),
        hint: error.hint(),
        code: error.exit().code(),
        reason: reason(error).as_str().to_owned(),
    }
}

/// The same for a run that ended with damage or something left undone.
fn partial(reason: Reason, message: impl Into<String>) -> Failure {
    Failure { code: Exit::Partial.code(), ..Failure::new(reason.as_str(), message) }
}

impl ArchiveWorker {
    /// Connects to nothing yet.
    pub(super) fn new(base: Base, plan: AgentPlan, describe: String) -> Self {
        Self { base, plan, describe, opened: Mutex::new(None) }
    }

    fn context(&self, cancel: &Cancel) -> Context {
        self.base.context(cancel.clone())
    }

    /// The repository for looking; opened again after a while.
    async fn look(&self) -> Result<MutexGuard<'_, Option<Opened>>, CliError> {
        let mut opened = self.opened.lock().await;
        let is_old = |opened: &Opened| opened.context.world.since_boot().saturating_sub(opened.at) > REOPEN_AFTER;
        if opened.as_ref().is_some_and(is_old)
            && let Some(old) = opened.take()
        {
            old.context.servers.close().boxed().await;
        }
        if opened.is_none() {
            let context = self.context(&Cancel::default());
            // Boxed, here and below: the compiler loses itself in the nested types of these futures.
            let repository = match context.repository(Need::Writer, "the agent").boxed().await {
                Ok(repository) => repository,
                Err(error) => {
                    context.servers.close().boxed().await;
                    return Err(error);
                }
            };
            let at = context.world.since_boot();
            *opened = Some(Opened { context, repository, at });
        }
        Ok(opened)
    }

    async fn repository(&self) -> Result<Repository, Failure> {
        let opened = self.look().boxed().await.map_err(|error| failure(&error))?;
        let none = || Failure::new("internal", "the repository is not open");
        opened.as_ref().map(|opened| opened.repository.clone()).ok_or_else(none)
    }

    async fn perform(&self, context: &Context, task: &Task, monitor: Arc<dyn Monitor>) -> Result<Outcome, CliError> {
        match task.kind {
            RunKind::Backup => self.backup(context, task, monitor).boxed().await,
            RunKind::Gc => self.gc(context, task, monitor).boxed().await,
            RunKind::Verify | RunKind::Rehearse => self.verify(context, task, monitor).boxed().await,
            RunKind::Restore => self.restore(context, task, monitor).boxed().await,
        }
    }

    async fn backup(&self, context: &Context, task: &Task, monitor: Arc<dyn Monitor>) -> Result<Outcome, CliError> {
        let source = task.source.as_ref().ok_or_else(|| ArchiveError::Internal("a backup without a source".into()))?;
        let report = backup::one(context, source, task.fresh, monitor).boxed().await?;
        self.base.metrics.backup_committed(&report);
        Ok(Outcome { result: backup::object(&report), ..Outcome::default() })
    }

    async fn gc(&self, context: &Context, task: &Task, monitor: Arc<dyn Monitor>) -> Result<Outcome, CliError> {
        let repository = context.repository(Need::Writer, "gc").boxed().await?;
        let counter = Arc::new(RecordingStore::new(Arc::clone(&repository.store)));
        let repository = Repository { store: Arc::clone(&counter) as _, monitor, ..repository };
        let options = GcOptions {
            policy: self.plan.retention.policy.clone(),
            policies: self.plan.retention.policies.clone(),
            damaged: context.state(&repository).as_ref().map(HostState::damaged).unwrap_or_default(),
            ..GcOptions::default()
        };
        let plan = plan(&repository, &options, &context.cancel).boxed().await?;
        let planned: Vec<ManifestName> = plan.retire().map(|row| row.name.clone()).collect();
        // What a person has seen in the dry run, and no more.
        if let Some(only) = &task.only
            && let Some(new) = planned.iter().find(|name| !only.contains(name))
        {
            let hint = "make a new dry run and look at it";
            return Err(CliError::usage(format!("the plan has changed: {new} would go now, too"), hint));
        }
        let report = match task.dry_run {
            true => plan.foretell(),
            false => execute(&repository, &plan, &options, &context.cancel).boxed().await?,
        };
        let complete = report.is_complete() && plan.blocked_by.is_empty();
        if !task.dry_run {
            self.base.metrics.collected(Some(gc::collected(&plan, &report, complete)));
        }
        let args = Gc { dry_run: task.dry_run, ..Gc::default() };
        let told = gc::Told { args: &args, plan: &plan, report: &report, counts: counter.counts() };
        let mut result = told.object();
        let retired: Vec<Value> = plan.retire().map(gc::row_object).collect();
        result["manifests"] = Value::Array(retired);
        let partial = match (&report.refusal, plan.blocked_by.first()) {
            (Some(refusal), _) => Some(partial(Reason::Store, format!("objects are still there: {refusal}"))),
            (None, Some(what)) => {
                Some(partial(Reason::Damaged, format!("no pack is deleted, because this does not open: {what}")))
            }
            (None, None) => None,
        };
        Ok(Outcome { result, partial: partial.filter(|_| !task.dry_run), planned })
    }

    async fn verify(&self, context: &Context, task: &Task, monitor: Arc<dyn Monitor>) -> Result<Outcome, CliError> {
        let rehearse = task.kind == RunKind::Rehearse;
        let began = Instant::now();
        let percent = task.read_data_percent.filter(|percent| *percent > 0);
        // On a thread of its own: the compiler cannot prove that this future may move between threads.
        let (base, cancel, source) = (self.base.clone(), context.cancel.clone(), task.source.clone());
        let runtime = Handle::current();
        let verifying = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                let context = base.context(cancel);
                let verified = verify::for_agent(&context, source.as_ref(), percent, rehearse, monitor).await;
                context.servers.close().await;
                verified
            })
        });
        let verified = verifying.await.unwrap_or_else(|error| Err(ArchiveError::Internal(error.to_string()).into()));
        let (metrics, took) = (&self.base.metrics, began.elapsed());
        let (report, result) = verified?;
        metrics.verify_ended(&report, took);
        let partial = report.is_damaged().then(|| partial(Reason::Damaged, verify::worst(&report)));
        Ok(Outcome { result, partial, ..Outcome::default() })
    }

    /// A run failed before it could tell what it did. Of backups the agent tells itself.
    fn count_failure(&self, task: &Task, took: Duration) {
        let metrics = &self.base.metrics;
        let percent = task.read_data_percent.filter(|percent| *percent > 0);
        match (task.kind, &task.manifest) {
            (RunKind::Backup, _) => {}
            (RunKind::Gc, _) if task.dry_run => {}
            (RunKind::Gc, _) => metrics.collected(None),
            (RunKind::Restore, Some(name)) => metrics.restored(&name.source, None, took),
            (RunKind::Restore, None) => {}
            (RunKind::Rehearse, _) => metrics.verified(Depth::Rehearsal, None, took),
            (RunKind::Verify, _) if percent.is_some() => metrics.verified(Depth::Data, None, took),
            (RunKind::Verify, _) => metrics.verified(Depth::Structure, None, took),
        }
    }

    async fn restore(&self, context: &Context, task: &Task, monitor: Arc<dyn Monitor>) -> Result<Outcome, CliError> {
        let (Some(folder), Some(name), Some(file)) = (&self.plan.restore_folder, &task.manifest, &task.file) else {
            return Err(CliError::usage(
                "no folder for restores is configured",
                "set restore_folder in the agent block",
            ));
        };
        let repository = Repository { monitor, ..context.repository(Need::Reader, "restore").boxed().await? };
        let path = folder.join(file);
        let (metrics, began) = (&self.base.metrics, Instant::now());
        let report = restore_to_file(&repository, name, &path, false, false, &context.cancel).boxed().await?;
        metrics.restored(&name.source, Some(report.len_bytes), began.elapsed());
        let is_exact = report.exactness != Exactness::UnexpectedGzip;
        let message = "the snapshot is right, but in another gzip than the manifest promised";
        let partial = (!is_exact).then(|| partial(Reason::Damaged, message));
        Ok(Outcome { result: restore::object(&report, Some(&path)), partial, ..Outcome::default() })
    }
}

fn summary(name: &ManifestName, opened: &Result<Manifest, ArchiveError>, len_bytes: u64) -> Summary {
    let manifest = opened.as_ref().ok();
    Summary {
        manifest: name.to_string(),
        source: name.source.clone(),
        time: Moment::from_unix_s(i64::try_from(name.time.unix_s()).unwrap_or(i64::MAX)),
        kind: manifest.map(|manifest| manifest.kind.as_str().to_owned()),
        host: manifest.map(|manifest| manifest.host.clone()),
        parent: manifest.and_then(|manifest| manifest.parent.as_ref()).map(ToString::to_string),
        original_len_bytes: manifest.map(|manifest| manifest.original.len_bytes),
        stream_len_bytes: manifest.map(|manifest| manifest.stream.len_bytes),
        new_bytes: manifest.map(|manifest| manifest.counts.new_bytes),
        stored_bytes: manifest.map(|manifest| manifest.counts.stored_bytes + len_bytes),
        hold: false,
        error: opened.as_ref().err().map(|error| chain(error)),
    }
}

fn archive(error: ArchiveError) -> Failure {
    failure(&error.into())
}

#[async_trait]
impl Worker for ArchiveWorker {
    fn describe(&self) -> String {
        self.describe.clone()
    }

    async fn check(&self) -> Result<(), Failure> {
        self.look().boxed().await.map(drop).map_err(|error| failure(&error))
    }

    async fn names(&self, now_unix_ms: i64) -> Result<(Vec<ManifestName>, i64), Failure> {
        let repository = self.repository().await?;
        let listed = repository.list_manifests(None).await.map_err(archive)?;
        listed.iter().for_each(|listed| self.base.metrics.manifest_found(&listed.name));
        let now = repository.store.now().await.map_err(|error| archive(error.into()))?;
        Ok((listed.into_iter().map(|listed| listed.name).collect(), now.unix_ms.saturating_sub(now_unix_ms)))
    }

    async fn summaries(&self, names: &[ManifestName]) -> Result<Vec<Summary>, Failure> {
        let repository = self.repository().await?;
        let opened = repository.open_manifests(names, &Cancel::default()).boxed().await.map_err(archive)?;
        Ok(names.iter().zip(&opened).map(|(name, opened)| summary(name, opened, 0)).collect())
    }

    async fn details(&self, name: &ManifestName) -> Result<Option<Value>, Failure> {
        let repository = self.repository().await?;
        let there = repository.store.stat(&name.key()).await.map_err(|error| archive(error.into()))?;
        if there.is_none() {
            return Ok(None);
        }
        let manifest = repository.open_manifest(name).boxed().await.map_err(archive)?;
        let held = repository.store.stat(&name.hold_key()).await.map_err(|error| archive(error.into()))?;
        let hold = match held {
            Some(_) => Some(repository.hold_reason(name).await.map_err(archive)?.unwrap_or_default()),
            None => None,
        };
        Ok(Some(show::object(&manifest, hold)))
    }

    async fn holds(&self) -> Result<BTreeMap<ManifestName, String>, Failure> {
        let held = self.repository().await?.list_holds(None).await.map_err(archive)?;
        Ok(held.into_iter().map(|held| (held.name, String::new())).collect())
    }

    async fn hold(&self, name: &ManifestName, reason: Option<&str>) -> Result<bool, Failure> {
        let repository = self.repository().await?;
        let there = repository.store.stat(&name.key()).await.map_err(|error| archive(error.into()))?.is_some();
        match reason {
            Some(reason) if there => repository.hold(name, reason).await.map_err(archive).map(|_| true),
            Some(_) => Ok(false),
            None => Ok(repository.release(name).await.map_err(archive)? || there),
        }
    }

    async fn stored(&self) -> Result<Stored, Failure> {
        let repository = self.repository().await?;
        let mut stored = Stored { objects: 0, bytes: 0 };
        for prefix in [PACKS_PREFIX, INDEX_PREFIX, MANIFESTS_PREFIX, TRASH_PREFIX] {
            for object in repository.store.list(prefix).await.map_err(|error| archive(error.into()))? {
                stored.objects += 1;
                stored.bytes += object.len_bytes;
            }
        }
        Ok(stored)
    }

    async fn run(&self, task: &Task, monitor: Arc<dyn Monitor>, cancel: &Cancel) -> Result<Outcome, Failure> {
        let context = self.context(cancel);
        let began = Instant::now();
        let result = self.perform(&context, task, monitor).boxed().await;
        if result.is_err() {
            self.count_failure(task, began.elapsed());
        }
        // Tokens that were made for this run end with it.
        context.servers.close().boxed().await;
        result.map_err(|error| failure(&error))
    }

    async fn close(&self) {
        if let Some(opened) = self.opened.lock().await.take() {
            opened.context.servers.close().boxed().await;
        }
    }
}

/// What a worker does, for the log at the start.
pub(super) fn describe(plan: &AgentPlan) -> Value {
    let jobs = plan.agent.jobs.iter().map(|job| {
        json!({"kind": job.task.kind.as_str(), "source": job.task.source, "schedule": job.schedule.text(),
               "time_zone": job.schedule.zone_name(), "jitter_s": job.schedule.jitter().as_secs()})
    });
    let own = plan.retention.policies.iter().map(|(source, policy)| (source.to_string(), json!(policy.describe())));
    json!({"type": "agent", "listen": plan.listen.to_string(), "jobs": jobs.collect::<Vec<Value>>(),
           "retention": plan.retention.policy.describe(), "retention_of": own.collect::<serde_json::Map<_, _>>()})
}
