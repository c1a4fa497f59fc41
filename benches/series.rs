//! The series benchmark: hah-vault and other backup tools side by side on series of snapshots, generated or real.
//!
//! ```text
//! cargo bench --bench series -- [--size BYTES] [--count N] [--large BYTES] [--kind KIND]… [--alone]
//! cargo bench --bench series -- generate KIND SIZE COUNT DIR
//! cargo bench --bench series -- compression      # zstd's levels on the packs of the series
//! HAH_VAULT_SERIES=folder cargo bench --bench series      # <folder>/{vault,consul,nomad}/*.snap
//! ```
//! Standard output is Markdown. Each tool runs as a process of its own, so that wall time, processor time and peak memory
//! are its own; all in one run on one machine, one after another.

#[path = "support/generate/mod.rs"]
mod generate;
#[path = "support/library.rs"]
mod library;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/report.rs"]
mod report;
#[path = "support/tools.rs"]
mod tools;

use generate::{Kind, Options, Rewrap, Series};
use measure::{Usage, median};
use report::{Figures, mb};
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use tools::{Given, Tool};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How often a program is run for a time that is compared with a bound.
const REPEATS: usize = 5;

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["generate", kind, size, count, folder] => generate_files(kind, size, count, folder),
        ["library", rest @ ..] => library::run(rest),
        ["compression", options @ ..] => Settings::parse(options).and_then(|settings| compression(&settings)),
        options => Settings::parse(options).and_then(|settings| compare(&settings)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Settings {
    kinds: Vec<Kind>,
    size_bytes: u64,
    count: usize,
    /// State of the large Vault snapshot; 0 for none.
    large_bytes: u64,
    /// Without the other tools.
    alone: bool,
}

impl Settings {
    fn parse(mut words: &[&str]) -> Result<Self> {
        let mut settings =
            Self { kinds: Vec::new(), size_bytes: 30_000_000, count: 6, large_bytes: 45_000_000, alone: false };
        while let [first, rest @ ..] = words {
            words = rest;
            if *first == "--alone" {
                settings.alone = true;
                continue;
            }
            let [value, rest @ ..] = words else { return Err(format!("{first} needs a value").into()) };
            words = rest;
            match *first {
                "--size" => settings.size_bytes = bytes(value)?,
                "--count" => settings.count = value.parse()?,
                "--large" => settings.large_bytes = bytes(value)?,
                "--kind" => settings.kinds.push(value.parse()?),
                other => return Err(format!("{other} is no option").into()),
            }
        }
        if settings.kinds.is_empty() {
            settings.kinds = Kind::ALL.to_vec();
        }
        Ok(settings)
    }

    /// Real snapshots if there are some, or generated ones.
    fn files(&self, kind: Kind) -> Result<Vec<PathBuf>> {
        match std::env::var_os("HAH_VAULT_SERIES") {
            Some(folder) => real(Path::new(&folder), kind),
            None => generated(Options::new(kind, self.size_bytes), self.count),
        }
    }
}

fn compression(settings: &Settings) -> Result<()> {
    settings.kinds.iter().try_for_each(|kind| library::compression(kind.as_str(), &settings.files(*kind)?))
}

/// `30000000`, `30M`, `1G`.
fn bytes(text: &str) -> Result<u64> {
    let (number, unit) = match text.strip_suffix(['M', 'G']) {
        Some(number) if text.ends_with('M') => (number, 1_000_000),
        Some(number) => (number, 1_000_000_000),
        None => (text, 1),
    };
    Ok(number.parse::<u64>()? * unit)
}

fn generate_files(kind: &str, size: &str, count: &str, folder: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    write_series(Options::new(kind.parse()?, bytes(size)?), count.parse()?, Path::new(folder))?;
    Ok(())
}

fn write_series(options: Options, count: usize, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut series = Series::new(options);
    let mut files = Vec::new();
    for nth in 0..count {
        let path = folder.join(format!("{nth:02}.snap"));
        let written = series.generate(BufWriter::with_capacity(1 << 20, File::create(&path)?), Rewrap::GoTo126)?;
        let (state, file) = (mb(written.state_len_bytes), mb(written.len_bytes));
        eprintln!("{}: {} objects, {state} of state in {file}", path.display(), series.objects());
        files.push(path);
        series.advance();
    }
    Ok(files)
}

/// A generated series; kept for the next run, since Go's gzip takes longer than everything else.
fn generated(options: Options, count: usize) -> Result<Vec<PathBuf>> {
    let name = format!("{}-{}", options.kind.as_str(), options.state_len_bytes);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("series").join(name);
    let files: Vec<PathBuf> = (0..count).map(|nth| folder.join(format!("{nth:02}.snap"))).collect();
    // The program that made them is part of what they are.
    let made_by = std::fs::metadata(std::env::current_exe()?)?.modified()?;
    if files.iter().all(|f| f.metadata().and_then(|m| m.modified()).is_ok_and(|made| made > made_by)) {
        return Ok(files);
    }
    std::fs::create_dir_all(&folder)?;
    write_series(options, count, &folder)
}

fn real(folder: &Path, kind: Kind) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.join(kind.as_str()))? {
        files.push(entry?.path());
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "snap"));
    files.sort();
    Ok(files)
}

