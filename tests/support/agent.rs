//! Agents in simulated time: a clock that tokio moves, a store on that clock, and a worker that only notes what it did.

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::agent::lock::{LeaseLock, Lock};
use hah_vault::agent::{
    Agent, AgentSettings, Clock, Failure, JobSettings, Outcome, Run, RunKind, RunState, Schedule, SourceSettings,
    StopLimits, Stored, Summary, Task, Telemetry, Worker,
};
use hah_vault::archive::{Cancel, Event, Monitor, Silent};
use hah_vault::store::{At, Cause, MemoryStore, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};
use hah_vault::world::Machine;
use hah_vault_format::{ManifestName, SourceName, UnixTime};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// 2026-11-22T14:00:00Z.
pub const START_UNIX_S: i64 = 1_795_356_000;

/// tokio's clock, which stands still while anything can be done and then jumps.
#[derive(Debug)]
pub struct SimClock {
    began: tokio::time::Instant,
    offset_ms: i64,
}

impl SimClock {
    /// A clock that shows the start plus `offset_ms` now.
    pub fn new(offset_ms: i64) -> Arc<Self> {
        Arc::new(Self { began: tokio::time::Instant::now(), offset_ms })
    }
}

#[async_trait]
impl Clock for SimClock {
    fn unix_ms(&self) -> i64 {
        START_UNIX_S * 1000 + self.offset_ms + i64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    fn since_boot(&self) -> Duration {
        self.began.elapsed()
    }

    async fn sleep_until(&self, unix_ms: i64) {
        let left_ms = u64::try_from(unix_ms - self.unix_ms()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(left_ms)).await;
    }
}

/// A store in memory that lives by the simulated clock, seen from one host, which may be cut off.
#[derive(Debug, Clone)]
pub struct SimStore {
    memory: Arc<MemoryStore>,
    clock: Arc<SimClock>,
    pub is_cut: Arc<AtomicBool>,
}

impl SimStore {
    pub fn new(memory: Arc<MemoryStore>, clock: Arc<SimClock>) -> Self {
        Self { memory, clock, is_cut: Arc::default() }
    }

    async fn reach(&self, operation: Operation, key: &str) -> Result<&MemoryStore, StoreError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.is_cut.load(Ordering::Relaxed) {
            let at = At { operation, key: key.into(), store: "memory".into() };
            return Err(StoreError::Unreachable { at, attempts: 1, hint: None, source: Cause::from("cut off") });
        }
        self.memory.set_now(StoreTime { unix_ms: self.clock.unix_ms() });
        Ok(&self.memory)
    }
}

#[async_trait]
impl Store for SimStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.reach(Operation::Put, key).await?.put_if_absent(key, bytes).await
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.reach(Operation::Get, key).await?.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.reach(Operation::List, prefix).await?.list(prefix).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.reach(Operation::Stat, key).await?.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.reach(Operation::Delete, key).await?.delete(key).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        Ok(self.reach(Operation::Now, "").await?.now().await?)
    }
}

/// What was committed, by all replicas: a task's name, and when, in milliseconds since 1970.
#[derive(Debug, Default)]
pub struct Commits(Mutex<Vec<(String, i64)>>);

impl Commits {
    pub fn all(&self) -> Vec<(String, i64)> {
        self.0.lock().unwrap().clone()
    }

    /// How many of a job there are in each stretch of `every_s` seconds from the start.
    pub fn per_slot(&self, job: &str, every_s: i64, slots: usize) -> Vec<usize> {
        let mut counts = vec![0; slots];
        for (_, at) in self.all().iter().filter(|(name, _)| name == job) {
            if let Some(count) =
                usize::try_from((at / 1000 - START_UNIX_S) / every_s).ok().and_then(|i| counts.get_mut(i))
            {
                *count += 1;
            }
        }
        counts
    }
}

fn name_of(task: &Task) -> String {
    match &task.source {
        Some(source) => format!("{}/{source}", task.kind.as_str()),
        None => task.kind.as_str().into(),
    }
}

/// Notes what it was to do.
#[derive(Debug)]
pub struct NotingWorker {
    pub clock: Arc<dyn Clock>,
    pub commits: Arc<Commits>,
    /// How long a task takes, in milliseconds.
    pub takes_ms: AtomicU32,
    /// So many tasks fail first.
    pub failing: AtomicU32,
    pub is_cut: Arc<AtomicBool>,
    pub holds: Mutex<BTreeMap<ManifestName, String>>,
    pub tasks: Mutex<Vec<Task>>,
    /// Stands wherever a server, a store or a manifest may put words of its own.
    pub words: Mutex<Option<String>>,
}

