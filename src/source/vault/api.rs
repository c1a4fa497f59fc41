//! Small requests to Vault: the addresses in turn, one safe redirect, and the retries of Vault's own client
//! (facts 1.1): after 1 to 1.5 s, on 5xx but 501, 412, 429, and where there is no answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::super::address::Address;
use super::super::catalog::{self, token_header};
use super::super::consul::Consul;
use super::super::error::Operation;
use super::super::http::{Answer, Endpoint, Http, Request};
use super::super::secret::Secret;
use super::super::settings::VaultSettings;
use super::super::{ServiceKind, SourceError, lock};
use super::{redirect, request_header};
use crate::world::{Machine, World};

/// The longest answer: a KV secret has 1 MiB at most by default (max_entry_size).
const REPLY_LEN_BYTES_MAX: usize = 4 << 20;

/// Vault, as far as small requests concern it.
#[derive(Debug)]
pub(super) struct Api {
    http: Http,
    settings: VaultSettings,
    namespace: Option<HeaderValue>,
    catalog: Option<Arc<Consul>>,
    /// The least wait before a retry; the most is half as much again.
    retry_delay: Duration,
    /// Connections, until the next login: certificate files may have changed by then.
    endpoints: Mutex<HashMap<Address, Endpoint>>,
    /// The address that answered last is asked first.
    last_good: Mutex<Option<Address>>,
    /// Whether the session was closed: nothing is tried again then.
    closed: watch::Receiver<bool>,
}

/// What a request carries.
#[derive(Debug)]
pub(super) struct Payload {
    json: Bytes,
    secrets: Vec<Secret>,
}

impl Payload {
    /// An object of texts, all of them secret.
    pub(super) fn secret(fields: &[(&'static str, &Secret)]) -> Self {
        Self::with_public(fields, "")
    }

    /// An object of texts, all of them secret but the one called `public`: it may be quoted.
    pub(super) fn with_public(fields: &[(&'static str, &Secret)], public: &str) -> Self {
        let object: BTreeMap<&str, &str> = fields.iter().map(|(name, value)| (*name, value.expose())).collect();
        let secret = fields.iter().filter(|(name, _)| *name != public);
        Self { json: wiped(&object), secrets: secret.map(|(_, value)| (*value).clone()).collect() }
    }

    /// Anything without a secret in it.
    pub(super) fn plain(value: &serde_json::Value) -> Self {
        Self { json: wiped(value), secrets: Vec::new() }
    }
}

/// JSON that is wiped from memory after use.
fn wiped(value: &impl Serialize) -> Bytes {
    // Maps of texts and JSON values cannot fail to be written.
    Bytes::from_owner(Zeroizing::new(serde_json::to_vec(value).unwrap_or_default()))
}

/// A small request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) method: Method,
    /// Path and query, beginning with `/v1/`.
    pub(super) path: String,
    pub(super) token: Option<Secret>,
    pub(super) payload: Option<Payload>,
    /// Whether it is asked in the login's namespace, or in the root.
    pub(super) in_namespace: bool,
    /// Whether it may be asked a second time when the answer to the first was lost.
    pub(super) is_repeatable: bool,
    /// Whether status 404 is an answer too.
    pub(super) takes_404: bool,
    /// Whether it is sent, and sent again, after the session was closed.
    pub(super) is_for_closing: bool,
    /// How long one answer may take; none: as the settings say.
    pub(super) limit: Option<Duration>,
    lost: Arc<AtomicBool>,
}

/// Tells of a request that is gone whether its answer was lost.
#[derive(Debug)]
pub(super) struct LostMark(Arc<AtomicBool>);

impl LostMark {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Call {
    pub(super) fn new(operation: Operation, method: Method, path: impl Into<String>) -> Self {
        Self {
            operation,
            method,
            path: path.into(),
            token: None,
            payload: None,
            in_namespace: true,
            is_repeatable: true,
            takes_404: false,
            is_for_closing: false,
            limit: None,
            lost: Arc::default(),
        }
    }

    pub(super) fn get(operation: Operation, path: impl Into<String>) -> Self {
        Self::new(operation, Method::GET, path)
    }

    pub(super) fn post(operation: Operation, path: impl Into<String>, payload: Payload) -> Self {
        Self { payload: Some(payload), ..Self::new(operation, Method::POST, path) }
    }

    pub(super) fn put(operation: Operation, path: impl Into<String>, payload: Payload) -> Self {
        Self { payload: Some(payload), ..Self::new(operation, Method::PUT, path) }
    }

    pub(super) fn with(mut self, token: Option<Secret>) -> Self {
        self.token = token;
        self
    }

    /// Whether it was sent and the answer did not arrive: Vault may have done what was asked.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn lost_mark(&self) -> LostMark {
        LostMark(Arc::clone(&self.lost))
    }

    fn judge<T>(&self, outcome: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(error) = &outcome {
            let is_lost = match error {
                SourceError::Silent { .. } | SourceError::Broken { .. } => true,
                SourceError::Refused { status, .. } => matches!(status, 502 | 504),
                _ => false,
            };
            self.lost.fetch_or(is_lost, Ordering::Relaxed);
        }
        outcome
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) address: String,
    operation: Operation,
    body: Zeroizing<Vec<u8>>,
}

impl Reply {
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, SourceError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // Neither a parser's words nor the text itself: both may hold a secret.
            self.nonsense(format!("its JSON is not what it should be at byte {}", error.column()))
        })
    }

