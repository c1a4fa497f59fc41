//! A small HTTP/1.1 server over raw sockets, for stand-ins whose faults no HTTP library would let one make: bodies that
//! break off, HTTP/1.0 without a length, text after the end. (So axum is not needed.)

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

/// A request, as far as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What the server does with a connection.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    Sleep(Duration),
    /// Drops the connection.
    Close,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub steps: Vec<Step>,
}

/// What goes wrong with a body.
#[derive(Debug, Clone, Default)]
pub enum Fault {
    #[default]
    None,
    /// The connection drops after so many bytes; the last chunk never comes.
    Cut(usize),
    /// A clean end after so many bytes: Nomad swallows errors so.
    CutClean(usize),
    /// Error text in place of the rest, and a clean end: Consul does so.
    TextAfter(usize, &'static str),
    /// HTTP/1.0 without a length, closed after so many bytes.
    Http10(usize),
    /// More announced than sent.
    Length,
    /// Silence before the answer.
    SlowFirstByte(Duration),
    /// Silence after so many bytes.
    Stall(usize, Duration),
    /// Compressed once more, with or without saying so.
    GzipAgain { told: bool },
    /// A proxy's page with status 200, which repeats the token.
    Html,
    /// A single sign-on redirect.
    Login,
}

fn head(version: &str, status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/{version} {status}\r\nDate: Sun, 22 Nov 2026 15:30:11 GMT\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn chunks(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(4096) {
        out.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

impl Reply {
    /// A short answer with its length.
    pub fn text(status: &str, content_type: &str, body: &str) -> Self {
        Self::with(status, &[("Content-Type", content_type)], body.as_bytes())
    }

    pub fn with(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let len = body.len().to_string();
        let mut headers = headers.to_vec();
        headers.push(("Content-Length", &len));
        let mut bytes = head("1.1", status, &headers);
        bytes.extend_from_slice(body);
        Self { steps: vec![Step::Send(bytes)] }
    }

    /// An archive, chunked as the real servers send it, with a fault.
    pub fn archive(headers: &[(&str, &str)], body: &[u8], fault: &Fault, token: &str) -> Self {
        let mut chunked = headers.to_vec();
        chunked.push(("Transfer-Encoding", "chunked"));
        let whole = |body: &[u8]| {
            let mut bytes = head("1.1", "200 OK", &chunked);
            bytes.extend(chunks(body));
            bytes.extend_from_slice(b"0\r\n\r\n");
            vec![Step::Send(bytes)]
        };
        let started = |len: usize| {
            let mut bytes = head("1.1", "200 OK", &chunked);
            bytes.extend(chunks(&body[..len]));
            Step::Send(bytes)
        };
        let steps = match fault {
            Fault::None => whole(body),
            Fault::Cut(len) => vec![started(*len), Step::Close],
            Fault::CutClean(len) => whole(&body[..*len]),
            Fault::TextAfter(len, text) => whole(&[&body[..*len], text.as_bytes()].concat()),
            Fault::Http10(len) => {
                let bytes = [&head("1.0", "200 OK", headers)[..], &body[..*len]].concat();
                vec![Step::Send(bytes), Step::Close]
            }
            Fault::Length => {
                let len = (body.len() + 100).to_string();
                let headers = [headers, &[("Content-Length", &len)]].concat();
                vec![Step::Send([&head("1.1", "200 OK", &headers)[..], body].concat()), Step::Close]
            }
            Fault::SlowFirstByte(delay) => [vec![Step::Sleep(*delay)], whole(body)].concat(),
            Fault::Stall(len, delay) => vec![started(*len), Step::Sleep(*delay), Step::Close],
            Fault::GzipAgain { told: false } => whole(&gzip(body)),
            Fault::GzipAgain { told: true } => {
                let headers = [headers, &[("Content-Encoding", "gzip")]].concat();
                return Self::with("200 OK", &headers, &gzip(body));
            }
            Fault::Html => {
                let page = format!("<html><title>Sign in</title>you sent {token}\x1b[31m</html>");
                return Self::text("200 OK", "text/html; charset=utf-8", &page);
            }
            Fault::Login => {
                let headers = [("Location", "https://sso.example.com/login?next=/v1/snapshot")];
                return Self::with("302 Found", &headers, b"");
            }
        };
        Self { steps }
    }

    /// The same after a while.
    pub fn after(mut self, delay: Duration) -> Self {
        self.steps.insert(0, Step::Sleep(delay));
        self
    }
}

/// What answers. It is asked twice: with the head of a request that has a body, when an answer refuses the body, and
/// with all of it.
pub trait Handler: Send + Sync + 'static {
    fn refuse(&self, _: &Request) -> Option<Reply> {
        None
    }
    fn answer(&self, request: &Request) -> Reply;
}

/// A running server; stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    _task: JoinSet<()>,
}

impl Server {
    /// Over plain TCP.
    pub async fn start(handler: Arc<dyn Handler>) -> Self {
        Self::start_with(handler, None).await
    }

    /// Over TLS.
    pub async fn start_tls(handler: Arc<dyn Handler>, tls: tokio_rustls::TlsAcceptor) -> Self {
        Self::start_with(handler, Some(tls)).await
    }

    async fn start_with(handler: Arc<dyn Handler>, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut task, shared) = (JoinSet::new(), Arc::clone(&log));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log, tls) = (Arc::clone(&handler), Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &handler, &log, false).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let is_known = stream.get_ref().1.peer_certificates().is_some();
                                serve(stream, &handler, &log, is_known).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, log, _task: task }
    }

    /// On a unix socket.
    pub async fn start_unix(handler: Arc<dyn Handler>, path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut task, shared) = (JoinSet::new(), Arc::clone(&log));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&shared));
                connections.spawn(async move { serve(stream, &handler, &log, false).await });
            }
        });
        Self { address: ([127, 0, 0, 1], 0).into(), log, _task: task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Those of one path.
    pub fn requests_of(&self, path: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == path).collect()
    }
}

