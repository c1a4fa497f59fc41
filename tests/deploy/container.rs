//! The container: what is in it, and that its script gathers that.

use super::files::{PROGRAM, all, root};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Instructions with their arguments; lines that end with a backslash go on.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("container/Containerfile")).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.trim().to_owned())).expect(line)).collect()
}

#[test]
fn it_holds_the_program_and_nothing_else() {
    let instructions = instructions();
    let of = |name: &str| instructions.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!(of("FROM"), ["scratch"]);
    assert_eq!(of("COPY").len(), 2);
    assert_eq!(of("ENTRYPOINT"), [r#"["/hah-vault"]"#]);
    assert!(of("RUN").is_empty() && of("ADD").is_empty());
    let (user, group) = of("USER")[0].split_once(':').unwrap();
    // Numbers: Kubernetes' runAsNonRoot cannot judge names.
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);
}

#[test]
fn its_script_gives_the_engine_what_the_file_copies() {
    let dir = tempfile::tempdir().unwrap();
    let engine = dir.path().join("engine");
    let script =
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$OUT/args\"\nfor last; do :; done\ncp -a \"$last\" \"$OUT/context\"\n";
    fs::write(&engine, script).unwrap();
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
    let authorities = dir.path().join("ca.crt");
    fs::write(&authorities, "authorities").unwrap();
    let mut command = Command::new(root().join("container/build.sh"));
    command.env("ENGINE", &engine).env("BINARY", PROGRAM).env("OUT", dir.path()).env("CA_FILE", &authorities);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let args = fs::read_to_string(dir.path().join("args")).unwrap();
    assert!(args.contains(&format!("\nhah-vault:{}\n", env!("CARGO_PKG_VERSION"))), "{args}");
    for (_, copy) in instructions().iter().filter(|(name, _)| name == "COPY") {
        let from = dir.path().join("context").join(copy.split(' ').next().unwrap());
        assert!(from.is_file(), "{copy}");
    }
    assert!(fs::read(dir.path().join("context/hah-vault")).unwrap() == fs::read(PROGRAM).unwrap());
    assert_eq!(fs::read(dir.path().join("context/ca-certificates.crt")).unwrap(), b"authorities");
}

#[test]
fn every_image_is_pinned_to_this_version() {
    let mut seen = 0;
    for file in all() {
        let images = file.text.split_whitespace().filter(|word| word.contains("ghcr.io/"));
        for image in images.map(|word| word.trim_matches(['"', ','])) {
            let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{}: {image} has no tag", file.name));
            assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{}", file.name);
            seen += 1;
        }
        assert!(!file.text.contains(":latest"), "{}", file.name);
    }
    assert!(seen >= 2);
}
