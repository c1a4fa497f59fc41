//! The scheduler: begins what is due, one run after the other, and settles how it ended.

use super::clock::{Clock, Moment};
use super::lock::LockKind;
use super::planner::{Ended, JobKey, JobSettings, JobStatus, Journal, Planner, Retry};
use super::registry::{Entry, Refused, Registry, Request, RunState, Trigger};
use super::task::{Failure, Outcome, RunKind, Stored, Worker};
use super::telemetry::Telemetry;
use crate::world::World;
use futures::FutureExt;
use hah_vault_format::{ManifestName, SourceName};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How long after the wish to stop a run may take to end in good order.
const ABORT_LIMIT: Duration = Duration::from_secs(30);
/// The store is counted again after a run that changed it, but not more often than this: four listings each time.
const COUNT_EVERY_MS: i64 = 600_000;

/// A source as the agent shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// Its name.
    pub name: SourceName,
    /// `vault`, `consul`, `nomad` or `file`.
    pub kind: String,
}

/// What is configured. All of it can be changed while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// The replica's name.
    pub instance: String,
    /// All sources, also those without a schedule.
    pub sources: Vec<SourceSettings>,
    /// What runs when.
    pub jobs: Vec<JobSettings>,
    /// How failed runs are repeated.
    pub retry: Retry,
    /// Runs at the same time; each backup takes memory of its own.
    pub runs_max: usize,
    /// After so long without an answer from the lock, the schedules run without it; `None`: never.
    pub lock_patience: Option<Duration>,
    /// What the store may hold, in bytes; only told.
    pub budget_bytes: Option<u64>,
    /// There is a folder for restores.
    pub can_restore: bool,
}

impl AgentSettings {
    /// Of these jobs, everything else at its default.
    pub fn new(instance: impl Into<String>, sources: Vec<SourceSettings>, jobs: Vec<JobSettings>) -> Self {
        Self {
            instance: instance.into(),
            sources,
            jobs,
            retry: Retry::default(),
            runs_max: 1,
            lock_patience: Some(Duration::from_secs(600)),
            budget_bytes: None,
            can_restore: false,
        }
    }
}

/// How long a stop may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// Runs may finish within this; then they are stopped.
    pub finish: Duration,
}

/// Whether this replica runs the schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// It does not.
    Standby {
        /// Who does, as far as is known.
        holder: Option<String>,
        /// Why nobody can say.
        error: Option<String>,
    },
    /// It holds the lock.
    Held {
        /// Since when.
        since: Moment,
    },
    /// Nobody has been able to say for long; it goes on without the lock.
    Unguarded {
        /// Since when.
        since: Moment,
        /// Why.
        error: String,
    },
}

impl Leadership {
    /// Whether this replica works.
    pub fn is_active(&self) -> bool {
        !matches!(self, Self::Standby { .. })
    }
}

struct State {
    settings: Arc<AgentSettings>,
    worker: Arc<dyn Worker>,
    planner: Planner,
    leadership: Leadership,
    /// The repository's past is known.
    adopted: bool,
    /// Why it is not.
    trouble: Option<Failure>,
    stopping: bool,
    stored: Option<(Stored, Moment)>,
}

