//! Who can read and write.

use super::sandbox::{Sandbox, files, fixture, fixture_path, has_tool, spec};
use std::fs;
use std::path::Path;
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn readers_come_and_go() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    // Bob's identity: that of another home, without its pin.
    let bob = Sandbox::with_repository();
    let identity = fs::read_to_string(bob.config("identity.txt")).unwrap();
    let recipient = identity.lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap().to_owned();
    let key = identity.lines().find(|l| l.starts_with("AGE-SECRET-KEY")).unwrap();
    let bobs = sandbox.file("bob.txt", key);
    let restore = ["restore", "vault@latest", "-o", "-", "-i", text(&bobs)];
    assert_eq!(sandbox.run(restore).code, 12);
    sandbox.run(["key", "add", "--label", "bob", "--recipient", &recipient, "--out", "copies"]).ok();
    assert_eq!(sandbox.run(restore).ok().stdout, fixture("vault-00.snap"));
    assert!(sandbox.work().join("copies/bob.repository-key.age").is_file());
    sandbox.run(["key", "add", "--label", "bob", "--recipient", &recipient]).refused(11, "bob", "another label");
    let list = sandbox.run(["key", "list"]).ok().text();
    assert!(list.contains("bob") && list.contains("reader-1"), "{list}");
    let ran = sandbox.run(["key", "remove", "bob"]).ok();
    assert!(ran.stderr.contains("can go on reading"), "{ran:?}");
    sandbox.run(["key", "remove", "bob"]).refused(2, "no key has the label bob", "reader-1");
    sandbox.run(["key", "remove", "reader-1"]).refused(1, "last wrapped copy", "key add");
    // His copy still opens it.
    let with_copy = restore.iter().chain(&["--key-file", "copies/bob.repository-key.age"]);
    assert_eq!(sandbox.run(with_copy).ok().stdout, fixture("vault-00.snap"));
    sandbox.run(["key", "remove", "reader-1", "--force"]).ok();
    sandbox.run(["restore", "vault@latest"]).refused(12, "0 wrapped copies", "--key-file");
    let copy = sandbox.config("repository-key.age");
    sandbox.run(["restore", "vault@latest", "-o", "-", "--key-file", text(&copy)]).ok();
}

#[test]
fn a_passphrase_opens_a_repository() {
    let sandbox = Sandbox::new();
    let phrase = sandbox.file("phrase", "correct horse\n");
    let phrase = text(&phrase);
    sandbox.run(["init", "--passphrase-file", phrase]).ok();
    assert!(!sandbox.config("identity.txt").exists());
    sandbox.backup("vault", "vault-00.snap");
    let restore = ["restore", "vault@latest", "-o", "-"];
    sandbox.run(restore).refused(12, "restore needs an identity", "");
    let ran = sandbox.run(restore.iter().chain(&["--passphrase-file", phrase])).ok();
    assert_eq!(ran.stdout, fixture("vault-00.snap"));
    sandbox.run_with_env(restore, &[("HAH_VAULT_PASSPHRASE", "correct horse")]).ok();
    sandbox.run_with_env(restore, &[("HAH_VAULT_PASSPHRASE", "wrong")]).refused(12, "no identity opens", "");
    sandbox.run(restore.iter().chain(&["--passphrase"])).refused(2, "no passphrase was given", "");
    sandbox.file("phrase", "\n");
    sandbox.run(restore.iter().chain(&["--passphrase-file", phrase])).refused(2, "is empty", "");
}

#[test]
fn a_second_passphrase_can_be_added() {
    let sandbox = Sandbox::with_repository();
    let phrase = sandbox.file("phrase", "battery staple");
    let phrase = text(&phrase);
    sandbox.run(["key", "add", "--label", "safe", "--new-passphrase-file", phrase]).ok();
    fs::remove_file(sandbox.config("identity.txt")).unwrap();
    sandbox.run(["key", "export", "--passphrase-file", phrase]).ok();
    assert_eq!(sandbox.run(["key", "add", "--label", "x"]).code, 2);
}

#[test]
fn a_writer_key_of_one_source_is_good_for_that_source_only() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let key = sandbox.run(["key", "writer", "--source", "consul"]).ok().text();
    assert!(key.starts_with("HAH-VAULT-WRITER-1") && key.lines().count() == 1);
    let all = sandbox.run(["key", "writer"]).ok().text();
    assert_eq!(all, fs::read_to_string(sandbox.config("writer.key")).unwrap());
    // The identity gives the same ones as the writer key of everything.
    fs::remove_file(sandbox.config("writer.key")).unwrap();
    assert_eq!(sandbox.run(["key", "writer", "--source", "consul"]).ok().text(), key);
    fs::remove_file(sandbox.config("identity.txt")).unwrap();
    let env = [("HAH_VAULT_WRITER_KEY", key.as_str())];
    let consul = spec("consul", &fixture_path("consul-00.snap"));
    let vault = spec("vault", &fixture_path("vault-00.snap"));
    sandbox.run_with_env(["backup", &consul], &env).ok();
    sandbox.run_with_env(["backup", &vault], &env).refused(12, "for source consul only, not for vault", "scope *");
    assert_eq!(sandbox.run_with_env(["list"], &env).ok().text().lines().count(), 2);
    sandbox.run_with_env(["list", "vault"], &env).refused(12, "for source consul only", "");
    sandbox.run_with_env(["stats"], &env).ok();
    sandbox.run_with_env(["key", "writer", "--source", "vault"], &env).refused(12, "for source consul only", "");
    sandbox.run_with_env(["restore", "consul@latest"], &env).refused(12, "restore needs an identity", "");
}

