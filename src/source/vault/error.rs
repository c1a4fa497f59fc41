//! What can go wrong between a session and Vault.

use thiserror::Error;

use super::super::SourceError;
use crate::snapshot::printable::printable;

/// A login, a secret, or credentials could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Vault knows the auth method and says no.
    #[error("Vault at {address} refused the {method} login at auth/{mount} with status {status}: {message}")]
    LoginRefused {
        /// Where.
        address: String,
        /// The kind of login.
        method: &'static str,
        /// The auth method's mount.
        mount: String,
        /// HTTP status.
        status: u16,
        /// What Vault says: printable, cut, without secrets.
        message: String,
    },
    /// No auth method is mounted there. Vault says "missing client token" (facts 8).
    #[error("Vault at {address} has no auth method at auth/{mount}, where the {method} login should go")]
    NoAuthMethod {
        /// Where.
        address: String,
        /// The kind of login.
        method: &'static str,
        /// The mount.
        mount: String,
    },
    /// A login with a second factor.
    #[error("Vault wants a second factor (MFA) for the login at auth/{mount}")]
    Mfa {
        /// The auth method's mount.
        mount: String,
    },
    /// The login's tokens are of use for too few requests.
    #[error("the login at auth/{mount} gives tokens for {num_uses} use only, and the last use is for revoking it")]
    TooFewUses {
        /// The auth method's mount.
        mount: String,
        /// How many requests such a token allows.
        num_uses: u32,
    },
    /// There is neither a token nor a way to get one.
    #[error("there is no token for Vault")]
    NoToken,
    /// A wrapping token that Vault does not know (any more).
    #[error("the wrapping token is not valid: it was used already, has expired, or never existed")]
    WrappingInvalid,
    /// A wrapping token around something else than the secret id that we expect. It was not unwrapped.
    #[error("the wrapping token was made by {found}, not by {expected}: it is not unwrapped")]
    WrappingPath {
        /// Which request made it.
        found: String,
        /// Which should have.
        expected: String,
    },
    /// The token may not do that, or is unknown.
    #[error("Vault at {address} refused {path}: {message}")]
    Denied {
        /// Where.
        address: String,
        /// The path, as policies name it.
        path: String,
        /// What its policy would have to allow.
        capability: &'static str,
        /// What Vault says: printable, cut, without secrets.
        message: String,
    },
    /// Nothing lies there.
    #[error("Vault at {address} has no secret at {path}")]
    NoSecret {
        /// Where.
        address: String,
        /// The path, as it was asked for.
        path: String,
    },
    /// The version was deleted or destroyed (KV version 2).
    #[error("version {version} of the secret {path} was {how}")]
    Deleted {
        /// The path, as it was asked for.
        path: String,
        /// Its version.
        version: u64,
        /// `deleted at …`, or `destroyed`.
        how: String,
    },
    /// Another secrets engine is mounted there.
    #[error("the secrets engine at {mount} is of type {kind}, not a key-value store")]
    NotKv {
        /// The mount.
        mount: String,
        /// What it is.
        kind: String,
    },
    /// The secret lacks a field.
    #[error("the secret {path} has no field {field}; it has {}", list(.fields))]
    NoField {
        /// The secret.
        path: String,
        /// The field.
        field: String,
        /// The fields that it has.
        fields: Vec<String>,
    },
    /// The field is a list, an object or null.
    #[error("the field {field} of the secret {path} is not a text")]
    NotText {
        /// The secret.
        path: String,
        /// The field.
        field: String,
    },
    /// A secrets engine made no credentials.
    #[error("Vault at {address} made no credentials at {path}: {message}")]
    EngineRefused {
        /// Where.
        address: String,
        /// The path, as policies name it.
        path: String,
        /// What Vault says: printable, cut, without secrets.
        message: String,
    },
    /// The session was closed, for example by ctrl-C.
    #[error("the session with Vault is closed")]
    Closed,
}

/// The most fields that a message lists.
const FIELDS_LISTED_MAX: usize = 20;

fn list(fields: &[String]) -> String {
    let shown = fields.iter().take(FIELDS_LISTED_MAX).map(|field| printable(field.as_bytes()));
    let shown: Vec<String> = shown.collect();
    match fields.len().checked_sub(FIELDS_LISTED_MAX) {
        _ if fields.is_empty() => "none".into(),
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{}, and {more} more", shown.join(", ")),
    }
}

/// What Vault quotes when the server behind a secrets engine cannot be reached (facts 8: status 400).
const SERVER_BEHIND_IS_AWAY: [&str; 5] =
    ["connection refused", "i/o timeout", "no such host", "No cluster leader", "connection reset"];

