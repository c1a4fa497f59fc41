//! Which job is due when, and how it went: the agent's memory of its schedules. Pure: the time is given.

use super::clock::Moment;
use super::schedule::Schedule;
use super::task::{Failure, RunKind, Task};
use hah_vault_format::SourceName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A run counts as caught up on when it begins so much after its time.
const LATE_MS: i64 = 60_000;
/// A slot that lies further ahead than this was settled by a clock that was wrong.
const CLOCK_WRONG_MS: i64 = 3_600_000;
/// Store times are whole seconds, and the two clocks are compared only so well: a snapshot that claims to be so much
/// older than a slot was taken for it.
const STORE_TIME_SLACK_S: i64 = 2;

/// Jobs that a journal may hold.
const JOURNAL_LEN_MAX: usize = 1000;

/// A job: one source's backups, or a kind of upkeep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobKey {
    /// What is run.
    pub kind: RunKind,
    /// The source of backups.
    pub source: Option<SourceName>,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}/{source}", self.kind.as_str()),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

/// A job as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSettings {
    /// When.
    pub schedule: Schedule,
    /// What.
    pub task: Task,
}

impl JobSettings {
    /// Its key.
    pub fn key(&self) -> JobKey {
        JobKey { kind: self.task.kind, source: self.task.source.clone() }
    }
}

/// How failed runs are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often, before the slot is given up.
    pub tries: u32,
    /// The wait before the first; each further one is twice as long.
    pub delay: Duration,
}

impl Default for Retry {
    /// After 1, 2 and 4 min: the backup itself has repeated what passes within seconds.
    fn default() -> Self {
        Self { tries: 3, delay: Duration::from_secs(60) }
    }
}

/// What replicas tell each other of one job, in the lock's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The newest slot that is done or given up, in seconds since 1970.
    pub slot: i64,
    /// When it last went well, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<i64>,
}

/// What replicas tell each other: jobs by [`JobKey`]'s text form.
pub type Journal = BTreeMap<String, Settled>;

/// How a job stands.
#[derive(Debug, Clone)]
struct Job {
    settings: JobSettings,
    settled: Option<i64>,
    in_flight: Option<i64>,
    /// The slot that failed, how often, and when it is tried again.
    failed: Option<(i64, u32, i64)>,
    failures: u64,
    last_attempt: Option<Moment>,
    last_success: Option<Moment>,
    last_error: Option<Failure>,
}

/// A job as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobStatus {
    /// What.
    pub kind: RunKind,
    /// The source of a backup.
    pub source: Option<SourceName>,
    /// When.
    pub schedule: ScheduleStatus,
    /// Its schedule is paused.
    pub paused: bool,
    /// When it runs next.
    pub next: Option<Moment>,
    /// When it ran last.
    pub last_attempt: Option<Moment>,
    /// When it last went well.
    pub last_success: Option<Moment>,
    /// How it failed last.
    pub last_error: Option<Failure>,
    /// How often since it last went well.
    pub failures: u64,
    /// Its last good run is too old; not told by a replica that runs no schedules, and may know of none.
    pub late: bool,
    /// What a good run must not be older than.
    #[serde(skip)]
    pub late_before: Option<Moment>,
}

/// A schedule as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleStatus {
    /// As given.
    pub text: String,
    /// Its time zone.
    pub time_zone: String,
    /// Longest delay, in seconds.
    pub jitter_s: u64,
}

/// How a run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Well,
    /// It failed; to be tried again.
    Badly(Failure),
    /// It found damage: trying again will not help.
    Damaged(Failure),
    /// Somebody stopped it; the slot is settled.
    Stopped(Failure),
    /// The agent stopped it, because it stops or lost the lock: whoever holds the lock next does it.
    Withdrawn,
}

/// A run that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of this job.
    pub key: JobKey,
    /// For this slot.
    pub slot: i64,
    /// Its time has passed.
    pub is_late: bool,
    /// What to do.
    pub task: Task,
}

/// All jobs.
#[derive(Debug)]
pub struct Planner {
    jobs: BTreeMap<JobKey, Job>,
    retry: Retry,
    paused: bool,
    paused_sources: BTreeSet<SourceName>,
    /// What the holder of the lock before us noted.
    inherited: Journal,
}

