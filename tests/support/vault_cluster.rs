//! What the nodes of a stand-in Vault share: logins, tokens, wrapped answers, leases, secrets engines. Answers are those
//! of the transcripts. Its log tells what was made and what became of it; [`Cluster::leaks`] what was forgotten.

mod logins;
mod secrets;
mod tokens;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::service_server::{Reply, Request, Step};
pub use logins::Method;
pub use secrets::Version;

pub const ROLE_ID: &str = "6580e579-cf69-a784-07f1-642ca5b857c6";
pub const SECRET_ID: &str = "dc181974-7bb5-374d-691a-f44a2fdff9d5";
pub const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJiYWNrdXAifQ.c2lnbmF0dXJlLW9mLXRoZS1qd3Q";
pub const PASSWORD: &str = "correct horse battery";
/// The id of all keys that the engine of AWS makes.
pub const AWS_KEY_ID: &str = "ASIAEXAMPLE";
/// A token that was not made by a login; it may do everything and never expires.
pub const ROOT: &str = "s.root0pehVnYSDXhDo315xZBMd";

/// The terms of what is made.
#[derive(Debug, Clone)]
pub struct Grant {
    pub ttl_s: u64,
    /// From the moment of its making.
    pub max_ttl_s: u64,
    pub renewable: bool,
}

#[derive(Debug)]
pub struct Token {
    pub number: usize,
    pub path: String,
    pub is_batch: bool,
    /// 0: no limit.
    pub uses_left: Option<u32>,
    pub life: Life,
}

/// How long something lives.
#[derive(Debug, Clone)]
pub struct Life {
    pub made: Instant,
    pub ends: Option<Instant>,
    pub grant: Grant,
    pub is_revoked: bool,
}

impl Life {
    fn new(grant: &Grant) -> Self {
        let made = Instant::now();
        Self { made, ends: Some(made + Duration::from_secs(grant.ttl_s)), grant: grant.clone(), is_revoked: false }
    }

    fn is_live(&self) -> bool {
        !self.is_revoked && self.ends.is_none_or(|ends| ends > Instant::now())
    }

    /// Seconds that are left, as Vault counts them.
    fn left_s(&self) -> u64 {
        self.ends.map_or(0, |ends| ends.saturating_duration_since(Instant::now()).as_secs_f64().round() as u64)
    }

    fn renew(&mut self, increment_s: u64) -> u64 {
        let longest = self.made + Duration::from_secs(self.grant.max_ttl_s);
        self.ends = Some((Instant::now() + Duration::from_secs(increment_s)).min(longest));
        self.left_s()
    }
}

#[derive(Debug)]
pub struct Lease {
    pub token: String,
    /// The secret text that lives as long as the lease, if revoking it kills it.
    pub secret: String,
    pub life: Life,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Another answer; nothing is done.
    Answer(Reply),
    /// It is done, and the connection drops before the answer.
    LoseAnswer,
    /// It is done, and the answer comes later.
    Slow(Duration),
}

#[derive(Debug)]
pub struct State {
    pub methods: BTreeMap<String, Method>,
    pub tokens: BTreeMap<String, Token>,
    pub leases: BTreeMap<String, Lease>,
    pub wrapped: BTreeMap<String, (String, Value)>,
    /// Of logins.
    pub grant: Grant,
    pub is_batch: bool,
    pub num_uses: u32,
    pub mfa: bool,
    /// Of secrets engines.
    pub lease_grant: Grant,
    pub kv1: BTreeMap<String, Value>,
    pub kv2: BTreeMap<String, Vec<Version>>,
    /// A Vault from before sys/internal/ui/mounts.
    pub knows_mounts: bool,
    /// Paths that tokens of logins may not use: whole, or with a star at their end.
    pub denied: Vec<String>,
    /// All but snapshots and health needs this namespace.
    pub namespace: Option<String>,
    /// Whether standby nodes hand requests on to the active one.
    pub forwards: bool,
    /// Paths that begin so have trouble, so many times.
    pub troubles: Vec<(String, usize, Trouble)>,
    log: Vec<String>,
    made: usize,
    secrets: Vec<String>,
}

