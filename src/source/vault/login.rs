//! Logins: how a token is got. Files are read again at each one, because whoever issues them replaces them.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::error::Operation;
use super::super::http::escaped;
use super::super::secret::Secret;
use super::super::token::{Token, TokenKind};
use super::super::{ServiceKind, SourceError};
use super::api::{Api, Call, Payload};
use super::error::{SessionError, refusal};
use super::wrapping::{self, Unwrapped};

/// How a session gets its token.
#[derive(Debug, Clone)]
pub enum Login {
    /// A token that somebody gave. It is renewed if it can be and is about to run out, and never revoked.
    Token(Token),
    /// AppRole.
    AppRole {
        /// The auth method's mount, usually `approle`.
        mount: String,
        /// The role id.
        role_id: Token,
        /// The secret id; none where the role does not want one (`bind_secret_id=false`).
        secret_id: Option<Token>,
        /// Whether `secret_id` holds a response-wrapping token around it. It is looked at before it is unwrapped, and
        /// the secret id stays in memory only.
        wrapped: bool,
        /// The role that a wrapped secret id must be of; none: any role of the mount.
        role_name: Option<String>,
    },
    /// A JWT, for example a workload identity of Nomad.
    Jwt {
        /// The auth method's mount: `jwt`, or `jwt-nomad`.
        mount: String,
        /// The role; none: the mount's default role.
        role: Option<String>,
        /// The JWT.
        jwt: Token,
    },
    /// The token of a Kubernetes service account.
    Kubernetes {
        /// The auth method's mount, usually `kubernetes`.
        mount: String,
        /// The role.
        role: String,
        /// The service account's token, usually in `/var/run/secrets/kubernetes.io/serviceaccount/token`.
        jwt: Token,
    },
    /// The client certificate of the connection.
    Cert {
        /// The auth method's mount, usually `cert`.
        mount: String,
        /// The certificate role; none: whichever fits.
        name: Option<String>,
    },
    /// User name and password; LDAP too, with its mount.
    Userpass {
        /// The auth method's mount: `userpass`, `ldap`.
        mount: String,
        /// The user.
        username: String,
        /// The password.
        password: Token,
    },
}

impl Login {
    /// What it is called.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::AppRole { .. } => "AppRole",
            Self::Jwt { .. } => "JWT",
            Self::Kubernetes { .. } => "Kubernetes",
            Self::Cert { .. } => "certificate",
            Self::Userpass { .. } => "password",
        }
    }

    /// The auth method's mount, without `auth/` and slashes at its ends.
    pub fn mount(&self) -> Option<&str> {
        let mount = match self {
            Self::Token(_) => return None,
            Self::AppRole { mount, .. }
            | Self::Jwt { mount, .. }
            | Self::Kubernetes { mount, .. }
            | Self::Cert { mount, .. }
            | Self::Userpass { mount, .. } => mount.trim_matches('/'),
        };
        Some(mount.strip_prefix("auth/").unwrap_or(mount))
    }

    /// Refuses what cannot work before anything is connected to.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        let wrong = |name: &str, reason: &str| {
            Err(SourceError::Setting { service: ServiceKind::Vault, name: name.into(), reason: reason.into() })
        };
        if self.mount().is_some_and(|mount| super::path::checked(mount).is_err()) {
            return wrong("the auth method's mount", "it is not a path like approle");
        }
        match self {
            Self::AppRole { wrapped: true, secret_id: None, .. } => {
                wrong("the wrapping token", "a wrapped secret id is wanted, and there is none")
            }
            Self::Kubernetes { role, .. } if role.is_empty() => wrong("the role", "it is empty"),
            Self::Userpass { username, .. } if username.is_empty() => wrong("the user name", "it is empty"),
            _ => Ok(()),
        }
    }
}

/// A token, fresh from a login or renewed.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Secret,
    /// Seconds; 0: it never expires.
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(default)]
    pub(super) token_type: String,
    /// 0: no limit.
    #[serde(default)]
    pub(super) num_uses: u32,
    mfa_requirement: Option<IgnoredAny>,
}

/// An answer that holds a token.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    pub(super) auth: Option<Auth>,
}

