//! What is known now: fed by events, reports and the store, read by `/metrics`, the metrics file and the push.

use super::catalog as metric;
use super::month;
use super::reason::Reason;
use super::text;
use super::values::Values;
use crate::archive::backup::BackupReport;
use crate::archive::verify::report::Report;
use crate::archive::{Event, Monitor};
use crate::store::{ObjectMeta, Observer, Operation};
use crate::world::World;
use hah_vault_format::name::{INDEX_PREFIX, KEYS_PREFIX, MANIFESTS_PREFIX, PACKS_PREFIX, TRASH_PREFIX};
use hah_vault_format::{ManifestName, SourceName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sources of one listing that are counted: a hostile store must not fill the registry with names.
const LISTED_SOURCES_MAX: usize = 256;
/// Prefixes whose listings tell what the repository holds; manifests are counted by source.
const COUNTED_PREFIXES: [&str; 5] = [PACKS_PREFIX, INDEX_PREFIX, KEYS_PREFIX, TRASH_PREFIX, "holds/"];

/// How deep a verification looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Depth {
    /// Manifests, lists and lengths.
    Structure,
    /// The bytes of packs.
    Data,
    /// Whole snapshots, put together in memory.
    Rehearsal,
}

impl Depth {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Data => "data",
            Self::Rehearsal => "rehearsal",
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Snapshots that are damaged.
    pub manifests: u64,
    /// Objects that are damaged or missing.
    pub objects: u64,
}

/// What gc did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests moved to the trash.
    pub retired_manifests: u64,
    /// Objects deleted for good.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Bytes that go when the grace has passed.
    pub waiting_bytes: u64,
    /// Whether all of the plan was done.
    pub is_complete: bool,
}

/// What is known, and what of it no metrics file has yet.
#[derive(Debug, Default)]
struct Figures {
    all: Values,
    /// `None`: all of it.
    unsaved: Option<Values>,
}

impl Figures {
    fn unsaved(&mut self) -> &mut Values {
        self.unsaved.as_mut().unwrap_or(&mut self.all)
    }
}

/// The figures of this process.
#[derive(Debug)]
pub struct Registry {
    figures: Mutex<Figures>,
    world: Arc<dyn World>,
}

impl Registry {
    /// Without any figures; those of one run, which end in a metrics file or a push.
    pub fn new(world: Arc<dyn World>) -> Arc<Self> {
        Arc::new(Self { figures: Mutex::default(), world })
    }

    /// The same for a process that goes on: what a metrics file takes stays known.
    pub fn lasting(world: Arc<dyn World>) -> Arc<Self> {
        let figures = Figures { all: Values::default(), unsaved: Some(Values::default()) };
        Arc::new(Self { figures: Mutex::new(figures), world })
    }

    /// A panic elsewhere leaves figures that are still good enough.
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and what a file has to learn.
    fn change(&self, change: impl Fn(&mut Values)) {
        let mut figures = self.lock();
        change(&mut figures.all);
        if let Some(unsaved) = &mut figures.unsaved {
            change(unsaved);
        }
    }

    /// Changes a figure that outlives no process, and is no file's.
    fn change_passing(&self, change: impl FnOnce(&mut Values)) {
        change(&mut self.lock().all);
    }

    /// This host's clock, seconds since 1970.
    pub(super) fn now_unix_s(&self) -> f64 {
        self.world.host_unix_ms() as f64 / 1000.0
    }

    /// All figures, with those that follow from others.
    pub fn snapshot(&self) -> Values {
        let mut values = self.lock().all.clone();
        complete(&mut values, self.now_unix_s());
        values
    }

    /// What no metrics file has yet, with what follows from it: what a push tells where there is no file.
    pub fn unsaved_snapshot(&self) -> Values {
        let mut values = self.lock().unsaved().clone();
        complete(&mut values, self.now_unix_s());
        values
    }

