//! Alert rules, dashboard and output against Prometheus' own tool and against the list of metrics.

use super::Still;
use crate::support::tools::promtool;
use hah_vault::telemetry::Values;
use hah_vault::telemetry::catalog::{ALL, Kind, find};
use hah_vault::telemetry::text::encode;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../deploy/prometheus/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboard.json");
const README: &str = include_str!("../../README.md");

/// All names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with("hah_vault_")).collect()
}

#[track_caller]
fn all_exist(text: &str) {
    let unknown: Vec<&str> = names(text).into_iter().filter(|name| find(name).is_none()).collect();
    assert_eq!(unknown, [""; 0]);
}

/// Runs promtool with an input; it must be content.
#[track_caller]
fn content(promtool: &Path, args: &[&str], input: &str) {
    let mut command = Command::new(promtool);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said));
}

fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_written_is_what_prometheus_reads() {
    let mut values = Values::default();
    for metric in ALL {
        values.set(metric, &vec!["ä\\\"\n"; metric.labels.len()], 1.5);
    }
    // 1: the answer of an agent that knows nothing yet; 2: every metric there is.
    let texts = [Still::new().registry().encode(), encode(&values)];
    let Some(promtool) = promtool() else { return };
    for text in texts {
        content(&promtool, &["check", "metrics"], &text);
    }
}

#[test]
fn the_rules_are_sound_and_each_fires_when_it_should_and_only_then() {
    all_exist(ALERTS);
    all_exist(ALERTS_TEST);
    let alerts: Vec<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        // In flow style: must not fire; in block style: must.
        let quiet = ALERTS_TEST.lines().any(|line| line.ends_with(&format!("alertname: {alert} }}")));
        let fires = ALERTS_TEST.lines().any(|line| line.trim() == format!("alertname: {alert}"));
        assert!(quiet && fires, "{alert} is not tested both ways");
    }
    let Some(promtool) = promtool() else { return };
    content(&promtool, &["check", "rules", "alerts.yml"], "");
    content(&promtool, &["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist_in_queries_that_parse() {
    all_exist(DASHBOARD);
    let queries = queries();
    assert!(queries.len() > 20 && queries.iter().all(|query| !names(query).is_empty()), "{queries:?}");
    // A counter is asked for its increase, or it is a number without a meaning.
    for query in &queries {
        for name in names(query) {
            let is_counter = find(name).is_some_and(|metric| metric.kind == Kind::Counter);
            assert!(!is_counter || query.contains("increase(") || query.contains("rate("), "{query}");
        }
    }
    let rule = |(number, query): (usize, &String)| {
        let query = query.replace("$__rate_interval", "5m").replace("$source", ".*");
        serde_json::json!({"record": format!("query_{number}"), "expr": query})
    };
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let group = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), group.to_string()).unwrap();
    let Some(promtool) = promtool() else { return };
    content(&promtool, &["check", "rules", file.path().to_str().unwrap()], "");
}

#[test]
fn the_readme_names_metrics_that_exist() {
    all_exist(README);
}
