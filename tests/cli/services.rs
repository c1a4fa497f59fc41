//! `backup vault consul nomad`, with nothing but the usual environment variables.

use super::sandbox::{Sandbox, fixture, fixture_path, spec};
use crate::support::consul_server::{ConsulServer, consul};
use crate::support::nomad_server::NomadServer;
use std::fs;

const MASTER: &str = "11111111-2222-3333-4444-555555555555";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_consul_is_backed_up_from_its_variables() {
    let Some(program) = consul() else { return };
    let server = ConsulServer::start(&program, MASTER).await;
    let _filled = server.fill().await;
    let url = server.url();
    let sandbox = Sandbox::with_repository();
    let env = [("CONSUL_HTTP_ADDR", url.as_str()), ("CONSUL_HTTP_TOKEN", MASTER)];
    sandbox.run_with_env(["backup", "consul", "-vvv"], &env).ok();
    sandbox.run(["restore", "consul@latest", "-o", "consul.snap"]).ok();
    // What comes back is a sound snapshot: a backup of it is accepted, and stores next to nothing.
    sandbox.run(["backup", &spec("consul", &sandbox.work().join("consul.snap"))]).ok();
    let wrong = [("CONSUL_HTTP_ADDR", url.as_str()), ("CONSUL_HTTP_TOKEN", "99999999-2222-3333-4444-555555555555")];
    sandbox.run_with_env(["backup", "consul"], &wrong).refused(1, "consul: not backed up: ", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nomad_is_backed_up_from_its_variables_and_its_file_comes_back() {
    let snapshot = fixture("nomad-02.snap");
    let server = NomadServer::start(&snapshot).await;
    let url = server.server.url();
    let sandbox = Sandbox::with_repository();
    let env = [("NOMAD_ADDR", url.as_str()), ("NOMAD_TOKEN", crate::support::nomad_server::TOKEN)];
    sandbox.run_with_env(["backup", "nomad"], &env).ok();
    sandbox.run(["restore", "nomad@latest", "-o", "nomad.snap"]).ok();
    assert!(fs::read(sandbox.work().join("nomad.snap")).unwrap() == snapshot);
}

#[test]
fn a_service_that_is_not_there_fails_alone() {
    let sandbox = Sandbox::with_repository();
    let env = [("CONSUL_HTTP_ADDR", "127.0.0.1:1"), ("VAULT_ADDR", "http://127.0.0.1:1"), ("VAULT_TOKEN", "x")];
    sandbox.run_with_env(["backup", "consul"], &env).refused(1, "consul: not backed up: ", "");
    let nomad = spec("nomad", &fixture_path("nomad-02.snap"));
    let both = sandbox.run_with_env(["backup", "vault", &nomad], &env);
    both.refused(3, "vault: not backed up: ", "");
    sandbox.run(["show", "nomad@latest"]).ok();
}

#[test]
fn variables_that_make_no_sense_are_named() {
    let sandbox = Sandbox::with_repository();
    let env = [("VAULT_ADDR", "ftp://vault"), ("VAULT_TOKEN", "x")];
    sandbox.run_with_env(["backup", "vault"], &env).refused(2, "VAULT_ADDR", "");
}
