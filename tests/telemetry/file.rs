//! The metrics file over runs that overlap, fail and find rubbish.

use super::{NOON_UNIX_S, Still};
use hah_vault::telemetry::catalog::{
    BACKUP_FAILURES, BACKUP_LAST_ATTEMPT, BACKUP_LAST_END, BACKUP_LAST_RUN_SUCCESS, WARNINGS,
};
use hah_vault::telemetry::file::{FileError, MetricsFile};
use hah_vault::telemetry::{Reason, Values};
use hah_vault_format::SourceName;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn source(name: &str) -> SourceName {
    name.parse().unwrap()
}

fn file(folder: &Path) -> MetricsFile {
    MetricsFile::new(folder.join("hah-vault.prom")).unwrap()
}

#[test]
fn a_later_run_adds_to_what_an_earlier_one_left() {
    let (folder, host) = (tempfile::tempdir().unwrap(), Still::new());
    let file = file(folder.path());
    for run in 1..=3_i64 {
        host.set(NOON_UNIX_S + run);
        let registry = host.registry();
        registry.backup_began(&source("vault"));
        let begun = file.update(&registry).unwrap().values;
        assert_eq!(begun.get(&BACKUP_LAST_ATTEMPT, &["vault"]), Some((NOON_UNIX_S + run) as f64));
        assert_eq!(begun.get(&BACKUP_LAST_END, &["vault"]), (run > 1).then_some((NOON_UNIX_S + run - 1) as f64));
        registry.backup_failed(&source("vault"), Reason::StoreFull);
        let ended = file.update(&registry).unwrap().values;
        assert_eq!(ended.get(&BACKUP_FAILURES, &["vault", "store_full"]), Some(run as f64));
        assert_eq!(ended.get(&BACKUP_FAILURES, &["vault", "store"]), Some(0.0));
        // Nothing was learnt since: nothing is counted twice.
        assert_eq!(file.update(&registry).unwrap().values, ended);
    }
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn runs_that_overlap_lose_nothing_and_readers_never_see_half_a_file() {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path());
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let file = &file;
            scope.spawn(move || {
                let registry = Still::new().registry();
                for _ in 0..ROUNDS {
                    registry.backup_failed(&source(&format!("source-{number}")), Reason::Local);
                    registry.backup_failed(&source("all"), Reason::Local);
                    file.update(&registry).unwrap();
                    assert_eq!(file.read().unwrap().rubbish_lines, 0);
                }
            });
        }
    });
    let values = file.read().unwrap().values;
    assert_eq!(values.get(&BACKUP_FAILURES, &["all", "local"]), Some((WRITERS * ROUNDS) as f64));
    for number in 0..WRITERS {
        let found = values.get(&BACKUP_FAILURES, &[&format!("source-{number}"), "local"]);
        assert_eq!(found, Some(ROUNDS as f64), "{number}");
    }
}

#[test]
fn rubbish_in_the_file_is_counted_and_gone_and_the_rest_goes_on() {
    let (folder, host) = (tempfile::tempdir().unwrap(), Still::new());
    let file = file(folder.path());
    let registry = host.registry();
    registry.backup_failed(&source("vault"), Reason::Other);
    file.update(&registry).unwrap();
    let good = fs::read(file.path()).unwrap();
    let bytes = [&b"\xff\x00\nnode_load1 3\n"[..], &good, b"hah_vault_warnings_total 17"].concat();
    fs::write(file.path(), bytes).unwrap();
    let updated = file.update(&host.registry()).unwrap();
    assert_eq!(updated.rubbish_lines, 3);
    assert_eq!(updated.values.get(&BACKUP_LAST_RUN_SUCCESS, &["vault"]), Some(0.0));
    assert_eq!(updated.values.get(&WARNINGS, &[]), None);
    assert_eq!(fs::read(file.path()).unwrap(), good);
}

#[test]
fn what_could_not_be_written_is_written_the_next_time() {
    let (folder, host) = (tempfile::tempdir().unwrap(), Still::new());
    let below = folder.path().join("later");
    let (file, registry) = (file(&below), host.registry());
    registry.backup_failed(&source("vault"), Reason::Other);
    let error = file.update(&registry).unwrap_err();
    assert!(matches!(&error, FileError::Io { action: "write", .. }), "{error}");
    fs::create_dir(&below).unwrap();
    let values = file.update(&registry).unwrap().values;
    assert_eq!(values.get(&BACKUP_FAILURES, &["vault", "other"]), Some(1.0));
    // A folder in its place: the temporary file cannot take the name.
    fs::remove_file(file.path()).unwrap();
    fs::create_dir(file.path()).unwrap();
    registry.backup_failed(&source("vault"), Reason::Other);
    file.update(&registry).unwrap_err();
    assert_eq!(fs::read_dir(&below).unwrap().count(), 1, "no temporary file is left");
    fs::remove_dir(file.path()).unwrap();
    assert_eq!(file.update(&registry).unwrap().values.get(&BACKUP_FAILURES, &["vault", "other"]), Some(1.0));
}

#[test]
fn only_files_of_the_collector_are_ever_replaced() {
    for path in ["/etc/passwd", "metrics.txt", "prom", ".prom", "x.prom/", "x.prom.bak", ""] {
        let made = MetricsFile::new(path.into());
        // A path that ends in a slash names the same file without it.
        assert_eq!(made.is_ok(), path == "x.prom/", "{path}");
    }
    assert_eq!(Values::default(), Still::new().registry().snapshot().of_source(Some("vault")));
}
