//! `--keystore`: the keyring of Nomad 1.4 to 1.8 beside its snapshot.

use super::sandbox::{Ran, Sandbox, files, fixture, fixture_path, has_tool, spec};
use crate::support::nomad_server::{self, NomadServer};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Two key files as Nomad 1.8 writes them, and what else may lie there.
const KEYS: [(&str, &str); 2] = [
    ("0b1cbf2b-9a3f-4a5e-8b0f-0123456789ab.nks.json", r#"{"Meta":{"KeyID":"0b1c"},"DEK":"c2VjcmV0","KEK":"a2V5"}"#),
    ("fb1cbf2b-9a3f-4a5e-8b0f-0123456789ab.nks.json", r#"{"Meta":{"KeyID":"fb1c"},"DEK":"U0VDUkVU","KEK":"S0VZ"}"#),
];

fn keystore(sandbox: &Sandbox) {
    fs::create_dir(sandbox.work().join("keystore")).unwrap();
    for (name, content) in KEYS {
        sandbox.file(&format!("keystore/{name}"), content);
    }
    sandbox.file("keystore/README", "no key");
}

/// With a snapshot and its keystore in it.
fn filled() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    keystore(&sandbox);
    let nomad = spec("nomad", &fixture_path("nomad-02.snap"));
    let ran = sandbox.run(["backup", &nomad, "--keystore", "keystore"]).ok();
    assert!(ran.stderr.contains("nomad: 2 key files of the keystore"), "{ran:?}");
    sandbox
}

fn restore(sandbox: &Sandbox, more: &[&str]) -> Ran {
    sandbox.run(["restore", "nomad@latest", "-o", "nomad.snap"].iter().chain(more))
}

fn is_whole(folder: &Path) -> bool {
    files(folder).len() == 2
        && KEYS.iter().all(|(name, content)| fs::read_to_string(folder.join(name)).unwrap() == *content)
}

#[test]
fn a_keystore_comes_back_with_its_snapshot() {
    let sandbox = filled();
    let ran = restore(&sandbox, &["--keystore", "back/keystore"]).ok();
    assert!(ran.stderr.contains("2 of 2 key files written to back/keystore"), "{ran:?}");
    let back = sandbox.work().join("back/keystore");
    assert!(is_whole(&back));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&back), mode(&back.join(KEYS[0].0))), (0o700, 0o600));
    // Once more: what is the same stays.
    let ran = restore(&sandbox, &["--force", "--keystore", "back/keystore"]).ok();
    assert!(ran.stderr.contains("0 of 2"), "{ran:?}");
    let show = sandbox.run(["show", "nomad@latest"]).ok().text();
    assert!(show.contains("keystore = ") && !show.contains("keystore-00"), "{show}");
}

#[test]
fn it_lies_nowhere_in_the_clear_and_no_writer_key_opens_it() {
    let sandbox = filled();
    for path in files(&sandbox.repo("")).iter().chain(&files(&sandbox.tmp())) {
        let bytes = fs::read(path).unwrap();
        // Long enough that no ciphertext has them by chance.
        for text in ["c2VjcmV0", r#""KEK":"#, "nks.json"] {
            assert!(!bytes.windows(text.len()).any(|w| w == text.as_bytes()), "{text} in {}", path.display());
        }
    }
    // All that a stolen backup host can see of the manifest.
    fs::remove_file(sandbox.config("identity.txt")).unwrap();
    let shown = sandbox.run(["show", "nomad@latest", "--json"]).ok().text();
    assert!(!shown.contains("c2VjcmV0") && !shown.contains("nks.json"), "{shown}");
    restore(&sandbox, &["--keystore", "back"]).refused(12, "restore needs an identity", "");
}

#[test]
fn a_writer_key_of_the_source_alone_is_enough() {
    let sandbox = Sandbox::with_repository();
    keystore(&sandbox);
    let key = sandbox.run(["key", "writer", "--source", "nomad"]).ok().text();
    let nomad = spec("nomad", &fixture_path("nomad-02.snap"));
    let env = [("HAH_VAULT_WRITER_KEY", key.trim()), ("HAH_VAULT_NOMAD_KEYSTORE", "keystore")];
    sandbox.run_with_env(["backup", &nomad], &env).ok();
    restore(&sandbox, &["--keystore", "back"]).ok();
    assert!(is_whole(&sandbox.work().join("back")));
    // The variable is for all runs of a host; the option is not.
    let vault = spec("vault", &fixture_path("vault-00.snap"));
    sandbox.run_with_env(["backup", &vault], &env[1..]).ok();
    sandbox.run(["backup", &vault, "--keystore", "keystore"]).refused(2, "nomad is not among the sources", "");
}