    pub(super) fn nonsense(&self, reason: impl Into<String>) -> SourceError {
        let (service, address, operation) = (ServiceKind::Vault, self.address.clone(), self.operation);
        SourceError::Nonsense { service, address, operation, reason: reason.into() }
    }
}

impl Api {
    pub(super) fn new(
        settings: VaultSettings,
        catalog: Option<Arc<Consul>>,
        retry_delay: Duration,
        closed: watch::Receiver<bool>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, SourceError> {
        let http = Http::new(ServiceKind::Vault, settings.reach.clone(), warn)?;
        let namespace = settings.namespace.as_deref().map(str::trim).filter(|name| !name.trim_matches('/').is_empty());
        let namespace = namespace.map(HeaderValue::try_from).transpose().map_err(|_| SourceError::Setting {
            service: ServiceKind::Vault,
            name: "the namespace".into(),
            reason: "it holds characters that no header can carry".into(),
        })?;
        let (endpoints, last_good) = Default::default();
        Ok(Self { http, settings, namespace, catalog, retry_delay, endpoints, last_good, closed })
    }

    /// Whether there is a namespace other than the root.
    pub(super) fn has_namespace(&self) -> bool {
        self.namespace.is_some()
    }

    /// Sends a request until it is answered, or cannot succeed.
    pub(super) async fn call(&self, call: &Call) -> Result<Reply, SourceError> {
        let mut retries = self.settings.max_retries;
        loop {
            let error = match self.at_each_address(call).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let is_final = !error.is_transient() || (call.is_lost() && !call.is_repeatable);
            if retries == 0 || is_final || (!call.is_for_closing && *self.closed.borrow()) {
                tracing::debug!(path = %call.path, %error, "Vault did not do it");
                return Err(error);
            }
            retries -= 1;
            let delay = self.pause();
            tracing::debug!(path = %call.path, %error, ?delay, "asking Vault again");
            let mut closed = self.closed.clone();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = closed.wait_for(|closed| *closed), if !call.is_for_closing => return Err(error),
            }
        }
    }

    /// New connections from now on.
    pub(super) fn reconnect(&self) {
        lock(&self.endpoints).clear();
    }

    fn pause(&self) -> Duration {
        self.retry_delay + self.retry_delay / 2 * (Machine.random_u32() % 1000) / 1000
    }

    /// The address that answered last is the first.
    async fn addresses(&self) -> Result<Vec<Address>, SourceError> {
        let mut addresses = catalog::addresses(&self.http, self.catalog.as_ref()).await?;
        let last_good = lock(&self.last_good).clone();
        if let Some(at) = last_good.and_then(|good| addresses.iter().position(|address| *address == good)) {
            addresses[..=at].rotate_right(1);
        }
        Ok(addresses)
    }

