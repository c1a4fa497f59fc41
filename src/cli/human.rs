//! Sizes, times and tables for people.

use hah_vault_format::UnixTime;
use std::fmt::Write;
use std::time::Duration;

/// `999 B`, `1.2 kB`, `12.3 MB`, `123 MB`: decimal units, as disks and stores are sold.
pub(super) fn size(len_bytes: u64) -> String {
    if len_bytes < 1000 {
        return format!("{len_bytes} B");
    }
    let mut value = len_bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // What would print as 1000 belongs to the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `12 s`, `3 min`, `5 h`, `2 d`: the largest whole unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `3 h ago`; `in 3 h` for what the future holds.
pub(super) fn age(then_unix_s: u64, now_unix_ms: i64) -> String {
    let now = u64::try_from(now_unix_ms / 1000).unwrap_or(0);
    match now.checked_sub(then_unix_s) {
        Some(seconds) => format!("{} ago", span(seconds)),
        None => format!("in {}", span(then_unix_s - now)),
    }
}

/// `0.4 s`, `12.3 s`, `3 min 20 s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {} s", seconds / 60, seconds % 60)
}

/// How many original bytes one stored byte stands for: `12.3x`.
pub(super) fn ratio(original_bytes: u64, stored_bytes: u64) -> String {
    format!("{:.1}x", original_bytes as f64 / stored_bytes.max(1) as f64)
}

/// Reads `90d`, `12h`, `30m`, `45s`, `2w`.
///
/// # Errors
/// A sentence for the usage error.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || "a number and a unit are needed: 45s, 30m, 12h, 90d or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    Ok(Duration::from_secs(number.checked_mul(seconds).ok_or_else(bad)?))
}

/// The same where minutes would be taken for months: hours at least.
///
/// # Errors
/// A sentence for the usage error.
pub(super) fn parse_long_duration(text: &str) -> Result<Duration, String> {
    if text.ends_with(['s', 'm']) {
        return Err("a number of hours, days or weeks is needed: 12h, 180d or 2w".into());
    }
    parse_duration(text)
}

/// Reads `10GB`, `500MB`, `1TiB`; bytes without a unit.
///
/// # Errors
/// A sentence for the usage error.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || "a number and a unit are needed: 500MB, 10GB, 1TB or 10GiB".to_owned();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(bytes).ok_or_else(bad)
}

/// `2026-11-22T14:30:00Z` of a point in milliseconds since 1970; years before and after the calendar are cut to it.
pub(super) fn iso_ms(unix_ms: i64) -> String {
    let time = UnixTime::from_unix_s(u64::try_from(unix_ms / 1000).unwrap_or(0));
    time.map_or_else(|_| "9999-12-31T23:59:59Z".into(), iso)
}

/// `2026-11-22T14:30:00Z`.
pub(super) fn iso(time: UnixTime) -> String {
    let (y, m, d, h, min, s) = time.civil();
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z")
}

/// Text of servers, hosts and stores must neither command a terminal nor look like a line of ours.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table with a header line; columns whose header begins with `>` are aligned to the right.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| on_one_line(cell)).collect()).collect();
    let names: Vec<String> = header.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
    let mut widths: Vec<usize> = names.iter().map(|n| n.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&names).chain(&rows) {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let width = widths.get(i).copied().unwrap_or(0);
            let gap = if i == 0 { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = match header.get(i).is_some_and(|h| h.starts_with('>')) {
                true => write!(line, "{gap}{cell:>width$}"),
                false => write!(line, "{gap}{cell:<width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `name  value` lines with the values under each other.
pub(super) fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {}\n", on_one_line(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (len, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1234, "1.2 kB"),
            (99_949, "99.9 kB"),
            (99_960, "100 kB"),
            (999_600, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(len), text);
        }
    }

    #[test]
    fn times_use_one_unit() {
        assert_eq!(age(1000, 1_059_000), "59 s ago");
        assert_eq!(age(0, 3_600_000 * 3), "3 h ago");
        assert_eq!(age(7200, 0), "in 2 h");
        assert_eq!(span(172_800), "2 d");
        assert_eq!(duration(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse_duration("2w"), Ok(Duration::from_secs(14 * 86_400)));
        for text in ["", "90", "d", "-1d", "1.5h", "99999999999999999999d", "1é", "18446744073709551615w"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn minutes_are_not_taken_for_months() {
        assert_eq!(parse_long_duration("2w"), Ok(Duration::from_secs(14 * 86_400)));
        for text in ["6m", "90s", "6", ""] {
            assert!(parse_long_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_decimal_and_binary_units() {
        for (text, bytes) in [("10GB", 10_000_000_000), ("0", 0), ("7B", 7), ("1kB", 1000), ("2GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "10gb", "-1GB", "1.5GB", "10 GB", "99999999999TB", "10G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_outside_the_calendar_are_cut() {
        assert_eq!(iso_ms(1_795_357_800_999), "2026-11-22T14:30:00Z");
        assert_eq!(iso_ms(-5), "1970-01-01T00:00:00Z");
        assert_eq!(iso_ms(i64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn what_others_say_stays_on_its_line() {
        let foreign = "1.15\x1b[2J\nwarning: \x07\u{9b}".to_owned();
        let shown = "1.15\u{fffd}[2J\u{fffd}warning: \u{fffd}\u{fffd}";
        assert_eq!(fields(&[("version", foreign.clone())]), format!("version  {shown}\n"));
        assert_eq!(table(&["A", "B"], &[vec![foreign, "b".into()]]).lines().nth(1), Some(&*format!("{shown}  b")));
    }

    #[test]
    fn tables_align_and_have_no_trailing_blanks() {
        let rows = [vec!["vault".into(), "1 B".into(), "x".into()], vec!["a".into(), "100 B".into(), String::new()]];
        assert_eq!(table(&["NAME", ">SIZE", "END"], &rows), "NAME    SIZE  END\nvault    1 B  x\na      100 B\n");
    }
}
