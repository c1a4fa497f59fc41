//! When something runs: cron expressions and intervals. Pure: the time is given.
//!
//! A **slot** is a moment that a schedule names, in seconds since 1970. Replicas with the same schedule compute the same
//! slots and the same jitter, whatever host they run on.

use super::cron::Cron;
use jiff::tz::TimeZone;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// The shortest interval, 1 s.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// The longest interval, 366 days.
const EVERY_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The longest jitter, a day.
const JITTER_MAX: Duration = Duration::from_secs(86_400);

/// A schedule that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// The expression.
    #[error("schedule {text:?}: {reason}")]
    Text {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The time zone.
    #[error("time zone {name:?} is not known")]
    Zone {
        /// As given.
        name: String,
    },
    /// The jitter.
    #[error("a jitter of {s} s is too long: at most {max_s} s", max_s = JITTER_MAX.as_secs())]
    Jitter {
        /// As given, in seconds.
        s: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    /// At the whole multiples of this, counted from 1970; at least a second.
    Every(i64),
    Cron(Box<Cron>),
}

/// A schedule.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    when: When,
    zone: TimeZone,
    zone_name: String,
    jitter: Duration,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?} in {}, jitter {:?})", self.text, self.zone_name, self.jitter)
    }
}

impl Schedule {
    /// Reads `every 10m`, a cron expression of five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    ///
    /// `every` counts from 1970 in UTC: `every 10m` means :00, :10, :20 and so on of every hour, `every 24h` midnight.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn parse(text: &str, zone_name: &str, jitter: Duration) -> Result<Self, ScheduleError> {
        let bad = |reason: String| ScheduleError::Text { text: text.into(), reason };
        let zone = zone(zone_name)?;
        if jitter > JITTER_MAX {
            return Err(ScheduleError::Jitter { s: jitter.as_secs() });
        }
        let trimmed = text.trim();
        let when = match trimmed.strip_prefix("every ").or_else(|| trimmed.strip_prefix("@every ")) {
            Some(span) => When::Every(every(span.trim()).map_err(bad)?),
            None => When::Cron(Box::new(Cron::parse(trimmed).map_err(bad)?)),
        };
        Ok(Self { text: trimmed.into(), when, zone, zone_name: zone_name.into(), jitter })
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time zone's name.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The longest delay after a slot.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// The first slot after a moment; `None` if there is none within the next eight years or so (30 February).
    pub fn next_after(&self, unix_s: i64) -> Option<i64> {
        match &self.when {
            When::Every(s) => unix_s.div_euclid(*s).checked_add(1)?.checked_mul(*s),
            When::Cron(cron) => cron.next_after(unix_s, &self.zone),
        }
    }

    /// The newest slot at or before a moment.
    pub fn newest_at(&self, unix_s: i64) -> Option<i64> {
        match &self.when {
            When::Every(s) => unix_s.div_euclid(*s).checked_mul(*s),
            When::Cron(cron) => cron.newest_at(unix_s, &self.zone),
        }
    }

    /// When the run of a slot begins, in milliseconds since 1970: the slot, and a part of the jitter that depends on the
    /// slot and `who` only. Never later than halfway to the next slot, so that slots keep their order.
    pub fn start_unix_ms(&self, slot: i64, who: &str) -> i64 {
        let gap_s = self.next_after(slot).map_or(0, |next| next.saturating_sub(slot));
        let max_ms = i64::try_from(self.jitter.as_millis()).unwrap_or(i64::MAX).min(gap_s.saturating_mul(500));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&slot.to_le_bytes()).update(who.as_bytes());
        let mut eight = [0; 8];
        hasher.finalize_xof().fill(&mut eight);
        let share = i64::try_from(u64::from_le_bytes(eight) % (max_ms.unsigned_abs() + 1)).unwrap_or(0);
        slot.saturating_mul(1000).saturating_add(share)
    }

    /// The newest slot after `settled` whose run should have begun by now. Slots between the two are missed and are
    /// settled together with it.
    pub fn due(&self, settled: Option<i64>, now_unix_ms: i64, who: &str) -> Option<i64> {
        let slot = self.newest_at(now_unix_ms.div_euclid(1000))?;
        let begun = |slot: &i64| self.start_unix_ms(*slot, who) <= now_unix_ms;
        // Of two slots in a row only the newer one can still be waiting for its jitter.
        let slot = Some(slot).filter(begun).or_else(|| self.newest_at(slot - 1).filter(begun))?;
        settled.is_none_or(|settled| slot > settled).then_some(slot)
    }

    /// When something becomes due next, given that nothing is due now: milliseconds since 1970.
    pub fn next_due_unix_ms(&self, settled: Option<i64>, now_unix_ms: i64, who: &str) -> Option<i64> {
        let now_s = now_unix_ms.div_euclid(1000);
        // The newest slot may be waiting for its jitter.
        let mut slot = self.newest_at(now_s).or_else(|| self.next_after(now_s))?;
        loop {
            let start = self.start_unix_ms(slot, who);
            if start > now_unix_ms && settled.is_none_or(|settled| slot > settled) {
                return Some(start);
            }
            slot = self.next_after(slot)?;
        }
    }
}

fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| ScheduleError::Zone { name: name.into() })
}

/// `90s`, `10m`, `6h`, `1d`, `1w`.
fn every(span: &str) -> Result<i64, String> {
    let bad = || "after `every` comes a number and a unit: 30s, 10m, 6h, 1d or 1w".to_owned();
    let unit_s = match span.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some('w') => 604_800,
        _ => return Err(bad()),
    };
    let number: u64 = span[..span.len() - 1].parse().map_err(|_| bad())?;
    let s = number.checked_mul(unit_s).map(Duration::from_secs).ok_or_else(bad)?;
    if !(EVERY_MIN..=EVERY_MAX).contains(&s) {
        return Err(format!("an interval is {} s to {} s long", EVERY_MIN.as_secs(), EVERY_MAX.as_secs()));
    }
    i64::try_from(s.as_secs()).map_err(|_| bad())
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
