//! The HTTP side of opendal, ours so that three things can be had which opendal does not give: the Date of an answer, a limit
//! on the length of a body, and errors that keep status, code and Retry-After apart.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use opendal::raw::Timestamp;
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};

use super::super::{Patience, StoreError, StoreTime};
use super::settings::Settings;

/// The most of a refusal's body that is looked at.
const REFUSAL_LEN_BYTES_MAX: usize = 64 * 1024;
/// The longest message of a store that is repeated.
const MESSAGE_LEN_CHARS_MAX: usize = 300;

/// Why a request did not give what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The store answered, and the answer is no.
    #[error("{0}")]
    Refused(Refusal),
    /// No connection: the request cannot have been done.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Anything may have happened.
    #[error("connection lost: {0}")]
    Broken(String),
    /// No answer, or none of the rest of it, for this long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// The body is longer than allowed.
    #[error("answer is longer than {0} bytes")]
    TooLong(u64),
}

/// An answer with a status that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// S3's code, like `AccessDenied`; empty when there was no body, as for HEAD.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}", self.status)?;
        for text in [&self.code, &self.message] {
            if !text.is_empty() {
                write!(f, ", {text}")?;
            }
        }
        Ok(())
    }
}

/// One operation's view of the network. Cheap to make.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) client: reqwest::Client,
    /// Answers of other hosts (credentials of an instance, STS) are left to opendal.
    pub(super) own_host: Arc<str>,
    pub(super) patience: Arc<Patience>,
    pub(super) body_len_bytes_max: u64,
    /// The Date of the first answer of the store.
    pub(super) date: Arc<OnceLock<StoreTime>>,
}

impl HttpTransport for Wire {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let is_own = self.is_own(request.uri());
        let is_head = request.method() == Method::HEAD;
        let is_list = request.uri().query().is_some_and(|query| query.contains("list-type="));
        let answer = self.send(request).await.map_err(into_opendal)?;
        if is_own {
            self.note_date(answer.headers());
        }
        if is_own && !answer.status().is_success() {
            let fault = Fault::Refused(self.refusal(answer).await);
            return Err(into_opendal(fault));
        }
        if is_list && is_own {
            return self.listing(answer).await;
        }
        if !is_head && answer.content_length().is_none() {
            return self.collected(answer).await;
        }
        self.streamed(answer, is_head).map_err(into_opendal)
    }
}

/// How the page of a listing begins; what opendal does not find in another text it takes for empty.
const LISTING: &[u8] = b"<ListBucketResult";

impl Wire {
    /// Sends a request and waits for the head of its answer: as long as what is sent needs, however long the body may be that
    /// comes back.
    async fn send(&self, request: Request<Buffer>) -> Result<reqwest::Response, Fault> {
        let limit = self.patience.attempt(request.body().len() as u64);
        let request = request.map(|body| reqwest::Body::from(body.to_bytes()));
        let request = reqwest::Request::try_from(request).map_err(fault)?;
        let answer = tokio::time::timeout(limit, self.client.execute(request)).await;
        answer.map_err(|_| Fault::Silent(limit))?.map_err(fault)
    }

    /// The endpoint, or the bucket as a host below it.
    fn is_own(&self, uri: &http::Uri) -> bool {
        let host = uri.host().unwrap_or_default();
        let below = host.strip_suffix(&*self.own_host);
        below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    }

    fn note_date(&self, headers: &HeaderMap) {
        if let Some(date) = date(headers) {
            // A second answer of the same operation is later than what was asked for; the first one stays.
            let _ = self.date.set(date);
        }
    }

    fn streamed(&self, answer: reqwest::Response, is_head: bool) -> Result<Response<HttpBody>, Fault> {
        let len_bytes = answer.content_length().filter(|_| !is_head);
        let len_bytes_max = self.body_len_bytes_max;
        if len_bytes.is_some_and(|len_bytes| len_bytes > len_bytes_max) {
            return Err(Fault::TooLong(len_bytes_max));
        }
        let head = head_of(&answer);
        let pieces = stream::try_unfold((answer, len_bytes_max, self.patience.idle), next_piece);
        Ok(head.map(|()| HttpBody::new(Box::pin(pieces), len_bytes)))
    }

