//! `check`: what it finds, what it says to do, and that it takes nothing and leaves nothing.

use super::sandbox::{Ran, Sandbox};
use super::sessions::World;
use crate::support::certificates::acceptor;
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::consul_stand_in;
use crate::support::nomad_server::{self, NomadServer};
use crate::support::service_server::{Handler, Reply, Request, Server};
use crate::support::vault_cluster::Cluster;
use crate::support::vault_server::{self, Role, VaultServer, json};
use std::path::Path;
use std::sync::Arc;

const MASTER: &str = "11111111-2222-3333-4444-555555555555";

/// The result, the words and the hint of one test.
#[track_caller]
fn found(ran: &Ran, subject: &str, what: &str) -> (String, String, String) {
    let objects = ran.objects();
    let is_it = |o: &&serde_json::Value| o["subject"] == subject && o["what"].as_str().unwrap().starts_with(what);
    let object = objects.iter().find(is_it).unwrap_or_else(|| panic!("no {what} of {subject}: {ran:?}"));
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    (text("result"), text("message"), text("hint"))
}

#[track_caller]
fn failed(ran: &Ran, subject: &str, what: &str, words: &str, hint: &str) {
    let (result, message, hinted) = found(ran, subject, what);
    assert!(result == "failed" && message.contains(words) && hinted.contains(hint), "{result} {message} {hinted}");
}

