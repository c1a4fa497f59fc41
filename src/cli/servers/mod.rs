//! The servers of a run: Vault, Consul and Nomad, as the configuration and the environment say, with the sessions with
//! Vault that give their tokens.
//!
//! Architecture invariant: nothing is connected to before it is needed; a token that cannot be had is an error of the
//! server that needs it, and of no other.

mod build;
mod login;

use super::console::Console;
use super::error::CliError;
use super::settings::Settings;
use crate::archive::ArchiveError;
use crate::config::{Kind, Reference, Section, links};
use crate::source::deferred::Deferred;
use crate::source::settings::FreshToken;
use crate::source::token::Token;
use crate::source::vault::Secrets;
use crate::source::vault::session::VaultSession;
use crate::source::{Consul, Nomad, Secret, Service, ServiceKind, SourceError, Target, Vault};
use crate::store::{self, Credentials};
use futures::future::BoxFuture;
use hah_vault_format::SourceName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long giving tokens back may take in all; each session has a limit of its own below it.
const CLOSE_MAX: Duration = Duration::from_secs(15);

/// A server, as a source of snapshots and as a target of restores.
#[derive(Debug, Clone)]
pub(super) struct Server {
    service: Arc<dyn Service>,
    target: Arc<dyn Target>,
}

impl Server {
    fn of<S: Service + Target + 'static>(server: Deferred<S>) -> Self {
        let server = Arc::new(server);
        Self { service: Arc::clone(&server) as Arc<dyn Service>, target: server }
    }

    /// As a source.
    pub(super) fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.service)
    }

    /// As a target.
    pub(super) fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target)
    }
}

/// All servers that a run can name.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    console: Arc<Console>,
    sessions: Arc<Sessions>,
}

/// The sessions with Vaults, one for each.
#[derive(Debug)]
pub(super) struct Sessions {
    settings: Arc<Settings>,
    open: Mutex<BTreeMap<String, Shared<VaultSession>>>,
    /// By Vault and path.
    read: Mutex<BTreeMap<(String, String), Shared<Secrets>>>,
}

/// Made once, by whoever needs it first.
type Shared<T> = Arc<OnceCell<Arc<T>>>;

impl Servers {
    pub(super) fn new(console: Arc<Console>, settings: Arc<Settings>) -> Self {
        Self { console, sessions: Arc::new(Sessions { settings, open: Mutex::default(), read: Mutex::default() }) }
    }

    /// The server of a source's name; none if nothing of that name is known, or if it is a file.
    pub(super) async fn find(&self, name: &SourceName) -> Result<Option<Server>, CliError> {
        let Some(section) = self.sessions.settings.source(name.as_str()) else { return Ok(None) };
        let mut warn = |text: String| self.console.warning(Some(name), &text);
        // Settings that make no sense are told before anything starts.
        let failed = |source: SourceError| ArchiveError::Service { name: name.clone(), source: Box::new(source) };
        validate(&section, &mut warn).map_err(failed)?;
        let sessions = Arc::clone(&self.sessions);
        Ok(Some(match section.kind {
            Kind::Vault => Server::of(Deferred::new(
                ServiceKind::Vault,
                Box::new(move || Arc::clone(&sessions).vault(section.clone())),
            )),
            Kind::Consul => Server::of(Deferred::new(
                ServiceKind::Consul,
                Box::new(move || Arc::clone(&sessions).consul(section.clone())),
            )),
            Kind::Nomad => Server::of(Deferred::new(
                ServiceKind::Nomad,
                Box::new(move || Arc::clone(&sessions).nomad(section.clone())),
            )),
            Kind::Repository | Kind::File | Kind::Agent => return Ok(None),
        }))
    }

    /// The sessions, for `check`.
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// A secret of a block.
    pub(super) async fn secret(&self, section: &Section, key: &str, reference: &Reference) -> Result<Secret, CliError> {
        let found = match reference.needs_vault() {
            true => Arc::clone(&self.sessions).issued(section.clone(), reference.clone()).await,
            false => build::local(section, key, reference, ServiceKind::Vault),
        };
        found.map_err(|source| secret_error(section, key, source))
    }

