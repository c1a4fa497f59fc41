//! Commands, options and variables that `deploy/` names, against the real program.

use super::files::{File, PROGRAM, all};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// What other work brings. Each entry has to go as soon as it is there: a test insists.
const AWAITED_COMMANDS: [&str; 0] = [];

/// The commands of the program with their options.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let help = |args: &[&str]| {
        let output = Command::new(PROGRAM).args(args).output().expect("it starts");
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let page = help(&["--help"]);
    let list = page.split("\nCommands:\n").nth(1).expect("commands").split("\n\n").next().expect("list");
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(|name| (name.to_owned(), options(&help(&[name, "--help"])))).collect()
}

fn options(page: &str) -> BTreeSet<String> {
    let word =
        |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or("").to_owned();
    let lines = page.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines.filter_map(|line| line.split_once("--")).map(|(_, rest)| format!("--{}", word(rest))).collect()
}

/// The words of each call of hah-vault in a file: in units, argument lists, code blocks and comments.
fn calls(file: &File) -> Vec<Vec<String>> {
    let mut calls: Vec<Vec<String>> = Vec::new();
    for line in file.text.lines() {
        let line = line.trim().trim_start_matches('#').trim_start();
        let list = line.strip_prefix("args").map(|rest| rest.trim_start_matches([' ', '=', ':']));
        if let Some(list) = list.and_then(|list| list.strip_prefix('[')) {
            calls.push(list.trim_end_matches(']').split(',').map(|w| w.trim().trim_matches('"').to_owned()).collect());
        }
        for (at, _) in line.match_indices("hah-vault ") {
            let before = line[..at].chars().next_back();
            let quoted = before == Some('`');
            let is_call = at == 0 || quoted || line[..at].ends_with("/bin/") || line[..at].ends_with("$ ");
            if is_call {
                let end = if quoted { '`' } else { '\n' };
                let call = line[at..].split([end, ';', '|', '…', '>']).next().unwrap_or_default();
                calls.push(call.split_whitespace().skip(1).map(str::to_owned).collect());
            }
        }
    }
    // Prose that happens to begin a line.
    calls.retain(|call| call.first().is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    calls
}

#[test]
fn every_command_and_option_exists() {
    let known = commands();
    let mut seen = 0;
    for file in all() {
        for call in calls(&file) {
            let name = call.first().expect("word");
            if AWAITED_COMMANDS.contains(&name.as_str()) {
                continue;
            }
            let prose = ["and", "or", "is", "needs", "comes", "talks"].contains(&name.as_str());
            if prose || name.starts_with('-') {
                continue;
            }
            let name = if name == "help" { call.get(1).expect("of what") } else { name };
            let options = known.get(name).unwrap_or_else(|| panic!("{}: no command {name}: {call:?}", file.name));
            seen += 1;
            for option in call.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap_or_default();
                assert!(options.contains(option), "{}: {name} has no {option}", file.name);
            }
        }
    }
    assert!(seen >= 5, "only {seen} calls were found");
}

/// All of the program's sources.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    entries
        .map(|path| if path.is_dir() { sources(&path) } else { std::fs::read_to_string(path).expect("text") })
        .collect()
}

#[test]
fn every_variable_is_read_by_the_program() {
    let code = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let is_read = |name: &str| code.contains(&format!("\"{name}\""));
    let part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let prefixes = ["HAH_VAULT_", "VAULT_", "CONSUL_", "NOMAD_", "AWS_"];
    // The servers' own, the scripts', and that of the library that signs requests (tests/store/s3.rs).
    let others = [
        "AWS_SHARED_CREDENTIALS_FILE",
        "NOMAD_SECRETS_DIR",
        "NOMAD_ALLOC_DIR",
        "NOMAD_JOB",
        "NOMAD_JWKS_URL",
        "NOMAD_CA_FILE",
    ];
    let mut seen = BTreeSet::new();
    for file in all() {
        // A reference names a variable of the user's own.
        let named: Vec<&str> = file.text.split("env(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for word in file.text.split(|c| !part(c)).filter(|word| prefixes.iter().any(|p| word.starts_with(p))) {
            let known = others.contains(&word) || named.contains(&word) || is_read(word);
            // `HAH_VAULT_AUTH_…` stands for several.
            let stands_for_several = word.ends_with('_');
            assert!(known || stands_for_several || word == "NOMAD_NAMESPACE", "{}: {word}", file.name);
            seen.insert(word.to_owned());
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
}

#[test]
fn nothing_is_awaited_that_is_there() {
    let known = commands();
    let there: Vec<&str> = AWAITED_COMMANDS.into_iter().filter(|name| known.contains_key(*name)).collect();
    assert_eq!(there, [""; 0], "take them off the list");
}