/// Logs in once. `lost` says afterwards whether an answer got lost on its way, and with it perhaps a token.
pub(super) async fn log_in(
    api: &Api,
    login: &Login,
    unwrapped: &Unwrapped,
    lost: &AtomicBool,
) -> Result<Auth, SourceError> {
    let mount = login.mount().ok_or(SessionError::NoToken)?;
    api.reconnect();
    let (below, payload) = request(api, login, mount, unwrapped).await?;
    let path = format!("/v1/auth/{}/login{below}", super::path::checked(mount)?);
    tracing::debug!(method = login.method(), mount, "logging in to Vault");
    let call = Call::post(Operation::Login, path, payload);
    let outcome = api.call(&call).await;
    lost.store(call.is_lost(), Ordering::Relaxed);
    let reply = outcome.map_err(|error| explain(error, login.method(), mount))?;
    let auth = reply.parse::<Authenticated>()?.auth.ok_or_else(|| reply.nonsense("there is no token in it"))?;
    if auth.mfa_requirement.is_some() {
        return Err(SessionError::Mfa { mount: mount.into() }.into());
    }
    if auth.client_token.expose().is_empty() {
        return Err(reply.nonsense("its token is empty"));
    }
    Ok(auth)
}

/// What comes after `/login` in the path, and the body.
async fn request(
    api: &Api,
    login: &Login,
    mount: &str,
    unwrapped: &Unwrapped,
) -> Result<(String, Payload), SourceError> {
    let service = ServiceKind::Vault;
    let text = |text: &str| Secret::from(text);
    let payload = match login {
        Login::Token(_) => return Err(SessionError::NoToken.into()),
        Login::AppRole { role_id, secret_id, wrapped, role_name, .. } => {
            let role_id = role_id.require(service, TokenKind::RoleId)?;
            let secret_id = match secret_id {
                None => None,
                Some(token) if *wrapped => {
                    let wrapping = token.require(service, TokenKind::WrappingToken)?;
                    Some(wrapping::secret_id(api, mount, role_name.as_deref(), &wrapping, unwrapped).await?)
                }
                Some(token) => Some(token.require(service, TokenKind::SecretId)?),
            };
            let mut fields = vec![("role_id", &role_id)];
            fields.extend(secret_id.as_ref().map(|secret_id| ("secret_id", secret_id)));
            Payload::secret(&fields)
        }
        Login::Jwt { role, jwt, .. } => {
            let (jwt, role) = (jwt.require(service, TokenKind::Jwt)?, role.as_deref().map(text));
            let mut fields = vec![("jwt", &jwt)];
            fields.extend(role.as_ref().map(|role| ("role", role)));
            Payload::with_public(&fields, "role")
        }
        Login::Kubernetes { role, jwt, .. } => {
            let (jwt, role) = (jwt.require(service, TokenKind::Jwt)?, text(role));
            Payload::with_public(&[("jwt", &jwt), ("role", &role)], "role")
        }
        Login::Cert { name, .. } => {
            let name = name.as_deref().map(text);
            let fields: Vec<_> = name.iter().map(|name| ("name", name)).collect();
            Payload::with_public(&fields, "name")
        }
        Login::Userpass { username, password, .. } => {
            let password = password.require(service, TokenKind::Password)?;
            return Ok((format!("/{}", escaped(username)), Payload::secret(&[("password", &password)])));
        }
    };
    Ok((String::new(), payload))
}

fn explain(error: SourceError, method: &'static str, mount: &str) -> SourceError {
    let Some((address, status, message)) = refusal(&error) else { return error };
    let (address, mount) = (address.to_owned(), mount.to_owned());
    match status {
        // A path below auth/ that nobody handles is one that needs a token (facts 8).
        400 if message == "missing client token" => SessionError::NoAuthMethod { address, method, mount }.into(),
        404 => SessionError::NoAuthMethod { address, method, mount }.into(),
        400..=499 if !error.is_transient() => {
            let message = message.to_owned();
            SessionError::LoginRefused { address, method, mount, status, message }.into()
        }
        _ => error,
    }
}
