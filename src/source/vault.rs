//! Vault and OpenBao: only the active node gives a snapshot; the others send us there, once, and not always well.

mod api;
mod closing;
mod engines;
mod error;
mod held;
mod kv;
mod leader;
pub mod login;
mod look;
mod path;
mod peers;
mod redirect;
mod renewal;
pub mod session;
mod settle;
mod tokens;
mod wrapping;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;

use super::address::Address;
use super::catalog;
use super::consul::Consul;
use super::error::Operation;
use super::http::{Answer, Endpoint, Http, Request};
use super::raft::snapshot_request;
use super::restore::{Preflight, Settled, Target};
use super::secret::Secret;
use super::settings::VaultSettings;
use super::upload::{self, BodyWriter, Restoring};
use super::{Body, Service, ServiceKind, Snapshot, SourceError};
use error::refusal;
use leader::Candidate;

pub use engines::AwsCredentials;
pub use error::SessionError;
pub use kv::Secrets;
pub use login::Login;
pub use look::TokenFacts;
pub use session::{Timing, VaultSession};

const PATH: &str = "/v1/sys/storage/raft/snapshot";
const PATH_FORCE: &str = "/v1/sys/storage/raft/snapshot-force";
/// Standby nodes answer it with 200 too.
const PATH_HEALTH: &str = "/v1/sys/health?standbyok=true&perfstandbyok=true";

/// A Vault or OpenBao cluster.
#[derive(Debug)]
pub struct Vault {
    http: Http,
    settings: VaultSettings,
    /// Where the token comes from, if not from the settings.
    session: Option<Arc<VaultSession>>,
    catalog: Option<Arc<Consul>>,
}

/// What is of use in `/v1/sys/health`.
#[derive(Debug, Deserialize)]
struct Health {
    version: Option<String>,
    cluster_id: Option<String>,
    cluster_name: Option<String>,
}

