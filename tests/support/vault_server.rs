//! A stand-in for a node of Vault 1.8, as in the transcripts: health, seal-status, leader, snapshot, restore. What the
//! nodes of a cluster share is in [`super::vault_cluster`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::certificates::acceptor;
use super::service_server::{Fault, Handler, Reply, Request, Server};
use super::vault_cluster::Cluster;

pub const TOKEN: &str = "s.0pehVnYSDXhDo315xZBMdTLR";
pub const TOKEN_LOW: &str = "s.bSbFF0jGEF6ptuR9nTNwaLRA";
pub const CLUSTER_ID: &str = "9c8e83eb-dc03-0b68-5d5b-a8935e75dff6";
pub const PATH: &str = "/v1/sys/storage/raft/snapshot";

/// What the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    Active,
    /// Without high availability.
    Alone,
    /// The leader's api_addr; empty if there is none.
    Standby(String),
    Sealed,
    Uninitialised,
    /// Only the snapshot's path gets through a proxy.
    Hidden,
}

#[derive(Debug)]
pub struct State {
    pub role: Role,
    pub snapshot: Vec<u8>,
    pub fault: Fault,
    /// Answers in place of the snapshot, used up one by one.
    pub refusals: Vec<Reply>,
    /// Where the snapshot's path redirects to, whatever the role.
    pub redirect: Option<String>,
    pub restored: Option<Vec<u8>>,
    pub cluster_id: String,
    /// Logins, tokens and secrets, where a test needs them.
    pub cluster: Option<Cluster>,
    /// Whether the token may use snapshot-force.
    pub may_force: bool,
    /// Raft's peers: address, and whether it leads.
    pub peers: Vec<(String, bool)>,
    /// Until when health hangs.
    busy_until: Option<Instant>,
    /// What comes then.
    next_role: Option<Role>,
}

pub struct VaultServer {
    pub server: Server,
    pub state: Arc<Mutex<State>>,
}

struct Node(Arc<Mutex<State>>);

/// As long as health hangs after a restore; 5.5 s in the transcripts.
const BUSY: Duration = Duration::from_millis(700);

pub fn state(role: Role, snapshot: &[u8]) -> Arc<Mutex<State>> {
    Arc::new(Mutex::new(State {
        role,
        snapshot: snapshot.to_vec(),
        fault: Fault::None,
        refusals: Vec::new(),
        redirect: None,
        restored: None,
        cluster_id: CLUSTER_ID.into(),
        cluster: None,
        may_force: false,
        peers: vec![("127.0.0.1:23201".into(), true)],
        busy_until: None,
        next_role: None,
    }))
}

pub fn handler(state: &Arc<Mutex<State>>) -> Arc<dyn Handler> {
    Arc::new(Node(Arc::clone(state)))
}

impl VaultServer {
    pub async fn start(role: Role, snapshot: &[u8]) -> Self {
        let state = state(role, snapshot);
        Self { server: Server::start(handler(&state)).await, state }
    }

    /// A node of a cluster.
    pub async fn start_in(cluster: &Cluster, role: Role, snapshot: &[u8]) -> Self {
        let server = Self::start(role, snapshot).await;
        server.set(|state| state.cluster = Some(cluster.clone()));
        server
    }

    /// The same behind TLS, as `vault.test`: it asks for our certificate.
    pub async fn start_tls_in(cluster: &Cluster, role: Role, snapshot: &[u8]) -> Self {
        let state = state(role, snapshot);
        state.lock().unwrap().cluster = Some(cluster.clone());
        Self { server: Server::start_tls(handler(&state), acceptor(true)).await, state }
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

pub fn json(status: &str, body: &str) -> Reply {
    Reply::with(status, &[("Cache-Control", "no-store"), ("Content-Type", "application/json")], body.as_bytes())
}

/// What is in a gzip: a snapshot may have been wrapped anew.
fn plain(gzip: &[u8]) -> Option<Vec<u8>> {
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip), &mut tar).ok()?;
    Some(tar)
}

