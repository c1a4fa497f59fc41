//! A Consul session that holds a key, as Go's `api.Lock` does it (facts 2.3): whoever uses that client on the same key waits
//! for us, and we for them.

use super::{Attempt, Lock, LockError, LockKind};
use crate::agent::planner::Journal;
use crate::source::consul::session::{KeyValue, NewSession};
use crate::source::{Consul, SourceError};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The flags of a lock's key: Go's `LockFlagValue`. A key with others is no lock.
pub const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;
/// The key of Consul's own snapshot agent.
pub const DEFAULT_KEY: &str = "consul-snapshot/lock";
/// Go's `DefaultLockSessionName`, made ours.
const SESSION_NAME: &str = "hah-vault agent";

/// A lock in Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulLockSettings {
    /// Its key.
    pub key: String,
    /// How long a session lives without renewal: 10 s to a day. Consul may take twice as long to end one.
    pub ttl: Duration,
    /// How long nobody gets the key after a session has ended badly.
    pub lock_delay: Duration,
}

impl Default for ConsulLockSettings {
    /// As Go's: 15 s each.
    fn default() -> Self {
        let s = Duration::from_secs(15);
        Self { key: DEFAULT_KEY.into(), ttl: s, lock_delay: s }
    }
}

/// A replica's side of it.
#[derive(Debug)]
pub struct ConsulLock {
    consul: Arc<Consul>,
    settings: ConsulLockSettings,
    holder: String,
    session: Mutex<Option<String>>,
}

impl ConsulLock {
    /// `holder` is written into the key for people.
    pub fn new(consul: Arc<Consul>, settings: ConsulLockSettings, holder: String) -> Self {
        Self { consul, settings, holder, session: Mutex::default() }
    }

    fn failed(&self, source: SourceError) -> LockError {
        LockError::Consul { key: self.settings.key.clone(), source: Box::new(source) }
    }

    fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_session(&self, session: Option<String>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// The key's value: who holds it, and the journal.
    fn value(&self, journal: &Journal) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({"holder": self.holder, "journal": journal})).unwrap_or_default()
    }

    /// Our session, renewed; a new one if there is none any more.
    async fn live_session(&self) -> Result<String, LockError> {
        if let Some(session) = self.session() {
            if self.consul.renew_session(&session).await.map_err(|e| self.failed(e))? {
                return Ok(session);
            }
            self.set_session(None);
        }
        let ConsulLockSettings { ttl, lock_delay, .. } = self.settings;
        let new = NewSession { name: SESSION_NAME, ttl, lock_delay };
        let session = self.consul.create_session(&new).await.map_err(|e| self.failed(e))?;
        self.set_session(Some(session.clone()));
        Ok(session)
    }

    async fn key(&self) -> Result<Option<KeyValue>, LockError> {
        let found = self.consul.key(&self.settings.key).await.map_err(|e| self.failed(e))?;
        match found {
            Some(found) if found.flags != LOCK_FLAGS => {
                Err(LockError::NotALock { key: self.settings.key.clone(), flags: found.flags })
            }
            found => Ok(found),
        }
    }

    async fn acquire(&self, session: &str, journal: &Journal) -> Result<bool, LockError> {
        let (key, value) = (&self.settings.key, self.value(journal));
        self.consul.acquire_key(key, session, LOCK_FLAGS, value).await.map_err(|e| self.failed(e))
    }
}

/// What a holder of ours wrote; another program's value tells nothing.
fn told(found: Option<&KeyValue>) -> (Option<String>, Journal) {
    let value: Option<serde_json::Value> = found.and_then(|found| serde_json::from_slice(&found.value).ok());
    let Some(value) = value else { return (None, Journal::new()) };
    let holder = value["holder"].as_str().map(str::to_owned);
    (holder, serde_json::from_value(value["journal"].clone()).unwrap_or_default())
}

#[async_trait]
impl Lock for ConsulLock {
    fn kind(&self) -> LockKind {
        LockKind::Consul
    }

    fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    async fn take(&self) -> Result<Attempt, LockError> {
        let session = self.live_session().await?;
        let found = self.key().await?;
        let (holder, journal) = told(found.as_ref());
        if let Some(other) = found.and_then(|found| found.session).filter(|other| *other != session) {
            let holder = holder.or_else(|| Some(format!("session {other}")));
            return Ok(Attempt::Taken { holder });
        }
        // During the lock delay nobody has it, and nobody gets it.
        match self.acquire(&session, &journal).await? {
            true => Ok(Attempt::Held(journal)),
            false => Ok(Attempt::Taken { holder: None }),
        }
    }

    async fn renew(&self, journal: &Journal) -> Result<bool, LockError> {
        let Some(session) = self.session() else { return Ok(false) };
        if !self.consul.renew_session(&session).await.map_err(|e| self.failed(e))? {
            self.set_session(None);
            return Ok(false);
        }
        let found = self.key().await?;
        if found.as_ref().and_then(|found| found.session.as_deref()) != Some(session.as_str()) {
            return Ok(false);
        }
        // The same session may acquire its key again: that is how a value is changed under the lock.
        match told(found.as_ref()).1 == *journal {
            true => Ok(true),
            false => self.acquire(&session, journal).await,
        }
    }

    async fn release(&self, journal: &Journal) -> Result<(), LockError> {
        let Some(session) = self.session() else { return Ok(()) };
        self.set_session(None);
        let (key, value) = (&self.settings.key, self.value(journal));
        let released = self.consul.release_key(key, &session, LOCK_FLAGS, value).await;
        // The key's release leaves no lock delay behind; the session's end alone would.
        let destroyed = self.consul.destroy_session(&session).await;
        released.and(destroyed).map_err(|e| self.failed(e))
    }
}
