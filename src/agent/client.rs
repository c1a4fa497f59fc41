//! A client of another agent's control API: `--agent URL`.

use super::registry::RunState;
use crate::source::Secret;
use bytes::BytesMut;
use http::{Method, header};
use reqwest::Response;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Longest answer; a page of a thousand manifests has some 500 KiB.
const ANSWER_LEN_BYTES_MAX: usize = 16 << 20;
/// Longest single event.
const EVENT_LEN_BYTES_MAX: usize = 4 << 20;
/// An answer must be there after this.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// A stream is silent for at most so long: the agent sends a sign of life every 15 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How often a stream that broke is asked for again.
const FOLLOW_TRIES: u32 = 10;
/// The wait before each.
const FOLLOW_RETRY: Duration = Duration::from_secs(2);
/// Longest CA or token file.
const FILE_LEN_BYTES_MAX: u64 = 4 << 20;

/// An agent did not do what was asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The URL.
    #[error("{url:?} is no agent's URL: http://HOST:PORT, https://HOST:PORT or unix:///PATH")]
    Url {
        /// As given.
        url: String,
    },
    /// The token or CA file.
    #[error("cannot use the {what} {}: {reason}", .path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nobody is there.
    #[error("cannot reach the agent at {url}: {reason}")]
    Connect {
        /// Its URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// It refused.
    #[error("the agent at {url} refuses ({status}): {detail}")]
    Refused {
        /// Its URL.
        url: String,
        /// The status.
        status: u16,
        /// What is wrong, for programs.
        code: String,
        /// In its words.
        detail: String,
        /// What to do, in its words.
        hint: Option<String>,
    },
    /// It talks nonsense.
    #[error("the answer of the agent at {url} makes no sense: {reason}")]
    Nonsense {
        /// Its URL.
        url: String,
        /// Why.
        reason: String,
    },
}

/// How an agent is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// `http://HOST:PORT`, `https://HOST:PORT`, `unix:///PATH`.
    pub url: String,
    /// File whose first line is the token.
    pub token_file: Option<PathBuf>,
    /// PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// A client.