impl NotingWorker {
    pub fn new(clock: Arc<dyn Clock>, commits: Arc<Commits>) -> Self {
        Self {
            clock,
            commits,
            takes_ms: AtomicU32::new(5000),
            failing: AtomicU32::new(0),
            is_cut: Arc::default(),
            holds: Mutex::default(),
            tasks: Mutex::default(),
            words: Mutex::default(),
        }
    }

    fn words(&self, usual: &str) -> String {
        self.words.lock().unwrap().clone().unwrap_or_else(|| usual.into())
    }

    fn reach(&self) -> Result<(), Failure> {
        match self.is_cut.load(Ordering::Relaxed) {
            true => Err(Failure::new("store", "the store is cut off")),
            false => Ok(()),
        }
    }

    fn all(&self) -> Vec<ManifestName> {
        let name = |(number, (job, at)): (usize, &(String, i64))| {
            let source = job.strip_prefix("backup/")?.parse().ok()?;
            let time = UnixTime::from_unix_s(u64::try_from(at / 1000).ok()?).ok()?;
            Some(ManifestName { source, time, suffix: u32::try_from(number).ok()? })
        };
        let mut names: Vec<ManifestName> = self.commits.all().iter().enumerate().filter_map(name).collect();
        names.sort();
        names
    }
}

#[async_trait]
impl Worker for NotingWorker {
    fn describe(&self) -> String {
        self.words("memory")
    }

    async fn check(&self) -> Result<(), Failure> {
        self.reach()
    }

    async fn names(&self, _: i64) -> Result<(Vec<ManifestName>, i64), Failure> {
        self.reach()?;
        Ok((self.all(), 0))
    }

    async fn summaries(&self, names: &[ManifestName]) -> Result<Vec<Summary>, Failure> {
        self.reach()?;
        let summary = |name: &ManifestName| Summary {
            manifest: name.to_string(),
            source: name.source.clone(),
            time: hah_vault::agent::Moment::from_unix_s(i64::try_from(name.time.unix_s()).unwrap()),
            kind: Some("other".into()),
            host: Some(self.words("<img src=x onerror=alert(1)>")),
            parent: None,
            original_len_bytes: Some(1000),
            stream_len_bytes: Some(2000),
            new_bytes: Some(30),
            stored_bytes: Some(20),
            hold: false,
            error: None,
        };
        Ok(names.iter().map(summary).collect())
    }

    async fn details(&self, name: &ManifestName) -> Result<Option<serde_json::Value>, Failure> {
        self.reach()?;
        let there = self.all().contains(name);
        let time = hah_vault::agent::Moment::from_unix_s(i64::try_from(name.time.unix_s()).unwrap());
        let tags = json!({"words": self.words("")});
        Ok(there.then(|| {
            json!({"manifest": name.to_string(), "source": name.source, "time": time, "kind": "other", "tags": tags})
        }))
    }

    async fn holds(&self) -> Result<BTreeMap<ManifestName, String>, Failure> {
        Ok(self.holds.lock().unwrap().clone())
    }

    async fn hold(&self, name: &ManifestName, reason: Option<&str>) -> Result<bool, Failure> {
        if !self.all().contains(name) {
            return Ok(false);
        }
        let mut holds = self.holds.lock().unwrap();
        match reason {
            Some(reason) => drop(holds.insert(name.clone(), reason.into())),
            None => drop(holds.remove(name)),
        }
        Ok(true)
    }

    async fn stored(&self) -> Result<Stored, Failure> {
        Ok(Stored { objects: 3, bytes: 4000 })
    }