impl SessionError {
    /// Whether the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::EngineRefused { message, .. }
            if SERVER_BEHIND_IS_AWAY.iter().any(|text| message.contains(text)))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::LoginRefused { method, mount, message, .. } => return Some(login_hint(method, mount, message)),
            Self::NoAuthMethod { .. } => {
                "check the mount's path with `vault auth list`, and the namespace; Nomad's workload identities usually \
                 log in at jwt-nomad"
            }
            Self::Mfa { .. } => "nobody is there to confirm it: exempt this login from MFA, or use another auth method",
            Self::TooFewUses { .. } => "set token_num_uses of the role to 0 (no limit)",
            Self::NoToken => "set VAULT_TOKEN, or configure a login",
            Self::WrappingInvalid => {
                "if nobody of yours used it, it may have been intercepted: have the secret id destroyed, and a new one \
                 wrapped"
            }
            Self::WrappingPath { .. } => {
                "it may have been swapped for one of somebody else's: find out who handed it over; check mount and role \
                 name"
            }
            Self::Denied { path, capability, message, .. } => return Some(denied_hint(path, capability, message)),
            Self::NoSecret { path, .. } => {
                return Some(match path.split_once("/data/") {
                    Some((mount, rest)) => format!("leave data/ out of the path: {mount}/{rest}"),
                    None => format!("see `vault kv get {path}`, and check the namespace"),
                });
            }
            Self::Deleted { path, version, how } if how.starts_with("deleted") => {
                return Some(format!("`vault kv undelete -versions={version} {path}` brings it back"));
            }
            Self::Deleted { path, .. } => return Some(format!("write it again: `vault kv put {path} …`")),
            Self::NotKv { .. } => "name a path in a key-value store: `vault secrets list` shows them",
            Self::NoField { .. } | Self::NotText { .. } => "`vault kv get` shows the fields of a secret",
            Self::EngineRefused { path, message, .. } => return Some(engine_hint(path, message)),
            Self::Closed => return None,
        };
        Some(hint.into())
    }
}

fn login_hint(method: &str, mount: &str, message: &str) -> String {
    let has = |text: &str| message.contains(text);
    let hint = match method {
        _ if has("token is expired") => "the JWT has run out: whoever issues it has to renew its file",
        _ if has("audience") => "the role's bound_audiences do not hold the JWT's aud",
        _ if has("issuer") => "the auth method's bound_issuer is not the JWT's iss",
        _ if has("bound claim") || has("validating claims") => "the role's bound_claims do not fit the JWT",
        _ if has("could not be found") || has("missing role") || has("invalid role name") => {
            return format!("name a role that `vault list auth/{mount}/role` shows");
        }
        _ if has("secret id") || has("secret_id") => {
            "the secret id is wrong, used up, or expired: have a new one made for the role"
        }
        _ if has("role ID") || has("role_id") => "check the role id: `vault read auth/approle/role/NAME/role-id`",
        _ if has("username or password") || has("ldap operation failed") => "check user name and password",
        "Kubernetes" if has("permission denied") => {
            "the role's bound service accounts or namespaces do not fit, or Vault may not review tokens of the cluster"
        }
        "certificate" => "no certificate of the auth method fits the client certificate: VAULT_CLIENT_CERT",
        _ => return format!("Vault's log says more; is auth/{mount} the right mount, in the right namespace?"),
    };
    hint.into()
}

fn denied_hint(path: &str, capability: &str, message: &str) -> String {
    if message.contains("missing client token") {
        return "set VAULT_TOKEN, or configure a login".into();
    }
    if message.contains("preflight capability check") {
        return format!("no policy of the token allows anything at {path}, or nothing is mounted there");
    }
    format!(
        "the token is unknown or has run out, or its policy lacks: path \"{path}\" {{ capabilities = [\"{capability}\"] }}"
    )
}

fn engine_hint(path: &str, message: &str) -> String {
    let has = |text: &str| message.contains(text);
    let (mount, role) = path.rsplit_once("/creds/").or_else(|| path.rsplit_once("/sts/")).unwrap_or((path, ""));
    if has("ACL not found") || has("ACL token not found") {
        return format!("Vault's own token for the server is unknown there: write a new one to {mount}/config/access");
    }
    if SERVER_BEHIND_IS_AWAY.iter().any(|text| has(text)) {
        return format!("Vault cannot reach the server: see {mount}/config/access");
    }
    if has("not found") || has("unsupported path") || has("no handler") {
        return format!("is there a role {role} at {mount}? see `vault secrets list` and the mount's roles");
    }
    "Vault's log says more".into()
}

/// Vault's plain refusals, by what they are about.
pub(super) fn refusal(error: &SourceError) -> Option<(&str, u16, &str)> {
    match error {
        SourceError::Refused { address, status, message, .. } => Some((address, *status, message)),
        _ => None,
    }
}

/// A refusal of a path that a policy governs.
pub(super) fn denied(error: SourceError, path: &str, capability: &'static str) -> SourceError {
    match refusal(&error) {
        Some((address, 403, message)) | Some((address, 400, message @ "missing client token")) => {
            let (address, message) = (address.to_owned(), message.to_owned());
            SessionError::Denied { address, path: path.to_owned(), capability, message }.into()
        }
        _ => error,
    }
}
