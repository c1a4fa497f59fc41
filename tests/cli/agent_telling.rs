//! `--metrics-file`, `--metrics-push` and `--ping` of the agent.

use super::agent::Running;
use super::sandbox::{Sandbox, fixture, fixture_path, spec};
use super::signals::until;
use super::telemetry::{FILE, figure, posts, server, values};
use hah_vault::telemetry::catalog::{
    AGENT_START, BACKUP_FAILURES, BACKUP_LAST_RUN_SUCCESS, BACKUPS, GC_LAST_SUCCESS, MONTH_OPERATIONS, RESTORES,
    STORE_OPERATIONS, VERIFY_LAST_SUCCESS,
};
use hah_vault::telemetry::text::parse;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// What the agent answers.
async fn asked(agent: &Running, path: &str) -> reqwest::Response {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    http.get(format!("{}{path}", agent.url)).bearer_auth(super::agent::TOKEN).send().await.unwrap()
}

/// A figure that the agent shows itself.
async fn shown(agent: &Running, metric: &hah_vault::telemetry::catalog::Metric, labels: &[&str]) -> Option<f64> {
    let answer = asked(agent, "/metrics").await;
    assert_eq!(answer.headers()["content-type"], hah_vault::telemetry::text::CONTENT_TYPE);
    parse(&answer.text().await.unwrap()).values.get(metric, labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_runs_are_written_pushed_and_pinged_as_batch_runs_are() {
    let (server, answers) = server().await;
    let sandbox = Arc::new(Sandbox::with_repository());
    let source = sandbox.file("vault.snap", fixture("vault-00.snap"));
    let (ping, push) = (format!("{}/0f3c-secret-path", server.url()), format!("{}/base", server.url()));
    let env = [
        ("HAH_VAULT_METRICS_FILE", FILE),
        ("HAH_VAULT_METRICS_PUSH", push.as_str()),
        ("HAH_VAULT_PING_URL", ping.as_str()),
    ];
    let more = format!("}}\nfile \"own\" {{\n  path = \"{}\"\n  schedule = \"never\"\n", source.display());
    let start = || Running::start_in(&sandbox, "127.0.0.1", &more, &env);
    let pings = || {
        let posts = posts(&server).into_iter();
        posts.filter(|(path, _)| path.starts_with("/0f3c")).collect::<Vec<(String, String)>>()
    };
    let pushed = |source: &str| {
        let at = format!("/source/{source}");
        posts(&server)
            .into_iter()
            .filter(|(path, _)| path.ends_with(&at))
            .map(|(_, body)| parse(&body).values)
            .collect::<Vec<_>>()
    };
    let agent = start();
    // The first backup is due at once.
    until("a success is pinged", || pings().len() == 2);
    let path = "/0f3c-secret-path";
    assert_eq!(pings(), [(format!("{path}/start"), String::new()), (path.into(), "exit code 0\n".into())]);
    until("figures are pushed", || {
        pushed("vault").last().is_some_and(|last| last.get(&BACKUPS, &["vault"]) == Some(1.0))
    });
    assert_eq!(figure(&sandbox, &BACKUPS, &["vault"]), 1.0);
    // What is of one process only is no file's.
    assert_eq!(values(&sandbox).get(&AGENT_START, &[]), None);
    assert!(shown(&agent, &AGENT_START, &[]).await.is_some());

    // A source that fails; and one that succeeds while it does.
    fs::remove_file(&source).unwrap();
    agent.ask(&["backup", "own"]).refused(1, "vault.snap", "");
    until("a failure is pinged", || pings().len() == 4);
    assert_eq!(pings()[3], (format!("{path}/fail"), "exit code 1\nown: local\n".into()));
    agent.ask(&["backup", "vault"]).ok();
    until("a success among failures is pinged", || pings().len() == 6);
    assert_eq!(pings()[5], (format!("{path}/fail"), "exit code 3\nown: local\n".into()));
    sandbox.file("vault.snap", fixture("vault-00.snap"));
    agent.ask(&["backup", "own"]).ok();
    until("all is well", || pings().len() == 8);
    assert_eq!(pings()[7], (path.into(), "exit code 0\n".into()));
    until("all of it is written", || figure(&sandbox, &BACKUPS, &["own"]) == 1.0);
    assert_eq!(figure(&sandbox, &BACKUP_FAILURES, &["own", "local"]), 1.0);
    assert_eq!(figure(&sandbox, &BACKUPS, &["vault"]), 2.0);

    // A batch run adds to the same file, and the agent takes nothing back.
    sandbox.run_with_env(["backup", &spec("own", &fixture_path("vault-01.snap"))], &env[..1]).ok();
    assert_eq!(figure(&sandbox, &BACKUPS, &["own"]), 2.0);
    agent.ask(&["verify", "--read-data"]).ok();
    agent.ask(&["gc"]).ok();
    // How far a run was can be followed, and it was through.
    let runs = asked(&agent, "/v1/runs?kind=verify").await.text().await.unwrap();
    let progress = &serde_json::from_str::<serde_json::Value>(&runs).unwrap()["runs"][0]["progress"];
    assert_eq!((&progress["part"], &progress["unit"]), (&"packs".into(), &"bytes".into()), "{runs}");
    assert!(progress["done"] == progress["total"] && progress["done"].as_u64() > Some(0), "{progress}");
    until("gc and verify are written", || {
        let values = values(&sandbox);
        values.get(&GC_LAST_SUCCESS, &[]).is_some() && values.get(&VERIFY_LAST_SUCCESS, &["structure"]).is_some()
    });
    assert_eq!(figure(&sandbox, &BACKUPS, &["own"]), 2.0);
    assert_eq!(figure(&sandbox, &BACKUP_LAST_RUN_SUCCESS, &["own"]), 1.0);
    assert_eq!(shown(&agent, &BACKUPS, &["own"]).await, Some(1.0));
    // Only backups are pinged.
    assert_eq!(pings().len(), 8);

    // What cannot be told is a warning without the URL, and stops nothing; the next agent goes on where the file is.
    answers.0.store(404, SeqCst);
    agent.ask(&["backup", "vault"]).ok();
    until("it was tried", || pings().len() == 10);
    let ended = agent.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("answered with status 404") && !ended.stderr.contains("secret-path"), "{ended:?}");
    assert_eq!(figure(&sandbox, &BACKUPS, &["vault"]), 3.0);
    let operations = values(&sandbox).sum(&STORE_OPERATIONS);
    assert_eq!(values(&sandbox).sum(&MONTH_OPERATIONS), operations);
    answers.0.store(200, SeqCst);
    let agent = start();
    agent.ask(&["backup", "vault"]).ok();
    assert_eq!(agent.stop().code, 0);
    // Also what was told last, at the stop.
    assert_eq!(figure(&sandbox, &BACKUPS, &["vault"]), 4.0);
    assert!(values(&sandbox).sum(&STORE_OPERATIONS) > operations);
    assert_eq!(values(&sandbox).get(&RESTORES, &["vault", "done"]), None);
}

#[test]
fn an_agent_refuses_places_to_tell_that_are_none() {
    let sandbox = Sandbox::with_repository();
    sandbox.file("token", super::agent::TOKEN);
    sandbox.file("config.hcl", super::agent::config("127.0.0.1:0", "token", ""));
    for (option, value, error) in [
        ("--metrics-file", "metrics.txt", "metrics.txt does not end in .prom"),
        ("--metrics-push", "gateway.example.com", "the push URL is none"),
        ("--ping", "hc.example.com/secret", "the ping URL is none"),
    ] {
        let ran = sandbox.run(["--config", "config.hcl", "agent", option, value]);
        ran.refused(2, error, "");
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
    }
}
