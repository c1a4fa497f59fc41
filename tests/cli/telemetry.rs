//! `--metrics-file`, `--metrics-push` and `--ping`, as cron would use them.

use super::sandbox::{Ran, Sandbox, files, fixture_path, spec};
use crate::support::service_server::{Handler, Reply, Request, Server};
use hah_vault::telemetry::catalog::{
    BACKUP_DURATION, BACKUP_FAILURES, BACKUP_LAST_ATTEMPT, BACKUP_LAST_END, BACKUP_LAST_RUN_SUCCESS,
    BACKUP_LAST_SUCCESS, BACKUPS, GC_LAST, GC_LAST_RUN_SUCCESS, GC_LAST_SUCCESS, MONTH_ESTIMATE, Metric,
    REPOSITORY_BUDGET, REPOSITORY_BYTES, RESTORE_BYTES, RESTORES, STORE_OPERATIONS, WARNINGS,
};
use hah_vault::telemetry::text::parse;
use hah_vault::telemetry::values::Values;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub(super) const FILE: &str = "hah-vault.prom";

/// What is in the metrics file; all of it makes sense.
#[track_caller]
pub(super) fn values(sandbox: &Sandbox) -> Values {
    let parsed = parse(&fs::read_to_string(sandbox.work().join(FILE)).expect("a metrics file"));
    assert_eq!(parsed.rubbish_lines, 0);
    parsed.values
}

#[track_caller]
pub(super) fn figure(sandbox: &Sandbox, metric: &Metric, labels: &[&str]) -> f64 {
    values(sandbox).get(metric, labels).unwrap_or_else(|| panic!("{} {labels:?}", metric.name))
}

fn backup(sandbox: &Sandbox, specs: &[&str]) -> Ran {
    sandbox.run_with_env(["backup"].iter().chain(specs), &[("HAH_VAULT_METRICS_FILE", FILE)])
}

