//! `verify --drill` into empty stand-ins for Vault and Nomad, to the end.

use super::sandbox::{Ran, Sandbox, fixture};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::snapshot::only;
use crate::support::vault_cluster::{Cluster, ROLE_ID, SECRET_ID};
use crate::support::vault_server::{self, Role, VaultServer};
use hah_vault::snapshot::records::vault_key;
use std::io::Read;

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// As a Nomad that was just set up: no nodes, jobs, allocations, volumes, services, variables.
fn empty_nomad() -> Vec<u8> {
    only("nomad-00.snap", |record| !matches!(record[0], 0 | 1 | 4 | 18 | 21 | 22))
}

/// As a Vault that was just set up: no secrets.
fn empty_vault() -> Vec<u8> {
    only("vault-00.snap", |record| vault_key(record).is_some_and(|key| !key.starts_with(b"logical/")))
}

/// A configuration of one block.
fn configured(sandbox: &Sandbox, kind: &str, address: &str, more: &str) -> String {
    let text = format!("{kind} \"drill\" {{\n  address = \"{address}\"\n  {more}\n}}\n");
    sandbox.file("config.hcl", text).to_str().unwrap().to_owned()
}

/// With nothing in the environment.
fn drill(sandbox: &Sandbox, config: &str, more: &[&str]) -> Ran {
    sandbox.run([&["verify", "--config", config, "--drill"], more].concat())
}

fn token(of: &str) -> String {
    format!("token = \"{of}\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nomad_is_drilled_by_its_name_and_what_came_back_is_counted() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("nomad", "nomad-02.snap");
    let server = NomadServer::start(&empty_nomad()).await;
    let config = configured(&sandbox, "nomad", &server.server.url(), &token(nomad_server::TOKEN));
    let ran = drill(&sandbox, &config, &["nomad", "--to", "nomad-drill", "--json"]).ok();
    let restored = server.state.lock().unwrap().restored.take().unwrap();
    assert!(gunzip(&restored) == gunzip(&fixture("nomad-02.snap")));
    let object = &ran.objects()[0];
    assert_eq!(
        (&object["service"], &object["short"], &object["sealed"]),
        (&"Nomad".into(), &false.into(), &false.into())
    );
    let counts = object["counts"].as_array().unwrap();
    assert!(counts.iter().all(|count| count["verdict"] == "same"), "{counts:?}");
    assert!(counts.iter().any(|count| count["what"] == "jobs" && count["server"].as_u64() > Some(0)), "{counts:?}");
    // Now it has data: nobody drills into it again.
    let again = drill(&sandbox, &config, &["nomad", "--to", "nomad-drill"]);
    again.refused(1, "no drill", "just set up");
    assert!(again.stderr.contains("this Nomad is in use"), "{again:?}");
    assert_eq!(server.state.lock().unwrap().restored, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nomad_that_gives_back_less_is_exit_code_3() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("nomad", "nomad-02.snap");
    let server = NomadServer::start(&empty_nomad()).await;
    server.set(|state| state.after_restore = Some(empty_nomad()));
    let args = ["verify", "--drill", "nomad", "--to-address", &server.server.url()];
    let ran = sandbox.run_with_env(args, &[("NOMAD_TOKEN", nomad_server::TOKEN)]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.text().contains("fewer") && ran.text().contains("NOT everything came back"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_drilled_by_its_name_with_its_own_login_and_answers_sealed() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-02.snap");
    let cluster = Cluster::new();
    let server = VaultServer::start_in(&cluster, Role::Active, &empty_vault()).await;
    let secret_id = sandbox.file("secret-id", SECRET_ID);
    let login = format!(
        "auth \"approle\" {{\n    role_id   = \"{ROLE_ID}\"\n    secret_id = file({:?})\n  }}",
        secret_id.to_str().unwrap()
    );
    let config = configured(&sandbox, "vault", &server.server.url(), &login);
    let ran = drill(&sandbox, &config, &["vault", "--to", "vault-drill", "--json"]).ok();
    let restored = server.state.lock().unwrap().restored.take().unwrap();
    assert!(gunzip(&restored) == gunzip(&fixture("vault-02.snap")));
    let object = &ran.objects()[0];
    assert_eq!((&object["service"], &object["sealed"]), (&"Vault".into(), &true.into()));
    assert!(object["not_counted"].as_str().unwrap().contains("unseal it"), "{object}");
    assert!(cluster.log().iter().any(|line| line.contains("approle")), "{:?}", cluster.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_drilled_by_its_address_and_one_with_secrets_is_not() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-02.snap");
    let server = VaultServer::start(Role::Active, &empty_vault()).await;
    server.set(|state| state.may_force = true);
    let drill = |server: &VaultServer| {
        let args = ["verify", "--drill", "vault", "--to-address", &server.server.url()];
        sandbox.run_with_env(args, &[("VAULT_TOKEN", vault_server::TOKEN)])
    };
    let ran = drill(&server).ok();
    assert!(ran.text().contains("which is sealed now") && ran.text().contains("nothing was counted"), "{ran:?}");
    assert!(server.state.lock().unwrap().restored.is_some());
    let used = VaultServer::start(Role::Active, &fixture("vault-00.snap")).await;
    used.set(|state| state.may_force = true);
    let ran = drill(&used);
    ran.refused(1, "no drill", "just set up");
    assert!(ran.stderr.contains("49 records of type logical"), "{ran:?}");
    assert_eq!(used.state.lock().unwrap().restored, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_another_kind_or_of_nothing_is_refused_before_anything_is_reached() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-02.snap");
    let config = configured(&sandbox, "nomad", "http://127.0.0.1:1", &token("x"));
    let hint = "--to takes";
    drill(&sandbox, &config, &["vault", "--to", "nomad-drill"]).refused(
        2,
        "nomad-drill is Nomad, and --drill vault needs Vault",
        hint,
    );
    drill(&sandbox, &config, &["vault", "--to", "nosuch"]).refused(2, "nosuch is no server", hint);
    drill(&sandbox, &config, &["vault"]).refused(2, "no throwaway vault", "--to NAME");
    assert_eq!(
        drill(&sandbox, &config, &["nomad", "--to", "nomad-drill", "--to-address", "http://127.0.0.1:1"]).code,
        2
    );
}
