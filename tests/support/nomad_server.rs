//! A stand-in for Nomad 1.1, as in the transcripts: status, agent, token, snapshot with its Digest, restore.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use sha2::Digest as _;

use super::service_server::{Fault, Handler, Reply, Request, Server};
use super::vault_cluster::Cluster;

pub const TOKEN: &str = "14985ffe-e1f2-54b8-5d1e-c3c14b14e413";
pub const TOKEN_LOW: &str = "61bd2154-ae0d-c11d-1b35-64bdb75c8af6";
pub const PATH: &str = "/v1/operator/snapshot";

/// The Digest that goes with a body.
#[derive(Debug, Clone, Copy)]
pub enum DigestHeader {
    Sha256,
    Sha512,
    Missing,
    Odd,
    OfSomethingElse,
}

#[derive(Debug)]
pub struct State {
    pub snapshot: Vec<u8>,
    pub fault: Fault,
    pub digest: DigestHeader,
    pub has_leader: bool,
    /// So many requests are refused as if the token were not replicated yet.
    pub unknown_times: usize,
    /// A refused restore answers with the wrong error.
    pub race: bool,
    pub restored: Option<Vec<u8>>,
    /// What it gives of itself after a restore, if that is not what was restored.
    pub after_restore: Option<Vec<u8>>,
    /// Makes tokens that are good here, besides [`TOKEN`].
    pub cluster: Option<Cluster>,
    /// After a restore there is no leader.
    pub loses_leader: bool,
    /// The Raft index that the agent tells.
    pub index: u64,
    pub region: String,
    /// Nomad's version.
    pub version: &'static str,
}

pub struct NomadServer {
    pub server: Server,
    pub state: Arc<Mutex<State>>,
}

struct Agent(Arc<Mutex<State>>);

impl NomadServer {
    pub async fn start(snapshot: &[u8]) -> Self {
        let state = Self::state(snapshot);
        Self { server: Server::start(Self::handler(&state)).await, state }
    }

    pub fn state(snapshot: &[u8]) -> Arc<Mutex<State>> {
        Arc::new(Mutex::new(State {
            snapshot: snapshot.to_vec(),
            fault: Fault::None,
            digest: DigestHeader::Sha256,
            has_leader: true,
            unknown_times: 0,
            race: false,
            restored: None,
            after_restore: None,
            cluster: None,
            loses_leader: false,
            index: 15,
            region: "global".into(),
            version: "1.1.2",
        }))
    }

