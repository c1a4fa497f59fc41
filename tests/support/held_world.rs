//! A clock and random numbers in a test's hands.

use hah_vault::world::World;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Stands still until it is moved. Its random numbers are 0, 1, 2, …
#[derive(Debug, Default)]
pub struct HeldWorld {
    since_boot_ms: AtomicU64,
    random: AtomicU32,
}

impl HeldWorld {
    /// Moves the clock that counts suspension.
    pub fn advance(&self, by: Duration) {
        self.since_boot_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Relaxed);
    }
}

impl World for HeldWorld {
    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.since_boot_ms.load(Relaxed))
    }

    fn host_unix_ms(&self) -> i64 {
        0
    }

    fn random_u32(&self) -> u32 {
        self.random.fetch_add(1, Relaxed)
    }

    fn host(&self) -> String {
        "held".into()
    }
}
