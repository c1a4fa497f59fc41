//! What monitoring is told: is it true, and does Prometheus understand it.

mod file;
mod registry;
mod rules;

use hah_vault::telemetry::Registry;
use hah_vault::world::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

/// 2026-11-22 14:30:00 UTC.
const NOON_UNIX_S: i64 = 1_795_357_800;

/// A host whose clock stands still until it is set.
#[derive(Debug)]
struct Still(AtomicI64);

impl Still {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(NOON_UNIX_S)))
    }

    fn set(&self, unix_s: i64) {
        self.0.store(unix_s, SeqCst);
    }

    fn registry(self: &Arc<Self>) -> Arc<Registry> {
        Registry::new(Arc::<Self>::clone(self))
    }
}

impl World for Still {
    fn since_boot(&self) -> Duration {
        Duration::ZERO
    }

    fn host_unix_ms(&self) -> i64 {
        self.0.load(SeqCst) * 1000
    }

    fn random_u32(&self) -> u32 {
        4
    }

    fn host(&self) -> String {
        "host".into()
    }
}
