//! Credentials that secrets engines make for us, for a short time (facts 1.9).

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::super::error::Operation;
use super::super::secret::Secret;
use super::super::{SourceError, lock};
use super::api::{Call, Reply};
use super::error::{SessionError, denied, refusal};
use super::held::{Lease, Term};
use super::path;
use super::renewal;
use super::session::Inner;

/// Keys of AWS, or of what speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    /// The access key's id. Not secret by itself.
    pub access_key_id: Secret,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token of STS; none for an IAM user.
    pub session_token: Option<Secret>,
    /// How long they are good for; revoking their lease does not end those of STS.
    pub lifetime: Duration,
}

#[derive(Deserialize)]
struct Leased<T> {
    #[serde(default)]
    lease_duration: u64,
    data: Option<T>,
}

#[derive(Deserialize)]
struct LeaseOnly {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct ConsulCredentials {
    token: Secret,
}

#[derive(Deserialize)]
struct NomadCredentials {
    secret_id: Secret,
}

#[derive(Deserialize)]
struct AwsData {
    access_key: Secret,
    secret_key: Secret,
    security_token: Option<Secret>,
    /// What newer versions call it.
    session_token: Option<Secret>,
}

impl Inner {
    pub(super) async fn consul_token(self: &Arc<Self>, path: &str) -> Result<Secret, SourceError> {
        Ok(self.make::<ConsulCredentials>(path).await?.0.token)
    }

    pub(super) async fn nomad_token(self: &Arc<Self>, path: &str) -> Result<Secret, SourceError> {
        Ok(self.make::<NomadCredentials>(path).await?.0.secret_id)
    }

    pub(super) async fn aws_credentials(self: &Arc<Self>, path: &str) -> Result<AwsCredentials, SourceError> {
        let (data, lifetime) = self.make::<AwsData>(path).await?;
        Ok(AwsCredentials {
            access_key_id: data.access_key,
            secret_access_key: data.secret_key,
            session_token: data.session_token.or(data.security_token).filter(|token| !token.expose().is_empty()),
            lifetime,
        })
    }

    /// Has credentials made, and notes their lease before anybody sees them.
    async fn make<T: DeserializeOwned + Send + 'static>(
        self: &Arc<Self>,
        text: &str,
    ) -> Result<(T, Duration), SourceError> {
        let (path, query) = path::with_query(text)?;
        let (inner, url) = (Arc::clone(self), format!("/v1/{path}{query}"));
        self.detached(async move {
            let asked = Instant::now();
            let outcome = inner.send_noting(Call::get(Operation::Credentials, url), &path).await;
            let reply = outcome.map_err(|error| explain(error, &path))?;
            inner.note_lease(&reply, &path, asked)?;
            let Leased { lease_duration, data } = reply.parse::<Leased<T>>()?;
            let data = data.ok_or_else(|| reply.nonsense("there are no credentials in it"))?;
            Ok((data, Duration::from_secs(lease_duration)))
        })
        .await
    }

    /// Notes too if an answer was lost, and nothing takes back what it held: a login token of ours would.
    async fn send_noting(self: &Arc<Self>, call: Call, path: &str) -> Result<Reply, SourceError> {
        let lost = call.lost_mark();
        let outcome = self.send(call).await;
        let is_given_back = lock(&self.tokens).current.as_ref().is_some_and(|held| !held.is_batch);
        if lost.is_set() && !is_given_back {
            self.note(format!("Vault: an answer of {path} was lost; what it held lives until its lease ends"));
        }
        outcome
    }

    fn note_lease(self: &Arc<Self>, reply: &Reply, path: &str, asked: Instant) -> Result<(), SourceError> {
        let LeaseOnly { lease_id, lease_duration, renewable } = reply.parse()?;
        tracing::debug!(path, lease_duration_s = lease_duration, renewable, "Vault made credentials");
        if !lease_id.is_empty() {
            let term = Term::new(asked, lease_duration, renewable);
            lock(&self.leases).push(Lease { id: lease_id, path: path.to_owned(), term });
            renewal::start(self);
        }
        Ok(())
    }
}

fn explain(error: SourceError, path: &str) -> SourceError {
    let error = denied(error, path, "read");
    match refusal(&error) {
        Some((address, 400 | 404 | 405, message)) => {
            let (address, message) = (address.to_owned(), message.to_owned());
            SessionError::EngineRefused { address, path: path.to_owned(), message }.into()
        }
        _ => error,
    }
}
