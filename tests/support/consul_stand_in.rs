//! A stand-in for Consul, where a real one would not do what a test needs: tokens that another stand-in makes, and that
//! are not everywhere yet.

use std::sync::{Arc, Mutex};

use super::service_server::{Fault, Handler, Reply, Request, Server};
use super::vault_cluster::Cluster;

pub const PATH: &str = "/v1/snapshot";

#[derive(Debug)]
pub struct State {
    pub snapshot: Vec<u8>,
    pub fault: Fault,
    /// So many requests with a good token are refused as if it were not replicated yet.
    pub unknown_times: usize,
    /// Instances in the catalog: service, host, port.
    pub services: Vec<(String, String, u16)>,
    /// Makes the tokens.
    pub cluster: Cluster,
    /// A token that is good for the catalog, and for nothing else.
    pub catalog_token: Option<String>,
}

pub struct ConsulStandIn {
    pub server: Server,
    pub state: Arc<Mutex<State>>,
}

struct Agent(Arc<Mutex<State>>);

impl ConsulStandIn {
    pub async fn start(cluster: &Cluster, snapshot: &[u8]) -> Self {
        let state = Arc::new(Mutex::new(State {
            snapshot: snapshot.to_vec(),
            fault: Fault::None,
            unknown_times: 0,
            services: Vec::new(),
            cluster: cluster.clone(),
            catalog_token: None,
        }));
        Self { server: Server::start(Arc::new(Agent(Arc::clone(&state)))).await, state }
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

fn plain(status: &str, body: &str) -> Reply {
    Reply::text(status, "text/plain; charset=utf-8", body)
}

impl State {
    fn refused(&mut self, request: &Request) -> Option<Reply> {
        let token = request.header("x-consul-token");
        if token.is_empty() {
            return Some(plain("403 Forbidden", "Permission denied"));
        }
        if !self.cluster.knows(token) || self.unknown_times > 0 {
            self.unknown_times = self.unknown_times.saturating_sub(1);
            return Some(plain("403 Forbidden", "ACL not found"));
        }
        None
    }

    fn instances(&self, service: &str) -> Reply {
        let found = self.services.iter().filter(|(name, _, _)| name == service).map(|(name, host, port)| {
            serde_json::json!({"Node": {"Address": host}, "Service": {"Service": name, "Address": host, "Port": port}})
        });
        let found: Vec<_> = found.collect();
        Reply::text("200 OK", "application/json", &serde_json::Value::Array(found).to_string())
    }
}

const AGENT_SELF: &str = r#"{"Config":{"Datacenter":"dc1","Version":"1.8.7"},"Stats":{"raft":{"applied_index":"30"}}}"#;

impl Handler for Agent {
    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.0.lock().unwrap();
        if request.path == "/v1/status/leader" {
            return Reply::text("200 OK", "application/json", "\"127.0.0.1:8300\"");
        }
        let is_catalog = request.path.starts_with("/v1/health/service/");
        let for_catalog = is_catalog && state.catalog_token.as_deref() == Some(request.header("x-consul-token"));
        if !for_catalog && let Some(reply) = state.refused(request) {
            return reply;
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/agent/self") => Reply::text("200 OK", "application/json", AGENT_SELF),
            ("GET", PATH) => {
                let headers = [
                    ("Content-Type", "application/x-gzip"),
                    ("X-Consul-Index", "30"),
                    ("X-Consul-Knownleader", "true"),
                ];
                Reply::archive(&headers, &state.snapshot, &state.fault, request.header("x-consul-token"))
            }
            ("GET", path) if path.starts_with("/v1/health/service/") => {
                state.instances(path.trim_start_matches("/v1/health/service/"))
            }
            _ => plain("404 Not Found", ""),
        }
    }
}
