//! What was promised, and whether it still holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hah_vault_format::ManifestName;

use super::history::Outcome;
use super::objects::Objects;
use super::sim::{HOUR_MS, START_MS};

/// A trash copy can be had back for this long.
const UNDELETE_MS: i64 = 12 * 3_600_000;

/// A manifest is not retired for this long.
const YOUNG_MS: i64 = 24 * 3_600_000;

/// A manifest whose writer was told that it is safe.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub name: ManifestName,
    pub packs: Vec<String>,
    pub content: Arc<Vec<u8>>,
    /// When its run began: what the world lost before is no excuse.
    pub began_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// By key of the manifest.
    pub promises: BTreeMap<String, Promise>,
    lost: HashMap<String, i64>,
    pub damaged: HashSet<String>,
    /// When a promised manifest was deleted: for half the grace from then on it can be had back.
    retired_ms: HashMap<String, i64>,
    /// Requests may be held up for longer than any time-out allows: then what is in the trash is not promised.
    pub without_trash: bool,
    pub holes: Vec<String>,
    trace: Vec<String>,
}

impl Oracle {
    /// Notes what happens, for a report.
    pub fn note(&mut self, now_ms: i64, words: impl FnOnce() -> String) {
        let mut words = words();
        words.truncate(200);
        self.trace.push(format!("{:9.3} {words}", (now_ms - START_MS) as f64 / HOUR_MS));
    }

    pub fn trace(&self) -> String {
        self.trace.join("\n")
    }

    fn hole(&mut self, now_ms: i64, words: String) {
        self.note(now_ms, || format!("!!! {words}"));
        self.holes.push(words);
    }

    pub fn lost(&mut self, pack: String, now_ms: i64) {
        self.lost.insert(pack, now_ms);
    }

    pub fn damaged(&mut self, key: String) {
        self.damaged.insert(key);
    }

    /// Whether the world itself is to blame.
    pub fn is_lost(&self, promise: &Promise) -> bool {
        promise.packs.iter().any(|pack| self.lost.get(pack).is_some_and(|at_ms| *at_ms >= promise.began_ms))
    }

    /// A run has ended; if well, then with a promise.
    pub fn promised(&mut self, outcome: Outcome, objects: &Objects, now_ms: i64) {
        let Some(promise) = outcome.promise(&self.promises) else { return };
        let key = promise.name.key();
        // Whoever hears of it late may find it retired already, but not while it is young.
        let is_there = objects.now.contains_key(&key);
        let young = now_ms - promise.began_ms < YOUNG_MS && !self.without_trash;
        if !is_there && young && !self.damaged.contains(&key) {
            self.hole(now_ms, format!("{key} was committed, and is gone"));
        }
        for pack in promise.packs.iter().filter(|_| is_there) {
            let is_there =
                ["packs/", "index/"].iter().all(|folder| objects.now.contains_key(&format!("{folder}{pack}")));
            if !is_there && !self.lost.contains_key(pack) {
                self.hole(now_ms, format!("{key} was committed without pack {pack}"));
            }
        }
        self.promises.insert(key, promise);
    }

    /// An object was deleted by somebody's request. A manifest's deletion may be excused: then no copy of it is promised.
    pub fn deleted(&mut self, key: &str, objects: &Objects, now_ms: i64, excused: bool) {
        if let Some(promise) = self.promises.get(key).filter(|_| !self.damaged.contains(key)) {
            if excused {
                return;
            }
            let copies = format!("trash/{}.", promise.name);
            let is_there = objects.now.range(copies.clone()..).next().is_some_and(|(key, _)| key.starts_with(&copies));
            if !is_there && !self.without_trash {
                self.hole(now_ms, format!("{key} was deleted, and no copy of it is in the trash"));
            }
            self.retired_ms.entry(key.to_owned()).or_insert(now_ms);
            return;
        }
        let Some((folder, pack)) = key.split_once('/') else { return };
        if folder != "packs" && folder != "index" {
            return;
        }
        let named: Vec<&Promise> = self.promises.values().filter(|p| p.packs.iter().any(|p| p == pack)).collect();
        let mut holes = Vec::new();
        for promise in named.into_iter().filter(|promise| !self.is_lost(promise)) {
            let key = promise.name.key();
            if objects.now.contains_key(&key) && !self.damaged.contains(&key) {
                holes.push(format!("{folder}/{pack} was deleted, and {key} names it"));
            }
            let retired_ms = self.retired_ms.get(&key).filter(|_| !self.without_trash);
            if retired_ms.is_some_and(|at_ms| now_ms - at_ms < UNDELETE_MS) {
                holes.push(format!("{folder}/{pack} was deleted, and {key} was retired too short a time ago"));
            }
        }
        for words in holes {
            self.hole(now_ms, words);
        }
    }
}