    /// The first of some fields that a secret in Vault has.
    pub(super) async fn kv_field(
        &self,
        section: &Section,
        path: &str,
        fields: &[&str],
    ) -> Result<Option<Secret>, CliError> {
        let secrets = Arc::clone(&self.sessions).secrets(section.clone(), path).await;
        let secrets = secrets.map_err(|source| secret_error(section, "kv", source))?;
        Ok(fields.iter().find_map(|field| secrets.get(field).ok()).cloned())
    }

    /// S3 keys that Vault makes at a path.
    pub(super) async fn aws(&self, section: &Section, key: &str, path: &str) -> Result<Credentials, CliError> {
        let failed = |source| secret_error(section, key, source);
        let session = Arc::clone(&self.sessions).session_of(section.clone()).await.map_err(failed)?;
        let keys = session.aws_credentials(path).await.map_err(failed)?;
        Ok(Credentials {
            access_key_id: keys.access_key_id.expose().to_owned(),
            secret_access_key: store::Secret::new(keys.secret_access_key.expose()),
            session_token: keys.session_token.as_ref().map(|token| store::Secret::new(token.expose())),
        })
    }

    /// Gives all tokens back, whatever happened before.
    pub(super) async fn close(&self) {
        let closing = self.sessions.close();
        let warnings = tokio::time::timeout(CLOSE_MAX, closing).await;
        for text in warnings.unwrap_or_else(|_| vec!["giving tokens back to Vault took too long".into()]) {
            self.console.warning(None, &text);
        }
    }
}

fn secret_error(section: &Section, key: &str, source: SourceError) -> CliError {
    CliError::Secret { key: key.to_owned(), origin: section.origin_of(key), source: Box::new(source) }
}

/// Checks a block's settings; connects to nothing.
pub(super) fn validate(section: &Section, warn: &mut dyn FnMut(String)) -> Result<(), SourceError> {
    match section.kind {
        Kind::Vault => {
            let settings = build::vault(section)?;
            login::login(section, &settings)?;
            Vault::new(settings, None, warn).map(drop)
        }
        Kind::Consul => Consul::new(build::consul(section)?, warn).map(drop),
        Kind::Nomad => Nomad::new(build::nomad(section)?, None, warn).map(drop),
        Kind::Repository | Kind::File | Kind::Agent => Ok(()),
    }
}

/// A Consul whose addresses can be looked at, with a token only if it needs no Vault.
pub(super) fn plain_consul(section: &Section) -> Result<Consul, SourceError> {
    Consul::new(build::consul(section)?, &mut told)
}

/// A link that `config::links` has found good before; what is left is a change of the environment in between.
fn link_error(error: CliError) -> SourceError {
    SourceError::Setting {
        service: ServiceKind::Vault,
        name: "the configuration".into(),
        reason: super::error::chain(&error),
    }
}

