//! The objects of the simulated store.

use std::collections::BTreeMap;

use bytes::Bytes;
use hah_vault::store::{ObjectMeta, Put, StoreTime};

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub bytes: Bytes,
    pub modified_ms: i64,
}

/// By key.
#[derive(Debug, Default)]
pub(super) struct Objects(pub BTreeMap<String, Object>);

impl Objects {
    pub fn put(&mut self, key: &str, bytes: &Bytes, modified_ms: i64) -> Put {
        if self.0.contains_key(key) {
            return Put::Existed;
        }
        self.0.insert(key.to_owned(), Object { bytes: bytes.clone(), modified_ms });
        Put::Created
    }

    /// Whole seconds, as S3 says it in a HEAD.
    pub fn stat(&self, key: &str) -> Option<ObjectMeta> {
        let object = self.0.get(key)?;
        Some(meta(key, object, object.modified_ms / 1000 * 1000))
    }

    /// At most `len` entries after a key: listings are not of one moment.
    pub fn page(&self, prefix: &str, after: Option<&str>, len: usize) -> Vec<ObjectMeta> {
        let fits = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let all = self.0.iter().filter(|(key, _)| fits(key));
        all.take(len).map(|(key, object)| meta(key, object, object.modified_ms)).collect()
    }

    /// Oldest first: names of packs are random.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut found: Vec<(&String, &Object)> = self.0.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        found.sort_by_key(|(_, object)| object.modified_ms);
        found.into_iter().map(|(key, _)| key.clone()).collect()
    }
}

fn meta(key: &str, object: &Object, unix_ms: i64) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), len_bytes: object.bytes.len() as u64, modified: StoreTime { unix_ms } }
}
