//! Three servers at once: Vault, Consul and Nomad, each with a snapshot of so much state, backed up by one command into a
//! new repository, against each alone. The servers are stand-ins on loopback.
//!
//! `cargo bench --bench three`; `-- --state-mb 45 --rate-mb 20` for other lengths and speeds. The rate is what a server
//! gives a second: real ones take 1 to 5 s for 10 to 45 MB; 0 is as fast as it goes, and then three sources share what
//! one has for itself. Memory is the kernel's figure (VmHWM).

#[expect(dead_code, reason = "the benchmark needs only a part of it")]
#[path = "support/generate/mod.rs"]
mod generate;
#[path = "support/measure.rs"]
mod measure;
#[expect(dead_code, reason = "the benchmark needs only a part of it")]
#[path = "../tests/support/service_server.rs"]
mod service_server;

use base64::Engine as _;
use generate::{Kind, Options, Rewrap, Series};
use measure::{Usage, median};
use service_server::{Handler, Reply, Request, Server, Step};
use sha2::Digest as _;
use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What the issue allows.
const PEAK_MIB_MAX: u64 = 200;
/// Runs of each case; the middle one counts.
const RUNS: usize = 3;
/// What a paced server sends at once.
const PIECE_LEN_BYTES: usize = 512 << 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let state_mb = number(&args, "--state-mb").unwrap_or(45);
    let rates = number(&args, "--rate-mb").map_or_else(|| vec![20, 0], |rate| vec![rate]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("| {state_mb} MB of state each, first backup | wall s | CPU s | peak MiB | of the slowest alone |");
    println!("|---|---|---|---|---|");
    for rate_mb in rates {
        let mut servers = Vec::new();
        for kind in Kind::ALL {
            let mut snapshot = Vec::new();
            Series::new(Options::new(kind, state_mb * 1_000_000)).generate(&mut snapshot, Rewrap::GoTo126)?;
            let len = snapshot.len();
            let server = runtime.block_on(Server::start(Arc::new(StandIn::new(kind, snapshot, rate_mb))));
            servers.push((kind, server, len));
        }
        compare(&servers, rate_mb)?;
    }
    Ok(())
}

fn number(args: &[String], name: &str) -> Option<u64> {
    let at = args.iter().position(|a| a == name)?;
    args.get(at + 1)?.parse().ok()
}

fn compare(servers: &[(Kind, Server, usize)], rate_mb: u64) -> Outcome<()> {
    let speed = if rate_mb == 0 { "as fast as it goes".to_owned() } else { format!("{rate_mb} MB/s each") };
    let mut slowest = Duration::ZERO;
    for (kind, _, len) in servers {
        let usage = back_up(servers, &[*kind])?;
        slowest = slowest.max(usage.wall);
        tell(&format!("{} alone, {:.1} MB sent, {speed}", kind.as_str(), *len as f64 / 1e6), &usage, None);
    }
    let usage = back_up(servers, &Kind::ALL)?;
    tell(&format!("all three at once, {speed}"), &usage, Some(usage.wall.as_secs_f64() / slowest.as_secs_f64()));
    if usage.peak_bytes >> 20 > PEAK_MIB_MAX { Err("over the limit of 200 MiB".into()) } else { Ok(()) }
}

fn tell(what: &str, usage: &Usage, ratio: Option<f64>) {
    let (wall, cpu, peak) = (usage.wall.as_secs_f64(), usage.cpu.as_secs_f64(), usage.peak_bytes >> 20);
    let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    println!("| {what} | {wall:.2} | {cpu:.2} | {peak} | {ratio} |");
}

/// Some sources into a new repository, several times.
fn back_up(servers: &[(Kind, Server, usize)], kinds: &[Kind]) -> Outcome<Usage> {
    let binary = std::env::var("HAH_VAULT_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hah-vault").into());
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let home = tempfile::tempdir()?;
        let mut command = Command::new(&binary);
        command.args(["-q", "backup", "--init", "--repo"]).arg(home.path().join("repository"));
        command.args(kinds.iter().map(|kind| kind.as_str())).env("HOME", home.path()).stdout(Stdio::null());
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        for (kind, server, _) in servers {
            let variable = if *kind == Kind::Consul { "CONSUL_HTTP_ADDR" } else { &variable(*kind) };
            command.env(variable, server.url());
        }
        command.env("VAULT_TOKEN", "bench");
        runs.push(measure::run(&mut command)?);
    }
    Ok(median(&runs))
}

fn variable(kind: Kind) -> String {
    format!("{}_ADDR", kind.as_str().to_uppercase())
}

/// Gives one snapshot, and what else is asked for before it.
struct StandIn {
    kind: Kind,
    snapshot: Vec<u8>,
    digest: String,
    rate_mb: u64,
}

impl StandIn {
    fn new(kind: Kind, snapshot: Vec<u8>, rate_mb: u64) -> Self {
        let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(&snapshot));
        Self { kind, snapshot, digest: format!("sha-256={digest}"), rate_mb }
    }

    fn snapshot(&self) -> Reply {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-gzip\r\nDigest: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.digest
        );
        let mut steps = vec![Step::Send(head.into_bytes())];
        for piece in self.snapshot.chunks(PIECE_LEN_BYTES) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            steps.push(Step::Send(chunk));
            if self.rate_mb > 0 {
                steps.push(Step::Sleep(Duration::from_secs_f64(piece.len() as f64 / (self.rate_mb as f64 * 1e6))));
            }
        }
        steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
        Reply { steps }
    }
}

impl Handler for StandIn {
    fn answer(&self, request: &Request) -> Reply {
        let json = |text: &str| Reply::text("200 OK", "application/json", text);
        match (self.kind, request.path.as_str()) {
            (Kind::Vault, "/v1/sys/leader") => json(r#"{"ha_enabled":false}"#),
            (Kind::Vault, "/v1/sys/health") => json(r#"{"initialized":true,"sealed":false,"version":"1.8.0"}"#),
            (Kind::Vault, "/v1/sys/storage/raft/snapshot")
            | (Kind::Consul, "/v1/snapshot")
            | (Kind::Nomad, "/v1/operator/snapshot") => self.snapshot(),
            _ => Reply::text("404 Not Found", "text/plain", ""),
        }
    }
}
