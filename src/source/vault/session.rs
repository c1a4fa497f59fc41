//! A session with Vault: one login, what is made with it, and its end.
//!
//! Architecture invariant: whatever Vault makes for us is written down before it is used. Requests that make something
//! run as tasks of their own: whoever gives up waiting for them does not lose what they made, and
//! [`VaultSession::close`] waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, watch};

use super::super::consul::Consul;
use super::super::secret::Secret;
use super::super::settings::VaultSettings;
use super::super::{SourceError, lock};
use super::api::Api;
use super::closing;
use super::engines::AwsCredentials;
use super::error::SessionError;
use super::held::{Held, Lease, Term};
use super::kv::{Mount, Secrets};
use super::login::Login;
use super::look::TokenFacts;
use super::wrapping::Unwrapped;

/// How long a session waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The least wait before a failed request is sent again; the most is half as much again. 1 s, as Vault's own client
    /// has it.
    pub retry_delay: Duration,
    /// A token that was given is looked at, to renew it, once the session has lived so long: a look costs one of its
    /// uses. 5 s.
    pub given_look_after: Duration,
    /// How long closing may take in all. 10 s.
    pub close_limit: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry_delay: Duration::from_secs(1),
            given_look_after: Duration::from_secs(5),
            close_limit: Duration::from_secs(10),
        }
    }
}

/// A session with Vault. It connects to nothing before it is needed; several may use it at once.
#[derive(Debug)]
pub struct VaultSession {
    inner: Arc<Inner>,
    closing: OnceCell<()>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) api: Api,
    pub(super) login: Login,
    pub(super) timing: Timing,
    pub(super) unwrapped: Unwrapped,
    /// Held over a login: whoever else needs a token waits for that one.
    pub(super) one_login: tokio::sync::Mutex<()>,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) leases: Mutex<Vec<Lease>>,
    pub(super) mounts: Mutex<BTreeMap<String, Mount>>,
    /// What is worth telling, in words; handed out at the end.
    pub(super) notes: Mutex<Vec<String>>,
    /// Wakes the renewal: there is something new to renew.
    pub(super) changed: Arc<Notify>,
    pub(super) is_renewing: AtomicBool,
    pub(super) closed: watch::Sender<bool>,
    /// Requests on their way that make something.
    pub(super) making: watch::Sender<usize>,
    /// Closing is over: what is made from now on is given back by whoever made it.
    pub(super) is_over: AtomicBool,
}

/// The tokens of a session.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// From the last login.
    pub(super) current: Option<Held>,
    /// From those before.
    pub(super) retired: Vec<Held>,
    /// The life of a token that was given; none: not known.
    pub(super) given: Option<Term>,
}

/// Counts a request that makes something.
struct Making(Arc<Inner>);

impl Drop for Making {
    fn drop(&mut self) {
        self.0.making.send_modify(|count| *count -= 1);
    }
}

impl VaultSession {
    /// Checks the settings; connects to nothing yet. The settings' own token is not used: the login is. `catalog` is
    /// needed only where the address is in it.
    ///
    /// # Errors
    /// [`SourceError::Setting`], [`SourceError::File`].
    pub fn new(
        settings: VaultSettings,
        login: Login,
        catalog: Option<Arc<Consul>>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Arc<Self>, SourceError> {
        Self::with_timing(settings, login, catalog, Timing::default(), warn)
    }

    /// The same with other times.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_timing(
        settings: VaultSettings,
        login: Login,
        catalog: Option<Arc<Consul>>,
        timing: Timing,
        warn: &mut dyn FnMut(String),
    ) -> Result<Arc<Self>, SourceError> {
        login.check()?;
        let closed = watch::Sender::new(false);
        let inner = Inner {
            api: Api::new(settings, catalog, timing.retry_delay, closed.subscribe(), warn)?,
            login,
            timing,
            unwrapped: Unwrapped::default(),
            one_login: tokio::sync::Mutex::default(),
            tokens: Mutex::default(),
            leases: Mutex::default(),
            mounts: Mutex::default(),
            notes: Mutex::default(),
            changed: Arc::default(),
            is_renewing: AtomicBool::new(false),
            closed,
            making: watch::Sender::new(0),
            is_over: AtomicBool::new(false),
        };
        Ok(Arc::new(Self { inner: Arc::new(inner), closing: OnceCell::new() }))
    }