    /// opendal refuses a body of unstated length, which a proxy may well send: read it first, and state its length.
    async fn collected(&self, answer: reqwest::Response) -> opendal::Result<Response<HttpBody>> {
        let mut head = head_of(&answer);
        let body = self.read_all(answer).await?;
        head.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
        Ok(head.map(|()| whole(body)))
    }

    /// A page that is no listing must not look like an empty one: it would hide every backup.
    async fn listing(&self, answer: reqwest::Response) -> opendal::Result<Response<HttpBody>> {
        let head = head_of(&answer);
        let body = self.read_all(answer).await?;
        if !body.windows(LISTING.len()).take(1024).any(|window| window == LISTING) {
            return Err(into_opendal(Fault::Broken("the answer is not a listing".to_owned())));
        }
        Ok(head.map(|()| whole(body)))
    }

    async fn read_all(&self, answer: reqwest::Response) -> opendal::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut rest = Some((answer, self.body_len_bytes_max, self.patience.idle));
        while let Some(state) = rest.take() {
            if let Some((piece, state)) = next_piece(state).await? {
                body.extend_from_slice(&piece.to_bytes());
                rest = Some(state);
            }
        }
        Ok(body)
    }

    /// What the store says to a request that it refuses. Whatever goes wrong while reading it matters less than the refusal.
    async fn refusal(&self, mut answer: reqwest::Response) -> Refusal {
        let mut body = Vec::new();
        while body.len() < REFUSAL_LEN_BYTES_MAX
            && let Ok(Ok(Some(piece))) = tokio::time::timeout(self.patience.idle, answer.chunk()).await
        {
            body.extend_from_slice(&piece);
        }
        parse_refusal(answer.status(), answer.headers(), &body)
    }
}

fn head_of(answer: &reqwest::Response) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = answer.status();
    *head.headers_mut() = answer.headers().clone();
    head
}

fn whole(body: Vec<u8>) -> HttpBody {
    let len_bytes = body.len() as u64;
    let piece = (len_bytes > 0).then(|| Ok(Buffer::from(body)));
    HttpBody::new(stream::iter(piece), Some(len_bytes))
}

type Rest = (reqwest::Response, u64, Duration);

async fn next_piece((mut answer, left, idle): Rest) -> opendal::Result<Option<(Buffer, Rest)>> {
    let piece = tokio::time::timeout(idle, answer.chunk()).await;
    let piece = piece.map_err(|_| into_opendal(Fault::Silent(idle)))?;
    let Some(piece) = piece.map_err(|error| into_opendal(fault(error)))? else {
        return Ok(None);
    };
    match left.checked_sub(piece.len() as u64) {
        Some(left) => Ok(Some((piece.into(), (answer, left, idle)))),
        None => Err(into_opendal(Fault::TooLong(left))),
    }
}

/// opendal hands the fault through as the error's source, where [`find_fault`] finds it.
fn into_opendal(fault: Fault) -> opendal::Error {
    let kind = match &fault {
        Fault::Refused(refusal) if refusal.status == 404 => ErrorKind::NotFound,
        _ => ErrorKind::Unexpected,
    };
    opendal::Error::new(kind, "request failed").set_source(fault)
}

/// Our fault behind an error of opendal, if one is its cause.
pub(super) fn find_fault(error: &opendal::Error) -> Option<Fault> {
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        if let Some(fault) = source.downcast_ref::<Fault>() {
            return Some(fault.clone());
        }
        next = source.source();
    }
    None
}

fn fault(error: reqwest::Error) -> Fault {
    let is_connect = error.is_connect() || error.is_builder();
    let error = error.without_url();
    // The outer layers only repeat that a request failed.
    let mut root: &dyn std::error::Error = &error;
    while let Some(source) = root.source() {
        root = source;
    }
    let text = root.to_string();
    if is_connect { Fault::Connect(text) } else { Fault::Broken(text) }
}

