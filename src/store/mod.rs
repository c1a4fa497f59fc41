//! Where objects are kept: a local folder, S3, R2, or memory.
//!
//! One trait, [`Store`], with the few operations that the design needs (DESIGN §3): put if absent, get, list, stat, delete,
//! and the store's own time. Retries, time-outs and lost answers are settled in here, so that a caller sees an answer or a
//! named error and never a maybe.
//!
//! Architecture invariant: only this module names opendal, and nothing in it knows what an object contains.

mod error;
mod key;
mod local;
mod memory;
mod options;
mod random;
mod record;
mod s3;
mod url;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::{At, Cause, Operation, StoreError};
pub use key::KEY_LEN_BYTES_MAX;
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use options::{Credentials, Patience, Secret, StoreOptions};
pub use record::{Counts, Observer, RecordingStore};
pub use url::StoreUrl;

/// The most objects that one listing may hold; more is [`StoreError::TooMany`]. About ten years of hourly backups, and a bound
/// on the memory that a hostile store can make us use.
pub const LIST_LEN_MAX: usize = 4_000_000;

/// A place for immutable objects.
///
/// Keys are relative, `/`-separated, of `[a-zA-Z0-9._/-]`, without empty parts or parts that begin with a dot; the folder
/// `tmp/` is reserved. A key that breaks this is [`StoreError::Invalid`].
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// The store's URL without secrets, for messages.
    fn describe(&self) -> String;

    /// Puts an object unless the key exists already; nothing is ever overwritten.
    ///
    /// A put whose answer was lost is resolved by reading back and comparing: the own bytes are [`Put::Created`]. An error after
    /// a time-out does not promise that the object will not appear later.
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError>;

    /// The whole object. One that is longer than `len_max_bytes` is [`StoreError::TooLong`], and no more than that is
    /// buffered. The limit also decides how long a slow answer may take, so give one that means something.
    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError>;

    /// All objects under the prefix, at any depth, sorted by key and without doubles. The prefix ends with `/`, or is empty for
    /// everything. At most [`LIST_LEN_MAX`].
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError>;

    /// What the store says about one object; `None` when there is none.
    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError>;

    /// Deletes an object. Deleting what is not there is fine.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// The store's own time now (DESIGN §7), never the client's clock.
    async fn now(&self) -> Result<StoreTime, StoreError>;

    /// Checks that the store really honours put-if-absent, by trying it on a small object under `probe/`. `init` calls it.
    ///
    /// Two puts and a delete; credentials without delete leave a few bytes behind.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] when the second put was accepted.
    async fn probe(&self) -> Result<(), StoreError> {
        let key = format!("probe/{}", random::hex16());
        // Different bytes: a read-back must not take the second put for the first.
        self.put_if_absent(&key, Bytes::from_static(b"first\n")).await?;
        let second = self.put_if_absent(&key, Bytes::from_static(b"second\n")).await;
        if let Err(error) = self.delete(&key).await {
            tracing::debug!(%error, "the probe object stays");
        }
        match second? {
            Put::Existed => Ok(()),
            Put::Created => {
                Err(StoreError::Unsupported { store: self.describe(), feature: "put-if-absent (If-None-Match)" })
            }
        }
    }
}

/// What a listing or a stat says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key, relative to the repository.
    pub key: String,
    /// Its length.
    pub len_bytes: u64,
    /// When it was put, by the store's clock. S3 lists milliseconds or seconds, and always stats whole seconds.
    pub modified: StoreTime,
}

/// A point in the store's own time. Comparable only with others of the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTime {
    /// Milliseconds since 1970 in UTC.
    pub unix_ms: i64,
}

impl From<std::time::SystemTime> for StoreTime {
    fn from(time: std::time::SystemTime) -> Self {
        let saturate = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let unix_ms = match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => saturate(after),
            Err(before) => -saturate(before.duration()),
        };
        Self { unix_ms }
    }
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there now, with our bytes, and was not before.
    Created,
    /// The key was taken, and stays as it was.
    Existed,
}

/// Opens the store at a URL. Nothing is created, and nothing but a CA file is read, until the first operation.
///
/// # Errors
/// [`StoreError::Invalid`] when a setting is missing or makes no sense.
pub async fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match url {
        StoreUrl::Local { path } => Arc::new(LocalStore::open(path)?),
        StoreUrl::S3 { .. } | StoreUrl::R2 { .. } => Arc::new(s3::S3Store::open(url, options)?),
    })
}
