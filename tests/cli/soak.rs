//! The operator at work: a real Consul whose keys change all the time, snapshots every ten seconds, the page open in a real
//! Chromium, a real Prometheus; then a point in time comes back in another Consul.
//!
//! It goes on for `HAH_VAULT_SOAK_S` seconds, 20 without it; the issue asks for 300.

use super::agent::{Running, TOKEN};
use super::sandbox::Sandbox;
use crate::support::browser::Browser;
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::prometheus::Prometheus;
use base64::Engine as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MASTER: &str = "11111111-2222-3333-4444-555555555555";
const EVERY_S: u64 = 10;
const KEYS: usize = 200;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(40);
/// Of a source of this name and schedule, and verifications among its backups.
const CONFIG: &str = "schedule {\n    verify = \"every 60s\"\n    rehearse = \"every 120s\"\n    read_data_percent = 20\n  }\n}\n\
                      consul {\n  schedule = \"every 10s\"\n";

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// A write: when it was sent and when it was acknowledged, which key, and its value.
struct Write {
    sent_ms: u128,
    acknowledged_ms: u128,
    key: usize,
    value: String,
}

fn key_of(number: usize) -> String {
    format!("soak/{number:03}")
}

/// Changes one key after the other, which later ones are built upon.
async fn write_on(server: &ConsulServer, stop: &AtomicBool) -> Vec<Write> {
    let mut writes = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = (writes.len() * 7) % KEYS;
        let value = format!("value {} of key {key}", writes.len());
        let sent_ms = now_ms();
        server.put(&format!("/v1/kv/{}", key_of(key)), value.clone().into_bytes()).await;
        writes.push(Write { sent_ms, acknowledged_ms: now_ms(), key, value });
        tokio::time::sleep(PAUSE).await;
    }
    writes
}

/// The keys after so many writes.
fn state_after(writes: &[Write]) -> BTreeMap<String, String> {
    writes.iter().map(|write| (key_of(write.key), write.value.clone())).collect()
}

async fn keys(server: &ConsulServer, token: &str) -> BTreeMap<String, String> {
    let listed = server.get("/v1/kv/soak/?recurse", token).await;
    let text = |entry: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(entry["Value"].as_str().unwrap()).unwrap();
        (entry["Key"].as_str().unwrap().to_owned(), String::from_utf8(bytes).unwrap())
    };
    listed.as_array().unwrap().iter().map(text).collect()
}

/// Milliseconds since 1970 of the API's times, `2026-11-22T14:30:00.123Z`.
fn ms_of(time: &Value) -> u128 {
    let text = time.as_str().expect("a time");
    let (second, milli) = text.trim_end_matches('Z').split_once('.').expect("milliseconds");
    let second: hah_vault_format::UnixTime = format!("{second}Z").replace(['-', ':'], "").parse().unwrap();
    u128::from(second.unix_s()) * 1000 + milli.parse::<u128>().unwrap()
}

struct Api<'a> {
    agent: &'a Running,
    http: reqwest::Client,
}

