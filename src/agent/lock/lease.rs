//! A lease in the store: objects that are only ever put if absent (SPEC §11.2, decision 020).
//!
//! `leases/<name>/<term>` says who holds the lease from its modification time on, and for how long. Who wants it, or wants
//! to keep it, puts the next term; of two who try, the store lets one. The highest term is the one that counts.

use super::{Attempt, Lock, LockError, LockKind};
use crate::agent::planner::Journal;
use crate::store::{Put, Store, StoreError, StoreTime};
use async_trait::async_trait;
use hah_vault_format::Label;
use hah_vault_format::name::{LEASES_PREFIX, lease_key, lease_term};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a lease lasts if nothing else is configured, 5 min: renewed at a third of it, that is 864 puts and listings a
/// day.
pub const TTL_DEFAULT: Duration = Duration::from_secs(300);
/// The longest lease that is believed, a day.
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// Store times are whole seconds and are told by several machines: a lease is left alone for so long after its end.
const SLACK: Duration = Duration::from_secs(10);
/// Longest lease object.
pub const LEASE_OBJECT_LEN_BYTES_MAX: u64 = 256 << 10;
/// Older terms that are kept when new ones are put.
const TERMS_KEPT: usize = 2;
/// Old terms that are deleted at a time.
const DELETES_MAX: usize = 16;

/// What a lease object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    /// Who holds it.
    holder: String,
    /// For how long, from the object's modification time on; in seconds. 0: it was given back.
    ttl_s: u64,
    /// What the holder notes for the next.
    #[serde(default)]
    journal: Journal,
}

/// A replica's side of a lease.
#[derive(Debug)]
pub struct LeaseLock {
    store: Arc<dyn Store>,
    name: Label,
    holder: String,
    ttl: Duration,
    /// The term that we hold.
    held: Mutex<Option<u64>>,
}

/// The highest term.
struct Highest {
    term: u64,
    modified: StoreTime,
    /// Others, the oldest first.
    older: Vec<u64>,
}

impl LeaseLock {
    /// `holder` must differ between replicas, and between two starts of one.
    pub fn new(store: Arc<dyn Store>, name: Label, holder: String, ttl: Duration) -> Self {
        Self { store, name, holder, ttl: ttl.min(TTL_MAX), held: Mutex::default() }
    }

    fn failed(&self, source: StoreError) -> LockError {
        LockError::Store { name: self.name.to_string(), source: Box::new(source) }
    }

    fn held(&self) -> Option<u64> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_held(&self, term: Option<u64>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    async fn highest(&self) -> Result<Option<Highest>, LockError> {
        let prefix = format!("{LEASES_PREFIX}{}/", self.name);
        let objects = self.store.list(&prefix).await.map_err(|e| self.failed(e))?;
        let term = |key: &str| lease_term(&self.name, key);
        let mut terms: Vec<(u64, StoreTime)> =
            objects.iter().filter_map(|object| Some((term(&object.key)?, object.modified))).collect();
        terms.sort_unstable_by_key(|(term, _)| *term);
        let Some((term, modified)) = terms.pop() else { return Ok(None) };
        Ok(Some(Highest { term, modified, older: terms.into_iter().map(|(term, _)| term).collect() }))
    }

    /// What a term says; `None` if it is gone. One that makes no sense is nobody's.
    async fn read(&self, term: u64) -> Result<Option<Term>, LockError> {
        match self.store.get(&lease_key(&self.name, term), LEASE_OBJECT_LEN_BYTES_MAX).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(StoreError::NotFound { .. } | StoreError::TooLong { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Puts a term. `true` if it is ours and the highest: a stalled replica may have put one that others have long passed
    /// and deleted.
    async fn put(&self, term: u64, ttl: Duration, journal: &Journal) -> Result<bool, LockError> {
        let body = Term { holder: self.holder.clone(), ttl_s: ttl.as_secs(), journal: journal.clone() };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let put = self.store.put_if_absent(&lease_key(&self.name, term), bytes.into()).await;
        if put.map_err(|e| self.failed(e))? == Put::Existed {
            return Ok(false);
        }
        let Some(highest) = self.highest().await? else { return Ok(false) };
        if highest.term != term {
            return Ok(false);
        }
        self.forget(&highest.older).await;
        Ok(true)
    }

    /// Deletes old terms; credentials without delete leave them to `gc`, which keeps those of the last day and the highest.
    async fn forget(&self, older: &[u64]) {
        let old = older.len().saturating_sub(TERMS_KEPT);
        for term in older.iter().take(old.min(DELETES_MAX)) {
            if let Err(error) = self.store.delete(&lease_key(&self.name, *term)).await {
                tracing::debug!(%error, term, "an old lease stays");
                return;
            }
        }
    }

    async fn is_over(&self, highest: &Highest, term: &Term) -> Result<bool, LockError> {
        if term.ttl_s == 0 {
            return Ok(true);
        }
        let now = self.store.now().await.map_err(|e| self.failed(e))?;
        let lasts = Duration::from_secs(term.ttl_s).min(TTL_MAX) + SLACK;
        let lasts_ms = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        Ok(now.unix_ms > highest.modified.unix_ms.saturating_add(lasts_ms))
    }
}

#[async_trait]
impl Lock for LeaseLock {
    fn kind(&self) -> LockKind {
        LockKind::Lease
    }

    fn ttl(&self) -> Duration {
        self.ttl
    }

    async fn take(&self) -> Result<Attempt, LockError> {
        self.set_held(None);
        let (next, journal) = match self.highest().await? {
            None => (1, Journal::new()),
            Some(highest) => match self.read(highest.term).await? {
                Some(term) if !self.is_over(&highest, &term).await? => {
                    return Ok(Attempt::Taken { holder: Some(term.holder) });
                }
                term => (highest.term.saturating_add(1), term.map(|term| term.journal).unwrap_or_default()),
            },
        };
        if !self.put(next, self.ttl, &journal).await? {
            return Ok(Attempt::Taken { holder: None });
        }
        self.set_held(Some(next));
        Ok(Attempt::Held(journal))
    }

    async fn renew(&self, journal: &Journal) -> Result<bool, LockError> {
        let Some(term) = self.held() else { return Ok(false) };
        let next = term.saturating_add(1);
        if self.put(next, self.ttl, journal).await? {
            self.set_held(Some(next));
            return Ok(true);
        }
        // An earlier try of our own, whose answer was lost, may have put it.
        match self.highest().await? {
            Some(highest) if self.read(highest.term).await?.is_some_and(|t| t.holder == self.holder && t.ttl_s > 0) => {
                self.set_held(Some(highest.term));
                Ok(true)
            }
            _ => {
                self.set_held(None);
                Ok(false)
            }
        }
    }

    async fn release(&self, journal: &Journal) -> Result<(), LockError> {
        let Some(term) = self.held() else { return Ok(()) };
        self.set_held(None);
        self.put(term.saturating_add(1), Duration::ZERO, journal).await.map(drop)
    }
}
