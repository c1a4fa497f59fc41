//! The agent's clock: the machine's, or one that a test moves.

use crate::world::World;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest single sleep: timers stand still while the machine is suspended, and the wall clock may be set.
const NAP_MAX: Duration = Duration::from_secs(30);

/// A clock to wait by.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall clock, milliseconds since 1970.
    fn unix_ms(&self) -> i64;

    /// Time since some fixed moment, by a clock that is never set and that counts suspension.
    fn since_boot(&self) -> Duration;

    /// Waits until the wall clock shows at least this; sooner than `NAP_MAX` after a suspension that ended later.
    async fn sleep_until(&self, unix_ms: i64);

    /// Waits for a while.
    async fn sleep(&self, time: Duration) {
        self.sleep_until(self.unix_ms().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))).await;
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct MachineClock(Arc<dyn World>);

impl MachineClock {
    /// The clock of a world.
    pub fn new(world: Arc<dyn World>) -> Self {
        Self(world)
    }
}

#[async_trait]
impl Clock for MachineClock {
    fn unix_ms(&self) -> i64 {
        self.0.host_unix_ms()
    }

    fn since_boot(&self) -> Duration {
        self.0.since_boot()
    }

    async fn sleep_until(&self, unix_ms: i64) {
        loop {
            let left_ms = unix_ms.saturating_sub(self.unix_ms());
            let Ok(left_ms) = u64::try_from(left_ms) else { return };
            if left_ms == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left_ms).min(NAP_MAX)).await;
        }
    }
}

/// A moment as it stands in answers: `2026-11-22T14:30:00.000Z`. Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(pub i64);

impl Moment {
    /// Of whole seconds since 1970.
    pub fn from_unix_s(unix_s: i64) -> Self {
        Self(unix_s.saturating_mul(1000))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for Moment {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339() {
        let moment = Moment(1_795_361_015_042);
        assert_eq!(moment.to_string(), "2026-11-22T15:23:35.042Z");
        assert_eq!(Moment::try_from(moment.to_string()).unwrap(), moment);
        assert_eq!(Moment::try_from("2026-11-22T16:23:35+01:00".to_owned()).unwrap(), Moment(1_795_361_015_000));
        assert!(Moment::try_from("2026-11-22".to_owned()).is_err());
    }
}
