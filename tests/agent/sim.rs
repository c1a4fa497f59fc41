//! Replicas in simulated time: killed, restarted, cut off. No run is missed and none is done twice.

use super::super::support::agent::{
    Commits, CountingTelemetry, NotingWorker, Replica, START_UNIX_S, SimClock, SimStore, job, settings,
};
use hah_vault::agent::{JobSettings, Leadership, RunKind};
use hah_vault::store::MemoryStore;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Two hosts, one store.
struct World {
    memory: Arc<MemoryStore>,
    commits: Arc<Commits>,
    telemetry: Arc<CountingTelemetry>,
    clock: Arc<SimClock>,
    jobs: Vec<JobSettings>,
}

/// A replica with what its test can do to it.
struct Host {
    replica: Replica,
    store: SimStore,
    worker: Arc<NotingWorker>,
}

impl World {
    fn new(jobs: Vec<JobSettings>) -> Self {
        Self {
            memory: Arc::new(MemoryStore::new()),
            commits: Arc::default(),
            telemetry: Arc::default(),
            clock: SimClock::new(0),
            jobs,
        }
    }

    fn start(&self, name: &str) -> Host {
        self.start_with(name, true)
    }

    /// `one_cable`: what cuts the lock off cuts the worker off, too.
    fn start_with(&self, name: &str, one_cable: bool) -> Host {
        let store = SimStore::new(Arc::clone(&self.memory), Arc::clone(&self.clock));
        let mut worker = NotingWorker::new(Arc::clone(&self.clock) as _, Arc::clone(&self.commits));
        if one_cable {
            worker.is_cut = Arc::clone(&store.is_cut);
        }
        let worker = Arc::new(worker);
        worker.takes_ms.store(20_000, Ordering::Relaxed);
        let replica = Replica::with_lease(
            settings(name, self.jobs.clone()),
            Arc::clone(&self.clock),
            Arc::new(store.clone()),
            Arc::clone(&worker) as _,
            Arc::clone(&self.telemetry) as _,
        );
        Host { replica, store, worker }
    }
}

async fn minutes(n: u64) {
    tokio::time::sleep(Duration::from_secs(60 * n)).await;
}

fn is_active(host: &Host) -> bool {
    host.replica.agent.leadership().is_active()
}

