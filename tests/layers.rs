//! The direction of dependencies (DESIGN §8), read off the sources.

use std::path::{Path, PathBuf};

fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The code of a file: comments and doc comments may name anything.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Whether code names a path such as `opendal::` or `crate::store`.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part_of_word(before) && !part_of_word(after)
    })
}

fn relative(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_string_lossy().into_owned()
}

/// Files of `dirs` that name any of `paths`, but for those that begin with one of `allowed`.
fn offenders(dirs: &[&str], paths: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in dirs.iter().flat_map(|dir| sources(dir)) {
        let name = relative(&file);
        let code = code(&file);
        if !allowed.iter().any(|a| name.starts_with(a)) {
            found.extend(paths.iter().filter(|p| names(&code, p)).map(|p| format!("{name} names {p}")));
        }
    }
    found
}

const NONE: [String; 0] = [];

#[test]
fn each_library_is_named_in_its_own_module_only() {
    for (library, allowed) in [
        ("opendal", &["src/store/"][..]),
        // telemetry/http.rs: a Pushgateway and a dead man's switch are neither sources nor stores; nor is another agent.
        ("reqwest", &["src/store/s3/", "src/source/", "src/telemetry/http.rs", "src/agent/client.rs"]),
        ("axum", &["src/agent/api/", "src/agent/serve.rs"]),
        ("hyper", &["src/agent/serve.rs"]),
        ("jiff", &["src/agent/"]),
        ("clap", &["src/cli/"]),
        ("hcl_edit", &["src/config/hcl.rs"]),
        ("indicatif", &["src/cli/"]),
        ("age", &["src/keys.rs", "src/pipeline/seal.rs"]),
        ("bincode", &["format/src/codec.rs"]),
        ("zstd", &["src/pipeline/seal.rs"]),
        ("fastcdc", &["src/pipeline/split.rs"]),
        ("ggstd", &["src/pipeline/go_deflate.rs"]),
    ] {
        let paths = [&format!("{library}::")[..], &format!("use {library}")];
        assert_eq!(offenders(&["src", "format/src"], &paths, allowed), NONE, "{library}");
    }
}

#[test]
fn dependencies_point_one_way() {
    for (layer, above) in [
        ("src/world.rs", &["archive", "cli", "keys", "pipeline", "snapshot", "store", "telemetry"][..]),
        ("src/snapshot", &["archive", "cli", "keys", "pipeline", "store", "telemetry"]),
        ("src/store", &["archive", "cli", "keys", "pipeline", "snapshot", "telemetry"]),
        ("src/source", &["archive", "cli", "config", "keys", "pipeline", "store", "telemetry"]),
        ("src/config", &["archive", "cli", "keys", "pipeline", "store", "telemetry"]),
        ("src/keys.rs", &["archive", "cli", "pipeline", "snapshot", "store", "telemetry"]),
        ("src/pipeline", &["archive", "cli", "store", "telemetry"]),
        ("src/archive", &["agent", "cli", "config", "telemetry"]),
        ("src/source", &["agent"]),
        ("src/store", &["agent"]),
        ("src/agent", &["cli", "config", "telemetry"]),
        ("src/telemetry", &["agent", "cli"]),
    ] {
        let above: Vec<String> = above.iter().map(|module| format!("crate::{module}")).collect();
        let above: Vec<&str> = above.iter().map(String::as_str).collect();
        let dir = if layer.ends_with(".rs") { "src" } else { layer };
        let found: Vec<String> =
            offenders(&[dir], &above, &[]).into_iter().filter(|name| name.starts_with(layer)).collect();
        assert_eq!(found, NONE, "{layer}");
    }
}

#[test]
fn the_format_is_pure() {
    let impure = [
        "std::fs",
        "std::io",
        "std::net",
        "std::time",
        "std::env",
        "std::thread",
        "std::process",
        "tokio",
        "async",
        "rand",
        "getrandom",
        "age::",
        "zstd::",
    ];
    assert_eq!(offenders(&["format/src"], &impure, &[]), NONE);
}

#[test]
fn the_pipeline_and_the_snapshot_are_synchronous_and_know_no_clock() {
    // One async block stands in for a self-referential struct; nothing awaits outside of it.
    let impure = ["tokio", "SystemTime", "Instant", "println", "eprintln"];
    assert_eq!(offenders(&["src/pipeline", "src/snapshot"], &impure, &[]), NONE);
}

#[test]
fn only_the_command_line_prints() {
    assert_eq!(
        offenders(&["src"], &["println!", "eprintln!", "print!", "eprint!", "dbg!"], &["src/cli/", "src/main.rs"]),
        NONE
    );
}
