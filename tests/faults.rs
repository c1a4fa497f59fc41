//! Stores, disks and sources that fail while a command runs.
//!
//! Oracle: success that restores exactly, or a named error with nothing committed; both in bounded time.

mod disks;
mod sources;
mod stops;
mod stores;

use crate::support::repo::{TestRepository, fixture};
use hah_vault::archive::ArchiveError;
use std::time::{Duration, Instant};

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

fn original(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// A bug has no name.
fn is_named(error: &ArchiveError) -> bool {
    !matches!(error, ArchiveError::Internal(_))
}

/// Runs a future and looks at the clock.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let done = tokio::time::timeout(limit * 2, future).await.expect("it does not end");
    assert!(begin.elapsed() < limit, "it took {:?}", begin.elapsed());
    done
}

/// What was there before is all that is there, and restores.
async fn assert_nothing_committed(test: &TestRepository, before: usize) {
    assert_eq!(test.manifests().await.len(), before, "a manifest was committed");
    if before > 0 {
        assert!(test.restore_latest("consul").await.unwrap().0 == original("consul-00.snap"));
    }
}
