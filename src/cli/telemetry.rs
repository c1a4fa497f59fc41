//! How a run is told to monitoring: metrics file, Pushgateway, dead man's switch. None of it fails a run: what goes wrong
//! is a warning.

use super::args::TelemetryArgs;
use super::console::Console;
use super::error::{CliError, chain};
use crate::archive::Monitor;
use crate::archive::backup::Outcomes;
use crate::archive::verify::report::Report;
use crate::exit::Exit;
use crate::store::{RecordingStore, Store};
use crate::telemetry::file::{FileError, MetricsFile};
use crate::telemetry::ping::Ping;
use crate::telemetry::push::Push;
use crate::telemetry::{Collected, Depth, HttpError, Reason, Registry, Values, Watching};
use crate::world::World;
use hah_vault_format::SourceName;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The telemetry of a run.
pub(super) struct Telemetry {
    registry: Arc<Registry>,
    console: Arc<Console>,
    file: Option<MetricsFile>,
    push: Option<Push>,
    ping: Option<Ping>,
    /// Operations of the store are counted though there is neither file nor push.
    is_agent: bool,
    run: Mutex<Run>,
}

/// Work that is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// A backup of one source.
    Backup(SourceName),
    /// A gc that is no dry run.
    Gc,
    /// A restore of one source.
    Restore(SourceName),
    /// A verification to this depth.
    Verify(Depth),
}

/// What is told of when it ends.
#[derive(Default)]
struct Run {
    /// Whether the command is one that is told of.
    is_told: bool,
    /// Whether its start was pinged.
    start: Option<JoinHandle<()>>,
    /// What has begun and not ended.
    open: Vec<(Job, Instant)>,
    /// Sources of the run.
    sources: Vec<SourceName>,
    /// Those that failed.
    failed: Vec<(SourceName, Reason)>,
}

