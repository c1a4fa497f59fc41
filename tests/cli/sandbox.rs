//! A home, a working folder and a folder for temporary files that nobody else uses.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_hah-vault");

pub(super) struct Sandbox {
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub(super) fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).expect("words are UTF-8");
        Self { code: output.status.code().expect("no signal"), stdout: output.stdout, stderr }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text")
    }

    #[track_caller]
    pub(super) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// One error with these words, this hint and this code.
    #[track_caller]
    pub(super) fn refused(&self, code: i32, error: &str, hint: &str) {
        let errors: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
        let hints: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("hint: ")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        assert!(errors[0].contains(error), "{self:?}");
        assert!(hint.is_empty() || hints.len() == 1 && hints[0].contains(hint), "{self:?}");
        assert_eq!(self.code, code, "{self:?}");
    }

    /// The JSON objects on standard output.
    pub(super) fn objects(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

impl Sandbox {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        for name in ["home", "work", "tmp"] {
            fs::create_dir(dir.path().join(name)).expect(name);
        }
        Self { dir }
    }

    /// With a repository in the default place.
    pub(super) fn with_repository() -> Self {
        let sandbox = Self::new();
        sandbox.run(["init"]).ok();
        sandbox
    }

    pub(super) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.dir.path().join("home/.config/hah-vault").join(name)
    }

    pub(super) fn repo(&self, name: &str) -> PathBuf {
        self.dir.path().join("home/.local/share/hah-vault").join(name)
    }

    pub(super) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command_of(BINARY, args)
    }

    /// Another program in the same surroundings.
    pub(super) fn command_of<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(args).env_clear().env("PATH", path).env("HOME", self.dir.path().join("home"));
        command.env("TMPDIR", self.tmp()).current_dir(self.work()).stdin(Stdio::null());
        command
    }

    pub(super) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::from(self.command(args).output().expect("it starts"))
    }

    pub(super) fn run_with_env<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, env: &[(&str, &str)]) -> Ran {
        Ran::from(self.command(args).envs(env.iter().copied()).output().expect("it starts"))
    }

    pub(super) fn run_with_stdin<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, stdin: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut pipe = child.stdin.take().expect("pipe");
        // A command that refuses early does not read it all.
        let _ = pipe.write_all(stdin);
        drop(pipe);
        Ran::from(child.wait_with_output().expect("it ends"))
    }

    /// Writes a file into the working folder.
    pub(super) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::write(&path, bytes).expect("write");
        path
    }

    /// Backs up a fixture; the manifest's name.
    pub(super) fn backup(&self, source: &str, fixture: &str) -> String {
        let spec = spec(source, &fixture_path(fixture));
        let ran = self.run(["backup", "--json", &spec]).ok();
        ran.objects()[0]["manifest"].as_str().expect("manifest").to_owned()
    }
}

pub(super) fn spec(source: &str, path: &Path) -> String {
    format!("{source}={}", path.display())
}

pub(super) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(super) fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixture_path(name)).expect(name)
}

/// All files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether a tool is there. Under CI all of them must be.
pub(super) fn has_tool(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().expect("sh").status.success();
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{name} is missing");
    if !found {
        println!("skipped: {name} is not installed");
    }
    found
}
