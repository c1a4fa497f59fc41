//! The lock in a real Consul, with agents of ours and with a client that does as Go's `api.Lock` does.

use super::super::support::agent::{Commits, CountingTelemetry, NotingWorker, Replica, job, settings};
use super::super::support::consul_server::{ConsulServer, consul};
use hah_vault::agent::lock::{Attempt, ConsulLock, ConsulLockSettings, LOCK_FLAGS, Lock, LockError};
use hah_vault::agent::{Clock, Journal, Leadership, MachineClock, Presence, PresenceSettings, RunKind, Settled};
use hah_vault::source::settings::{ConsulSettings, FreshToken, Reach};
use hah_vault::source::token::Token;
use hah_vault::source::{Address, Consul, Secret};
use hah_vault::world::Machine;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MASTER: &str = "3a0c2f0e-6d2f-4f0e-9a55-6c5c1f6d7e11";

fn client(server: &ConsulServer) -> Arc<Consul> {
    let settings = ConsulSettings {
        reach: Reach::at(vec![Address::of(false, "127.0.0.1", server.http_port).unwrap()]),
        token: Token::Given(Secret::from(MASTER)),
        datacenter: None,
        stale: false,
        namespace: None,
        partition: None,
        fresh_token: FreshToken::OLD,
    };
    Arc::new(Consul::new(settings, &mut |warning| panic!("{warning}")).unwrap())
}

fn lock(server: &ConsulServer, holder: &str) -> ConsulLock {
    let settings = ConsulLockSettings {
        key: "hah-vault/agent/lock".into(),
        ttl: Duration::from_secs(10),
        lock_delay: Duration::from_secs(1),
    };
    ConsulLock::new(client(server), settings, holder.into())
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn key(server: &ConsulServer) -> Value {
    server.get("/v1/kv/hah-vault/agent/lock", MASTER).await[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_has_the_lock_and_the_journal_goes_from_one_to_the_other() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let (one, other) = (lock(&server, "one"), lock(&server, "other"));
    assert_eq!(one.take().await.unwrap(), Attempt::Held(Journal::new()));
    assert_eq!(other.take().await.unwrap(), Attempt::Taken { holder: Some("one".into()) });
    let journal = Journal::from([("gc".to_owned(), Settled { slot: 5, success: None })]);
    assert!(one.renew(&journal).await.unwrap());
    assert_eq!(key(&server).await["Flags"], LOCK_FLAGS);
    assert!(!other.renew(&Journal::new()).await.unwrap());
    one.release(&journal).await.unwrap();
    assert_eq!(key(&server).await["Session"], Value::Null);
    assert_eq!(other.take().await.unwrap(), Attempt::Held(journal.clone()));
    // Its session is destroyed from outside: it is lost, and says so.
    let session = key(&server).await["Session"].as_str().unwrap().to_owned();
    server.put(&format!("/v1/session/destroy/{session}"), vec![]).await;
    assert!(!other.renew(&journal).await.unwrap());
    until("the lock delay ends", async || matches!(one.take().await.unwrap(), Attempt::Held(_))).await;
    one.release(&journal).await.unwrap();
    // A key that is no lock is left alone.
    server.put("/v1/kv/hah-vault/agent/lock?flags=7", b"data".to_vec()).await;
    assert!(matches!(one.take().await, Err(LockError::NotALock { flags: 7, .. })));
    assert_eq!(key(&server).await["Flags"], 7);
}

/// What Go's client does: session, acquire with its flags, wait while another session is on the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_like_gos_and_ours_wait_for_each_other() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let session = json!({"Name": "Consul API Lock", "TTL": "15s"}).to_string();
    let session = server.put("/v1/session/create", session.into()).await["ID"].as_str().unwrap().to_owned();
    let acquire = format!("/v1/kv/hah-vault/agent/lock?acquire={session}&flags=3304740253564472344");
    assert_eq!(server.put(&acquire, b"value of its own".to_vec()).await, true);
    let ours = lock(&server, "ours");
    let holder = Some(format!("session {session}"));
    assert_eq!(ours.take().await.unwrap(), Attempt::Taken { holder });
    let release = format!("/v1/kv/hah-vault/agent/lock?release={session}&flags=3304740253564472344");
    assert_eq!(server.put(&release, b"value of its own".to_vec()).await, true);
    assert_eq!(ours.take().await.unwrap(), Attempt::Held(Journal::new()));
    // Go looks at the key first: the flags must be its own, or it gives up (ErrLockConflict); then it waits.
    let found = key(&server).await;
    assert_eq!(found["Flags"].as_u64(), Some(3_304_740_253_564_472_344));
    assert_ne!(found["Session"].as_str().unwrap(), session);
    assert_eq!(server.put(&acquire, vec![]).await, false);
    ours.release(&Journal::new()).await.unwrap();
    assert_eq!(server.put(&acquire, vec![]).await, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_agents_one_is_killed_and_the_other_goes_on() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::new(Machine::shared()));
    let commits = Arc::new(Commits::default());
    let start = |name: &str| {
        let mut worker = NotingWorker::new(Arc::clone(&clock), Arc::clone(&commits));
        worker.takes_ms = 0.into();
        let jobs = vec![job(RunKind::Backup, Some("vault"), "every 1s", 0)];
        let telemetry = Arc::new(CountingTelemetry::default());
        Replica::start(
            settings(name, jobs),
            Arc::clone(&clock),
            Arc::new(worker),
            Arc::new(lock(&server, name)),
            telemetry,
        )
    };
    let one = start("one");
    until("the first holds the lock", async || matches!(one.agent.leadership(), Leadership::Held { .. })).await;
    let other = start("other");
    let standby = Leadership::Standby { holder: Some("one".into()), error: None };
    until("the second knows the first", async || other.agent.leadership() == standby).await;
    until("snapshots are taken", async || commits.all().len() >= 3).await;
    let presence = Presence::new(
        client(&server),
        PresenceSettings {
            name: "hah-vault".into(),
            id: "hah-vault-other".into(),
            tags: vec!["agent".into()],
            address: Some("127.0.0.1:8205".parse().unwrap()),
            deregister_after: Duration::from_secs(3600),
        },
    );
    let kept = tokio::spawn({
        let agent = Arc::clone(&other.agent);
        async move { presence.keep(&agent).await }
    });
    let checks = async || server.get("/v1/health/checks/hah-vault", MASTER).await;
    until("both checks pass", async || {
        let checks = checks().await;
        let passing = checks.as_array().unwrap().iter().filter(|check| check["Status"] == "passing").count();
        passing == 2
    })
    .await;
    one.kill().await;
    until("the second takes over", async || matches!(other.agent.leadership(), Leadership::Held { .. })).await;
    let before = commits.all().len();
    until("snapshots are taken again", async || commits.all().len() >= before + 3).await;
    other.stop().await;
    kept.await.unwrap();
    assert_eq!(server.get("/v1/health/checks/hah-vault", MASTER).await, json!([]));
    // One snapshot for each second at most: none was taken twice.
    let mut seconds: Vec<i64> = commits.all().iter().map(|(_, at)| at / 1000).collect();
    let count = seconds.len();
    seconds.dedup();
    assert_eq!(seconds.len(), count, "{:?}", commits.all());
}
