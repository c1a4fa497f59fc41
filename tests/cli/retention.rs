//! `gc`, `undelete`, `hold`, and tags.

use super::sandbox::{Sandbox, files, fixture, fixture_path, spec};
use std::time::Duration;

/// Names of one second have no order.
fn next_second() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// Three snapshots of one source, the first of them tagged.
fn three() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::with_repository();
    let first = sandbox.run(["backup", "--json", "--tag", "v1", &spec("vault", &fixture_path("vault-00.snap"))]).ok();
    let mut names = vec![first.objects()[0]["manifest"].as_str().unwrap().to_owned()];
    for file in ["vault-01.snap", "vault-02.snap"] {
        next_second();
        names.push(sandbox.backup("vault", file));
    }
    (sandbox, names)
}

/// Without grace: a promise that nothing else runs.
const AT_ONCE: [&str; 3] = ["--exclusive", "--grace", "0s"];

fn gc<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["gc"], &AT_ONCE[..], more].concat()
}

#[test]
fn a_source_that_is_not_there_is_no_silence() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    sandbox.run(["gc", "--source", "vualt"]).refused(1, "no snapshot of a source vualt", "vault");
}

/// They would be done here, and not where the agent is.
#[test]
fn what_an_agent_does_not_do_is_not_done_beside_it() {
    let sandbox = Sandbox::with_repository();
    let name = sandbox.backup("vault", "vault-00.snap");
    for command in [vec!["undelete", &name], vec!["repair"], vec!["list", "--trash"]] {
        let args = [vec!["--agent", "http://127.0.0.1:1"], command].concat();
        sandbox.run(args).refused(2, "nothing that an agent does", "without --agent");
    }
}

/// The newest has a broken pack that only a rehearsal sees: what is whole stays.
#[test]
fn what_a_rehearsal_found_takes_no_place() {
    let sandbox = Sandbox::with_repository();
    let whole = sandbox.backup("vault", "vault-00.snap");
    let before = files(&sandbox.repo("packs"));
    next_second();
    sandbox.backup("vault", "vault-01.snap");
    let pack = files(&sandbox.repo("packs")).into_iter().find(|path| !before.contains(path)).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(pack, bytes).unwrap();
    let ran = sandbox.run(["-q", "verify", "--rehearse"]);
    assert_eq!((ran.code, ran.stderr.contains("packs/")), (3, true), "{ran:?}");
    sandbox.run(gc(&["--keep-last", "1", "--force"])).ok();
    sandbox.run(["restore", &whole, "-o", "whole.snap"]).ok();
}

#[test]
fn a_dry_run_shows_each_snapshot_with_its_reason_and_changes_nothing() {
    let (sandbox, names) = three();
    let before = files(&sandbox.repo(""));
    let ran = sandbox.run(gc(&["--dry-run", "--keep-tag", "v1"])).ok();
    let row = |name: &str| ran.text().lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(row(&names[0]).contains("stays  tag"), "{ran:?}");
    assert!(row(&names[1]).contains("goes   its day keeps"), "{ran:?}");
    assert!(row(&names[2]).contains("stays  newest"), "{ran:?}");
    assert!(ran.text().contains("1 snapshots would go"), "{ran:?}");
    assert_eq!(files(&sandbox.repo("")), before);
    // With the grace of everybody nothing is old enough.
    let ran = sandbox.run(["gc", "--dry-run", "--keep-last", "1"]).ok();
    assert!(ran.text().contains("young") && !ran.text().contains("goes"), "{ran:?}");
}

#[test]
fn what_went_comes_back_and_what_is_deleted_does_not() {
    let (sandbox, names) = three();
    let ran = sandbox.run(gc(&["--keep-last", "0"]));
    ran.refused(1, "2 of 3 snapshots would go", "--force");
    let ran = sandbox.run(gc(&["--keep-last", "0", "--force"])).ok();
    assert!(ran.text().contains("2 snapshots set aside") && ran.text().contains("class A"), "{ran:?}");
    let trash = sandbox.run(["list", "--trash"]).ok().text();
    assert!(trash.contains(&names[0]) && trash.contains(&names[1]) && trash.contains("UNDELETE UNTIL"), "{trash}");
    let said = sandbox.run(["undelete", &names[0]]).ok().stderr;
    assert!(said.contains("is back") && said.contains("hold"), "{said}");
    let back = sandbox.run(["list", "--json"]).ok().objects()[0]["manifest"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.run(["restore", &back, "-o", "-"]).ok().stdout, fixture("vault-00.snap"));
    next_second();
    // The copies are older than a grace of nothing.
    let ran = sandbox.run(gc(&["--keep-all"])).ok();
    assert!(ran.text().contains("2 trash copies"), "{ran:?}");
    sandbox.run(["undelete", &names[1]]).refused(2, "nothing in the trash", "list --trash");
    assert_eq!(sandbox.run(["restore", &back, "-o", "-"]).ok().stdout, fixture("vault-00.snap"));
}

