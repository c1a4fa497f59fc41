//! Backups whose tokens, store keys and writer key all come from Vault, and what is left of them afterwards: nothing.

mod logins;
mod store_keys;

use super::sandbox::{BINARY, Ran, Sandbox, files, fixture, has_tool};
use super::signals::{signal, spawn, until};
use crate::support::consul_stand_in::{self, ConsulStandIn};
use crate::support::nomad_server::NomadServer;
use crate::support::s3_server::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};
use crate::support::service_server::Fault;
use crate::support::vault_cluster::{Cluster, JWT, ROLE_ID, SECRET_ID, Version};
use crate::support::vault_server::{Role, VaultServer};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

/// Three clusters, a store, and an empty host.
pub(super) struct World {
    pub cluster: Cluster,
    pub vault: VaultServer,
    pub consul: ConsulStandIn,
    pub nomad: NomadServer,
    pub store: S3Server,
    pub sandbox: Sandbox,
    writer_key: String,
    identity: String,
    env: Vec<(String, String)>,
}

impl World {
    /// The repository is there; its keys, and those of the store, are in Vault's KV and nowhere else.
    pub(super) async fn new() -> Self {
        let cluster = Cluster::new();
        let vault = VaultServer::start_in(&cluster, Role::Active, &fixture("vault-00.snap")).await;
        let consul = ConsulStandIn::start(&cluster, &fixture("consul-00.snap")).await;
        let nomad = NomadServer::start(&fixture("nomad-00.snap")).await;
        nomad.set(|state| state.cluster = Some(cluster.clone()));
        let of_engine = cluster.clone();
        let (store, sandbox) = (S3Server::start_for(move |id| of_engine.aws_secret(id)), Sandbox::new());
        let endpoint = store.endpoint();
        let mut env: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: String| env.push((name.into(), value));
        set("HAH_VAULT_REPO", "s3://bucket/prefix".into());
        set("AWS_ENDPOINT_URL", endpoint);
        set("AWS_REGION", "us-east-1".into());
        set("VAULT_ADDR", vault.server.url());
        set("CONSUL_HTTP_ADDR", consul.server.url());
        set("NOMAD_ADDR", nomad.server.url());
        set("HAH_VAULT_CONSUL_CREDS", "consul/creds/backup".into());
        set("HAH_VAULT_NOMAD_CREDS", "nomad/creds/backup".into());
        set("HAH_VAULT_KV", "secret/hah-vault".into());
        let mut init = sandbox.command(["init"]);
        init.envs(env[..3].iter().cloned());
        init.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        Ran::from(init.output().unwrap()).ok();
        let writer_key = fs::read_to_string(sandbox.config("writer.key")).unwrap();
        let writer_key = writer_key.lines().find(|line| line.starts_with("HAH-VAULT-WRITER")).unwrap().to_owned();
        let identity = fs::read_to_string(sandbox.config("identity.txt")).unwrap();
        fs::remove_dir_all(sandbox.config("")).unwrap();
        let fields = json!({"r2_access_key_id": ACCESS_KEY_ID, "r2_secret_access_key": SECRET_ACCESS_KEY,
                            "writer_key": writer_key});
        cluster.set(|state| {
            state.kv2.insert("hah-vault".into(), vec![Version::of(fields)]);
        });
        Self { cluster, vault, consul, nomad, store, sandbox, writer_key, identity, env }
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
    }

