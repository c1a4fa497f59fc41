//! A store in memory that something happens to at the moment of a put.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::store::{MemoryStore, ObjectMeta, Put, Store, StoreError, StoreTime};

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

type Hook = Box<dyn Fn(When, &str, &MemoryStore) -> Vec<String> + Send + Sync>;

/// Calls a hook before and after every put, and then deletes the objects that the hook names.
pub struct HookedStore {
    pub memory: Arc<MemoryStore>,
    hook: Hook,
}

impl HookedStore {
    pub fn new(
        memory: Arc<MemoryStore>,
        hook: impl Fn(When, &str, &MemoryStore) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { memory, hook: Box::new(hook) }
    }

    async fn call(&self, when: When, key: &str) -> Result<(), StoreError> {
        for key in (self.hook)(when, key, &self.memory) {
            self.memory.delete(&key).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for HookedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookedStore")
    }
}

#[async_trait]
impl Store for HookedStore {
    fn describe(&self) -> String {
        self.memory.describe()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.call(When::Before, key).await?;
        let put = self.memory.put_if_absent(key, bytes).await?;
        self.call(When::After, key).await?;
        Ok(put)
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.memory.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.memory.list(prefix).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.memory.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.memory.delete(key).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.memory.now().await
    }
}
