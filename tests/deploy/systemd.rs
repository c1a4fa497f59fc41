//! Units: by systemd's own checks, with the program in its place.

use super::files::{File, of};
use crate::support::tools::tool;
use std::collections::BTreeMap;
use std::process::Command;

/// What `systemd-analyze security` calls "OK" ends at 2.9; ours are far below. In tenths.
const EXPOSURE_TENTHS_MAX: &str = "15";

/// `Key=value` lines by section; continuation lines are not used.
fn parsed(file: &File) -> BTreeMap<String, Vec<(String, String)>> {
    let (mut sections, mut section) = (BTreeMap::<String, Vec<_>>::new(), None);
    for line in file.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = Some(name.to_owned()),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", file.name));
                let name = section.clone().unwrap_or_else(|| panic!("{}: {line} is in no section", file.name));
                sections.entry(name).or_default().push((key.to_owned(), value.to_owned()));
            }
        }
    }
    sections
}

fn values<'s>(sections: &'s BTreeMap<String, Vec<(String, String)>>, key: &str) -> Vec<&'s str> {
    sections["Service"].iter().filter(|(k, _)| k == key).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_any_unit() {
    tool("systemd-analyze");
    let dir = tempfile::tempdir().unwrap();
    let units: Vec<File> = of(".service").into_iter().chain(of(".timer")).collect();
    for unit in &units {
        // The program is not installed here: another one stands in for it.
        let text = unit.text.replace("/usr/local/bin/hah-vault", "/bin/true");
        std::fs::write(dir.path().join(unit.name.rsplit('/').next().unwrap()), text).unwrap();
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    command.args(units.iter().map(|unit| dir.path().join(unit.name.rsplit('/').next().unwrap())));
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.is_empty(), "{words}");
}

#[test]
fn every_service_is_closed_in() {
    tool("systemd-analyze");
    for unit in of(".service") {
        let mut command = Command::new("systemd-analyze");
        let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
        let output = command.args(["security", "--offline=yes", &threshold]).arg(&unit.path).output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {}", unit.name, words.lines().last().unwrap_or_default());
        let sections = parsed(&unit);
        assert_eq!(values(&sections, "DynamicUser"), ["yes"], "{}", unit.name);
        assert_eq!(values(&sections, "MemoryMax"), ["256M"], "{}", unit.name);
    }
}

#[test]
fn what_is_named_as_credential_is_loaded() {
    for unit in of(".service") {
        let sections = parsed(&unit);
        let loaded = values(&sections, "LoadCredential");
        let loaded: Vec<&str> = loaded.iter().map(|text| text.split(':').next().unwrap_or_default()).collect();
        for variable in values(&sections, "Environment") {
            if let Some((_, name)) = variable.split_once("=%d/") {
                assert!(loaded.contains(&name), "{}: {variable}", unit.name);
            }
        }
        // A file that anybody could have written is none of systemd's.
        assert!(sections["Service"].iter().all(|(key, _)| key != "EnvironmentFile" && key != "PassEnvironment"));
    }
}

#[test]
fn every_timer_has_its_service_and_catches_up() {
    let services: Vec<String> = of(".service").into_iter().map(|unit| unit.name).collect();
    for timer in of(".timer") {
        assert!(services.contains(&timer.name.replace(".timer", ".service")), "{}", timer.name);
        assert!(parsed(&timer)["Timer"].contains(&("Persistent".into(), "yes".into())), "{}", timer.name);
    }
}
