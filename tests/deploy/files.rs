//! The files of `deploy/`, and what must hold of all of them.

use std::fs;
use std::path::{Path, PathBuf};

/// hah-vault.
pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_hah-vault");

/// A file with its text.
pub(super) struct File {
    /// Relative to `deploy/`.
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

impl File {
    pub(super) fn is(&self, end: &str) -> bool {
        self.name.ends_with(end)
    }
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// All of them, sorted.
pub(super) fn all() -> Vec<File> {
    let (root, mut files) = (root(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("text");
            files.push(File { name, path, text });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

pub(super) fn of(end: &str) -> Vec<File> {
    let files: Vec<File> = all().into_iter().filter(|file| file.is(end)).collect();
    assert!(!files.is_empty(), "no {end}");
    files
}

#[test]
fn every_file_is_of_a_kind_that_a_test_reads() {
    let kinds = [".hcl", ".service", ".timer", ".sh", ".yaml", ".yml", ".json", ".md", "/Containerfile"];
    for file in all() {
        assert!(kinds.iter().any(|kind| file.is(kind)), "{}: nothing reads it", file.name);
        assert!(file.text.ends_with('\n') && !file.text.contains('\t') && !file.text.contains('\r'), "{}", file.name);
        assert!(file.text.lines().all(|line| line.trim_end() == line), "{}: blanks at the end of a line", file.name);
    }
}

#[test]
fn hcl_and_json_are_what_their_names_say() {
    for file in of(".hcl") {
        let parsed = file.text.parse::<hcl_edit::structure::Body>();
        assert!(parsed.is_ok(), "{}: {}", file.name, parsed.unwrap_err());
    }
    for file in of(".json") {
        let parsed = serde_json::from_str::<serde_json::Value>(&file.text);
        assert!(parsed.is_ok(), "{}: {}", file.name, parsed.unwrap_err());
    }
}

/// What a secret looks like, of the kinds that these files are about.
const SECRET_FORMS: [&str; 9] = [
    "AGE-SECRET-KEY-1",
    "HAH-VAULT-WRITER-1",
    "PRIVATE KEY-----",
    "hvs.",
    "hvb.",
    "s.XXXX",
    "AKIA",
    "ghp_",
    "eyJhbGciOi",
];

#[test]
fn no_secret_is_written_out() {
    for file in all() {
        for form in SECRET_FORMS {
            assert!(!file.text.contains(form), "{}: {form}", file.name);
        }
        // NAME=value, NAME = "value", NAME: value.
        for line in file.text.lines().filter(|line| !line.trim_start().starts_with(['#', '-', '|'])) {
            let Some((name, value)) = line.split_once(['=', ':']) else { continue };
            let name = name.trim().trim_start_matches("Environment=").to_ascii_uppercase();
            let is_secret = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "ACCESS_KEY_ID", "WRITER_KEY", "SECRET_ID"]
                .iter()
                .any(|end| name.ends_with(end));
            let value = value.trim().trim_matches(['"', ',', ';']);
            let is_switch = ["true", "false"].contains(&value);
            let refers =
                ["env(", "file(", "kv(", "creds(", "aws(", "$", "…"].iter().any(|form| value.starts_with(form));
            assert!(!is_secret || is_switch || refers || value.is_empty(), "{}: {line}", file.name);
        }
    }
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    for file in of(".md") {
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.starts_with("https://") {
                continue;
            }
            let path = file.path.parent().expect("folder").join(target);
            assert!(path.exists(), "{}: {target}", file.name);
        }
    }
}

#[test]
fn every_file_is_in_a_table_of_the_documents() {
    let documents: String = of(".md").into_iter().map(|file| file.text).collect();
    for file in all().iter().filter(|file| !file.is(".md")) {
        let base = file.name.rsplit('/').next().unwrap_or_default();
        assert!(documents.contains(base), "{} is in no document", file.name);
    }
}