#[test]
fn other_files_are_not_written_over_and_then_nothing_is() {
    let sandbox = filled();
    fs::create_dir(sandbox.work().join("back")).unwrap();
    let other = sandbox.file(&format!("back/{}", KEYS[1].0), "{}");
    restore(&sandbox, &["--keystore", "back"]).refused(11, "holds other files of these names: fb1c", "--force");
    assert_eq!((files(&sandbox.work().join("back")).len(), fs::read_to_string(other).unwrap()), (1, "{}".into()));
    assert!(!sandbox.work().join("nomad.snap").exists());
    restore(&sandbox, &["--keystore", "back", "--force"]).ok();
    assert!(is_whole(&sandbox.work().join("back")));
}

#[test]
fn what_is_missing_is_named() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("nomad", "nomad-00.snap");
    restore(&sandbox, &["--keystore", "back"]).refused(1, "has no keystore with it", "show");
    fs::create_dir(sandbox.work().join("empty")).unwrap();
    let nomad = spec("nomad", &fixture_path("nomad-02.snap"));
    for (folder, words) in [("empty", "there is no key file"), ("nowhere", "cannot read the keystore nowhere")] {
        let ran = sandbox.run(["backup", &nomad, "--keystore", folder]);
        ran.refused(1, &format!("nomad: not backed up: {}", if folder == "empty" { "empty: " } else { "" }), "");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
    // Nothing was committed.
    assert_eq!(files(&sandbox.repo("manifests")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nomad_whose_keyring_would_be_lost_is_warned_of() {
    let sandbox = Sandbox::with_repository();
    keystore(&sandbox);
    let server = NomadServer::start(&fixture("nomad-02.snap")).await;
    let url = server.server.url();
    let env = [("NOMAD_ADDR", url.as_str()), ("NOMAD_TOKEN", nomad_server::TOKEN)];
    for (version, with, words) in [
        ("1.8.4", false, "Nomad 1.8.4 keeps its keyring outside of the snapshot"),
        ("1.8.4", true, ""),
        ("1.9.0", true, "Nomad 1.9.0 keeps its keyring in the snapshot"),
        ("1.9.0", false, ""),
        ("1.3.1", false, ""),
    ] {
        server.set(|state| state.version = version);
        let args = ["backup", "nomad", "--keystore", "keystore"];
        let ran = sandbox.run_with_env(&args[..if with { 4 } else { 2 }], &env).ok();
        assert_eq!(ran.stderr.contains("keyring"), !words.is_empty(), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
    // Back into the server, with the keys beside it.
    server.set(|state| state.version = "1.8.4");
    let with = sandbox.run_with_env(["backup", "nomad", "--keystore", "keystore", "--json"], &env).ok();
    let name = with.objects()[0]["manifest"].as_str().unwrap().to_owned();
    let args = ["restore", &name, "--to", "nomad", "--yes", "--no-backup-first", "--keystore", "data/server/keystore"];
    let ran = sandbox.run_with_env(args, &env).ok();
    assert!(ran.stderr.contains("next: restart the Nomad server whose keystore"), "{ran:?}");
    assert!(is_whole(&sandbox.work().join("data/server/keystore")));
    let ran = sandbox.run_with_env(&args[..6], &env).ok();
    assert!(ran.stderr.contains("next: the keyring was backed up with the snapshot"), "{ran:?}");
}

#[test]
fn the_second_reader_gets_it_too() {
    if !["age", "zstd", "python3"].into_iter().all(has_tool) {
        return;
    }
    let sandbox = filled();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("format/restore.py");
    let run = |manifest: &str| {
        let mut command = Command::new("python3");
        command.arg("-B").arg(&script).arg("--identity").arg(sandbox.config("identity.txt")).arg(sandbox.repo(""));
        command.args([manifest, "-o", "-", "--keystore", "keys.tar"]).current_dir(sandbox.work()).output().unwrap()
    };
    let ran = run("nomad@latest");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let tar = fs::read(sandbox.work().join("keys.tar")).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    for (entry, (name, content)) in archive.entries().unwrap().zip(KEYS) {
        let mut entry = entry.unwrap();
        let mut found = String::new();
        std::io::Read::read_to_string(&mut entry, &mut found).unwrap();
        assert_eq!((&entry.path_bytes()[..], &found[..]), (name.as_bytes(), content));
    }
    assert!(String::from_utf8_lossy(&run("nomad@latest").stderr).contains("is there already"));
    sandbox.backup("vault", "vault-00.snap");
    assert!(String::from_utf8_lossy(&run("vault@latest").stderr).contains("has no keystore with it"));
}
