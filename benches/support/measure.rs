//! Runs a program and tells what it took.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Wall time.
    pub wall: Duration,
    /// Time on all processors, its children included.
    pub cpu: Duration,
    /// Peak of its resident memory.
    pub peak_bytes: u64,
}

/// How often the peak is asked for. The kernel keeps it, so that only growth in the last moment is missed.
const POLL: Duration = Duration::from_millis(3);

/// Runs it to its end; a failure is an error with its standard error in it.
///
/// # Errors
/// It cannot be started, or fails.
pub fn run(command: &mut Command) -> io::Result<Usage> {
    let cpu_before = children_cpu();
    let started = Instant::now();
    let child = command.stderr(Stdio::piped()).spawn()?;
    let (output, peak_bytes) = wait(child)?;
    let wall = started.elapsed();
    let cpu = children_cpu().saturating_sub(cpu_before);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{command:?}: {}: {said}", output.status)));
    }
    Ok(Usage { wall, cpu, peak_bytes })
}

fn wait(child: Child) -> io::Result<(std::process::Output, u64)> {
    let status = format!("/proc/{}/status", child.id());
    let (ended, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(peak_bytes(&status).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(POLL);
            }
        });
        let output = child.wait_with_output();
        ended.store(true, Ordering::Relaxed);
        output
    })?;
    Ok((output, peak.into_inner()))
}

/// `VmHWM` of a process, Linux only.
fn peak_bytes(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// Processor time of all children that were waited for: user and system, in hundredths of seconds. Linux only.
fn children_cpu() -> Duration {
    let ticks = || {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name may hold anything, but no closing bracket comes after it. Fields 16 and 17 count from 1.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?)
    };
    Duration::from_millis(10 * ticks().unwrap_or(0))
}

/// The middle one by wall time, with the middle CPU time and the largest peak.
pub fn median(runs: &[Usage]) -> Usage {
    let middle = |mut all: Vec<Duration>| {
        all.sort();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Usage {
        wall: middle(runs.iter().map(|r| r.wall).collect()),
        cpu: middle(runs.iter().map(|r| r.cpu).collect()),
        peak_bytes: runs.iter().map(|r| r.peak_bytes).max().unwrap_or(0),
    }
}
