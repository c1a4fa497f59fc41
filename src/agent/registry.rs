//! The runs: those that wait, those under way, and a bounded history.

use super::clock::{Clock, Moment};
use super::task::{Failure, Outcome, RunKind, Task};
use crate::archive::{Cancel, Event, Monitor};
use crate::world::World;
use hah_vault_format::{ManifestName, SourceName, UnixTime};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Ended runs that are remembered.
const HISTORY_LEN_MAX: usize = 500;
/// Runs that may wait.
pub const QUEUE_LEN_MAX: usize = 256;
/// Warnings that a run keeps.
const WARNINGS_MAX: usize = 64;
/// Longest warning, in characters.
const WARNING_LEN_CHARS_MAX: usize = 1000;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It waits for its turn.
    Queued,
    /// It is under way.
    Running,
    /// It went well.
    Done,
    /// It went wrong, or found damage.
    Failed,
    /// It was stopped, or never begun.
    Aborted,
}

impl RunState {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Aborted)
    }
}

/// What began a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its schedule, in time.
    Schedule,
    /// A slot that was missed.
    CatchUp,
    /// A request.
    Api,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Bytes put.
    pub stored_bytes: u64,
    /// The part that it is at: the manifest that is restored or rehearsed; or `manifests`, `packs`, `indexes`, which a
    /// verification looks at.
    pub part: Option<String>,
    /// `bytes` or `objects`: what the part is counted in.
    pub unit: Option<&'static str>,
    /// How much of the part is done.
    pub done: u64,
    /// Of how many.
    pub total: Option<u64>,
}

impl Progress {
    /// So much more of a part is done; each part begins at 0.
    fn go_on(&mut self, part: &str, unit: &'static str, done: u64, total: u64) {
        if self.part.as_deref() != Some(part) {
            (self.part, self.unit, self.done) = (Some(part.to_owned()), Some(unit), 0);
        }
        self.done += done;
        self.total = Some(total);
    }
}

/// A run as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// `<time>-<8 hex>`.
    pub id: String,
    /// What it does.
    pub kind: RunKind,
    /// The source.
    pub source: Option<SourceName>,
    /// The manifest of a restore.
    pub manifest: Option<String>,
    /// Only plans.
    pub dry_run: bool,
    /// The dry run that a gc follows.
    pub plan: Option<String>,
    /// What began it.
    pub trigger: Trigger,
    /// The slot that it is for.
    pub slot: Option<Moment>,
    /// Where it stands.
    pub state: RunState,
    /// When it was queued.
    pub created: Moment,
    /// When it began.
    pub started: Option<Moment>,
    /// When it ended.
    pub ended: Option<Moment>,
    /// It was asked to stop.
    pub cancelling: bool,
    /// How far it is.
    pub progress: Progress,
    /// What is odd.
    pub warnings: Vec<String>,
    /// What came out of it.
    pub result: Option<serde_json::Value>,
    /// How it failed.
    pub error: Option<Failure>,
}

/// A run with what is needed to do and to follow it.
#[derive(Debug)]
pub struct Entry {
    /// What to do.
    pub task: Task,
    /// The wish to stop.
    pub cancel: Cancel,
    run: Mutex<Run>,
    /// gc, dry run: what it would retire.
    planned: Mutex<Vec<ManifestName>>,
    /// The agent itself stopped it.
    withdrawn: AtomicBool,
    changes: watch::Sender<()>,
    forward: Arc<dyn Monitor>,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Run> {
        // A panic elsewhere leaves figures that are still good enough.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run as it is now.
    pub fn run(&self) -> Run {
        self.lock().clone()
    }

    /// Its id.
    pub fn id(&self) -> String {
        self.lock().id.clone()
    }

    /// Its state.
    pub fn state(&self) -> RunState {
        self.lock().state
    }

    /// Tells of changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// What a finished dry run would retire.
    pub fn planned(&self) -> Vec<ManifestName> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Run) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changes.send_replace(());
        changed
    }

    /// Stops it because the agent stops, or lost the lock: its slot stays open.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether the agent itself stopped it.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// Asks it to stop.
    pub fn stop(&self) {
        self.change(|run| run.cancelling = !run.state.is_over());
        self.cancel.cancel();
    }
}

/// Progress and warnings of a run.
impl Monitor for Entry {
    fn event(&self, event: Event) {
        match &event {
            Event::Read { len_bytes, .. } => self.change(|run| run.progress.read_bytes += len_bytes),
            Event::Stored { len_bytes, .. } => self.change(|run| run.progress.stored_bytes += len_bytes),
            Event::Restored { manifest, len_bytes, total_bytes } => {
                self.change(|run| run.progress.go_on(&manifest.to_string(), "bytes", *len_bytes, *total_bytes));
            }
            Event::Checked { what, done, total, are_bytes } => {
                let unit = if *are_bytes { "bytes" } else { "objects" };
                self.change(|run| run.progress.go_on(what, unit, *done, *total));
            }
            Event::Warning { text, .. } => self.change(|run| {
                if run.warnings.len() < WARNINGS_MAX {
                    run.warnings.push(text.chars().take(WARNING_LEN_CHARS_MAX).collect());
                }
            }),
            _ => {}
        }
        self.forward.event(event);
    }
}