#[tokio::test(start_paused = true)]
async fn an_hour_with_two_replicas_of_which_one_is_killed_in_the_middle_of_a_run() {
    let world = World::new(vec![
        job(RunKind::Backup, Some("vault"), "*/5 * * * *", 30),
        job(RunKind::Backup, Some("consul"), "every 10m", 0),
        job(RunKind::Gc, None, "50 * * * *", 0),
    ]);
    let one = world.start("one");
    minutes(1).await;
    let other = world.start("other");
    minutes(19).await;
    assert!(is_active(&one) && !is_active(&other));
    assert_eq!(other.replica.agent.leadership(), Leadership::Standby { holder: Some("one".into()), error: None });
    // Both sources are due at :20; the first run takes until :20:20 at least.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(one.replica.agent.registry.open().len(), 2);
    one.replica.kill().await;
    minutes(39).await;
    assert!(is_active(&other));
    other.replica.stop().await;
    assert_eq!(world.commits.per_slot("backup/vault", 300, 11), [1; 11]);
    assert_eq!(world.commits.per_slot("backup/consul", 600, 5), [1; 5]);
    assert_eq!(world.commits.per_slot("gc", 3600, 1), [1]);
    let done = world.telemetry.done.lock().unwrap().clone();
    let count = |job: &str| world.commits.all().iter().filter(|(name, _)| name == job).count();
    for job in ["backup/vault", "backup/consul", "gc"] {
        assert_eq!(done.get(job), Some(&count(job)), "{job}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_kills_stops_and_cut_cables_misses_nothing_and_doubles_nothing() {
    for seed in 0..6u64 {
        let world = World::new(vec![
            job(RunKind::Backup, Some("vault"), "@hourly", 120),
            job(RunKind::Backup, Some("nomad"), "30 */2 * * *", 0),
            job(RunKind::Verify, None, "15 6 * * *", 0),
        ]);
        let mut hosts: Vec<Option<Host>> = vec![Some(world.start("one")), Some(world.start("other"))];
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        // What is broken is whole again after at most six minutes, well within an hour.
        for event in 0..100 {
            let at = usize::try_from(random(2)).unwrap();
            let name = if at == 0 { "one" } else { "other" };
            match (random(4), hosts[at].take()) {
                (0, Some(host)) => host.replica.kill().await,
                (1, Some(host)) => host.replica.stop().await,
                (2, Some(host)) => {
                    host.store.is_cut.store(true, Ordering::Relaxed);
                    minutes(random(6)).await;
                    host.store.is_cut.store(false, Ordering::Relaxed);
                    hosts[at] = Some(host);
                }
                (_, host) => hosts[at] = host,
            }
            minutes(1 + random(5)).await;
            if hosts[at].is_none() {
                hosts[at] = Some(world.start(&format!("{name}-{event}")));
            }
            let active = hosts.iter().flatten().filter(|host| {
                matches!(host.replica.agent.leadership(), Leadership::Held { .. })
                    && !host.store.is_cut.load(Ordering::Relaxed)
            });
            assert!(active.count() <= 1, "seed {seed}: two replicas believe to hold the lease");
        }
        let simulated_s = world.simulated_s();
        let hours = usize::try_from(simulated_s / 3600).unwrap();
        minutes(20).await;
        for host in hosts.into_iter().flatten() {
            host.replica.stop().await;
        }
        let vault = world.commits.per_slot("backup/vault", 3600, hours);
        assert_eq!(vault, vec![1; hours], "seed {seed}: {:?}", world.commits.all());
        let days = usize::try_from(simulated_s / 86_400).unwrap();
        assert!(world.commits.per_slot("verify", 86_400, days.max(1)).iter().all(|count| *count <= 1), "seed {seed}");
    }
}

impl World {
    fn simulated_s(&self) -> i64 {
        use hah_vault::agent::Clock;
        self.clock.unix_ms() / 1000 - START_UNIX_S
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_asked_again_and_the_failure_is_told() {
    let world = World::new(vec![job(RunKind::Backup, Some("vault"), "@hourly", 0)]);
    let host = world.start("one");
    host.worker.failing.store(2, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(50)).await;
    let jobs = host.replica.agent.jobs();
    assert_eq!(jobs[0].failures, 1);
    assert_eq!(jobs[0].last_error.as_ref().unwrap().message, "the server said no");
    minutes(10).await;
    assert_eq!(world.commits.per_slot("backup/vault", 3600, 1), [1]);
    assert_eq!(host.replica.agent.jobs()[0].failures, 0);
    assert_eq!(world.telemetry.not_done.lock().unwrap()["backup/vault"], 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_lock_that_answers_backups_go_on_after_a_while() {
    let world = World::new(vec![job(RunKind::Backup, Some("vault"), "@hourly", 0)]);
    let host = world.start_with("one", false);
    minutes(50).await;
    host.store.is_cut.store(true, Ordering::Relaxed);
    minutes(5).await;
    assert!(matches!(host.replica.agent.leadership(), Leadership::Standby { error: Some(_), .. }));
    minutes(20).await;
    assert!(matches!(host.replica.agent.leadership(), Leadership::Unguarded { .. }));
    assert_eq!(world.commits.per_slot("backup/vault", 3600, 2), [1, 1]);
    host.store.is_cut.store(false, Ordering::Relaxed);
    minutes(5).await;
    assert!(matches!(host.replica.agent.leadership(), Leadership::Held { .. }));
    minutes(30).await;
    assert_eq!(world.commits.per_slot("backup/vault", 3600, 2), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_short_run_finish_and_aborts_a_long_one_which_the_successor_does() {
    let world = World::new(vec![job(RunKind::Backup, Some("vault"), "@hourly", 0)]);
    let host = world.start("one");
    host.worker.takes_ms.store(5000, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(host.replica.agent.registry.open().len(), 1);
    host.replica.stop().await;
    assert_eq!(world.commits.all().len(), 1);
    let host = world.start("two");
    minutes(59).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    host.worker.takes_ms.store(60_000, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let agent = Arc::clone(&host.replica.agent);
    host.replica.stop().await;
    let runs: Vec<_> = agent.registry.all().iter().map(|entry| entry.run()).collect();
    assert_eq!(runs[0].state, hah_vault::agent::RunState::Aborted);
    assert_eq!(world.commits.all().len(), 1);
    // The lease was given back: the successor need not wait for its end.
    let host = world.start("three");
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(world.commits.all().len(), 2);
    drop(host);
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_schedules_and_keeps_what_was_done() {
    let world = World::new(vec![job(RunKind::Backup, Some("vault"), "@hourly", 0)]);
    let host = world.start("one");
    minutes(1).await;
    let jobs =
        vec![job(RunKind::Backup, Some("vault"), "*/10 * * * *", 0), job(RunKind::Backup, Some("consul"), "@daily", 0)];
    host.replica.agent.reload(settings("one", jobs), Arc::clone(&host.worker) as _);
    minutes(38).await;
    // The hour's first slot is not done again; the new source is due at once.
    assert_eq!(world.commits.per_slot("backup/vault", 600, 3), [1, 1, 1]);
    assert_eq!(world.commits.per_slot("backup/consul", 3600, 1), [1]);
}
