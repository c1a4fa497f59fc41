//! KV stores of both versions, and the secrets engines of Consul, Nomad and AWS.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::service_server::{Reply, Request};
use super::{AWS_KEY_ID, Lease, Life, State, data, error, ok, reply};

/// A version of a secret.
#[derive(Debug, Clone)]
pub struct Version {
    pub data: Value,
    pub is_deleted: bool,
    pub is_destroyed: bool,
}

impl Version {
    pub fn of(data: Value) -> Self {
        Self { data, is_deleted: false, is_destroyed: false }
    }
}

pub(super) fn stores() -> (BTreeMap<String, Value>, BTreeMap<String, Vec<Version>>) {
    let keys = |number: usize| json!({"access_key_id": "EXAMPLEKEYID", "bucket": "backups", "secret_access_key": format!("example secret {number}")});
    let destroyed = Version { is_destroyed: true, ..Version::of(keys(1)) };
    let deleted = Version { is_deleted: true, ..Version::of(keys(2)) };
    let kv1 = BTreeMap::from([("app".to_owned(), keys(0))]);
    let kv2 = BTreeMap::from([
        ("app/s3".to_owned(), vec![Version::of(keys(1)), deleted.clone(), Version::of(keys(3))]),
        ("app/gone".to_owned(), vec![destroyed, deleted]),
    ]);
    (kv1, kv2)
}

fn absent() -> Reply {
    reply("404 Not Found", &json!({ "errors": [] }))
}

impl State {
    pub(super) fn secret_at(&mut self, request: &Request, path: &str, token: &str) -> Reply {
        if request.method != "GET" {
            return error("405 Method Not Allowed", "unsupported operation");
        }
        if let Some(path) = path.strip_prefix("sys/internal/ui/mounts/") {
            return self.mount_of(path);
        }
        if let Some(name) = path.strip_prefix("kv1/") {
            return self.kv1.get(name).map_or_else(absent, |fields| ok(&data(fields.clone())));
        }
        if let Some(name) = path.strip_prefix("secret/data/") {
            return self.version_of(name, &request.query);
        }
        if path.starts_with("secret/") {
            let mut body = data(Value::Null);
            body["warnings"] = json!(["Invalid path for a versioned K/V secrets engine."]);
            return reply("404 Not Found", &body);
        }
        match path.split('/').collect::<Vec<_>>()[..] {
            ["consul" | "nomad", "creds", "backup"] | ["aws", "creds" | "sts", "backup"] => {
                self.credentials(path, token)
            }
            ["consul" | "nomad" | "aws", "creds" | "sts", role] => {
                error("400 Bad Request", &format!("role \"{role}\" not found"))
            }
            _ => error("404 Not Found", "1 error occurred:\n\t* unsupported path\n\n"),
        }
    }

    fn mount_of(&self, path: &str) -> Reply {
        let mount = path.split('/').next().unwrap_or_default();
        let (kind, options) = match mount {
            _ if !self.knows_mounts => return absent(),
            "secret" => ("kv", json!({"version": "2"})),
            // Mounted without options.
            "kv1" => ("kv", json!({})),
            "consul" | "nomad" | "aws" => (mount, Value::Null),
            _ => {
                let text = format!(
                    "preflight capability check returned 403, please ensure client's policies grant access to path \"{path}/\""
                );
                return error("403 Forbidden", &text);
            }
        };
        ok(&data(json!({"accessor": "kv_f1e7ee1c", "options": options, "path": format!("{mount}/"), "type": kind})))
    }

    fn version_of(&self, name: &str, query: &str) -> Reply {
        let Some(versions) = self.kv2.get(name) else { return absent() };
        let number = query.strip_prefix("version=").map_or(versions.len(), |number| number.parse().unwrap());
        let Some(version) = number.checked_sub(1).and_then(|at| versions.get(at)) else { return absent() };
        let deletion_time = if version.is_deleted { "2026-11-22T15:35:16.947550297Z" } else { "" };
        let metadata = json!({"created_time": "2026-11-22T15:35:16.912086207Z", "deletion_time": deletion_time,
                              "destroyed": version.is_destroyed, "version": number});
        match version.is_deleted || version.is_destroyed {
            true => reply("404 Not Found", &data(json!({"data": null, "metadata": metadata}))),
            false => ok(&data(json!({"data": version.data, "metadata": metadata}))),
        }
    }

    /// New credentials with their lease.
    fn credentials(&mut self, path: &str, token: &str) -> Reply {
        self.made += 1;
        let id = format!("{path}/lease{:04}", self.made);
        let secret = self.uuid();
        let is_sts = path.contains("/sts/");
        let content = match path.split('/').next() {
            Some("consul") => {
                json!({"accessor": "64e07972-1d87-4404-29c4-7a7502f9054b", "local": false, "token": secret})
            }
            Some("nomad") => json!({"accessor_id": "c7aae3e2-e6f3-231d-26e3-cdd1250fab56", "secret_id": secret}),
            _ => json!({"access_key": AWS_KEY_ID, "secret_key": secret, "arn": "arn:aws:sts::1:assumed-role/backup",
                        "security_token": is_sts.then(|| format!("session-of-{secret}"))}),
        };
        let mut grant = self.lease_grant.clone();
        grant.renewable &= !is_sts;
        let mut body = data(content);
        body["lease_id"] = json!(id);
        body["renewable"] = json!(grant.renewable);
        body["lease_duration"] = json!(grant.ttl_s);
        let number = self.tokens[token].number;
        self.note(format!("lease {id} made with token {number}"));
        let is_used_up = !self.tokens[token].life.is_live();
        self.leases.insert(id.clone(), Lease { token: token.into(), secret, life: Life::new(&grant) });
        if is_used_up {
            self.revoke_lease(&id, "revoked with its token");
        }
        ok(&body)
    }
}
