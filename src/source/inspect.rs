//! What is at an address, and what a token may do there: for whoever tests a configuration without taking a snapshot.

use hah_vault_format::UnixTime;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::address::Address;
use super::catalog;
use super::http::{Answer, Endpoint, Http, Request};
use super::raft::{Agent, Raft};
use super::secret::Secret;
use super::{Consul, Nomad, SourceError, Vault, consul, nomad};

/// An address, and what is there.
#[derive(Debug)]
pub struct Sight {
    /// The address.
    pub address: Address,
    /// A server, or why there is none to be seen.
    pub seen: Result<Seen, SourceError>,
}

/// A server.
#[derive(Debug, Default)]
pub struct Seen {
    /// What it is at the moment, in a few words: `active`, `standby`.
    pub state: String,
    /// Its version.
    pub version: Option<String>,
    /// Its cluster's name, data center or region.
    pub cluster: Option<String>,
    /// Its clock, in seconds since 1970.
    pub unix_s: Option<i64>,
    /// What keeps it from giving snapshots.
    pub fault: Option<SourceError>,
}

/// Whether a token may take snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// It may; why, in a few words.
    Granted(String),
    /// It may not; why.
    Denied(String),
    /// The server does not tell; what would have to be so.
    Unknown(String),
}

/// Vault's answer with status 200 whatever the node's state is.
const HEALTH: &str =
    "/v1/sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200&drsecondarycode=200";

