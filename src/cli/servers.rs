//! The servers of a run: Vault, Consul and Nomad, each reached as the environment says.

use super::console::Console;
use super::error::CliError;
use crate::archive::ArchiveError;
use crate::source::settings::Place;
use crate::source::{Consul, Nomad, Service, SourceError, Target, Vault, env};
use hah_vault_format::SourceName;
use std::sync::Arc;

/// A server, as a source of snapshots and as a target of restores.
#[derive(Debug, Clone)]
pub(super) enum Server {
    Vault(Arc<Vault>),
    Consul(Arc<Consul>),
    Nomad(Arc<Nomad>),
}

impl Server {
    /// As a source.
    pub(super) fn service(&self) -> Arc<dyn Service> {
        match self {
            Self::Vault(server) => Arc::clone(server) as Arc<dyn Service>,
            Self::Consul(server) => Arc::clone(server) as Arc<dyn Service>,
            Self::Nomad(server) => Arc::clone(server) as Arc<dyn Service>,
        }
    }

    /// As a target.
    pub(super) fn target(&self) -> Arc<dyn Target> {
        match self {
            Self::Vault(server) => Arc::clone(server) as Arc<dyn Target>,
            Self::Consul(server) => Arc::clone(server) as Arc<dyn Target>,
            Self::Nomad(server) => Arc::clone(server) as Arc<dyn Target>,
        }
    }
}

/// All servers that a run can name.
#[derive(Debug)]
pub(super) struct Servers {
    console: Arc<Console>,
}

impl Servers {
    pub(super) fn new(console: Arc<Console>) -> Self {
        Self { console }
    }

    /// The server of a source's name; none if nothing of that name is known.
    pub(super) async fn find(&self, name: &SourceName) -> Result<Option<Server>, CliError> {
        let failed = |source: SourceError| ArchiveError::Service { name: name.clone(), source: Box::new(source) };
        let lookup = |variable: &str| std::env::var(variable).ok();
        let mut warn = |text: String| self.console.warning(Some(name), &text);
        Ok(Some(match name.as_str() {
            "consul" => {
                Server::Consul(Arc::new(env::consul(&lookup).and_then(|s| Consul::new(s, &mut warn)).map_err(failed)?))
            }
            "vault" => {
                let settings = env::vault(&lookup).map_err(failed)?;
                let catalog = catalog(&settings.reach.place, &lookup, &mut warn).map_err(failed)?;
                Server::Vault(Arc::new(Vault::new(settings, catalog, &mut warn).map_err(failed)?))
            }
            "nomad" => {
                let settings = env::nomad(&lookup).map_err(failed)?;
                let catalog = catalog(&settings.reach.place, &lookup, &mut warn).map_err(failed)?;
                Server::Nomad(Arc::new(Nomad::new(settings, catalog, &mut warn).map_err(failed)?))
            }
            _ => return Ok(None),
        }))
    }
}

/// Consul, where an address is to be found in its catalog.
fn catalog(
    place: &Place,
    lookup: env::Lookup<'_>,
    warn: &mut dyn FnMut(String),
) -> Result<Option<Arc<Consul>>, SourceError> {
    match place {
        Place::Addresses(_) => Ok(None),
        Place::Catalog(_) => Consul::new(env::consul(lookup)?, warn).map(|consul| Some(Arc::new(consul))),
    }
}
