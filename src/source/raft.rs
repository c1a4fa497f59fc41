//! What Consul and Nomad have in common: any agent hands a request on to the leader of the data center or region that is
//! meant.

use std::time::{Duration, Instant};

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::SourceError;
use super::address::Address;
use super::catalog::token_header;
use super::error::Operation;
use super::http::{Answer, Endpoint, Http, Request, with_query};
use super::restore::{CALM, POLL_EVERY, Preflight, Settled};
use super::secret::Secret;
use super::settings::FreshToken;
use super::token::Token;
use super::upload::{self, BodyWriter, Restoring};

/// A cluster of such agents.
#[derive(Debug)]
pub(super) struct Raft {
    pub(super) http: Http,
    pub(super) token: Token,
    /// The header that the token goes into.
    pub(super) token_header: &'static str,
    pub(super) fresh_token: FreshToken,
    /// Where snapshots are got and put.
    pub(super) snapshot_path: &'static str,
    /// How a query says which cluster is meant: `dc`, `region`.
    pub(super) key: &'static str,
    /// The data center or region that is meant; none: the agent's own.
    pub(super) meant: Option<String>,
    /// Whether a server other than the leader may give the snapshot.
    pub(super) stale: bool,
}

/// What an agent says about itself at `/v1/agent/self`.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) version: Option<String>,
    /// Its own data center (Consul) or region (Nomad).
    pub(super) cluster: Option<String>,
    /// Its data center, where that is not its cluster.
    pub(super) datacenter: Option<String>,
    pub(super) stats: Stats,
}

/// The statistics in it.
#[derive(Debug, Deserialize, Default)]
pub(super) struct Stats {
    raft: Option<RaftStats>,
}

#[derive(Debug, Deserialize)]
struct RaftStats {
    applied_index: Option<String>,
}

impl Stats {
    fn index(&self) -> Option<u64> {
        self.raft.as_ref()?.applied_index.as_ref()?.parse().ok()
    }
}

impl Raft {
    pub(super) fn token(&self) -> Result<Vec<(&'static str, Secret)>, SourceError> {
        Ok(token_header(self.token_header, self.token.read(self.http.service)?))
    }

    /// A path of the cluster that is meant.
    pub(super) fn path(&self, path: &str, stale: bool) -> String {
        let meant = self.meant.as_ref().map(|name| (self.key, name.as_str()));
        let pairs: Vec<(&str, &str)> = meant.into_iter().chain(stale.then_some(("stale", ""))).collect();
        with_query(path, &pairs)
    }

    /// The cluster that is meant, and its Raft index if the agent is of it.
    pub(super) fn seen_by(&self, agent: &Agent) -> (Option<String>, Option<u64>) {
        match &self.meant {
            Some(meant) if agent.cluster.as_ref() != Some(meant) => (Some(meant.clone()), None),
            _ => (agent.cluster.clone(), agent.stats.index()),
        }
    }

    pub(super) async fn agent<T: DeserializeOwned + Into<Agent>>(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Agent, SourceError> {
        endpoint.look::<T>("/v1/agent/self", &self.token()?).await.map(Into::into)
    }

    /// What is told of a snapshot beside its bytes.
    pub(super) async fn facts<T: DeserializeOwned + Into<Agent>>(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Vec<(&'static str, String)>, SourceError> {
        let mut facts = vec![("address", endpoint.address.to_string())];
        match self.agent::<T>(endpoint).await {
            Ok(agent) => {
                facts.extend(self.seen_by(&agent).0.map(|name| ("cluster-name", name)));
                facts.extend(agent.version.map(|version| ("server-version", version)));
                facts.extend(agent.datacenter.map(|name| ("datacenter", name)));
            }
            Err(error @ SourceError::Connect { .. }) => return Err(error),
            // A token that may take snapshots need not be allowed to look at the agent.
            Err(_) => facts.extend(self.meant.clone().map(|name| ("cluster-name", name))),
        }
        Ok(facts)
    }

    /// Asks for the snapshot, again for a while if the token is fresh.
    pub(super) async fn snapshot(&self, endpoint: &Endpoint) -> Result<Answer, SourceError> {
        let path = self.path(self.snapshot_path, self.stale);
        patiently(self.fresh_token, || async {
            let token = self.token()?;
            endpoint.send(&snapshot_request(&path, &token, endpoint)).await
        })
        .await
    }

    /// The leader, empty if there is none, and the agent if the token may look at it.
    async fn look_at<T: DeserializeOwned + Into<Agent>>(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(Option<Agent>, String), SourceError> {
        let leader: String = endpoint.look(&self.path("/v1/status/leader", false), &[]).await?;
        Ok((self.agent::<T>(endpoint).await.ok(), leader))
    }

    /// A target that has a leader.
    pub(super) async fn preflight<T: DeserializeOwned + Into<Agent>>(
        &self,
        endpoint: &Endpoint,
        is_permitted: impl Future<Output = Option<bool>>,
    ) -> Result<Preflight, SourceError> {
        let (agent, leader) = self.look_at::<T>(endpoint).await?;
        if leader.is_empty() {
            let (service, address) = (endpoint.service, endpoint.address.to_string());
            return Err(SourceError::NoLeader { service, address });
        }
        let mut preflight = Preflight::at(endpoint.address.clone());
        preflight.is_permitted = is_permitted.await;
        if let Some(agent) = agent {
            (preflight.cluster_name, preflight.index) = self.seen_by(&agent);
            preflight.version = agent.version;
        }
        Ok(preflight)
    }

    pub(super) fn restore(&self, at: &Address) -> Result<(BodyWriter, Restoring), SourceError> {
        let (endpoint, path) = (self.http.endpoint(at)?, self.path(self.snapshot_path, false));
        upload::begin(&endpoint, &Request::restore(Operation::Restore, Method::PUT, &path, &self.token()?))
    }

    /// Waits until there has been a leader for a while. A restore is applied before it is answered.
    pub(super) async fn settle<T: DeserializeOwned + Into<Agent>>(
        &self,
        at: &Address,
        limit: Duration,
    ) -> Result<Settled, SourceError> {
        let endpoint = self.http.endpoint(at)?;
        let started = Instant::now();
        let mut calm_since: Option<Instant> = None;
        loop {
            let state = match self.look_at::<T>(&endpoint).await {
                Ok((agent, leader)) if !leader.is_empty() => {
                    let since = *calm_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= CALM {
                        let index = agent.and_then(|agent| self.seen_by(&agent).1);
                        return Ok(Settled::Active { cluster_id: None, index });
                    }
                    "it has just found a leader".to_owned()
                }
                other => {
                    calm_since = None;
                    other.err().map_or_else(|| "it has no leader".into(), |error| error.to_string())
                }
            };
            if started.elapsed() > limit {
                let (service, address) = (endpoint.service, endpoint.address.to_string());
                return Err(SourceError::Unsettled { service, address, state, limit });
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
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
