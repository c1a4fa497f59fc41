//! The clock and the random numbers: everything that a test may want to hold still comes in through here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a run takes from the machine that it runs on.
pub trait World: Send + Sync + fmt::Debug {
    /// Time since some fixed moment of this boot, by a clock that goes on while the machine is suspended
    /// (DESIGN §7: the commit limit counts suspension).
    fn since_boot(&self) -> Duration;

    /// The host's own wall clock, for people only: nothing that deletes or commits trusts it. Milliseconds since
    /// 1970.
    fn host_unix_ms(&self) -> i64;

    /// A random number.
    fn random_u32(&self) -> u32;

    /// The host's name.
    fn host(&self) -> String;
}

/// The machine itself.
#[derive(Debug, Default)]
pub struct Machine;

impl Machine {
    /// As the shared object that everything takes.
    pub fn shared() -> Arc<dyn World> {
        Arc::new(Self)
    }
}

impl World for Machine {
    fn since_boot(&self) -> Duration {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        // Elsewhere the monotonic clock either counts suspension (macOS) or is all there is.
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        let (s, ns) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Duration::new(s, ns)
    }

    fn host_unix_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }

    fn random_u32(&self) -> u32 {
        let mut bytes = [0; 4];
        // Only names are made of it; a name that exists already is refused by the store.
        if getrandom::fill(&mut bytes).is_err() {
            bytes = self.since_boot().subsec_nanos().to_le_bytes();
        }
        u32::from_le_bytes(bytes)
    }

    fn host(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
}
