//! The figures as Markdown.

use crate::Result;
use crate::measure::Usage;
use crate::tools::{Given, Program, Tool};
use hah_vault::store::Counts;
use std::path::PathBuf;
use std::time::Duration;

/// What was measured of a tool on a series.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The tool.
    pub tool: Tool,
    /// Bytes stored after each snapshot, less an empty repository.
    pub stored: Vec<u64>,
    /// The first backup.
    pub first: Usage,
    /// The further ones, median.
    pub further: Usage,
    /// Restore of the newest.
    pub restore: Usage,
    /// The same with `--fast`; ours only.
    pub restore_fast: Option<Usage>,
}

impl Tool {
    /// Whether it is hah-vault.
    pub fn is_ours(self) -> bool {
        matches!(self.program, Program::HahVault | Program::HahVaultLibrary)
    }
}

impl Figures {
    fn first_bytes(&self) -> u64 {
        self.stored.first().copied().unwrap_or(0)
    }

    fn all_bytes(&self) -> u64 {
        self.stored.last().copied().unwrap_or(0)
    }

    fn further_bytes(&self) -> u64 {
        (self.all_bytes() - self.first_bytes()) / (self.stored.len() as u64 - 1).max(1)
    }
}

/// Megabytes.
pub fn mb(bytes: u64) -> String {
    let mb = bytes as f64 / 1e6;
    match mb {
        _ if mb >= 100.0 => format!("{mb:.0} MB"),
        _ if mb >= 10.0 => format!("{mb:.1} MB"),
        _ if mb >= 1.0 => format!("{mb:.2} MB"),
        _ => format!("{:.1} KB", bytes as f64 / 1e3),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// What is compared.
pub fn head(tools: &[Tool]) {
    println!("# Series benchmark\n");
    for tool in tools {
        println!("- {}: {}", tool.name(), tool.version().unwrap_or_default());
    }
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        model.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("").trim_start_matches([' ', '\t', ':']);
    println!("- {cpus} processors, {model}; repositories in a local folder");
}

/// What the series is.
pub fn series(source: &str, files: &[PathBuf]) -> Result<()> {
    let mut total = 0;
    for file in files {
        total += file.metadata()?.len();
    }
    println!("\n## {source}: {} snapshots, {} as they are\n", files.len(), mb(total));
    Ok(())
}

/// One line per tool; in brackets how many times ours.
pub fn table(all: &[Figures]) {
    println!(
        "| tool | first snapshot | all snapshots | per further | first: wall, CPU | further: wall, CPU | peak memory | restore |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let Some(ours) = all.first() else { return };
    for figures in all {
        let against = |value: f64, own: f64| {
            if figures.tool.is_ours() { String::new() } else { format!(" ({:.1}×)", value / own.max(1e-9)) }
        };
        let bytes =
            |of: fn(&Figures) -> u64| format!("{}{}", mb(of(figures)), against(of(figures) as f64, of(ours) as f64));
        let time = |of: fn(&Figures) -> Duration| {
            format!("{}{}", seconds(of(figures)), against(of(figures).as_secs_f64(), of(ours).as_secs_f64()))
        };
        let fast = figures.restore_fast.map_or(String::new(), |u| format!("; --fast {}", seconds(u.wall)));
        println!(
            "| {} | {} | {} | {} | {}, {} | {}, {} | {} | {}{fast} |",
            figures.tool.name(),
            bytes(Figures::first_bytes),
            bytes(Figures::all_bytes),
            bytes(Figures::further_bytes),
            time(|f| f.first.wall),
            time(|f| f.first.cpu),
            time(|f| f.further.wall),
            time(|f| f.further.cpu),
            bytes(|f| f.first.peak_bytes.max(f.further.peak_bytes)),
            time(|f| f.restore.wall),
        );
    }
}

/// Store operations of the first run and of the last.
pub fn operations(runs: &[Counts]) {
    let line = |name: &str, c: &Counts| {
        println!(
            "- {name}: {} put ({}), {} get ({}), {} list, {} stat, {} time, {} delete",
            c.put,
            mb(c.put_bytes),
            c.get,
            mb(c.get_bytes),
            c.list,
            c.stat,
            c.now,
            c.delete
        );
    };
    println!("\nStore operations of hah-vault:\n");
    if let [first, .., last] = runs {
        line("first run", first);
        line("last run", last);
    }
}

/// The bounds that hah-vault sets itself.
pub fn bounds(what: &str, gunzip: &Usage, all: &[Figures]) {
    let Some(ours) = all.first() else { return };
    let restic = all.iter().find(|f| f.tool == Tool { program: Program::Restic, given: Given::Snap });
    println!("\nBounds ({what}; medians):\n\n| what | hah-vault | compared with | ratio | bound | |");
    println!("|---|---|---|---|---|---|");
    let line = |name: &str, own: Duration, other_name: &str, other: Duration, bound: f64| {
        let ratio = own.as_secs_f64() / other.as_secs_f64().max(1e-9);
        let verdict = if ratio <= bound { "pass" } else { "FAIL" };
        println!("| {name} | {} | {other_name}: {} | {ratio:.2} | {bound} | {verdict} |", seconds(own), seconds(other));
    };
    line("further backup, wall", ours.further.wall, "`gzip -dc \\| sha256sum`", gunzip.wall, 1.5);
    line("further backup, CPU", ours.further.cpu, "`gzip -dc \\| sha256sum`", gunzip.cpu, 1.5);
    let Some(restic) = restic else { return };
    line("further backup, wall", ours.further.wall, "restic backup", restic.further.wall, 0.5);
    line("further backup, CPU", ours.further.cpu, "restic backup", restic.further.cpu, 0.5);
    line("restore, exact", ours.restore.wall, "restic dump", restic.restore.wall, 2.0);
    if let Some(fast) = ours.restore_fast {
        line("restore --fast", fast.wall, "restic dump", restic.restore.wall, 1.0);
    }
}
