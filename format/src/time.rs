//! Times as they stand in names: whole seconds of UTC.

use crate::FormatError;
use std::fmt;
use std::str::FromStr;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted; text form `20261122T143000Z`.
///
/// Range: years 1970 to 9999, so that the text form has a fixed length and sorts as the time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

/// The last second of the year 9999.
const UNIX_S_MAX: u64 = 253_402_300_799;
const TEXT_RULE: &str = "a UTC time like 20261122T143000Z is needed";

impl UnixTime {
    /// From seconds since 1970.
    ///
    /// # Errors
    /// [`FormatError::Limit`] after the year 9999.
    pub fn from_unix_s(unix_s: u64) -> Result<Self, FormatError> {
        if unix_s > UNIX_S_MAX {
            return Err(FormatError::Limit { what: "time", found: unix_s, limit: UNIX_S_MAX });
        }
        Ok(Self(unix_s))
    }

    /// Seconds since 1970.
    pub fn unix_s(self) -> u64 {
        self.0
    }

    /// Year, month, day, hour, minute, second.
    pub fn civil(self) -> (u64, u64, u64, u64, u64, u64) {
        let (days, s) = (self.0 / 86_400, self.0 % 86_400);
        let (y, m, d) = civil_from_days(days);
        (y, m, d, s / 3600, s / 60 % 60, s % 60)
    }

    /// The time of a civil date; `None` where there is no such date.
    pub fn from_civil(y: u64, m: u64, d: u64, h: u64, min: u64, s: u64) -> Option<Self> {
        if !(1970..=9999).contains(&y) || h > 23 || min > 59 || s > 59 {
            return None;
        }
        if !(1..=12).contains(&m) || d < 1 || d > days_in_month(y, m) {
            return None;
        }
        Some(Self(days_from_civil(y, m, d) * 86_400 + h * 3600 + min * 60 + s))
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, counted in 400-year eras that
/// begin on 1 March (method: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(y: u64, m: u64, d: u64) -> u64 {
    let y = if m <= 2 { y - 1 } else { y };
    let (era, year_of_era) = (y / 400, y % 400);
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (era * 400 + yoe + u64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1)
}

fn days_in_month(y: u64, m: u64) -> u64 {
    match m {
        4 | 6 | 9 | 11 => 30,
        2 if y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, m, d, h, min, s) = self.civil();
        write!(f, "{y:04}{m:02}{d:02}T{h:02}{min:02}{s:02}Z")
    }
}

impl FromStr for UnixTime {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let bad = || FormatError::Name { what: "time", found: text.into(), rule: TEXT_RULE };
        let digits = |from: usize, to: usize| -> Result<u64, FormatError> {
            let part = text.get(from..to).ok_or_else(bad)?;
            if !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            part.parse().map_err(|_| bad())
        };
        if text.len() != 16 || text.get(8..9) != Some("T") || text.get(15..) != Some("Z") {
            return Err(bad());
        }
        let (y, m, d) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
        let (h, min, s) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
        Self::from_civil(y, m, d, h, min, s).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_have_their_text_forms() {
        for (unix_s, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_361_015, "20261122T152335Z"),
            (UNIX_S_MAX, "99991231T235959Z"),
        ] {
            assert_eq!(UnixTime(unix_s).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixTime(unix_s)));
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in
            ["20260229T000000Z", "20261301T000000Z", "20260101T240000Z", "2026-01-01T000Z", "20260101t000000Z", ""]
        {
            assert!(text.parse::<UnixTime>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_forms_round_trip_and_sort_as_times(a in 0..=UNIX_S_MAX, b in 0..=UNIX_S_MAX) {
            let (a, b) = (UnixTime(a), UnixTime(b));
            prop_assert_eq!(a.to_string().parse::<UnixTime>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
