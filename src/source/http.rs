//! One request to one server: headers, time-outs, no redirects, no decompression, and refusals quoted safely.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Address, HostClass};
use super::error::{Operation, is_about_certificates};
use super::secret::{Secret, masked};
use super::settings::{Authorities, Patience, Reach};
use super::{ServiceKind, SourceError, tls};
use crate::snapshot::printable::printable;

/// The most of a refusal's body that is looked at.
const REFUSAL_LEN_BYTES_MAX: usize = 64 << 10;
/// The longest answer to a small request: Consul's agent/self has some 10 KiB, a catalog's may have more.
const ANSWER_LEN_BYTES_MAX: usize = 16 << 20;
/// How many characters of an error's text are kept.
const REASON_LEN_CHARS_MAX: usize = 300;

/// How a service is talked to.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) service: ServiceKind,
    reach: Reach,
}

/// One server, with a connection to it.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) service: ServiceKind,
    pub(super) address: Address,
    pub(super) patience: Patience,
    client: reqwest::Client,
    headers: HeaderMap,
    server_name: Option<String>,
    secrets: Vec<Secret>,
}

impl Http {
    /// Checks the settings, and warns through `warn` of what is dangerous in them.
    pub(super) fn new(service: ServiceKind, reach: Reach, warn: &mut dyn FnMut(String)) -> Result<Self, SourceError> {
        if reach.tls.skip_verify {
            warn(format!(
                "{service}: certificates are NOT verified: whoever stands between sees and may change the token and \
                 the snapshot"
            ));
        }
        let this = Self { service, reach };
        // Certificates that cannot be read are told now rather than at three in the morning. The system's own are left
        // until they are needed: a container without any reaches a plain address or a socket all the same.
        let tls = &this.reach.tls;
        if tls.authorities != Authorities::System || tls.client.is_some() {
            this.builder(true)?.build().map_err(|error| this.setting("TLS", root_cause(&error)))?;
        }
        this.headers()?;
        Ok(this)
    }

    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    fn setting(&self, name: &str, reason: impl Into<String>) -> SourceError {
        SourceError::Setting { service: self.service, name: name.into(), reason: reason.into() }
    }

    fn builder(&self, https: bool) -> Result<reqwest::ClientBuilder, SourceError> {
        tls::install_provider();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("hah-vault/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.reach.patience.connect)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            // A retry of a restore would be a second one.
            .retry(reqwest::retry::never())
            // A body that is cut short is an error in HTTP/1.1; and these servers gain nothing from HTTP/2.
            .http1_only();
        match https {
            true => tls::apply(builder, &self.reach.tls, self.service),
            // The system's authorities are not loaded for nothing, nor missed in a container without any.
            false => Ok(builder.tls_certs_only([])),
        }
    }

    /// The way to a server. Certificate files are read again: they are renewed like tokens.
    pub(super) fn endpoint(&self, address: &Address) -> Result<Endpoint, SourceError> {
        let mut builder = self.builder(address.is_https())?;
        let server_name = self.reach.tls.server_name.clone().filter(|_| address.is_https());
        if let (Some(_), Some(host)) = (&server_name, address.host()) {
            builder = builder.dns_resolver(Stands { host: host.to_owned() });
        }
        if let Some(path) = address.socket() {
            builder = builder.unix_socket(path);
        } else if let Some(proxy) = &self.reach.proxy {
            let proxy =
                reqwest::Proxy::all(proxy.expose()).map_err(|_| self.setting("the proxy", "it is not a URL"))?;
            builder = builder.proxy(proxy);
        } else if address.class() == HostClass::Loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| self.setting("TLS", root_cause(&error)))?;
        let mut secrets: Vec<Secret> = self.reach.headers.iter().map(|(_, value)| value.clone()).collect();
        secrets.extend(self.reach.basic_auth.as_ref().and_then(|auth| auth.password.clone()));
        secrets.extend(self.basic());
        Ok(Endpoint {
            service: self.service,
            address: address.clone(),
            patience: self.reach.patience,
            client,
            headers: self.headers()?,
            server_name,
            secrets,
        })
    }

