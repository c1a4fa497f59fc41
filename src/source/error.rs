//! What can go wrong between us and a server, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::ServiceKind;
use super::vault::SessionError;

/// What was asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A snapshot.
    Snapshot,
    /// A restore.
    Restore,
    /// A restore with other unseal keys (Vault).
    RestoreForce,
    /// Services from the catalog (Consul).
    Catalog,
    /// A login (Vault).
    Login,
    /// A secret (Vault).
    Secret,
    /// Credentials made for us (Vault).
    Credentials,
    /// A renewal or a revocation (Vault).
    Lease,
    /// A session, a key or a registration (Consul).
    Lock,
    /// Anything that only looks.
    Look,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "the snapshot",
            Self::Restore | Self::RestoreForce => "the restore",
            Self::Catalog => "the list of services",
            Self::Login => "the login",
            Self::Secret => "the secret",
            Self::Credentials => "the credentials",
            Self::Lease => "the renewal or revocation",
            Self::Lock => "the session, key or registration",
            Self::Look => "an answer",
        })
    }
}

/// A server did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A variable, or a setting of the configuration.
    #[error("{service}: {name} cannot be used: {reason}")]
    Setting {
        /// Which service's.
        service: ServiceKind,
        /// Its name.
        name: String,
        /// Why; holds no secret.
        reason: String,
    },
    /// A token or certificate file.
    #[error("{service}: cannot read the {what} {}", .path.display())]
    File {
        /// Which service's.
        service: ServiceKind,
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect to {service} at {address}: {reason}")]
    Connect {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("{service} at {address} was silent for {} s {phase}", .limit.as_secs_f32())]
    Silent {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// When.
        phase: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The connection broke.
    #[error("{service} at {address} broke off after {len_bytes} bytes of {operation}: {reason}")]
    Broken {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// What was asked for.
        operation: Operation,
        /// Bytes of the body until then.
        len_bytes: u64,
        /// Why.
        reason: String,
    },
    /// The server says no.
    #[error("{service} at {address} refused {operation} with status {status}{}", quoted(.message))]
    Refused {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// What was asked for.
        operation: Operation,
        /// HTTP status.
        status: u16,
        /// What it says: printable, cut, without secrets.
        message: String,
    },
    /// A redirect that is not followed.
    #[error("{service} at {address} sends us to {to}, which is not followed: {reason}")]
    Redirect {
        /// Which service.
        service: ServiceKind,
        /// Who.
        address: String,
        /// Where to; without user and password.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// A standby knows its leader, but the leader does not answer.
    #[error("{service} at {via} is a standby, and its leader cannot be reached")]
    Leader {
        /// Which service.
        service: ServiceKind,
        /// The standby.
        via: String,
        /// What happened at the leader's address.
        source: Box<SourceError>,
    },
    /// The cluster has no leader at the moment.
    #[error("{service} at {address} has no leader")]
    NoLeader {
        /// Which service.
        service: ServiceKind,
        /// Who was asked.
        address: String,
    },
    /// Vault is sealed.
    #[error("Vault at {address} is sealed")]
    Sealed {
        /// Where.
        address: String,
    },
    /// Vault was never initialised.
    #[error("Vault at {address} is not initialised")]
    Uninitialised {
        /// Where.
        address: String,
    },
    /// Status 200 and something else than a snapshot.
    #[error("{service} at {address} answered with {what} instead of a snapshot{}", quoted(.seen))]
    NotASnapshot {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// What it seems to be.
        what: String,
        /// Its beginning, if it is text: printable, cut, without secrets.
        seen: String,
    },
    /// The body's Digest header (Nomad).
    #[error("{service} at {address}: the snapshot's Digest {reason}")]
    Digest {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// What is wrong.
        reason: DigestFault,
    },
    /// The catalog knows no such service, or does not tell.
    #[error("Consul at {address} lists no passing instance of the service {query}")]
    NothingListed {
        /// Consul's address.
        address: String,
        /// What was asked for.
        query: String,
    },
    /// An answer that makes no sense.
    #[error("{service} at {address} gave {operation} that makes no sense: {reason}")]
    Nonsense {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// What was asked for.
        operation: Operation,
        /// What is wrong.
        reason: String,
    },
    /// All addresses failed.
    #[error("none of {} addresses of {service} would do: {}", .errors.len(), listed(.errors))]
    Several {
        /// Which service.
        service: ServiceKind,
        /// What happened at each.
        errors: Vec<SourceError>,
    },
    /// After a restore, the server did not come to rest.
    #[error("{service} at {address} took the snapshot, but is not back after {} s: {state}", .limit.as_secs())]
    Unsettled {
        /// Which service.
        service: ServiceKind,
        /// Where.
        address: String,
        /// The last that was seen.
        state: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A login to Vault, a secret or credentials from it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// We stopped it ourselves.
    #[error("the transfer was stopped")]
    Stopped,
}

/// What is wrong with a Digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DigestFault {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// Not `sha-256=<base64>` or `sha-512=<base64>`.
    #[error("is of an unknown form")]
    Unknown,
    /// Another body.
    #[error("does not match its bytes")]
    Mismatch,
}

fn quoted(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn listed(errors: &[SourceError]) -> String {
    let texts: Vec<String> = errors.iter().map(with_causes).collect();
    texts.join("; ")
}

/// The whole chain in one line.
fn with_causes(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Nomad and Consul answer 500 to wrong input too; what no retry helps.
const LASTING_500: [&str; 5] = [
    "acl token lookup failed",
    "No path to region",
    "No path to datacenter",
    "raft storage is not in use",
    "failed to decompress snapshot",
];

impl SourceError {
    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { reason, .. } => !is_about_certificates(reason),
            Self::Silent { .. } | Self::Broken { .. } | Self::NoLeader { .. } | Self::Nonsense { .. } => true,
            Self::Leader { source, .. } => source.is_transient(),
            Self::Digest { reason, .. } => *reason == DigestFault::Mismatch,
            Self::Refused { status, message, .. } => {
                let passing = matches!(status, 408 | 412 | 429 | 472 | 473 | 500 | 502..=599);
                passing && !LASTING_500.iter().any(|text| message.contains(text))
            }
            Self::Several { errors, .. } => errors.iter().any(Self::is_transient),
            Self::Session(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether another address of the same cluster may do better.
    pub(super) fn is_of_this_node(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Sealed { .. } | Self::Uninitialised { .. } | Self::Redirect { .. })
            || self.is_transient()
    }

    /// Whether the server does not know the token: it may be too fresh.
    pub(super) fn is_unknown_token(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 403, message, .. }
            if message.contains("ACL not found") || message.contains("ACL token not found"))
    }

    /// One error of several: itself if there is only one.
    pub(super) fn join(service: ServiceKind, mut errors: Vec<Self>) -> Self {
        match (errors.len(), errors.pop()) {
            (_, None) => Self::Setting { service, name: "its address".into(), reason: "there is none".into() },
            (1, Some(only)) => only,
            (_, Some(last)) => {
                errors.push(last);
                Self::Several { service, errors }
            }
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setting { .. } | Self::File { .. } | Self::Stopped => None,
            Self::Connect { service, reason, .. } => Some(connect_hint(*service, reason)),
            Self::Silent { .. } => Some("look at the server's load; proxies often cut at 60 s: go around them".into()),
            Self::Broken {
                service: ServiceKind::Vault,
                operation: Operation::Restore | Operation::RestoreForce,
                ..
            } => {
                Some("Vault's listener cuts uploads that take longer than its http_read_timeout, 30 s: raise it".into())
            }
            Self::Broken { service, .. } => {
                Some(format!("take it again; {service}'s log says why, and a proxy in between may have cut it"))
            }
            Self::Refused { service, operation, status, message, .. } => {
                refused_hint(*service, *operation, *status, message)
            }
            Self::Redirect { .. } => Some(LEADER_HINT.into()),
            Self::Leader { .. } => Some(format!(
                "if the leader has just died, another one is elected within seconds; otherwise {LEADER_HINT}"
            )),
            Self::NoLeader { service: ServiceKind::Vault, .. } => {
                Some("see `vault operator raft list-peers` and the servers' logs".into())
            }
            Self::NoLeader { .. } => {
                Some("the cluster has lost its quorum or is electing: look at `raft list-peers`".into())
            }
            Self::Sealed { .. } => Some("unseal it with `vault operator unseal`".into()),
            Self::Uninitialised { .. } => Some("initialise it with `vault operator init`".into()),
            Self::NotASnapshot { service, .. } => {
                Some(format!("is that {service}'s own address? a login page or a proxy seems to answer in its place"))
            }
            Self::Digest { reason: DigestFault::Mismatch, .. } => {
                Some("the snapshot was cut or changed on its way: take it again".into())
            }
            Self::Digest { .. } => Some("is there a proxy that drops or changes headers?".into()),
            Self::NothingListed { .. } => Some(
                "a token without node:read and service:read gets an empty list too; check both, the tag, and the \
                 service's health"
                    .into(),
            ),
            Self::Nonsense { .. } => Some("check the address: does another program or a proxy answer there?".into()),
            Self::Several { errors, .. } => errors.iter().find_map(Self::hint),
            Self::Session(error) => error.hint(),
            Self::Unsettled { .. } => Some("look at the server's log before anything else is done to it".into()),
        }
    }
}

const LEADER_HINT: &str = "give the addresses of all nodes, set api_addr on each to one that can be reached from here, \
                           or map it: HAH_VAULT_LEADER_ADDRESSES=http://its-own:8200=https://reachable:8200";

/// rustls's and its verifiers' messages, and a server's alerts.
pub(super) fn is_about_certificates(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("certificate")
        || reason.contains("unknownca")
        || reason.contains("corrupt message")
        || reason.contains("invalidcontenttype")
}

fn connect_hint(service: ServiceKind, reason: &str) -> String {
    let prefix = match service {
        ServiceKind::Vault => "VAULT",
        ServiceKind::Consul => "CONSUL",
        ServiceKind::Nomad => "NOMAD",
    };
    if reason.contains("corrupt message") || reason.contains("InvalidContentType") {
        return "the server does not speak TLS there: use http:// if that is meant".into();
    }
    if is_about_certificates(reason) {
        return format!(
            "name the authority with {prefix}_CACERT, the certificate's name with {prefix}_TLS_SERVER_NAME, and where \
             the server asks for one, our certificate with {prefix}_CLIENT_CERT and {prefix}_CLIENT_KEY"
        );
    }
    let variable = if service == ServiceKind::Consul { "CONSUL_HTTP_ADDR" } else { &format!("{prefix}_ADDR") };
    format!("is it running, and is {variable} its address?")
}

/// What the token has to be allowed (facts 1.2, 1.3, 2.1, 3.1).
fn refused_hint(service: ServiceKind, operation: Operation, status: u16, message: &str) -> Option<String> {
    let has = |text: &str| message.contains(text);
    let hint = match service {
        _ if matches!(status, 502 | 504) => "a proxy in front of the server gave up: go around it",
        ServiceKind::Vault if has("missing client token") => "set VAULT_TOKEN, or log in",
        ServiceKind::Vault if has("raft storage is not in use") => {
            "only Vaults with integrated storage (Raft) have snapshots; back up the storage itself instead"
        }
        ServiceKind::Vault if has("could not verify hash file") => {
            "the snapshot is of a cluster with other unseal keys; --force restores it, and then those keys are needed"
        }
        ServiceKind::Vault if status == 404 => "is that Vault's address? snapshots are asked for without a namespace",
        ServiceKind::Vault if status == 403 => match operation {
            Operation::Restore => {
                "the token is unknown, or its policy lacks: path \"sys/storage/raft/snapshot\" { capabilities = [\"update\"] }"
            }
            Operation::RestoreForce => {
                "the token is unknown, or its policy lacks: path \"sys/storage/raft/snapshot-force\" { capabilities = [\"update\"] }"
            }
            _ => {
                "the token is unknown, or its policy lacks: path \"sys/storage/raft/snapshot\" { capabilities = [\"read\"] }"
            }
        },
        ServiceKind::Consul | ServiceKind::Nomad if has("ACL not found") || has("ACL token not found") => {
            "the server does not know the token: it has expired, was deleted, or is of another cluster"
        }
        ServiceKind::Consul if status == 403 && operation == Operation::Catalog => {
            "the token's policy lacks: service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }"
        }
        ServiceKind::Consul if status == 403 => "set CONSUL_HTTP_TOKEN to a token whose policy has: acl = \"write\"",
        ServiceKind::Nomad if status == 403 && operation == Operation::Restore => {
            "a restore needs a management token in NOMAD_TOKEN"
        }
        ServiceKind::Nomad if status == 403 => {
            "set NOMAD_TOKEN to a token whose policy has: operator { capabilities = [\"snapshot-save\"] } (Nomad 1.11.3 \
             and later), or to a management token"
        }
        ServiceKind::Nomad if has("closed pipe") => "Nomad answers a bad token so too: check NOMAD_TOKEN",
        ServiceKind::Nomad if has("acl token lookup failed") => {
            "NOMAD_TOKEN is no token of Nomad: it has the form of a UUID"
        }
        ServiceKind::Nomad if has("No path to region") => "check NOMAD_REGION",
        ServiceKind::Consul if has("No path to datacenter") => "check the data center's name",
        ServiceKind::Consul | ServiceKind::Nomad if has("No cluster leader") => {
            "the cluster has lost its quorum or is electing: look at `raft list-peers`"
        }
        _ => return None,
    };
    Some(hint.into())
}
