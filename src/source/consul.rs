//! Consul: any agent hands the request on to the leader.

pub mod session;

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;

use super::address::Address;
use super::catalog::{self, Query, token_header};
use super::error::Operation;
use super::http::{Answer, Endpoint, Http, Request, escaped, with_query};
use super::restore::{Preflight, Settled, Target, settle_raft};
use super::secret::Secret;
use super::settings::{ConsulSettings, FreshToken};
use super::upload::{self, BodyWriter, Restoring};
use super::{Body, Service, ServiceKind, Snapshot, SourceError};

const PATH: &str = "/v1/snapshot";

/// A Consul cluster.
#[derive(Debug)]
pub struct Consul {
    pub(super) http: Http,
    settings: ConsulSettings,
}

/// What is of use in `/v1/agent/self`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentSelf {
    pub(super) config: AgentConfig,
    #[serde(default)]
    stats: Stats,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentConfig {
    pub(super) datacenter: Option<String>,
    pub(super) version: Option<String>,
}

#[derive(Deserialize, Default)]
struct Stats {
    raft: Option<Raft>,
}

#[derive(Deserialize)]
struct Raft {
    applied_index: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: InstanceNode,
    service: InstanceService,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceNode {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceService {
    address: String,
    port: u16,
}

impl Consul {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`SourceError::Setting`], [`SourceError::File`].
    pub fn new(settings: ConsulSettings, warn: &mut dyn FnMut(String)) -> Result<Self, SourceError> {
        let http = Http::new(ServiceKind::Consul, settings.reach.clone(), warn)?;
        Ok(Self { http, settings })
    }

    /// A path of the data center that is meant.
    fn path(&self, path: &str, stale: bool) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.settings.datacenter.as_ref().map(|name| ("dc", name.as_str())));
        pairs.extend(stale.then_some(("stale", "")));
        with_query(path, &pairs)
    }

    pub(super) fn token(&self) -> Result<Vec<(&'static str, Secret)>, SourceError> {
        Ok(token_header("x-consul-token", self.settings.token.read(ServiceKind::Consul)?))
    }

    /// The first address at which `ask` succeeds.
    pub(super) async fn first<T, F: Future<Output = Result<T, SourceError>>>(
        &self,
        ask: impl Fn(Endpoint) -> F,
    ) -> Result<T, SourceError> {
        first(&self.http, catalog::known(&self.http)?, ask).await
    }

    /// The addresses of the passing instances of a service.
    ///
    /// # Errors
    /// [`SourceError::NothingListed`] if there are none, or if the token may not see them.
    pub async fn instances(&self, query: &Query) -> Result<Vec<Address>, SourceError> {
        let settings = &self.settings;
        let mut pairs = vec![("passing", "true")];
        pairs.extend(query.tags.iter().map(|tag| ("tag", tag.as_str())));
        let datacenter = query.datacenter.as_ref().or(settings.datacenter.as_ref());
        for (key, value) in
            [("dc", datacenter), ("ns", settings.namespace.as_ref()), ("partition", settings.partition.as_ref())]
        {
            pairs.extend(value.map(|value| (key, value.as_str())));
        }
        let path = with_query(&format!("/v1/health/service/{}", escaped(&query.service)), &pairs);
        let token = self.token()?;
        self.first(|endpoint| {
            let (path, token) = (&path, &token);
            async move {
                let mut request = Request::look(path, token, &endpoint.patience);
                request.operation = Operation::Catalog;
                let answer = patiently(settings.fresh_token, || endpoint.send(&request)).await?;
                listed(answer, query).await
            }
        })
        .await
    }

    async fn snapshot_at(&self, endpoint: Endpoint) -> Result<Snapshot, SourceError> {
        let mut facts = vec![("address", endpoint.address.to_string())];
        let token = self.token()?;
        // A token that may take snapshots need not be allowed to look at the agent.
        match endpoint.look::<AgentSelf>("/v1/agent/self", &token).await {
            Ok(agent) => {
                facts.extend(self.cluster(&agent).map(|name| ("cluster-name", name)));
                facts.extend(agent.config.version.map(|version| ("server-version", version)));
            }
            Err(error @ SourceError::Connect { .. }) => return Err(error),
            Err(_) => facts.extend(self.settings.datacenter.clone().map(|name| ("cluster-name", name))),
        }
        let answer = self.ask(&endpoint).await?;
        let mut warnings = Vec::new();
        note_headers(&answer, &mut facts, &mut warnings);
        let body = Body::open(answer, false, &mut warnings).await?;
        Ok(Snapshot { body, facts, warnings })
    }

    /// The data center that is meant: an agent hands requests on to others.
    fn cluster(&self, agent: &AgentSelf) -> Option<String> {
        self.settings.datacenter.clone().or_else(|| agent.config.datacenter.clone())
    }

    /// The Raft index of the data center that is meant, if the agent is of it.
    fn index(&self, agent: &AgentSelf) -> Option<u64> {
        if self.cluster(agent) == agent.config.datacenter { agent.index() } else { None }
    }

    /// Asks for the snapshot, again for a while if the token is fresh.
    async fn ask(&self, endpoint: &Endpoint) -> Result<Answer, SourceError> {
        let path = self.path(PATH, self.settings.stale);
        patiently(self.settings.fresh_token, || async {
            let token = self.token()?;
            endpoint.send(&snapshot_request(&path, &token, endpoint)).await
        })
        .await
    }

    pub(super) async fn look_at(&self, endpoint: &Endpoint) -> Result<(Option<AgentSelf>, String), SourceError> {
        let leader: String = endpoint.look(&self.path("/v1/status/leader", false), &[]).await?;
        let agent = endpoint.look::<AgentSelf>("/v1/agent/self", &self.token()?).await;
        Ok((agent.ok(), leader))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Authorized {
    allow: bool,
}

impl Consul {
    /// Whether the token has `acl = "write"`, which a restore needs. The web interface asks so; nothing if this Consul
    /// does not tell.
    async fn may_restore(&self, endpoint: &Endpoint) -> Option<bool> {
        let headers = self.token().ok()?;
        let mut request = Request::look("/v1/internal/acl/authorize", &headers, &endpoint.patience);
        request.method = Method::POST;
        let body = serde_json::json!([{ "Resource": "acl", "Access": "write" }]);
        let sending = endpoint.prepared(&request).ok()?.body(body.to_string()).send();
        let response = tokio::time::timeout(request.limit, sending).await.ok()?.ok()?;
        let answer = endpoint.answered(request.operation, &headers, response);
        if !answer.is_success() {
            return None;
        }
        let found: Vec<Authorized> = answer.json().await.ok()?;
        Some(found.first()?.allow)
    }
}

/// A GET of a snapshot.
pub(super) fn snapshot_request<'r>(
    path: &'r str,
    headers: &'r [(&'static str, Secret)],
    endpoint: &Endpoint,
) -> Request<'r> {
    let (limit, phase) = (endpoint.patience.first_byte, "before the snapshot's first byte");
    Request { operation: Operation::Snapshot, method: Method::GET, path, headers, limit, phase }
}

