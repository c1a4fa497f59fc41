//! Scripts: linted, and the set-up of Vault run against a stand-in for its command.

use super::files::{of, root};
use crate::support::tools::tool;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

#[test]
fn shellcheck_finds_nothing() {
    tool("shellcheck");
    for script in of(".sh") {
        let output = Command::new("shellcheck").arg(&script.path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(script.path.metadata().unwrap().permissions().mode() & 0o111, 0o111, "{}", script.name);
        assert!(script.text.contains("\nset -euo pipefail\n"), "{}", script.name);
    }
}

/// A folder with a `vault` that notes what it is told, and remembers auth methods and their configuration.
struct StandIn {
    dir: tempfile::TempDir,
}

const VAULT: &str = r#"#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>"$STATE/calls"
case "$1 $2" in
'policy write') cp "$4" "$STATE/policy.$3" ;;
'auth list') echo '{'; sed 's/.*/"&\/": {},/' "$STATE/mounts" 2>/dev/null || true; echo '"token/": {}}' ;;
'auth enable') echo "${3#-path=}" >>"$STATE/mounts" ;;
"read -field=jwks_url") [ -f "$STATE/jwks" ] || exit 2; cat "$STATE/jwks" ;;
"read -field=role_id") echo 11111111-2222-3333-4444-555555555555 ;;
"write auth/"*/config) for a; do case $a in jwks_url=*) echo "${a#jwks_url=}" >"$STATE/jwks" ;; esac; done ;;
"write auth/"*) if [ "$3" = - ]; then cat >"$STATE/role"; else shift 2; printf '%s\n' "$@" >"$STATE/role"; fi ;;
*) echo "not understood: $*" >&2; exit 1 ;;
esac
"#;

impl StandIn {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vault = dir.path().join("vault");
        fs::write(&vault, VAULT).unwrap();
        fs::set_permissions(&vault, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn run(&self, script: &str, env: &[(&str, &str)]) -> Output {
        let path = format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(root().join("vault").join(script));
        command.env("PATH", path).env("STATE", self.dir.path()).envs(env.iter().copied());
        command.output().unwrap()
    }

    fn ok(&self, script: &str, env: &[(&str, &str)]) -> String {
        let output = self.run(script, env);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn count(&self, call: &str) -> usize {
        self.state("calls").lines().filter(|line| line.starts_with(call)).count()
    }
}

#[test]
fn approle_is_set_up_and_can_be_set_up_again() {
    let vault = StandIn::new();
    for _ in 0..2 {
        let words = vault.ok("setup-approle.sh", &[("CIDRS", "192.0.2.7/32")]);
        assert!(words.contains("11111111-2222-3333-4444-555555555555"), "{words}");
    }
    assert_eq!(vault.count("auth enable"), 1);
    let policy = fs::read_to_string(root().join("policies/vault/backup.hcl")).unwrap();
    assert_eq!(vault.state("policy.hah-vault-backup"), policy);
    let role = vault.state("role");
    for line in ["token_policies=hah-vault-backup", "token_type=service", "secret_id_bound_cidrs=192.0.2.7/32"] {
        assert!(role.lines().any(|l| l == line), "{role}");
    }
    // No secret id is made where this runs.
    assert_eq!(vault.count("write -"), 0);
    assert!(!vault.state("calls").contains("secret-id"));
}

const JWKS: (&str, &str) = ("NOMAD_JWKS_URL", "https://nomad:4646/.well-known/jwks.json");

#[test]
fn the_job_of_nomad_is_set_up_and_only_it_may_log_in() {
    let vault = StandIn::new();
    for _ in 0..2 {
        vault.ok("setup-jwt-nomad.sh", &[JWKS]);
    }
    assert_eq!((vault.count("auth enable"), vault.count("write auth/jwt-nomad/config")), (1, 1));
    let role: serde_json::Value = serde_json::from_str(&vault.state("role")).unwrap();
    assert_eq!(role["bound_claims"]["nomad_job_id"], "hah-vault-backup");
    assert_eq!(role["bound_claims"]["nomad_namespace"], "default");
    assert_eq!(role["bound_audiences"][0], "vault.io");
    assert_eq!(role["token_type"], "service");
}

#[test]
fn an_auth_method_of_others_is_left_as_it_is() {
    let vault = StandIn::new();
    fs::write(vault.path("mounts"), "jwt-nomad\n").unwrap();
    fs::write(vault.path("jwks"), "https://another:4646/.well-known/jwks.json\n").unwrap();
    let output = vault.run("setup-jwt-nomad.sh", &[JWKS]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("https://another:4646"));
    assert_eq!((vault.count("auth enable"), vault.count("write")), (0, 0));
    assert!(!vault.run("setup-jwt-nomad.sh", &[]).status.success());
    let hostile = vault.run("setup-jwt-nomad.sh", &[JWKS, ("NOMAD_JOB", r#"x", "token_policies": ["root"#)]);
    assert!(!hostile.status.success() && !vault.path("role").exists());
}