impl Planner {
    /// Of these jobs; nothing is known of their past.
    pub fn new(jobs: Vec<JobSettings>, retry: Retry) -> Self {
        let mut planner = Self {
            jobs: BTreeMap::new(),
            retry,
            paused: false,
            paused_sources: BTreeSet::new(),
            inherited: Journal::new(),
        };
        planner.reload(jobs, retry);
        planner
    }

    /// Other jobs; what is known of those that stay is kept.
    pub fn reload(&mut self, jobs: Vec<JobSettings>, retry: Retry) {
        let mut old = std::mem::take(&mut self.jobs);
        self.retry = retry;
        for settings in jobs {
            let key = settings.key();
            let job = match old.remove(&key) {
                Some(job) => Job { settings, ..job },
                None => Job {
                    settings,
                    settled: None,
                    in_flight: None,
                    failed: None,
                    failures: 0,
                    last_attempt: None,
                    last_success: None,
                    last_error: None,
                },
            };
            self.jobs.insert(key, job);
        }
        let jobs = &self.jobs;
        self.paused_sources.retain(|source| jobs.keys().any(|key| key.source.as_ref() == Some(source)));
    }

    /// What the holder of the lock before us noted.
    pub fn inherit(&mut self, journal: Journal) {
        for (job, noted) in journal.into_iter().take(JOURNAL_LEN_MAX) {
            let known = self.inherited.entry(job).or_insert(noted);
            (known.slot, known.success) = (known.slot.max(noted.slot), known.success.max(noted.success));
        }
    }

    /// Takes over, with the times of the newest snapshots in seconds since 1970 by this host's clock, and what was
    /// inherited. A source without any snapshot is due at once; upkeep of which nothing is known waits for its next slot.
    pub fn adopt(&mut self, newest: &BTreeMap<SourceName, i64>, now_unix_ms: i64) {
        for (key, job) in &mut self.jobs {
            let noted = self.inherited.get(&key.to_string()).copied();
            let taken = key.source.as_ref().and_then(|source| newest.get(source)).copied();
            let by_snapshot = taken.and_then(|at| job.settings.schedule.newest_at(at + STORE_TIME_SLACK_S));
            job.settled = job.settled.max(noted.map(|noted| noted.slot)).max(by_snapshot);
            if job.settled.is_none() && key.kind != RunKind::Backup {
                job.settled = job.settings.schedule.newest_at(now_unix_ms.div_euclid(1000));
            }
            let success = noted.and_then(|noted| noted.success).max(taken).map(Moment::from_unix_s);
            job.last_success = job.last_success.max(success);
        }
    }

    /// What the next holder of the lock must know.
    pub fn journal(&self) -> Journal {
        let mut journal = self.inherited.clone();
        for (key, job) in &self.jobs {
            let Some(slot) = job.settled else { continue };
            let success = job.last_success.map(|at| at.0.div_euclid(1000));
            let noted = journal.entry(key.to_string()).or_insert(Settled { slot, success });
            (noted.slot, noted.success) = (noted.slot.max(slot), noted.success.max(success));
        }
        journal
    }

    fn is_paused(&self, key: &JobKey) -> bool {
        self.paused || key.source.as_ref().is_some_and(|source| self.paused_sources.contains(source))
    }

    /// What should begin now.
    pub fn due(&self, now_unix_ms: i64) -> Vec<Due> {
        let due = |(key, job): (&JobKey, &Job)| {
            let slot = job.due(key, now_unix_ms)?;
            let start = job.settings.schedule.start_unix_ms(slot, &key.to_string());
            let is_late = job.failed.is_none() && now_unix_ms.saturating_sub(start) > LATE_MS;
            Some(Due { key: key.clone(), slot, is_late, task: job.settings.task.clone() })
        };
        self.jobs.iter().filter(|(key, _)| !self.is_paused(key)).filter_map(due).collect()
    }

    /// When to look again, given that what is due now has begun.
    pub fn next_look_unix_ms(&self, now_unix_ms: i64) -> Option<i64> {
        let jobs = self.jobs.iter().filter(|(key, _)| !self.is_paused(key));
        jobs.filter_map(|(key, job)| job.next_unix_ms(key, now_unix_ms)).min()
    }