/// Shared by the nodes.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    /// With all auth methods, a KV store of each version, and the engines of Consul, Nomad and AWS with a role `backup`.
    pub fn new() -> Self {
        let root = Token {
            number: 0,
            path: "auth/token/root".into(),
            is_batch: false,
            uses_left: None,
            life: Life { ends: None, ..Life::new(&Grant { ttl_s: 0, max_ttl_s: 0, renewable: false }) },
        };
        let (kv1, kv2) = secrets::stores();
        Self(Arc::new(Mutex::new(State {
            methods: logins::methods(),
            tokens: BTreeMap::from([(ROOT.to_owned(), root)]),
            leases: BTreeMap::new(),
            wrapped: BTreeMap::new(),
            grant: Grant { ttl_s: 1200, max_ttl_s: 3600, renewable: true },
            is_batch: false,
            num_uses: 0,
            mfa: false,
            lease_grant: Grant { ttl_s: 600, max_ttl_s: 3600, renewable: true },
            kv1,
            kv2,
            knows_mounts: true,
            denied: Vec::new(),
            namespace: None,
            forwards: true,
            troubles: Vec::new(),
            log: Vec::new(),
            made: 0,
            secrets: [ROLE_ID, SECRET_ID, JWT, PASSWORD, ROOT].map(Into::into).to_vec(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
    }

    /// The next `times` requests of paths that begin so have trouble.
    pub fn trouble(&self, path: &str, times: usize, trouble: Trouble) {
        self.lock().troubles.push((path.into(), times, trouble));
    }

    /// A wrapping token around a secret id made at this path.
    pub fn wrap(&self, creation_path: &str) -> String {
        let mut state = self.lock();
        let token = state.secret("s.wrap");
        let data = json!({"secret_id": SECRET_ID, "secret_id_accessor": "7bcf6912", "secret_id_ttl": 0});
        state.wrapped.insert(token.clone(), (creation_path.into(), data));
        token
    }

    /// Ends all tokens of logins, and what was made with them: a restore, or a hasty operator.
    pub fn end_tokens(&self) {
        let mut state = self.lock();
        let tokens: Vec<String> = state.tokens.keys().filter(|token| *token != ROOT).cloned().collect();
        for token in tokens {
            state.revoke_token(&token, "ended by the operator");
        }
    }

    /// What was made and what became of it, in words.
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// Tokens of logins and leases that still live, by their names in the log. Batch tokens cannot be revoked.
    pub fn leaks(&self) -> Vec<String> {
        let state = self.lock();
        let tokens =
            state.tokens.iter().filter(|(name, token)| *name != ROOT && !token.is_batch && token.life.is_live());
        let leases = state.leases.iter().filter(|(_, lease)| lease.life.is_live());
        tokens.map(|(_, token)| token.name()).chain(leases.map(|(id, _)| format!("lease {id}"))).collect()
    }

    /// Everything that no log, error or file of ours may hold.
    pub fn secrets(&self) -> Vec<String> {
        self.lock().secrets.clone()
    }

    /// Whether a token that an engine made is good.
    pub fn knows(&self, secret: &str) -> bool {
        self.lock().leases.values().any(|lease| lease.secret == secret && lease.life.is_live())
    }

    /// The secret of the keys of AWS that live.
    pub fn aws_secret(&self, id: &str) -> Option<String> {
        let state = self.lock();
        let mut leases = state.leases.iter().filter(|(path, lease)| path.starts_with("aws/") && lease.life.is_live());
        leases.next_back().filter(|_| id == AWS_KEY_ID).map(|(_, lease)| lease.secret.clone())
    }

    /// What refuses a request's token, a use of which it costs.
    pub fn refuse(&self, request: &Request) -> Option<Reply> {
        self.lock().refuse(request)
    }

    pub fn answer(&self, request: &Request) -> Reply {
        let mut state = self.lock();
        let trouble = state.take_trouble(request.path.trim_start_matches("/v1/"));
        if let Some(Trouble::Answer(reply)) = trouble {
            return reply;
        }
        let reply = state.answer(request);
        match trouble {
            Some(Trouble::LoseAnswer) => Reply { steps: vec![Step::Close] },
            Some(Trouble::Slow(delay)) => reply.after(delay),
            _ => reply,
        }
    }
}

impl Token {
    fn name(&self) -> String {
        format!("token {} of {}", self.number, self.path)
    }
}

fn reply(status: &str, body: &Value) -> Reply {
    super::vault_server::json(status, &body.to_string())
}

fn ok(body: &Value) -> Reply {
    reply("200 OK", body)
}

fn done() -> Reply {
    super::vault_server::json("204 No Content", "")
}

fn error(status: &str, text: &str) -> Reply {
    reply(status, &json!({ "errors": [text] }))
}

fn forbidden() -> Reply {
    error("403 Forbidden", "permission denied")
}

fn data(data: Value) -> Value {
    json!({"request_id": "26ff7fdd", "lease_id": "", "renewable": false, "lease_duration": 0, "data": data, "wrap_info": null,
           "warnings": null, "auth": null})
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_default()
}

fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_default().to_owned()
}

impl State {
    fn note(&mut self, text: String) {
        self.log.push(text);
    }

    /// A new secret text that looks like one.
    fn secret(&mut self, prefix: &str) -> String {
        self.made += 1;
        let secret =
            format!("{prefix}{:04}{:016x}", self.made, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(self.made as u64));
        self.secrets.push(secret.clone());
        secret
    }

    fn uuid(&mut self) -> String {
        self.made += 1;
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(self.made as u64);
        let uuid = format!("{:08x}-d3ef-a7ab-059b-{:012x}", random >> 32, random & 0xffff_ffff_ffff);
        self.secrets.push(uuid.clone());
        uuid
    }

    fn take_trouble(&mut self, path: &str) -> Option<Trouble> {
        let found =
            self.troubles.iter_mut().find(|(prefix, times, _)| *times > 0 && path.starts_with(prefix.as_str()))?;
        found.1 -= 1;
        Some(found.2.clone())
    }

    fn is_denied(&self, path: &str) -> bool {
        self.denied.iter().any(|denied| match denied.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == denied,
        })
    }

    fn refuse(&mut self, request: &Request) -> Option<Reply> {
        let name = request.header("x-vault-token").to_owned();
        let path = request.path.trim_start_matches("/v1/");
        if name.is_empty() {
            return Some(error("400 Bad Request", "missing client token"));
        }
        let Some(token) = self.tokens.get_mut(&name).filter(|token| token.life.is_live()) else {
            return Some(forbidden());
        };
        if let Some(uses) = &mut token.uses_left {
            *uses -= 1;
            if *uses == 0 && path != "auth/token/revoke-self" {
                // The request is still served; with the token goes what was made with it.
                self.revoke_token(&name, "used up");
            }
        }
        let is_denied = name != ROOT && self.is_denied(path);
        is_denied.then(|| error("403 Forbidden", "1 error occurred:\n\t* permission denied\n\n"))
    }

    fn revoke_token(&mut self, name: &str, why: &str) {
        let Some(token) = self.tokens.get_mut(name).filter(|token| token.life.is_live()) else { return };
        token.life.is_revoked = true;
        let text = format!("{} {why}", token.name());
        self.note(text);
        let children: Vec<String> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.token == name && lease.life.is_live())
            .map(|l| l.0.clone())
            .collect();
        for lease in children {
            self.revoke_lease(&lease, "revoked with its token");
        }
    }

    fn revoke_lease(&mut self, id: &str, why: &str) {
        if let Some(lease) = self.leases.get_mut(id).filter(|lease| lease.life.is_live()) {
            lease.life.is_revoked = true;
            self.note(format!("lease {id} {why}"));
        }
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let path = request.path.trim_start_matches("/v1/").to_owned();
        if self.namespace.is_some() && self.namespace.as_deref() != Some(request.header("x-vault-namespace")) {
            let text = format!("no handler for route \"{path}\". route entry not found.");
            return error("404 Not Found", &text);
        }
        if let Some(reply) = self.without_token(request, &path) {
            return reply;
        }
        if let Some(reply) = self.refuse(request) {
            return reply;
        }
        let token = request.header("x-vault-token").to_owned();
        match (request.method.as_str(), path.as_str()) {
            ("GET", "auth/token/lookup-self") => self.lookup_self(&token),
            ("POST" | "PUT", "auth/token/renew-self") => self.renew_self(&token),
            ("POST" | "PUT", "auth/token/revoke-self") => match self.tokens[&token].is_batch {
                true => error("400 Bad Request", "batch tokens cannot be revoked"),
                false => {
                    self.revoke_token(&token, "revoked");
                    done()
                }
            },
            ("POST" | "PUT", "sys/capabilities-self") => self.capabilities(&token, &body(request)),
            ("POST" | "PUT", "sys/leases/renew") => self.renew_lease(&body(request)),
            ("POST" | "PUT", "sys/leases/revoke") => {
                // Unknown leases are fine too.
                self.revoke_lease(&text(&body(request), "lease_id"), "revoked");
                done()
            }
            _ => self.secret_at(request, &path, &token),
        }
    }
}