#[test]
fn a_hold_shows_keeps_and_ends() {
    let (sandbox, names) = three();
    sandbox.run(["hold", &names[1], "--reason", "the audit"]).ok();
    assert!(sandbox.run(["hold", &names[1]]).ok().stderr.contains("was held already"));
    let list = sandbox.run(["list"]).ok().text();
    assert!(list.lines().any(|l| l.starts_with(&names[1]) && l.ends_with(" held")), "{list}");
    assert!(list.lines().any(|l| l.starts_with(&names[0]) && l.ends_with(" #v1")), "{list}");
    assert!(sandbox.run(["show", &names[1]]).ok().text().contains("the audit"));
    let ran = sandbox.run(gc(&["--keep-last", "1", "-v"])).ok();
    assert!(ran.text().lines().any(|l| l.starts_with(&names[1]) && l.contains("held")), "{ran:?}");
    sandbox.run(["hold", "--release", &names[1]]).ok();
    let ran = sandbox.run(gc(&["--keep-last", "1", "--json"])).ok();
    assert_eq!(ran.objects().last().unwrap()["dropped"], 1);
    sandbox.run(["undelete", &names[1], "--hold"]).ok();
    let held: Vec<bool> =
        sandbox.run(["list", "--json"]).ok().objects().iter().map(|o| o["held"].as_bool().unwrap()).collect();
    assert_eq!(held.iter().filter(|held| **held).count(), 1);
}

#[test]
fn wrong_wishes_are_refused_with_what_to_do() {
    let (sandbox, names) = three();
    sandbox.run(["gc", "--grace", "1h"]).refused(2, "--grace", "--exclusive");
    assert_eq!(sandbox.run(["gc", "--keep-within", "6m"]).code, 2);
    assert_eq!(sandbox.run(["gc", "--keep-all", "--keep-last", "1"]).code, 2);
    assert_eq!(sandbox.run(["gc", "--budget", "10"]).code, 0);
    assert_eq!(sandbox.run(["gc", "--budget", "ten"]).code, 2);
    assert_eq!(sandbox.run(["backup", "--tag", "a b", "vault=-"]).code, 2);
    sandbox.run(["hold", "nowhere"]).refused(2, "no manifest", "near");
    let key = sandbox.run(["key", "writer", "--source", "vault"]).ok().text();
    let ran = sandbox.run_with_env(["gc"], &[("HAH_VAULT_WRITER_KEY", key.trim())]);
    ran.refused(12, "scope *", "init");
    assert!(!ran.stderr.contains(key.trim()));
    // Its own snapshots the same key may hold.
    sandbox.run_with_env(["hold", &names[0]], &[("HAH_VAULT_WRITER_KEY", key.trim())]).ok();
}

#[test]
fn a_manifest_that_does_not_open_keeps_packs_and_is_said_so() {
    let (sandbox, names) = three();
    let broken = sandbox.repo("manifests").join(&names[0]);
    std::fs::write(&broken, "rubbish").unwrap();
    std::fs::remove_file(sandbox.repo("manifests").join(&names[2])).unwrap();
    next_second();
    let ran = sandbox.run(gc(&["--keep-all"]));
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("no pack is deleted") && ran.stderr.contains(&names[0]), "{ran:?}");
    let ran = sandbox.run(gc(&["--keep-all", "--ignore", &names[0]])).ok();
    assert!(ran.stderr.contains("is ignored") && !ran.text().contains("deleted: 0 packs"), "{ran:?}");
    assert!(broken.exists());
    assert_eq!(sandbox.run(["restore", &names[1], "-o", "-"]).ok().stdout, fixture("vault-01.snap"));
}

