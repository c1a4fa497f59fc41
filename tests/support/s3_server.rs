//! A real S3 server over a socket, in this process: s3s and s3s-fs, with faults on demand.
//!
//! It has a thread and a runtime of its own, so that blocking tests and child processes can use it too. s3s-fs checks
//! `If-None-Match: *` but not atomically, so puts are serialised here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::store::{Credentials, Patience, Secret, StoreOptions, StoreUrl};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::certificates::{acceptor, file};

pub const ACCESS_KEY_ID: &str = "AKTESTTESTTESTTEST00";
pub const SECRET_ACCESS_KEY: &str = "test-secret";
pub const BUCKET: &str = "bucket";

/// What happens to a request instead of, or after, what it asks for.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An answer with this status and S3 code, without doing anything.
    Status(u16, &'static str),
    /// The same, after doing what was asked.
    DoneButStatus(u16, &'static str),
    /// What was asked is done, and the connection is closed without an answer.
    LostAnswer,
    /// The connection is closed without doing anything.
    Closed,
    /// No answer, ever.
    Hang,
    /// Status 200 and a body without end.
    Endless,
    /// Status 200 and a few bytes, then silence.
    Stall,
    /// Status 200 and this body.
    Body(String),
    /// The same without a Content-Length.
    Chunked(Bytes),
}

/// A fault for some requests.
#[derive(Debug, Clone)]
pub struct Rule {
    pub method: Method,
    /// Requests to let pass first.
    pub skip: usize,
    /// How many requests it hits then.
    pub times: usize,
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<(Method, String)>>,
    headers: Mutex<Vec<String>>,
    date: Mutex<Option<HeaderValue>>,
    /// 0: as fast as it goes.
    bytes_per_second: AtomicU64,
    put: tokio::sync::Mutex<()>,
}

/// Finds the secret of a key's id.
type Find = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Whose requests are served: those of one key, and of the keys that somebody else makes.
#[derive(Default)]
struct Keys(Option<Find>);

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        let own = (id == ACCESS_KEY_ID).then(|| SECRET_ACCESS_KEY.to_owned());
        let found = own.or_else(|| self.0.as_ref().and_then(|find| find(id)));
        found.map(SecretKey::from).ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

/// A running server. Stops when dropped.
pub struct S3Server {
    pub root: tempfile::TempDir,
    addr: SocketAddr,
    is_tls: bool,
    state: Arc<State>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl S3Server {
    /// Starts a server with one empty bucket.
    pub fn start() -> Self {
        Self::start_with(None, Keys::default())
    }

    /// The same for keys that come and go as well: `find` gives the secret of a key's id.
    pub fn start_for(find: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::start_with(None, Keys(Some(Box::new(find))))
    }

    /// The same behind TLS, with a certificate that only `authority()` vouches for.
    pub fn start_tls() -> Self {
        Self::start_with(Some(acceptor(false)), Keys::default())
    }

    /// The file of the authority that `start_tls` needs to be trusted.
    pub fn authority() -> PathBuf {
        file("tls/authority.pem")
    }

    fn start_with(tls: Option<TlsAcceptor>, keys: Keys) -> Self {
        let is_tls = tls.is_some();
        let root = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(root.path().join(BUCKET)).expect("bucket");
        let files = s3s_fs::FileSystem::new(root.path()).expect("s3s-fs");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(keys);
        let service = builder.build();

        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let addr = listener.local_addr().expect("address");
        let state = Arc::new(State::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("listener");
                tokio::select! {
                    () = serve(listener, service, tls, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        let stop = Some(stop);
        Self { root, addr, is_tls, state, stop }
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The repository's URL in it.
    pub fn url(&self, prefix: &str) -> StoreUrl {
        format!("s3://{BUCKET}/{prefix}").parse().expect("url")
    }

    /// Options that reach it, with short time-outs.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(Credentials {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: Secret::new(SECRET_ACCESS_KEY),
                session_token: None,
            }),
            ignore_environment: true,
            patience: quick(),
            ..StoreOptions::default()
        }
    }

    /// Breaks the next requests of a kind.
    pub fn fault(&self, method: Method, times: usize, fault: Fault) {
        self.rule(Rule { method, skip: 0, times, fault });
    }

    pub fn rule(&self, rule: Rule) {
        self.state.rules.lock().expect("lock").push(rule);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.state.rules.lock().expect("lock").clear();
    }

    /// Slows all connections down, each way.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.state.bytes_per_second.store(bytes_per_second, Relaxed);
    }

    /// The Date header of all answers; `None`: the true one.
    pub fn set_date(&self, date: Option<&str>) {
        let date = date.map(|date| date.parse().expect("header value"));
        *self.state.date.lock().expect("lock") = date;
    }

    /// How many requests of a kind came in.
    pub fn count(&self, method: &Method) -> usize {
        let requests = self.state.requests.lock().expect("lock");
        requests.iter().filter(|(found, _)| found == method).count()
    }

    /// Method, path and query of all requests so far.
    pub fn requests(&self) -> Vec<(Method, String)> {
        self.state.requests.lock().expect("lock").clone()
    }

    /// The names of all headers that ever came in.
    pub fn header_names(&self) -> Vec<String> {
        self.state.headers.lock().expect("lock").clone()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Time-outs that suit a server in the same process.
pub fn quick() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        request: Duration::from_secs(5),
        idle: Duration::from_millis(1500),
        bytes_per_second_min: 1024 * 1024,
        attempts_max: 4,
        retry_delay_min: Duration::from_millis(10),
        retry_delay_max: Duration::from_millis(50),
    }
}

/// Time-outs for a server that answers nonsense or not at all.
pub fn impatient() -> Patience {
    Patience {
        connect: Duration::from_millis(500),
        request: Duration::from_millis(400),
        idle: Duration::from_millis(300),
        bytes_per_second_min: 64 << 20,
        attempts_max: 2,
        retry_delay_min: Duration::from_millis(5),
        retry_delay_max: Duration::from_millis(10),
    }
}

async fn serve(listener: TcpListener, service: S3Service, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (shared, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => pump(socket, far, shared).await,
                Some(tls) => {
                    // A client that does not trust us hangs up.
                    if let Ok(socket) = tls.accept(socket).await {
                        pump(socket, far, shared).await;
                    }
                }
            }
        });
        let (service, state) = (service.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, service.clone(), Arc::clone(&state)));
            // An error is what a closed connection is to hyper.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(near), answer).await;
        });
    }
}

