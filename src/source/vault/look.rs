//! What a token is and may do, for whoever checks before a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::super::SourceError;
use super::super::error::Operation;
use super::api::{Call, Payload};
use super::error::refusal;
use super::session::Inner;

pub(super) const PATH_LOOKUP_SELF: &str = "/v1/auth/token/lookup-self";
const PATH_CAPABILITIES: &str = "/v1/sys/capabilities-self";
/// Below it there is nothing but the root namespace's.
const OF_ROOT_NAMESPACE: &str = "sys/storage/";

/// What Vault knows about a token. No secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenFacts {
    /// Seconds that it still lives; 0: it never expires.
    #[serde(rename = "ttl", default)]
    pub ttl_s: u64,
    /// Whether it can be renewed.
    #[serde(rename = "renewable", default)]
    pub is_renewable: bool,
    /// Requests that it is still good for; 0: any number.
    #[serde(default)]
    pub num_uses: u32,
    /// Its policies.
    #[serde(default)]
    pub policies: Vec<String>,
    /// `service` or `batch`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What made it, such as `auth/approle/login`.
    #[serde(default)]
    pub path: String,
    /// What Vault's log calls it.
    #[serde(default)]
    pub display_name: String,
    /// Its namespace (Enterprise).
    pub namespace_path: Option<String>,
}

#[derive(Deserialize)]
struct Answered<T> {
    data: T,
}

impl Inner {
    pub(super) async fn lookup_self(self: &Arc<Self>) -> Result<Option<TokenFacts>, SourceError> {
        match self.send(Call::get(Operation::Look, PATH_LOOKUP_SELF)).await {
            Ok(reply) => Ok(Some(reply.parse::<Answered<TokenFacts>>()?.data)),
            Err(error) if is_forbidden(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn capabilities(
        self: &Arc<Self>,
        paths: &[&str],
    ) -> Result<BTreeMap<String, Vec<String>>, SourceError> {
        // Snapshots are the root namespace's, whatever namespace the login is of.
        let is_root = |path: &&str| self.api.has_namespace() && path.starts_with(OF_ROOT_NAMESPACE);
        let (of_root, others): (Vec<&str>, Vec<&str>) = paths.iter().copied().partition(is_root);
        let mut found = BTreeMap::new();
        for (paths, in_namespace) in [(others, true), (of_root, false)] {
            if !paths.is_empty() {
                found.append(&mut self.capabilities_at(&paths, in_namespace).await?);
            }
        }
        Ok(found)
    }

    async fn capabilities_at(
        self: &Arc<Self>,
        paths: &[&str],
        in_namespace: bool,
    ) -> Result<BTreeMap<String, Vec<String>>, SourceError> {
        let payload = Payload::plain(&json!({ "paths": paths }));
        let mut call = Call::post(Operation::Look, PATH_CAPABILITIES, payload);
        call.in_namespace = in_namespace;
        let reply = match self.send(call).await {
            Ok(reply) => reply,
            Err(error) if is_forbidden(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut found = reply.parse::<Answered<BTreeMap<String, Vec<String>>>>()?.data;
        found.retain(|path, _| paths.contains(&path.as_str()));
        Ok(found)
    }
}

fn is_forbidden(error: &SourceError) -> bool {
    matches!(refusal(error), Some((_, 403, _)))
}
