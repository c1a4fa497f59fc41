//! What every command starts from: the store, and the keys that fit it.

use super::args::Global;
use super::console::Console;
use super::error::{CliError, NEEDS_IDENTITY, NEEDS_WRITER, chain};
use super::files::{self, IDENTITY_FILE, WRITER_KEY_FILE};
use super::prompt::{Asking, TerminalPrompt};
use super::servers::Servers;
use super::settings::Settings;
use super::telemetry::Telemetry;
use crate::archive::host_state::HostState;
use crate::archive::repository::{check_empty, check_repository, hinted_id, open_identity};
use crate::archive::{ArchiveError, Cancel, Repository};
use crate::config::{Origin, Reference};
use crate::keys::{Identities, KeyError, Keyring, RepositoryIdentity, dearmored};
use crate::source::Secret;
use crate::store::{self, Credentials, Store, StoreOptions, StoreUrl};
use crate::world::{Machine, World};
use hah_vault_format::RepositoryId;
use hah_vault_format::text::WriterKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// How every age file begins, wrapped identities among them.
const AGE_HEADER: &[u8] = b"age-encryption.org/v1\n";

/// A run of the program.
pub(super) struct Context {
    pub global: Global,
    pub settings: Arc<Settings>,
    pub console: Arc<Console>,
    pub cancel: Cancel,
    pub asking: Asking,
    pub world: Arc<dyn World>,
    pub servers: Servers,
    pub telemetry: Arc<Telemetry>,
}

/// What a command needs to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A writer key, or an identity to derive it from.
    Writer,
    /// An identity.
    Reader,
}

/// A default key that was not used, in words for the hint.
type Ignored = Vec<String>;

impl Context {
    pub(super) fn new(
        global: Global,
        settings: Arc<Settings>,
        console: Arc<Console>,
        cancel: Cancel,
        asking: Asking,
    ) -> Result<Self, CliError> {
        let (servers, world) = (Servers::new(Arc::clone(&console), Arc::clone(&settings)), Machine::shared());
        let telemetry = Arc::new(Telemetry::new(&global.telemetry, &world, &console)?);
        Ok(Self { global, settings, console, cancel, asking, world, servers, telemetry })
    }

    /// The store that `--repo` names.
    pub(super) async fn store(&self) -> Result<Arc<dyn Store>, CliError> {
        let url = match self.settings.repository.text("url") {
            Some(text) => text.parse::<StoreUrl>()?,
            None => {
                let none = || CliError::usage("no repository given, and no home folder", "pass --repo URL");
                StoreUrl::Local { path: files::data_folder().ok_or_else(none)? }
            }
        };
        let options = match url {
            StoreUrl::Local { .. } => StoreOptions::default(),
            _ => self.store_options().await?,
        };
        Ok(self.telemetry.watch(store::open(&url, &options).await?))
    }

    /// Flags and the file; variables are left to the store, which reads the AWS files beside them.
    async fn store_options(&self) -> Result<StoreOptions, CliError> {
        let repository = &self.settings.repository;
        let own = |key: &str| {
            let setting = repository.setting(key)?;
            repository.text(key).filter(|_| !matches!(setting.origin, Origin::Variable(_))).map(str::to_owned)
        };
        Ok(StoreOptions {
            endpoint: own("s3.endpoint"),
            region: own("s3.region"),
            profile: own("s3.profile"),
            virtual_host_style: own("s3.addressing").map(|style| style == "virtual"),
            ca_bundle: own("s3.ca_bundle").map(PathBuf::from),
            credentials: self.s3_credentials().await?,
            ..StoreOptions::default()
        })
    }

