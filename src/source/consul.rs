//! Consul: any agent hands the request on to the leader.

pub mod session;

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::address::Address;
use super::catalog::{self, Query};
use super::error::Operation;
use super::http::{Answer, Endpoint, Http, Request, escaped, with_query};
use super::inspect::Permission;
use super::raft::{Agent, Raft, Stats, first, patiently};
use super::restore::{Preflight, Settled, Target};
use super::settings::ConsulSettings;
use super::upload::{BodyWriter, Restoring};
use super::{Body, Service, ServiceKind, Snapshot, SourceError};

/// A Consul cluster.
#[derive(Debug)]
pub struct Consul {
    pub(super) raft: Raft,
    namespace: Option<String>,
    partition: Option<String>,
}

/// What is of use in `/v1/agent/self`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentSelf {
    config: AgentConfig,
    #[serde(default)]
    stats: Stats,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentConfig {
    datacenter: Option<String>,
    version: Option<String>,
}

impl From<AgentSelf> for Agent {
    fn from(AgentSelf { config, stats }: AgentSelf) -> Self {
        Self { version: config.version, cluster: config.datacenter, datacenter: None, stats }
    }
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
        let ConsulSettings { reach, token, datacenter, stale, namespace, partition, fresh_token } = settings;
        let raft = Raft {
            http: Http::new(ServiceKind::Consul, reach, warn)?,
            token,
            token_header: "x-consul-token",
            fresh_token,
            snapshot_path: "/v1/snapshot",
            key: "dc",
            meant: datacenter,
            stale,
        };
        Ok(Self { raft, namespace, partition })
    }

    /// The first address at which `ask` succeeds.
    pub(super) async fn first<T, F: Future<Output = Result<T, SourceError>>>(
        &self,
        ask: impl Fn(Endpoint) -> F,
    ) -> Result<T, SourceError> {
        first(&self.raft.http, catalog::known(&self.raft.http)?, ask).await
    }

    /// The addresses of the passing instances of a service.
    ///
    /// # Errors
    /// [`SourceError::NothingListed`] if there are none, or if the token may not see them.
    pub async fn instances(&self, query: &Query) -> Result<Vec<Address>, SourceError> {
        let mut pairs = vec![("passing", "true")];
        pairs.extend(query.tags.iter().map(|tag| ("tag", tag.as_str())));
        let datacenter = query.datacenter.as_ref().or(self.raft.meant.as_ref());
        for (key, value) in
            [("dc", datacenter), ("ns", self.namespace.as_ref()), ("partition", self.partition.as_ref())]
        {
            pairs.extend(value.map(|value| (key, value.as_str())));
        }
        let path = with_query(&format!("/v1/health/service/{}", escaped(&query.service)), &pairs);
        let token = self.raft.token()?;
        self.first(|endpoint| {
            let (path, token) = (&path, &token);
            async move {
                let mut request = Request::look(path, token, &endpoint.patience);
                request.operation = Operation::Catalog;
                let answer = patiently(self.raft.fresh_token, || endpoint.send(&request)).await?;
                listed(answer, query).await
            }
        })
        .await
    }

    async fn snapshot_at(&self, endpoint: Endpoint) -> Result<Snapshot, SourceError> {
        let mut facts = self.raft.facts::<AgentSelf>(&endpoint).await?;
        let answer = self.raft.snapshot(&endpoint).await?;
        let mut warnings = Vec::new();
        note_headers(&answer, &mut facts, &mut warnings);
        let body = Body::open(answer, false, &mut warnings).await?;
        Ok(Snapshot { body, facts, warnings })
    }
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
            // The web interface asks so; not every Consul tells.
            let is_permitted = async {
                match self.permission_at(&endpoint).await {
                    Ok(Permission::Granted(_)) => Some(true),
                    Ok(Permission::Denied(_)) => Some(false),
                    Ok(Permission::Unknown(_)) | Err(_) => None,
                }
            };
            self.raft.preflight::<AgentSelf>(&endpoint, is_permitted).await
        })
        .await
    }

    async fn restore(&self, at: &Address, _force: bool) -> Result<(BodyWriter, Restoring), SourceError> {
        self.raft.restore(at)
    }

    async fn settle(&self, at: &Address, limit: Duration) -> Result<Settled, SourceError> {
        self.raft.settle::<AgentSelf>(at, limit).await
    }
}