impl Vault {
    /// Checks the settings; connects to nothing yet. `catalog` is needed only where the address is in it.
    ///
    /// # Errors
    /// [`SourceError::Setting`], [`SourceError::File`].
    pub fn new(
        settings: VaultSettings,
        catalog: Option<Arc<Consul>>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, SourceError> {
        let http = Http::new(ServiceKind::Vault, settings.reach.clone(), warn)?;
        Ok(Self { http, settings, session: None, catalog })
    }

    /// The same with the tokens of a session, asked for at each request. The settings' own is not used.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_session(
        settings: VaultSettings,
        session: Arc<VaultSession>,
        catalog: Option<Arc<Consul>>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, SourceError> {
        Ok(Self { session: Some(session), ..Self::new(settings, catalog, warn)? })
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    pub(super) fn catalog(&self) -> Option<&Arc<Consul>> {
        self.catalog.as_ref()
    }

    async fn token(&self) -> Result<Option<Secret>, SourceError> {
        match &self.session {
            Some(session) => session.current().await,
            None => self.settings.token.read(ServiceKind::Vault),
        }
    }

    async fn addresses(&self) -> Result<Vec<Address>, SourceError> {
        catalog::addresses(&self.http, self.catalog.as_ref()).await
    }

    async fn snapshot_at(&self, candidate: &Candidate) -> Result<Snapshot, SourceError> {
        let endpoint = self.http.endpoint(&candidate.address)?;
        let health = match endpoint.look::<Health>(PATH_HEALTH, &request_header()).await {
            Ok(health) => Some(health),
            Err(error @ SourceError::Connect { .. }) => return Err(error),
            Err(_) => None,
        };
        let answer = self.ask(&endpoint).await?;
        let mut facts = vec![("address", answer.address())];
        if let Some(health) = health {
            let Health { version, cluster_id, cluster_name } = health;
            for (name, value) in
                [("server-version", version), ("cluster-id", cluster_id), ("cluster-name", cluster_name)]
            {
                facts.extend(value.map(|value| (name, value)));
            }
        }
        let mut warnings = Vec::new();
        let body = Body::open(answer, false, &mut warnings).await?;
        Ok(Snapshot { body, facts, warnings })
    }

    /// Asks for the snapshot, once more with another token if that of the session has run out.
    async fn ask(&self, endpoint: &Endpoint) -> Result<Answer, SourceError> {
        let token = self.token().await?;
        let outcome = self.ask_with(endpoint, token.as_ref()).await;
        let Some(session) = &self.session else { return outcome };
        match outcome {
            Err(error) if matches!(refusal(&error), Some((_, 403, _))) => {
                let Some(fresh) = session.replacement(token.as_ref()).await? else { return Err(error) };
                self.ask_with(endpoint, Some(&fresh)).await
            }
            Ok(answer) => {
                session.worked(token.as_ref());
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for the snapshot, and follows one redirect.
    async fn ask_with(&self, endpoint: &Endpoint, token: Option<&Secret>) -> Result<Answer, SourceError> {
        let headers = headers(token);
        let answer = endpoint.send(&snapshot_request(PATH, &headers, endpoint)).await?;
        if !answer.is_redirect() {
            return passed(answer).await;
        }
        let to = redirect::target(&answer, PATH, &self.settings)?;
        let endpoint = self.http.endpoint(&to)?;
        let answer = match endpoint.send(&snapshot_request(PATH, &headers, &endpoint)).await {
            Ok(again) if again.is_redirect() => return Err(redirect::second(&again, PATH)),
            Ok(answer) => answer,
            Err(error) => {
                let (service, via) = (ServiceKind::Vault, answer.address());
                return Err(SourceError::Leader { service, via, source: Box::new(error) });
            }
        };
        passed(answer).await
    }

    /// What the token may do with the two restore paths; nothing if Vault does not tell.
    async fn permissions(&self, endpoint: &Endpoint) -> Result<Option<(bool, bool)>, SourceError> {
        let headers = headers(self.token().await?.as_ref());
        let path = "/v1/sys/capabilities-self";
        let mut request = Request::look(path, &headers, &endpoint.patience);
        request.method = Method::POST;
        let body = serde_json::json!({ "paths": [&PATH[4..], &PATH_FORCE[4..]] });
        let sending = endpoint.prepared(&request)?.body(body.to_string()).send();
        let Ok(Ok(response)) = tokio::time::timeout(request.limit, sending).await else { return Ok(None) };
        let answer = endpoint.answered(request.operation, &headers, response);
        if !answer.is_success() {
            return Ok(None);
        }
        let found: serde_json::Value = answer.json().await?;
        let may = |path: &str| {
            let list = found.get(&path[4..]).and_then(serde_json::Value::as_array);
            list.is_some_and(|list| list.iter().any(|c| c == "update" || c == "root"))
        };
        Ok(Some((may(PATH), may(PATH_FORCE))))
    }
}

fn request_header() -> Vec<(&'static str, Secret)> {
    vec![("x-vault-request", Secret::from("true"))]
}

/// Agents' listeners may demand the first header, and the second is the token. Never a namespace: the snapshot's path
/// exists in the root namespace only.
fn headers(token: Option<&Secret>) -> Vec<(&'static str, Secret)> {
    let mut headers = request_header();
    headers.extend(catalog::token_header("x-vault-token", token.cloned()));
    headers
}

async fn passed(answer: Answer) -> Result<Answer, SourceError> {
    if answer.is_success() { Ok(answer) } else { Err(api::told(answer.refused().await)) }
}

#[async_trait]
impl Service for Vault {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Vault
    }

    async fn open_snapshot(&self) -> Result<Snapshot, SourceError> {
        let (candidates, mut errors) = self.candidates().await?;
        for candidate in candidates {
            let error = match self.snapshot_at(&candidate).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => candidate.explain(error),
            };
            if !error.is_of_this_node() {
                return Err(error);
            }
            errors.push(error);
        }
        Err(SourceError::join(ServiceKind::Vault, errors))
    }
}

#[async_trait]
impl Target for Vault {
    fn kind(&self) -> ServiceKind {
        ServiceKind::Vault
    }

    async fn preflight(&self) -> Result<Preflight, SourceError> {
        let (candidates, mut errors) = self.candidates().await?;
        for candidate in candidates {
            let endpoint = self.http.endpoint(&candidate.address)?;
            match endpoint.look::<Health>(PATH_HEALTH, &request_header()).await {
                Err(error) => errors.push(candidate.explain(error)),
                Ok(health) => {
                    let mut preflight = Preflight::at(candidate.address);
                    (preflight.version, preflight.cluster_id) = (health.version, health.cluster_id);
                    preflight.cluster_name = health.cluster_name;
                    preflight.index = self.index(&endpoint).await;
                    if let Some((plain, force)) = self.permissions(&endpoint).await.ok().flatten() {
                        (preflight.is_permitted, preflight.is_force_permitted) = (Some(plain), Some(force));
                    }
                    return Ok(preflight);
                }
            }
        }
        Err(SourceError::join(ServiceKind::Vault, errors))
    }

    async fn restore(&self, at: &Address, force: bool) -> Result<(BodyWriter, Restoring), SourceError> {
        let endpoint = self.http.endpoint(at)?;
        let (operation, path) = match force {
            true => (Operation::RestoreForce, PATH_FORCE),
            false => (Operation::Restore, PATH),
        };
        upload::begin(
            &endpoint,
            &Request::restore(operation, Method::POST, path, &headers(self.token().await?.as_ref())),
        )
    }

    async fn settle(&self, at: &Address, limit: Duration) -> Result<Settled, SourceError> {
        settle::settle(&self.http.endpoint(at)?, limit).await
    }

    async fn faults_after(&self, at: &Address) -> Vec<String> {
        self.peer_faults(at).await.unwrap_or_default()
    }
}