impl Telemetry {
    /// As the options say.
    pub(super) fn new(args: &TelemetryArgs, world: &Arc<dyn World>, console: &Arc<Console>) -> Result<Self, CliError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let file = args.metrics_file.clone().filter(|path| !path.as_os_str().is_empty());
        let push = given(&args.metrics_push).map(|url| Push::parse(&url, &world.host()));
        let ping = given(&args.ping).map(|url| Ping::parse(&url));
        let bad_push =
            |error: HttpError| CliError::usage(error.to_string(), "check --metrics-push or HAH_VAULT_METRICS_PUSH");
        let bad_ping = |error: HttpError| CliError::usage(error.to_string(), "check --ping or HAH_VAULT_PING_URL");
        let bad_name = |error: FileError| CliError::usage(error.to_string(), "node_exporter reads no other: rename it");
        Ok(Self {
            registry: Registry::new(Arc::clone(world)),
            console: Arc::clone(console),
            file: file.map(MetricsFile::new).transpose().map_err(bad_name)?,
            push: push.transpose().map_err(bad_push)?,
            ping: ping.transpose().map_err(bad_ping)?,
            is_agent: false,
            run: Mutex::default(),
        })
    }

    /// Of a run of the agent, whose registry outlives it.
    pub(super) fn of_agent(registry: Arc<Registry>, console: Arc<Console>) -> Self {
        Self { registry, console, file: None, push: None, ping: None, is_agent: true, run: Mutex::default() }
    }

    /// A store whose operations are counted, if anybody wants to know.
    pub(super) fn watch(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        match self.is_agent || self.file.is_some() || self.push.is_some() {
            true => Arc::new(RecordingStore::with_observer(store, Arc::<Registry>::clone(&self.registry))),
            false => store,
        }
    }

    /// The console, with its events counted.
    pub(super) fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::new(Watching::new(Arc::<Console>::clone(&self.console), Arc::clone(&self.registry)))
    }

    /// A panic elsewhere leaves what is known as it is.
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work begins: however the command ends now, it is told of.
    pub(super) fn begin(&self, job: Job) {
        let mut run = self.run();
        run.is_told = true;
        run.open.push((job, Instant::now()));
    }

    /// Work ended; how long it took.
    fn end(&self, job: &Job) -> Duration {
        let mut run = self.run();
        let at = run.open.iter().position(|(open, _)| open == job);
        at.map_or(Duration::ZERO, |at| run.open.swap_remove(at).1.elapsed())
    }

    /// Backups of these sources begin. The file says so at once: a crash must not look like a run that never began.
    pub(super) async fn begin_backups(&self, sources: Vec<SourceName>) {
        for source in &sources {
            self.registry.backup_began(source);
            self.begin(Job::Backup(source.clone()));
        }
        let start = self.ping.clone().map(|ping| {
            let console = Arc::clone(&self.console);
            tokio::spawn(async move {
                if let Err(error) = ping.start().await {
                    console.warning(None, &format!("the start was not pinged: {error}"));
                }
            })
        });
        {
            let mut run = self.run();
            (run.sources, run.start) = (sources, start);
        }
        self.write().await;
    }

    /// They ended.
    pub(super) fn end_backups(&self, outcomes: &Outcomes) {
        for (source, outcome) in outcomes {
            self.end(&Job::Backup(source.clone()));
            match outcome {
                Ok(report) => self.registry.backup_committed(report),
                Err(error) => self.backup_failed(source, error.into()),
            }
        }
    }

    fn backup_failed(&self, source: &SourceName, reason: Reason) {
        self.registry.backup_failed(source, reason);
        self.run().failed.push((source.clone(), reason));
    }

    /// gc ended; what it was given as budget is known from then on.
    pub(super) fn end_gc(&self, collected: Collected, budget_bytes: Option<u64>) {
        self.end(&Job::Gc);
        self.registry.collected(Some(collected));
        if let Some(budget_bytes) = budget_bytes {
            self.registry.budget(budget_bytes);
        }
    }

    /// A restore ended well, with so many bytes.
    pub(super) fn end_restore(&self, source: &SourceName, len_bytes: u64) {
        let took = self.end(&Job::Restore(source.clone()));
        self.registry.restored(source, Some(len_bytes), took);
    }

    /// A verification ended, with whatever it found.
    pub(super) fn end_verify(&self, report: &Report) {
        let took = self.end(&Job::Verify(Depth::Structure));
        self.run().open.retain(|(job, _)| !matches!(job, Job::Verify(_)));
        self.registry.verify_ended(report, took);
    }

    /// What did not end by itself failed.
    fn fail(&self, job: &Job, began: Instant, reason: Reason) {
        match job {
            Job::Backup(source) => self.backup_failed(source, reason),
            Job::Gc => self.registry.collected(None),
            Job::Restore(source) => self.registry.restored(source, None, began.elapsed()),
            Job::Verify(depth) => self.registry.verified(*depth, None, began.elapsed()),
        }
    }

    /// The command ended so. Bounded in time: 5 s for the file, then 20 s for the network.
    pub(super) async fn finish(&self, result: &Result<Exit, CliError>) {
        let (is_told, open, start) = {
            let mut run = self.run();
            (run.is_told, std::mem::take(&mut run.open), run.start.take())
        };
        if !is_told {
            return;
        }
        for (job, began) in &open {
            self.fail(job, *began, result.as_ref().err().map_or(Reason::Other, reason));
        }
        let values = self.write().await;
        let exit = result.as_ref().map_or_else(CliError::exit, |exit| *exit);
        futures::future::join(self.send_push(values), self.send_ping(exit, start)).await;
    }

    /// Brings the metrics file up to date; all that is known then.
    async fn write(&self) -> Option<Values> {
        let (file, registry) = (self.file.clone()?, Arc::clone(&self.registry));
        let updated = tokio::task::spawn_blocking(move || file.update(&registry)).await;
        match updated {
            Ok(Ok(updated)) => {
                if updated.rubbish_lines > 0 {
                    let text = format!("{} lines of the old metrics file made no sense", updated.rubbish_lines);
                    self.console.warning(None, &format!("{text}; what they counted begins anew"));
                }
                Some(updated.values)
            }
            Ok(Err(error)) => self.not_told(chain(&error)),
            Err(error) => self.not_told(error),
        }
    }

    fn not_told<T>(&self, error: impl Display) -> Option<T> {
        self.console.warning(None, &format!("metrics: {error}"));
        None
    }

    async fn send_push(&self, values: Option<Values>) {
        let Some(push) = &self.push else { return };
        let values = values.unwrap_or_else(|| self.registry.snapshot());
        let sources = self.run().sources.clone();
        let sources: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
        if let Err(error) = push.send(&values, &sources).await {
            self.console.warning(None, &format!("metrics were not pushed: {error}"));
        }
    }

    /// Only a backup is pinged, and after its start.
    async fn send_ping(&self, exit: Exit, start: Option<JoinHandle<()>>) {
        let (Some(ping), Some(start)) = (&self.ping, start) else { return };
        // It ends by itself, and says itself what went wrong.
        let _ = start.await;
        let failed = self.run().failed.clone();
        if let Err(error) = ping.end(exit, &failed).await {
            self.console.warning(None, &format!("the end was not pinged: {error}"));
        }
    }
}

pub(super) fn reason(error: &CliError) -> Reason {
    match error {
        CliError::Archive(error) => error.as_ref().into(),
        CliError::Usage { .. } => Reason::Configuration,
        CliError::Key { .. } | CliError::Identity(_) | CliError::NoKey { .. } => Reason::Key,
        CliError::Exists { .. } | CliError::File { .. } | CliError::Output(_) => Reason::Local,
        _ => Reason::Other,
    }
}
