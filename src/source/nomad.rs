//! Nomad: any agent, also a task's API socket, hands the request on to the leader. The body has a Digest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;

use super::address::Address;
use super::catalog::{self, token_header};
use super::consul::{Consul, first, patiently, snapshot_request};
use super::error::Operation;
use super::http::{Answer, Endpoint, Http, Request, with_query};
use super::restore::{Preflight, Settled, Target, settle_raft};
use super::secret::Secret;
use super::settings::NomadSettings;
use super::upload::{self, BodyWriter, Restoring};
use super::{Body, Service, ServiceKind, Snapshot, SourceError};

const PATH: &str = "/v1/operator/snapshot";

/// A Nomad cluster.
#[derive(Debug)]
pub struct Nomad {
    pub(super) http: Http,
    settings: NomadSettings,
    catalog: Option<Arc<Consul>>,
}

/// What is of use in `/v1/agent/self`.
#[derive(Deserialize)]
pub(super) struct AgentSelf {
    pub(super) config: AgentConfig,
    #[serde(default)]
    stats: Stats,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentConfig {
    pub(super) region: Option<String>,
    datacenter: Option<String>,
    version: Option<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    #[serde(default)]
    version_prerelease: String,
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
struct TokenSelf {
    r#type: String,
}

impl AgentSelf {
    fn index(&self) -> Option<u64> {
        self.stats.raft.as_ref()?.applied_index.as_ref()?.parse().ok()
    }

    pub(super) fn version(&self) -> Option<String> {
        let version = self.config.version.as_ref()?;
        let dash = if version.version_prerelease.is_empty() { "" } else { "-" };
        Some(format!("{}{dash}{}", version.version, version.version_prerelease))
    }
}

impl Nomad {
    /// Checks the settings; connects to nothing yet. `catalog` is needed only where the address is in it.
    ///
    /// # Errors
    /// [`SourceError::Setting`], [`SourceError::File`].
    pub fn new(
        settings: NomadSettings,
        catalog: Option<Arc<Consul>>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, SourceError> {
        let http = Http::new(ServiceKind::Nomad, settings.reach.clone(), warn)?;
        Ok(Self { http, settings, catalog })
    }

    /// `Authorization: Bearer` is not understood by older versions (facts 8).
    pub(super) fn token(&self) -> Result<Vec<(&'static str, Secret)>, SourceError> {
        Ok(token_header("x-nomad-token", self.settings.token.read(ServiceKind::Nomad)?))
    }

    /// A path of the region that is meant.
    fn path(&self, path: &str, stale: bool) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.settings.region.as_ref().map(|name| ("region", name.as_str())));
        pairs.extend(stale.then_some(("stale", "")));
        with_query(path, &pairs)
    }

    pub(super) async fn addresses(&self) -> Result<Vec<Address>, SourceError> {
        catalog::addresses(&self.http, self.catalog.as_ref()).await
    }

    async fn snapshot_at(&self, endpoint: Endpoint) -> Result<Snapshot, SourceError> {
        let mut facts = vec![("address", endpoint.address.to_string())];
        // A token that may take snapshots need not be allowed to look at the agent.
        match endpoint.look::<AgentSelf>("/v1/agent/self", &self.token()?).await {
            Ok(agent) => {
                facts.extend(agent.version().map(|version| ("server-version", version)));
                facts.extend(self.cluster(&agent).map(|region| ("cluster-name", region)));
                facts.extend(agent.config.datacenter.map(|name| ("datacenter", name)));
            }
            Err(error @ SourceError::Connect { .. }) => return Err(error),
            Err(_) => facts.extend(self.settings.region.clone().map(|region| ("cluster-name", region))),
        }
        let answer = self.ask(&endpoint).await?;
        let mut warnings = Vec::new();
        let body = Body::open(answer, true, &mut warnings).await?;
        Ok(Snapshot { body, facts, warnings })
    }

    /// The region that is meant: an agent hands requests on to others.
    fn cluster(&self, agent: &AgentSelf) -> Option<String> {
        self.settings.region.clone().or_else(|| agent.config.region.clone())
    }

    /// The Raft index of the region that is meant, if the agent is of it.
    fn index(&self, agent: &AgentSelf) -> Option<u64> {
        if self.cluster(agent) == agent.config.region { agent.index() } else { None }
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

#[async_trait]
impl Service for Nomad {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Nomad
    }

    async fn open_snapshot(&self) -> Result<Snapshot, SourceError> {
        first(&self.http, self.addresses().await?, |endpoint| self.snapshot_at(endpoint)).await
    }
}

#[async_trait]
impl Target for Nomad {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Nomad
    }

    async fn preflight(&self) -> Result<Preflight, SourceError> {
        let look = |endpoint: Endpoint| async move {
            let (agent, leader) = self.look_at(&endpoint).await?;
            if leader.is_empty() {
                let address = endpoint.address.to_string();
                return Err(SourceError::NoLeader { service: ServiceKind::Nomad, address });
            }
            let token = endpoint.look::<TokenSelf>("/v1/acl/token/self", &self.token()?).await;
            let mut preflight = Preflight::at(endpoint.address.clone());
            // Without ACLs everything is allowed, and there is no token to look at.
            preflight.is_permitted = token.ok().map(|token| token.r#type == "management");
            if let Some(agent) = agent {
                (preflight.index, preflight.cluster_name) = (self.index(&agent), self.cluster(&agent));
                preflight.version = agent.version();
            }
            Ok(preflight)
        };
        first(&self.http, self.addresses().await?, look).await
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
