//! Fuzz targets for texts and small files: configurations, schedules, key files, metrics.

use std::path::Path;
use std::time::Duration;

use hah_vault::agent::Schedule;
use hah_vault::config::{Config, Reference};
use hah_vault::snapshot::keystore::{self, KeyFile};
use hah_vault::telemetry::text;
use hah_vault_format::SourceName;
use zeroize::Zeroizing;

use super::fuzz_targets::Taker;

/// Configurations in HCL and JSON, alone and with the environment: a configuration or an error with its place.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in ["c.hcl", "c.json"] {
        match Config::parse(Path::new(name), text) {
            Ok(config) => check_config(&config),
            Err(error) => {
                let (told, hint) = (error.to_string(), error.hint().unwrap_or_default());
                assert!(told.starts_with(name), "where is it? {told}");
                assert!(!told.contains(['\0', '\x1b']) && !hint.contains(['\0', '\x1b']), "{told} {hint}");
            }
        }
    }
}

fn check_config(config: &Config) {
    let environment = |name: &str| (name.len().is_multiple_of(2)).then(|| "1".to_owned());
    for config in [config, &config.merged(&|_| None), &config.merged(&environment)] {
        for section in &config.sections {
            let name = section.source_name();
            assert!(!section.kind.is_source() || name.parse::<SourceName>().is_ok(), "{name}");
            for (_, reference) in section.references() {
                assert!(!matches!(reference, Reference::Literal(_)) || reference.to_string() == "[redacted]");
            }
        }
    }
}

/// The tar of Nomad's key files: what decodes is what was encoded. The input is a tar, and then a name and a content.
pub fn keystore(data: &[u8]) {
    if let Ok(files) = keystore::decode(data) {
        assert!(keystore::encode(&files).expect("files that were there").as_slice() == data, "not canonical");
    }
    let mut data = Taker(data);
    let name_len = usize::from(data.byte());
    let Ok(name) = std::str::from_utf8(data.bytes(name_len)) else { return };
    assert_eq!(keystore::is_key_file(name), keystore::is_key_file(name) && !name.contains('/'));
    if let Ok(file) = KeyFile::new(name, Zeroizing::new(data.0.to_vec())) {
        let files = [file];
        let tar = keystore::encode(&files).expect("one file");
        assert_eq!(keystore::decode(&tar).expect("our own tar"), files);
    }
}

/// Metrics of the last run, read back from a file that anybody may have written to.
pub fn metrics(data: &[u8]) {
    let parsed = text::parse(&String::from_utf8_lossy(data));
    let again = text::parse(&text::encode(&parsed.values));
    assert_eq!(again.values, parsed.values, "what is read is written as it was");
    assert_eq!(again.rubbish_lines, 0);
}

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"];

/// Schedules: slots follow each other, whichever way they are looked for. 9 bytes choose zone, jitter and moment.
pub fn schedule(data: &[u8]) {
    let mut data = Taker(data);
    let (zone, jitter) = (ZONES[usize::from(data.byte()) % ZONES.len()], Duration::from_secs(data.u32().into()));
    let now_s = i64::from(data.u32());
    let Ok(text) = std::str::from_utf8(data.0) else { return };
    let Ok(schedule) = Schedule::parse(text, zone, jitter) else { return };
    assert_eq!(Schedule::parse(schedule.text(), zone, jitter).as_ref(), Ok(&schedule));
    let (next, newest) = (schedule.next_after(now_s), schedule.newest_at(now_s));
    if let Some(next) = next {
        assert!(next > now_s);
        assert_eq!(schedule.newest_at(next), Some(next));
        let (start_ms, gap_ms) = (schedule.start_unix_ms(next, "who"), jitter.as_millis() as i64);
        assert!((next * 1000..=next * 1000 + gap_ms).contains(&start_ms));
    }
    if let Some(newest) = newest {
        assert!(newest <= now_s);
        assert_eq!(schedule.next_after(newest), next, "nothing lies between {newest} and {now_s}");
    }
    let due = schedule.due(None, now_s * 1000, "who");
    assert!(due.is_none_or(|slot| schedule.start_unix_ms(slot, "who") <= now_s * 1000));
    let later = schedule.next_due_unix_ms(due, now_s * 1000, "who");
    assert!(later.is_none_or(|at_ms| at_ms > now_s * 1000));
}