/// The answer of a request that succeeds, sent again for a while if the server does not know the token yet.
pub(super) async fn patiently<F: Future<Output = Result<Answer, SourceError>>>(
    fresh_token: FreshToken,
    ask: impl Fn() -> F,
) -> Result<Answer, SourceError> {
    let mut retries = fresh_token.retries;
    loop {
        let answer = ask().await?;
        if answer.is_success() {
            return Ok(answer);
        }
        let error = answer.refused().await;
        if retries == 0 || !error.is_unknown_token() {
            return Err(error);
        }
        retries -= 1;
        tokio::time::sleep(fresh_token.delay).await;
    }
}

/// The first address at which `ask` succeeds; an error that is not the node's own ends the search.
pub(super) async fn first<T, F: Future<Output = Result<T, SourceError>>>(
    http: &Http,
    addresses: Vec<Address>,
    ask: impl Fn(Endpoint) -> F,
) -> Result<T, SourceError> {
    let mut errors = Vec::new();
    for address in addresses {
        match ask(http.endpoint(&address)?).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                let is_last = !error.is_of_this_node();
                errors.push(error);
                if is_last {
                    break;
                }
            }
        }
    }
    Err(SourceError::join(http.service, errors))
}

async fn listed(answer: Answer, query: &Query) -> Result<Vec<Address>, SourceError> {
    let address = answer.address();
    let instances: Vec<Instance> = answer.json().await?;
    let mut found = Vec::new();
    for instance in instances {
        let host = Some(instance.service.address).filter(|host| !host.is_empty()).unwrap_or(instance.node.address);
        if let Ok(one) = Address::of(query.https, &host, instance.service.port)
            && !found.contains(&one)
        {
            found.push(one);
        }
    }
    match found.is_empty() {
        true => Err(SourceError::NothingListed { address, query: query.to_string() }),
        false => Ok(found),
    }
}

fn note_headers(answer: &Answer, facts: &mut Vec<(&'static str, String)>, warnings: &mut Vec<String>) {
    let number = |name| answer.header(name).and_then(|text| text.parse::<u64>().ok());
    facts.extend(number("x-consul-index").map(|index| ("raft-index-header", index.to_string())));
    if answer.header("x-consul-knownleader") == Some("false") {
        warnings.push(format!("Consul at {} knows no leader: the snapshot may be behind", answer.address()));
    }
    if let Some(behind_ms) = number("x-consul-lastcontact").filter(|ms| *ms > 0) {
        facts.push(("last-contact-ms", behind_ms.to_string()));
    }
}

impl AgentSelf {
    fn index(&self) -> Option<u64> {
        self.stats.raft.as_ref()?.applied_index.as_ref()?.parse().ok()
    }
}

#[async_trait]
impl Service for Consul {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Consul
    }

    async fn open_snapshot(&self) -> Result<Snapshot, SourceError> {
        self.first(|endpoint| self.snapshot_at(endpoint)).await
    }
}

#[async_trait]
impl Target for Consul {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Consul
    }

    async fn preflight(&self) -> Result<Preflight, SourceError> {
        self.first(|endpoint| async move {
            let (agent, leader) = self.look_at(&endpoint).await?;
            if leader.is_empty() {
                let address = endpoint.address.to_string();
                return Err(SourceError::NoLeader { service: ServiceKind::Consul, address });
            }
            let is_permitted = self.may_restore(&endpoint).await;
            let mut preflight = Preflight::at(endpoint.address);
            preflight.is_permitted = is_permitted;
            if let Some(agent) = agent {
                (preflight.index, preflight.cluster_name) = (self.index(&agent), self.cluster(&agent));
                preflight.version = agent.config.version;
            }
            Ok(preflight)
        })
        .await
    }

    async fn restore(&self, at: &Address, _force: bool) -> Result<(BodyWriter, Restoring), SourceError> {
        let endpoint = self.http.endpoint(at)?;
        let path = self.path(PATH, false);
        upload::begin(&endpoint, &Request::restore(Operation::Restore, Method::PUT, &path, &self.token()?))
    }

    async fn settle(&self, at: &Address, limit: Duration) -> Result<Settled, SourceError> {
        let endpoint = &self.http.endpoint(at)?;
        settle_raft(endpoint, limit, || async move {
            let (agent, leader) = self.look_at(endpoint).await?;
            Ok((leader, agent.and_then(|agent| self.index(&agent))))
        })
        .await
    }
}
