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
pub(super) struct Objects {
    pub now: BTreeMap<String, Object>,
    /// When a key was put or deleted, the oldest first; and what was there before.
    before: Vec<(i64, String, Option<Object>)>,
}

impl Objects {
    pub fn put(&mut self, key: &str, bytes: &Bytes, modified_ms: i64, now_ms: i64) -> Put {
        if self.now.contains_key(key) {
            return Put::Existed;
        }
        self.now.insert(key.to_owned(), Object { bytes: bytes.clone(), modified_ms });
        self.before.push((now_ms, key.to_owned(), None));
        Put::Created
    }

    /// Whether there was anything.
    pub fn remove(&mut self, key: &str, now_ms: i64) -> bool {
        let Some(object) = self.now.remove(key) else { return false };
        self.before.push((now_ms, key.to_owned(), Some(object)));
        true
    }

    /// Whole seconds, as S3 says it in a HEAD.
    pub fn stat(&self, key: &str) -> Option<ObjectMeta> {
        let object = self.now.get(key)?;
        Some(meta(key, object, object.modified_ms / 1000 * 1000))
    }

    /// At most `len` entries after a key, as they were at some time: listings are not of one moment.
    pub fn page(&self, prefix: &str, after: Option<&str>, len: usize, as_of_ms: i64) -> Vec<ObjectMeta> {
        let fits = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let now = self.now.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let mut then: BTreeMap<&str, &Object> = now.map(|(key, object)| (key.as_str(), object)).collect();
        for (_, key, before) in self.before.iter().rev().take_while(|(at_ms, ..)| *at_ms > as_of_ms) {
            match before {
                Some(object) => then.insert(key, object),
                None => then.remove(key.as_str()),
            };
        }
        let all = then.into_iter().filter(|(key, _)| fits(key));
        all.take(len).map(|(key, object)| meta(key, object, object.modified_ms)).collect()
    }

    /// Oldest first: names of packs are random.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut found: Vec<(&String, &Object)> = self.now.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        found.sort_by_key(|(_, object)| object.modified_ms);
        found.into_iter().map(|(key, _)| key.clone()).collect()
    }
}

fn meta(key: &str, object: &Object, unix_ms: i64) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), len_bytes: object.bytes.len() as u64, modified: StoreTime { unix_ms } }
}