/// How a run came to be.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// What began it.
    pub trigger: Trigger,
    /// The slot, in seconds since 1970.
    pub slot: Option<i64>,
    /// The dry run that a gc follows.
    pub plan: Option<String>,
}

/// Why a run cannot be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// This one does the same, and has not ended.
    Busy(String),
    /// Too many wait.
    Full,
}

/// All runs.
#[derive(Debug)]
pub struct Registry {
    world: Arc<dyn World>,
    clock: Arc<dyn Clock>,
    /// The oldest first; those that have not ended are never dropped.
    runs: Mutex<VecDeque<Arc<Entry>>>,
}

impl Registry {
    /// An empty one.
    pub fn new(world: Arc<dyn World>, clock: Arc<dyn Clock>) -> Self {
        Self { world, clock, runs: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment(self.clock.unix_ms())
    }

    /// Queues a run, unless one of the same kind and source has not ended. A restore is like no other.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn queue(&self, request: Request, forward: &Arc<dyn Monitor>) -> Result<Arc<Entry>, Refused> {
        let Request { task, trigger, slot, plan } = request;
        let mut runs = self.lock();
        let open = runs.iter().filter(|entry| !entry.state().is_over());
        let mut open_len = 0;
        for entry in open {
            open_len += 1;
            let same = entry.task.kind == task.kind && entry.task.source == task.source;
            if same && task.kind != RunKind::Restore {
                return Err(Refused::Busy(entry.id()));
            }
        }
        if open_len >= QUEUE_LEN_MAX {
            return Err(Refused::Full);
        }
        let now = self.now();
        let run = Run {
            id: self.new_id(now, &runs),
            kind: task.kind,
            source: task.source.clone(),
            manifest: task.manifest.as_ref().map(ToString::to_string),
            dry_run: task.dry_run,
            plan,
            trigger,
            slot: slot.map(Moment::from_unix_s),
            state: RunState::Queued,
            created: now,
            started: None,
            ended: None,
            cancelling: false,
            progress: Progress::default(),
            warnings: Vec::new(),
            result: None,
            error: None,
        };
        let (changes, _) = watch::channel(());
        let entry = Arc::new(Entry {
            task,
            cancel: Cancel::default(),
            run: Mutex::new(run),
            planned: Mutex::default(),
            withdrawn: AtomicBool::new(false),
            changes,
            forward: Arc::clone(forward),
        });
        runs.push_back(Arc::clone(&entry));
        forget(&mut runs);
        Ok(entry)
    }

    fn new_id(&self, now: Moment, runs: &VecDeque<Arc<Entry>>) -> String {
        let time = UnixTime::from_unix_s(u64::try_from(now.0 / 1000).unwrap_or(0));
        let time = time.map_or_else(|_| "99991231T235959Z".into(), |time| time.to_string());
        loop {
            let id = format!("{time}-{:08x}", self.world.random_u32());
            if runs.iter().all(|entry| entry.id() != id) {
                return id;
            }
        }
    }

    /// The run with this id.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.lock().iter().find(|entry| entry.lock().id == id).cloned()
    }

    /// All runs, the newest first.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.lock().iter().rev().cloned().collect()
    }

    /// Runs that have not ended, the oldest first.
    pub fn open(&self) -> Vec<Arc<Entry>> {
        self.lock().iter().filter(|entry| !entry.state().is_over()).cloned().collect()
    }

    /// The next run that may begin: the oldest that waits.
    pub fn next_queued(&self) -> Option<Arc<Entry>> {
        self.lock().iter().find(|entry| entry.state() == RunState::Queued).cloned()
    }

    /// How many runs are in each state.
    pub fn counts(&self) -> HashMap<RunState, usize> {
        let mut counts = HashMap::new();
        for entry in self.lock().iter() {
            *counts.entry(entry.state()).or_default() += 1;
        }
        counts
    }

    /// A run begins.
    pub fn start(&self, entry: &Entry) {
        let now = self.now();
        entry.change(|run| (run.state, run.started) = (RunState::Running, Some(now)));
    }

    /// A run ended.
    pub fn end(&self, entry: &Entry, outcome: Result<Outcome, Failure>) {
        let now = self.now();
        let stopped = entry.cancel.is_cancelled();
        entry.change(|run| {
            run.ended = Some(now);
            run.cancelling = false;
            match outcome {
                Ok(outcome) => {
                    *entry.planned.lock().unwrap_or_else(PoisonError::into_inner) = outcome.planned;
                    run.result = Some(outcome.result).filter(|result| !result.is_null());
                    run.state = if outcome.partial.is_some() { RunState::Failed } else { RunState::Done };
                    run.error = outcome.partial;
                }
                Err(failure) => {
                    run.state = if stopped { RunState::Aborted } else { RunState::Failed };
                    run.error = Some(failure);
                }
            }
        });
    }

    /// A run that waits will never begin.
    pub fn abort(&self, entry: &Entry, why: Failure) {
        let now = self.now();
        entry.change(|run| {
            if run.state == RunState::Queued {
                (run.state, run.ended, run.error) = (RunState::Aborted, Some(now), Some(why));
            }
        });
    }
}

/// Drops the oldest ended runs.
fn forget(runs: &mut VecDeque<Arc<Entry>>) {
    while runs.len() > HISTORY_LEN_MAX {
        let Some(at) = runs.iter().position(|entry| entry.state().is_over()) else { return };
        runs.remove(at);
    }
}
