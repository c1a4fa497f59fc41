//! Listening and serving: TCP, TLS, unix sockets; HTTP/1.1 only, with limits on time, size and number.

use super::api::{Access, Api, Peer};
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 128;
/// Connections of one address at the same time.
const CONNECTIONS_OF_ONE_MAX: usize = 48;
/// The head of a request must be there after this; an idle connection is closed after it.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Longest head of a request.
const HEAD_LEN_BYTES_MAX: usize = 16 << 10;
/// Most header lines.
const HEADERS_MAX: usize = 64;
/// A TLS handshake must be done after this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// No connection lives longer: a stream of events ends after an hour.
const CONNECTION_LIMIT: Duration = Duration::from_secs(3900);
/// At a stop, answers under way may take this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// Wait after a failed accept: usually there are no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket file, open to its owner only.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = ServeError;

    /// `127.0.0.1:8205`, `[::1]:8205`, `localhost:8205`, or `unix:///run/hah-vault/agent.sock`.
    fn from_str(text: &str) -> Result<Self, ServeError> {
        let bad = || ServeError::Listen { text: text.into() };
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let text = text.strip_prefix("localhost").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1{port}"));
        text.parse().map(Self::Tcp).map_err(|_| bad())
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// PEM files for TLS; read at the start and at a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of clients' certificates; with it, a client without one is turned away.
    pub client_ca: Option<PathBuf>,
}

/// The agent cannot listen.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address.
    #[error("{text:?} is no address to listen on: use HOST:PORT or unix:///PATH")]
    Listen {
        /// As given.
        text: String,
    },
    /// Everybody on the network could use it.
    #[error("{listen} is open to the network, and there is no token")]
    NeedsToken {
        /// Where it should listen.
        listen: String,
    },
    /// The token file.
    #[error("the token file {} cannot be used: {reason}", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The address is taken, or may not be used.
    #[error("cannot listen on {listen}")]
    Bind {
        /// Where.
        listen: String,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key.
    #[error("the TLS file {} cannot be used: {reason}", .path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl ServeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeedsToken { .. } => Some("set token_file, or listen on 127.0.0.1 or a unix socket"),
            Self::Token { .. } => Some("make one with `openssl rand -hex 32 > FILE; chmod 600 FILE`"),
            Self::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse => {
                Some("another agent may be running; choose another address with listen")
            }
            _ => None,
        }
    }
}

enum Socket {
    Tcp(TcpListener, watch::Sender<Option<Arc<ServerConfig>>>),
    Unix(UnixListener, PathBuf),
}

/// A socket that is bound.
pub struct Listener {
    socket: Socket,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("at", &self.address()).finish()
    }
}

/// Changes the certificates of a listener that is being served.
#[derive(Clone)]
pub struct TlsReload(Option<watch::Sender<Option<Arc<ServerConfig>>>>);

impl std::fmt::Debug for TlsReload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsReload")
    }
}

impl TlsReload {
    /// Reads the files again; the old certificates stay if that fails.
    ///
    /// # Errors
    /// [`ServeError::Tls`].
    pub fn reload(&self, tls: Option<&TlsFiles>) -> Result<(), ServeError> {
        if let (Some(sender), Some(tls)) = (&self.0, tls) {
            sender.send_replace(Some(server_config(tls)?));
        }
        Ok(())
    }
}