#[derive(Debug)]
pub struct AgentClient {
    url: String,
    base: String,
    token: Option<Secret>,
    http: reqwest::Client,
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, ClientError> {
    let failed = |reason: String| ClientError::File { what, path: path.to_owned(), reason };
    let len = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if len > FILE_LEN_BYTES_MAX {
        return Err(failed("it is longer than 4 MiB".into()));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

impl AgentClient {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::File`].
    pub fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let bad = || ClientError::Url { url: url.clone() };
        crate::source::install_tls_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("hah-vault/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .http1_only();
        let base = if let Some(path) = url.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(bad());
            }
            builder = builder.unix_socket(path).tls_certs_only([]);
            "http://localhost".to_owned()
        } else {
            let parsed = reqwest::Url::parse(&url).map_err(|_| bad())?;
            let is_plain = parsed.scheme() == "http";
            // A URL with a password would be shown in errors.
            let is_known = is_plain || parsed.scheme() == "https";
            if !is_known || parsed.host().is_none() || !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(ClientError::Url { url: "…".into() });
            }
            builder = match &settings.ca_file {
                Some(path) => {
                    let found = reqwest::Certificate::from_pem_bundle(&read(path, "CA file")?);
                    let failed = |_| ClientError::File {
                        what: "CA file",
                        path: path.clone(),
                        reason: "there is no PEM certificate in it".into(),
                    };
                    builder.tls_certs_only(found.map_err(failed)?)
                }
                None if is_plain => builder.tls_certs_only([]),
                None => builder,
            };
            url.clone()
        };
        let token = settings.token_file.as_deref().map(token).transpose()?;
        let failed = |error: reqwest::Error| ClientError::Connect { url: url.clone(), reason: cause(&error) };
        let http = builder.build().map_err(failed)?;
        Ok(Self { url, base, token, http })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, ClientError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let late = |_| self.failed("no answer within 90 s".into());
        let response = tokio::time::timeout(ANSWER_LIMIT, request.send()).await.map_err(late)?;
        let response = response.map_err(|error| self.failed(cause(&error)))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    fn failed(&self, reason: String) -> ClientError {
        ClientError::Connect { url: self.url.clone(), reason }
    }

    fn nonsense(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Nonsense { url: self.url.clone(), reason: reason.into() }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            let piece = tokio::time::timeout(SILENCE_LIMIT, response.chunk()).await;
            let piece = piece.map_err(|_| self.failed("its answer broke off".into()))?;
            let Some(piece) = piece.map_err(|error| self.failed(cause(&error)))? else { return Ok(body) };
            if body.len() + piece.len() > ANSWER_LEN_BYTES_MAX {
                return Err(self.nonsense("it is too long"));
            }
            body.extend_from_slice(&piece);
        }
    }

    async fn refused(&self, response: Response) -> ClientError {
        let status = response.status().as_u16();
        let body = self.body(response).await.unwrap_or_default();
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |field: &str| problem[field].as_str().map(printable);
        ClientError::Refused {
            url: self.url.clone(),
            status,
            code: text("code").unwrap_or_default(),
            detail: text("detail").unwrap_or_else(|| "it does not say why".into()),
            hint: text("hint"),
        }
    }

    async fn value(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let response = self.send(method, path, body).await?;
        if response.status().as_u16() == 204 {
            return Ok(Value::Null);
        }
        let bytes = self.body(response).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.nonsense("it is not JSON"))
    }

    /// Looks. `path` with its query.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.value(Method::GET, path, None).await
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.value(Method::POST, path, Some(body)).await
    }

    /// Sets something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.value(Method::PUT, path, Some(body)).await
    }

    /// Takes something away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.value(Method::DELETE, path, None).await.map(drop)
    }

    /// Follows a run to its end; `tell` gets the run after each change. A stream that breaks is asked for again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn follow(&self, id: &str, tell: &mut (dyn FnMut(&Value) + Send)) -> Result<Value, ClientError> {
        let mut tries = 0;
        loop {
            let broke = match self.stream(id, tell).await {
                Ok(Some(run)) => return Ok(run),
                Ok(None) => self.failed("the stream of events ended early".into()),
                Err(error @ (ClientError::Refused { .. } | ClientError::Nonsense { .. })) => return Err(error),
                Err(error) => error,
            };
            tries += 1;
            if tries > FOLLOW_TRIES {
                return Err(broke);
            }
            tokio::time::sleep(FOLLOW_RETRY).await;
        }
    }

    async fn stream(&self, id: &str, tell: &mut (dyn FnMut(&Value) + Send)) -> Result<Option<Value>, ClientError> {
        let mut response = self.send(Method::GET, &format!("/v1/runs/{id}/events"), None).await?;
        let mut waiting = BytesMut::new();
        loop {
            let piece = tokio::time::timeout(SILENCE_LIMIT, response.chunk()).await;
            let piece = piece.map_err(|_| self.failed("the stream of events is silent".into()))?;
            let Some(piece) = piece.map_err(|error| self.failed(cause(&error)))? else { return Ok(None) };
            waiting.extend_from_slice(&piece);
            if waiting.len() > EVENT_LEN_BYTES_MAX {
                return Err(self.nonsense("an event is too long"));
            }
            while let Some(end) = waiting.windows(2).position(|two| two == b"\n\n") {
                let event = waiting.split_to(end + 2);
                let Some(run) = data(&event) else { continue };
                let run: Value = serde_json::from_slice(&run).map_err(|_| self.nonsense("an event is not JSON"))?;
                tell(&run);
                let state = serde_json::from_value::<RunState>(run["state"].clone());
                if state.map_err(|_| self.nonsense("a run has no state"))?.is_over() {
                    return Ok(Some(run));
                }
            }
        }
    }
}

/// The data lines of an event; `None` for a sign of life.
fn data(event: &[u8]) -> Option<Vec<u8>> {
    let lines = event.split(|byte| *byte == b'\n');
    let data: Vec<&[u8]> = lines
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(|line| line.strip_prefix(b" ").unwrap_or(line))
        .collect();
    (!data.is_empty()).then(|| data.join(&b'\n'))
}

/// The first line of a file that is no comment.
fn token(path: &Path) -> Result<Secret, ClientError> {
    let bytes = zeroize::Zeroizing::new(read(path, "token file")?);
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let missing =
        || ClientError::File { what: "token file", path: path.to_owned(), reason: "there is no token in it".into() };
    line.map(Secret::from).ok_or_else(missing)
}

/// What is at the bottom of an error, without URL.
fn cause(error: &reqwest::Error) -> String {
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    if std::error::Error::source(error).is_none() { "the request failed".into() } else { printable(&root.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_without_a_host_or_with_a_password_are_refused() {
        for url in ["", "agent:8205", "ftp://x", "unix://relative", "http://user:secret@host:1"] {
            let client = AgentClient::new(&ClientSettings { url: url.into(), ..ClientSettings::default() });
            assert!(matches!(&client, Err(ClientError::Url { url }) if !url.contains("secret")), "{url}: {client:?}");
        }
        for url in ["http://127.0.0.1:8205", "http://[::1]:8205/", "unix:///run/agent.sock"] {
            assert!(
                AgentClient::new(&ClientSettings { url: url.into(), ..ClientSettings::default() }).is_ok(),
                "{url}"
            );
        }
    }

    #[test]
    fn events_are_data_lines() {
        assert_eq!(data(b"event: run\ndata: {\ndata:}\n\n"), Some(b"{\n}".to_vec()));
        assert_eq!(data(b": alive\n\n"), None);
    }
}