    /// A run of a job has begun.
    pub fn begun(&mut self, key: &JobKey, slot: Option<i64>, now_unix_ms: i64) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.last_attempt = Some(Moment(now_unix_ms));
            job.in_flight = slot.or(job.in_flight);
        }
    }

    /// A run of a job has ended. `started_unix_ms`: a run that somebody asked for settles the slots before its beginning,
    /// too.
    pub fn ended(&mut self, key: &JobKey, slot: Option<i64>, started_unix_ms: i64, now_unix_ms: i64, how: Ended) {
        let retry = self.retry;
        let Some(job) = self.jobs.get_mut(key) else { return };
        if slot.is_some() {
            job.in_flight = None;
        }
        match how {
            Ended::Well => {
                let started = job.settings.schedule.newest_at(started_unix_ms.div_euclid(1000));
                job.settled = job.settled.max(slot).max(started);
                (job.failed, job.failures, job.last_error) = (None, 0, None);
                job.last_success = job.last_success.max(Some(Moment(started_unix_ms)));
            }
            Ended::Stopped(error) => {
                job.settled = job.settled.max(slot);
                (job.failed, job.last_error) = (None, Some(error));
            }
            Ended::Damaged(error) => {
                job.settled = job.settled.max(slot);
                job.failures += 1;
                (job.failed, job.last_error) = (None, Some(error));
            }
            Ended::Badly(error) => {
                job.failures += 1;
                job.last_error = Some(error);
                if let Some(slot) = slot {
                    job.failed(slot, now_unix_ms, retry);
                }
            }
            Ended::Withdrawn => {}
        }
    }

    /// Another replica holds the lock: what was under way is its business now.
    pub fn step_down(&mut self) {
        for job in self.jobs.values_mut() {
            (job.in_flight, job.failed) = (None, None);
        }
    }

    /// Pauses, or resumes, one source's schedule or all. `false` if there is no such source.
    pub fn pause(&mut self, source: Option<&SourceName>, pause: bool) -> bool {
        let Some(source) = source else {
            self.paused = pause;
            if !pause {
                self.paused_sources.clear();
            }
            return true;
        };
        if !self.jobs.keys().any(|key| key.source.as_ref() == Some(source)) {
            return false;
        }
        if pause {
            self.paused_sources.insert(source.clone());
        } else {
            self.paused_sources.remove(source);
        }
        true
    }

    /// Whether all schedules are paused, and the sources whose own is.
    pub fn paused(&self) -> (bool, Vec<SourceName>) {
        (self.paused, self.paused_sources.iter().cloned().collect())
    }

    /// All jobs. `active`: this replica runs them.
    pub fn status(&self, now_unix_ms: i64, active: bool) -> Vec<JobStatus> {
        let status = |(key, job): (&JobKey, &Job)| {
            let paused = self.is_paused(key);
            let due = job.due(key, now_unix_ms).map(|_| now_unix_ms);
            let next = due.or_else(|| job.next_unix_ms(key, now_unix_ms)).filter(|_| active && !paused);
            let schedule = &job.settings.schedule;
            let late_before = job.late_before_unix_s(now_unix_ms);
            JobStatus {
                kind: key.kind,
                source: key.source.clone(),
                schedule: ScheduleStatus {
                    text: schedule.text().into(),
                    time_zone: schedule.zone_name().into(),
                    jitter_s: schedule.jitter().as_secs(),
                },
                paused,
                next: next.map(Moment),
                last_attempt: job.last_attempt,
                last_success: job.last_success,
                last_error: job.last_error.clone(),
                failures: job.failures,
                late: active && job.is_late(now_unix_ms),
                late_before: late_before.map(Moment::from_unix_s),
            }
        };
        self.jobs.iter().map(status).collect()
    }

    /// Jobs whose last good run is older than the slot before the newest.
    pub fn late_jobs(&self, now_unix_ms: i64) -> Vec<JobKey> {
        self.jobs.iter().filter(|(_, job)| job.is_late(now_unix_ms)).map(|(key, _)| key.clone()).collect()
    }
}

