//! Policies: no path that the program does not ask for, and none missing.

use super::files::{all, of, root};
use hcl_edit::structure::Body;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Paths that need no right of a policy.
const OPEN: [&str; 6] = [
    "sys/leader",
    "sys/health",
    "sys/seal-status",
    "sys/wrapping/lookup",
    "sys/wrapping/unwrap",
    "sys/internal/ui/mounts",
];
fn vault_policy(name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("policies/vault").join(name)).unwrap();
    let body: Body = text.parse().unwrap();
    let paths = body.blocks().filter(|block| block.ident.as_str() == "path");
    paths.map(|block| block.labels[0].as_str().to_owned()).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The fixed paths of Vault's system and token API in the program's sources.
fn asked_for() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source");
    let mut paths = BTreeSet::new();
    for file in sources(&source).into_iter().filter(|path| path.to_string_lossy().contains("vault")) {
        let code = fs::read_to_string(file).unwrap();
        let code = code.split("#[cfg(test)]").next().unwrap();
        for text in code.split("\"/v1/").skip(1) {
            let path = text.split(['"', '?', '{']).next().unwrap().trim_end_matches('/');
            if path.starts_with("sys/") || path.starts_with("auth/token/") {
                paths.insert(path.to_owned());
            }
        }
    }
    paths
}

/// The paths of secrets that `deploy/` tells the program to read, as policies name them.
fn told_to_read() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for file in all().iter().filter(|file| file.is(".nomad.hcl") || file.is(".yaml")) {
        for line in file.text.lines() {
            let Some((name, value)) = line.split_once(['=', ':']) else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "HAH_VAULT_KV" => {
                    let (mount, rest) = value.split_once('/').unwrap();
                    paths.insert(format!("{mount}/data/{rest}"));
                }
                "HAH_VAULT_CONSUL_CREDS" | "HAH_VAULT_NOMAD_CREDS" => {
                    paths.insert(value.to_owned());
                }
                _ => {}
            }
        }
    }
    // For clusters where the job's identity is not enough: named in the policy's own comment.
    paths.insert("nomad/creds/hah-vault".to_owned());
    paths
}

#[test]
fn a_backup_may_do_exactly_what_it_asks_for() {
    let (backup, restore, asked) = (vault_policy("backup.hcl"), vault_policy("restore.hcl"), asked_for());
    assert!(asked.contains("sys/storage/raft/snapshot"), "{asked:?}");
    for path in asked.iter().filter(|path| !OPEN.contains(&path.as_str())) {
        assert!(backup.contains(path) || restore.contains(path), "{path} is asked for, and in no policy");
    }
    for path in backup.union(&restore) {
        let known = asked.contains(path) || told_to_read().contains(path);
        assert!(known, "{path} is in a policy, and never asked for");
    }
    for path in told_to_read() {
        assert!(backup.contains(&path), "{path}");
    }
}

#[test]
fn a_backup_host_cannot_restore() {
    let text = fs::read_to_string(root().join("policies/vault/backup.hcl")).unwrap();
    let body: Body = text.parse().unwrap();
    let snapshot = body.blocks().find(|block| block.labels[0].as_str() == "sys/storage/raft/snapshot").unwrap();
    let capabilities = &snapshot.body.get_attribute("capabilities").unwrap().value;
    let capabilities: Vec<&str> = capabilities.as_array().unwrap().iter().filter_map(|c| c.as_str()).collect();
    assert_eq!(capabilities, ["read"]);
    assert!(!vault_policy("backup.hcl").contains("sys/storage/raft/snapshot-force"));
    assert!(text.contains('*') == text.contains(".*"), "a wildcard");
    assert!(vault_policy("backup.hcl").iter().all(|path| !path.contains(['*', '+'])));
}

fn statements(name: &str) -> Vec<(Vec<String>, Vec<String>, Value)> {
    let text = fs::read_to_string(root().join("policies/store").join(name)).unwrap();
    let list = |value: &Value| match value {
        Value::Array(items) => items.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    let policy: Value = serde_json::from_str(&text).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    statements.map(|s| (list(&s["Action"]), list(&s["Resource"]), s["Condition"].clone())).collect()
}

#[test]
fn a_writer_of_the_store_replaces_and_deletes_nothing() {
    for (actions, resources, condition) in statements("writer.json") {
        for action in actions {
            match action.as_str() {
                "s3:ListBucket" | "s3:GetObject" => {}
                "s3:PutObject" => assert_eq!(condition["Null"]["s3:if-none-match"], "false"),
                "s3:DeleteObject" => assert!(resources.iter().all(|r| r.ends_with("/PREFIX/probe/*")), "{resources:?}"),
                other => panic!("{other}"),
            }
        }
    }
    let actions: BTreeSet<String> = statements("reader.json").into_iter().flat_map(|s| s.0).collect();
    assert_eq!(actions, ["s3:GetObject".to_owned(), "s3:ListBucket".to_owned()].into());
}

#[test]
fn no_policy_and_no_lock_is_in_the_way_of_another() {
    // gc deletes neither keys nor repository.json; the lock leaves alone what gc and init have to delete at once.
    for (actions, resources, _) in statements("collector.json") {
        let deletes = actions.iter().any(|action| action == "s3:DeleteObject");
        assert!(
            !deletes || resources.iter().all(|r| !r.contains("/keys/") && !r.ends_with("PREFIX/*")),
            "{resources:?}"
        );
    }
    let lock = fs::read_to_string(root().join("policies/store/r2-lock.json")).unwrap();
    let lock: Value = serde_json::from_str(&lock).unwrap();
    let prefixes: Vec<&str> = lock["rules"].as_array().unwrap().iter().map(|r| r["prefix"].as_str().unwrap()).collect();
    assert_eq!(prefixes, ["packs/", "index/", "manifests/", "keys/"]);
    assert!(lock["rules"].as_array().unwrap().iter().all(|rule| rule["enabled"] == true));
}

#[test]
fn every_policy_is_given_to_somebody() {
    let documents: String = of(".md").into_iter().map(|file| file.text).collect();
    for file in all().iter().filter(|file| file.name.starts_with("policies/") && !file.is(".md")) {
        let name = file.name.trim_start_matches("policies/");
        assert!(documents.contains(name), "{name}");
    }
}
