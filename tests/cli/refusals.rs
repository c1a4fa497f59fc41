//! What is refused: words, hint and exit code.

use super::sandbox::{Sandbox, files, fixture, fixture_path, has_tool, spec};
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::path::Path;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn without_a_repository_every_command_says_so() {
    let sandbox = Sandbox::new();
    let vault = spec("vault", &fixture_path("vault-00.snap"));
    for args in [
        &["list"][..],
        &["backup", &vault],
        &["show", "x"],
        &["restore", "x"],
        &["stats"],
        &["key", "list"],
        &["key", "export"],
        &["key", "writer"],
        &["key", "remove", "x"],
    ] {
        sandbox.run(args).refused(10, "no repository at", "hah-vault init");
    }
    assert!(files(&sandbox.repo("")).is_empty());
}

#[test]
fn keys_of_another_repository_are_refused_or_named() {
    let (ours, theirs) = (Sandbox::with_repository(), Sandbox::with_repository());
    let writer = theirs.config("writer.key");
    let identity = theirs.config("identity.txt");
    let (writer, identity) = (writer.to_str().unwrap(), identity.to_str().unwrap());
    ours.run(["list", "--writer-key-file", writer]).refused(11, "the writer key belongs to", "--writer-key-file");
    ours.run(["list", "--identity", identity]).refused(11, "the identity belongs to", "--identity");
    let key = fs::read_to_string(writer).unwrap();
    ours.run_with_env(["list"], &[("HAH_VAULT_WRITER_KEY", &key)]).refused(11, "belongs to", "");
    // Default files of another repository are only named.
    let repo = ours.repo("");
    let repo = repo.to_str().unwrap();
    theirs.run(["--repo", repo, "list"]).refused(
        12,
        "list needs a writer key or an identity",
        "was not used: it belongs",
    );
    theirs.run(["--repo", repo, "key", "export"]).refused(12, "needs an identity", "identity.txt was not used");
}

#[test]
fn identities_that_do_not_fit_are_refused() {
    let sandbox = Sandbox::with_repository();
    let name = sandbox.backup("vault", "vault-00.snap");
    // A stranger's plain age identity, without a pin.
    let other = Sandbox::with_repository();
    let text = fs::read_to_string(other.config("identity.txt")).unwrap();
    let key = text.lines().find(|l| l.starts_with("AGE-SECRET-KEY")).unwrap();
    let path = sandbox.file("stranger.txt", key);
    let path = path.to_str().unwrap();
    sandbox.run(["restore", &name, "-i", path]).refused(
        12,
        "no identity opens the repository: 1 wrapped",
        "--identity",
    );
    for (text, words) in [("", "it holds no key"), ("hello", "not an age identity"), ("\u{0}", "not an age identity")] {
        let path = sandbox.file("broken.txt", text);
        sandbox.run(["restore", &name, "-i", path.to_str().unwrap()]).refused(12, words, "right file");
    }
    let broken = sandbox.file("broken.key", "HAH-VAULT-WRITER-1QQQQ");
    let broken = broken.to_str().unwrap();
    sandbox.run(["list", "--writer-key-file", broken]).refused(
        12,
        "writer key: a character or the checksum",
        "right file",
    );
    sandbox.run(["list", "--writer-key-file", "nowhere"]).refused(1, "cannot read nowhere", "");
    fs::remove_file(sandbox.config("identity.txt")).unwrap();
    sandbox.run(["restore", &name]).refused(12, "restore needs an identity", "--identity");
    fs::remove_file(sandbox.config("writer.key")).unwrap();
    sandbox.run(["list"]).refused(12, "list needs a writer key or an identity", "--writer-key-file");
}