impl Job {
    /// What the last good run must not be older than: the slot before the newest, with slack for the store's clock.
    fn late_before_unix_s(&self, now_unix_ms: i64) -> Option<i64> {
        let schedule = &self.settings.schedule;
        let newest = schedule.newest_at(now_unix_ms.div_euclid(1000))?;
        Some(schedule.newest_at(newest - 1)? - STORE_TIME_SLACK_S)
    }

    fn is_late(&self, now_unix_ms: i64) -> bool {
        let before = self.late_before_unix_s(now_unix_ms);
        before.is_some_and(|before| self.last_success.is_none_or(|at| at.0.div_euclid(1000) < before))
    }

    fn settled(&self, now_unix_ms: i64) -> Option<i64> {
        let wrong = |slot: &i64| slot.saturating_mul(1000) > now_unix_ms.saturating_add(CLOCK_WRONG_MS);
        match self.settled {
            Some(slot) if wrong(&slot) => self.settings.schedule.newest_at(now_unix_ms.div_euclid(1000) - 1),
            settled => settled,
        }
    }

    fn due(&self, key: &JobKey, now_unix_ms: i64) -> Option<i64> {
        if self.in_flight.is_some() {
            return None;
        }
        let slot = self.settings.schedule.due(self.settled(now_unix_ms), now_unix_ms, &key.to_string())?;
        match self.failed {
            Some((failed, _, again_at)) if failed == slot && again_at > now_unix_ms => None,
            _ => Some(slot),
        }
    }

    fn next_unix_ms(&self, key: &JobKey, now_unix_ms: i64) -> Option<i64> {
        let settled = self.settled(now_unix_ms);
        let next = self.settings.schedule.next_due_unix_ms(settled, now_unix_ms, &key.to_string());
        let again_at = self.failed.map(|(_, _, again_at)| again_at).filter(|at| *at > now_unix_ms);
        next.into_iter().chain(again_at).min()
    }

