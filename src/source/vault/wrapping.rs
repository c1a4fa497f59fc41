//! Response-wrapped secret ids: good for one look, so whoever had it before us is found out (facts 1.6).

use std::sync::Mutex;

use http::Method;
use serde::Deserialize;

use super::super::error::Operation;
use super::super::secret::Secret;
use super::super::{SourceError, lock};
use super::api::{Api, Call, Payload};
use super::error::{SessionError, refusal};

/// The last wrapping token and the secret id that was in it, for a second login with the same.
#[derive(Debug, Default)]
pub(super) struct Unwrapped(Mutex<Option<(Secret, Secret)>>);

#[derive(Deserialize)]
struct Answered<T> {
    data: T,
}

#[derive(Deserialize)]
struct Origin {
    creation_path: String,
}

#[derive(Deserialize)]
struct SecretId {
    secret_id: Secret,
}

/// The secret id in a wrapping token, which must have been made for a role of `mount`.
pub(super) async fn secret_id(
    api: &Api,
    mount: &str,
    role_name: Option<&str>,
    wrapping: &Secret,
    unwrapped: &Unwrapped,
) -> Result<Secret, SourceError> {
    if let Some((_, known)) = lock(&unwrapped.0).as_ref().filter(|(token, _)| token == wrapping) {
        return Ok(known.clone());
    }
    // The lookup needs no token, and does not use this one up.
    let payload = Payload::secret(&[("token", wrapping)]);
    let reply = api.call(&Call::post(Operation::Login, "/v1/sys/wrapping/lookup", payload)).await.map_err(explain)?;
    let found = reply.parse::<Answered<Origin>>()?.data.creation_path;
    if !is_secret_id_of(&found, mount, role_name) {
        let expected = format!("auth/{mount}/role/{}/secret-id", role_name.unwrap_or("ROLE"));
        let found = crate::snapshot::printable::printable(found.as_bytes());
        return Err(SessionError::WrappingPath { found, expected }.into());
    }
    // The wrapping token is the header's token, and the body is empty: never both (facts 1.6). If the answer gets lost,
    // the secret id is lost with it, and a second try would only look like a theft.
    let mut call = Call::new(Operation::Login, Method::POST, "/v1/sys/wrapping/unwrap").with(Some(wrapping.clone()));
    call.is_repeatable = false;
    let reply = api.call(&call).await.map_err(explain)?;
    let secret_id = reply.parse::<Answered<SecretId>>()?.data.secret_id;
    tracing::debug!(mount, "unwrapped a secret id");
    *lock(&unwrapped.0) = Some((wrapping.clone(), secret_id.clone()));
    Ok(secret_id)
}

fn is_secret_id_of(path: &str, mount: &str, role_name: Option<&str>) -> bool {
    let rest = path.strip_prefix("auth/").and_then(|rest| rest.strip_prefix(mount));
    let role = rest.and_then(|rest| rest.strip_prefix("/role/")).and_then(|rest| rest.strip_suffix("/secret-id"));
    match (role, role_name) {
        (Some(role), Some(expected)) => role == expected,
        (Some(role), None) => !role.is_empty() && !role.contains('/'),
        (None, _) => false,
    }
}

fn explain(error: SourceError) -> SourceError {
    match refusal(&error) {
        // 400 in Vault 1.8; a token that nobody knows may also be forbidden.
        Some((_, 400 | 403 | 404, _)) => SessionError::WrappingInvalid.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_the_roles_secret_ids_will_do() {
        for (path, role, good) in [
            ("auth/approle/role/backup/secret-id", Some("backup"), true),
            ("auth/approle/role/backup/secret-id", None, true),
            ("auth/approle/role/other/secret-id", Some("backup"), false),
            ("auth/other/role/backup/secret-id", None, false),
            ("auth/approle/role/a/b/secret-id", None, false),
            ("auth/approle/role//secret-id", None, false),
            ("auth/approle/role/secret-id", None, false),
            ("auth/approle2/role/backup/secret-id", None, false),
            ("auth/approle/role/backup/custom-secret-id", Some("backup"), false),
            ("sys/wrapping/wrap", None, false),
            ("auth/token/create", None, false),
        ] {
            assert_eq!(is_secret_id_of(path, "approle", role), good, "{path} {role:?}");
        }
    }
}
