//! How a server is reached: everything that its own client takes from the environment.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{Address, BasicAuth};
use super::catalog::Query;
use super::secret::Secret;
use super::token::Token;

/// Which authorities sign the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Authorities {
    /// Those of the operating system.
    #[default]
    System,
    /// A PEM file's.
    File(PathBuf),
    /// Those of all PEM files of a folder.
    Folder(PathBuf),
    /// PEM text.
    Pem(String),
}

/// The certificate that we show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file of the certificate, and of those between it and the authority.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Who vouches for the server.
    pub authorities: Authorities,
    /// Who we are.
    pub client: Option<ClientCertificate>,
    /// The name that the server's certificate is for, if not the address's host.
    pub server_name: Option<String>,
    /// Believe any certificate. Whoever stands between sees the token and the snapshot.
    pub skip_verify: bool,
}

/// How long to wait for what. There is no limit on the whole: a snapshot of 29 GB takes its time (vault#24245).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to a small request.
    pub answer: Duration,
    /// For a snapshot's first byte: Vault reads its whole database before it (facts 1.2), Consul and Nomad write it to
    /// disk. Also for the answer to a restore after the last byte was sent.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub gap: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            first_byte: Duration::from_secs(15 * 60),
            gap: Duration::from_secs(60),
        }
    }
}

/// Where the addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// They are known; tried in turn.
    Addresses(Vec<Address>),
    /// Consul's catalog knows them.
    Catalog(Query),
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Where it is.
    pub place: Place,
    /// TLS.
    pub tls: Tls,
    /// HTTP basic authentication, for a proxy in front of the server.
    pub basic_auth: Option<BasicAuth>,
    /// Headers that every request carries.
    pub headers: Vec<(String, Secret)>,
    /// URL of a proxy; it may hold a password. None: as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say, and never for
    /// the own machine.
    pub proxy: Option<Secret>,
    /// Time-outs.
    pub patience: Patience,
}

impl Reach {
    /// At these addresses, everything else at its default.
    pub fn at(addresses: Vec<Address>) -> Self {
        Self {
            place: Place::Addresses(addresses),
            tls: Tls::default(),
            basic_auth: None,
            headers: Vec::new(),
            proxy: None,
            patience: Patience::default(),
        }
    }
}

/// How often a request is repeated whose token the server does not know (yet), and how long to wait in between: a
/// token that was made a moment ago is not on every server yet (facts 1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreshToken {
    /// Repetitions.
    pub retries: u32,
    /// Wait before each.
    pub delay: Duration,
}

impl FreshToken {
    /// For a token that was made by a secrets engine just now.
    pub const JUST_MADE: Self = Self { retries: 5, delay: Duration::from_millis(400) };
    /// For a token that somebody gave us.
    pub const OLD: Self = Self { retries: 0, delay: Duration::ZERO };
}

/// Vault or OpenBao.
#[derive(Debug, Clone)]
pub struct VaultSettings {
    /// How it is reached.
    pub reach: Reach,
    /// The token.
    pub token: Token,
    /// Namespace to log in to and to read secrets from. Snapshots are always of the root namespace and are asked for
    /// without one.
    pub namespace: Option<String>,
    /// Leaders' own addresses that cannot be reached from here, and what to use instead.
    pub leader_addresses: Vec<(Address, Address)>,
    /// Whether to go where a standby node sends us.
    pub follow_redirect: bool,
    /// How often a small request is repeated after a passing failure, as `VAULT_MAX_RETRIES`; snapshots have their own
    /// retries.
    pub max_retries: u32,
}

/// Retries of Vault's own client (facts 1.1).
pub const VAULT_MAX_RETRIES: u32 = 2;

/// Consul.
#[derive(Debug, Clone)]
pub struct ConsulSettings {
    /// How it is reached.
    pub reach: Reach,
    /// The token.
    pub token: Token,
    /// The data center, if not the agent's own.
    pub datacenter: Option<String>,
    /// Take the snapshot from any server, even one that is behind or without a leader.
    pub stale: bool,
    /// Namespace of catalog queries (Enterprise). A snapshot holds all of them.
    pub namespace: Option<String>,
    /// Admin partition of catalog queries (Enterprise).
    pub partition: Option<String>,
    /// Patience with a fresh token.
    pub fresh_token: FreshToken,
}

/// Nomad.
#[derive(Debug, Clone)]
pub struct NomadSettings {
    /// How it is reached.
    pub reach: Reach,
    /// The token.
    pub token: Token,
    /// The region, if not the agent's own.
    pub region: Option<String>,
    /// Take the snapshot from any server, even one that is behind or without a leader.
    pub stale: bool,
    /// Patience with a fresh token.
    pub fresh_token: FreshToken,
}