    fn failed(&mut self, slot: i64, now_unix_ms: i64, retry: Retry) {
        let tries = match self.failed {
            Some((failed, tries, _)) if failed == slot => tries + 1,
            _ => 1,
        };
        if tries > retry.tries {
            self.settled = self.settled.max(Some(slot));
            self.failed = None;
            return;
        }
        let delay = retry.delay.saturating_mul(1 << (tries - 1).min(16));
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        self.failed = Some((slot, tries, now_unix_ms.saturating_add(delay_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    /// 2026-11-22T15:00:00Z.
    const T: i64 = 1_795_359_600;

    fn key() -> JobKey {
        JobKey { kind: RunKind::Backup, source: Some("vault".parse().unwrap()) }
    }

    fn planner(kind: RunKind, jitter_s: u64) -> Planner {
        let schedule = Schedule::parse("@hourly", "UTC", Duration::from_secs(jitter_s)).unwrap();
        let source = (kind == RunKind::Backup).then(|| "vault".parse().unwrap());
        Planner::new(vec![JobSettings { schedule, task: Task::new(kind, source) }], Retry::default())
    }

    fn slots(planner: &Planner, now_s: i64) -> Vec<(i64, bool)> {
        planner.due(now_s * 1000).into_iter().map(|due| (due.slot - T, due.is_late)).collect()
    }

    fn failure() -> Failure {
        Failure::new("store", "no")
    }

    #[test]
    fn a_source_without_a_snapshot_is_due_at_once_and_upkeep_is_not() {
        let mut backup = planner(RunKind::Backup, 0);
        backup.adopt(&BTreeMap::new(), (T + 100) * 1000);
        assert_eq!(slots(&backup, T + 100), [(0, true)]);
        let mut gc = planner(RunKind::Gc, 0);
        gc.adopt(&BTreeMap::new(), (T + 100) * 1000);
        assert_eq!(slots(&gc, T + 100), []);
        assert_eq!(gc.next_look_unix_ms((T + 100) * 1000), Some((T + HOUR) * 1000));
    }

    #[test]
    fn a_successor_does_what_was_left_and_only_that() {
        let newest = BTreeMap::from([("vault".parse().unwrap(), T - 1)]);
        let mut heir = planner(RunKind::Backup, 0);
        heir.adopt(&newest, (T + 30) * 1000);
        // Taken for the slot, by a store whose seconds are cut off.
        assert_eq!(slots(&heir, T + 30), []);
        // An hour missed, then another: one run for both.
        assert_eq!(slots(&heir, T + 2 * HOUR + 30), [(2 * HOUR, false)]);
        // The journal knows of slots that were given up.
        let journal = Journal::from([("backup/vault".into(), Settled { slot: T + HOUR, success: None })]);
        let mut heir = planner(RunKind::Backup, 0);
        heir.inherit(journal);
        heir.adopt(&newest, (T + HOUR + 30) * 1000);
        assert_eq!(slots(&heir, T + HOUR + 30), []);
        assert_eq!(heir.journal()["backup/vault"].slot, T + HOUR);
    }

    #[test]
    fn a_failed_run_is_repeated_with_growing_waits_and_then_given_up() {
        let mut planner = planner(RunKind::Backup, 0);
        let mut now = T * 1000;
        let mut begun = Vec::new();
        while now < (T + HOUR + 60) * 1000 {
            for due in planner.due(now) {
                begun.push((now / 1000 - T, due.slot - T));
                planner.begun(&key(), Some(due.slot), now);
                assert_eq!(planner.due(now), []);
                planner.ended(&key(), Some(due.slot), now, now, Ended::Badly(failure()));
            }
            now = planner.next_look_unix_ms(now).unwrap();
        }
        assert_eq!(begun, [(0, 0), (60, 0), (180, 0), (420, 0), (HOUR, HOUR)]);
        assert_eq!(planner.status(now, true)[0].failures, 5);
        planner.ended(&key(), Some(T + HOUR), now, now, Ended::Well);
        let status = &planner.status(now, true)[0];
        assert_eq!((status.failures, &status.last_error, status.last_success), (0, &None, Some(Moment(now))));
    }

    #[test]
    fn what_was_withdrawn_is_due_again_and_what_was_stopped_is_not() {
        let mut planner = planner(RunKind::Backup, 0);
        planner.begun(&key(), Some(T), T * 1000);
        planner.ended(&key(), Some(T), T * 1000, T * 1000, Ended::Withdrawn);
        assert_eq!(slots(&planner, T), [(0, false)]);
        planner.begun(&key(), Some(T), T * 1000);
        planner.ended(&key(), Some(T), T * 1000, T * 1000, Ended::Stopped(failure()));
        assert_eq!(slots(&planner, T), []);
    }

    #[test]
    fn a_run_that_was_asked_for_settles_the_slot_before_its_beginning() {
        let mut planner = planner(RunKind::Backup, 1800);
        planner.ended(&key(), None, (T + 1) * 1000, (T + 9) * 1000, Ended::Well);
        assert_eq!(slots(&planner, T + 1900), []);
        assert_eq!(slots(&planner, T + HOUR + 1801)[0].0, HOUR);
    }

    #[test]
    fn paused_jobs_wait_and_catch_up() {
        let mut planner = planner(RunKind::Backup, 0);
        let source: SourceName = "vault".parse().unwrap();
        assert!(!planner.pause(Some(&"nomad".parse().unwrap()), true));
        assert!(planner.pause(Some(&source), true));
        assert_eq!(slots(&planner, T + 100), []);
        assert_eq!(planner.next_look_unix_ms(T * 1000), None);
        assert_eq!(planner.status(T * 1000, true)[0].next, None);
        assert!(planner.pause(None, false));
        assert_eq!(slots(&planner, T + 100), [(0, true)]);
    }

    #[test]
    fn a_clock_that_was_far_ahead_stops_nothing_for_long() {
        let mut planner = planner(RunKind::Backup, 0);
        planner.ended(&key(), Some(T + 10_000 * HOUR), T * 1000, T * 1000, Ended::Well);
        assert_eq!(slots(&planner, T + HOUR), [(HOUR, false)]);
        // A small step back repeats nothing.
        let mut planner = self::planner(RunKind::Backup, 0);
        planner.ended(&key(), Some(T), T * 1000, T * 1000, Ended::Well);
        assert_eq!(slots(&planner, T - 2), []);
    }
}