    async fn run(&self, task: &Task, monitor: Arc<dyn Monitor>, cancel: &Cancel) -> Result<Outcome, Failure> {
        self.tasks.lock().unwrap().push(task.clone());
        if let Some(text) = self.words.lock().unwrap().clone() {
            monitor.event(Event::Warning { source: task.source.clone(), text });
        }
        let until = self.clock.unix_ms() + i64::from(self.takes_ms.load(Ordering::Relaxed));
        while self.clock.unix_ms() < until {
            if cancel.is_cancelled() {
                return Err(Failure { code: 130, ..Failure::new("interrupted", "interrupted") });
            }
            if let Some(source) = task.source.clone() {
                monitor.event(Event::Read { source, len_bytes: 100 });
            }
            self.clock.sleep_until((self.clock.unix_ms() + 50).min(until)).await;
        }
        self.reach()?;
        if self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let hint = self.words.lock().unwrap().clone();
            return Err(Failure { hint, ..Failure::new("source", self.words("the server said no")) });
        }
        self.commits.0.lock().unwrap().push((name_of(task), self.clock.unix_ms()));
        let planned: Vec<ManifestName> =
            if task.dry_run { self.all().into_iter().take(1).collect() } else { Vec::new() };
        let mut result = json!({"type": task.kind.as_str(), "words": self.words("")});
        if task.kind == RunKind::Gc {
            let rows: Vec<_> = planned.iter().map(|name| json!({"manifest": name.to_string()})).collect();
            (result["manifests"], result["dropped"]) = (json!(rows), json!(planned.len()));
        }
        Ok(Outcome { result, partial: None, planned })
    }
}

/// Counts good runs by job.
#[derive(Debug, Default)]
pub struct CountingTelemetry {
    pub done: Mutex<BTreeMap<String, usize>>,
    pub not_done: Mutex<BTreeMap<String, usize>>,
}

impl Telemetry for CountingTelemetry {
    fn begun(&self, _: &Run) {}

    fn ended(&self, run: &Run) {
        let job =
            run.source.as_ref().map_or_else(|| run.kind.as_str().into(), |s| format!("{}/{s}", run.kind.as_str()));
        let counts = if run.state == RunState::Done { &self.done } else { &self.not_done };
        *counts.lock().unwrap().entry(job).or_default() += 1;
    }

    fn lock_held(&self, _: bool) {}

    fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::new(Silent)
    }

    fn render(&self) -> String {
        "counted 1\n".into()
    }
}

/// A job.
pub fn job(kind: RunKind, source: Option<&str>, schedule: &str, jitter_s: u64) -> JobSettings {
    let schedule = Schedule::parse(schedule, "UTC", Duration::from_secs(jitter_s)).unwrap();
    JobSettings { schedule, task: Task::new(kind, source.map(|source| source.parse().unwrap())) }
}

/// Settings with these jobs.
pub fn settings(instance: &str, jobs: Vec<JobSettings>) -> AgentSettings {
    let sources: Vec<SourceName> = jobs.iter().filter_map(|job| job.task.source.clone()).collect();
    let sources = sources.into_iter().map(|name| SourceSettings { name, kind: "file".into() }).collect();
    AgentSettings::new(instance, sources, jobs)
}

/// A replica that runs.
pub struct Replica {
    pub agent: Arc<Agent>,
    running: JoinHandle<()>,
}

impl Replica {
    /// Starts one.
    pub fn start(
        settings: AgentSettings,
        clock: Arc<dyn Clock>,
        worker: Arc<dyn Worker>,
        lock: Arc<dyn Lock>,
        telemetry: Arc<dyn Telemetry>,
    ) -> Self {
        let agent = Agent::new(settings, worker, (Machine::shared(), clock), telemetry, lock.kind());
        let running = tokio::spawn({
            let agent = Arc::clone(&agent);
            async move {
                let (done, is_done) = tokio::sync::oneshot::channel::<()>();
                let run = async {
                    agent.run(StopLimits { finish: Duration::from_secs(10) }).await;
                    drop(done);
                };
                let lead = agent.lead(lock, async { drop(is_done.await) });
                tokio::join!(run, lead);
            }
        });
        Self { agent, running }
    }

    /// With a lease of a minute in this store.
    pub fn with_lease(
        settings: AgentSettings,
        clock: Arc<SimClock>,
        store: Arc<dyn Store>,
        worker: Arc<dyn Worker>,
        telemetry: Arc<dyn Telemetry>,
    ) -> Self {
        let holder = settings.instance.clone();
        let lock = LeaseLock::new(store, "agent".parse().unwrap(), holder, Duration::from_secs(60));
        Self::start(settings, clock, worker, Arc::new(lock), telemetry)
    }

    /// As by SIGKILL: nothing is given back.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    /// As by SIGTERM.
    pub async fn stop(self) {
        self.agent.begin_stop();
        self.running.await.unwrap();
    }
}