#[test]
fn a_newer_repository_is_left_alone() {
    let sandbox = Sandbox::with_repository();
    let path = sandbox.repo("repository.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&path, text).unwrap();
    sandbox.run(["list"]).refused(13, "format version 2", "newer hah-vault");
    // Broken rather than newer: it is a hint, and the keys say the rest.
    fs::write(&path, "{").unwrap();
    sandbox.run(["list"]).ok();
}

#[test]
fn unsound_snapshots_are_not_backed_up() {
    let sandbox = Sandbox::with_repository();
    let sound = fixture("vault-00.snap");
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 0x10;
    let cut = &sound[..sound.len() - 1000];
    let late = [&sound[..], b"500 Internal Server Error\n"].concat();
    let no_meta = gzip(&tar(&[("state.bin", b"state"), ("SHA256SUMS", b"")]));
    for (what, bytes, words, hint) in [
        ("cut", cut, "cut off after", "take it again"),
        ("flipped", &flipped, "vault: not backed up: ", "damaged"),
        ("late error", &late, "500 Internal Server Error", "take it again"),
        ("empty", b"", "the input is empty", "look for its error"),
        ("error page", b"<html>502 Bad Gateway</html>", "502 Bad Gateway", "check address"),
        ("no meta.json", &no_meta, "vault: not backed up: ", ""),
    ] {
        let path = sandbox.file("input", bytes);
        let ran = sandbox.run(["backup", &spec("vault", &path)]);
        println!("{what}: {}", ran.stderr);
        ran.refused(1, words, hint);
    }
    assert!(files(&sandbox.repo("manifests")).is_empty());
    assert!(files(&sandbox.repo("tmp")).is_empty() && files(&sandbox.tmp()).is_empty());
}

#[test]
fn a_decompression_bomb_is_refused() {
    let sandbox = Sandbox::with_repository();
    let zeros = vec![0; 200 << 20];
    let bomb = gzip(&tar(&[("meta.json", b"{}"), ("state.bin", &zeros)]));
    drop(zeros);
    let path = sandbox.file("bomb", bomb);
    sandbox.run(["backup", &spec("vault", &path)]).refused(1, "inflate to more than", "--raw");
    assert!(files(&sandbox.repo("manifests")).is_empty());
}

#[test]
fn names_that_fit_nothing_or_too_much_bring_names_that_would() {
    let sandbox = Sandbox::with_repository();
    sandbox.run(["show", "vault@latest"]).refused(2, "no manifest is called vault@latest", "hah-vault list");
    let first = sandbox.backup("vault", "vault-00.snap");
    let second = sandbox.backup("vault", "vault-01.snap");
    sandbox.run(["show", "vault@latest~2"]).refused(2, "no manifest is called", &first);
    sandbox.run(["restore", "vault/"]).refused(2, "ambiguous: 2 manifests", &second);
}

#[test]
fn an_existing_file_is_not_written_over_without_force() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let path = sandbox.file("out", "precious");
    sandbox.run(["restore", "vault@latest", "-o", "out"]).refused(11, "cannot write over out", "--force");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    sandbox.run(["restore", "vault@latest", "-o", "out", "--force"]).ok();
    assert_eq!(fs::read(&path).unwrap(), fixture("vault-00.snap"));
    sandbox.run(["restore", "vault@latest", "-o", "/dev/null", "--force"]).refused(2, "not a file", "-o -");
    sandbox.run(["restore", "vault@latest", "-o", "no/folder/x"]).refused(
        1,
        "cannot write no/folder/x: there is no folder no/folder",
        "",
    );
    for force in [&[][..], &["--force"]] {
        let ran = sandbox.run(["restore", "vault@latest", "-o", "."].iter().chain(force));
        ran.refused(2, ". is a folder", "-o ./vault-");
    }
    assert_eq!(files(&sandbox.work()).len(), 1);
}

#[test]
fn a_source_that_is_not_there_is_named_with_those_that_are() {
    let sandbox = Sandbox::with_repository();
    // Nothing is there yet, and nobody has mistyped anything.
    sandbox.run(["list", "vault"]).ok();
    sandbox.backup("vault", "vault-00.snap");
    sandbox.run(["list", "valut"]).refused(1, "there is no snapshot of a source valut", "sources: vault");
    sandbox.run(["restore", "valut@latest"]).refused(1, "no snapshot of a source valut", "sources: vault");
    sandbox.run(["show", "vault@2020-01-01"]).refused(2, "vault@2020-01-01 is before the first snapshot, vault/", "");
}

#[test]
fn a_manifest_from_the_future_is_never_the_latest() {
    let sandbox = Sandbox::with_repository();
    let name = sandbox.backup("vault", "vault-00.snap");
    let planted = sandbox.repo("manifests/vault/99991231T235959Z-00000000");
    fs::write(&planted, "garbage").unwrap();
    let ran = sandbox.run(["show", "vault@latest"]).ok();
    assert!(ran.text().contains(&name), "{ran:?}");
    assert!(ran.stderr.contains("warning: vault: 1 manifests claim a time that has not come yet"), "{ran:?}");
    sandbox.run(["restore", "vault@latest", "-o", "out"]).ok();
    // The second reader agrees.
    if has_tool("age") && has_tool("zstd") && has_tool("python3") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("format/restore.py");
        let mut command = sandbox.command_of("python3", ["-B"]);
        command.arg(script).arg("-i").arg(sandbox.config("identity.txt")).arg(sandbox.repo(""));
        let ran = command.args(["vault@latest", "-o", "py.tar"]).output().unwrap();
        let words = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && words.contains(&name) && words.contains("has not come yet"), "{words}");
    }
    // Where there is nothing else, it is taken, and says what is wrong with it.
    fs::remove_file(sandbox.repo(&format!("manifests/{name}"))).unwrap();
    sandbox.run(["show", "vault@latest"]).refused(1, "cannot open manifest vault/99991231T235959Z", "");
}