    /// As in a Nomad job: a JWT in the task's folder for secrets.
    pub(super) fn with_jwt(mut self) -> Self {
        let folder = self.sandbox.work().join("secrets");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("nomad_vault.jwt"), JWT).unwrap();
        self.set("NOMAD_SECRETS_DIR", folder.to_str().unwrap());
        self.set("HAH_VAULT_AUTH", "jwt");
        self
    }

    fn with_approle(mut self) -> Self {
        let file = self.sandbox.file("secret-id", format!("{SECRET_ID}\n"));
        self.set("HAH_VAULT_AUTH", "approle");
        self.set("HAH_VAULT_AUTH_ROLE_ID", ROLE_ID);
        self.set("HAH_VAULT_AUTH_SECRET_ID_FILE", file.to_str().unwrap());
        self
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.sandbox.command(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        let ran = Ran::from(self.command(args).output().unwrap());
        self.nothing_is_left(&ran);
        ran
    }

    /// Every token and lease was given back, and no secret is in what was said.
    #[track_caller]
    fn nothing_is_left(&self, ran: &Ran) {
        assert_eq!(self.cluster.leaks(), [""; 0], "{:?} {ran:?}", self.cluster.log());
        let mut secrets = self.cluster.secrets();
        secrets.extend([SECRET_ACCESS_KEY.to_owned(), self.writer_key.clone()]);
        for secret in secrets {
            assert!(!ran.stderr.contains(&secret), "{secret}: {}", ran.stderr);
            assert!(!ran.text().contains(&secret), "{secret}: {}", ran.text());
        }
    }

    /// A backup of all three: one login, whose token is revoked, and three manifests.
    fn backs_up_all(&self) -> Ran {
        let ran = self.run(&ALL).ok();
        assert_eq!(self.made("token"), 1, "{:?}", self.cluster.log());
        let revoked = |line: &String| line.starts_with("token 1 of auth/") && line.ends_with(" revoked");
        assert_eq!(self.cluster.log().iter().filter(|line| revoked(line)).count(), 1, "{:?}", self.cluster.log());
        assert_eq!(files(&self.store.root.path().join("bucket/prefix/manifests")).len(), 3);
        ran
    }

    fn made(&self, what: &str) -> usize {
        self.cluster.log().iter().filter(|line| line.starts_with(what) && line.contains("made")).count()
    }
}

const ALL: [&str; 5] = ["backup", "vault", "consul", "nomad", "-vvv"];

