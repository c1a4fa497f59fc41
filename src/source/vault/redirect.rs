//! Where a standby sends us, if that is a place to go to with a token.

use super::super::address::Address;
use super::super::http::Answer;
use super::super::settings::VaultSettings;
use super::super::{ServiceKind, SourceError};
use super::leader::check_redirect;

/// The address that a redirect of `path` leads to.
pub(super) fn target(answer: &Answer, path: &str, settings: &VaultSettings) -> Result<Address, SourceError> {
    let to = location(answer, path).map_err(|reason| refused(answer, "another place".into(), reason))?;
    if !settings.follow_redirect {
        return Err(refused(answer, to.to_string(), "VAULT_DISABLE_REDIRECTS forbids it"));
    }
    match check_redirect(&answer.endpoint.address, &to, &settings.leader_addresses) {
        Ok(to) => Ok(to),
        Err(reason) => Err(refused(answer, to.to_string(), reason)),
    }
}

/// The error of a redirect to a redirect.
pub(super) fn second(answer: &Answer, path: &str) -> SourceError {
    let to = location(answer, path).map_or_else(|_| "nowhere".into(), |to| to.to_string());
    refused(answer, to, "it is the second redirect in a row")
}

fn location(answer: &Answer, path: &str) -> Result<Address, &'static str> {
    Address::from_location(answer.header("location").ok_or("it names no place")?, path)
}

fn refused(answer: &Answer, to: String, reason: &'static str) -> SourceError {
    SourceError::Redirect { service: ServiceKind::Vault, address: answer.address(), to, reason }
}
