//! ctrl-C, SIGTERM, SIGHUP, SIGKILL and closed pipes.

use super::sandbox::{BINARY, Ran, Sandbox, files, fixture_path, spec};
use crate::support::s3_server::{ACCESS_KEY_ID, Fault, S3Server, SECRET_ACCESS_KEY};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

pub(super) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_interrupted_backup_leaves_no_manifest_and_no_temporary_file() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let sandbox = Sandbox::with_repository();
        // These tests may themselves run under nohup, which their children inherit.
        let backup = ["--default-signal=HUP", BINARY, "backup", "--raw", "big=-"];
        let mut child = match name {
            "-HUP" if cfg!(target_os = "linux") => spawn(sandbox.command_of("env", backup)),
            "-HUP" => continue,
            _ => spawn(sandbox.command(&backup[2..])),
        };
        let mut pipe = child.stdin.take().unwrap();
        // More than a pipe holds: when it is written, the backup is running. The pipe stays open.
        let mut noise = vec![0; 20 << 20];
        getrandom::fill(&mut noise).unwrap();
        pipe.write_all(&noise).unwrap();
        signal(&child, name);
        let started = Instant::now();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert!(started.elapsed() < Duration::from_secs(20));
        ran.refused(130, "interrupted", "");
        drop(pipe);
        assert!(files(&sandbox.repo("manifests")).is_empty());
        assert!(files(&sandbox.repo("tmp")).is_empty() && files(&sandbox.tmp()).is_empty());
        assert_eq!(sandbox.run(["list"]).ok().text(), "");
    }
}

/// A sandbox with a snapshot of Nomad in S3, from where it would take minutes to come back.
struct Slow {
    server: S3Server,
    sandbox: Sandbox,
    endpoint: String,
}

impl Slow {
    const ENV: [(&str, &str); 4] = [
        ("HAH_VAULT_REPO", "s3://bucket/prefix"),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("AWS_REGION", "us-east-1"),
    ];

    fn new() -> Self {
        let (server, sandbox) = (S3Server::start(), Sandbox::new());
        let slow = Self { endpoint: server.endpoint(), server, sandbox };
        let backup = spec("nomad", &fixture_path("nomad-00.snap"));
        Ran::from(slow.command(&["backup", "--init", &backup]).output().unwrap()).ok();
        slow.server.throttle(500);
        slow
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(args.iter().chain(&["--s3-endpoint", &self.endpoint]));
        command.envs(Self::ENV);
        command
    }

    fn gets(&self) -> usize {
        self.server.count(&http::Method::GET)
    }
}

#[test]
fn an_interrupted_restore_leaves_no_part_of_a_file() {
    let test = Slow::new();
    let gets = test.gets();
    let child = spawn(test.command(&["restore", "nomad@latest", "-o", "out"]));
    // repository.json, the wrapped identity, the manifest, and then the pack.
    until("the pack", || test.gets() >= gets + 4);
    signal(&child, "-INT");
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.refused(130, "interrupted", "");
    assert!(files(&test.sandbox.work()).is_empty() && files(&test.sandbox.tmp()).is_empty());
    test.server.throttle(0);
    let mut logged = test.command(&["restore", "nomad@latest", "-o", "logged", "-vvv"]);
    let ran = Ran::from(logged.env("HAH_VAULT_LOG", "trace").output().unwrap()).ok();
    assert!(!ran.stderr.contains(SECRET_ACCESS_KEY) && !ran.stderr.contains("AGE-SECRET-KEY"));
    Ran::from(test.command(&["restore", "nomad@latest", "-o", "out"]).output().unwrap()).ok();
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_restore_leaves_no_part_of_a_file() {
    let test = Slow::new();
    let gets = test.gets();
    let mut child = spawn(test.command(&["restore", "nomad@latest", "-o", "out"]));
    let folder = test.sandbox.work();
    let is_open = |id: u32| {
        let links = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|path| path.starts_with(&folder))
    };
    until("the file", || test.gets() >= gets + 3 && is_open(child.id()));
    signal(&child, "-KILL");
    child.wait().unwrap();
    assert!(files(&test.sandbox.work()).is_empty());
}

#[test]
fn under_nohup_a_lost_terminal_is_no_reason_to_stop() {
    let sandbox = Sandbox::with_repository();
    let mut command = sandbox.command_of("sh", ["-c", "trap '' HUP; exec \"$0\" \"$@\"", BINARY]);
    command.args(["backup", "--raw", "big=-"]);
    let mut child = spawn(command);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&vec![7; 1 << 20]).unwrap();
    signal(&child, "-HUP");
    drop(pipe);
    Ran::from(child.wait_with_output().unwrap()).ok();
}

#[test]
fn an_interrupted_init_leaves_no_keys() {
    let server = S3Server::start();
    let sandbox = Sandbox::new();
    server.fault(http::Method::PUT, 100, Fault::Hang);
    let mut command = sandbox.command(["--repo", "s3://bucket/prefix", "--s3-endpoint", &server.endpoint(), "init"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    let child = spawn(command);
    until("the keys", || files(&sandbox.config("")).len() == 3);
    signal(&child, "-TERM");
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.refused(130, "interrupted", "");
    assert!(files(&sandbox.config("")).is_empty());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let sandbox = Sandbox::with_repository();
    let mut child = spawn(sandbox.command(["backup", "--raw", "big=-"]));
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&vec![7; 1 << 20]).unwrap();
    signal(&child, "-INT");
    // The first one waits for the thread that reads the silent pipe, within bounds.
    signal(&child, "-TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

#[test]
fn a_closed_pipe_is_an_error_for_a_restore_and_fine_for_a_list() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup("vault", "vault-00.snap");
    let closed = |args: &[&str]| {
        let mut child = spawn(sandbox.command(args));
        drop(child.stdout.take());
        Ran::from(child.wait_with_output().unwrap())
    };
    closed(&["restore", "vault@latest", "-o", "-"]).refused(1, "cannot write the restored snapshot: Broken pipe", "");
    closed(&["key", "export"]).refused(1, "cannot write to standard output: Broken pipe", "");
    closed(&["list"]).ok();
    // Closed rather than a closed pipe: what is written would be lost unnoticed.
    let shell = |script: &str| {
        let mut command = sandbox.command_of("sh", ["-c", script, BINARY]);
        Ran::from(command.args(["restore", "vault@latest", "-o", "-"]).output().unwrap())
    };
    shell("exec \"$0\" \"$@\" >&-").refused(2, "standard output is closed", "-o FILE");
    shell("exec \"$0\" \"$@\" >/dev/null").ok();
}