#[test]
fn the_metrics_file_tells_of_success_and_failure_and_remembers_the_last_success() {
    let sandbox = Sandbox::with_repository();
    let (good, bad) = (spec("vault", &fixture_path("vault-00.snap")), spec("vault", &fixture_path("README.md")));
    backup(&sandbox, &[&good]).ok();
    let first = values(&sandbox);
    let success = first.get(&BACKUP_LAST_SUCCESS, &["vault"]).unwrap();
    assert!(first.get(&BACKUP_LAST_ATTEMPT, &["vault"]).unwrap() <= success);
    assert_eq!(first.get(&BACKUP_LAST_RUN_SUCCESS, &["vault"]), Some(1.0));
    assert_eq!(first.series(&BACKUP_DURATION).count(), 5);
    for metric in [&REPOSITORY_BYTES, &BACKUPS] {
        assert!(first.sum(metric) > 0.0, "{}", metric.name);
    }
    assert!(first.get(&MONTH_ESTIMATE, &["a"]).unwrap() >= first.get(&STORE_OPERATIONS, &["put", "a"]).unwrap());
    let mode = fs::metadata(sandbox.work().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    backup(&sandbox, &[&bad]).refused(1, "not a Raft snapshot", "");
    let second = values(&sandbox);
    assert_eq!(second.get(&BACKUP_LAST_SUCCESS, &["vault"]), Some(success));
    assert_eq!(second.get(&BACKUP_LAST_RUN_SUCCESS, &["vault"]), Some(0.0));
    assert_eq!(second.get(&BACKUP_FAILURES, &["vault", "source_invalid"]), Some(1.0));
    assert!(second.get(&BACKUP_LAST_END, &["vault"]).unwrap() >= success);

    // The repository is gone: nothing can be read, and the failure is told all the same.
    fs::rename(sandbox.repo(""), sandbox.work().join("elsewhere")).unwrap();
    assert_eq!(backup(&sandbox, &[&good]).code, 10);
    assert_eq!(figure(&sandbox, &BACKUP_FAILURES, &["vault", "repository"]), 1.0);
    assert_eq!(figure(&sandbox, &BACKUP_LAST_SUCCESS, &["vault"]), success);
    fs::rename(sandbox.work().join("elsewhere"), sandbox.repo("")).unwrap();

    // A file is missing: one source of two fails.
    let consul = spec("consul", &fixture_path("consul-00.snap"));
    assert_eq!(backup(&sandbox, &["vault=nowhere", &consul]).code, 3);
    assert_eq!(figure(&sandbox, &BACKUP_FAILURES, &["vault", "local"]), 1.0);
    assert_eq!(figure(&sandbox, &BACKUPS, &["consul"]), 1.0);
    assert_eq!(figure(&sandbox, &BACKUPS, &["vault"]), 1.0);
    // Other commands say nothing of themselves.
    let before = fs::read(sandbox.work().join(FILE)).unwrap();
    sandbox.run_with_env(["list"], &[("HAH_VAULT_METRICS_FILE", FILE)]).ok();
    assert_eq!(fs::read(sandbox.work().join(FILE)).unwrap(), before);
}

/// A backup that has read some bytes and waits for more.
fn waiting(sandbox: &Sandbox, env: &[(&str, &str)]) -> Child {
    let mut command = sandbox.command(["backup", "--raw", "big=-"]);
    command.env("HAH_VAULT_METRICS_FILE", FILE).envs(env.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds: when it is written, the backup is running.
    child.stdin.as_mut().unwrap().write_all(&vec![7; 4 << 20]).unwrap();
    child
}

#[test]
fn a_run_that_is_killed_has_begun_and_not_ended_and_the_next_one_goes_on() {
    let sandbox = Sandbox::with_repository();
    let good = spec("big", &fixture_path("vault-00.snap"));
    backup(&sandbox, &[&good]).ok();
    let success = figure(&sandbox, &BACKUP_LAST_SUCCESS, &["big"]);
    let mut child = waiting(&sandbox, &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    let crashed = values(&sandbox);
    let (attempt, end) = (crashed.get(&BACKUP_LAST_ATTEMPT, &["big"]), crashed.get(&BACKUP_LAST_END, &["big"]));
    assert!(attempt > end, "{attempt:?} {end:?}");
    assert_eq!(crashed.get(&BACKUP_LAST_SUCCESS, &["big"]), Some(success));
    backup(&sandbox, &[&good]).ok();
    assert_eq!(figure(&sandbox, &BACKUPS, &["big"]), 2.0);
    assert!(figure(&sandbox, &BACKUP_LAST_SUCCESS, &["big"]) > success);
}

#[test]
fn runs_at_the_same_time_all_count() {
    let sandbox = Sandbox::with_repository();
    let start = |number: usize| {
        let specs =
            [spec("shared", &fixture_path("README.md")), spec(&format!("own-{number}"), &fixture_path("README.md"))];
        let mut command = sandbox.command(["backup", &specs[0], &specs[1]]);
        command.env("HAH_VAULT_METRICS_FILE", FILE).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..6).map(start).collect();
    for child in children {
        Ran::from(child.wait_with_output().unwrap()).ok();
    }
    let values = values(&sandbox);
    assert_eq!(values.get(&BACKUPS, &["shared"]), Some(6.0));
    for number in 0..6 {
        assert_eq!(values.get(&BACKUPS, &[&format!("own-{number}")]), Some(1.0), "{number}");
    }
}

#[test]
fn a_metrics_file_that_cannot_be_written_or_read_is_a_warning() {
    let sandbox = Sandbox::with_repository();
    let source = spec("vault", &fixture_path("vault-00.snap"));
    let ran = sandbox.run(["backup", &source, "--metrics-file", "no/such/folder/x.prom"]).ok();
    assert!(ran.stderr.contains("warning: metrics: cannot write the metrics file no/such/folder/x.prom"), "{ran:?}");
    sandbox.file(FILE, "<html>not metrics\n");
    let ran = backup(&sandbox, &[&source]).ok();
    assert!(ran.stderr.contains("1 lines of the old metrics file made no sense"), "{ran:?}");
    assert_eq!(figure(&sandbox, &BACKUPS, &["vault"]), 1.0);
    // The warning came before the first figures were taken, and is none of the archive's.
    assert_eq!(figure(&sandbox, &WARNINGS, &[]), 0.0);
    let precious = sandbox.file("precious.txt", "precious");
    let args = ["backup", &source, "--metrics-file", "precious.txt"];
    sandbox.run(args).refused(2, "precious.txt does not end in .prom", "rename it");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

/// Answers with a status that can be changed.
pub(super) struct Answers(pub(super) AtomicU16);

impl Handler for Answers {
    fn answer(&self, _: &Request) -> Reply {
        Reply::text(&format!("{} Answer", self.0.load(SeqCst)), "text/plain", "the answer")
    }
}

pub(super) async fn server() -> (Server, Arc<Answers>) {
    let answers = Arc::new(Answers(AtomicU16::new(200)));
    (Server::start(Arc::<Answers>::clone(&answers)).await, answers)
}

/// Paths and bodies of all requests.
pub(super) fn posts(server: &Server) -> Vec<(String, String)> {
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.method == "POST"), "{requests:?}");
    requests.into_iter().map(|r| (r.path, String::from_utf8(r.body).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_mans_switch_hears_of_the_start_and_of_how_it_ended() {
    let (server, answers) = server().await;
    let sandbox = Sandbox::with_repository();
    let url = format!("{}/0f3c-secret-path?key=secret-query", server.url());
    let env = [("HAH_VAULT_PING_URL", url.as_str()), ("HAH_VAULT_LOG", "trace")];
    let vault = spec("vault", &fixture_path("vault-00.snap"));
    let mut said = Vec::new();
    said.push(sandbox.run_with_env(["backup", &vault], &env).ok());
    said.push(sandbox.run_with_env(["backup", &vault, "consul=nowhere", "-vvv"], &env));
    assert_eq!(said[1].code, 3);
    let path = "/0f3c-secret-path";
    let expected = [
        (format!("{path}/start"), ""),
        (path.to_owned(), "exit code 0\n"),
        (format!("{path}/start"), ""),
        (format!("{path}/fail"), "exit code 3\nconsul: local\n"),
    ];
    assert_eq!(posts(&server), expected.map(|(path, body)| (path, body.to_owned())));
    assert!(server.requests().iter().all(|request| request.query == "key=secret-query"));
    // A refusal is a warning, is not tried again, and is told without the URL; other commands are nobody's business.
    answers.0.store(404, SeqCst);
    said.push(sandbox.run_with_env(["backup", &vault], &env).ok());
    assert!(said[2].stderr.contains(&format!("was not pinged: {} answered with status 404", server.address)));
    assert_eq!(posts(&server).len(), 6);
    said.push(sandbox.run_with_env(["list"], &env).ok());
    assert_eq!(posts(&server).len(), 6);
    let nobody = [("HAH_VAULT_PING_URL", "http://127.0.0.1:1/0f3c-secret-path")];
    said.push(sandbox.run_with_env(["backup", &vault, "-vvv"], &nobody).ok());
    assert!(said[4].stderr.contains("was not pinged: cannot reach 127.0.0.1:1"), "{:?}", said[4]);
    said.push(sandbox.run_with_env(["backup", &vault], &[("HAH_VAULT_PING_URL", "hc.example.com/secret")]));
    said[5].refused(2, "the ping URL is none", "HAH_VAULT_PING_URL");
    for ran in said {
        assert!(!ran.stderr.contains("secret") && !ran.text().contains("secret"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_is_told_as_a_failure() {
    let (server, _) = server().await;
    let sandbox = Sandbox::with_repository();
    let url = server.url();
    let child = waiting(&sandbox, &[("HAH_VAULT_PING_URL", &url)]);
    let started = Instant::now();
    while posts(&server).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    Ran::from(child.wait_with_output().unwrap()).refused(130, "interrupted", "");
    assert_eq!(posts(&server)[1], ("/fail".to_owned(), "exit code 130\nbig: interrupted\n".to_owned()));
    assert_eq!(figure(&sandbox, &BACKUP_FAILURES, &["big", "interrupted"]), 1.0);
    assert_eq!(figure(&sandbox, &BACKUP_LAST_RUN_SUCCESS, &["big"]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushgateway_gets_each_source_in_a_group_of_its_own() {
    let (server, answers) = server().await;
    let sandbox = Sandbox::with_repository();
    let url = format!("http://pusher:hunter2@{}/base", server.address);
    let env = [("HAH_VAULT_METRICS_PUSH", url.as_str()), ("HAH_VAULT_LOG", "trace")];
    let vault = spec("vault", &fixture_path("vault-00.snap"));
    let ran = sandbox.run_with_env(["backup", &vault, "consul=nowhere"], &env);
    assert_eq!(ran.code, 3, "{ran:?}");
    let sent = posts(&server);
    let (paths, bodies): (Vec<String>, Vec<String>) = sent.into_iter().unzip();
    let host = paths[0].strip_prefix("/base/metrics/job/hah-vault/instance/").expect("a group").to_owned();
    assert!(!host.is_empty() && !host.contains('/'), "{host}");
    assert_eq!(paths[1..], ["consul", "vault"].map(|source| format!("{}/source/{source}", paths[0])));
    assert!(server.requests().iter().all(|request| request.header("authorization").starts_with("Basic ")));
    let parsed: Vec<Values> = bodies.iter().map(|body| parse(body).values).collect();
    assert_eq!(parsed[0].sources(), [""; 0]);
    assert!(parsed[0].sum(&STORE_OPERATIONS) > 0.0);
    // A failed source pushes no success: POST leaves the one that the gateway has.
    assert_eq!(parsed[1].get(&BACKUP_LAST_SUCCESS, &["consul"]), None);
    assert_eq!(parsed[1].get(&BACKUP_FAILURES, &["consul", "local"]), Some(1.0));
    assert_eq!(parsed[2].get(&BACKUP_LAST_RUN_SUCCESS, &["vault"]), Some(1.0));
    // With a file beside it counters go on; a URL with a group of its own is taken as it is; a refusal is a warning.
    answers.0.store(400, SeqCst);
    let group = format!("{}/metrics/job/backups", server.url());
    for count in [1.0, 2.0] {
        let args = ["backup", &vault, "--metrics-file", FILE, "--metrics-push", &group];
        let ran = sandbox.run(args).ok();
        assert!(ran.stderr.contains(&format!("not pushed: {} answered with status 400", server.address)), "{ran:?}");
        let (path, body) = posts(&server).pop().unwrap();
        assert_eq!(path, "/metrics/job/backups/source/vault");
        assert_eq!(parse(&body).values.get(&BACKUPS, &["vault"]), Some(count));
    }
    assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("cHVzaGVyOmh1bnRlcjI="), "{ran:?}");
}

#[test]
fn what_is_written_is_what_prometheus_reads() {
    let sandbox = Sandbox::with_repository();
    backup(&sandbox, &[&spec("vault", &fixture_path("vault-00.snap")), "consul=nowhere"]);
    let Some(promtool) = crate::support::tools::promtool() else { return };
    let file = fs::File::open(sandbox.work().join(FILE)).unwrap();
    let output = std::process::Command::new(promtool).args(["check", "metrics"]).stdin(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn gc_and_restores_are_told_of_too() {
    let sandbox = Sandbox::with_repository();
    let env = [("HAH_VAULT_METRICS_FILE", FILE)];
    backup(&sandbox, &[&spec("vault", &fixture_path("vault-00.snap"))]).ok();
    sandbox.run_with_env(["restore", "vault@latest", "-o", "out.snap"], &env).ok();
    assert_eq!(figure(&sandbox, &RESTORES, &["vault", "done"]), 1.0);
    let len_bytes = fs::metadata(fixture_path("vault-00.snap")).unwrap().len();
    assert_eq!(figure(&sandbox, &RESTORE_BYTES, &["vault"]), len_bytes as f64);
    assert_eq!(sandbox.run_with_env(["restore", "vault@latest", "-o", "out.snap"], &env).code, 11);
    assert_eq!(figure(&sandbox, &RESTORES, &["vault", "failed"]), 1.0);

    sandbox.run_with_env(["gc", "--dry-run"], &env).ok();
    assert_eq!(values(&sandbox).get(&GC_LAST, &[]), None);
    sandbox.run_with_env(["gc", "--budget", "10GB"], &env).ok();
    assert_eq!(figure(&sandbox, &GC_LAST_RUN_SUCCESS, &[]), 1.0);
    assert_eq!(figure(&sandbox, &REPOSITORY_BUDGET, &[]), 1e10);
    assert!(figure(&sandbox, &REPOSITORY_BYTES, &[]) > 0.0);
    // A manifest that does not open keeps packs from being deleted: not all of the plan.
    for manifest in files(&sandbox.repo("manifests")) {
        fs::write(manifest, "garbage").unwrap();
    }
    assert_ne!(sandbox.run_with_env(["gc"], &env).code, 0);
    assert_eq!(figure(&sandbox, &GC_LAST_RUN_SUCCESS, &[]), 0.0);
    fs::rename(sandbox.repo(""), sandbox.work().join("elsewhere")).unwrap();
    sandbox.run_with_env(["gc"], &env).refused(10, "no repository", "");
    assert!(figure(&sandbox, &GC_LAST, &[]) > figure(&sandbox, &GC_LAST_SUCCESS, &[]));
}
