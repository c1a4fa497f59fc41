//! The configuration file and `config`, through the program.

use super::sandbox::{Ran, Sandbox, fixture, fixture_path};
use crate::support::nomad_server::{self, NomadServer};
use crate::support::vault_server::{self, Role, VaultServer};
use std::fs;

const SECRET: &str = "hunter2-hunter2";

fn write_config(sandbox: &Sandbox, text: &str) {
    let path = sandbox.config("config.hcl");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The settings that `config --json` prints: block, key, value, origin.
fn settings(ran: &Ran) -> Vec<(String, String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let objects = ran.objects().into_iter();
    objects.map(|o| (text(&o["block"]), text(&o["key"]), text(&o["value"]), text(&o["origin"]))).collect()
}

#[track_caller]
fn has(ran: &Ran, block: &str, key: &str, value: &str, origin: &str) {
    let all = settings(ran);
    let found = all.iter().find(|(b, k, _, _)| b == block && k == key);
    let found = found.unwrap_or_else(|| panic!("no {key} of {block}: {all:?}"));
    assert!(found.2 == value && found.3.ends_with(origin), "{found:?}");
}

#[test]
fn config_tells_where_each_value_comes_from() {
    let sandbox = Sandbox::new();
    let config = "repository {\n  url = \"s3://file/x\"\n  s3 {\n    region = \"file\"\n  }\n}\n\
                  vault {\n  address = \"https://file:8200\"\n  namespace = \"file\"\n}\n";
    let file = sandbox.file("own.hcl", config);
    let file = file.to_str().unwrap();
    let env = [("VAULT_ADDR", "https://me:hunter2-hunter2@env:8200"), ("VAULT_TOKEN", SECRET), ("AWS_REGION", "env")];
    let ran = sandbox.run_with_env(["config", "--json", "--config", file, "--repo", "s3://flag/x", "-vvv"], &env).ok();
    has(&ran, "repository", "url", "s3://flag/x", "--repo");
    has(&ran, "repository", "s3.region", "env", "AWS_REGION");
    has(&ran, "vault", "address", "https://[redacted]@env:8200", "VAULT_ADDR");
    has(&ran, "vault", "namespace", "file", "own.hcl:9");
    has(&ran, "vault", "token", "[redacted]", "VAULT_TOKEN");
    has(&ran, "vault", "source", "vault", "default");
    has(&ran, "consul", "address", "http://127.0.0.1:8500", "default");
    let env_repo = [("HAH_VAULT_REPO", "s3://env/x"), ("HAH_VAULT_CONFIG", file)];
    let by_env = sandbox.run_with_env(["config", "--json"], &env_repo).ok();
    has(&by_env, "repository", "url", "s3://env/x", "HAH_VAULT_REPO");
    has(&by_env, "vault", "address", "https://file:8200", "own.hcl:8");
    let words = sandbox.run_with_env(["config", "--config", file], &env).ok();
    assert!(words.text().contains("own.hcl:9"), "{words:?}");
    for ran in [ran, by_env, words] {
        assert!(!ran.text().contains(SECRET) && !ran.stderr.contains(SECRET), "{ran:?}");
    }
}

#[test]
fn config_connects_to_nothing_and_reads_no_secret() {
    let sandbox = Sandbox::new();
    // Neither the files nor the variables nor the servers are there.
    write_config(
        &sandbox,
        "repository {\n url = \"s3://b\"\n writer_key = kv(\"secret/x\", \"k\")\n}\n\
         vault {\n address = \"http://127.0.0.1:1\"\n auth \"approle\" {\n role_id = env(\"NOT_SET\")\n secret_id = \
         file(\"/nonexistent\")\n }\n headers = { \"A\" = env(\"NOT_SET\") }\n}\nconsul {\n token = creds(\"c/creds/b\")\n}\n",
    );
    let ran = sandbox.run(["config", "--json"]).ok();
    has(&ran, "repository", "writer_key", "kv(\"secret/x\", \"k\")", "config.hcl:3");
    has(&ran, "vault", "auth.secret_id", "file(\"/nonexistent\")", "config.hcl:9");
    has(&ran, "consul", "token", "creds(\"c/creds/b\")", "config.hcl:14");
    assert_eq!(ran.stderr, "");
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_place() {
    let sandbox = Sandbox::new();
    for (text, error, hint) in [
        (
            "vault {\n  adress = \"hunter2-hunter2\"\n}\n",
            "config.hcl:2:3: vault has no key \"adress\"",
            "did you mean address?",
        ),
        ("vault {\n  backup = \"hunter2-hunter2\"\n}\n", "config.hcl:2:12: backup is a text", ""),
        ("vault {\n  token = 'hunter2-hunter2'\n}\n", "config.hcl:2:11: this is not HCL", ""),
    ] {
        write_config(&sandbox, text);
        let ran = sandbox.run(["list", "-vvv"]);
        ran.refused(2, error, hint);
        assert!(!ran.stderr.contains(SECRET), "{ran:?}");
        // The way out, should nothing else go any more.
        sandbox.run(["config", "--config", "/dev/null"]).ok();
    }
    write_config(&sandbox, "consul {\n  token = \"hunter2-hunter2\"\n}\n");
    let ran = sandbox.run(["config", "-vvv"]).ok();
    assert!(ran.stderr.contains("config.hcl:2: token of consul is written out"), "{ran:?}");
    assert!(!ran.stderr.contains(SECRET) && !ran.text().contains(SECRET), "{ran:?}");
    sandbox.run(["list", "--config", "no/such"]).refused(2, "cannot read the configuration no/such", "--config");
}

#[test]
fn settings_of_a_server_are_refused_by_their_place() {
    let sandbox = Sandbox::with_repository();
    write_config(&sandbox, "vault {\n  address = \"ftp://vault\"\n}\n");
    sandbox.run(["backup"]).refused(2, "config.hcl:2", "");
    write_config(&sandbox, "vault {\n  address = \"http://127.0.0.1:1\"\n  token = env(\"NOT_SET\")\n}\n");
    sandbox.run(["backup", "vault"]).refused(2, "token (", "");
    let ran = sandbox.run(["backup", "vault"]);
    assert!(ran.stderr.contains("config.hcl:3") && ran.stderr.contains("NOT_SET is not set"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_names_takes_all_that_is_configured() {
    let vault = VaultServer::start(Role::Active, &fixture("vault-00.snap")).await;
    let nomad = NomadServer::start(&fixture("nomad-02.snap")).await;
    let sandbox = Sandbox::with_repository();
    sandbox.run(["backup"]).refused(2, "no source is given, and none is configured", "configuration file");
    sandbox.file("vault-token", format!("{}\n", vault_server::TOKEN));
    let config = format!(
        "vault \"home\" {{\n  address = \"{}\"\n  token = file(\"vault-token\")\n}}\n\
         nomad {{\n  address = [\"http://127.0.0.1:1\", \"{}\"]\n  token = env(\"MY_NOMAD\")\n}}\n\
         consul {{\n  backup = false\n  address = \"http://127.0.0.1:1\"\n}}\n\
         file \"notes\" {{\n  path = \"{}\"\n  raw = true\n  compression = \"off\"\n}}\n",
        vault.server.url(),
        nomad.server.url(),
        fixture_path("consul-00.snap").display(),
    );
    write_config(&sandbox, &config);
    let env = [("MY_NOMAD", nomad_server::TOKEN)];
    let ran = sandbox.run_with_env(["backup", "--json", "-vvv"], &env).ok();
    let mut names: Vec<String> = ran.objects().iter().map(|o| o["source"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["nomad", "notes", "vault-home"]);
    assert!(!ran.stderr.contains(vault_server::TOKEN) && !ran.stderr.contains(nomad_server::TOKEN), "{ran:?}");
    // `compression = "off"` held for its source alone.
    let stored = |source: &str| {
        let objects = ran.objects();
        let object = objects.iter().find(|o| o["source"] == source).unwrap().clone();
        (object["new_bytes"].as_u64().unwrap(), object["stored_bytes"].as_u64().unwrap())
    };
    let ((new, stored_notes), (new_nomad, stored_nomad)) = (stored("notes"), stored("nomad"));
    assert!(stored_notes >= new && stored_nomad < new_nomad, "{ran:?}");
    // By name; one that fails leaves the others alone.
    sandbox.run_with_env(["backup", "vault-home"], &env).ok();
    let missing = sandbox.run(["backup", "vault-home", "nomad"]);
    missing.refused(3, "nomad: ", "");
    assert!(missing.stderr.contains("MY_NOMAD is not set"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_beat_the_only_block_and_stay_away_from_one_of_several() {
    let (one, two) = (fixture("vault-00.snap"), fixture("vault-01.snap"));
    let (one, two) = (VaultServer::start(Role::Active, &one).await, VaultServer::start(Role::Active, &two).await);
    let sandbox = Sandbox::with_repository();
    sandbox.file("token", vault_server::TOKEN);
    let block =
        |label: &str, url: &str| format!("vault{label} {{\n  address = \"{url}\"\n  token = file(\"token\")\n}}\n");
    let url = one.server.url();
    let env = [("VAULT_ADDR", url.as_str()), ("VAULT_TOKEN", vault_server::TOKEN)];
    write_config(&sandbox, &block("", "http://127.0.0.1:1"));
    sandbox.run_with_env(["backup", "vault"], &env).ok();
    assert_eq!(one.server.requests_of(vault_server::PATH).len(), 1);
    // A token of another cluster is not sent to these.
    let wrong = [("VAULT_ADDR", "http://127.0.0.1:1"), ("VAULT_TOKEN", SECRET)];
    write_config(&sandbox, &(block(" \"a\"", &one.server.url()) + &block(" \"b\"", &two.server.url())));
    sandbox.run_with_env(["backup"], &wrong).ok();
    for server in [&one, &two] {
        let requests = server.server.requests();
        assert!(requests.iter().all(|request| request.header("x-vault-token") != SECRET));
    }
    assert_eq!(two.server.requests_of(vault_server::PATH).len(), 1);
}
