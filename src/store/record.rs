//! A store that counts what is asked of another one: requests cost money, and tests pin how many a command needs.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use super::{ObjectMeta, Operation, Put, Store, StoreError, StoreTime};

/// How often each operation was asked for, and how many bytes were moved. Retries inside the store do not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Puts.
    pub put: u64,
    /// Gets.
    pub get: u64,
    /// Listings, however many pages each took.
    pub list: u64,
    /// Pages of 1,000 objects that they take on S3, at least one each.
    pub list_pages: u64,
    /// Stats.
    pub stat: u64,
    /// Deletes.
    pub delete: u64,
    /// Questions for the time.
    pub now: u64,
    /// Bytes of the objects that were created.
    pub put_bytes: u64,
    /// Bytes of the objects that were read.
    pub get_bytes: u64,
}

/// Objects that S3 lists in one answer; each answer is one request.
const LIST_PAGE_LEN: usize = 1000;

impl Counts {
    /// Operations that R2 and S3 bill as writes: puts and pages of listings. Deletes are free.
    pub fn class_a(&self) -> u64 {
        self.put + self.list_pages
    }

    /// Operations that they bill as reads: gets, stats, and asking for the time.
    pub fn class_b(&self) -> u64 {
        self.get + self.stat + self.now
    }
}

/// Is told of what a [`RecordingStore`] sees. Must not block for long.
pub trait Observer: Send + Sync + Debug {
    /// An operation was asked for, which takes so many requests of S3.
    fn asked(&self, operation: Operation, requests: u64);

    /// An object was put or read.
    fn moved(&self, operation: Operation, len_bytes: u64);

    /// All objects under a prefix.
    fn listed(&self, prefix: &str, objects: &[ObjectMeta]);
}

/// Passes everything on to another store and counts it.
#[derive(Debug)]
pub struct RecordingStore {
    inner: Arc<dyn Store>,
    counters: Counters,
    observer: Option<Arc<dyn Observer>>,
    /// `None`: only count. A log of all keys would grow without bound in an agent.
    log: Option<Mutex<Vec<(Operation, String)>>>,
}

#[derive(Debug, Default)]
struct Counters {
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    list_pages: AtomicU64,
    stat: AtomicU64,
    delete: AtomicU64,
    now: AtomicU64,
    put_bytes: AtomicU64,
    get_bytes: AtomicU64,
}

impl RecordingStore {
    /// Counts only.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, counters: Counters::default(), observer: None, log: None }
    }

    /// Counts, and tells an observer.
    pub fn with_observer(inner: Arc<dyn Store>, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..Self::new(inner) }
    }

    /// Counts, and remembers every operation and its key.
    pub fn with_log(inner: Arc<dyn Store>) -> Self {
        Self { log: Some(Mutex::default()), ..Self::new(inner) }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.counters;
        Counts {
            put: counters.put.load(Relaxed),
            get: counters.get.load(Relaxed),
            list: counters.list.load(Relaxed),
            list_pages: counters.list_pages.load(Relaxed),
            stat: counters.stat.load(Relaxed),
            delete: counters.delete.load(Relaxed),
            now: counters.now.load(Relaxed),
            put_bytes: counters.put_bytes.load(Relaxed),
            get_bytes: counters.get_bytes.load(Relaxed),
        }
    }

    /// The operations so far with their keys, in order; empty without [`RecordingStore::with_log`].
    pub fn log(&self) -> Vec<(Operation, String)> {
        let Some(log) = &self.log else {
            return Vec::new();
        };
        log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, event: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            event(observer.as_ref());
        }
    }

    fn note(&self, operation: Operation, key: &str) {
        // How many requests a listing takes is known only afterwards.
        if operation != Operation::List {
            self.tell(|observer| observer.asked(operation, 1));
        }
        let counters = &self.counters;
        let counter = match operation {
            Operation::Put => &counters.put,
            Operation::Get => &counters.get,
            Operation::List => &counters.list,
            Operation::Stat => &counters.stat,
            Operation::Delete => &counters.delete,
            Operation::Now => &counters.now,
        };
        counter.fetch_add(1, Relaxed);
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push((operation, key.to_owned()));
        }
    }
}

#[async_trait]
impl Store for RecordingStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.note(Operation::Put, key);
        let len_bytes = bytes.len() as u64;
        let put = self.inner.put_if_absent(key, bytes).await?;
        if put == Put::Created {
            self.counters.put_bytes.fetch_add(len_bytes, Relaxed);
            self.tell(|observer| observer.moved(Operation::Put, len_bytes));
        }
        Ok(put)
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.note(Operation::Get, key);
        let bytes = self.inner.get(key, len_max_bytes).await?;
        self.counters.get_bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.tell(|observer| observer.moved(Operation::Get, bytes.len() as u64));
        Ok(bytes)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.note(Operation::List, prefix);
        let found = self.inner.list(prefix).await;
        // One that failed took a request at least.
        let pages = found.as_ref().map_or(1, |found| found.len().div_ceil(LIST_PAGE_LEN).max(1) as u64);
        self.tell(|observer| observer.asked(Operation::List, pages));
        let found = found?;
        self.counters.list_pages.fetch_add(pages, Relaxed);
        self.tell(|observer| observer.listed(prefix, &found));
        Ok(found)
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.note(Operation::Stat, key);
        self.inner.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.note(Operation::Delete, key);
        self.inner.delete(key).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.note(Operation::Now, "");
        self.inner.now().await
    }
}
