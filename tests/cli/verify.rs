//! `verify` and `repair` as they are typed.

use super::sandbox::{Sandbox, fixture_path, spec};
use crate::support::consul_server::consul;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn packs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(sandbox.repo("packs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn verify_tells_what_it_proved_and_ends_with_0_or_3() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    sandbox.backup("consul", "consul-00.snap");
    let text = sandbox.run(["verify"]).ok().text();
    assert!(text.contains("structure: 2 manifests") && text.contains("not tried: --rehearse"), "{text}");
    let text = sandbox.run(["verify", "--read-data", "--rehearse"]).ok().text();
    assert!(text.contains("data: 2 of 2 packs") && text.contains("rehearsal: 2 snapshots"), "{text}");
    assert!(sandbox.run(["verify", "-q"]).ok().stdout.is_empty());
    let objects = sandbox.run(["verify", "vault", "--read-data=1", "--json"]).ok().objects();
    assert_eq!((&objects[0]["type"], &objects[0]["snapshots"]), (&"verify".into(), &1.into()));
    assert_eq!(sandbox.run(["verify", "--read-data=0"]).code, 2);
    assert_eq!(sandbox.run(["verify", "--all"]).code, 2);
    sandbox.run(["verify", "nomad@latest"]).refused(1, "no snapshot of a source nomad", "sources: consul, vault");

    flip(&packs(&sandbox)[0]);
    sandbox.run(["verify"]).ok();
    let ran = sandbox.run(["verify", "--read-data"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("warning: packs/") && ran.stderr.contains("1 snapshot is damaged by it"), "{ran:?}");
    assert!(ran.text().contains("DAMAGED SNAPSHOT") && ran.text().contains("newest"), "{ran:?}");
    // Remembered: the next backup of this host heals.
    sandbox.backup("vault", "vault-01.snap");
    sandbox.backup("consul", "consul-01.snap");
    let ran = sandbox.run(["verify", "--rehearse"]);
    assert!(ran.text().contains("rehearsal: 2 snapshots"), "{ran:?}");
}

#[test]
fn without_an_identity_structure_and_names_are_checked_and_a_rehearsal_is_refused() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    fs::remove_file(sandbox.config("identity.txt")).unwrap();
    let text = sandbox.run(["verify", "--read-data"]).ok().text();
    assert!(text.contains("not opened: no identity"), "{text}");
    sandbox.run(["verify", "--rehearse"]).refused(12, "needs an identity", "--identity");
}

#[test]
fn what_went_missing_is_told_until_somebody_says_that_he_knows() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    // Names of one second have no order.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let newest = sandbox.backup("vault", "vault-01.snap");
    fs::remove_file(sandbox.repo(&format!("manifests/{newest}"))).unwrap();
    let ran = sandbox.run(["verify"]);
    assert!(ran.code == 3 && ran.stderr.contains("rolled back"), "{ran:?}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let ran = sandbox.run(["backup", &spec("vault", &fixture_path("vault-02.snap"))]).ok();
    assert!(ran.stderr.contains(&format!("{newest}, the last snapshot that this host saw, is gone")), "{ran:?}");
    assert_eq!(sandbox.run(["verify"]).code, 3);
    sandbox.run(["verify", "--accept-lost"]).ok();
    sandbox.run(["verify"]).ok();
}

#[test]
fn a_state_that_cannot_be_written_is_a_warning() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let state = sandbox.file("state", "a file, not a folder");
    let ran = sandbox.run_with_env(["verify", "--read-data"], &[("XDG_STATE_HOME", state.to_str().unwrap())]).ok();
    assert!(ran.stderr.contains("the next run chooses at random"), "{ran:?}");
}

#[test]
fn repair_mends_sets_aside_and_says_so() {
    let sandbox = Sandbox::with_repository();
    let name = sandbox.backup("vault", "vault-00.snap");
    sandbox.backup("consul", "consul-00.snap");
    let said = sandbox.run(["repair"]).ok();
    assert!(said.stderr.contains("nothing to repair"), "{said:?}");
    let manifest = sandbox.repo(&format!("manifests/{name}"));
    flip(&manifest);
    fs::remove_dir_all(sandbox.repo("index")).unwrap();
    fs::remove_file(sandbox.repo("repository.json")).unwrap();
    let dry = sandbox.run(["repair", "--dry-run"]);
    assert!(dry.code == 3 && dry.text().lines().count() == 3, "{dry:?}");
    assert!(manifest.exists());
    let done = sandbox.run(["repair", "--json"]).ok().objects();
    assert_eq!(done.len(), 3, "{done:?}");
    assert!(done.iter().all(|object| object["outcome"] == "done"), "{done:?}");
    assert!(!manifest.exists() && sandbox.repo("broken/manifests/vault").exists());
    sandbox.run(["verify", "--read-data", "--rehearse"]).ok();
}

#[test]
fn a_drill_is_typed_in_one_line() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("consul", "consul-02.snap");
    sandbox.run(["verify", "--drill", "vault"]).refused(2, "no throwaway vault", "--to-address");
    let no = sandbox.run(["verify", "--drill", "consul", "--consul-binary", "/bin/false"]);
    no.refused(1, "no drill", "--consul-binary");
    let Some(program) = consul() else { return };
    let program = fs::canonicalize(&program).unwrap_or(program);
    let args = ["verify", "--drill", "consul", "--consul-binary", program.to_str().unwrap()];
    let ran = sandbox.run(args).ok();
    assert!(ran.text().contains("ACL tokens") && ran.text().contains("everything that must be there is"), "{ran:?}");
    assert!(super::sandbox::files(&sandbox.tmp()).is_empty(), "nothing stays");
}

/// The child that runs a throwaway server: its process id and its folder.
fn throwaway_of(parent: u32) -> Option<(u32, PathBuf)> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let config = line.split('\0').find(|word| word.contains("/hah-vault-drill-"))?;
        let is_ours = status.lines().any(|l| l == format!("PPid:\t{parent}"));
        is_ours.then(|| (process, PathBuf::from(config).parent().unwrap().to_owned()))
    })
}

#[test]
fn an_interrupted_drill_leaves_no_server_and_no_folder() {
    let Some(program) = consul() else { return };
    let program = fs::canonicalize(&program).unwrap_or(program);
    let sandbox = Sandbox::with_repository();
    sandbox.backup("consul", "consul-02.snap");
    for signal in ["-INT", "-TERM"] {
        let args = ["verify", "--drill", "consul", "--consul-binary", program.to_str().unwrap()];
        let mut drill = sandbox.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(drill.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("leads; restoring")));
        let (process, folder) = throwaway_of(drill.id()).expect("it runs");
        assert!(folder.join("config.json").exists());
        assert!(Command::new("kill").args([signal, &drill.id().to_string()]).status().unwrap().success());
        assert_eq!(drill.wait().unwrap().code(), Some(130));
        assert!(!folder.exists() && !PathBuf::from(format!("/proc/{process}")).exists(), "{signal}");
    }
}