    /// Keys that are not the store's own affair: from the file, from Vault.
    async fn s3_credentials(&self) -> Result<Option<Credentials>, CliError> {
        let repository = &self.settings.repository;
        if let Some(Reference::Aws(path)) = repository.secret("s3.credentials") {
            return self.servers.aws(repository, "s3.credentials", path).await.map(Some);
        }
        let id = repository.setting("s3.access_key_id");
        if id.is_some_and(|setting| !matches!(setting.origin, Origin::Variable(_))) {
            let (id, secret) = (self.secret("s3.access_key_id").await?, self.secret("s3.secret_access_key").await?);
            let token = self.secret("s3.session_token").await?;
            return Ok(id.zip(secret).map(|(id, secret)| credentials(&id, &secret, token.as_ref())));
        }
        let keys = ["s3.profile", "s3.access_key_id", "s3.secret_access_key"];
        match repository.text("kv").filter(|_| keys.iter().all(|key| repository.setting(key).is_none())) {
            Some(path) => {
                let names = ["access_key_id", "secret_access_key", "session_token"];
                let mut found = Vec::new();
                for name in names {
                    found.push(self.servers.kv_field(repository, path, &[name, &format!("r2_{name}")]).await?);
                }
                let token = found.pop().flatten();
                let (secret, id) = (found.pop().flatten(), found.pop().flatten());
                Ok(id.zip(secret).map(|(id, secret)| credentials(&id, &secret, token.as_ref())))
            }
            None => Ok(None),
        }
    }