fn compare(settings: &Settings) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("hah-vault-series-").tempdir()?;
    let mut tools = vec![tools::ours()];
    if !settings.alone {
        tools.extend(tools::others());
    }
    report::head(&tools);
    for kind in &settings.kinds {
        let files = settings.files(*kind)?;
        let all = measure_series(kind.as_str(), &files, &tools, scratch.path())?;
        bounds(kind.as_str(), &files, &all)?;
    }
    if settings.large_bytes > 0 && settings.kinds.contains(&Kind::Vault) {
        let files = generated(Options { seed: 2, ..Options::new(Kind::Vault, settings.large_bytes) }, REPEATS + 1)?;
        let all = measure_series("vault", &files, &tools, scratch.path())?;
        bounds("vault, large", &files, &all)?;
    }
    Ok(())
}

fn measure_series(source: &str, files: &[PathBuf], tools: &[Tool], scratch: &Path) -> Result<Vec<Figures>> {
    report::series(source, files)?;
    let mut all = Vec::new();
    for tool in tools {
        eprintln!("{source}: {}", tool.name());
        let figures = measure_tool(*tool, source, files, scratch)?;
        all.push(figures);
    }
    report::table(&all);
    report::operations(&library::operations(source, files)?);
    Ok(all)
}

fn measure_tool(tool: Tool, source: &str, files: &[PathBuf], scratch: &Path) -> Result<Figures> {
    let folder = scratch.join("tool");
    let repository = tool.init(&folder)?;
    let empty_bytes = repository.stored_bytes();
    let (mut runs, mut stored) = (Vec::new(), Vec::new());
    for (nth, file) in files.iter().enumerate() {
        let tar;
        let file = match tool.given {
            Given::Snap => file,
            Given::Tar => {
                tar = scratch.join("stream.tar");
                gunzip(file, &tar)?;
                &tar
            }
        };
        runs.push(repository.backup(source, file, nth)?);
        stored.push(repository.stored_bytes() - empty_bytes);
    }
    let mut restores = Vec::new();
    let restored = scratch.join("restored.snap");
    for fast in [false, true] {
        let mut all = Vec::new();
        for _ in 0..REPEATS {
            all.push(repository.restore(source, files.len() - 1, &restored, fast && tool.is_ours())?);
        }
        restores.push(median(&all));
        if tool.given == Given::Snap && !fast {
            same_file(files.last().ok_or("no snapshots")?, &restored)?;
        }
        if !tool.is_ours() {
            break;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(Figures {
        tool,
        stored,
        first: *runs.first().ok_or("no snapshots")?,
        further: median(&runs[1..]),
        restore: restores[0],
        restore_fast: restores.get(1).copied(),
    })
}

fn gunzip(file: &Path, to: &Path) -> io::Result<()> {
    let mut gzip = flate2::read::GzDecoder::new(File::open(file)?);
    io::copy(&mut gzip, &mut File::create(to)?).map(drop)
}

fn same_file(a: &Path, b: &Path) -> Result<()> {
    if std::fs::read(a)? == std::fs::read(b)? { Ok(()) } else { Err("a restored file differs".into()) }
}

/// Compares with the least that anybody must do who looks into the file, and with restic.
fn bounds(what: &str, files: &[PathBuf], all: &[Figures]) -> Result<()> {
    let file = files.last().ok_or("no snapshots")?;
    let mut runs = Vec::new();
    for _ in 0..REPEATS {
        let mut command = Command::new("sh");
        command.args(["-c", "gzip -dc \"$1\" | sha256sum", "sh"]).arg(file).stdout(Stdio::null());
        runs.push(measure::run(&mut command)?);
    }
    let gunzip: Usage = median(&runs);
    report::bounds(what, &gunzip, all);
    Ok(())
}
