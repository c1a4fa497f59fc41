//! Peak memory of `backup` over standard input: a stream of noise (nothing is saved, every chunk is new) to a local
//! folder, and to an S3 server that takes 5 MB a second.
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

/// What the issue allows.
const PEAK_MIB_MAX: u64 = 128;
/// What a slow uplink takes.
const S3_BYTES_PER_SECOND: u64 = 5_000_000;
const MIB: u64 = 1 << 20;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let dir = tempfile::tempdir()?;
    println!("| backup of noise over standard input | MiB | seconds | peak MiB | limit |");
    println!("|---|---|---|---|---|");
    let local = format!("{}", dir.path().join("repository").display());
    measure("to a local folder", &local, &[], number(&args, "--mib").unwrap_or(1024), dir.path())?;
    let server = S3Server::start();
    server.throttle(S3_BYTES_PER_SECOND);
    let environment = environment(&server);
    let mib = number(&args, "--s3-mib").unwrap_or(200);
    measure("to S3 at 5 MB/s", &server.url("memory").to_string(), &environment, mib, dir.path())
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

fn measure(what: &str, repository: &str, environment: &[(&str, String)], mib: u64, home: &Path) -> Outcome<()> {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hah-vault"));
    command.args(["-q", "backup", "--init", "--repo", repository, "noise=-"]);
    command.envs(environment.iter().map(|(k, v)| (*k, v.as_str())));
    command.env("HOME", home.join(what)).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let feeder = feed(&mut child, mib)?;
    let peak = peak_mib(&mut child)?;
    feeder.join().map_err(|_| "the feeder panicked")??;
    println!("| {what} | {mib} | {:.1} | {peak} | {PEAK_MIB_MAX} |", started.elapsed().as_secs_f64());
    if peak <= PEAK_MIB_MAX { Ok(()) } else { Err("over the limit".into()) }
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
            return if status.success() { Ok(peak_kib / 1024) } else { Err(format!("backup: {status}").into()) };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