impl Listener {
    /// Binds. Beyond the own machine only with a token.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(listen: &Listen, tls: Option<&TlsFiles>, access: &Access) -> Result<Self, ServeError> {
        check_access(listen, access)?;
        let failed = |source| ServeError::Bind { listen: listen.to_string(), source };
        let socket = match listen {
            Listen::Tcp(address) => {
                let tls = tls.map(server_config).transpose()?;
                if tls.is_none() && !address.ip().is_loopback() {
                    tracing::warn!(%address, "no TLS: whoever is between a client and the agent reads its token");
                }
                Socket::Tcp(TcpListener::bind(address).await.map_err(failed)?, watch::channel(tls).0)
            }
            Listen::Unix(path) => Socket::Unix(bind_unix(path).map_err(failed)?, path.clone()),
        };
        Ok(Self { socket })
    }

    /// Where it listens; with the port that the system chose, if it was to.
    pub fn address(&self) -> Listen {
        match &self.socket {
            Socket::Tcp(listener, _) => {
                Listen::Tcp(listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))))
            }
            Socket::Unix(_, path) => Listen::Unix(path.clone()),
        }
    }

    /// Changes its certificates later.
    pub fn tls_reload(&self) -> TlsReload {
        match &self.socket {
            Socket::Tcp(_, tls) if tls.borrow().is_some() => TlsReload(Some(tls.clone())),
            _ => TlsReload(None),
        }
    }

    /// Serves until `stop`; then answers under way may end.
    pub async fn serve(self, api: &Api, stop: impl Future<Output = ()>) {
        let router = api.router();
        let (stopped, _) = watch::channel(false);
        let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let counts = Counts::default();
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let permit = tokio::select! {
                () = &mut stop => break,
                permit = Arc::clone(&limit).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let (stream, peer, tls) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let Some(counted) = counts.count(peer) else { continue };
            let (router, stopped) = (router.clone(), stopped.subscribe());
            connections.spawn(async move {
                let _held = (permit, counted);
                connection(stream, peer, tls, router, stopped).await;
            });
        }
        stopped.send_replace(true);
        let drain = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN_LIMIT, drain).await;
        if let Socket::Unix(_, path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer, Option<Arc<ServerConfig>>)> {
        match &self.socket {
            Socket::Tcp(listener, tls) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let tls = tls.borrow().clone();
                Ok((Box::new(stream), Peer::Ip(from.ip().to_canonical()), tls))
            }
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Socket, None))
            }
        }
    }
}

/// Any connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them.
struct Counted(Counts, Option<IpAddr>);

impl Counts {
    fn count(&self, peer: Peer) -> Option<Counted> {
        let Peer::Ip(ip) = peer else { return Some(Counted(self.clone(), None)) };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), Some(ip)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(ip) = self.1 else { return };
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&ip);
            }
        }
    }
}

async fn connection(
    stream: Box<dyn Stream>,
    peer: Peer,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    let Some(config) = tls else { return serve_http(stream, peer, router, stopped).await };
    match tokio::time::timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, router, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        inner.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_headers(HEADERS_MAX);
    builder.max_buf_size(HEAD_LEN_BYTES_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let is_stopped = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = is_stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = tokio::time::sleep(CONNECTION_LIMIT) => Ok(()),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

/// Refuses an address beyond the own machine without a token, and a token file without a token.
///
/// # Errors
/// [`ServeError::NeedsToken`], [`ServeError::Token`].
pub fn check_access(listen: &Listen, access: &Access) -> Result<(), ServeError> {
    let is_open = matches!(listen, Listen::Tcp(address) if !address.ip().is_loopback());
    match &access.token_file {
        None if is_open => Err(ServeError::NeedsToken { listen: listen.to_string() }),
        None => Ok(()),
        Some(path) => {
            super::api::check_token_file(path).map_err(|reason| ServeError::Token { path: path.clone(), reason })
        }
    }
}

/// Binds a socket that nobody but the owner can open, not even for a moment: it gets its name last.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there"));
        }
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    let private = tempfile::Builder::new().prefix(".hah-vault-").tempdir_in(folder)?;
    let unnamed = private.path().join("s");
    let listener = UnixListener::bind(&unnamed)?;
    std::fs::set_permissions(&unnamed, PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&unnamed, path)?;
    Ok(listener)
}

fn server_config(tls: &TlsFiles) -> Result<Arc<ServerConfig>, ServeError> {
    let bad = |path: &Path, reason: String| ServeError::Tls { path: path.to_owned(), reason };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, ServeError> {
        let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match found.map_err(|error| bad(path, error.to_string()))? {
            found if found.is_empty() => Err(bad(path, "there is no PEM certificate in it".into())),
            found => Ok(found),
        }
    };
    let chain = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| bad(&tls.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| bad(&tls.certificate, error.to_string()))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| bad(path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| bad(path, error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| bad(&tls.key, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
