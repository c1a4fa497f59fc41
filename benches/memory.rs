//! Peak memory over a stream of noise (nothing is saved, every chunk is new): of `backup` to a local folder and to an S3
//! server that takes 5 MB a second, and of `restore` and `verify` of what lies there then.
//!
//! `cargo bench --bench memory` (1 GiB to the folder, 200 MB to the server); `-- --mib 1024 --s3-mib 1024` for more. The
//! figure is the kernel's (VmHWM of the process), the same as "Maximum resident set size" of `time -v`.

#[path = "../tests/support/certificates.rs"]
mod certificates;
#[expect(dead_code, reason = "the benchmark needs only a part of it")]
#[path = "../tests/support/s3_server.rs"]
mod s3_server;

use s3_server::S3Server;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the issue allows a backup.
const BACKUP_MIB_MAX: u64 = 128;
/// What reading may take, in a job of 256 MB.
const READ_MIB_MAX: u64 = 160;
/// What a slow uplink takes.
const S3_BYTES_PER_SECOND: u64 = 5_000_000;
const MIB: u64 = 1 << 20;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    println!("| noise | MiB | seconds | peak MiB | limit |");
    println!("|---|---|---|---|---|");
    let dir = tempfile::tempdir()?;
    let local = format!("{}", dir.path().join("repository").display());
    let folder = Place { what: "a local folder", repository: local, environment: Vec::new(), home: dir.path() };
    folder.measure_all(number(&args, "--mib").unwrap_or(1024))?;
    drop(dir);
    let server = S3Server::start();
    server.throttle(S3_BYTES_PER_SECOND);
    let dir = tempfile::tempdir()?;
    let repository = server.url("memory").to_string();
    let s3 = Place { what: "S3 at 5 MB/s", repository, environment: environment(&server), home: dir.path() };
    s3.measure_all(number(&args, "--s3-mib").unwrap_or(200))
}

/// A repository, and a home with its keys.
struct Place<'a> {
    what: &'a str,
    repository: String,
    environment: Vec<(&'static str, String)>,
    home: &'a Path,
}

impl Place<'_> {
    fn measure_all(&self, mib: u64) -> Outcome<()> {
        self.measure("backup", &["backup", "--init", "noise=-"], mib, BACKUP_MIB_MAX)?;
        self.measure("restore", &["restore", "noise@latest", "-o", "-"], mib, READ_MIB_MAX)?;
        self.measure("verify --read-data --rehearse", &["verify", "--read-data", "--rehearse"], mib, READ_MIB_MAX)
    }

    fn measure(&self, words: &str, args: &[&str], mib: u64, limit_mib: u64) -> Outcome<()> {
        let started = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hah-vault"));
        command.args(["-q", "--repo", &self.repository]).args(args);
        command.envs(self.environment.iter().map(|(k, v)| (*k, v.as_str())));
        command.env("HOME", self.home).stdin(Stdio::piped()).stdout(Stdio::null());
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let feeder = feed(&mut child, if args[0] == "backup" { mib } else { 0 })?;
        let peak = peak_mib(&mut child)?;
        feeder.join().map_err(|_| "the feeder panicked")??;
        println!("| {words}, {} | {mib} | {:.1} | {peak} | {limit_mib} |", self.what, started.elapsed().as_secs_f64());
        if peak <= limit_mib { Ok(()) } else { Err("over the limit".into()) }
    }
}

fn number(args: &[String], name: &str) -> Option<u64> {
    let at = args.iter().position(|a| a == name)?;
    args.get(at + 1)?.parse().ok()
}

fn environment(server: &S3Server) -> Vec<(&'static str, String)> {
    let Some(keys) = server.options().credentials else { return Vec::new() };
    vec![
        ("AWS_ENDPOINT_URL", server.endpoint().to_string()),
        ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.expose().to_owned()),
    ]
}

/// Feeds noise on a thread of its own, so that this one can watch.
fn feed(child: &mut Child, mib: u64) -> Outcome<std::thread::JoinHandle<std::io::Result<()>>> {
    let mut stdin = child.stdin.take().ok_or("no pipe")?;
    Ok(std::thread::spawn(move || {
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut piece = vec![0; MIB as usize];
        for _ in 0..mib {
            noise.fill(&mut piece);
            stdin.write_all(&piece)?;
        }
        Ok(())
    }))
}

/// Waits for the end, and gives the highest resident set size seen on the way.
fn peak_mib(child: &mut Child) -> Outcome<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status)
            && let Some(line) = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))
        {
            peak_kib = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak_kib);
        }
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(peak_kib / 1024) } else { Err(status.to_string().into()) };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