    /// The token to be sent in one request; logs in if there is none yet, or none that is still good.
    ///
    /// # Errors
    /// [`SessionError::NoToken`] if no token was given, and what can go wrong in a login.
    pub async fn token(&self) -> Result<Secret, SourceError> {
        Ok(self.inner.current().await?.ok_or(SessionError::NoToken)?)
    }

    /// The same, none if no token was given: Vault's agent may add one.
    pub(super) async fn current(&self) -> Result<Option<Secret>, SourceError> {
        self.inner.current().await
    }

    /// Another token after Vault has refused this one with status 403, if there may be one: see
    /// [`Inner::replacement`].
    pub(super) async fn replacement(&self, refused: Option<&Secret>) -> Result<Option<Secret>, SourceError> {
        self.inner.replacement(refused).await
    }

    /// Notes that Vault has taken a token.
    pub(super) fn worked(&self, token: Option<&Secret>) {
        self.inner.worked(token);
    }

    /// The fields of a secret in a key-value store of version 1 or 2, found out by the mount. `?version=3` may follow
    /// the path.
    ///
    /// # Errors
    /// [`SessionError`] naming the path, or what can go wrong in a login and on the way.
    pub async fn secrets(&self, path: &str) -> Result<Secrets, SourceError> {
        self.inner.secrets(path).await
    }

    /// A token from Consul's secrets engine, for example at `consul/creds/backup`. It is new: see
    /// [`FreshToken::JUST_MADE`](super::super::settings::FreshToken::JUST_MADE).
    ///
    /// # Errors
    /// [`SessionError::EngineRefused`], and as [`Self::secrets`].
    pub async fn consul_token(&self, path: &str) -> Result<Secret, SourceError> {
        self.inner.consul_token(path).await
    }

    /// A token from Nomad's secrets engine, for example at `nomad/creds/backup`.
    ///
    /// # Errors
    /// As [`Self::consul_token`].
    pub async fn nomad_token(&self, path: &str) -> Result<Secret, SourceError> {
        self.inner.nomad_token(path).await
    }

    /// Keys from the AWS secrets engine: `aws/creds/ROLE`, or `aws/sts/ROLE`, which may have a query such as `?ttl=15m`.
    ///
    /// # Errors
    /// As [`Self::consul_token`].
    pub async fn aws_credentials(&self, path: &str) -> Result<AwsCredentials, SourceError> {
        self.inner.aws_credentials(path).await
    }

    /// What the token may do at each path, as in policies; empty if Vault does not tell.
    ///
    /// # Errors
    /// What can go wrong in a login and on the way.
    pub async fn capabilities(&self, paths: &[&str]) -> Result<BTreeMap<String, Vec<String>>, SourceError> {
        self.inner.capabilities(paths).await
    }

    /// What Vault knows about the token; none if it does not tell. Costs one of its uses.
    ///
    /// # Errors
    /// What can go wrong in a login and on the way.
    pub async fn lookup_self(&self) -> Result<Option<TokenFacts>, SourceError> {
        self.inner.lookup_self().await
    }

    /// Gives back what Vault made for this session: the leases, then the login token if it is ours. To be called at the
    /// end of every run, also after errors and an interruption; also while requests are on their way: what they make is
    /// given back too. The second time it does nothing.
    ///
    /// Returns warnings, in words, from the whole session.
    pub async fn close(&self) -> Vec<String> {
        let _ = self.inner.closed.send_replace(true);
        self.closing.get_or_init(|| closing::close(&self.inner)).await;
        let mut notes = std::mem::take(&mut *lock(&self.inner.notes));
        notes.dedup();
        notes
    }
}

impl Drop for VaultSession {
    fn drop(&mut self) {
        let _ = self.inner.closed.send_replace(true);
    }
}

impl Inner {
    pub(super) fn note(&self, text: String) {
        tracing::debug!(%text, "session with Vault");
        lock(&self.notes).push(text);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Runs what makes something in a task of its own.
    pub(super) async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        self.making.send_modify(|count| *count += 1);
        let making = Making(Arc::clone(self));
        // Counted first, then looked: closing sets the flag first, then looks at the count.
        if self.is_closed() {
            return Err(SessionError::Closed.into());
        }
        let task = tokio::spawn(async move {
            let outcome = work.await;
            if making.0.is_over.load(Ordering::SeqCst) {
                closing::give_back(&making.0).await;
            }
            outcome
        });
        task.await.unwrap_or(Err(SourceError::Stopped))
    }
}