/// The place for what is made once under a name.
fn entry<K: Ord, T>(map: &Mutex<BTreeMap<K, Shared<T>>>, key: K) -> Shared<T> {
    Arc::clone(map.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
}

/// Warnings were told when the settings were checked.
fn told(_: String) {}

impl Sessions {
    /// The session with a Vault; nothing is connected to yet.
    pub(super) fn session(
        self: Arc<Self>,
        vault: Section,
    ) -> BoxFuture<'static, Result<Arc<VaultSession>, SourceError>> {
        Box::pin(async move {
            let cell = entry(&self.open, vault.title());
            let session = cell.get_or_try_init(|| async {
                let settings = build::vault(&vault)?;
                let login = login::login(&vault, &settings)?;
                let catalog = Arc::clone(&self).catalog(vault.clone()).await?;
                VaultSession::new(settings, login, catalog, &mut told)
            });
            session.await.cloned()
        })
    }

    /// The session with the Vault that has a block's secrets.
    pub(super) async fn session_of(self: Arc<Self>, section: Section) -> Result<Arc<VaultSession>, SourceError> {
        let vault = self.settings.vault_of(&section).map_err(link_error)?;
        self.session(vault).await
    }

    /// A secret in a key-value store. It is read once for a run: keys that belong together are of one version then, and
    /// a token that is for few uses lasts longer.
    async fn secrets(self: Arc<Self>, section: Section, path: &str) -> Result<Arc<Secrets>, SourceError> {
        let vault = self.settings.vault_of(&section).map_err(link_error)?;
        let cell = entry(&self.read, (vault.title(), path.to_owned()));
        let secrets = cell.get_or_try_init(|| async {
            let session = Arc::clone(&self).session(vault).await?;
            session.secrets(path).await.map(Arc::new)
        });
        secrets.await.cloned()
    }

    /// A secret of a block that Vault has or makes.
    async fn issued(self: Arc<Self>, section: Section, reference: Reference) -> Result<Secret, SourceError> {
        if let Reference::Kv { path, field } = &reference {
            return Ok(self.secrets(section, path).await?.get(field)?.clone());
        }
        let session = Arc::clone(&self).session_of(section.clone()).await?;
        match (&reference, section.kind) {
            (Reference::Creds(path), Kind::Nomad) => session.nomad_token(path).await,
            (Reference::Creds(path), _) => session.consul_token(path).await,
            _ => build::local(&section, "a secret", &reference, ServiceKind::Vault),
        }
    }

    /// The token of a block whose settings have none, and how patient to be with it.
    async fn token(self: Arc<Self>, section: Section) -> Result<Option<(Token, FreshToken)>, SourceError> {
        let Some(reference) = section.secret("token").filter(|reference| reference.needs_vault()).cloned() else {
            return Ok(None);
        };
        let fresh = build::freshness(&reference);
        Ok(Some((Token::Given(self.issued(section, reference).await?), fresh)))
    }

    /// The Consul in whose catalog a block's address is.
    pub(super) async fn catalog(self: Arc<Self>, section: Section) -> Result<Option<Arc<Consul>>, SourceError> {
        if !links::is_in_catalog(&section) {
            return Ok(None);
        }
        let consul = self.settings.catalog_of(&section).map_err(link_error)?;
        let mut settings = build::consul(&consul)?;
        match build::catalog_token(&consul)? {
            Some(token) => settings.token = token,
            None => {
                if let Some((token, fresh)) = self.token(consul).await? {
                    (settings.token, settings.fresh_token) = (token, fresh);
                }
            }
        }
        Consul::new(settings, &mut told).map(|consul| Some(Arc::new(consul)))
    }

    pub(super) fn vault(self: Arc<Self>, section: Section) -> BoxFuture<'static, Result<Vault, SourceError>> {
        Box::pin(async move {
            let session = Arc::clone(&self).session(section.clone()).await?;
            let settings = build::vault(&section)?;
            Vault::with_session(settings, session, self.catalog(section).await?, &mut told)
        })
    }

    pub(super) fn consul(self: Arc<Self>, section: Section) -> BoxFuture<'static, Result<Consul, SourceError>> {
        Box::pin(async move {
            let mut settings = build::consul(&section)?;
            if let Some((token, fresh)) = self.token(section).await? {
                (settings.token, settings.fresh_token) = (token, fresh);
            }
            Consul::new(settings, &mut told)
        })
    }

    /// A Nomad whose addresses can be looked at, with a token only if it needs no Vault.
    pub(super) async fn plain_nomad(self: Arc<Self>, section: Section) -> Result<Nomad, SourceError> {
        Nomad::new(build::nomad(&section)?, self.catalog(section).await?, &mut told)
    }

    pub(super) fn nomad(self: Arc<Self>, section: Section) -> BoxFuture<'static, Result<Nomad, SourceError>> {
        Box::pin(async move {
            let mut settings = build::nomad(&section)?;
            let catalog = Arc::clone(&self).catalog(section.clone()).await?;
            if let Some((token, fresh)) = self.token(section).await? {
                (settings.token, settings.fresh_token) = (token, fresh);
            }
            Nomad::new(settings, catalog, &mut told)
        })
    }

    /// Closes all sessions at the same time; what went wrong, in words.
    async fn close(&self) -> Vec<String> {
        let sessions: Vec<Arc<VaultSession>> = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.values().filter_map(|cell| cell.get().cloned()).collect()
        };
        let closing = sessions.iter().map(|session| session.close());
        futures::future::join_all(closing).await.into_iter().flatten().collect()
    }
}
