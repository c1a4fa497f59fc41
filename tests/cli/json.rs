//! `src/cli/json.md` against what is really printed.

use super::sandbox::{Sandbox, fixture, fixture_path, spec};
use crate::support::consul_server::consul;
use crate::support::nomad_server::{self, NomadServer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const DOCUMENT: &str = include_str!("../../src/cli/json.md");

/// Each type's example and the names of its documented fields.
fn documented() -> BTreeMap<String, (Value, BTreeSet<String>)> {
    let mut types = BTreeMap::new();
    for section in DOCUMENT.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        let example = section.lines().find(|l| l.starts_with('{')).unwrap();
        let example: Value = serde_json::from_str(example).unwrap();
        assert_eq!(example["type"], name);
        let field = |line: &str| Some(line.strip_prefix("- `")?.split_once('`')?.0.to_owned());
        types.insert(name.to_owned(), (example, section.lines().filter_map(field).collect()));
    }
    types
}

/// Same fields, and the same types of values wherever both have one.
fn agree(example: &Value, real: &Value, at: &str) {
    match (example, real) {
        (Value::Object(example), Value::Object(real)) => {
            let names = |o: &serde_json::Map<String, Value>| o.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(example), names(real), "{at}");
            example.iter().for_each(|(name, value)| agree(value, &real[name], &format!("{at}.{name}")));
        }
        (Value::Array(example), Value::Array(real)) => {
            for value in real {
                agree(&example[0], value, &format!("{at}[]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (example, real) => {
            assert_eq!(std::mem::discriminant(example), std::mem::discriminant(real), "{at}: {real}");
        }
    }
}

async fn real_objects() -> Vec<Value> {
    let sandbox = Sandbox::new();
    let mut objects = Vec::new();
    let mut take = |args: &[&str]| {
        let ran = sandbox.run(args.iter().chain(&["--json"]));
        let lines = |text: &str| text.lines().map(|l| serde_json::from_str(l).expect(l)).collect::<Vec<Value>>();
        objects.extend(lines(&ran.text()));
        objects.extend(lines(&ran.stderr));
    };
    take(&["list"]);
    take(&["init"]);
    take(&["backup", &spec("vault", &fixture_path("vault-00.snap")), "consul=nowhere"]);
    take(&["list"]);
    take(&["stats"]);
    take(&["config"]);
    take(&["check", "--repo", sandbox.repo(".").to_str().unwrap()]);
    take(&["backup", &spec("consul", &fixture_path("consul-00.snap"))]);
    take(&["show", "consul@latest"]);
    take(&["restore", "vault@latest"]);
    take(&["hold", "vault@latest", "--reason", "why not"]);
    // Without grace, and with nothing else running: one snapshot is set aside and brought back.
    take(&["backup", "--tag", "old", &spec("consul", &fixture_path("consul-01.snap"))]);
    take(&["gc", "--keep-last", "0", "--grace", "0s", "--exclusive", "--force", "--budget", "1GB"]);
    take(&["list", "--trash"]);
    take(&["undelete", "consul/"]);
    let phrase = sandbox.file("phrase", "x");
    take(&["key", "add", "--label", "bob", "--new-passphrase-file", phrase.to_str().unwrap()]);
    take(&["key", "list"]);
    take(&["key", "remove", "bob"]);
    take(&["key", "export"]);
    take(&["key", "writer", "--source", "vault"]);
    take(&["kit"]);
    take(&["verify", "--read-data", "--rehearse"]);
    if let Some(program) = consul() {
        let program = fs::canonicalize(&program).unwrap_or(program);
        take(&["verify", "--drill", "consul", "--consul-binary", program.to_str().unwrap()]);
    }
    for pack in fs::read_dir(sandbox.repo("packs")).unwrap() {
        fs::write(pack.unwrap().path(), "garbage").unwrap();
    }
    for manifest in fs::read_dir(sandbox.repo("manifests/vault")).unwrap() {
        fs::remove_file(manifest.unwrap().path()).unwrap();
    }
    take(&["verify"]);
    let manifests = sandbox.repo("manifests/consul");
    for entry in fs::read_dir(manifests).unwrap() {
        fs::write(entry.unwrap().path(), "garbage").unwrap();
    }
    take(&["list"]);
    take(&["repair"]);
    let server = NomadServer::start(&fixture("nomad-00.snap")).await;
    let url = server.server.url();
    let env = [("NOMAD_ADDR", url.as_str()), ("NOMAD_TOKEN", nomad_server::TOKEN)];
    let name = sandbox.backup("nomad", "nomad-02.snap");
    let ran = sandbox.run_with_env(["restore", &name, "--to", "nomad", "--yes", "--json"], &env).ok();
    objects.extend(ran.objects());
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_agrees_with_every_object() {
    let documented = documented();
    for (name, (example, fields)) in &documented {
        let mut names: BTreeSet<String> = example.as_object().unwrap().keys().cloned().collect();
        names.remove("type");
        assert_eq!(&names, fields, "{name}");
    }
    let mut seen = BTreeSet::new();
    for object in real_objects().await {
        let name = object["type"].as_str().unwrap().to_owned();
        let (example, _) = documented.get(&name).unwrap_or_else(|| panic!("{name} is not documented"));
        agree(example, &object, &name);
        seen.insert(name);
    }
    let mut all: BTreeSet<String> = documented.into_keys().collect();
    if consul().is_none() {
        all.remove("drill");
    }
    assert_eq!(seen, all);
}

#[test]
fn a_restore_to_standard_output_tells_of_itself_on_standard_error() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let ran = sandbox.run(["restore", "vault@latest", "-o", "-", "--json"]).ok();
    let object: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((&object["type"], &object["path"]), (&"restore".into(), &Value::Null));
}