    pub fn handler(state: &Arc<Mutex<State>>) -> Arc<dyn Handler> {
        Arc::new(Agent(Arc::clone(state)))
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

fn plain(status: &str, body: &str) -> Reply {
    let headers = [("Vary", "Accept-Encoding"), ("Content-Type", "text/plain; charset=utf-8")];
    Reply::with(status, &headers, body.as_bytes())
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl State {
    fn knows(&self, token: &str) -> bool {
        token == TOKEN || self.cluster.as_ref().is_some_and(|cluster| cluster.knows(token))
    }

    fn refused(&mut self, request: &Request) -> Option<Reply> {
        if self.unknown_times > 0 {
            self.unknown_times -= 1;
            return Some(plain("400 Bad Request", "ACL token not found"));
        }
        if request.query.contains("region=nosuch") {
            return Some(plain("500 Internal Server Error", "No path to region"));
        }
        if !self.has_leader {
            return Some(plain("500 Internal Server Error", "No cluster leader"));
        }
        // `Authorization: Bearer` is not understood.
        match request.header("x-nomad-token") {
            token if self.knows(token) => None,
            "" | TOKEN_LOW => Some(plain("403 Forbidden", "Permission denied")),
            token if token.len() == 36 => Some(plain("400 Bad Request", "ACL token not found")),
            _ => Some(plain(
                "500 Internal Server Error",
                "acl token lookup failed: index error: UUID must be 36 characters",
            )),
        }
    }

    fn snapshot(&mut self, request: &Request) -> Reply {
        if let Some(reply) = self.refused(request) {
            return reply;
        }
        let digest = match self.digest {
            DigestHeader::Sha256 => format!("sha-256={}", base64(&sha2::Sha256::digest(&self.snapshot))),
            DigestHeader::Sha512 => format!("sha-512={}", base64(&sha2::Sha512::digest(&self.snapshot))),
            DigestHeader::Odd => "md5=1B2M2Y8AsgTpgAmY7PhCfg==".into(),
            DigestHeader::OfSomethingElse => format!("sha-256={}", base64(&sha2::Sha256::digest(b"x"))),
            DigestHeader::Missing => String::new(),
        };
        // All of Nomad's API is behind a handler that compresses for those who accept it.
        if request.header("accept-encoding").contains("gzip") {
            self.fault = Fault::GzipAgain { told: true };
        }
        let mut headers = vec![("Vary", "Accept-Encoding"), ("Content-Type", "application/x-gzip")];
        if !digest.is_empty() {
            headers.push(("Digest", &digest));
        }
        Reply::archive(&headers, &self.snapshot, &self.fault, request.header("x-nomad-token"))
    }
}

const AGENT_SELF: &str = r#"{"config": {"Region": "global", "Datacenter": "dc1", "NodeName": "nomad-tr", "Version": {"Revision": "", "Version": "1.1.2", "VersionMetadata": "", "VersionPrerelease": ""}}, "member": {"Name": "nomad-tr.global"}, "stats": {"nomad": {"leader": "true"}, "raft": {"state": "Leader", "term": "2", "last_log_index": "15", "applied_index": "15", "num_peers": "0"}}}"#;

impl Handler for Agent {
    fn refuse(&self, request: &Request) -> Option<Reply> {
        let mut state = self.0.lock().unwrap();
        let is_restore = request.path == PATH && request.method != "GET";
        let reply = is_restore.then(|| state.refused(request)).flatten()?;
        let race = plain("500 Internal Server Error", "msgpack encode error: io: read/write on closed pipe");
        Some(if state.race { race } else { reply })
    }

    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.0.lock().unwrap();
        let is_known = state.knows(request.header("x-nomad-token"));
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/status/leader") if state.has_leader => {
                Reply::text("200 OK", "application/json", "\"127.0.0.1:23647\"")
            }
            ("GET", "/v1/status/leader") => plain("500 Internal Server Error", "No cluster leader"),
            ("GET", "/v1/agent/self") if is_known => {
                let text =
                    AGENT_SELF.replace("1.1.2", state.version).replace("\"global\"", &format!("{:?}", state.region));
                let text =
                    text.replace("\"applied_index\": \"15\"", &format!("\"applied_index\": \"{}\"", state.index));
                Reply::text("200 OK", "application/json", &text)
            }
            ("GET", "/v1/agent/self") => plain("403 Forbidden", "Permission denied"),
            ("GET", "/v1/acl/token/self") if is_known => {
                Reply::text("200 OK", "application/json", r#"{"AccessorID":"eb70c0cc","Type":"management"}"#)
            }
            ("GET", "/v1/acl/token/self") => plain("404 Not Found", "ACL token not found"),
            ("GET", PATH) => state.snapshot(request),
            ("PUT" | "POST", PATH) if request.body.starts_with(&[0x1f, 0x8b]) => {
                state.restored = Some(request.body.clone());
                state.snapshot = state.after_restore.clone().unwrap_or_else(|| request.body.clone());
                state.has_leader &= !state.loses_leader;
                plain("200 OK", "")
            }
            ("PUT" | "POST", PATH) => plain(
                "500 Internal Server Error",
                "failed to restore from snapshot: failed to decompress snapshot: EOF",
            ),
            (_, PATH) => plain("405 Method Not Allowed", "Invalid method"),
            _ => plain("404 Not Found", ""),
        }
    }
}
