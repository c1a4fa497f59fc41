//! Collectors that are cut off anywhere, run side by side, or beside backups.

use super::lab::{HOUR, Lab, gc, newest_only};
use crate::support::stopping_store::StoppingStore;
use async_trait::async_trait;
use bytes::Bytes;
use hah_vault::archive::GRACE;
use hah_vault::archive::gc::undelete::undelete;
use hah_vault::archive::retention::Policy;
use hah_vault::store::{MemoryStore, ObjectMeta, Put, Store, StoreError, StoreTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A repository where a gc retires, deletes trash, and deletes packs.
async fn ready() -> (Lab, Vec<hah_vault_format::ManifestName>) {
    let lab = Lab::new().await;
    let mut names = lab.hourly("alpha", 3).await;
    lab.advance(25 * HOUR);
    lab.gc(&newest_only()).await.unwrap();
    // Another one to retire, and a crashed run.
    for content in [3, 4] {
        names.push(lab.backup("alpha", content).await);
        lab.advance(HOUR);
    }
    let crashed = lab.backup("beta", 5).await;
    lab.memory.delete(&crashed.key()).await.unwrap();
    lab.advance(GRACE + HOUR);
    (lab, names)
}

#[tokio::test]
async fn a_gc_that_is_cut_off_anywhere_leaves_only_garbage_which_the_next_one_deletes() {
    let mut cut_off = 0;
    for last_is_done in [false, true] {
        for operations in 0.. {
            let (lab, names) = ready().await;
            let store = Arc::new(StoppingStore::new(lab.memory.clone(), operations, last_is_done));
            let result = gc(&lab.through(store.clone()), &newest_only()).await;
            assert_eq!(store.is_cut_off(), result.is_err(), "{operations}: {result:?}");
            let there = lab.test.manifests().await;
            assert!(there.contains(&names[4]), "{operations}");
            for (name, content) in names.iter().zip(0..) {
                if there.contains(name) {
                    lab.assert_all_restore(std::slice::from_ref(name), [content]).await;
                }
            }
            // What is not there any more can be brought back.
            for (name, content) in names[2..4].iter().zip(2..).filter(|(name, _)| !there.contains(name)) {
                let copy = lab.test.repository.resolve_trash(&name.to_string()).await.unwrap();
                let back = undelete(&lab.test.repository, &copy).await.unwrap().name;
                lab.assert_all_restore(std::slice::from_ref(&back), [content]).await;
                lab.memory.delete(&back.key()).await.unwrap();
            }
            for _ in 0..3 {
                lab.gc(&newest_only()).await.unwrap();
                lab.advance(GRACE + HOUR);
            }
            lab.assert_all_restore(&names[4..], [4]).await;
            let left = [lab.count("manifests/").await, lab.count("packs/").await, lab.count("index/").await];
            assert_eq!((left, lab.count("trash/").await), ([1, 1, 1], 0), "{operations}");
            assert_eq!(lab.count("probe/").await, 0, "{operations}");
            if result.is_ok() {
                break;
            }
            cut_off += 1;
        }
    }
    // Every operation of a run, before and after it was done.
    assert!(cut_off > 60, "{cut_off}");
}

/// Lets others go first before each operation, more or less often by a seed.
#[derive(Debug)]
struct Shuffled {
    memory: Arc<MemoryStore>,
    seed: AtomicU64,
}

impl Shuffled {
    async fn others(&self) {
        let state = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mixed = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        for _ in 0..(mixed >> 60) {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for Shuffled {
    fn describe(&self) -> String {
        "shuffled".into()
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        self.others().await;
        self.memory.put_if_absent(key, bytes).await
    }

    async fn get(&self, key: &str, len_max_bytes: u64) -> Result<Bytes, StoreError> {
        self.others().await;
        self.memory.get(key, len_max_bytes).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        self.others().await;
        self.memory.list(prefix).await
    }

    async fn stat(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.others().await;
        self.memory.stat(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.others().await;
        self.memory.delete(key).await
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.others().await;
        self.memory.now().await
    }
}

#[tokio::test]
async fn two_collectors_at_once_do_no_harm() {
    for seed in 0..40 {
        let (lab, names) = ready().await;
        let store = |salt: u64| Arc::new(Shuffled { memory: lab.memory.clone(), seed: (seed * 1000 + salt).into() });
        let (one, two) = (lab.through(store(1)), lab.through(store(2)));
        let options = newest_only();
        let (one, two) = tokio::join!(gc(&one, &options), gc(&two, &options));
        // A manifest that vanishes under a collector, after its copy was listed, ends the run; nothing else does.
        assert!(one.is_ok() || two.is_ok(), "{seed}: {one:?} {two:?}");
        lab.assert_all_restore(&names[4..], [4]).await;
        for name in &names[2..4] {
            assert!(lab.test.repository.resolve_trash(&name.to_string()).await.is_ok(), "{seed}: {name}");
        }
        for _ in 0..3 {
            lab.gc(&options).await.unwrap();
            lab.advance(GRACE + HOUR);
        }
        assert_eq!((lab.count("packs/").await, lab.count("trash/").await), (1, 0), "{seed}");
        lab.assert_all_restore(&names[4..], [4]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_beside_a_gc_commit_and_stay() {
    for seed in 0..15 {
        let (lab, names) = ready().await;
        let store = |salt: u64| Arc::new(Shuffled { memory: lab.memory.clone(), seed: (seed * 1000 + salt).into() });
        let collector = lab.through(store(1));
        let mut writer = crate::support::repo::TestRepository::with_identity(store(2), lab.identity.clone());
        writer.repository.world = lab.world.clone();
        let options = newest_only();
        // The first shares all with the parent, the second nothing.
        let backups = async {
            let mut done = Vec::new();
            for content in [4, 77] {
                let bytes = super::lab::content_of(content);
                done.push(writer.backup_bytes("alpha", &bytes).await.unwrap().manifest.name);
            }
            done
        };
        let (collected, done) = tokio::join!(gc(&collector, &options), backups);
        // Where the first backup was there before the collector looked, the one before it is no longer the newest.
        let retired = collected.unwrap().retired;
        let keep_all = hah_vault::archive::gc::GcOptions { policy: Policy::everything(), ..newest_only() };
        for _ in 0..3 {
            lab.gc(&keep_all).await.unwrap();
            lab.assert_all_restore(&done, [4, 77]).await;
            lab.advance(GRACE + HOUR);
        }
        if !retired.contains(&names[4]) {
            lab.assert_all_restore(&names[4..], [4]).await;
        }
    }
}