#[derive(Deserialize)]
struct Health {
    initialized: bool,
    sealed: bool,
    #[serde(default)]
    standby: bool,
    version: Option<String>,
    cluster_name: Option<String>,
    server_time_utc: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Allowed {
    allow: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NomadToken {
    r#type: String,
    #[serde(default)]
    name: String,
    policies: Option<Vec<String>>,
}

impl Vault {
    /// What is at each of its addresses.
    ///
    /// # Errors
    /// The addresses cannot be found out.
    pub async fn inspect(&self) -> Result<Vec<Sight>, SourceError> {
        let http = self.http();
        let addresses = catalog::addresses(http, self.catalog()).await?;
        Ok(each(http, addresses, |endpoint| async move {
            let headers = [("x-vault-request", Secret::from("true"))];
            let answer = endpoint.send(&Request::look(HEALTH, &headers, &endpoint.patience)).await?;
            let (unix_s, address) = (date(&answer), answer.address());
            // Older proxies and servers keep their status; the body tells all the same.
            let health: Health = match answer.status {
                200..=299 | 429 | 472 | 473 | 501 | 503 => answer.json().await?,
                _ => return Err(answer.refused().await),
            };
            let (state, fault) = match health {
                Health { initialized: false, .. } => ("not initialised", Some(SourceError::Uninitialised { address })),
                Health { sealed: true, .. } => ("sealed", Some(SourceError::Sealed { address })),
                Health { standby: true, .. } => ("standby", None),
                _ => ("active", None),
            };
            let Health { version, cluster_name: cluster, server_time_utc, .. } = health;
            Ok(Seen { state: state.into(), version, cluster, unix_s: server_time_utc.or(unix_s), fault })
        })
        .await)
    }
}

impl Consul {
    /// What is at each of its addresses.
    ///
    /// # Errors
    /// The addresses cannot be found out.
    pub async fn inspect(&self) -> Result<Vec<Sight>, SourceError> {
        let addresses = catalog::known(&self.raft.http)?;
        Ok(each(&self.raft.http, addresses, |endpoint| self.raft.inspect::<consul::AgentSelf>(endpoint)).await)
    }

    /// Whether the token may take snapshots: `acl = "write"` (facts 2.1).
    ///
    /// # Errors
    /// No address answers.
    pub async fn permission(&self) -> Result<Permission, SourceError> {
        self.first(|endpoint| async move { self.permission_at(&endpoint).await }).await
    }

    /// The same for restores.
    pub(super) async fn permission_at(&self, endpoint: &Endpoint) -> Result<Permission, SourceError> {
        let body = serde_json::json!([{ "Resource": "acl", "Access": "write" }]);
        let answer = post(endpoint, "/v1/internal/acl/authorize", &self.raft.token()?, body.to_string()).await?;
        match answer.status {
            200 => Ok(match answer.json::<Vec<Allowed>>().await?.as_slice() {
                [Allowed { allow: true }] => Permission::Granted("the token has acl = \"write\"".into()),
                _ => Permission::Denied("the token lacks acl = \"write\"".into()),
            }),
            404 => Ok(Permission::Unknown("the token needs acl = \"write\"".into())),
            _ => refusal(answer).await,
        }
    }
}

impl Nomad {
    /// What is at each of its addresses.
    ///
    /// # Errors
    /// The addresses cannot be found out.
    pub async fn inspect(&self) -> Result<Vec<Sight>, SourceError> {
        let addresses = self.addresses().await?;
        Ok(each(&self.raft.http, addresses, |endpoint| self.raft.inspect::<nomad::AgentSelf>(endpoint)).await)
    }

    /// Whether the token may take snapshots: a management token, or one with the capability `snapshot-save`
    /// (facts 3.1).
    ///
    /// # Errors
    /// No address answers.
    pub async fn permission(&self) -> Result<Permission, SourceError> {
        let token = &self.raft.token()?;
        self.first(|endpoint| async move {
            let answer = endpoint.send(&Request::look("/v1/acl/token/self", token, &endpoint.patience)).await?;
            if !answer.is_success() {
                return match answer.status {
                    404 => Ok(Permission::Denied("the token is unknown".into())),
                    500 if token.is_empty() => Ok(Permission::Denied("there is no token".into())),
                    _ => refusal(answer).await,
                };
            }
            let NomadToken { r#type, name, policies } = answer.json().await?;
            if r#type == "management" {
                return Ok(Permission::Granted("a management token".into()));
            }
            let policies = policies.unwrap_or_default().join(", ");
            Ok(Permission::Unknown(format!(
                "the token {name:?} with the policies {policies} is no management token: it needs operator {{ \
                 capabilities = [\"snapshot-save\"] }}, which Nomad has from 1.11.3 on"
            )))
        })
        .await
    }
}

/// A refusal to tell about a token, as far as it says something about it.
async fn refusal(answer: Answer) -> Result<Permission, SourceError> {
    let error = answer.refused().await;
    match &error {
        SourceError::Refused { message, .. } if message.contains("ACL support disabled") => {
            Ok(Permission::Granted("access control is off".into()))
        }
        SourceError::Refused { status: 400 | 403, message, .. } => {
            Ok(Permission::Denied(format!("the token is refused: {message}")))
        }
        _ => Err(error),
    }
}

/// Looks at all addresses at the same time.
async fn each<F: Future<Output = Result<Seen, SourceError>>>(
    http: &Http,
    addresses: Vec<Address>,
    look: impl Fn(Endpoint) -> F,
) -> Vec<Sight> {
    let sights = addresses.into_iter().map(|address| {
        let looking = http.endpoint(&address).map(&look);
        async move {
            let seen = match looking {
                Ok(looking) => looking.await,
                Err(error) => Err(error),
            };
            Sight { address, seen }
        }
    });
    futures::future::join_all(sights).await
}

impl Raft {
    /// An agent's status, which needs no token, and what it is, if the token may look.
    async fn inspect<T: DeserializeOwned + Into<Agent>>(&self, endpoint: Endpoint) -> Result<Seen, SourceError> {
        let path = self.path("/v1/status/leader", false);
        let answer = endpoint.send(&Request::look(&path, &[], &endpoint.patience)).await?;
        if !answer.is_success() {
            return Err(answer.refused().await);
        }
        let unix_s = date(&answer);
        let leader: String = answer.json().await?;
        let (service, address) = (endpoint.service, endpoint.address.to_string());
        let fault = leader.is_empty().then_some(SourceError::NoLeader { service, address });
        let state = if fault.is_some() { "without a leader" } else { "has a leader" };
        let agent = self.agent::<T>(&endpoint).await.ok();
        let cluster = agent.as_ref().and_then(|agent| self.seen_by(agent).0);
        let version = agent.and_then(|agent| agent.version);
        Ok(Seen { state: state.into(), version, cluster, unix_s, fault })
    }
}

async fn post(
    endpoint: &Endpoint,
    path: &str,
    headers: &[(&'static str, Secret)],
    body: String,
) -> Result<Answer, SourceError> {
    let mut request = Request::look(path, headers, &endpoint.patience);
    request.method = Method::POST;
    let sending = endpoint.prepared(&request)?.header("content-type", "application/json").body(body).send();
    let silent = |_| endpoint.silent(request.phase, request.limit);
    let response = tokio::time::timeout(request.limit, sending).await.map_err(silent)?;
    let response = response.map_err(|error| endpoint.failed(&error, request.operation))?;
    Ok(endpoint.answered(request.operation, headers, response))
}

/// The Date header, to the second.
fn date(answer: &Answer) -> Option<i64> {
    http_date(answer.header("date")?)
}

/// `Sun, 22 Nov 2026 15:30:11 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_once(", ")?.1.split([' ', ':']).collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    let month = MONTHS.iter().zip(1..).find(|(name, _)| words.get(1) == Some(*name))?.1;
    let (day, year, hour, minute, second) = (number(0)?, number(2)?, number(3)?, number(4)?, number(5)?);
    let time = UnixTime::from_civil(year, month, day, hour, minute, second)?;
    i64::try_from(time.unix_s()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date("Sun, 22 Nov 2026 15:30:11 GMT"), Some(1_795_361_411));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        for text in ["", "Sun", "Sun, 22 Foo 2026 15:30:11 GMT", "Sun, 22 Nov 2026", "Sun, 22 Nov 2026 25:30:11 GMT"] {
            assert_eq!(http_date(text), None, "{text}");
        }
    }
}
