//! Cron expressions of five fields, and which moments they mean in a time zone.
//!
//! Minute, hour, day of month, month, day of week; `*`, lists, ranges, steps, and English names of months and days. Where
//! both days are restricted, either will do, as in every cron since 1975.
//!
//! **Summer time.** An expression with a free hour (`*`) means every real moment whose wall clock fits: hourly runs go on
//! through the hour that comes twice. One with chosen hours means one moment a day for each: in the hour that comes twice
//! the first, and in the hour that is left out the moment that the clock would have shown had it not been moved
//! (02:30 becomes 03:30).

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// How many days ahead or back a slot is looked for: 29 February can be eight years away (1896, 1904).
const DAYS_LOOKED_MAX: u32 = 8 * 366 + 1;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    /// Sets of allowed values, one bit each.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// 0 is Sunday.
    weekdays: u64,
    any_hour: bool,
    any_day: bool,
    any_weekday: bool,
}

/// What a field may hold.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min` on.
    words: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", min: 0, max: 59, words: &[] };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, words: &[] };
const DAY: Field = Field { name: "day of month", min: 1, max: 31, words: &[] };
const MONTH_WORDS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: Field = Field { name: "month", min: 1, max: 12, words: MONTH_WORDS };
/// 7 is Sunday too.
const WEEKDAY: Field =
    Field { name: "day of week", min: 0, max: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Cron {
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = match text {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            text => text,
        };
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err("five fields are needed (minute hour day month weekday), or `every 10m`".into());
        };
        let mut weekdays = WEEKDAY.parse(weekday)?;
        weekdays |= weekdays >> 7 & 1;
        let cron = Self {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: weekdays & 0x7f,
            any_hour: hour == "*",
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
        };
        if !cron.any_weekday || cron.has_day() { Ok(cron) } else { Err("there is no such day in any year".into()) }
    }

    /// Whether the day of the month exists in one of the months.
    fn has_day(&self) -> bool {
        const LENS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let first = self.days.trailing_zeros();
        (1u32..).zip(LENS).any(|(month, len)| bit(self.months, month) && first <= len)
    }

    fn fits_date(&self, date: Date) -> bool {
        let day = bit(self.days, small(date.day()));
        let weekday = bit(self.weekdays, small(date.weekday().to_sunday_zero_offset()));
        let day = match (self.any_day, self.any_weekday) {
            // A step of all days, such as */2, restricts and yet is no choice of days.
            (true, _) | (_, true) => day && weekday,
            (false, false) => day || weekday,
        };
        day && bit(self.months, small(date.month()))
    }

    /// The moments of one date, in order.
    fn slots(&self, date: Date, zone: &TimeZone) -> Vec<i64> {
        let mut slots = Vec::new();
        for hour in (0i8..24).filter(|hour| bit(self.hours, small(*hour))) {
            for minute in (0i8..60).filter(|minute| bit(self.minutes, small(*minute))) {
                if let Ok(time) = Time::new(hour, minute, 0, 0) {
                    self.moments(DateTime::from_parts(date, time), zone, &mut slots);
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn moments(&self, at: DateTime, zone: &TimeZone, slots: &mut Vec<i64>) {
        let ambiguous = zone.to_ambiguous_timestamp(at);
        let offset = ambiguous.offset();
        let earlier = ambiguous.earlier().map(Timestamp::as_second);
        let later = ambiguous.later().map(Timestamp::as_second);
        match (self.any_hour, offset) {
            (true, AmbiguousOffset::Gap { .. }) => {}
            (true, AmbiguousOffset::Fold { .. }) => slots.extend(earlier.into_iter().chain(later)),
            _ => slots.extend(ambiguous.compatible().map(Timestamp::as_second)),
        }
    }

    pub(super) fn next_after(&self, unix_s: i64, zone: &TimeZone) -> Option<i64> {
        // A moment that was moved out of a gap may belong to the date before.
        let mut date = date_of(unix_s, zone)?.checked_sub(2.days()).ok()?;
        for _ in 0..DAYS_LOOKED_MAX {
            if let Some(slot) = self.first_after(date, unix_s, zone) {
                let tomorrow = date.tomorrow().ok().and_then(|date| self.first_after(date, unix_s, zone));
                return Some(tomorrow.map_or(slot, |other| other.min(slot)));
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn first_after(&self, date: Date, unix_s: i64, zone: &TimeZone) -> Option<i64> {
        let slots = self.fits_date(date).then(|| self.slots(date, zone))?;
        slots.into_iter().find(|slot| *slot > unix_s)
    }

    pub(super) fn newest_at(&self, unix_s: i64, zone: &TimeZone) -> Option<i64> {
        let mut date = date_of(unix_s, zone)?.checked_add(1.day()).ok()?;
        for _ in 0..DAYS_LOOKED_MAX {
            if let Some(slot) = self.last_at(date, unix_s, zone) {
                let day_before = date.yesterday().ok().and_then(|date| self.last_at(date, unix_s, zone));
                return Some(day_before.map_or(slot, |other| other.max(slot)));
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    fn last_at(&self, date: Date, unix_s: i64, zone: &TimeZone) -> Option<i64> {
        let slots = self.fits_date(date).then(|| self.slots(date, zone))?;
        slots.into_iter().rev().find(|slot| *slot <= unix_s)
    }
}

fn date_of(unix_s: i64, zone: &TimeZone) -> Option<Date> {
    Some(zone.to_datetime(Timestamp::from_second(unix_s).ok()?).date())
}

fn small(value: i8) -> u32 {
    u32::from(value.unsigned_abs())
}

fn bit(set: u64, value: u32) -> bool {
    set >> value & 1 == 1
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    /// `*`, `a`, `a-b`, and each with `/step`.
    fn part(&self, part: &str) -> Result<u64, String> {
        let bad = || format!("{part:?} is not a {}: {} to {}", self.name, self.min, self.max);
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|s| *s > 0).ok_or_else(bad)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((from, to)) => (self.value(from).ok_or_else(bad)?, self.value(to).ok_or_else(bad)?),
            None => {
                let from = self.value(range).ok_or_else(bad)?;
                // As in Vixie cron: 5/15 goes on to the end.
                (from, if step.is_some() { self.max } else { from })
            }
        };
        if from > to {
            return Err(format!("{part:?} runs backwards"));
        }
        let step = usize::try_from(step.unwrap_or(1)).map_err(|_| bad())?;
        Ok((from..=to).step_by(step).fold(0, |set, value| set | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.words.iter().position(|word| *word == lower) {
            return u32::try_from(at).ok().map(|at| at + self.min);
        }
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        let value: u32 = digits.then(|| text.parse().ok())??;
        (self.min..=self.max).contains(&value).then_some(value)
    }
}
