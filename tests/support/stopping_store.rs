//! A store that is cut off after some operations, as if the process had died.

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::store::{At, ObjectMeta, Operation, Put, Store, StoreError, StoreTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Any store, for so many operations.
#[derive(Debug)]
pub struct StoppingStore {
    inner: Arc<dyn Store>,
    left: AtomicI64,
    /// The last operation is still done, and its answer lost.
    last_is_done: bool,
}

impl StoppingStore {
    pub fn new(inner: Arc<dyn Store>, operations: i64, last_is_done: bool) -> Self {
        Self { inner, left: operations.into(), last_is_done }
    }

    /// Whether it was cut off.
    pub fn is_cut_off(&self) -> bool {
        self.left.load(Relaxed) < 0
    }

    /// Whether an operation is done; if not, or if its answer is lost, the error.
    fn count(&self, operation: Operation, key: &str) -> (bool, Option<StoreError>) {
        let left = self.left.fetch_sub(1, Relaxed);
        if left > 0 {
            return (true, None);
        }
        let at = At { operation, key: key.into(), store: "cut off".into() };
        let error = StoreError::Unreachable { at, attempts: 1, hint: None, source: "on purpose".into() };
        (left == 0 && self.last_is_done, Some(error))
    }
}

macro_rules! pass {
    ($self:ident, $operation:ident, $key:expr, $call:expr) => {{
        let (done, error) = $self.count(Operation::$operation, $key);
        let answer = if done { Some($call.await) } else { None };
        match (error, answer) {
            (None, Some(answer)) => answer,
            (Some(error), _) => Err(error),
            (None, None) => unreachable!("what is not done has an error"),
        }
    }};
}

#[async_trait]
impl Store for StoppingStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        pass!(self, Put, key, self.inner.put_if_absent(key, bytes))
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        pass!(self, Get, key, self.inner.get(key, len_max_bytes))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        pass!(self, List, prefix, self.inner.list(prefix))
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        pass!(self, Stat, key, self.inner.stat(key))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        pass!(self, Delete, key, self.inner.delete(key))
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        pass!(self, Now, "", self.inner.now())
    }
}