fn date(headers: &HeaderMap) -> Option<StoreTime> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    let unix_ms = Timestamp::parse_rfc2822(text).ok()?.into_inner().as_millisecond();
    Some(StoreTime { unix_ms })
}

fn parse_refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (inner, _) = rest.split_once(&format!("</{name}>"))?;
        // Terminals must not be steered by a store.
        let printable = inner.chars().filter(|c| !c.is_control());
        Some(printable.take(MESSAGE_LEN_CHARS_MAX).collect::<String>())
    };
    let seconds = |value: &http::HeaderValue| value.to_str().ok()?.trim().parse().ok();
    Refusal {
        status: status.as_u16(),
        code: element("Code").unwrap_or_default(),
        message: element("Message").unwrap_or_default(),
        retry_after: headers.get(header::RETRY_AFTER).and_then(seconds).map(Duration::from_secs),
    }
}

/// The one HTTP client of a store.
pub(super) fn client(settings: &Settings, connect: Duration) -> Result<reqwest::Client, StoreError> {
    // reqwest is built without a provider of its own. An error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("hah-vault/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .tcp_keepalive(Duration::from_secs(15))
        .pool_idle_timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::limited(3))
        // Several large puts at once go faster, and fail singly, on connections of their own.
        .http1_only();
    if let Some(path) = &settings.ca_bundle {
        builder = builder.tls_certs_only(certificates(path)?);
    }
    builder
        .build()
        .map_err(|error| StoreError::Invalid { what: format!("cannot set up HTTPS: {}", fault(error)), hint: None })
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, StoreError> {
    let invalid = |why: String| StoreError::Invalid {
        what: format!("cannot use the certificates in {}: {why}", path.display()),
        hint: Some("AWS_CA_BUNDLE names a file of PEM certificates"),
    };
    let pem = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| invalid(fault(error).to_string()))?;
    if found.is_empty() {
        return Err(invalid("there are none in it".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_client() -> reqwest::Client {
        let url = "s3://bucket".parse().expect("url");
        let options = super::super::StoreOptions { region: Some("eu-west-1".to_owned()), ..Default::default() };
        let settings = Settings::resolve(&url, &options, &super::super::Nothing).expect("settings");
        client(&settings, Duration::ZERO).expect("client")
    }

    #[test]
    fn only_the_endpoint_and_buckets_below_it_are_our_own() {
        let wire = Wire {
            client: test_client(),
            own_host: "s3.eu-west-1.amazonaws.com".into(),
            patience: Arc::default(),
            body_len_bytes_max: 0,
            date: Arc::default(),
        };
        let is_own = |uri: &str| wire.is_own(&uri.parse().expect("uri"));
        assert!(is_own("https://s3.eu-west-1.amazonaws.com/bucket"));
        assert!(is_own("https://bucket.s3.eu-west-1.amazonaws.com:443/"));
        assert!(!is_own("http://169.254.169.254/latest/api/token"));
        assert!(!is_own("https://evils3.eu-west-1.amazonaws.com/"));
    }

    #[test]
    fn a_date_header_is_understood() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(header::DATE, http::HeaderValue::from_static("Sun, 22 Nov 2026 14:30:00 GMT"));
        assert_eq!(date(&headers), Some(StoreTime { unix_ms: 1_795_357_800_000 }));
        headers.insert(header::DATE, http::HeaderValue::from_static("yesterday"));
        assert_eq!(date(&headers), None);
    }

    #[test]
    fn a_refusal_is_read_from_the_body_and_stripped_of_control_characters() {
        let body = b"<?xml?><Error><Code>SlowDown</Code><Message>wait\x1b[31m a bit</Message></Error>";
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static("7"));
        let refusal = parse_refusal(StatusCode::SERVICE_UNAVAILABLE, &headers, body);
        assert_eq!(refusal.to_string(), "status 503, SlowDown, wait[31m a bit");
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
        let empty = parse_refusal(StatusCode::FORBIDDEN, &HeaderMap::new(), b"\xff<Code>");
        assert_eq!(empty.to_string(), "status 403");
    }
}