impl Api<'_> {
    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.agent.url)).bearer_auth(TOKEN).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// Backups that have ended, the oldest first.
    async fn backups(&self) -> Vec<Value> {
        let mut runs = self.get("/v1/runs?limit=100").await["runs"].take();
        let mut runs: Vec<Value> = runs.as_array_mut().unwrap().drain(..).rev().collect();
        runs.retain(|run| run["kind"] == "backup" && run["source"] == "consul" && !run["ended"].is_null());
        runs
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_in_time_comes_back_out_of_snapshots_every_ten_seconds() {
    let Some(program) = consul() else { return };
    let lasts_s: u64 = std::env::var("HAH_VAULT_SOAK_S").map_or(20, |text| text.parse().expect("seconds"));
    let server = Arc::new(ConsulServer::start(&program, MASTER).await);
    server.fill().await;
    let sandbox = Arc::new(Sandbox::with_repository());
    let url = server.url();
    let env = [("CONSUL_HTTP_ADDR", url.as_str()), ("CONSUL_HTTP_TOKEN", MASTER)];
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        tokio::spawn(async move { write_on(&server, &stop).await })
    };
    let agent = Running::start_in(&sandbox, "127.0.0.1", CONFIG, &env);
    let began_ms = now_ms();
    let target = agent.url.trim_start_matches("http://").to_owned();
    let prometheus = Prometheus::start(&target, &sandbox.work().join("token")).await;
    let api = Api { agent: &agent, http: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap() };

    // The page shows what happens as it happens.
    let browser = Browser::start().await;
    let shown = |number: usize| format!("consul, {number} snapshot{}", if number == 1 { "" } else { "s" });
    if let Some(browser) = &browser {
        browser.open(&agent.url).await;
        browser.unlock(TOKEN).await;
        browser.seen("consul,").await;
        // Before, it was refused.
        browser.log().await;
        let count = "Number((document.body.innerText.match(/consul, (\\d+) snapshot/) ?? [0, 0])[1])";
        browser.until(&format!("{count} > 0")).await;
        let first = browser.run(&format!("return {count}")).await;
        browser.until(&format!("{count} > {first}")).await;
    }
    let left_ms = (began_ms + u128::from(lasts_s) * 1000).saturating_sub(now_ms());
    tokio::time::sleep(Duration::from_millis(u64::try_from(left_ms).unwrap())).await;
    if let Some(browser) = &browser {
        browser.confirmed("Pause all…", "Pause").await;
        browser.seen("All schedules are paused").await;
    } else {
        let pause = api.http.post(format!("{}/v1/schedules/pause", agent.url)).bearer_auth(TOKEN);
        assert!(pause.send().await.unwrap().status().is_success());
    }
    while !api.get("/v1/runs?state=running").await["runs"].as_array().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended_ms = now_ms();
    stop.store(true, Ordering::Relaxed);
    let writes = writing.await.unwrap();

    // No slot was missed, and nothing failed.
    let backups = api.backups().await;
    let failed: Vec<&Value> = backups.iter().filter(|run| run["state"] != "done").collect();
    assert!(failed.is_empty(), "{failed:?}");
    let slots = (ended_ms - began_ms) / 1000 / u128::from(EVERY_S);
    assert!(backups.len() as u128 >= slots, "{} backups in {slots} slots", backups.len());
    if let Some(browser) = &browser {
        browser.seen(&shown(backups.len())).await;
        let complaints = browser.log().await;
        assert!(complaints.is_empty(), "{complaints:?}");
        super::agent::picture(browser, "soak").await;
    }
    if let Some(prometheus) = &prometheus {
        // Scraped after the last run.
        let committed = "hah_vault_backups_committed_total{source=\"consul\"}";
        let waited = std::time::Instant::now();
        while prometheus.value(committed).await != Some(backups.len() as f64) {
            assert!(waited.elapsed() < Duration::from_secs(60), "{:?}", prometheus.query(committed).await);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(prometheus.value("sum(hah_vault_backup_failures_total)").await, Some(0.0));
        assert_eq!(prometheus.value("hah_vault_backup_last_run_success{source=\"consul\"}").await, Some(1.0));
        let slowest_s = prometheus.value("max_over_time(scrape_duration_seconds[1h])").await;
        assert_eq!(prometheus.value("min_over_time(up[1h])").await, Some(1.0), "scrapes took up to {slowest_s:?} s");
        let alerts = prometheus.query("ALERTS{alertstate=\"firing\"}").await;
        assert!(alerts.is_empty(), "{alerts:?}");
    }
    assert_eq!(agent.stop().code, 0);
    let verified = sandbox.run(["verify", "--read-data", "--rehearse", "--all"]).ok().text();

    // The middle comes back in another Consul.
    let middle_s = u64::try_from((began_ms + ended_ms) / 2000).unwrap();
    let middle = hah_vault_format::UnixTime::from_unix_s(middle_s).unwrap();
    let fresh = ConsulServer::start(&program, MASTER).await;
    let url = fresh.url();
    let wanted = format!("consul@{middle}");
    let restored = sandbox.run_with_env(
        ["restore", &wanted, "--to", "consul", "--yes", "--json"],
        &[("CONSUL_HTTP_ADDR", url.as_str()), ("CONSUL_HTTP_TOKEN", MASTER)],
    );
    let name = restored.ok().objects().last().unwrap()["manifest"].as_str().unwrap().to_owned();
    let manifest_of = |run: &Value| run["result"]["manifest"].as_str().unwrap().to_owned();
    let at_most = format!("consul/{middle}~");
    let expected = backups.iter().map(manifest_of).filter(|name| *name < at_most).max();
    assert_eq!(Some(&name), expected.as_ref(), "the newest at or before {middle}");
    let run = backups.iter().find(|run| manifest_of(run) == name).unwrap();
    let (first_ms, last_ms) = (ms_of(&run["started"]), ms_of(&run["ended"]));

    // It holds exactly the first so many writes: all before the backup began, and none after it ended.
    let back = keys(&fresh, MASTER).await;
    let before = writes.iter().filter(|write| write.acknowledged_ms < first_ms).count();
    let until = writes.iter().filter(|write| write.sent_ms <= last_ms).count();
    let holds = (before..=until).find(|count| state_after(&writes[..*count]) == back);
    let holds = holds.unwrap_or_else(|| panic!("no state between {before} and {until} writes: {back:?}"));
    println!(
        "{lasts_s} s: {} writes, {} backups, {middle}: {name} holds the first {holds} writes ({before} to {until})\n{verified}",
        writes.len(),
        backups.len(),
    );
}