#[test]
fn several_readers_have_a_copy_each() {
    let sandbox = Sandbox::new();
    let other = Sandbox::with_repository();
    let identity = fs::read_to_string(other.config("identity.txt")).unwrap();
    let recipient = identity.lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap();
    let (first, second) = (format!("alice={recipient}"), recipient);
    sandbox.run(["init", "-r", &first, "-r", second, "--out", "keys"]).ok();
    for name in ["writer.key", "alice.repository-key.age", "reader-2.repository-key.age"] {
        assert!(sandbox.work().join("keys").join(name).is_file(), "{name}");
    }
    assert_eq!(files(&sandbox.repo("keys")).len(), 2);
    assert!(files(&sandbox.config("")).is_empty());
}

#[test]
fn an_ssh_key_can_be_a_reader() {
    if !has_tool("ssh-keygen") {
        return;
    }
    let sandbox = Sandbox::new();
    let args = ["-q", "-t", "ed25519", "-N", "", "-C", "bob@host", "-f", "id"];
    assert!(Command::new("ssh-keygen").args(args).current_dir(sandbox.work()).status().unwrap().success());
    let public = fs::read_to_string(sandbox.work().join("id.pub")).unwrap();
    sandbox.run(["init", "--recipient", &format!("bob={}", public.trim())]).ok();
    sandbox.backup("nomad", "nomad-00.snap");
    let ran = sandbox.run(["restore", "nomad@latest", "-o", "-", "--identity", "id"]).ok();
    assert_eq!(ran.stdout, fixture("nomad-00.snap"));
    let stdin = fs::read(sandbox.work().join("id")).unwrap();
    sandbox.run_with_stdin(["key", "export", "--identity", "-"], &stdin).ok();
}

#[test]
fn the_exported_identity_opens_keys_and_packs_with_the_age_command() {
    if !has_tool("age") {
        return;
    }
    let sandbox = Sandbox::with_repository();
    sandbox.backup("consul", "consul-00.snap");
    let exported = sandbox.run(["key", "export"]).ok();
    assert!(exported.stderr.contains("warning: this key opens every backup"));
    sandbox.file("paper.txt", &exported.stdout);
    let age = |identity: &Path, object: &Path| {
        let output = Command::new("age").arg("-d").arg("-i").arg(identity).arg(object).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let paper = sandbox.work().join("paper.txt");
    let wrapped = age(&sandbox.config("identity.txt"), &sandbox.repo("keys/reader-1.age"));
    assert_eq!(wrapped, exported.stdout);
    for folder in ["packs", "index", "manifests"] {
        for object in files(&sandbox.repo(folder)) {
            let opened = age(&paper, &object);
            assert!(folder != "packs" || opened.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "zstd is needed");
        }
    }
    // It stands for every reader, also when keys/ is gone.
    fs::remove_dir_all(sandbox.repo("keys")).unwrap();
    fs::remove_dir_all(sandbox.config("")).unwrap();
    let ran = sandbox.run(["restore", "consul@latest", "-o", "-", "-i", text(&paper)]).ok();
    assert_eq!(ran.stdout, fixture("consul-00.snap"));
}

#[test]
fn no_secret_is_ever_among_the_words() {
    let sandbox = Sandbox::with_repository();
    let exported = sandbox.run(["key", "export"]).ok().text();
    let writer = sandbox.run(["key", "writer"]).ok().text();
    let broken = sandbox.file("broken.txt", exported.replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1QQ"));
    let broken_writer = sandbox.file("broken.key", writer.replace("WRITER-1", "WRITER-1QQ"));
    sandbox.file("phrase", "correct horse battery staple");
    let vault = spec("vault", &fixture_path("vault-00.snap"));
    let commands: &[&[&str]] = &[
        &["backup", &vault],
        &["list"],
        &["show", "vault@latest"],
        &["restore", "vault@latest"],
        &["stats"],
        &["key", "list"],
        &["key", "add", "--label", "p", "--new-passphrase-file", "phrase"],
        &["restore", "vault@latest", "-o", "x", "--passphrase-file", "phrase"],
        &["key", "remove", "p"],
        &["restore", "vault@latest", "-i", text(&broken)],
        &["list", "--writer-key-file", text(&broken_writer)],
        &["restore", "vault@latest", "-i", text(&broken_writer)],
        &["list", "--writer-key-file", text(&broken)],
        &["key", "export"],
        &["key", "writer"],
        &["--repo", "new", "init", "--out", "new-keys"],
    ];
    for args in commands {
        let env = [("HAH_VAULT_PASSPHRASE", "correct horse battery staple"), ("HAH_VAULT_LOG", "trace")];
        let takes_env = args.contains(&"vault@latest");
        let ran = sandbox.run_with_env(args.iter().chain(&["-vvv"]), if takes_env { &env } else { &[] });
        let out =
            if args.first() == Some(&"key") { String::new() } else { String::from_utf8_lossy(&ran.stdout).into() };
        for secret in ["AGE-SECRET-KEY", "HAH-VAULT-WRITER-1", "battery"] {
            assert!(!ran.stderr.to_uppercase().contains(&secret.to_uppercase()), "{args:?}: {}", ran.stderr);
            assert!(!out.contains(secret), "{args:?}");
        }
    }
}
