//! A store in memory, with a clock that can be held: for tests and rehearsals.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::key::{check_key, check_prefix};
use super::{At, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};

/// Objects in memory. Its time is the system's until [`MemoryStore::set_now`] holds it still.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    held: Option<StoreTime>,
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    modified: StoreTime,
}

impl State {
    fn now(&self) -> StoreTime {
        self.held.unwrap_or_else(|| SystemTime::now().into())
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the store's clock at this time.
    pub fn set_now(&self, now: StoreTime) {
        self.state().held = Some(now);
    }

    /// Moves the store's clock, which is held from then on.
    pub fn advance_ms(&self, ms: i64) {
        let mut state = self.state();
        let unix_ms = state.now().unix_ms.saturating_add(ms);
        state.held = Some(StoreTime { unix_ms });
    }

    /// Puts or replaces an object, as only a hostile or damaged store would.
    pub fn overwrite(&self, key: &str, bytes: Bytes) {
        let mut state = self.state();
        let modified = state.now();
        state.objects.insert(key.to_owned(), Object { bytes, modified });
    }

    /// A panic elsewhere leaves the map whole, so its lock is taken all the same.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, operation: Operation, key: &str) -> At {
        At { operation, key: key.to_owned(), store: self.describe() }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        check_key(key)?;
        let mut state = self.state();
        let modified = state.now();
        if state.objects.contains_key(key) {
            return Ok(Put::Existed);
        }
        state.objects.insert(key.to_owned(), Object { bytes, modified });
        Ok(Put::Created)
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        check_key(key)?;
        let at = self.at(Operation::Get, key);
        match self.state().objects.get(key) {
            None => Err(StoreError::NotFound { at }),
            Some(object) if object.bytes.len() as u64 > len_max_bytes => Err(StoreError::TooLong { at, len_max_bytes }),
            Some(object) => Ok(object.bytes.clone()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        check_prefix(prefix)?;
        let state = self.state();
        let from = state.objects.range(prefix.to_owned()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, object)| meta(key, object)).collect())
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        check_key(key)?;
        Ok(self.state().objects.get(key).map(|object| meta(key, object)))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.state().objects.remove(key);
        Ok(())
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        Ok(self.state().now())
    }
}

fn meta(key: &str, object: &Object) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), len_bytes: object.bytes.len() as u64, modified: object.modified }
}