    /// A secret of the repository's settings.
    async fn secret(&self, key: &'static str) -> Result<Option<Secret>, CliError> {
        let repository = &self.settings.repository;
        match repository.secret(key) {
            Some(reference) => self.servers.secret(repository, key, reference).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens the repository with the keys that fit it.
    pub(super) async fn repository(&self, need: Need, what: &'static str) -> Result<Repository, CliError> {
        let store = self.store().await?;
        let keyring = self.keyring(&store, need, what).await?;
        Ok(self.with_keyring(store, keyring))
    }

    pub(super) fn with_keyring(&self, store: Arc<dyn Store>, keyring: Keyring) -> Repository {
        let monitor = self.telemetry.monitor();
        Repository { store, keyring, world: Arc::clone(&self.world), monitor }
    }

    /// What this host remembers of a repository; none without a home folder.
    pub(super) fn state(&self, repository: &Repository) -> Option<HostState> {
        files::state_folder(repository.keyring.writer.repository).map(HostState::new)
    }

    /// Keys in this order: what was given for this run, then the files in the configuration folder.
    async fn keyring(&self, store: &Arc<dyn Store>, need: Need, what: &'static str) -> Result<Keyring, CliError> {
        let (id, no_hint) = match hinted_id(store.as_ref()).await {
            Ok(id) => (Some(id), None),
            Err(error @ ArchiveError::Store(_)) => return Err(error.into()),
            Err(error @ ArchiveError::TooNew { .. }) if need == Need::Writer => return Err(error.into()),
            // Gone or broken, but a repository is there: keys say themselves what they belong to, and tags prove it.
            Err(error) if check_empty(store.as_ref()).await.is_err() => {
                self.console.warning(None, &format!("{}; going on without it", chain(&error)));
                (None, Some(error))
            }
            Err(error) => return Err(error.into()),
        };
        let mut ignored = Ignored::new();
        let given = self.given_writer_key().await?;
        if let (Some(key), Some(id)) = (&given, id) {
            check_repository(store.as_ref(), id, "writer key", key.repository)?;
        }
        let writer = match given {
            Some(key) if need == Need::Writer => return Ok(Keyring { writer: key, identity: None }),
            Some(key) => Some(key),
            None => self.default_writer_key(id, &mut ignored),
        };
        let pinned = writer.as_ref().map(|key| key.repository);
        if self.identity_given() {
            return Keyring::from_identity(self.given_identity(store, pinned).await?).map_err(derive_error);
        }
        match writer {
            Some(writer) if need == Need::Writer => Ok(Keyring { writer, identity: None }),
            _ => match self.default_identities(id, &mut ignored)? {
                Some(identities) => {
                    let identity = open_identity(store.as_ref(), &identities, pinned, &self.copies()?).await?;
                    Keyring::from_identity(identity).map_err(derive_error)
                }
                None => {
                    if let Some(error) = no_hint {
                        return Err(error.into());
                    }
                    let needs = if need == Need::Reader { NEEDS_IDENTITY } else { NEEDS_WRITER };
                    Err(CliError::NoKey { what, needs, ignored })
                }
            },
        }
    }

    /// Whether keys were given for this run: then none are made for it.
    pub(super) fn keys_given(&self) -> bool {
        self.settings.repository.setting("writer_key").is_some() || !self.identities().is_empty()
    }

    /// The identity files of this run.
    pub(super) fn identities(&self) -> Vec<PathBuf> {
        self.settings.repository.texts("identities").into_iter().map(PathBuf::from).collect()
    }

    fn identity_given(&self) -> bool {
        !self.identities().is_empty() || self.passphrase_given()
    }

    /// Whether a passphrase is meant to be used.
    pub(super) fn passphrase_given(&self) -> bool {
        self.global.passphrase || self.global.passphrase_file.is_some() || variable("HAH_VAULT_PASSPHRASE").is_some()
    }

    /// The passphrase from the file or the variable.
    fn noted_passphrase(&self) -> Result<Option<Zeroizing<String>>, CliError> {
        match &self.global.passphrase_file {
            Some(path) => files::read_passphrase(path, &self.console).map(Some),
            None if self.global.passphrase => Ok(None),
            None => Ok(variable("HAH_VAULT_PASSPHRASE")),
        }
    }

    /// The passphrase of this run: noted, or asked for; a new one is asked for twice.
    pub(super) fn passphrase(&self, is_new: bool) -> Result<Zeroizing<String>, CliError> {
        match self.noted_passphrase()? {
            Some(passphrase) => Ok(passphrase),
            None => self.ask_passphrase(is_new),
        }
    }

    pub(super) fn ask_passphrase(&self, is_new: bool) -> Result<Zeroizing<String>, CliError> {
        let none = || CliError::usage("no passphrase was given", "type it on a terminal, or pass it in a file");
        let prompt = self.prompt(None);
        if !is_new {
            return prompt.secret("passphrase of the repository").ok_or_else(none);
        }
        let passphrase = prompt.secret("new passphrase").ok_or_else(none)?;
        if prompt.secret("again").is_some_and(|again| *again == *passphrase) {
            return Ok(passphrase);
        }
        Err(CliError::usage("the two passphrases differ", "try again"))
    }

    fn prompt(&self, given: Option<Zeroizing<String>>) -> TerminalPrompt {
        TerminalPrompt::new(&self.console, &self.asking, given)
    }

    /// Asks for a line; none if nobody answers.
    pub(super) fn ask(&self, question: &str) -> Option<String> {
        self.prompt(None).line(question)
    }

    /// Asks what a recipient's plugin wants to know.
    pub(super) fn recipient_prompt(&self) -> TerminalPrompt {
        self.prompt(None)
    }

    async fn given_writer_key(&self) -> Result<Option<WriterKey>, CliError> {
        let repository = &self.settings.repository;
        match repository.secret("writer_key") {
            Some(Reference::File(path)) => {
                let bytes = files::read_secret(path, &self.console)?;
                parse_writer_key(&bytes, &path.display().to_string()).map(Some)
            }
            // On the worst day Vault is gone: whoever has an identity needs no writer key.
            Some(reference) if reference.needs_vault() && self.identity_given() => Ok(None),
            Some(reference) => {
                let key = self.servers.secret(repository, "writer_key", reference).await?;
                parse_writer_key(key.expose().as_bytes(), &repository.origin_of("writer_key")).map(Some)
            }
            None => match repository.text("kv").filter(|_| !self.identity_given()) {
                Some(path) => {
                    let key = self.servers.kv_field(repository, path, &["writer_key"]).await?;
                    let name = format!("writer_key in {path}");
                    key.map(|key| parse_writer_key(key.expose().as_bytes(), &name)).transpose()
                }
                None => Ok(None),
            },
        }
    }

    /// `writer.key` in the configuration folder, if it is of this repository.
    fn default_writer_key(&self, id: Option<RepositoryId>, ignored: &mut Ignored) -> Option<WriterKey> {
        let path = files::config_folder()?.join(WRITER_KEY_FILE);
        if !path.exists() {
            return None;
        }
        let name = path.display().to_string();
        let key = files::read_secret(&path, &self.console).and_then(|bytes| parse_writer_key(&bytes, &name));
        match key {
            Ok(key) => match id {
                Some(id) if key.repository != id => {
                    ignore(ignored, &name, key.repository, id);
                    None
                }
                _ => Some(key),
            },
            Err(error) => {
                self.console.warning(None, &format!("not used: {}", chain(&error)));
                None
            }
        }
    }

    /// `identity.txt` in the configuration folder, unless it is pinned to another repository.
    fn default_identities(
        &self,
        id: Option<RepositoryId>,
        ignored: &mut Ignored,
    ) -> Result<Option<Identities>, CliError> {
        let Some(path) = files::config_folder().map(|f| f.join(IDENTITY_FILE)).filter(|p| p.exists()) else {
            return Ok(None);
        };
        let identities = self.parse_identities(&path)?;
        match (identities.pin(), id) {
            (Some(pin), Some(id)) if pin != id => {
                ignore(ignored, &path.display().to_string(), pin, id);
                Ok(None)
            }
            _ => Ok(Some(identities)),
        }
    }

    fn parse_identities(&self, path: &Path) -> Result<Identities, CliError> {
        let bytes = files::read_secret(path, &self.console)?;
        let name = path.display().to_string();
        // Cheap, and asked for only if the file is encrypted.
        let prompt = self.prompt(self.noted_passphrase()?);
        Identities::parse(&bytes, &name, &prompt).map_err(|source| match source {
            named @ KeyError::Identity { .. } => CliError::Identity(named),
            source => CliError::Key { name: name.clone(), source },
        })
    }

    /// Tries the identity files in turn, and the passphrase last: it costs a second, and perhaps a question.
    async fn given_identity(
        &self,
        store: &Arc<dyn Store>,
        pinned: Option<RepositoryId>,
    ) -> Result<RepositoryIdentity, CliError> {
        let copies = self.copies()?;
        let mut failed = None;
        for path in self.identities() {
            let identities = self.parse_identities(&path)?;
            match open_identity(store.as_ref(), &identities, pinned, &copies).await {
                Ok(identity) => return Ok(identity),
                // That a key is of another repository says more than that one does not fit.
                Err(error @ ArchiveError::OtherRepository { .. }) => failed = Some(error),
                Err(error @ ArchiveError::NoIdentity { .. }) => failed = failed.or(Some(error)),
                Err(error) => return Err(error.into()),
            }
        }
        if self.passphrase_given() {
            let identities = Identities::from_passphrase(self.passphrase(false)?);
            return Ok(open_identity(store.as_ref(), &identities, pinned, &copies).await?);
        }
        Err(failed.unwrap_or(ArchiveError::NeedsIdentity { what: "this" }).into())
    }

    /// The local copies of wrapped identities.
    fn copies(&self) -> Result<Vec<Vec<u8>>, CliError> {
        let read = |path: &str| {
            let bytes = files::read_secret(Path::new(path), &self.console)?;
            // From a recovery sheet it comes armored.
            let bytes = dearmored(&bytes).map_err(|source| CliError::Key { name: path.to_owned(), source })?;
            match bytes.starts_with(AGE_HEADER) {
                true => Ok(bytes),
                false => Err(CliError::NotAKeyFile { path: path.into() }),
            }
        };
        self.settings.repository.texts("key_files").into_iter().map(read).collect()
    }
}

fn credentials(id: &Secret, secret: &Secret, token: Option<&Secret>) -> Credentials {
    Credentials {
        access_key_id: id.expose().to_owned(),
        secret_access_key: store::Secret::new(secret.expose()),
        session_token: token.map(|token| store::Secret::new(token.expose())),
    }
}

fn ignore(ignored: &mut Ignored, name: &str, found: RepositoryId, id: RepositoryId) {
    tracing::debug!(name, %found, repository = %id, "a key of another repository is not used");
    ignored.push(format!("{name} was not used: it belongs to repository {found}, not to {id}"));
}

fn derive_error(source: KeyError) -> CliError {
    CliError::Key { name: "the repository identity".into(), source }
}

/// A variable with a secret; an empty one is as good as none.
fn variable(name: &str) -> Option<Zeroizing<String>> {
    std::env::var(name).ok().map(Zeroizing::new).filter(|text| !text.is_empty())
}

/// The one key line; comments may stand before it.
fn parse_writer_key(bytes: &[u8], name: &str) -> Result<WriterKey, CliError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let key = line.unwrap_or_default().parse::<WriterKey>();
    key.map_err(|e| CliError::Key { name: name.into(), source: e.into() })
}