/// Whether the client showed a certificate, handlers learn as if from a header.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    handler: &Arc<dyn Handler>,
    log: &Mutex<Vec<Request>>,
    has_certificate: bool,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(mut request) = read_head(&mut stream).await else {
            let _ = stream.write_all(&head("1.1", "400 Bad Request", &[("Connection", "close")])).await;
            return;
        };
        if has_certificate {
            request.headers.insert("client-certificate".into(), "shown".into());
        }
        let early = handler.refuse(&request);
        if early.is_none() {
            read_body(&mut stream, &mut request).await;
        }
        log.lock().unwrap().push(request.clone());
        if early.is_none() && !request.is_whole {
            return;
        }
        let is_last = early.is_some();
        for step in early.unwrap_or_else(|| handler.answer(&request)).steps {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                Step::Sleep(delay) => tokio::time::sleep(delay).await,
                Step::Close => {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
        if is_last {
            // As Go does: the answer is out, the rest of the body is not read for long.
            let _ = stream.shutdown().await;
            let mut rest = vec![0; 64 << 10];
            let _ = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut rest)).await;
            return;
        }
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request { method, path: path.into(), query: query.into(), ..Request::default() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Some(request) };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().into());
    }
}

async fn read_body<S: AsyncRead + Unpin>(stream: &mut BufReader<S>, request: &mut Request) {
    request.is_whole = true;
    if request.header("transfer-encoding") != "chunked" {
        let len = request.header("content-length").parse().unwrap_or(0);
        request.body.resize(len, 0);
        request.is_whole = stream.read_exact(&mut request.body).await.is_ok();
        return;
    }
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).await;
        let Some(len) = read.ok().and_then(|_| usize::from_str_radix(line.trim(), 16).ok()) else { break };
        let mut chunk = vec![0; len + 2];
        if stream.read_exact(&mut chunk).await.is_err() {
            break;
        }
        if len == 0 {
            return;
        }
        request.body.extend_from_slice(&chunk[..len]);
    }
    request.is_whole = false;
}