/// An agent.
pub struct Agent {
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its runs.
    pub registry: Registry,
    /// What counts them.
    pub telemetry: Arc<dyn Telemetry>,
    /// Since when it runs.
    pub started: Moment,
    /// How replicas agree.
    pub lock_kind: LockKind,
    state: Mutex<State>,
    /// Something may be due, or may begin.
    wake: Notify,
    /// The journal has changed.
    pub(super) noted: Notify,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that does nothing yet.
    pub fn new(
        settings: AgentSettings,
        worker: Arc<dyn Worker>,
        (world, clock): (Arc<dyn World>, Arc<dyn Clock>),
        telemetry: Arc<dyn Telemetry>,
        lock_kind: LockKind,
    ) -> Arc<Self> {
        let planner = Planner::new(settings.jobs.clone(), settings.retry);
        let state = State {
            settings: Arc::new(settings),
            worker,
            planner,
            leadership: Leadership::Standby { holder: None, error: None },
            adopted: false,
            trouble: None,
            stopping: false,
            stored: None,
        };
        Arc::new(Self {
            registry: Registry::new(world, Arc::clone(&clock)),
            telemetry,
            started: Moment(clock.unix_ms()),
            lock_kind,
            clock,
            state: Mutex::new(state),
            wake: Notify::new(),
            noted: Notify::new(),
            stop: watch::channel(false).0,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic elsewhere leaves behind is whole: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is configured.
    pub fn settings(&self) -> Arc<AgentSettings> {
        Arc::clone(&self.state().settings)
    }

    /// Whoever does the work.
    pub fn worker(&self) -> Arc<dyn Worker> {
        Arc::clone(&self.state().worker)
    }

    /// Whether this replica works.
    pub fn leadership(&self) -> Leadership {
        self.state().leadership.clone()
    }

    /// Whether it stops.
    pub fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// Why it is not ready, if it is not.
    pub fn trouble(&self) -> Option<Failure> {
        self.state().trouble.clone()
    }

    /// What the store holds, and when that was counted.
    pub fn stored(&self) -> Option<(Stored, Moment)> {
        self.state().stored
    }

    /// All jobs.
    pub fn jobs(&self) -> Vec<JobStatus> {
        let state = self.state();
        state.planner.status(self.clock.unix_ms(), state.leadership.is_active() && !state.stopping)
    }

    /// Jobs whose last good run is too old.
    pub fn late_jobs(&self) -> Vec<JobKey> {
        self.state().planner.late_jobs(self.clock.unix_ms())
    }

    /// Whether all schedules are paused, and the sources whose own is.
    pub fn paused(&self) -> (bool, Vec<SourceName>) {
        self.state().planner.paused()
    }

    /// Pauses or resumes schedules. `false` if there is no such source.
    pub fn pause(&self, source: Option<&SourceName>, pause: bool) -> bool {
        let known = self.state().planner.pause(source, pause);
        if known {
            let source = source.map_or("all", SourceName::as_str);
            tracing::info!(source, pause, "schedules paused or resumed");
            self.wake.notify_one();
        }
        known
    }

    /// New settings and a new worker; runs under way keep the old.
    pub fn reload(&self, settings: AgentSettings, worker: Arc<dyn Worker>) {
        let mut state = self.state();
        state.planner.reload(settings.jobs.clone(), settings.retry);
        state.settings = Arc::new(settings);
        state.worker = worker;
        // New sources may have snapshots already.
        state.adopted = false;
        drop(state);
        self.wake.notify_one();
        self.noted.notify_one();
    }

    /// Queues a run that somebody asks for.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn request(&self, request: Request) -> Result<Arc<Entry>, Refused> {
        let entry = self.registry.queue(request, &self.telemetry.monitor())?;
        self.wake.notify_one();
        Ok(entry)
    }

    /// Stops a run; one that waits never begins.
    pub fn cancel(&self, entry: &Entry) {
        entry.stop();
        self.registry.abort(entry, Failure::new("interrupted", "stopped before it began"));
        self.settle_aborted(entry);
        self.wake.notify_one();
    }

    /// What the next holder of the lock must know.
    pub fn journal(&self) -> Journal {
        self.state().planner.journal()
    }

    /// The lock was taken, lost, or cannot be reached. `lost`: another replica has it, so that what is under way on a
    /// schedule is withdrawn.
    pub(super) fn set_leadership(&self, leadership: Leadership, lost: bool) {
        let mut state = self.state();
        if state.leadership == leadership {
            return;
        }
        let (was, is) = (state.leadership.is_active(), leadership.is_active());
        self.telemetry.lock_held(matches!(leadership, Leadership::Held { .. }));
        tracing::info!(?leadership, "lock");
        state.leadership = leadership;
        if was && !is {
            state.adopted = false;
        }
        if lost {
            state.planner.step_down();
        }
        drop(state);
        if lost {
            let scheduled = |entry: &&Arc<Entry>| entry.run().trigger != Trigger::Api;
            self.registry.open().iter().filter(scheduled).for_each(|entry| self.withdraw(entry, "the lock was lost"));
        }
        self.wake.notify_one();
    }

    fn withdraw(&self, entry: &Entry, why: &str) {
        entry.withdraw();
        self.registry.abort(entry, Failure::new("interrupted", why));
        self.settle_aborted(entry);
    }

    /// A run that never began leaves its slot free, or settled if somebody stopped it.
    fn settle_aborted(&self, entry: &Entry) {
        let run = entry.run();
        let (Some(slot), RunState::Aborted, None) = (run.slot, run.state, run.started) else { return };
        let how = match entry.is_withdrawn() {
            true => Ended::Withdrawn,
            false => Ended::Stopped(run.error.unwrap_or_else(|| Failure::new("interrupted", "stopped"))),
        };
        let (key, now) = (key_of(entry), self.clock.unix_ms());
        self.state().planner.ended(&key, Some(slot.0.div_euclid(1000)), now, now, how);
    }

    /// What the holder of the lock before us noted.
    pub(super) fn inherit(&self, journal: Journal) {
        self.state().planner.inherit(journal);
    }

    /// Learns from the repository what was done before, and from then on runs the schedules. `false`: not now.
    pub(super) async fn adopt(&self) -> bool {
        let (worker, now) = (self.worker(), self.clock.unix_ms());
        let named = worker.names(now).await;
        let mut state = self.state();
        match named {
            Ok((names, offset_ms)) => {
                let now = self.clock.unix_ms();
                state.planner.adopt(&newest(&names, offset_ms), now);
                (state.adopted, state.trouble) = (true, None);
                drop(state);
                self.wake.notify_one();
                true
            }
            Err(failure) => {
                tracing::warn!(error = failure.message, "the repository cannot be read; schedules wait");
                state.trouble = Some(failure);
                false
            }
        }
    }

    /// Whether the repository's past is still to be learned.
    pub(super) fn wants_adoption(&self) -> bool {
        let state = self.state();
        state.leadership.is_active() && !state.adopted && !state.stopping
    }

    /// Whether repository and keys can be opened; for replicas that hold no lock, too.
    pub(super) async fn check(&self) {
        let trouble = self.worker().check().await.err();
        self.state().trouble = trouble;
    }

    /// Begins nothing more; returns at once.
    pub fn begin_stop(&self) {
        self.state().stopping = true;
        self.stop.send_replace(true);
        for entry in self.registry.open().iter().filter(|entry| entry.state() == RunState::Queued) {
            self.withdraw(entry, "the agent stops");
        }
        self.wake.notify_one();
    }

    /// Returns when the agent is to stop.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as the agent.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Runs the schedules until it is stopped and every run has ended.
    pub async fn run(self: &Arc<Self>, limits: StopLimits) {
        let mut runs: JoinSet<()> = JoinSet::new();
        let mut deadline = std::pin::pin!(self.deadline(limits));
        let mut is_past = 0;
        loop {
            self.queue_due();
            self.start_queued(&mut runs);
            if self.is_stopping() && runs.is_empty() {
                break;
            }
            let look = self.next_look_unix_ms();
            tokio::select! {
                Some(_) = runs.join_next() => {}
                () = self.wake.notified() => {}
                () = wait_until(self.clock.as_ref(), look) => {}
                () = &mut deadline, if is_past < 2 => {
                    is_past += 1;
                    if is_past == 2 {
                        tracing::error!("runs do not end; they are left behind");
                        break;
                    }
                    self.registry.open().iter().for_each(|entry| self.withdraw(entry, "the agent stops"));
                    deadline.set(self.deadline(StopLimits { finish: ABORT_LIMIT }));
                }
            }
        }
        self.worker().close().await;
    }

    async fn deadline(&self, limits: StopLimits) {
        self.stopping().await;
        self.clock.sleep(limits.finish).await;
    }

    fn next_look_unix_ms(&self) -> Option<i64> {
        let state = self.state();
        let active = state.leadership.is_active() && state.adopted && !state.stopping;
        active.then(|| state.planner.next_look_unix_ms(self.clock.unix_ms())).flatten()
    }

    fn queue_due(&self) {
        let now = self.clock.unix_ms();
        let mut state = self.state();
        if !state.leadership.is_active() || !state.adopted || state.stopping {
            return;
        }
        for due in state.planner.due(now) {
            let trigger = if due.is_late { Trigger::CatchUp } else { Trigger::Schedule };
            let request = Request { task: due.task, trigger, slot: Some(due.slot), plan: None };
            match self.registry.queue(request, &self.telemetry.monitor()) {
                Ok(_) => state.planner.begun(&due.key, Some(due.slot), now),
                // Looked at again when a run ends.
                Err(refused) => tracing::debug!(job = %due.key, ?refused, "due, and waits"),
            }
        }
    }

    fn start_queued(self: &Arc<Self>, runs: &mut JoinSet<()>) {
        let runs_max = self.settings().runs_max.max(1);
        while runs.len() < runs_max
            && let Some(entry) = self.registry.next_queued()
        {
            self.registry.start(&entry);
            runs.spawn(Arc::clone(self).perform(entry));
        }
    }

    async fn perform(self: Arc<Self>, entry: Arc<Entry>) {
        let run = entry.run();
        let (worker, started) = (self.worker(), self.clock.unix_ms());
        let key = key_of(&entry);
        tracing::info!(run = run.id, job = %key, trigger = ?run.trigger, "run begins");
        self.telemetry.begun(&run);
        self.state().planner.begun(&key, None, started);
        let working = worker.run(&entry.task, Arc::clone(&entry) as _, &entry.cancel);
        let outcome = AssertUnwindSafe(working).catch_unwind().await.unwrap_or_else(|_| {
            Err(Failure::new("internal", "the run panicked; its message is in the agent's standard error"))
        });
        self.settle(&entry, &key, started, &outcome);
        self.registry.end(&entry, outcome);
        let run = entry.run();
        let error = run.error.as_ref().map(|error| error.message.as_str());
        tracing::info!(run = run.id, job = %key, state = ?run.state, error, "run ended");
        self.telemetry.ended(&run);
        self.noted.notify_one();
        self.count(&worker).await;
    }

    fn settle(&self, entry: &Entry, key: &JobKey, started: i64, outcome: &Result<Outcome, Failure>) {
        if entry.task.dry_run {
            return;
        }
        let slot = entry.run().slot.map(|slot| slot.0.div_euclid(1000));
        let how = match outcome {
            Ok(Outcome { partial: None, .. }) => Ended::Well,
            Ok(Outcome { partial: Some(failure), .. }) => Ended::Damaged(failure.clone()),
            Err(_) if entry.is_withdrawn() => Ended::Withdrawn,
            Err(failure) if entry.cancel.is_cancelled() => Ended::Stopped(failure.clone()),
            Err(failure) => Ended::Badly(failure.clone()),
        };
        // A verification of one source says nothing of the others: its key is no job's.
        self.state().planner.ended(key, slot, started, self.clock.unix_ms(), how);
    }

    /// Counts what the store holds, once in a while.
    async fn count(&self, worker: &Arc<dyn Worker>) {
        let now = self.clock.unix_ms();
        let is_fresh = self.stored().is_some_and(|(_, at)| now - at.0 < COUNT_EVERY_MS);
        if is_fresh || self.is_stopping() {
            return;
        }
        match worker.stored().await {
            Ok(stored) => self.state().stored = Some((stored, Moment(now))),
            Err(failure) => tracing::debug!(error = failure.message, "the store cannot be counted"),
        }
    }
}

fn key_of(entry: &Entry) -> JobKey {
    JobKey { kind: entry.task.kind, source: entry.task.source.clone() }
}

/// Times of the newest snapshots by our clock, in seconds since 1970.
fn newest(names: &[ManifestName], offset_ms: i64) -> BTreeMap<SourceName, i64> {
    let mut newest = BTreeMap::new();
    for name in names {
        let unix_s = i64::try_from(name.time.unix_s()).unwrap_or(i64::MAX).saturating_sub(offset_ms.div_euclid(1000));
        let known = newest.entry(name.source.clone()).or_insert(unix_s);
        *known = unix_s.max(*known);
    }
    newest
}

async fn wait_until(clock: &dyn Clock, unix_ms: Option<i64>) {
    match unix_ms {
        Some(unix_ms) => clock.sleep_until(unix_ms).await,
        None => std::future::pending().await,
    }
}

/// Kinds that need the lock: a restore writes to this host's own disk.
pub(super) fn needs_lock(kind: RunKind) -> bool {
    kind != RunKind::Restore
}