#[track_caller]
fn ok(ran: &Ran, subject: &str, what: &str, words: &str) {
    let (result, message, _) = found(ran, subject, what);
    assert!(result == "ok" && message.contains(words), "{result} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_well_is_told_and_no_snapshot_is_taken() {
    let world = World::new().await.with_jwt();
    let ran = world.run(&["check", "--json", "-vvv"]).ok();
    ok(&ran, "configuration", "sources", "sources: vault, consul, nomad");
    for what in ["list", "put", "get"] {
        ok(&ran, "store", what, "");
    }
    assert_eq!(found(&ran, "store", "delete").0, "note");
    ok(&ran, "repository", "writer key", "good for *");
    ok(&ran, "repository", "identity", "none on this host");
    ok(&ran, "vault", "address", "active, version 1.8.0-dev");
    ok(&ran, "vault", "login", "by jwt; the token lasts 20 min, renewable");
    ok(&ran, "vault", "permission", "snapshots");
    ok(&ran, "consul", "token", "creds(\"consul/creds/backup\")");
    ok(&ran, "nomad", "permission", "management");
    for (server, path) in [
        (&world.vault.server, vault_server::PATH),
        (&world.consul.server, consul_stand_in::PATH),
        (&world.nomad.server, nomad_server::PATH),
    ] {
        assert!(server.requests_of(path).is_empty());
    }
    let table = world.run(&["check"]).ok().text();
    assert!(table.lines().next().unwrap().starts_with("RESULT"), "{table}");
    assert!(table.contains("-> a backup host is safer"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_told_with_what_to_do_and_stops_no_other_test() {
    let mut world = World::new().await.with_jwt();
    world.cluster.set(|state| state.denied = vec!["sys/storage/raft/snapshot".into(), "nomad/creds/*".into()]);
    world.set("CONSUL_HTTP_ADDR", "http://127.0.0.1:1");
    world.store.set_date(Some("Sun, 22 Nov 2020 15:30:11 GMT"));
    let ran = world.run(&["check", "--json", "-vvv"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    failed(&ran, "vault", "permission", "may not read sys/storage/raft/snapshot", "capabilities = [\"read\"]");
    failed(&ran, "nomad", "token", "nomad/creds/backup", "");
    failed(&ran, "consul", "address http://127.0.0.1:1", "cannot connect", "CONSUL_HTTP_ADDR");
    ok(&ran, "nomad", "address", "has a leader");
    ok(&ran, "vault", "login", "by jwt");
    let (result, message, hint) = found(&ran, "clock", "store");
    assert!(result == "warning" && message.contains("behind this host") && hint.contains("NTP"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_not_what_it_should_be_is_described() {
    let sandbox = Sandbox::with_repository();
    let check = |url: &str, extra: &[(&str, &str)]| {
        let mut env = vec![("VAULT_ADDR", url), ("VAULT_TOKEN", vault_server::TOKEN)];
        env.extend_from_slice(extra);
        sandbox.run_with_env(["check", "vault", "--json", "-vvv"], &env)
    };
    for (role, what, words, hint) in [
        (Role::Sealed, "address", "is sealed", "vault operator unseal"),
        (Role::Uninitialised, "address", "not initialised", "vault operator init"),
        (Role::Standby(String::new()), "leader", "has no leader", "list-peers"),
    ] {
        let server = VaultServer::start(role, b"").await;
        let ran = check(&server.server.url(), &[]);
        assert_eq!(ran.code, 3, "{ran:?}");
        failed(&ran, "vault", what, words, hint);
    }
    // A token that Vault does not know looks like one that may not look at itself.
    let server = VaultServer::start_in(&Cluster::new(), Role::Active, b"").await;
    let ran = check(&server.server.url(), &[("VAULT_TOKEN", "s.expired")]);
    assert_eq!(ran.code, 3, "{ran:?}");
    failed(&ran, "vault", "login", "Vault does not know it", "expired");
    // One of several being sealed is no harm.
    let (sealed, active) = (VaultServer::start(Role::Sealed, b"").await, VaultServer::start(Role::Active, b"").await);
    let ran = check(&format!("{},{}", sealed.server.url(), active.server.url()), &[]);
    assert_eq!(found(&ran, "vault", "address").0, "warning");
    // Another name in the certificate, and an authority that nobody knows.
    let state = vault_server::state(Role::Active, b"");
    let server = Server::start_tls(vault_server::handler(&state), acceptor(true)).await;
    let url = format!("https://{}", server.address);
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name);
        path.to_str().unwrap().to_owned()
    };
    let ran = check(&url, &[("VAULT_CACERT", &file("tls_names/authority.pem"))]);
    failed(&ran, "vault", "address", "vault.test", "VAULT_TLS_SERVER_NAME");
    let ran = check(&url, &[("VAULT_CACERT", &file("tls/authority.pem"))]);
    failed(&ran, "vault", "address", "certificate", "VAULT_CACERT");
    let ran = check(&url, &[("VAULT_SKIP_VERIFY", "true")]);
    assert_eq!(found(&ran, "vault", "settings").0, "warning");
    // Settings that make no sense stop nothing either.
    failed(&check("ftp://vault", &[]), "vault", "settings", "VAULT_ADDR", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_consul_tells_what_a_token_may_do() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let (backup, low) = server.fill().await;
    let url = server.url();
    let sandbox = Sandbox::with_repository();
    let check = |token: &str| {
        let env = [("CONSUL_HTTP_ADDR", url.as_str()), ("CONSUL_HTTP_TOKEN", token)];
        sandbox.run_with_env(["check", "--json", "-vvv"], &env)
    };
    for token in [MASTER, &backup] {
        let ran = check(token).ok();
        ok(&ran, "consul", "address", "has a leader");
        ok(&ran, "consul", "permission", "acl = \"write\"");
        ok(&ran, "clock", "all", "differ by at most");
        assert!(!ran.stderr.contains(token) && !ran.text().contains(token));
    }
    for (token, words) in [(low.as_str(), "lacks acl"), ("99999999-2222-3333-4444-555555555555", "ACL not found")] {
        let ran = check(token);
        assert_eq!(ran.code, 3, "{ran:?}");
        failed(&ran, "consul", "permission", words, "acl = \"write\"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nomad_that_does_not_know_the_token_says_so() {
    let server = NomadServer::start(b"").await;
    let (url, sandbox) = (server.server.url(), Sandbox::with_repository());
    let env = [("NOMAD_ADDR", url.as_str()), ("NOMAD_TOKEN", nomad_server::TOKEN_LOW)];
    let ran = sandbox.run_with_env(["check", "--json"], &env);
    failed(&ran, "nomad", "permission", "unknown", "snapshot-save");
    server.set(|state| state.has_leader = false);
    failed(&sandbox.run_with_env(["check", "--json"], &env), "nomad", "address", "no leader", "quorum");
}

#[test]
fn stores_repositories_and_keys_are_tested_too() {
    let sandbox = Sandbox::new();
    // Nothing is said to be checked, although a default folder would do for a repository.
    sandbox.run(["check"]).refused(2, "there is nothing to check", "set VAULT_ADDR");
    let repo = sandbox.repo("");
    let check = ["check", "--json", "--repo", repo.to_str().unwrap()];
    let none = sandbox.run(check);
    failed(&none, "repository", "repository", "no repository", "hah-vault init");
    assert_eq!(found(&none, "configuration", "sources").0, "warning");
    assert_eq!(none.code, 3);
    sandbox.run(["init"]).ok();
    sandbox.run(["check"]).refused(2, "there is nothing to check", "--repo");
    let ran = sandbox.run(check).ok();
    assert_eq!(found(&ran, "repository", "identity").0, "note");
    std::fs::remove_file(sandbox.config("writer.key")).unwrap();
    std::fs::remove_file(sandbox.config("identity.txt")).unwrap();
    let ran = sandbox.run(check);
    failed(&ran, "repository", "writer key", "needs a writer key or an identity", "--writer-key-file");
    // Nothing works at all.
    let blocked = sandbox.file("blocked", "a file where the folder should be");
    let args = ["check", "--json", "--repo", blocked.to_str().unwrap()];
    let ran = sandbox.run_with_env(args, &[("VAULT_ADDR", "http://127.0.0.1:1")]);
    failed(&ran, "vault", "address", "cannot connect", "VAULT_ADDR");
    assert!(ran.objects().iter().any(|o| o["subject"] == "store" && o["result"] == "failed"), "{ran:?}");
    sandbox.run(["check", "nothing"]).refused(2, "nothing is not a source", "known without");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_wants_a_password_is_not_taken_for_access_control_that_is_off() {
    struct Behind(&'static str);
    impl Handler for Behind {
        fn answer(&self, request: &Request) -> Reply {
            match request.path.as_str() {
                "/v1/status/leader" => Reply::text("200 OK", "application/json", "\"127.0.0.1:8300\""),
                _ => Reply::text("401 Unauthorized", "text/plain", self.0),
            }
        }
    }
    let sandbox = Sandbox::with_repository();
    for (says, verdict, words) in [
        ("Authorization Required", "failed", "status 401: Authorization Required"),
        ("ACL support disabled", "ok", "access control is off"),
    ] {
        let server = Server::start(Arc::new(Behind(says))).await;
        let ran = sandbox.run_with_env(["check", "consul", "--json"], &[("CONSUL_HTTP_ADDR", &server.url())]);
        let (result, message, _) = found(&ran, "consul", "permission");
        assert!(result == verdict && message.contains(words), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_cannot_write_lines_of_the_table() {
    struct Forger;
    impl Handler for Forger {
        fn answer(&self, request: &Request) -> Reply {
            let agent =
                r#"{"Config":{"Datacenter":"dc1\nok  consul  permission  all is well","Version":"1\u001b[2J"}}"#;
            match request.path.as_str() {
                "/v1/agent/self" => Reply::text("200 OK", "application/json", agent),
                "/v1/status/leader" => Reply::text("200 OK", "application/json", "\"127.0.0.1:8300\""),
                _ => Reply::text("403 Forbidden", "text/plain", "Permission denied"),
            }
        }
    }
    let server = Server::start(Arc::new(Forger)).await;
    let sandbox = Sandbox::with_repository();
    let text = sandbox.run_with_env(["check", "consul"], &[("CONSUL_HTTP_ADDR", &server.url())]).text();
    assert!(text.contains("all is well") && !text.contains('\x1b'), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("ok  consul  permission")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_vaults_agent_adds_is_none_that_is_missing() {
    struct Agent(bool);
    impl Handler for Agent {
        fn answer(&self, request: &Request) -> Reply {
            let text = match request.path.as_str() {
                "/v1/sys/health" => r#"{"initialized":true,"sealed":false,"version":"1.15.0"}"#,
                "/v1/sys/leader" => r#"{"ha_enabled":true,"is_self":true}"#,
                _ if !self.0 => return json("400 Bad Request", r#"{"errors":["missing client token"]}"#),
                "/v1/auth/token/lookup-self" => r#"{"data":{"ttl":3600,"renewable":true,"policies":["backup"]}}"#,
                _ => r#"{"data":{"sys/storage/raft/snapshot":["read"]}}"#,
            };
            json("200 OK", text)
        }
    }
    let sandbox = Sandbox::with_repository();
    for adds_one in [true, false] {
        let server = Server::start(Arc::new(Agent(adds_one))).await;
        let ran = sandbox.run_with_env(["check", "vault", "--json"], &[("VAULT_AGENT_ADDR", &server.url())]);
        match adds_one {
            true => ok(&ran, "vault", "permission", "snapshots, no restores"),
            false => failed(&ran, "vault", "login", "token", ""),
        }
    }
}
