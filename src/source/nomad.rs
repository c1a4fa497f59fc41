//! Nomad: any agent, also a task's API socket, hands the request on to the leader. The body has a Digest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::address::Address;
use super::catalog;
use super::consul::Consul;
use super::http::{Endpoint, Http};
use super::raft::{Agent, Raft, Stats, first};
use super::restore::{Preflight, Settled, Target};
use super::settings::NomadSettings;
use super::upload::{BodyWriter, Restoring};
use super::{Body, Service, ServiceKind, Snapshot, SourceError};

/// A Nomad cluster.
#[derive(Debug)]
pub struct Nomad {
    pub(super) raft: Raft,
    catalog: Option<Arc<Consul>>,
}

/// What is of use in `/v1/agent/self`.
#[derive(Deserialize)]
pub(super) struct AgentSelf {
    config: AgentConfig,
    #[serde(default)]
    stats: Stats,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentConfig {
    region: Option<String>,
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TokenSelf {
    r#type: String,
}

impl From<AgentSelf> for Agent {
    fn from(AgentSelf { config, stats }: AgentSelf) -> Self {
        let version = config.version.map(|Version { version, version_prerelease: pre }| match pre.as_str() {
            "" => version,
            pre => format!("{version}-{pre}"),
        });
        Self { version, cluster: config.region, datacenter: config.datacenter, stats }
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
        let NomadSettings { reach, token, region, stale, fresh_token } = settings;
        let raft = Raft {
            http: Http::new(ServiceKind::Nomad, reach, warn)?,
            token,
            // `Authorization: Bearer` is not understood by older versions (facts 8).
            token_header: "x-nomad-token",
            fresh_token,
            snapshot_path: "/v1/operator/snapshot",
            key: "region",
            meant: region,
            stale,
        };
        Ok(Self { raft, catalog })
    }

    pub(super) async fn addresses(&self) -> Result<Vec<Address>, SourceError> {
        catalog::addresses(&self.raft.http, self.catalog.as_ref()).await
    }

    /// The first address at which `ask` succeeds.
    pub(super) async fn first<T, F: Future<Output = Result<T, SourceError>>>(
        &self,
        ask: impl Fn(Endpoint) -> F,
    ) -> Result<T, SourceError> {
        first(&self.raft.http, self.addresses().await?, ask).await
    }

    async fn snapshot_at(&self, endpoint: Endpoint) -> Result<Snapshot, SourceError> {
        let facts = self.raft.facts::<AgentSelf>(&endpoint).await?;
        let answer = self.raft.snapshot(&endpoint).await?;
        let mut warnings = Vec::new();
        let body = Body::open(answer, true, &mut warnings).await?;
        Ok(Snapshot { body, facts, warnings })
    }
}

#[async_trait]
impl Service for Nomad {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Nomad
    }

    async fn open_snapshot(&self) -> Result<Snapshot, SourceError> {
        self.first(|endpoint| self.snapshot_at(endpoint)).await
    }
}

#[async_trait]
impl Target for Nomad {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Nomad
    }

    async fn preflight(&self) -> Result<Preflight, SourceError> {
        self.first(|endpoint| async move {
            // Without ACLs everything is allowed, and there is no token to look at.
            let is_permitted = async {
                let token = endpoint.look::<TokenSelf>("/v1/acl/token/self", &self.raft.token().ok()?).await;
                token.ok().map(|token| token.r#type == "management")
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