/// Carries bytes between the socket and the server, at most as fast as allowed.
async fn pump(socket: impl AsyncRead + AsyncWrite, far: tokio::io::DuplexStream, state: Arc<State>) {
    let (socket_in, socket_out) = tokio::io::split(socket);
    let (far_in, far_out) = tokio::io::split(far);
    tokio::join!(carry(socket_in, far_out, &state), carry(far_in, socket_out, &state));
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, state: &State) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let rate = state.bytes_per_second.load(Relaxed);
        let room = match rate {
            0 => buffer.len(),
            rate => usize::try_from(rate / 20 + 1).unwrap_or(usize::MAX).min(buffer.len()),
        };
        let Ok(len @ 1..) = from.read(&mut buffer[..room]).await else {
            break;
        };
        if rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(len as f64 / rate as f64)).await;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

type Answer = Result<Response<s3s::Body>, std::io::Error>;

async fn answer(request: Request<Incoming>, service: S3Service, state: Arc<State>) -> Answer {
    let (service, state) = (&service, &*state);
    let fault = state.meet(&request);
    let mut answer = match fault {
        None => execute(request, service, state).await?,
        Some(Fault::LostAnswer) => {
            execute(request, service, state).await?;
            return Err(std::io::Error::other("answer lost on purpose"));
        }
        Some(Fault::DoneButStatus(status, code)) => {
            execute(request, service, state).await?;
            refuse(status, code)
        }
        Some(Fault::Closed) => return Err(std::io::Error::other("closed on purpose")),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Status(status, code)) => {
            let _ = request.into_body().collect().await;
            refuse(status, code)
        }
        Some(Fault::Endless) => Response::new(endless()),
        Some(Fault::Stall) => Response::new(stall()),
        Some(Fault::Chunked(body)) => Response::new(chunked(body)),
        Some(Fault::Body(text)) => Response::new(Bytes::from(text).into()),
    };
    if let Some(date) = state.date.lock().expect("lock").clone() {
        answer.headers_mut().insert(header::DATE, date);
    }
    Ok(answer)
}

async fn execute(request: Request<Incoming>, service: &S3Service, state: &State) -> Answer {
    let _serial = match *request.method() {
        Method::PUT => Some(state.put.lock().await),
        _ => None,
    };
    let answer = service.call(request.map(s3s::Body::from)).await;
    answer.map_err(|error| std::io::Error::other(format!("{error:?}")))
}

fn refuse(status: u16, code: &str) -> Response<s3s::Body> {
    let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let mut answer = Response::new(Bytes::from(body).into());
    *answer.status_mut() = status.try_into().expect("status");
    answer
}

fn endless() -> s3s::Body {
    let piece = Bytes::from_static(&[7; 4096]);
    let pieces = futures::stream::repeat_with(move || Ok::<_, Infallible>(Frame::data(piece.clone())));
    s3s::Body::http_body_unsync(StreamBody::new(pieces))
}

fn chunked(body: Bytes) -> s3s::Body {
    let pieces = futures::stream::iter([Ok::<_, Infallible>(Frame::data(body))]);
    s3s::Body::http_body_unsync(StreamBody::new(pieces))
}

fn stall() -> s3s::Body {
    use futures::StreamExt;
    let first = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"first")))]);
    s3s::Body::http_body_unsync(StreamBody::new(first.chain(futures::stream::pending())))
}

impl State {
    /// Notes a request, and tells which fault it meets.
    fn meet(&self, request: &Request<Incoming>) -> Option<Fault> {
        let path = request.uri().to_string();
        self.requests.lock().expect("lock").push((request.method().clone(), path));
        let names = request.headers().keys().map(ToString::to_string);
        self.headers.lock().expect("lock").extend(names);
        let mut rules = self.rules.lock().expect("lock");
        let rule = rules.iter_mut().find(|rule| rule.method == *request.method() && rule.times > 0)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}