#[test]
fn a_key_file_that_holds_something_else_is_named() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let identity = sandbox.config("identity.txt");
    for path in [&sandbox.file("rubbish", "\0\u{1}rubbish"), &identity] {
        let ran = sandbox.run(["restore", "vault@latest", "-o", "out", "--key-file", path.to_str().unwrap()]);
        ran.refused(12, &format!("{} is not a wrapped repository identity", path.display()), "repository-key.age");
    }
    let copy = sandbox.config("repository-key.age");
    fs::remove_dir_all(sandbox.repo("keys")).unwrap();
    sandbox.run(["restore", "vault@latest", "-o", "out", "--key-file", copy.to_str().unwrap()]).ok();
}

#[test]
fn init_writes_over_nothing() {
    let sandbox = Sandbox::with_repository();
    let before: Vec<_> = files(&sandbox.repo("")).iter().map(|f| fs::read(f).unwrap()).collect();
    sandbox.run(["init"]).refused(11, "writer.key is there already", "--out");
    sandbox.run(["init", "--out", "elsewhere"]).refused(11, "repository.json is there already", "empty place");
    assert!(!sandbox.work().join("elsewhere").exists());
    let after: Vec<_> = files(&sandbox.repo("")).iter().map(|f| fs::read(f).unwrap()).collect();
    assert_eq!(before, after);
    // Any of the files is enough, and nothing is made in the store.
    fs::remove_file(sandbox.config("writer.key")).unwrap();
    sandbox.run(["--repo", "new", "init"]).refused(11, "identity.txt is there already", "--out");
    assert!(!sandbox.work().join("new").exists() && !sandbox.config("writer.key").exists());
}

#[test]
fn an_init_that_fails_leaves_no_keys() {
    let sandbox = Sandbox::new();
    sandbox.file("blocked", "a file where the repository's folder should be");
    let ran = sandbox.run(["--repo", "blocked/repo", "init"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(files(&sandbox.config("")).is_empty());
}

#[test]
fn recipients_of_odd_forms_get_clear_words_and_secrets_are_not_repeated() {
    let sandbox = Sandbox::new();
    let secret = "AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQ";
    let ran = sandbox.run(["init", "--recipient", secret]);
    ran.refused(2, "a secret key was given as recipient", "public");
    assert!(!ran.stderr.contains("QQPQYQSZ"));
    sandbox.file("id.pub", "ssh-ed25519 AAAA");
    sandbox.run(["init", "--recipient", "id.pub"]).refused(2, "is a file", "$(cat id.pub)");
    for text in ["", "age1", "bob", "age1xyz", "x=", "github:bob", "ssh-ed25519 nonsense"] {
        sandbox.run(["init", "--recipient", text]).refused(2, "cannot use a recipient", "public keys");
    }
    sandbox.run(["init", "--recipient", "ecdsa-sha2-nistp256 AAAA"]).refused(2, "SSH key", "ssh-ed25519");
    sandbox.run(["init", "-r", "a=age1x", "-r", "a=age1y"]).refused(2, "two readers have the label a", "LABEL=");
    assert!(files(&sandbox.config("")).is_empty() && files(&sandbox.repo("")).is_empty());
}

#[test]
fn sources_that_make_no_sense_are_usage_errors() {
    let sandbox = Sandbox::with_repository();
    for (args, words) in [
        (&["nothing"][..], "is not a source"),
        (&["x"], "not a source"),
        (&["vault=a", "vault=b"], "given twice"),
        (&["a=-", "b=-"], "two sources read standard input"),
        (&["Vault=x"], "source name"),
        (&["a="], "no path"),
    ] {
        sandbox.run(["backup"].iter().chain(args)).refused(2, words, "");
    }
    assert_eq!(sandbox.run(["backup"]).code, 2);
    assert_eq!(sandbox.run(["backup", "a=b", "--horizon", "90"]).code, 2);
    sandbox.run(["--repo", "gs://x", "list"]).refused(2, "not supported", "s3://");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let sandbox = Sandbox::with_repository();
    let names = ["REPO", "WRITER_KEY_FILE", "WRITER_KEY", "IDENTITY", "PASSPHRASE", "LOG"];
    let names = names.map(|name| format!("HAH_VAULT_{name}"));
    let env = names.each_ref().map(|name| (name.as_str(), ""));
    sandbox.run_with_env(["list"], &env).ok();
    sandbox.run_with_env(["key", "export"], &env).ok();
}

#[test]
fn one_of_three_that_fails_does_not_stop_the_others() {
    let sandbox = Sandbox::with_repository();
    let specs = [
        spec("vault", &fixture_path("vault-00.snap")),
        "consul=nowhere".to_owned(),
        spec("nomad", &fixture_path("nomad-00.snap")),
    ];
    let ran = sandbox.run(["backup".to_owned()].iter().chain(&specs));
    ran.refused(3, "consul: cannot read nowhere: No such file", "");
    assert_eq!(sandbox.run(["list"]).ok().text().lines().count(), 3);
    sandbox.run(["backup", "consul=nowhere"]).refused(1, "nowhere", "");
    assert_eq!(sandbox.run(["backup", "consul=nowhere", "nomad=neither"]).code, 1);
    sandbox.run(["backup", "folder=."]).refused(1, "folder: cannot read .: is a directory", "");
}
