//! Sessions, keys and the own registration: what an agent needs to be one of several, and to be seen.

use super::Consul;
use crate::source::error::Operation;
use crate::source::http::{Answer, Endpoint, Request, escaped, with_query};
use crate::source::secret::Secret;
use crate::source::{ServiceKind, SourceError};
use base64::Engine as _;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest id of a session that is believed.
const SESSION_ID_LEN_MAX: usize = 64;

/// A session to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'s> {
    /// Its name, for people.
    pub name: &'s str,
    /// How long it lives without renewal: 10 s to a day.
    pub ttl: Duration,
    /// How long its keys are locked for nobody after it was invalidated.
    pub lock_delay: Duration,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Its value.
    pub value: Vec<u8>,
    /// Its flags.
    pub flags: u64,
    /// The session that holds it.
    pub session: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    value: Option<String>,
    flags: u64,
    #[serde(default)]
    session: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

/// A check of the own registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtlCheck {
    /// Its id; unique on the node.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Critical after this time without an update.
    pub ttl: Duration,
}

/// The own registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Id of the instance.
    pub id: String,
    /// Name of the service.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Address; none for the node's.
    pub address: Option<String>,
    /// Port, if it listens on one.
    pub port: Option<u16>,
    /// Its checks.
    pub checks: Vec<TtlCheck>,
    /// It is forgotten after being critical for so long.
    pub deregister_after: Duration,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// All is well.
    Pass,
    /// Somebody should look.
    Warn,
    /// It is not.
    Fail,
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