fn sealed() -> Reply {
    json("503 Service Unavailable", r#"{"errors":["Vault is sealed"]}"#)
}

impl State {
    fn health(&self, query: &str) -> Reply {
        let (initialised, is_sealed, standby) = match &self.role {
            Role::Uninitialised => (false, true, true),
            Role::Sealed => (true, true, true),
            Role::Standby(_) => (true, false, true),
            _ => (true, false, false),
        };
        let status = match &self.role {
            Role::Uninitialised => "501 Not Implemented",
            Role::Sealed => "503 Service Unavailable",
            Role::Standby(_) if !query.contains("standbyok=true") => "429 Too Many Requests",
            _ => "200 OK",
        };
        let cluster = if is_sealed {
            String::new()
        } else {
            format!(r#","cluster_name":"vault-cluster-2a1f9725","cluster_id":"{}""#, self.cluster_id)
        };
        let body = format!(
            r#"{{"initialized":{initialised},"sealed":{is_sealed},"standby":{standby},"performance_standby":false,"server_time_utc":1795361711,"version":"1.8.0-dev"{cluster}}}"#
        );
        json(status, &body)
    }

    fn leader(&self) -> Reply {
        let (is_self, leader) = match &self.role {
            Role::Sealed | Role::Uninitialised => return sealed(),
            Role::Alone => return json("200 OK", r#"{"ha_enabled":false}"#),
            Role::Hidden => return Reply::text("403 Forbidden", "text/html", "<h1>Forbidden</h1>"),
            Role::Active => (true, "http://127.0.0.1:23200".to_owned()),
            Role::Standby(leader) => (false, leader.clone()),
        };
        let body = format!(
            r#"{{"ha_enabled":true,"is_self":{is_self},"leader_address":"{leader}","leader_cluster_address":"https://127.0.0.1:23201","performance_standby":false,"raft_committed_index":30,"raft_applied_index":30}}"#
        );
        json("200 OK", &body)
    }

    fn configuration(&self, request: &Request) -> Reply {
        if let Some(reply) = self.refused(request, &request.path) {
            return reply;
        }
        let server = |(address, leader): &(String, bool)| {
            format!(
                r#"{{"address":"{address}","leader":{leader},"node_id":"vault-1","protocol_version":"3","voter":true}}"#
            )
        };
        let servers: Vec<String> = self.peers.iter().map(server).collect();
        let body = format!(r#"{{"data":{{"config":{{"index":1,"servers":[{}]}}}}}}"#, servers.join(","));
        json("200 OK", &body)
    }

    fn seal_status(&self) -> Reply {
        let initialised = self.role != Role::Uninitialised;
        let is_sealed = matches!(self.role, Role::Sealed | Role::Uninitialised);
        let body = format!(
            r#"{{"type":"shamir","initialized":{initialised},"sealed":{is_sealed},"t":1,"n":1,"version":"1.8.0-dev","storage_type":"raft"}}"#
        );
        json("200 OK", &body)
    }

    fn refused(&self, request: &Request, path: &str) -> Option<Reply> {
        if let Some(location) = &self.redirect {
            return Some(Reply::with("307 Temporary Redirect", &[("Location", location)], b""));
        }
        match &self.role {
            Role::Sealed | Role::Uninitialised => return Some(sealed()),
            Role::Standby(leader) if leader.is_empty() => {
                return Some(json("503 Service Unavailable", r#"{"errors":["no active Vault instance found"]}"#));
            }
            // Also with a bad token, and 9 s after the leader's death.
            Role::Standby(leader) => {
                let location = format!("{leader}{path}");
                return Some(Reply::with("307 Temporary Redirect", &[("Location", &location)], b""));
            }
            _ => {}
        }
        if let Some(cluster) = &self.cluster {
            return cluster.refuse(request);
        }
        match request.header("x-vault-token") {
            TOKEN => None,
            "" => Some(json("400 Bad Request", r#"{"errors":["missing client token"]}"#)),
            TOKEN_LOW => Some(json("403 Forbidden", r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#)),
            _ => Some(json("403 Forbidden", r#"{"errors":["permission denied"]}"#)),
        }
    }

    /// What concerns the whole cluster: standby nodes hand it on, or send us on.
    fn of_cluster(&self, cluster: &Cluster, request: &Request) -> Reply {
        match &self.role {
            Role::Sealed | Role::Uninitialised => sealed(),
            Role::Standby(leader) if !cluster.lock().forwards => {
                let location = format!("{leader}{}", request.path);
                Reply::with("307 Temporary Redirect", &[("Location", &location)], b"")
            }
            _ => cluster.answer(request),
        }
    }

    fn snapshot(&mut self, request: &Request) -> Reply {
        if let Some(reply) = self.refused(request, PATH) {
            return reply;
        }
        if !self.refusals.is_empty() {
            return self.refusals.remove(0);
        }
        let headers = [
            ("Cache-Control", "no-store"),
            ("Content-Disposition", "attachment"),
            ("Content-Type", "application/gzip"),
        ];
        Reply::archive(&headers, &self.snapshot, &self.fault, request.header("x-vault-token"))
    }

    fn restore(&mut self, body: &[u8], force: bool) -> Reply {
        let is_gzip = body.starts_with(&[0x1f, 0x8b]);
        if !is_gzip {
            let text = r#"{"errors":["1 error occurred:\n\t* failed to decompress snapshot: EOF\n\n"]}"#;
            return json("500 Internal Server Error", text);
        }
        let is_own = body == self.snapshot || plain(body).is_some_and(|tar| Some(tar) == plain(&self.snapshot));
        if !is_own && !force {
            let text = r#"{"errors":["could not verify hash file, possibly the snapshot is using a different set of unseal keys; use the snapshot-force API to bypass this check"]}"#;
            return json("400 Bad Request", text);
        }
        self.restored = Some(body.to_vec());
        self.busy_until = Some(Instant::now() + BUSY);
        self.next_role = Some(if is_own { Role::Active } else { Role::Sealed });
        json("204 No Content", "")
    }

    /// A look while a restore is applied hangs until its end; with other keys it then gets a 500.
    fn busy(&mut self) -> Option<(Duration, Role)> {
        let until = self.busy_until.take()?;
        let role = self.next_role.take().unwrap_or(Role::Active);
        self.role = role.clone();
        Some((until.saturating_duration_since(Instant::now()), role))
    }
}

impl Handler for Node {
    fn refuse(&self, request: &Request) -> Option<Reply> {
        let is_restore = request.path.starts_with(PATH) && request.method != "GET";
        let state = self.0.lock().unwrap();
        is_restore.then(|| state.refused(request, &request.path)).flatten()
    }

    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.0.lock().unwrap();
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/sys/health") => match state.busy() {
                Some((delay, Role::Sealed)) => json("500 Internal Server Error", r#"{"errors":[]}"#).after(delay),
                Some((delay, _)) => state.health(&request.query).after(delay),
                None => state.health(&request.query),
            },
            ("GET", "/v1/sys/leader") => state.leader(),
            ("GET", "/v1/sys/seal-status") => state.seal_status(),
            ("GET", "/v1/sys/storage/raft/configuration") => state.configuration(request),
            ("GET", PATH) => state.snapshot(request),
            ("POST" | "PUT", PATH) => state.restore(&request.body, false),
            ("POST" | "PUT", "/v1/sys/storage/raft/snapshot-force") => state.restore(&request.body, true),
            _ if state.cluster.is_some() => state.of_cluster(&state.cluster.clone().unwrap(), request),
            ("POST", "/v1/sys/capabilities-self") => {
                let force = if state.may_force { "update" } else { "deny" };
                let text = r#"{"sys/storage/raft/snapshot":["read","update"],"sys/storage/raft/snapshot-force":["FORCE"],"data":{}}"#;
                json("200 OK", &text.replace("FORCE", force))
            }
            _ => json("404 Not Found", r#"{"errors":["1 error occurred:\n\t* unsupported path\n\n"]}"#),
        }
    }
}