    fn headers(&self) -> Result<HeaderMap, SourceError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.reach.headers {
            let bad = || self.setting("a header", format!("{} is not a header", printable(name.as_bytes())));
            let name = HeaderName::try_from(name).map_err(|_| bad())?;
            headers.append(name, sensitive(value.expose()).ok_or_else(bad)?);
        }
        // The payload is gzip itself, and Consul and Nomad would wrap it once more (facts 0.9).
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(basic) = self.basic() {
            let value = Secret::new(format!("Basic {}", basic.expose()));
            let bad = || self.setting("the user and password", "they cannot be sent");
            headers.insert(header::AUTHORIZATION, sensitive(value.expose()).ok_or_else(bad)?);
        }
        Ok(headers)
    }

    /// User and password as they are sent. An error page may repeat them in this form too.
    fn basic(&self) -> Option<Secret> {
        let auth = self.reach.basic_auth.as_ref()?;
        let password = auth.password.as_ref().map_or("", Secret::expose);
        let plain = Secret::new(format!("{}:{password}", auth.user));
        Some(Secret::new(base64(plain.expose().as_bytes())))
    }
}

/// A path with a query; values are escaped, and a key with an empty value stands alone.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut text = path.to_owned();
    for (number, (key, value)) in pairs.iter().enumerate() {
        text.push(if number == 0 { '?' } else { '&' });
        text.push_str(key);
        if !value.is_empty() {
            text.push('=');
            text.push_str(&escaped(value));
        }
    }
    text
}

/// %-escapes everything that is not plain.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Resolves the name in a certificate to the host that was given: so the name is sent (SNI) and checked, as Go does.
struct Stands {
    host: String,
}

impl Resolve for Stands {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// A request.
pub(super) struct Request<'r> {
    pub(super) operation: Operation,
    pub(super) method: Method,
    /// Path and query, beginning with a slash.
    pub(super) path: &'r str,
    /// The service's own headers; the token among them.
    pub(super) headers: &'r [(&'static str, Secret)],
    /// How long the answer may take.
    pub(super) limit: Duration,
    /// What waiting for it is called.
    pub(super) phase: &'static str,
}

impl<'r> Request<'r> {
    /// A small GET.
    pub(super) fn look(path: &'r str, headers: &'r [(&'static str, Secret)], patience: &Patience) -> Self {
        let (limit, phase) = (patience.answer, "when asked for its state");
        Self { operation: Operation::Look, method: Method::GET, path, headers, limit, phase }
    }
}

/// The beginning of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) endpoint: Endpoint,
    pub(super) operation: Operation,
    pub(super) response: reqwest::Response,
}

impl Endpoint {
    /// Sends a request without a body.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Answer, SourceError> {
        let sending = self.prepared(request)?.send();
        let silent = |_| self.silent(request.phase, request.limit);
        let response = tokio::time::timeout(request.limit, sending).await.map_err(silent)?;
        let response = response.map_err(|error| self.failed(&error, request.operation))?;
        Ok(self.answered(request.operation, request.headers, response))
    }

