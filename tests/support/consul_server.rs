//! A real Consul: `tests/setup_consul.sh` fetches it.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The program, from the PATH or from where setup_consul.sh puts it. Without it tests say so and pass, except in CI.
pub fn consul() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let fetched = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target).join("tools/consul");
    for program in [PathBuf::from("consul"), fetched] {
        if Command::new(&program).arg("version").output().is_ok() {
            return Some(program);
        }
    }
    assert!(std::env::var_os("CI").is_none(), "consul is missing: run tests/setup_consul.sh");
    println!("NOT TESTED: consul is missing: run tests/setup_consul.sh");
    None
}

/// Ports that are free for TCP and UDP at the moment.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running server with ACLs on. Killed when dropped.
pub struct ConsulServer {
    child: Child,
    pub master: String,
    pub http_port: u16,
    pub https_port: u16,
    pub rpc_port: u16,
    pub serf_port: u16,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl ConsulServer {
    /// A cluster of its own.
    pub async fn start(program: &PathBuf, master: &str) -> Self {
        let server = Self::launch(program, "node-1", master, 1, &[]);
        server.wait_until_ready().await;
        server
    }

    /// Three servers.
    pub async fn start_three(program: &PathBuf, master: &str) -> Vec<Self> {
        let mut servers: Vec<Self> = Vec::new();
        for number in 1..=3 {
            let join: Vec<u16> = servers.iter().map(|server| server.serf_port).collect();
            servers.push(Self::launch(program, &format!("node-{number}"), master, 3, &join));
        }
        for server in &servers {
            server.wait_until_ready().await;
        }
        servers
    }

    fn launch(program: &PathBuf, node: &str, master: &str, expect: usize, join: &[u16]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (http_port, https_port) = (free_port(), free_port());
        let (rpc_port, serf_port) = (free_port(), free_port());
        let tls = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls_names");
        let number = node.trim_start_matches("node-");
        let config = json!({
            "datacenter": "dc1",
            "node_name": node,
            // A server that takes a dead one's place takes its name and id too.
            "node_id": format!("c4d8fc0f-9aa1-4302-0245-b82e89ceb14{number}"),
            "data_dir": folder.path().join("data"),
            "server": true,
            "bootstrap_expect": expect,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": {"http": http_port, "https": https_port, "server": rpc_port, "serf_lan": serf_port,
                      "serf_wan": -1, "dns": -1, "grpc": -1},
            "acl": {"enabled": true, "default_policy": "deny", "tokens": {"master": master, "agent": master}},
            "ca_file": tls.join("authority.pem"), "cert_file": tls.join("server.pem"),
            "key_file": tls.join("server.key.pem"), "verify_incoming_https": true,
            "retry_join": join.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>(),
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "disable_update_check": true,
            "log_level": "warn",
        });
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.arg("agent").arg("-config-file").arg(&file).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let master = master.into();
        Self { child, master, http_port, https_port, rpc_port, serf_port, http, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn wait_until_ready(&self) {
        let started = Instant::now();
        // The leader is there first, the ACLs a moment later.
        while self.try_get("/v1/acl/token/self", &self.master).await.is_none() {
            let log = std::fs::read_to_string(self._folder.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "consul does not come up: {log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_get(&self, path: &str, token: &str) -> Option<Value> {
        let request = self.http.get(format!("{}{path}", self.url())).header("x-consul-token", token);
        let answer = request.send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// A GET that must succeed.
    pub async fn get(&self, path: &str, token: &str) -> Value {
        self.try_get(path, token).await.unwrap_or_else(|| panic!("{path} was refused"))
    }

    /// A PUT that must succeed.
    pub async fn put(&self, path: &str, body: Vec<u8>) -> Value {
        let request = self.http.put(format!("{}{path}", self.url())).header("x-consul-token", &self.master).body(body);
        let answer = request.send().await.unwrap();
        let (status, bytes) = (answer.status(), answer.bytes().await.unwrap());
        assert!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }

    /// Keys, services of other nodes, sessions, policies and tokens. Gives the secret of a token that may take
    /// snapshots and nothing else, and of one that may not.
    pub async fn fill(&self) -> (String, String) {
        for number in 0..120_u32 {
            let value = [number.to_le_bytes().repeat(40), vec![0, 0xff, b'\n']].concat();
            self.put(&format!("/v1/kv/app/{number:03}/config?flags={number}"), value).await;
        }
        for number in 0..6 {
            let service = json!({"Node": format!("external-{}", number % 2), "Address": "10.0.0.9",
                "NodeMeta": {"rack": "r1", "zone": "a", "env": "test"},
                "Service": {"ID": format!("web-{number}"), "Service": "web", "Tags": ["http", format!("v1.{number}")],
                            "Port": 8000 + number, "Meta": {"version": "1", "owner": "ops", "tier": "front"}},
                "Check": {"CheckID": format!("c{number}"), "Name": "alive", "Status": "passing",
                          "ServiceID": format!("web-{number}")}});
            self.put("/v1/catalog/register", service.to_string().into()).await;
        }
        for number in 0..3 {
            let session =
                json!({"Name": format!("lock-{number}"), "Node": "external-0", "NodeChecks": [], "Checks": []});
            self.put("/v1/session/create", session.to_string().into()).await;
        }
        let backup = self.token("backup", "acl = \"write\"").await;
        let low = self.token("low", "key_prefix \"app/\" { policy = \"read\" }").await;
        (backup, low)
    }

    async fn token(&self, name: &str, rules: &str) -> String {
        let policy = json!({"Name": name, "Rules": rules});
        self.put("/v1/acl/policy", policy.to_string().into()).await;
        let token = json!({"Description": name, "Policies": [{"Name": name}]});
        let token = self.put("/v1/acl/token", token.to_string().into()).await;
        token["SecretID"].as_str().unwrap().into()
    }

    /// Everything that [`Self::fill`] makes, as the server tells it.
    pub async fn dump(&self, token: &str) -> Value {
        let mut tokens: Vec<Value> = Vec::new();
        for listed in self.get("/v1/acl/tokens", token).await.as_array().unwrap() {
            let accessor = listed["AccessorID"].as_str().unwrap();
            tokens.push(self.get(&format!("/v1/acl/token/{accessor}"), token).await);
        }
        tokens.sort_by_key(|token| token["AccessorID"].as_str().unwrap().to_owned());
        json!({
            "keys": self.get("/v1/kv/?recurse", token).await,
            "services": self.get("/v1/catalog/service/web", token).await,
            "sessions": self.get("/v1/session/list", token).await,
            "policies": self.get("/v1/acl/policies", token).await,
            "tokens": tokens,
        })
    }
}

impl Drop for ConsulServer {
    fn drop(&mut self) {
        self.kill();
    }
}
