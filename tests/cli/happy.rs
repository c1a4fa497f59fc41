//! What goes right.

use super::sandbox::{Sandbox, files, fixture, fixture_path, spec};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn init_backup_list_show_restore_gives_back_every_byte() {
    let sandbox = Sandbox::new();
    let words = sandbox.run(["init"]).ok().stderr;
    for word in ["identity.txt", "writer.key", "repository-key.age", "worst day", "thief"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    let names = ["vault", "consul", "nomad"];
    let specs = names.map(|name| spec(name, &fixture_path(&format!("{name}-00.snap"))));
    let table = sandbox.run(["backup"].into_iter().chain(specs.iter().map(String::as_str))).ok().text();
    assert_eq!(table.lines().count(), 4, "{table}");
    let list = sandbox.run(["list"]).ok().text();
    assert_eq!(list.lines().count(), 4, "{list}");
    for (name, index) in [("vault", "103"), ("consul", "120"), ("nomad", "42")] {
        assert!(list.lines().any(|line| line.starts_with(name) && line.ends_with(index)), "{list}");
        let show = sandbox.run(["show", &format!("{name}@latest")]).ok().text();
        assert!(show.contains(&format!("index {index}")), "{show}");
        let said = sandbox.run(["restore", &format!("{name}@latest"), "-o", name]).ok();
        assert!(said.stderr.contains("byte for byte") && said.stdout.is_empty(), "{said:?}");
        assert_eq!(fs::read(sandbox.work().join(name)).unwrap(), fixture(&format!("{name}-00.snap")));
        let piped = sandbox.run(["restore", &format!("{name}@latest"), "-o", "-"]).ok();
        assert_eq!(piped.stdout, fixture(&format!("{name}-00.snap")));
    }
}

#[test]
fn one_command_makes_the_repository_and_backs_up() {
    let sandbox = Sandbox::new();
    let args = ["backup", "--init", "vault=-"];
    let ran = sandbox.run_with_stdin(args, &fixture("vault-00.snap")).ok();
    assert!(ran.stderr.contains("identity.txt") && ran.text().contains("vault/"), "{ran:?}");
    // The second time it is there. Names of one second have no order.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let ran = sandbox.run_with_stdin(args, &fixture("vault-01.snap")).ok();
    assert!(!ran.stderr.contains("identity.txt"), "{ran:?}");
    sandbox.run(["restore", "vault@latest~1"]).ok();
    let restored = files(&sandbox.work());
    assert!(restored[0].extension().is_some_and(|e| e == "snap"), "{restored:?}");
    assert!(fs::read(&restored[0]).unwrap() == fixture("vault-00.snap"));
}

#[test]
fn keys_are_for_their_owner_only() {
    let sandbox = Sandbox::with_repository();
    for name in ["writer.key", "identity.txt", "repository-key.age"] {
        assert_eq!(fs::metadata(sandbox.config(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(sandbox.config("")).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(sandbox.config("writer.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = sandbox.run(["list"]).ok();
    assert!(ran.stderr.contains("warning: everybody can read") && ran.stderr.contains("chmod 600"), "{ran:?}");
}

#[test]
fn a_gzip_that_cannot_be_imitated_is_said_to_be_another() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00-go127.snap");
    let ran = sandbox.run(["restore", "vault@latest", "-o", "x"]).ok();
    assert!(ran.stderr.contains("another gzip"), "{ran:?}");
    let object = &sandbox.run(["restore", "vault@latest", "-o", "y", "--json"]).ok().objects()[0];
    assert_eq!(object["exactness"], "other-gzip");
    sandbox.backup("consul", "consul-00.snap");
    let object = &sandbox.run(["restore", "consul@latest", "-o", "z", "--json", "--fast"]).ok().objects()[0];
    assert_eq!(object["exactness"], "fast");
}

#[test]
fn any_file_can_be_kept_raw() {
    let sandbox = Sandbox::with_repository();
    let path = sandbox.file("notes", b"not a snapshot");
    let vault = spec("vault", &path);
    sandbox.run(["backup", &vault]).refused(1, "not a Raft snapshot", "--raw");
    sandbox.run(["backup", "--raw", "--fresh", "--compression", "off", "--horizon", "1d", &vault]).ok();
    assert_eq!(sandbox.run(["restore", "vault@latest", "-o", "-"]).ok().stdout, b"not a snapshot");
}

#[test]
fn list_limits_to_the_newest_and_quiet_says_nothing() {
    let sandbox = Sandbox::with_repository();
    assert!(sandbox.run(["list"]).ok().stdout.is_empty());
    let quiet = sandbox.run(["backup", "-q", &spec("a", &fixture_path("README.md"))]).ok();
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet:?}");
    let last = sandbox.backup("b", "consul-00.snap");
    let list = sandbox.run(["list", "--limit", "1", "--json"]).ok().objects();
    assert_eq!(list.len(), 1);
    assert!(list[0]["manifest"] == last.as_str() || list[0]["source"] == "a");
    assert_eq!(sandbox.run(["list", "b"]).ok().text().lines().count(), 2);
    sandbox.run(["ls", "nothing-here"]).refused(1, "no snapshot of a source nothing-here", "sources: a, b");
}

#[test]
fn packs_given_up_are_told_with_v() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let args = ["backup", "-v", "--fresh", &spec("vault", &fixture_path("vault-01.snap"))];
    let ran = sandbox.run(args).ok();
    assert!(ran.stderr.contains("vault: 1 packs of the last snapshot are not reused: --fresh"), "{ran:?}");
}

#[test]
fn help_man_and_completions_are_there() {
    let sandbox = Sandbox::new();
    for args in [&["help"][..], &["--help"], &["man"]] {
        let text = sandbox.run(args).ok().text();
        assert!(text.contains("130") && text.contains("HAH_VAULT_WRITER_KEY"), "{args:?} {text}");
    }
    assert!(sandbox.run(["--version"]).ok().text().starts_with("hah-vault "));
    sandbox.run(["man", "--out", "pages"]).ok();
    assert!(sandbox.work().join("pages/hah-vault-key-writer.1").is_file());
    for shell in ["bash", "zsh", "fish"] {
        assert!(sandbox.run(["completions", shell]).ok().text().contains("hah-vault"));
    }
    assert_eq!(sandbox.run(["nonsense"]).code, 2);
    assert_eq!(sandbox.run([""; 0]).code, 2);
}

#[test]
fn stats_count_what_is_there() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    sandbox.backup("vault", "vault-01.snap");
    let stats = &sandbox.run(["stats", "--json"]).ok().objects()[0];
    assert_eq!(stats["sources"]["vault"]["snapshots"], 2);
    assert_eq!(stats["objects"]["manifests"]["count"], 2);
    assert!(sandbox.run(["stats"]).ok().text().contains("stored in all"));
}

#[test]
fn a_damaged_manifest_is_listed_as_unreadable() {
    let sandbox = Sandbox::with_repository();
    let damaged = sandbox.backup("vault", "vault-00.snap");
    sandbox.backup("consul", "consul-00.snap");
    let path = sandbox.repo(&format!("manifests/{damaged}"));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = sandbox.run(["list"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.text().contains("unreadable") && ran.text().contains("consul"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("warning: cannot open manifest {damaged}: ")), "{ran:?}");
    assert_eq!(sandbox.run(["stats"]).code, 3);
    let objects = sandbox.run(["list", "--json"]).objects();
    assert!(objects.iter().any(|o| o["type"] == "unreadable" && o["manifest"] == damaged.as_str()));
}

#[test]
fn a_lost_repository_json_keeps_nobody_from_restoring() {
    let sandbox = Sandbox::with_repository();
    let name = sandbox.backup("vault", "vault-00.snap");
    fs::remove_file(sandbox.repo("repository.json")).unwrap();
    sandbox.run(["restore", &name, "-o", "vault.snap"]).ok();
    assert!(fs::read(sandbox.work().join("vault.snap")).unwrap() == fixture("vault-00.snap"));
    sandbox.run(["list"]).ok();
    sandbox.backup("vault", "vault-01.snap");
    // A reader whose key names no repository finds out by trying.
    let text = fs::read_to_string(sandbox.config("identity.txt")).unwrap();
    let bare: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    fs::remove_file(sandbox.config("writer.key")).unwrap();
    fs::write(sandbox.config("identity.txt"), bare).unwrap();
    sandbox.run(["restore", &name, "-o", "again.snap"]).ok();
}
