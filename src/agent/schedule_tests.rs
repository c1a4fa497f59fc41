use super::*;
use jiff::Timestamp;
use jiff::civil::DateTime;
use proptest::prelude::*;

fn schedule(text: &str, zone: &str, jitter_s: u64) -> Schedule {
    Schedule::parse(text, zone, Duration::from_secs(jitter_s)).unwrap()
}

fn utc(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn next(text: &str, zone: &str, after: &str) -> String {
    Timestamp::from_second(schedule(text, zone, 0).next_after(utc(after)).unwrap()).unwrap().to_string()
}

#[test]
fn expressions_mean_what_cron_means() {
    for (text, after, expected) in [
        ("0 * * * *", "2026-11-22T14:30:00Z", "2026-11-22T15:00:00Z"),
        ("@hourly", "2026-11-22T15:00:00Z", "2026-11-22T16:00:00Z"),
        ("*/15 * * * *", "2026-11-22T14:30:00Z", "2026-11-22T14:45:00Z"),
        ("5/20 * * * *", "2026-11-22T14:30:00Z", "2026-11-22T14:45:00Z"),
        ("30 2 * * mon-fri", "2026-11-20T03:00:00Z", "2026-11-23T02:30:00Z"),
        ("0 0 * * 7", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("0 0 13 * FRI", "2026-11-08T00:00:00Z", "2026-11-13T00:00:00Z"),
        ("0 0 1,15 JAN,jul *", "2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 12 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T12:00:00Z"),
        ("every 10m", "2026-11-22T14:30:00Z", "2026-11-22T14:40:00Z"),
        ("every 1d", "2026-11-22T14:30:00Z", "2026-11-23T00:00:00Z"),
    ] {
        assert_eq!(next(text, "UTC", after), expected, "{text}");
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_a_reason() {
    for text in [
        "",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "a * * * *",
        "1,,2 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "every",
        "every 0s",
        "every 5",
        "every 5 m",
        "every 400d",
        "every 99999999999999999999d",
        "+1 * * * *",
        "* * * * * *",
    ] {
        let error = Schedule::parse(text, "UTC", Duration::ZERO);
        assert!(matches!(error, Err(ScheduleError::Text { .. })), "{text}: {error:?}");
    }
    let zone = Schedule::parse("@daily", "Mars/Olympus", Duration::ZERO);
    assert_eq!(zone, Err(ScheduleError::Zone { name: "Mars/Olympus".into() }));
    assert!(matches!(Schedule::parse("@daily", "UTC", JITTER_MAX * 2), Err(ScheduleError::Jitter { .. })));
}

#[test]
fn summer_time_leaves_out_no_day_and_doubles_none() {
    // Berlin: 2026-03-29 02:00 becomes 03:00; 2026-10-25 03:00 becomes 02:00 again.
    let daily = "30 2 * * *";
    assert_eq!(next(daily, "Europe/Berlin", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
    assert_eq!(next(daily, "Europe/Berlin", "2026-03-29T01:30:00Z"), "2026-03-30T00:30:00Z");
    assert_eq!(next(daily, "Europe/Berlin", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(next(daily, "Europe/Berlin", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    // Hourly runs stay hourly.
    for (after, then) in [
        ("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
        ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
        ("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
    ] {
        assert_eq!(next("0 * * * *", "Europe/Berlin", after), then);
    }
    // Samoa left out the whole of 2011-12-30.
    assert_eq!(next("0 8 * * *", "Pacific/Apia", "2011-12-29T18:00:00Z"), "2011-12-30T18:00:00Z");
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let minute = prop_oneof![
        Just("*".to_owned()),
        (0..60u32).prop_map(|m| m.to_string()),
        Just("*/7".into()),
        Just("1,31".into())
    ];
    let hour = prop_oneof![
        Just("*".to_owned()),
        (0..24u32).prop_map(|h| h.to_string()),
        Just("*/5".into()),
        Just("1-3".into())
    ];
    let day = prop_oneof![Just("*".to_owned()), (1..29u32).prop_map(|d| d.to_string()), Just("31".into())];
    let weekday = prop_oneof![Just("*".to_owned()), (0..8u32).prop_map(|d| d.to_string())];
    let month = prop_oneof![4 => Just("*"), 1 => Just("3,10"), 1 => Just("*/5")];
    let cron = (minute, hour, day, month, weekday).prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"));
    let text = prop_oneof![3 => cron, 1 => (1..90_000u32).prop_map(|s| format!("every {s}s"))];
    let zone = prop_oneof![
        Just("UTC"),
        Just("Europe/Berlin"),
        Just("America/New_York"),
        Just("Australia/Lord_Howe"),
        Just("Pacific/Apia"),
        Just("Africa/Casablanca"),
        Just("Asia/Kathmandu")
    ];
    (text, zone, 0..7200u64).prop_map(|(text, zone, jitter)| schedule(&text, zone, jitter))
}

/// 2011-12-01 to 2027: with Samoa's missing day in it.
const FROM: i64 = 1_322_697_600;
const TO: i64 = 1_798_761_600;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn slots_are_in_order_and_found_from_both_sides(schedule in any_schedule(), at in FROM..TO) {
        let Some(next) = schedule.next_after(at) else { return Ok(()) };
        prop_assert!(next > at);
        prop_assert_eq!(schedule.newest_at(next), Some(next));
        let newest = schedule.newest_at(next - 1);
        prop_assert!(newest.is_none_or(|newest| newest <= at), "{:?} lies between {} and {}", newest, at, next);
        if let Some(newest) = newest {
            prop_assert_eq!(schedule.next_after(newest), Some(next));
        }
    }

    #[test]
    fn a_cron_slot_shows_on_the_wall_clock_unless_it_was_moved_out_of_a_gap(
        minute in 0..60i8, hour in 0..24i8, at in FROM..TO, zone in prop_oneof![Just("Europe/Berlin"), Just("Australia/Lord_Howe")],
    ) {
        let schedule = schedule(&format!("{minute} {hour} * * *"), zone, 0);
        let slot = schedule.next_after(at).unwrap();
        let shown = TimeZone::get(zone).unwrap().to_datetime(Timestamp::from_second(slot).unwrap());
        let meant = DateTime::from_parts(shown.date(), jiff::civil::Time::new(hour, minute, 0, 0).unwrap());
        let is_gap = TimeZone::get(zone).unwrap().to_ambiguous_timestamp(meant).is_ambiguous();
        prop_assert!(shown == meant || is_gap, "{shown} for {meant}");
        // One a day, whatever the clock does: at most 25.5 h apart.
        prop_assert!(slot - at <= 91_800, "{} s until {}", slot - at, shown);
    }

    #[test]
    fn jitter_keeps_the_order_and_its_bound(schedule in any_schedule(), at in FROM..TO, who in "[a-z]{1,8}") {
        let Some(slot) = schedule.next_after(at) else { return Ok(()) };
        let Some(after) = schedule.next_after(slot) else { return Ok(()) };
        let (start, later) = (schedule.start_unix_ms(slot, &who), schedule.start_unix_ms(after, &who));
        prop_assert!((slot * 1000..=slot * 1000 + schedule.jitter().as_millis() as i64).contains(&start));
        prop_assert!(start < after * 1000 && start < later);
        prop_assert_eq!(start, schedule.start_unix_ms(slot, &who));
    }

    /// The scheduler as it is used: at arbitrary moments, with sleeps of any length between them. What is due is settled
    /// at once. No slot is settled twice, none after the first is left unsettled, none is settled before its time.
    #[test]
    fn no_slot_is_lost_or_done_twice(
        schedule in any_schedule(), at in FROM..TO, naps in prop::collection::vec(1i64..200_000_000, 1..12),
    ) {
        let mut now = at * 1000;
        let mut settled = schedule.newest_at(at);
        for nap in naps {
            let woken = schedule.next_due_unix_ms(settled, now, "x");
            // Until what is due next, or oversleeping it.
            now = match woken { Some(due) if nap % 3 > 0 => due + (nap % 3 - 1) * nap, _ => now + nap };
            if let Some(slot) = schedule.due(settled, now, "x") {
                prop_assert!(settled.is_none_or(|settled| slot > settled));
                prop_assert!(slot * 1000 <= now);
                settled = Some(slot);
            }
            prop_assert_eq!(schedule.due(settled, now, "x"), None);
            // Everything whose time has come is settled.
            if let (Some(settled), Some(next)) = (settled, settled.and_then(|s| schedule.next_after(s))) {
                prop_assert!(schedule.start_unix_ms(next, "x") > now, "{} is lost after {}", next, settled);
            }
            if let Some(due) = schedule.next_due_unix_ms(settled, now, "x") {
                prop_assert!(due > now);
                prop_assert!(schedule.due(settled, due, "x").is_some());
                prop_assert_eq!(schedule.due(settled, due - 1, "x"), None);
            }
        }
    }
}
