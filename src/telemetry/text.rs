//! Prometheus' text format 0.0.4, written and read back.
//!
//! Read back, because runs from cron have no other memory: the file of the last run says when a backup last succeeded.
//! None of the usual client crates reads it, and what they write is less than this module; so none is used.

use super::catalog::{ALL, BUILD_INFO, Kind, Metric, find};
use super::values::Values;
use std::fmt::Write as _;

/// What an HTTP answer with this text is called.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// No label value is longer: source names have 63 characters at most.
const LABEL_LEN_BYTES_MAX: usize = 256;

/// Writes all figures: of each metric its help, its type, its series sorted by label values.
pub fn encode(values: &Values) -> String {
    let mut text = String::new();
    for metric in ALL {
        let mut series = values.series(metric).peekable();
        if series.peek().is_none() {
            continue;
        }
        let (name, help, kind) = (metric.name, escaped(metric.help, false), metric.kind.as_str());
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in series {
            let pairs = metric.labels.iter().zip(labels);
            let pairs: Vec<String> =
                pairs.map(|(name, value)| format!("{name}=\"{}\"", escaped(value, true))).collect();
            let pairs = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
            let _ = writeln!(text, "{name}{pairs} {value}");
        }
    }
    text
}

fn escaped(text: &str, quoted: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// Its figures. Metrics that this version does not know are left out.
    pub values: Values,
    /// Lines that [`encode`] never writes; they are passed over.
    pub rubbish_lines: usize,
}

/// Reads what [`encode`] wrote, of this version or another.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.split_inclusive('\n') {
        // A line that was cut off may end in a figure that was cut off.
        let Some(line) = line.strip_suffix('\n') else {
            parsed.rubbish_lines += 1;
            break;
        };
        if line.starts_with("# HELP hah_vault_") || line.starts_with("# TYPE hah_vault_") {
            continue;
        }
        match sample(line) {
            Some(Sample { metric: Some(metric), labels, value }) if metric != &BUILD_INFO => {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                parsed.values.set(metric, &labels, value);
            }
            Some(_) => {}
            None => parsed.rubbish_lines += 1,
        }
    }
    parsed
}

struct Sample {
    /// None for one of another version.
    metric: Option<&'static Metric>,
    labels: Vec<String>,
    value: f64,
}

fn sample(line: &str) -> Option<Sample> {
    let name_len = line.bytes().position(|b| !(b.is_ascii_lowercase() || b == b'_'))?;
    let (name, rest) = line.split_at(name_len);
    let (pairs, rest) = match rest.strip_prefix('{') {
        Some(rest) => pairs(rest)?,
        None => (Vec::new(), rest),
    };
    let value = number(rest.strip_prefix(' ')?)?;
    let Some(metric) = find(name) else {
        return name.starts_with("hah_vault_").then_some(Sample { metric: None, labels: Vec::new(), value });
    };
    let fits = pairs.iter().map(|(name, _)| name.as_str()).eq(metric.labels.iter().copied());
    if !fits || (metric.kind == Kind::Counter && value < 0.0) {
        return None;
    }
    Some(Sample { metric: Some(metric), labels: pairs.into_iter().map(|(_, value)| value).collect(), value })
}

/// Only what is written: digits, a sign, a point. No `inf`, no exponent.
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"-.".contains(&b));
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

type Pairs = Vec<(String, String)>;

/// Pairs of label and value up to the closing brace, and what follows it.
fn pairs(mut rest: &str) -> Option<(Pairs, &str)> {
    let mut pairs = Pairs::new();
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        pairs.push((name.to_owned(), value));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Some((pairs, after.strip_prefix('}')?)),
        }
    }
}

/// A value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value.len() <= LABEL_LEN_BYTES_MAX).then_some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{BACKUP_FAILURES, BACKUP_LAST_SUCCESS, WARNINGS};
    use super::*;
    use proptest::prelude::*;

    /// Any figures of any metrics.
    fn values() -> impl Strategy<Value = Values> {
        let figure = prop_oneof![0.0..1e18_f64, Just(0.1), Just(1.0), Just(1_795_000_000.123), 0.0..1e-9_f64];
        let labels = prop::collection::vec("[ -~äöü\n\\\\\"]{0,20}", 3);
        prop::collection::vec((0..ALL.len(), labels, figure), 0..40).prop_map(|figures| {
            let mut values = Values::default();
            for (number, labels, figure) in figures {
                let metric = ALL[number];
                if metric != &BUILD_INFO {
                    let labels: Vec<&str> = labels.iter().take(metric.labels.len()).map(String::as_str).collect();
                    values.set(metric, &labels, figure);
                }
            }
            values
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(values in values()) {
            prop_assert_eq!(parse(&encode(&values)), Parsed { values, rubbish_lines: 0 });
        }

        #[test]
        fn whatever_is_in_a_file_is_read_without_a_panic(text in "(?s).{0,300}", cut in 0..5000_usize, values in values()) {
            parse(&text);
            let mut bytes = encode(&values).into_bytes();
            bytes.truncate(cut);
            let parsed = parse(&String::from_utf8_lossy(&bytes));
            prop_assert!(parsed.rubbish_lines <= 1);
        }
    }

    #[test]
    fn the_text_is_prometheus_own() {
        let mut values = Values::default();
        values.set(&BACKUP_LAST_SUCCESS, &["vault"], 1_795_357_871.25);
        values.add(&BACKUP_FAILURES, &["vault", "store_denied"], 2.0);
        values.add(&WARNINGS, &[], 0.0);
        let text = encode(&values);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "hah_vault_backup_last_success_timestamp_seconds{source=\"vault\"} 1795357871.25",
                "hah_vault_backup_failures_total{source=\"vault\",reason=\"store_denied\"} 2",
                "hah_vault_warnings_total 0",
            ]
        );
        assert!(text.contains("# TYPE hah_vault_backup_failures_total counter\n"), "{text}");
    }

    #[test]
    fn rubbish_is_passed_over_and_what_is_between_it_counts() {
        let good = "hah_vault_backup_last_success_timestamp_seconds{source=\"vault\"} 5";
        for bad in [
            "x",
            "\u{0}\u{0}\u{0}",
            "hah_vault_warnings_total",
            "hah_vault_warnings_total -1",
            "hah_vault_warnings_total 1 1795357871000",
            "hah_vault_warnings_total NaN",
            "hah_vault_warnings_total 1e5",
            "hah_vault_warnings_total{source=\"x\"} 1",
            "hah_vault_backups_committed_total 1",
            "hah_vault_backups_committed_total{source=\"x\" 1",
            "hah_vault_backups_committed_total{source=\"x} 1",
            "hah_vault_backups_committed_total{source=\"\\x\"} 1",
            "hah_vault_backups_committed_total{target=\"x\"} 1",
            "node_load1 5",
            "# a comment",
            "",
        ] {
            let parsed = parse(&format!("{bad}\n{good}\n"));
            assert_eq!(parsed.rubbish_lines, 1, "{bad}");
            assert_eq!(parsed.values.get(&BACKUP_LAST_SUCCESS, &["vault"]), Some(5.0), "{bad}");
        }
        // Another version's metric is no rubbish, and goes.
        let parsed = parse("# HELP hah_vault_later x\n# TYPE hah_vault_later gauge\nhah_vault_later{x=\"y\"} 5\n");
        assert_eq!(parsed, Parsed::default());
    }
}