    /// An answer, with what was secret in its request.
    pub(super) fn answered(
        &self,
        operation: Operation,
        headers: &[(&'static str, Secret)],
        response: reqwest::Response,
    ) -> Answer {
        let mut endpoint = self.clone();
        endpoint.secrets.extend(headers.iter().map(|(_, value)| value.clone()));
        Answer { status: response.status().as_u16(), endpoint, operation, response }
    }

    /// The JSON answer to a small GET.
    pub(super) async fn look<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&'static str, Secret)],
    ) -> Result<T, SourceError> {
        let answer = self.send(&Request::look(path, headers, &self.patience)).await?;
        if answer.is_success() { answer.json().await } else { Err(answer.refused().await) }
    }

    /// A request that is ready to be sent.
    pub(super) fn prepared(&self, request: &Request<'_>) -> Result<reqwest::RequestBuilder, SourceError> {
        let url = self.address.url(request.path, self.server_name.as_deref());
        let mut builder = self.client.request(request.method.clone(), url).headers(self.headers.clone());
        if let (Some(_), Some(authority)) = (&self.server_name, self.address.authority()) {
            builder = builder.header(header::HOST, authority);
        }
        for (name, value) in request.headers {
            let value = sensitive(value.expose()).ok_or_else(|| SourceError::Setting {
                service: self.service,
                name: (*name).into(),
                reason: "it cannot be sent".into(),
            })?;
            builder = builder.header(*name, value);
        }
        Ok(builder)
    }

    pub(super) fn silent(&self, phase: &'static str, limit: Duration) -> SourceError {
        SourceError::Silent { service: self.service, address: self.address.to_string(), phase, limit }
    }

    pub(super) fn failed(&self, error: &reqwest::Error, operation: Operation) -> SourceError {
        let (service, address, reason) = (self.service, self.address.to_string(), root_cause(error));
        if error.is_connect() || error.is_builder() || is_about_our_certificate(&reason) {
            SourceError::Connect { service, address, reason }
        } else {
            SourceError::Broken { service, address, operation, len_bytes: 0, reason }
        }
    }
}

/// Whether the server ended the handshake because of our certificate, or because there is none. With TLS 1.3 that comes
/// when we have sent the request already; the server has not read it.
fn is_about_our_certificate(reason: &str) -> bool {
    reason.strip_prefix("received fatal alert: ").is_some_and(is_about_certificates)
}

/// What is at the bottom of an error, without URL, printable and cut. The layers above only repeat that it failed.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    // reqwest's own text names the URL; those below do not know it.
    let text = if error.source().is_none() { "the request failed".into() } else { root.to_string() };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_LEN_CHARS_MAX).collect()
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn is_redirect(&self) -> bool {
        matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }

    pub(super) fn address(&self) -> String {
        self.endpoint.address.to_string()
    }

    /// The beginning of the body, whatever goes wrong after it. All of it has the time of one answer: a server that
    /// sends a byte now and then would hold us up for ever.
    pub(super) async fn start_of_body(&mut self, len_bytes_max: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let Patience { gap, answer, .. } = self.endpoint.patience;
        let started = Instant::now();
        while body.len() < len_bytes_max {
            let limit = answer.saturating_sub(started.elapsed()).min(gap);
            let Ok(Ok(Some(piece))) = tokio::time::timeout(limit, self.response.chunk()).await else { break };
            body.extend_from_slice(&piece);
        }
        body.truncate(len_bytes_max);
        body
    }

    /// Foreign text, fit for an error message.
    pub(super) fn quote(&self, bytes: &[u8]) -> String {
        let text = masked(String::from_utf8_lossy(bytes).into_owned(), &self.endpoint.secrets);
        printable(text.as_bytes())
    }

    /// The refusal that this answer is.
    pub(super) async fn refused(mut self) -> SourceError {
        let body = self.start_of_body(REFUSAL_LEN_BYTES_MAX).await;
        let message = match vault_errors(&body) {
            Some(errors) => self.quote(&errors),
            // JSON of another form may well be the answer to a login, under a status that somebody in between chose.
            None if body.trim_ascii_start().starts_with(b"{") => String::new(),
            None => self.quote(&body),
        };
        let (service, address) = (self.endpoint.service, self.address());
        if message == "No cluster leader" {
            return SourceError::NoLeader { service, address };
        }
        SourceError::Refused { service, address, operation: self.operation, status: self.status, message }
    }

    /// The JSON of a small answer.
    pub(super) async fn json<T: serde::de::DeserializeOwned>(mut self) -> Result<T, SourceError> {
        let body = self.start_of_body(ANSWER_LEN_BYTES_MAX).await;
        let (service, address, operation) = (self.endpoint.service, self.address(), self.operation);
        serde_json::from_slice(&body).map_err(|error| {
            // Neither a parser's line nor the text itself: it may hold a secret.
            let reason = format!("its JSON ends or breaks at byte {} of {}", error.column(), body.len());
            SourceError::Nonsense { service, address, operation, reason }
        })
    }
}

/// The texts in Vault's `{"errors":[…]}`.
fn vault_errors(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let found: Errors = serde_json::from_slice(body).ok()?;
    let texts: Vec<&str> = found.errors.iter().map(|e| e.trim_start_matches("1 error occurred:").trim()).collect();
    Some(texts.join("; ").into_bytes())
}
