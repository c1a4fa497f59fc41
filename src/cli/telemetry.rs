//! How a run is told to monitoring: metrics file, Pushgateway, dead man's switch. None of it fails a run: what goes wrong
//! is a warning.

use super::args::TelemetryArgs;
use super::console::Console;
use super::error::CliError;
use super::outlets::Outlets;
use crate::archive::Monitor;
use crate::archive::backup::Outcomes;
use crate::archive::verify::report::Report;
use crate::exit::Exit;
use crate::store::{RecordingStore, Store};
use crate::telemetry::{Collected, Depth, Reason, Registry, Watching};
use crate::world::World;
use hah_vault_format::SourceName;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The telemetry of a run.
pub(super) struct Telemetry {
    registry: Arc<Registry>,
    console: Arc<Console>,
    /// `None`: the agent tells of its runs itself.
    outlets: Option<Arc<Outlets>>,
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
        Ok(Self {
            registry: Registry::new(Arc::clone(world)),
            console: Arc::clone(console),
            outlets: Some(Arc::new(Outlets::new(args, &world.host(), Arc::clone(console))?)),
            run: Mutex::default(),
        })
    }

    /// Where this run is told of.
    pub(super) fn outlets(&self) -> Option<Arc<Outlets>> {
        self.outlets.clone()
    }

    /// Of a run of the agent, whose registry outlives it.
    pub(super) fn of_agent(registry: Arc<Registry>, console: Arc<Console>) -> Self {
        Self { registry, console, outlets: None, run: Mutex::default() }
    }

    /// A store whose operations are counted, if anybody wants to know.
    pub(super) fn watch(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        match self.outlets.as_ref().is_none_or(|outlets| outlets.take_figures()) {
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
        let Some(outlets) = self.outlets() else { return };
        let start = outlets.take_pings().then(|| {
            let outlets = Arc::clone(&outlets);
            tokio::spawn(async move { outlets.ping_start().await })
        });
        {
            let mut run = self.run();
            (run.sources, run.start) = (sources, start);
        }
        outlets.write(&self.registry).await;
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
        let Some(outlets) = &self.outlets else { return };
        let values = outlets.write(&self.registry).await.unwrap_or_else(|| self.registry.unsaved_snapshot());
        let exit = result.as_ref().map_or_else(CliError::exit, |exit| *exit);
        let (sources, failed) = {
            let run = self.run();
            (run.sources.clone(), run.failed.clone())
        };
        // Only a backup is pinged, and after its start; that ends by itself, and says itself what went wrong.
        let ping = async {
            if let Some(start) = start {
                let _ = start.await;
                outlets.ping_end(exit, &failed).await;
            }
        };
        futures::future::join(outlets.push(&values, &sources), ping).await;
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
