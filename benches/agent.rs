//! Memory of the agent: while it waits, during backups of a Vault snapshot of 45 MB (gzip), during a verification with all
//! data and a rehearsal, and while it waits again.
//!
//! `cargo bench --bench agent`; `-- --state-mb 50` for another length. The figures are the kernel's: VmRSS, and VmHWM, the
//! highest so far. The allocator is set as in `deploy/systemd/hah-vault-agent.service`. `HAH_VAULT_BIN` names another binary.

#[expect(dead_code, reason = "the benchmark needs only a part of it")]
#[path = "support/generate/mod.rs"]
mod generate;

use generate::{Kind, Options, Rewrap, Series};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the issue allows: of an agent that waits, and during a backup.
const IDLE_MIB_MAX: f64 = 40.0;
const BACKUP_MIB_MAX: f64 = 150.0;
/// What the job has.
const JOB_MIB_MAX: f64 = 256.0;
/// How long it waits before it counts as waiting: threads that have nothing to do end after 10 s.
const CALM: Duration = Duration::from_secs(15);

/// The unit.
const UNIT: &str = include_str!("../deploy/systemd/hah-vault-agent.service");

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Killed when dropped.
struct Agent {
    child: Child,
    home: PathBuf,
}

impl Agent {
    fn start(home: &Path) -> Outcome<Self> {
        let config = format!(
            "file \"vault\" {{\n  path = \"{home}/vault.snap\"\n  schedule = \"never\"\n}}\n\
             agent {{\n  listen = \"unix://{home}/agent.sock\"\n}}\n",
            home = home.display()
        );
        std::fs::write(home.join("config.hcl"), config)?;
        run(command(home, &["init"]))?;
        let child = command(home, &["--log-format", "json", "agent"]).stderr(Stdio::null()).spawn()?;
        let agent = Self { child, home: home.to_owned() };
        let began = Instant::now();
        while agent.ask(&["list"]).is_err() {
            if began.elapsed() > Duration::from_secs(60) {
                return Err("the agent does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    /// Lets it do something, and waits for the end.
    fn ask(&self, args: &[&str]) -> Outcome<()> {
        let mut asking = command(&self.home, args);
        asking.env("HAH_VAULT_AGENT", format!("unix://{}/agent.sock", self.home.display()));
        run(asking)
    }

    fn status_mib(&self, field: &str) -> Outcome<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).ok_or("no figure")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(home: &Path, args: &[&str]) -> Command {
    let binary = std::env::var("HAH_VAULT_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hah-vault").into());
    let mut command = Command::new(binary);
    let settings = UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    command.envs(settings.filter(|(name, _)| name.starts_with("MALLOC_")));
    command.args(args).env("HOME", home).env("HAH_VAULT_CONFIG", home.join("config.hcl")).stdout(Stdio::null());
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HAH_VAULT_REPO"] {
        command.env_remove(variable);
    }
    command
}

fn run(mut command: Command) -> Outcome<()> {
    let output = command.stderr(Stdio::piped()).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let state_mb: u64 =
        args.iter().position(|a| a == "--state-mb").and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(50);
    let home = tempfile::tempdir()?;
    let mut series = Series::new(Options::new(Kind::Vault, state_mb * 1_000_000));
    let write = |series: &Series| -> Outcome<f64> {
        let mut snapshot = Vec::new();
        series.generate(&mut snapshot, Rewrap::GoTo126)?;
        std::fs::write(home.path().join("vault.snap"), &snapshot)?;
        Ok(snapshot.len() as f64 / 1e6)
    };
    let len_mb = write(&series)?;
    let agent = Agent::start(home.path())?;
    println!("| the agent, a Vault snapshot of {len_mb:.1} MB | MiB | limit |");
    println!("|---|---|---|");
    let mut is_over = false;
    let mut tell = |what: &str, mib: f64, limit: f64| {
        is_over |= mib > limit;
        println!("| {what} | {mib:.0} | {limit} |");
    };
    std::thread::sleep(CALM);
    tell("waiting, nothing done yet", agent.status_mib("VmRSS")?, IDLE_MIB_MAX);
    agent.ask(&["backup", "vault"])?;
    tell("highest, first backup", agent.status_mib("VmHWM")?, BACKUP_MIB_MAX);
    series.advance();
    write(&series)?;
    agent.ask(&["backup", "vault"])?;
    tell("highest, further backup", agent.status_mib("VmHWM")?, BACKUP_MIB_MAX);
    std::thread::sleep(CALM);
    tell("waiting, after backups", agent.status_mib("VmRSS")?, IDLE_MIB_MAX);
    agent.ask(&["verify", "--read-data", "--rehearse"])?;
    tell("highest, with verification and rehearsal", agent.status_mib("VmHWM")?, JOB_MIB_MAX);
    std::thread::sleep(CALM);
    tell("waiting, after all of it", agent.status_mib("VmRSS")?, IDLE_MIB_MAX);
    if is_over { Err("over a limit".into()) } else { Ok(()) }
}