#[test]
fn a_snapshot_without_its_packs_is_shown_so_and_does_not_push_out_the_last_one_that_restores() {
    let sandbox = Sandbox::with_repository();
    let old = sandbox.backup("vault", "vault-00.snap");
    next_second();
    let before = files(&sandbox.repo("packs"));
    let new = sandbox.backup("vault", "vault-01.snap");
    let packs = files(&sandbox.repo("packs"));
    let pack = packs.iter().find(|pack| !before.contains(pack)).expect("a pack of its own");
    let aside = sandbox.work().join("aside");
    std::fs::rename(pack, &aside).unwrap();
    let ran = sandbox.run(gc(&["--dry-run", "--keep-last", "1"])).ok();
    let row = |name: &str| ran.text().lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(row(&new).contains("stays  newest, last, damaged (of its 2 packs 1 missing)"), "{ran:?}");
    assert!(row(&old).contains("stays  newest-whole, last"), "{ran:?}");
    assert!(ran.stderr.contains("1 snapshots cannot be restored") && ran.stderr.contains("verify"), "{ran:?}");
    let objects = sandbox.run(gc(&["--keep-last", "1", "--json"])).ok().objects();
    assert_eq!((&objects[0]["lost_packs"], &objects[1]["lost_packs"]["missing"]), (&().into(), &1.into()));
    assert_eq!(objects[2]["dropped"], 0);
    assert_eq!(sandbox.run(["restore", &old, "-o", "-"]).ok().stdout, fixture("vault-00.snap"));
    std::fs::rename(&aside, pack).unwrap();
    assert_eq!(sandbox.run(["restore", &new, "-o", "-"]).ok().stdout, fixture("vault-01.snap"));
    // What verify has found wrong on this host counts as gone, though its length is right.
    let mut bytes = std::fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(pack).unwrap();
    std::fs::write(pack, &bytes).unwrap();
    assert_eq!(sandbox.run(["verify", "--read-data"]).code, 3);
    let ran = sandbox.run(gc(&["--keep-last", "1", "-v"])).ok();
    assert!(ran.text().contains("damaged (of its 2 packs 1 damaged)"), "{ran:?}");
    assert!(ran.text().contains("newest-whole"), "{ran:?}");
    bytes[middle] ^= 1;
    std::fs::write(pack, &bytes).unwrap();
    assert_eq!(sandbox.run(["verify", "--read-data"]).code, 0);
    let ran = sandbox.run(gc(&["--keep-last", "1"])).ok();
    assert!(ran.text().contains("1 snapshots set aside"), "{ran:?}");
}

#[test]
fn a_budget_is_told_in_words() {
    let (sandbox, _) = three();
    let ran = sandbox.run(["gc", "--dry-run", "--budget", "10GB"]).ok();
    assert!(ran.text().contains("budget of 10.0 GB") && ran.text().contains("a day of history"), "{ran:?}");
    let ran = sandbox.run(["gc", "--dry-run", "--budget", "1kB"]).ok();
    assert!(ran.text().contains("it is used up"), "{ran:?}");
}

#[test]
fn gc_without_rules_keeps_what_the_configuration_says() {
    let (sandbox, names) = three();
    let config = |agent: &str, source: &str| {
        let path = fixture_path("vault-00.snap");
        format!("agent {{\n  {agent}\n}}\nfile \"vault\" {{\n  path = \"{}\"\n  {source}\n}}\n", path.display())
    };
    let goes = |agent: &str, source: &str, more: &[&str]| {
        sandbox.file("config.hcl", config(agent, source));
        let args = [&["--config", "config.hcl"][..], &gc(&["--dry-run"]), more].concat();
        let text = sandbox.run(args).ok().text();
        let goes = |name: &&String| text.lines().any(|line| line.starts_with(name.as_str()) && line.contains(" goes "));
        names.iter().filter(goes).count()
    };
    // The default policy keeps a day in full.
    assert_eq!(goes("", "", &[]), 0);
    assert_eq!(goes("retention { keep_last = 1 }", "", &[]), 2);
    assert_eq!(goes("retention { keep_last = 1 }", "retention { keep_all = true }", &[]), 0);
    assert_eq!(goes("retention { keep_all = true }", "retention { keep_tags = [\"v1\"] }", &[]), 1);
    // What is typed holds for all.
    assert_eq!(goes("retention { keep_all = true }", "retention { keep_all = true }", &["--keep-daily", "1"]), 2);
}
