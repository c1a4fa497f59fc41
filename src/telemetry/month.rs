//! What a month of store operations comes to: R2 prices them by the calendar month.

use super::catalog::{MONTH_COUNTED_SINCE, MONTH_ESTIMATE, MONTH_OPERATIONS, MONTH_START, STORE_OPERATIONS};
use super::values::Values;
use crate::store::Operation;
use hah_vault_format::UnixTime;

/// The rate is taken over this long at least: one run says little about a month.
const RATE_OVER_S_MIN: f64 = 86_400.0;

/// R2's price class of a request: a costs $4.50 a million, b $0.36 (Cloudflare's prices, 2026-11).
pub fn class(operation: Operation) -> &'static str {
    match operation {
        Operation::Put | Operation::List => "a",
        // The time is that of a HEAD.
        Operation::Get | Operation::Stat | Operation::Now => "b",
        Operation::Delete => "free",
    }
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Put => "put",
        Operation::Get => "get",
        Operation::List => "list",
        Operation::Stat => "stat",
        Operation::Delete => "delete",
        Operation::Now => "now",
    }
}

/// Beginning and end of the calendar month (UTC) that a moment is in, seconds since 1970.
fn month_of(unix_s: u64) -> Option<(u64, u64)> {
    let (year, month, ..) = UnixTime::from_unix_s(unix_s).ok()?.civil();
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let start = UnixTime::from_civil(year, month, 1, 0, 0, 0)?;
    Some((start.unix_s(), UnixTime::from_civil(next.0, next.1, 1, 0, 0, 0)?.unix_s()))
}

/// Counts requests.
pub(super) fn count(values: &mut Values, operation: Operation, requests: u64, now_unix_s: f64) {
    let (class, requests) = (class(operation), requests as f64);
    values.add(&STORE_OPERATIONS, &[word(operation), class], requests);
    if let Some((start, _)) = month_of(now_unix_s as u64) {
        let start = start as f64;
        if values.get(&MONTH_START, &[]) != Some(start) {
            values.clear_month();
            values.set(&MONTH_START, &[], start);
            values.set(&MONTH_COUNTED_SINCE, &[], now_unix_s);
        }
        values.add(&MONTH_OPERATIONS, &[class], requests);
    }
}

/// Sets the estimates; takes a month that is over away.
pub(super) fn estimate(values: &mut Values, now_unix_s: f64) {
    values.clear(&MONTH_ESTIMATE);
    let Some((start, end)) = month_of(now_unix_s as u64) else { return };
    if values.get(&MONTH_START, &[]).is_some_and(|counted| counted < start as f64) {
        values.clear_month();
    }
    let Some(since) = values.get(&MONTH_COUNTED_SINCE, &[]) else { return };
    let counted_s = (now_unix_s - since).max(RATE_OVER_S_MIN);
    let left_s = (end as f64 - now_unix_s).max(0.0);
    let counts: Vec<(String, f64)> =
        values.series(&MONTH_OPERATIONS).map(|(labels, count)| (labels[0].clone(), count)).collect();
    for (class, count) in counts {
        values.set(&MONTH_ESTIMATE, &[&class], (count + count / counted_s * left_s).round());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: f64 = 86_400.0;

    fn at(text: &str) -> f64 {
        text.parse::<UnixTime>().unwrap().unix_s() as f64
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for (time, start, end) in [
            ("20261122T143000Z", "20261101T000000Z", "20261201T000000Z"),
            ("20261231T235959Z", "20261201T000000Z", "20270101T000000Z"),
            ("20280201T000000Z", "20280201T000000Z", "20280301T000000Z"),
        ] {
            assert_eq!(month_of(at(time) as u64), Some((at(start) as u64, at(end) as u64)), "{time}");
        }
    }

    #[test]
    fn an_even_rate_is_continued_to_the_end_of_the_month() {
        let mut values = Values::default();
        let start = at("20261101T000000Z");
        for day in 0..10 {
            count(&mut values, Operation::Put, 10, start + DAY_S * f64::from(day));
            count(&mut values, Operation::Delete, 1, start + DAY_S * f64::from(day));
        }
        estimate(&mut values, start + 10.0 * DAY_S);
        assert_eq!(values.get(&MONTH_OPERATIONS, &["a"]), Some(100.0));
        assert_eq!(values.get(&MONTH_ESTIMATE, &["a"]), Some(300.0));
        assert_eq!(values.get(&MONTH_ESTIMATE, &["free"]), Some(30.0));
    }

    #[test]
    fn the_first_run_counts_as_one_a_day() {
        let mut values = Values::default();
        let now = at("20261121T000000Z");
        count(&mut values, Operation::Get, 7, now);
        estimate(&mut values, now + 2.0);
        assert_eq!(values.get(&MONTH_ESTIMATE, &["b"]), Some(77.0));
    }

    #[test]
    fn a_new_month_begins_with_nothing_and_the_total_goes_on() {
        let mut values = Values::default();
        count(&mut values, Operation::List, 3, at("20261130T235959Z"));
        estimate(&mut values, at("20261201T000000Z"));
        assert_eq!(values.get(&MONTH_OPERATIONS, &["a"]), None);
        count(&mut values, Operation::List, 2, at("20261201T000001Z"));
        assert_eq!(values.get(&MONTH_OPERATIONS, &["a"]), Some(2.0));
        assert_eq!(values.get(&STORE_OPERATIONS, &["list", "a"]), Some(5.0));
    }
}
