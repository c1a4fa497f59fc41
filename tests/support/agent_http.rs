//! An agent that listens, and a way to ask it.

use super::agent::{Commits, CountingTelemetry, NotingWorker, Replica, job, settings};
use hah_vault::agent::api::{Access, Api};
use hah_vault::agent::lock::Alone;
use hah_vault::agent::serve::{Listen, Listener, TlsFiles};
use hah_vault::agent::{Agent, AgentSettings, Clock, MachineClock, RunKind};
use hah_vault::world::Machine;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// The token of agents that have one.
pub const TOKEN: &str = "t0ken-of-the-tests-0123456789abcdef";

/// How the agent listens.
#[derive(Default)]
pub struct How {
    pub no_token: bool,
    pub socket: bool,
    pub tls: Option<TlsFiles>,
    pub hosts: Vec<String>,
    pub budget_bytes: Option<u64>,
}

/// An agent with one hourly source, which has a snapshot; its schedules are paused.
pub struct Served {
    pub agent: Arc<Agent>,
    pub worker: Arc<NotingWorker>,
    pub base: String,
    pub token_file: PathBuf,
    pub socket: PathBuf,
    pub http: reqwest::Client,
    pub folder: tempfile::TempDir,
    replica: Option<Replica>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub kind: String,
    pub headers: http::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Served {
    pub async fn start() -> Self {
        Self::start_with(How::default()).await
    }

    pub async fn start_with(how: How) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let socket = folder.path().join("agent.sock");
        let clock: Arc<dyn Clock> = Arc::new(MachineClock::new(Machine::shared()));
        let worker = Arc::new(NotingWorker::new(Arc::clone(&clock), Arc::new(Commits::default())));
        worker.takes_ms.store(0, Ordering::Relaxed);
        let jobs = vec![job(RunKind::Backup, Some("vault"), "@hourly", 0), job(RunKind::Gc, None, "@daily", 0)];
        let settings = AgentSettings { can_restore: true, budget_bytes: how.budget_bytes, ..settings("tests", jobs) };
        let (lock, telemetry) = (Arc::new(Alone::new(None)), Arc::new(CountingTelemetry::default()));
        let replica = Replica::start(settings, clock, Arc::clone(&worker) as _, lock, telemetry);
        let agent = Arc::clone(&replica.agent);
        // The first backup is due at once.
        while worker.commits.all().is_empty() || !agent.registry.open().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let access = Access {
            token_file: (!how.no_token).then(|| token_file.clone()),
            hosts: how.hosts.clone(),
            ..Access::default()
        };
        let api = Api::new(Arc::clone(&agent), access.clone());
        let listen = match how.socket {
            true => Listen::Unix(socket.clone()),
            false => "127.0.0.1:0".parse().unwrap(),
        };
        let listener = Listener::bind(&listen, how.tls.as_ref(), &access).await.unwrap();
        let base = match listener.address() {
            Listen::Tcp(address) if how.tls.is_some() => format!("https://vault.test:{}", address.port()),
            Listen::Tcp(address) => format!("http://{address}"),
            Listen::Unix(_) => "http://localhost".into(),
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn({
            let api = api.clone();
            async move { listener.serve(&api, async { drop(stopped.await) }).await }
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        if how.socket {
            http = http.unix_socket(socket.clone());
        }
        Self {
            agent,
            worker,
            base,
            token_file,
            socket,
            http: http.build().unwrap(),
            folder,
            replica: Some(replica),
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    /// The port of a TCP listener.
    pub fn port(&self) -> u16 {
        self.base.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let kind = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        let kind = kind.split(';').next().unwrap().to_owned();
        let text = String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status, kind, headers, text, json }
    }

    /// With the token.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path).bearer_auth(TOKEN)).await
    }

    /// With the token and a JSON body.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let request = self.request(method, path).bearer_auth(TOKEN);
        self.send(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, id: &str) -> Value {
        loop {
            let run = self.get(&format!("/v1/runs/{id}")).await.json;
            if !matches!(run["state"].as_str(), Some("queued" | "running")) {
                return run;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// In good order.
    pub async fn stop(&mut self) {
        self.replica.take().unwrap().stop().await;
        drop(self.stop.take());
        self.serving.take().unwrap().await.unwrap();
    }
}
