//! Vault and Nomad by their names in Consul's catalog: `consul://service/vault?tag=active`.

use std::sync::Arc;

use super::address::Address;
use super::consul::Consul;
use super::http::Http;
use super::secret::Secret;
use super::settings::Place;
use super::{ServiceKind, SourceError};

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The service's name in the catalog.
    pub service: String,
    /// Tags that it must have, all of them.
    pub tags: Vec<String>,
    /// The data center, if not the agent's own.
    pub datacenter: Option<String>,
    /// Whether the instances are reached over TLS.
    pub https: bool,
}

impl Query {
    /// Reads `consul://service/NAME?tag=…&dc=…&scheme=…`. Without a scheme it is that of the service's default
    /// address: `https` for Vault, `http` for Nomad; Nomad registers its other ports under the same name, so without a
    /// tag its tag is `http`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, of: ServiceKind) -> Result<Self, &'static str> {
        let malformed = "it is not of the form consul://service/NAME?tag=…&dc=…&scheme=…";
        let rest = text.trim().strip_prefix("consul://service/").ok_or(malformed)?;
        let (service, pairs) = rest.split_once('?').unwrap_or((rest, ""));
        if service.is_empty() || service.contains(['/', '#']) {
            return Err(malformed);
        }
        let (service, https) = (service.to_owned(), of == ServiceKind::Vault);
        let mut query = Self { service, tags: Vec::new(), datacenter: None, https };
        for pair in pairs.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("tag", tag)) if !tag.is_empty() => query.tags.push(tag.into()),
                Some(("dc", datacenter)) if !datacenter.is_empty() => query.datacenter = Some(datacenter.into()),
                Some(("scheme", "http")) => query.https = false,
                Some(("scheme", "https")) => query.https = true,
                _ => return Err("only tag, dc and scheme (http or https) may follow the name"),
            }
        }
        if of == ServiceKind::Nomad && query.tags.is_empty() {
            query.tags.push("http".into());
        }
        Ok(query)
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.service)?;
        if !self.tags.is_empty() {
            write!(f, " with tag {}", self.tags.join(", "))?;
        }
        match &self.datacenter {
            Some(datacenter) => write!(f, " in {datacenter}"),
            None => Ok(()),
        }
    }
}

/// The addresses as of now.
pub(super) async fn addresses(http: &Http, catalog: Option<&Arc<Consul>>) -> Result<Vec<Address>, SourceError> {
    match (&http.reach().place, catalog) {
        (Place::Catalog(query), Some(consul)) => consul.instances(query).await,
        _ => known(http),
    }
}

/// The addresses that can be known without a catalog.
pub(super) fn known(http: &Http) -> Result<Vec<Address>, SourceError> {
    match &http.reach().place {
        Place::Addresses(addresses) => Ok(addresses.clone()),
        Place::Catalog(_) => Err(SourceError::Setting {
            service: http.service,
            name: "its address".into(),
            reason: "it is in Consul's catalog, and no Consul is configured".into(),
        }),
    }
}

/// The headers of a token.
pub(super) fn token_header(name: &'static str, token: Option<Secret>) -> Vec<(&'static str, Secret)> {
    token.map(|token| (name, token)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query::parse("consul://service/vault?tag=active&dc=eu&scheme=http", ServiceKind::Vault);
        let expected =
            Query { service: "vault".into(), tags: vec!["active".into()], datacenter: Some("eu".into()), https: false };
        assert_eq!(query.as_ref(), Ok(&expected));
        assert_eq!(expected.to_string(), "vault with tag active in eu");
        assert!(Query::parse("consul://service/vault", ServiceKind::Vault).expect("query").https);
        let nomad = Query::parse("consul://service/nomad", ServiceKind::Nomad).expect("query");
        assert_eq!((nomad.tags, nomad.https), (vec!["http".to_owned()], false));
        for wrong in ["consul://vault", "consul://service/", "consul://service/a/b", "consul://service/a?token=x"] {
            assert!(Query::parse(wrong, ServiceKind::Vault).is_err(), "{wrong}");
        }
    }
}
