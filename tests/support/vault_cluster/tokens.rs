//! What tokens and leases may be asked.

use serde_json::{Value, json};

use super::super::service_server::Reply;
use super::{ROOT, State, data, error, ok, text};

impl State {
    pub(super) fn lookup_self(&self, name: &str) -> Reply {
        let token = &self.tokens[name];
        ok(&data(json!({
            "accessor": "Wu6RsrEWQDeJBer9x9P66rGI", "creation_ttl": token.life.grant.ttl_s, "display_name": "backup", "id": name,
            "expire_time": token.life.ends.map(|_| "2026-11-22T15:55:13Z"), "num_uses": token.uses_left.unwrap_or(0),
            "path": token.path, "policies": ["backup", "default"], "renewable": token.life.grant.renewable,
            "ttl": token.life.left_s(), "type": if token.is_batch { "batch" } else { "service" },
        })))
    }

    pub(super) fn renew_self(&mut self, name: &str) -> Reply {
        let token = self.tokens.get_mut(name).unwrap();
        if !token.life.grant.renewable {
            return error("400 Bad Request", "lease is not renewable");
        }
        let left_s = token.life.renew(token.life.grant.ttl_s);
        let text = format!("{} renewed for {left_s} s", token.name());
        self.note(text);
        let mut body = data(Value::Null);
        body["auth"] = json!({"client_token": name, "policies": ["backup"], "lease_duration": left_s, "renewable": true,
                              "token_type": "service", "orphan": true});
        ok(&body)
    }

    pub(super) fn renew_lease(&mut self, body: &Value) -> Reply {
        let id = text(body, "lease_id");
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.life.is_live()) else {
            return error("400 Bad Request", "lease not found");
        };
        if !lease.life.grant.renewable {
            return error("400 Bad Request", "lease is not renewable");
        }
        let left_s = lease.life.renew(body["increment"].as_u64().unwrap_or(lease.life.grant.ttl_s));
        self.note(format!("lease {id} renewed for {left_s} s"));
        let mut body = data(Value::Null);
        (body["lease_id"], body["renewable"], body["lease_duration"]) = (json!(id), json!(true), json!(left_s));
        ok(&body)
    }

    pub(super) fn capabilities(&self, token: &str, body: &Value) -> Reply {
        let mut found = serde_json::Map::new();
        for path in body["paths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let may: &[&str] = match () {
                () if token == ROOT => &["root"],
                () if self.is_denied(path) => &["deny"],
                () => &["read", "update"],
            };
            found.insert(path.to_owned(), json!(may));
        }
        let mut body = Value::Object(found.clone());
        body["data"] = Value::Object(found);
        ok(&body)
    }
}
