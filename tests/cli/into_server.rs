//! `restore --to`: into a real Consul, and into stand-ins for Vault and Nomad.

use super::sandbox::{Ran, Sandbox, files, fixture, fixture_path, has_tool, spec};
use super::signals::{signal, spawn, until};
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::s3_server::{ACCESS_KEY_ID, Fault as S3Fault, Rule, S3Server, SECRET_ACCESS_KEY};
use crate::support::service_server::{Fault, Server};
use crate::support::vault_server::{self, Role, VaultServer};
use http::Method;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

const MASTER: &str = "11111111-2222-3333-4444-555555555555";
const MASTER_OF_THE_TARGET: &str = "99999999-8888-7777-6666-555555555555";

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// A Nomad whose state is not what the sandbox has backed up.
async fn nomad(sandbox: &Sandbox) -> (NomadServer, String) {
    let name = sandbox.backup("nomad", "nomad-02.snap");
    (NomadServer::start(&fixture("nomad-00.snap")).await, name)
}

fn nomad_env(server: &NomadServer) -> [(&'static str, String); 2] {
    [("NOMAD_ADDR", server.server.url()), ("NOMAD_TOKEN", nomad_server::TOKEN.into())]
}

fn run(sandbox: &Sandbox, args: &[&str], env: &[(&'static str, String)]) -> Ran {
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    sandbox.run_with_env(args, &env)
}

fn uploads(server: &Server, path: &str) -> usize {
    server.requests_of(path).iter().filter(|request| request.method != "GET").count()
}

fn manifests(sandbox: &Sandbox, source: &str) -> usize {
    files(&sandbox.repo(&format!("manifests/{source}"))).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_consul_comes_back_by_the_commands_of_the_readme() {
    let Some(program) = consul() else { return };
    let mut server = ConsulServer::start(&program, MASTER).await;
    server.fill().await;
    let before = server.dump(MASTER).await;
    let sandbox = Sandbox::with_repository();
    let env = |server: &ConsulServer, token: &str| {
        [("CONSUL_HTTP_ADDR", server.url()), ("CONSUL_HTTP_TOKEN", token.to_owned())]
    };
    run(&sandbox, &["backup", "consul"], &env(&server, MASTER)).ok();
    server.kill();
    drop(server);
    let fresh = ConsulServer::start(&program, MASTER_OF_THE_TARGET).await;
    let args = ["restore", "consul@latest", "--to", "consul", "--yes", "--json"];
    let ran = run(&sandbox, &args, &env(&fresh, MASTER_OF_THE_TARGET)).ok();
    let object = &ran.objects()[0];
    assert_eq!((&object["outcome"], &object["version"]), (&"active".into(), &"1.8.7".into()), "{object}");
    // The token is known to be allowed: nothing is unsure but what the versions say.
    assert_eq!(object["concerns"], Value::Array(Vec::new()), "{object}");
    let after = fresh.dump(MASTER).await;
    for part in ["keys", "services", "sessions", "policies"] {
        assert_eq!(before[part], after[part], "{part}");
    }
    let (old, new) = (before["tokens"].as_array().unwrap(), after["tokens"].as_array().unwrap());
    assert!(old.len() >= 4 && old.iter().all(|token| new.contains(token)));
    // What the fresh server held is there to go back to, and that is what `latest` is now.
    let before = object["before"].as_str().unwrap();
    assert_ne!(before, object["manifest"].as_str().unwrap());
    let shown = sandbox.run(["show", "consul@latest"]).ok().text();
    assert!(shown.contains(before) && shown.contains("before-restore-of"), "{shown}");
    // A token that may only read is told before anything is sent.
    let low = new.iter().find(|token| token["Description"] == "low").unwrap()["SecretID"].as_str().unwrap();
    let refused = run(&sandbox, &["restore", before, "--to", "consul", "--yes"], &env(&fresh, low));
    refused.refused(1, "the token may not restore into Consul", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nomad_is_backed_up_restored_and_the_way_back_is_told() {
    let sandbox = Sandbox::with_repository();
    let (server, name) = nomad(&sandbox).await;
    let env = nomad_env(&server);
    let ran = run(&sandbox, &["restore", "nomad@latest", "--to", "nomad", "--yes"], &env).ok();
    let restored = server.state.lock().unwrap().restored.take().unwrap();
    assert!(gunzip(&restored) == gunzip(&fixture("nomad-02.snap")));
    let (words, lines) = (&ran.stderr, ran.stderr.lines());
    for part in [&name[..], "Nomad at http://127.0.0.1:", "version 1.1.2", "Raft index 15", "next: "] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(ran.stdout.is_empty(), "{ran:?}");
    // The old state is a snapshot of its own: the command that is told brings it back.
    let back = lines.clone().find_map(|line| line.split_once("to go back: hah-vault ")).expect(words).1;
    let back: Vec<&str> = back.split(' ').chain(["--yes", "--no-backup-first"]).collect();
    run(&sandbox, &back, &env).ok();
    let restored = server.state.lock().unwrap().restored.take().unwrap();
    assert!(gunzip(&restored) == gunzip(&fixture("nomad-00.snap")));
    assert_eq!(manifests(&sandbox, "nomad"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_yes_or_a_sound_snapshot_nothing_is_sent_or_backed_up() {
    let sandbox = Sandbox::with_repository();
    let (server, name) = nomad(&sandbox).await;
    let env = nomad_env(&server);
    let restore = |more: &[&str]| run(&sandbox, &[&["restore", &name], more].concat(), &env);
    restore(&["--to", "nomad"]).refused(2, "has to be confirmed", "--yes");
    restore(&["--to", "nosuch", "--yes"]).refused(2, "nosuch is no server", "--to takes");
    restore(&["--to", "nomad", "--yes", "-i", "nowhere"]).refused(1, "cannot read nowhere", "");
    for args in [&["--to", "nomad", "-o", "x"][..], &["--to", "nomad", "--fast"], &["--yes"], &["--dry-run"]] {
        assert_eq!(restore(args).code, 2, "{args:?}");
    }
    let ran = restore(&["--to", "nomad", "--dry-run", "--json"]).ok();
    let object = &ran.objects()[0];
    assert_eq!((&object["type"], &object["outcome"]), (&"restore_to".into(), &Value::Null));
    for pack in files(&sandbox.repo("packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&pack, bytes).unwrap();
    }
    for more in ["--yes", "--dry-run"] {
        restore(&["--to", "nomad", more]).refused(1, "cannot open pack", "");
    }
    assert_eq!((uploads(&server.server, nomad_server::PATH), manifests(&sandbox, "nomad")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_backed_up_first_is_not_replaced_unless_that_is_asked_for() {
    let sandbox = Sandbox::with_repository();
    let (server, name) = nomad(&sandbox).await;
    let env = nomad_env(&server);
    // Cut, and not worth another try.
    server.set(|state| state.fault = Fault::Html);
    let ran = run(&sandbox, &["restore", &name, "--to", "nomad", "--yes"], &env);
    ran.refused(1, "nomad was not backed up first, and so nothing was sent to it: nomad: not", "--no-backup-first");
    assert_eq!((uploads(&server.server, nomad_server::PATH), manifests(&sandbox, "nomad")), (0, 1));
    run(&sandbox, &["restore", &name, "--to", "nomad", "--yes", "--no-backup-first"], &env).ok();
    assert!(server.state.lock().unwrap().restored.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_another_cluster_needs_force_and_stays_sealed() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-02.snap");
    let server = VaultServer::start(Role::Active, &fixture("vault-00.snap")).await;
    server.set(|state| state.may_force = true);
    let env = [("VAULT_ADDR", server.server.url()), ("VAULT_TOKEN", vault_server::TOKEN.into())];
    let restore = ["restore", "vault@latest~0", "--to", "vault", "--yes", "--no-backup-first"];
    run(&sandbox, &restore, &env).refused(1, "status 400: could not verify hash file", "--force");
    let ran = run(&sandbox, &[&restore[..], &["--force"]].concat(), &env).ok();
    assert!(
        ran.stderr.contains("sealed") && ran.stderr.contains("next: Vault is sealed: unseal every node"),
        "{ran:?}"
    );
    let restored = server.state.lock().unwrap().restored.take().unwrap();
    assert!(gunzip(&restored) == gunzip(&fixture("vault-02.snap")));
    // Sealed now, and so no target any more; nor is one that was never initialised.
    run(&sandbox, &restore, &env).refused(1, "is sealed", "unseal");
    server.set(|state| state.role = Role::Uninitialised);
    run(&sandbox, &restore, &env).refused(1, "not initialised", "throw-away keys");
    server.set(|state| (state.role, state.may_force) = (Role::Active, false));
    let forced = run(&sandbox, &[&restore[..], &["--force"]].concat(), &env);
    forced.refused(1, "the token may not restore into Vault", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_not_among_its_peers_afterwards_is_warned_of() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-02.snap");
    let server = VaultServer::start(Role::Active, &fixture("vault-02.snap")).await;
    let env = [("VAULT_ADDR", server.server.url()), ("VAULT_TOKEN", vault_server::TOKEN.into())];
    let restore = ["restore", "vault@latest~0", "--to", "vault", "--yes", "--no-backup-first"];
    let ran = run(&sandbox, &restore, &env).ok();
    assert!(!ran.stderr.contains("peers"), "{ran:?}");
    server.set(|state| state.peers = vec![("10.0.0.9:8201".into(), false)]);
    let ran = run(&sandbox, &restore, &env).ok();
    assert!(ran.stderr.contains("not among its own Raft peers (10.0.0.9:8201)"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_or_does_not_come_back_is_told_so() {
    let sandbox = Sandbox::with_repository();
    let (server, name) = nomad(&sandbox).await;
    let mut env = nomad_env(&server);
    let restore = ["restore", &name, "--to", "nomad", "--yes", "--no-backup-first", "--settle-limit", "1s"];
    server.set(|state| state.loses_leader = true);
    let ran = run(&sandbox, &restore, &env);
    ran.refused(1, "sent and taken, but not known to be restored", "server's log");
    run(&sandbox, &restore, &env).refused(1, "has no leader", "quorum");
    server.set(|state| state.has_leader = true);
    env[1].1 = nomad_server::TOKEN_LOW.into();
    run(&sandbox, &restore, &env).refused(1, "not restored", "");
    env[0].1 = "http://127.0.0.1:1".into();
    run(&sandbox, &restore, &env).refused(1, "cannot connect to Nomad", "NOMAD_ADDR");
    sandbox.backup("consul", "consul-00.snap");
    let other = ["restore", "consul@latest", "--to", "nomad", "--yes"];
    run(&sandbox, &other, &env).refused(1, "it is not a snapshot of Nomad", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_asked_and_what_is_unusual_takes_more_than_a_yes() {
    if !has_tool("script") {
        return;
    }
    let sandbox = Sandbox::with_repository();
    let (server, name) = nomad(&sandbox).await;
    let env = nomad_env(&server);
    let answered = |answer: &str, more: &str| {
        let line = format!("{} restore {name} --to nomad --no-backup-first {more}", super::sandbox::BINARY);
        let mut command = sandbox.command_of("script", ["-qec", &line, "/dev/null"]);
        command.envs(env.iter().map(|(name, value)| (*name, value.as_str())));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{answer}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (answer, more) in [("no", ""), ("", ""), ("y", ""), ("nomad", ""), ("yes", "--force")] {
        let (code, words) = answered(answer, more);
        assert!(code == 1 && words.contains("not confirmed"), "{answer} {more}: {words}");
    }
    // The snapshot is older than the target.
    server.set(|state| state.index = 1_000_000);
    let (code, words) = answered("yes", "");
    assert!(code == 1 && words.contains("what came after it is lost"), "{words}");
    assert_eq!(uploads(&server.server, nomad_server::PATH), 0);
    assert_eq!(answered("nomad", "").0, 0);
    server.set(|state| state.index = 15);
    assert_eq!(answered("yes", "").0, 0);
    assert_eq!(uploads(&server.server, nomad_server::PATH), 2);
}

/// A sandbox whose repository is in S3, where reading can be held up.
struct InS3 {
    sandbox: Sandbox,
    s3: S3Server,
    server: NomadServer,
    env: Vec<(&'static str, String)>,
}

impl InS3 {
    async fn new() -> Self {
        let (sandbox, s3) = (Sandbox::new(), S3Server::start());
        let server = NomadServer::start(&fixture("nomad-00.snap")).await;
        let mut env = nomad_env(&server).to_vec();
        env.extend([
            ("HAH_VAULT_REPO", "s3://bucket/prefix".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ENDPOINT_URL", s3.endpoint()),
        ]);
        let backup = spec("nomad", &fixture_path("nomad-02.snap"));
        run(&sandbox, &["backup", "--init", &backup], &env).ok();
        Self { sandbox, s3, server, env }
    }

    /// How many GETs a rehearsal takes; the last one gets the pack.
    fn gets_of_a_rehearsal(&self) -> usize {
        let before = self.s3.count(&Method::GET);
        run(&self.sandbox, &["restore", "nomad@latest", "--to", "nomad", "--dry-run"], &self.env).ok();
        self.s3.count(&Method::GET) - before
    }

    /// Restores, and sends a signal once `reached`.
    fn interrupted(&self, more: &[&str], what: &str, reached: impl FnMut() -> bool) -> Ran {
        let args = [&["restore", "nomad@latest", "--to", "nomad", "--yes"], more].concat();
        let mut command = self.sandbox.command(args);
        command.envs(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        let child = spawn(command);
        until(what, reached);
        signal(&child, "-INT");
        Ran::from(child.wait_with_output().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_before_the_upload_nothing_was_sent() {
    let test = InS3::new().await;
    let gets = test.gets_of_a_rehearsal();
    let before = test.s3.count(&Method::GET);
    test.s3.rule(Rule { method: Method::GET, skip: gets - 1, times: 100, fault: S3Fault::Hang });
    let ran = test.interrupted(&[], "the rehearsal", || test.s3.count(&Method::GET) == before + gets);
    ran.refused(130, "interrupted", "");
    assert!(!ran.stderr.contains("broken off"), "{ran:?}");
    test.s3.heal();
    // The backup of what is there gets no further than its first bytes.
    test.server.set(|state| state.fault = Fault::Stall(100, Duration::from_secs(600)));
    let ran = test.interrupted(&[], "the backup", || !test.server.server.requests_of(nomad_server::PATH).is_empty());
    ran.refused(130, "interrupted", "");
    assert_eq!(uploads(&test.server.server, nomad_server::PATH), 0);
    test.server.set(|state| state.fault = Fault::None);
    let list = run(&test.sandbox, &["list"], &test.env).ok().text();
    assert_eq!(list.lines().count(), 2, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_in_the_middle_of_the_upload_nothing_is_taken() {
    let test = InS3::new().await;
    let gets = test.gets_of_a_rehearsal();
    let before = test.s3.count(&Method::GET);
    // The second pass reads the manifest once more, and then the pack, which never comes.
    test.s3.rule(Rule { method: Method::GET, skip: gets + 1, times: 100, fault: S3Fault::Hang });
    let reached = || test.s3.count(&Method::GET) == before + gets + 2;
    let ran = test.interrupted(&["--no-backup-first"], "the upload", reached);
    ran.refused(130, "interrupted", "");
    assert!(ran.stderr.contains("the upload was broken off, and Nomad takes nothing but whole"), "{ran:?}");
    assert!(!test.server.server.requests_of(nomad_server::PATH).iter().any(|request| request.is_whole));
    assert_eq!(test.server.state.lock().unwrap().restored, None);
    test.s3.heal();
    run(&test.sandbox, &["restore", "nomad@latest", "--to", "nomad", "--yes", "--no-backup-first"], &test.env).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_while_it_settles_it_is_said_that_the_snapshot_was_taken() {
    let test = InS3::new().await;
    test.server.set(|state| state.loses_leader = true);
    let looks = || test.server.server.requests_of("/v1/status/leader").len() > 2;
    let ran = test.interrupted(&["--no-backup-first"], "the settling", looks);
    ran.refused(130, "interrupted", "");
    assert!(ran.stderr.contains("Nomad has taken the snapshot"), "{ran:?}");
    assert!(test.server.state.lock().unwrap().restored.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_again_does_not_restore_what_was_just_replaced() {
    let sandbox = Sandbox::with_repository();
    let (server, name) = nomad(&sandbox).await;
    let env = nomad_env(&server);
    let again = ["restore", "nomad@latest", "--to", "nomad", "--yes"];
    let before = run(&sandbox, &[&again[..], &["--json"]].concat(), &env).ok().objects()[0]["before"].clone();
    let before = before.as_str().unwrap();
    assert_eq!(uploads(&server.server, nomad_server::PATH), 1);
    run(&sandbox, &again, &env).refused(2, &format!("{before}, which was made when {name} was about to"), before);
    assert_eq!(uploads(&server.server, nomad_server::PATH), 1);
    // In full, each of the two is meant.
    for named in [before, &name] {
        run(&sandbox, &["restore", named, "--to", "nomad", "--yes"], &env).ok();
    }
    // The next backup is the latest again.
    let newest = sandbox.backup("nomad", "nomad-02.snap");
    // It is deduplicated against what was restored, not against what was replaced.
    let shown = sandbox.run(["show", &newest, "--json"]).ok().objects();
    assert_eq!((&shown[0]["parent"], &shown[0]["chunks_new"]), (&name.as_str().into(), &0.into()), "{shown:?}");
    let ran = run(&sandbox, &[&again[..], &["--json"]].concat(), &env).ok();
    assert_eq!(ran.objects()[0]["manifest"], newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_region_is_another_cluster() {
    let sandbox = Sandbox::with_repository();
    let server = NomadServer::start(&fixture("nomad-00.snap")).await;
    let env = nomad_env(&server);
    run(&sandbox, &["backup", "nomad"], &env).ok();
    let concerns = || {
        let ran = run(&sandbox, &["restore", "nomad@latest", "--to", "nomad", "--dry-run", "--json"], &env).ok();
        ran.objects()[0]["concerns"].to_string()
    };
    assert!(!concerns().contains("cluster"), "{}", concerns());
    server.set(|state| state.region = "elsewhere".into());
    assert!(concerns().contains("the target is cluster elsewhere"), "{}", concerns());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_of_the_same_kind_is_warned_of_loudly() {
    let sandbox = Sandbox::with_repository();
    let (eu, us) =
        (NomadServer::start(&fixture("nomad-02.snap")).await, NomadServer::start(&fixture("nomad-00.snap")).await);
    let block = |label: &str, server: &NomadServer| {
        let (url, token) = (server.server.url(), nomad_server::TOKEN);
        format!("nomad \"{label}\" {{\n  address = \"{url}\"\n  token = \"{token}\"\n}}\n")
    };
    let config = sandbox.file("own.hcl", format!("{}{}", block("eu", &eu), block("us", &us)));
    let env = [("HAH_VAULT_CONFIG", config.to_str().unwrap().to_owned())];
    run(&sandbox, &["backup"], &env).ok();
    let words = "the snapshot is one of nomad-eu, and would replace what nomad-us holds";
    let planned = |to: &str| {
        let args = ["restore", "nomad-eu@latest", "--to", to, "--dry-run", "--json"];
        run(&sandbox, &args, &env).ok()
    };
    // The region and the version of the two are the same.
    let ran = planned("nomad-us");
    assert_eq!(ran.objects()[0]["concerns"][0], words, "{ran:?}");
    assert!(ran.stderr.contains(words), "{ran:?}");
    assert!(!planned("nomad-eu").text().contains("one of nomad-eu"));
    assert_eq!(uploads(&us.server, nomad_server::PATH), 0);
}