    async fn at_each_address(&self, call: &Call) -> Result<Reply, SourceError> {
        let mut errors = Vec::new();
        for address in self.addresses().await? {
            let error = match call.judge(self.at(&address, call).await) {
                Ok(reply) => {
                    *lock(&self.last_good) = Some(address);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            // What a cluster says through one of its nodes, it says through all of them.
            if !error.is_of_this_node() || (call.is_lost() && !call.is_repeatable) {
                return Err(error);
            }
            errors.push(error);
        }
        Err(SourceError::join(ServiceKind::Vault, errors))
    }

    async fn at(&self, address: &Address, call: &Call) -> Result<Reply, SourceError> {
        let path = call.path.split('?').next().unwrap_or_default();
        let answer = self.send(&self.endpoint(address)?, call).await?;
        if !answer.is_redirect() {
            return reply(answer, call).await;
        }
        let to = redirect::target(&answer, path, &self.settings)?;
        let answer = match self.send(&self.endpoint(&to)?, call).await {
            Ok(again) if again.is_redirect() => return Err(redirect::second(&again, path)),
            Ok(again) => again,
            Err(error) => {
                let error = call.judge::<()>(Err(error)).err().unwrap_or(SourceError::Stopped);
                let (service, via) = (ServiceKind::Vault, answer.address());
                return Err(SourceError::Leader { service, via, source: Box::new(error) });
            }
        };
        reply(answer, call).await
    }

    fn endpoint(&self, address: &Address) -> Result<Endpoint, SourceError> {
        if let Some(endpoint) = lock(&self.endpoints).get(address) {
            return Ok(endpoint.clone());
        }
        let endpoint = self.http.endpoint(address)?;
        lock(&self.endpoints).insert(address.clone(), endpoint.clone());
        Ok(endpoint)
    }

    async fn send(&self, endpoint: &Endpoint, call: &Call) -> Result<Answer, SourceError> {
        let mut headers = request_header();
        headers.extend(token_header("x-vault-token", call.token.clone()));
        let mut request = Request::look(&call.path, &headers, &endpoint.patience);
        (request.operation, request.method) = (call.operation, call.method.clone());
        request.phase = "when asked for something small";
        request.limit = call.limit.unwrap_or(request.limit).min(request.limit);
        let (operation, phase, limit) = (request.operation, request.phase, request.limit);
        let mut builder = endpoint.prepared(&request)?;
        if let Some(namespace) = self.namespace.as_ref().filter(|_| call.in_namespace) {
            builder = builder.header("x-vault-namespace", namespace);
        }
        if let Some(payload) = &call.payload {
            builder = builder.header(CONTENT_TYPE, "application/json").body(payload.json.clone());
        }
        let response = tokio::time::timeout(limit, builder.send()).await.map_err(|_| endpoint.silent(phase, limit))?;
        let response = response.map_err(|error| endpoint.failed(&error, operation))?;
        // What was secret in the request is not repeated from an error page.
        let of_payload = call.payload.iter().flat_map(|payload| &payload.secrets);
        headers.extend(of_payload.map(|secret| ("", secret.clone())));
        Ok(endpoint.answered(operation, &headers, response))
    }
}

async fn reply(mut answer: Answer, call: &Call) -> Result<Reply, SourceError> {
    let is_answer = answer.is_success() || (answer.status == 404 && call.takes_404);
    if !is_answer {
        return Err(told(answer.refused().await));
    }
    let body = Zeroizing::new(answer.start_of_body(REPLY_LEN_BYTES_MAX).await);
    if !body.is_empty() && serde_json::from_slice::<IgnoredAny>(&body).is_err() {
        let (service, address, operation) = (ServiceKind::Vault, answer.address(), answer.operation);
        let reason = "what came is not whole JSON".into();
        return Err(SourceError::Broken { service, address, operation, len_bytes: body.len() as u64, reason });
    }
    Ok(Reply { status: answer.status, address: answer.address(), operation: answer.operation, body })
}

/// What a node says about itself, told from what Vault says about a request.
pub(super) fn told(error: SourceError) -> SourceError {
    let SourceError::Refused { service, address, message, .. } = &error else { return error };
    match message.as_str() {
        "Vault is sealed" => SourceError::Sealed { address: address.clone() },
        text if text.contains("no active Vault instance") || text.contains("active cluster node not found") => {
            SourceError::NoLeader { service: *service, address: address.clone() }
        }
        _ => error,
    }
}