impl Consul {
    /// Makes a session.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn create_session(&self, new: &NewSession<'_>) -> Result<String, SourceError> {
        let body = json!({
            "Name": new.name,
            "TTL": seconds(new.ttl),
            "LockDelay": format!("{}s", new.lock_delay.as_secs()),
            "Behavior": "release",
        });
        let answer = self.put("/v1/session/create", self.pairs(&[]), Some(body.to_string().into())).await?;
        let address = answer.address();
        let created: Created = answer.json().await?;
        if created.id.is_empty() || created.id.len() > SESSION_ID_LEN_MAX {
            let reason = "the id of the new session is empty or too long".into();
            let (service, operation) = (ServiceKind::Consul, Operation::Lock);
            return Err(SourceError::Nonsense { service, address, operation, reason });
        }
        Ok(created.id)
    }

    /// Renews a session. `false`: there is none of that id any more.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn renew_session(&self, id: &str) -> Result<bool, SourceError> {
        let path = format!("/v1/session/renew/{}", escaped(id));
        match self.put(&path, self.pairs(&[]), None).await {
            Ok(_) => Ok(true),
            Err(SourceError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a session; fine if there is none.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn destroy_session(&self, id: &str) -> Result<(), SourceError> {
        self.put(&format!("/v1/session/destroy/{}", escaped(id)), self.pairs(&[]), None).await.map(drop)
    }

    /// Puts a key under a session. `false`: another session holds it, or nobody may for now.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn acquire_key(&self, key: &str, id: &str, flags: u64, value: Vec<u8>) -> Result<bool, SourceError> {
        self.change_key(key, ("acquire", id), flags, value).await
    }

    /// Gives a key back. `false`: the session did not hold it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn release_key(&self, key: &str, id: &str, flags: u64, value: Vec<u8>) -> Result<bool, SourceError> {
        self.change_key(key, ("release", id), flags, value).await
    }

    async fn change_key(&self, key: &str, how: (&str, &str), flags: u64, value: Vec<u8>) -> Result<bool, SourceError> {
        let flags = flags.to_string();
        let pairs = self.pairs(&[how, ("flags", &flags)]);
        self.put(&key_path(key), pairs, Some(value)).await?.json().await
    }

    /// A key, as the leader knows it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn key(&self, key: &str) -> Result<Option<KeyValue>, SourceError> {
        let pairs = self.pairs(&[("consistent", "")]);
        let found = match self.request(Method::GET, &key_path(key), pairs, None).await {
            Ok(answer) => answer,
            Err(SourceError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let address = found.address();
        let listed: Vec<Listed> = found.json().await?;
        let Some(found) = listed.into_iter().next() else { return Ok(None) };
        let value = base64::engine::general_purpose::STANDARD.decode(found.value.unwrap_or_default());
        let value = value.map_err(|_| SourceError::Nonsense {
            service: ServiceKind::Consul,
            address,
            operation: Operation::Lock,
            reason: "the key's value is not base64".into(),
        })?;
        let session = found.session.filter(|session| !session.is_empty());
        Ok(Some(KeyValue { value, flags: found.flags, session }))
    }

    /// Registers the own service; again is fine.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn register(&self, service: &Registration) -> Result<(), SourceError> {
        let check = |check: &TtlCheck| {
            json!({"CheckID": check.id, "Name": check.name, "TTL": seconds(check.ttl),
                   "DeregisterCriticalServiceAfter": seconds(service.deregister_after)})
        };
        let mut body = json!({
            "ID": service.id,
            "Name": service.name,
            "Tags": service.tags,
            "Checks": service.checks.iter().map(check).collect::<Vec<Value>>(),
        });
        if let Some(address) = &service.address {
            body["Address"] = json!(address);
        }
        if let Some(port) = service.port {
            body["Port"] = json!(port);
        }
        self.put("/v1/agent/service/register", self.pairs(&[]), Some(body.to_string().into())).await.map(drop)
    }

    /// Takes the own service back.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn deregister(&self, id: &str) -> Result<(), SourceError> {
        self.put(&format!("/v1/agent/service/deregister/{}", escaped(id)), self.pairs(&[]), None).await.map(drop)
    }

    /// Says how a check stands. `false`: there is none of that id any more (the node was restarted).
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn update_check(&self, id: &str, state: CheckState, note: &str) -> Result<bool, SourceError> {
        let verb = match state {
            CheckState::Pass => "pass",
            CheckState::Warn => "warn",
            CheckState::Fail => "fail",
        };
        let path = format!("/v1/agent/check/{verb}/{}", escaped(id));
        match self.put(&path, self.pairs(&[("note", note)]), None).await {
            Ok(_) => Ok(true),
            Err(SourceError::Refused { status: 404, .. }) => Ok(false),
            // Consul 1.8 answers 500 for a check that it does not have.
            Err(SourceError::Refused { status: 500, message, .. }) if message.contains("does not have") => Ok(false),
            Err(SourceError::Refused { status: 500, message, .. }) if message.contains("Unknown check") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The pairs of a query, and those that the settings add.
    fn pairs(&self, pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (key, value) in [("ns", &self.namespace), ("partition", &self.partition)] {
            all.extend(value.as_ref().map(|value| (key.to_owned(), value.clone())));
        }
        all
    }

    async fn put(
        &self,
        path: &str,
        pairs: Vec<(String, String)>,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, SourceError> {
        self.request(Method::PUT, path, pairs, body).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        pairs: Vec<(String, String)>,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, SourceError> {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let (path, token) = (with_query(path, &pairs), self.raft.token()?);
        self.first(|endpoint| {
            let (method, path, token, body) = (method.clone(), &path, &token, body.clone());
            async move { ask_at(&endpoint, method, path, token, body).await }
        })
        .await
    }
}

fn key_path(key: &str) -> String {
    let parts: Vec<String> = key.split('/').map(escaped).collect();
    format!("/v1/kv/{}", parts.join("/"))
}

async fn ask_at(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(&'static str, Secret)],
    body: Option<Vec<u8>>,
) -> Result<Answer, SourceError> {
    let (operation, limit) = (Operation::Lock, endpoint.patience.answer);
    let request = Request { operation, method, path, headers, limit, phase: "when asked for the lock" };
    let mut builder = endpoint.prepared(&request)?;
    if let Some(body) = body {
        builder = builder.body(body);
    }
    let silent = |_| endpoint.silent(request.phase, limit);
    let response = tokio::time::timeout(limit, builder.send()).await.map_err(silent)?;
    let response = response.map_err(|error| endpoint.failed(&error, operation))?;
    let answer = endpoint.answered(operation, headers, response);
    if answer.is_success() { Ok(answer) } else { Err(answer.refused().await) }
}