    /// All figures as text: the answer at `/metrics`, of type [`text::CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        text::encode(&self.snapshot())
    }

    /// Lays what is known over the figures of an earlier process, or over those that could not be saved.
    pub fn resume(&self, mut earlier: Values) {
        let mut figures = self.lock();
        let values = figures.unsaved();
        earlier.absorb(std::mem::take(values));
        *values = earlier;
    }

    /// What was learnt since the last time; [`Registry::resume`] puts it back. Unless the process goes on, nothing is
    /// known any more then.
    pub(super) fn take(&self) -> Values {
        std::mem::take(self.lock().unsaved())
    }

    /// Makes a source known: its counters begin at 0, so that the first failure is an increase.
    pub fn know(&self, source: &SourceName) {
        self.change(|values| {
            for reason in Reason::ALL {
                values.add(&metric::BACKUP_FAILURES, &[source.as_str(), reason.as_str()], 0.0);
            }
            for counter in [&metric::BACKUPS, &metric::READ_BYTES, &metric::STORED_BYTES] {
                values.add(counter, &[source.as_str()], 0.0);
            }
            values.add(&metric::WARNINGS, &[], 0.0);
        });
    }

    /// A backup begins.
    pub fn backup_began(&self, source: &SourceName) {
        self.know(source);
        self.change(|values| values.set(&metric::BACKUP_LAST_ATTEMPT, &[source.as_str()], self.now_unix_s()));
    }

    /// A backup succeeded: its manifest is in the store and was checked there. Nothing else may call this.
    pub fn backup_committed(&self, report: &BackupReport) {
        let (manifest, stages) = (&report.manifest, &report.stages);
        let labels = [manifest.name.source.as_str()];
        self.change(|values| {
            self.backup_ended(values, labels, true);
            values.set(&metric::BACKUP_LAST_SUCCESS, &labels, self.now_unix_s());
            values.set(&metric::BACKUP_SNAPSHOT_TIME, &labels, manifest.name.time.unix_s() as f64);
            values.add(&metric::BACKUPS, &labels, 1.0);
            for (stage, took) in [
                ("open", stages.open),
                ("read", stages.read),
                ("upload", stages.upload),
                ("commit", stages.commit),
                ("total", report.took),
            ] {
                values.set(&metric::BACKUP_DURATION, &[labels[0], stage], took.as_secs_f64());
            }
            let (stream, new) = (manifest.stream.len_bytes, manifest.counts.new_bytes);
            values.set(&metric::BACKUP_SNAPSHOT_BYTES, &labels, manifest.original.len_bytes as f64);
            values.set(&metric::BACKUP_STREAM_BYTES, &labels, stream as f64);
            values.set(&metric::BACKUP_NEW_BYTES, &labels, new as f64);
            values.set(&metric::BACKUP_STORED_BYTES, &labels, report.stored_bytes() as f64);
            // Order notes are new bytes too, but none of the stream's.
            let shared = stream.saturating_sub(new) as f64 / stream.max(1) as f64;
            values.set(&metric::BACKUP_DEDUPLICATED, &labels, shared);
        });
    }

    /// A backup failed.
    pub fn backup_failed(&self, source: &SourceName, reason: Reason) {
        self.change(|values| {
            self.backup_ended(values, [source.as_str()], false);
            values.add(&metric::BACKUP_FAILURES, &[source.as_str(), reason.as_str()], 1.0);
        });
    }

    fn backup_ended(&self, values: &mut Values, labels: [&str; 1], is_success: bool) {
        values.set(&metric::BACKUP_LAST_END, &labels, self.now_unix_s());
        values.set(&metric::BACKUP_LAST_RUN_SUCCESS, &labels, flag(is_success));
    }

    /// A committed manifest was found in the store. An agent that has just started learns so when a backup last
    /// succeeded; a later success that is known stays.
    pub fn manifest_found(&self, name: &ManifestName) {
        let (labels, time) = ([name.source.as_str()], name.time.unix_s() as f64);
        self.change_passing(|values| {
            for gauge in [&metric::BACKUP_LAST_SUCCESS, &metric::BACKUP_SNAPSHOT_TIME] {
                if values.get(gauge, &labels).is_none_or(|known| known < time) {
                    values.set(gauge, &labels, time);
                }
            }
        });
    }

    /// A verification ended; `None` for one that could not be carried out.
    pub fn verified(&self, depth: Depth, found: Option<Damage>, took: Duration) {
        let labels = [depth.as_str()];
        let is_clean = found == Some(Damage::default());
        self.change(|values| {
            values.set(&metric::VERIFY_LAST, &labels, self.now_unix_s());
            values.set(&metric::VERIFY_LAST_RUN_SUCCESS, &labels, flag(is_clean));
            values.set(&metric::VERIFY_DURATION, &labels, took.as_secs_f64());
            if let Some(Damage { manifests, objects }) = found {
                values.set(&metric::VERIFY_DAMAGED_MANIFESTS, &labels, manifests as f64);
                values.set(&metric::VERIFY_DAMAGED_OBJECTS, &labels, objects as f64);
            }
            if is_clean {
                values.set(&metric::VERIFY_LAST_SUCCESS, &labels, self.now_unix_s());
            }
        });
    }

    /// A verification ended with this report: each depth that it reached, and each source that was rehearsed.
    pub fn verify_ended(&self, report: &Report, took: Duration) {
        let lost = report.chain.lost.len();
        let found = Damage { manifests: report.affected.len() as u64, objects: (report.damage.len() + lost) as u64 };
        self.verified(Depth::Structure, Some(found), took);
        if let Some(data) = &report.data {
            self.verified(Depth::Data, Some(found), took);
            if let Some(days) = data.oldest_days {
                self.oldest_unverified(self.now_unix_s() as i64 - i64::from(days) * 86_400);
            }
        }
        let Some(rehearsed) = &report.rehearsed else { return };
        self.verified(Depth::Rehearsal, Some(found), took);
        let damaged =
            report.affected.iter().filter(|affected| affected.is_newest).map(|affected| &affected.name.source);
        for source in damaged.clone() {
            self.rehearsed(source, false, took);
        }
        let damaged: Vec<&SourceName> = damaged.collect();
        for whole in rehearsed.iter().filter(|whole| !damaged.contains(&&whole.name.source)) {
            self.rehearsed(&whole.name.source, true, took);
        }
    }

    /// The oldest time at which some pack was last read and found good, or put if it never was: seconds since 1970.
    pub fn oldest_unverified(&self, unix_s: i64) {
        self.change(|values| values.set(&metric::VERIFY_OLDEST, &[], unix_s as f64));
    }

    /// A restore of a source was rehearsed.
    pub fn rehearsed(&self, source: &SourceName, is_success: bool, took: Duration) {
        let labels = [source.as_str()];
        self.change(|values| {
            values.set(&metric::REHEARSAL_LAST, &labels, self.now_unix_s());
            values.set(&metric::REHEARSAL_LAST_RUN_SUCCESS, &labels, flag(is_success));
            values.set(&metric::REHEARSAL_DURATION, &labels, took.as_secs_f64());
            if is_success {
                values.set(&metric::REHEARSAL_LAST_SUCCESS, &labels, self.now_unix_s());
            }
        });
    }

    /// gc ended; `None` for one that failed before it did anything.
    pub fn collected(&self, done: Option<Collected>) {
        let is_complete = done.is_some_and(|done| done.is_complete);
        let done = done.unwrap_or_default();
        self.change(|values| {
            values.set(&metric::GC_LAST, &[], self.now_unix_s());
            values.set(&metric::GC_LAST_RUN_SUCCESS, &[], flag(is_complete));
            values.add(&metric::GC_RETIRED, &[], done.retired_manifests as f64);
            values.add(&metric::GC_DELETED_OBJECTS, &[], done.deleted_objects as f64);
            values.add(&metric::GC_DELETED_BYTES, &[], done.deleted_bytes as f64);
            if is_complete {
                values.set(&metric::GC_LAST_SUCCESS, &[], self.now_unix_s());
                values.set(&metric::GC_WAITING_BYTES, &[], done.waiting_bytes as f64);
            }
        });
    }

    /// A restore ended: with so many bytes, or not.
    pub fn restored(&self, source: &SourceName, len_bytes: Option<u64>, took: Duration) {
        let source = source.as_str();
        self.change(|values| {
            for outcome in ["done", "failed"] {
                let is_it = (outcome == "done") == len_bytes.is_some();
                values.add(&metric::RESTORES, &[source, outcome], flag(is_it));
            }
            if let Some(len_bytes) = len_bytes {
                values.set(&metric::RESTORE_LAST_SUCCESS, &[source], self.now_unix_s());
                values.set(&metric::RESTORE_BYTES, &[source], len_bytes as f64);
                values.set(&metric::RESTORE_DURATION, &[source], took.as_secs_f64());
            }
        });
    }

    /// What the repository may hold.
    pub fn budget(&self, budget_bytes: u64) {
        self.change(|values| values.set(&metric::REPOSITORY_BUDGET, &[], budget_bytes as f64));
    }

    /// The agent starts.
    pub fn agent_started(&self) {
        self.change_passing(|values| {
            values.set(&metric::AGENT_START, &[], self.now_unix_s());
            values.set(&metric::LOCK_HELD, &[], 0.0);
        });
    }

    /// Whether this agent holds the lock.
    pub fn lock_held(&self, is_held: bool) {
        self.change_passing(|values| values.set(&metric::LOCK_HELD, &[], flag(is_held)));
    }

    /// How many runs of a kind go on. `kind` is one of a few words.
    pub fn runs_active(&self, kind: &'static str, count: usize) {
        self.change_passing(|values| values.set(&metric::RUNS_ACTIVE, &[kind], count as f64));
    }

    /// When a run is due, seconds since 1970.
    pub fn next_run(&self, kind: &'static str, source: Option<&SourceName>, unix_s: u64) {
        let source = source.map_or("", SourceName::as_str);
        self.change_passing(|values| values.set(&metric::SCHEDULE_NEXT, &[kind, source], unix_s as f64));
    }

    /// Whether a source's schedule is paused.
    pub fn paused(&self, source: &SourceName, is_paused: bool) {
        self.change_passing(|values| values.set(&metric::SCHEDULE_PAUSED, &[source.as_str()], flag(is_paused)));
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Sets what follows from other figures.
pub(super) fn complete(values: &mut Values, now_unix_s: f64) {
    values.set(&metric::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    month::estimate(values, now_unix_s);
    for (of_source, of_type) in [
        (&metric::REPOSITORY_MANIFESTS, &metric::REPOSITORY_OBJECTS),
        (&metric::REPOSITORY_MANIFEST_BYTES, &metric::REPOSITORY_OBJECT_BYTES),
    ] {
        if values.series(of_source).next().is_some() {
            values.set(of_type, &["manifests"], values.sum(of_source));
        }
    }
    if values.series(&metric::REPOSITORY_OBJECT_BYTES).next().is_some() {
        values.set(&metric::REPOSITORY_BYTES, &[], values.sum(&metric::REPOSITORY_OBJECT_BYTES));
    }
}

impl Observer for Registry {
    fn asked(&self, operation: Operation, requests: u64) {
        let now_unix_s = self.now_unix_s();
        self.change(|values| month::count(values, operation, requests, now_unix_s));
    }

    fn moved(&self, operation: Operation, len_bytes: u64) {
        let counter = if operation == Operation::Put { &metric::STORE_PUT_BYTES } else { &metric::STORE_GET_BYTES };
        self.change(|values| values.add(counter, &[], len_bytes as f64));
    }

    fn listed(&self, prefix: &str, objects: &[ObjectMeta]) {
        if prefix.starts_with(MANIFESTS_PREFIX) {
            return self.manifests_listed(prefix, objects);
        }
        let Some(prefix) = COUNTED_PREFIXES.iter().find(|counted| **counted == prefix) else { return };
        let labels = [prefix.trim_end_matches('/')];
        let len_bytes: u64 = objects.iter().map(|object| object.len_bytes).sum();
        self.change(|values| {
            values.set(&metric::REPOSITORY_OBJECTS, &labels, objects.len() as f64);
            values.set(&metric::REPOSITORY_OBJECT_BYTES, &labels, len_bytes as f64);
        });
    }
}

impl Registry {
    fn manifests_listed(&self, prefix: &str, objects: &[ObjectMeta]) {
        let mut sources: BTreeMap<SourceName, (u64, u64)> = BTreeMap::new();
        // One whose manifests are all gone has none.
        let only = prefix.strip_prefix(MANIFESTS_PREFIX).and_then(|rest| rest.strip_suffix('/')?.parse().ok());
        sources.extend(only.map(|source| (source, (0, 0))));
        for object in objects {
            let Some(name) = ManifestName::from_key(&object.key) else { continue };
            if sources.len() >= LISTED_SOURCES_MAX && !sources.contains_key(&name.source) {
                continue;
            }
            let (count, len_bytes) = sources.entry(name.source).or_default();
            (*count, *len_bytes) = (*count + 1, *len_bytes + object.len_bytes);
        }
        self.change(|values| {
            for (source, (count, len_bytes)) in &sources {
                values.set(&metric::REPOSITORY_MANIFESTS, &[source.as_str()], *count as f64);
                values.set(&metric::REPOSITORY_MANIFEST_BYTES, &[source.as_str()], *len_bytes as f64);
            }
        });
    }
}

/// Passes events on, and counts them.
#[derive(Debug)]
pub struct Watching {
    inner: Arc<dyn Monitor>,
    registry: Arc<Registry>,
}

impl Watching {
    /// In front of another monitor.
    pub fn new(inner: Arc<dyn Monitor>, registry: Arc<Registry>) -> Self {
        Self { inner, registry }
    }
}

impl Monitor for Watching {
    fn event(&self, event: Event) {
        match &event {
            Event::Read { source, len_bytes } => {
                self.registry.change(|values| values.add(&metric::READ_BYTES, &[source.as_str()], *len_bytes as f64));
            }
            Event::Stored { source, len_bytes } => {
                self.registry.change(|values| values.add(&metric::STORED_BYTES, &[source.as_str()], *len_bytes as f64));
            }
            Event::Warning { .. } => self.registry.change(|values| values.add(&metric::WARNINGS, &[], 1.0)),
            _ => {}
        }
        self.inner.event(event);
    }
}