#[tokio::test(flavor = "multi_thread")]
async fn with_a_jwt_file_and_an_address_all_three_are_backed_up_and_all_is_given_back() {
    let world = World::new().await.with_jwt();
    world.run(&ALL).ok();
    // One login, a token each for Consul and Nomad.
    assert_eq!((world.made("token"), world.made("lease consul/creds"), world.made("lease nomad/creds")), (1, 1, 1));
    let list = world.run(&["list", "--json"]).ok();
    assert_eq!(list.objects().len(), 3);
    assert!(!world.sandbox.config("").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_approle_too_and_fresh_tokens_may_be_late() {
    let world = World::new().await.with_approle();
    world.consul.set(|state| state.unknown_times = 2);
    world.nomad.set(|state| state.unknown_times = 2);
    world.run(&ALL).ok();
    assert_eq!(world.run(&["list", "--json"]).ok().objects().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_from_a_configuration_file() {
    let mut world = World::new().await;
    for name in ["VAULT_ADDR", "CONSUL_HTTP_ADDR", "NOMAD_ADDR", "HAH_VAULT_REPO", "AWS_ENDPOINT_URL", "AWS_REGION"] {
        world.set(name, "");
    }
    for name in ["HAH_VAULT_CONSUL_CREDS", "HAH_VAULT_NOMAD_CREDS", "HAH_VAULT_KV"] {
        world.set(name, "");
    }
    world.sandbox.file("secret-id", SECRET_ID);
    let config = format!(
        "repository {{\n  url = \"s3://bucket/prefix\"\n  writer_key = kv(\"secret/hah-vault\", \"writer_key\")\n  s3 {{\n    \
         endpoint = \"{}\"\n    region = \"us-east-1\"\n    access_key_id = kv(\"secret/hah-vault\", \
         \"r2_access_key_id\")\n    secret_access_key = kv(\"secret/hah-vault\", \"r2_secret_access_key\")\n  }}\n}}\n\
         vault \"home\" {{\n  address = \"consul://service/vault?scheme=http\"\n  auth \"approle\" {{\n    role_id = \
         \"{ROLE_ID}\"\n    secret_id = file(\"secret-id\")\n  }}\n}}\n\
         consul \"home\" {{\n  address = \"{}\"\n  token = creds(\"consul/creds/backup\")\n  catalog_token = \
         env(\"CATALOG\")\n}}\n\
         nomad \"home\" {{\n  address = \"{}\"\n  token = creds(\"nomad/creds/backup\")\n}}\n",
        world.store.endpoint(),
        world.consul.server.url(),
        world.nomad.server.url(),
    );
    let file = world.sandbox.file("own.hcl", config);
    world.set("HAH_VAULT_CONFIG", file.to_str().unwrap());
    // Vault is found in Consul's catalog, with a token that is there without Vault: here one that an engine made before.
    let address = world.vault.server.address;
    let services = vec![("vault".to_owned(), address.ip().to_string(), address.port())];
    world.consul.set(|state| {
        state.services = services;
        state.catalog_token = Some("c0ffee00-0000-0000-0000-000000000000".into());
    });
    world.set("CATALOG", "c0ffee00-0000-0000-0000-000000000000");
    world.run(&["backup", "-vvv"]).ok();
    let sources = world.run(&["list", "--json"]).ok().objects();
    let mut sources: Vec<&str> = sources.iter().map(|object| object["source"].as_str().unwrap()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["consul-home", "nomad-home", "vault-home"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_had_fails_its_source_alone() {
    let world = World::new().await.with_jwt();
    world.cluster.set(|state| state.denied = vec!["nomad/creds/*".into()]);
    let ran = world.run(&ALL);
    ran.refused(3, "nomad: ", "");
    assert!(ran.stderr.contains("nomad/creds/backup"), "{ran:?}");
    assert_eq!(world.run(&["list", "--json"]).ok().objects().len(), 2);
    // A source that fails later.
    let world = World::new().await.with_jwt();
    world.consul.set(|state| state.fault = Fault::Html);
    world.run(&ALL).refused(3, "consul: ", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_given_back_after_errors() {
    let mut world = World::new().await.with_jwt();
    // The store refuses these keys.
    let wrong = json!({"access_key_id": ACCESS_KEY_ID, "secret_access_key": "wrong-secret-wrong"});
    world.cluster.set(|state| {
        state.kv2.insert("wrong".into(), vec![Version::of(wrong)]);
    });
    world.set("HAH_VAULT_KV", "secret/wrong");
    let ran = world.run(&ALL);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(world.made("token") == 1 && !ran.stderr.contains("wrong-secret-wrong"), "{ran:?}");
    // There is no such secret: told by its path, and with what to look at.
    world.set("HAH_VAULT_KV", "secret/nosuch");
    world.run(&ALL).refused(1, "cannot get kv (HAH_VAULT_KV)", "");
    // Vault refuses the login itself.
    let world = World::new().await.with_jwt();
    fs::write(world.sandbox.work().join("secrets/nomad_vault.jwt"), "not.a.jwt").unwrap();
    let ran = world.run(&ALL);
    assert!(ran.code == 1 && ran.stderr.contains("auth/jwt-nomad") && !ran.stderr.contains("not.a.jwt"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_given_back_after_an_interruption() {
    let world = World::new().await.with_jwt();
    world.consul.set(|state| state.fault = Fault::Stall(1000, Duration::from_secs(120)));
    let child = spawn(world.command(&ALL));
    until("the snapshot", || !world.consul.server.requests_of(consul_stand_in::PATH).is_empty());
    signal(&child, "-INT");
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.refused(130, "interrupted", "");
    assert_eq!((world.made("token"), world.made("lease consul/creds")), (1, 1), "{:?}", world.cluster.log());
    world.nothing_is_left(&ran);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_worst_day_an_identity_is_enough_although_vault_is_gone() {
    let mut world = World::new().await.with_jwt();
    let fresh = Sandbox::with_repository();
    let identity = fresh.config("identity.txt");
    fresh.backup("vault", "vault-00.snap");
    world.set("VAULT_ADDR", "http://127.0.0.1:1");
    world.set("HAH_VAULT_REPO", fresh.repo("").to_str().unwrap());
    let args = ["restore", "vault@latest", "-o", "out", "--identity", identity.to_str().unwrap()];
    world.run(&args).ok();
    assert_eq!(fs::read(world.sandbox.work().join("out")).unwrap(), fixture("vault-00.snap"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_given_back_when_the_answer_to_a_question_is_ctrl_c() {
    if !has_tool("script") {
        return;
    }
    let world = World::new().await.with_jwt();
    world.run(&ALL).ok();
    let identity = world.sandbox.file("identity.txt", &world.identity);
    let line = format!("{BINARY} restore nomad@latest --to nomad --identity {}", identity.display());
    let mut command = world.sandbox.command_of("script", ["-qec", &line, "/dev/null"]);
    command.envs(world.env.iter().map(|(name, value)| (name, value)));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("to go on:") {
        let mut bytes = [0; 1024];
        let len = stdout.read(&mut bytes).unwrap();
        assert!(len > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&bytes[..len]);
    }
    assert_ne!(world.cluster.leaks(), [""; 0], "there is something to give back");
    // The terminal makes it a signal once the question is being read.
    stdin.write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(world.cluster.leaks(), [""; 0], "{:?}", world.cluster.log());
}
