//! Auth methods and response wrapping.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::service_server::{Reply, Request};
use super::{JWT, Life, PASSWORD, ROLE_ID, SECRET_ID, State, Token, body, data, error, ok, text};

#[derive(Debug)]
pub struct AppRole {
    pub role_id: String,
    /// With the uses that are left; none: any number.
    pub secret_ids: BTreeMap<String, Option<u32>>,
    pub wants_secret_id: bool,
}

#[derive(Debug)]
pub enum Method {
    AppRole(AppRole),
    /// Also for Kubernetes.
    Jwt {
        role: String,
        default_role: Option<String>,
        jwt: String,
    },
    /// Any client certificate that the connection was made with, for this role or without one.
    Cert {
        role: String,
    },
    Userpass {
        username: String,
        password: String,
    },
}

pub(super) fn methods() -> BTreeMap<String, Method> {
    let jwt = |default_role: Option<&str>| Method::Jwt {
        role: "backup".into(),
        default_role: default_role.map(Into::into),
        jwt: JWT.into(),
    };
    let userpass = || Method::Userpass { username: "alice".into(), password: PASSWORD.into() };
    let secret_ids = BTreeMap::from([(SECRET_ID.into(), None)]);
    let approle = Method::AppRole(AppRole { role_id: ROLE_ID.into(), secret_ids, wants_secret_id: true });
    BTreeMap::from([
        ("approle".into(), approle),
        ("jwt".into(), jwt(None)),
        ("jwt-nomad".into(), jwt(Some("backup"))),
        ("kubernetes".into(), jwt(None)),
        ("cert".into(), Method::Cert { role: "backup".into() }),
        ("userpass".into(), userpass()),
        ("ldap".into(), userpass()),
    ])
}

fn refused(text: &str) -> Reply {
    error("400 Bad Request", text)
}

impl State {
    /// Requests that need no token.
    pub(super) fn without_token(&mut self, request: &Request, path: &str) -> Option<Reply> {
        match path {
            "sys/wrapping/lookup" => return Some(self.look_at_wrapped(&text(&body(request), "token"))),
            "sys/wrapping/unwrap" => return Some(self.unwrap(request)),
            _ => {}
        }
        let (mount, user) = path.strip_prefix("auth/")?.split_once("/login")?;
        // A path that nobody handles is one that needs a token.
        if !self.methods.contains_key(mount) {
            return Some(refused("missing client token"));
        }
        Some(self.log_in(request, mount, user.trim_start_matches('/'), path))
    }

    fn log_in(&mut self, request: &Request, mount: &str, user: &str, path: &str) -> Reply {
        let body = body(request);
        let refusal = match self.methods.get_mut(mount).unwrap() {
            Method::AppRole(role) => role.refuse(&body),
            Method::Jwt { role, default_role, jwt } => {
                let wanted = body["role"].as_str().map(Into::into).or(default_role.clone());
                match wanted {
                    None => Some(refused("missing role")),
                    Some(wanted) if wanted != *role => Some(refused(&format!("role \"{wanted}\" could not be found"))),
                    _ if body["jwt"] == jwt.as_str() => None,
                    _ => Some(refused("error validating token: invalid expiration time (exp) claim: token is expired")),
                }
            }
            Method::Cert { .. } if request.header("client-certificate").is_empty() => {
                Some(refused("client certificate must be supplied"))
            }
            Method::Cert { role } => {
                let is_right = body["name"].is_null() || body["name"] == role.as_str();
                (!is_right).then(|| refused("invalid certificate or no client certificate supplied"))
            }
            Method::Userpass { username, password } => {
                let is_right = user == username && body["password"] == password.as_str();
                (!is_right).then(|| refused("invalid username or password"))
            }
        };
        match refusal {
            Some(reply) => reply,
            None => self.make_token(path.split("/login").next().unwrap()),
        }
    }

    fn make_token(&mut self, path: &str) -> Reply {
        let mut body = data(Value::Null);
        if self.mfa {
            let mfa = json!({"mfa_request_id": "d0c9eec7", "mfa_constraints": {}});
            body["auth"] = json!({"client_token": "", "policies": null, "lease_duration": 0, "renewable": false,
                                  "mfa_requirement": mfa});
            return ok(&body);
        }
        let name = self.secret(if self.is_batch { "b.AAAA" } else { "s.tok" });
        let token = Token {
            number: self.tokens.len(),
            path: path.into(),
            is_batch: self.is_batch,
            uses_left: Some(self.num_uses).filter(|uses| *uses > 0),
            life: Life::new(&self.grant),
        };
        self.note(format!("{} made", token.name()));
        body["auth"] = json!({
            "client_token": name, "accessor": "gkE5YSLYSzH0XT9Xsq7mohVs", "policies": ["backup", "default"],
            "metadata": {"role": "backup"}, "lease_duration": self.grant.ttl_s, "orphan": true, "num_uses": self.num_uses,
            "renewable": self.grant.renewable && !self.is_batch, "mfa_requirement": null,
            "token_type": if self.is_batch { "batch" } else { "service" },
        });
        self.tokens.insert(name, token);
        ok(&body)
    }

    fn look_at_wrapped(&self, token: &str) -> Reply {
        match self.wrapped.get(token) {
            None => refused("wrapping token is not valid or does not exist"),
            Some((path, _)) => ok(&data(json!({"creation_path": path, "creation_ttl": 120,
                                               "creation_time": "2026-11-22T15:35:13.702988497Z"}))),
        }
    }

    fn unwrap(&mut self, request: &Request) -> Reply {
        let (header, in_body) = (request.header("x-vault-token").to_owned(), text(&body(request), "token"));
        if header == in_body {
            // Vault uses the token up to look at it, and then has nothing to unwrap.
            self.wrapped.remove(&header);
        }
        let token = if in_body.is_empty() { header } else { in_body };
        match self.wrapped.remove(&token) {
            None => refused("wrapping token is not valid or does not exist"),
            Some((path, content)) => {
                self.note(format!("unwrapped what {path} made"));
                ok(&data(content))
            }
        }
    }
}

impl AppRole {
    fn refuse(&mut self, body: &Value) -> Option<Reply> {
        if text(body, "role_id") != self.role_id {
            return Some(refused("invalid role ID"));
        }
        if !self.wants_secret_id {
            return None;
        }
        if body["secret_id"].is_null() {
            return Some(refused("missing secret_id"));
        }
        match self.secret_ids.get_mut(&text(body, "secret_id")) {
            None | Some(Some(0)) => Some(refused("invalid secret id")),
            Some(Some(uses)) => {
                *uses -= 1;
                None
            }
            Some(None) => None,
        }
    }
}
