//! Where words, progress and data go: standard error, standard output, or JSON lines.

use super::error::{CliError, chain};
use super::human;
use crate::archive::{Event, Monitor};
use hah_vault_format::SourceName;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often progress is told where there is no terminal.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// How often a bar is drawn though nothing moves.
const TICK_EVERY: Duration = Duration::from_millis(250);
const READ_STYLE: &str = "{prefix:<16} {spinner} {decimal_bytes} read, {decimal_bytes_per_sec}, {msg}";
const COUNT_STYLE: &str = "{prefix} {wide_bar} {pos} of {len}, {eta} left";
const RESTORE_STYLE: &str = "{prefix} {wide_bar} {decimal_bytes} of {decimal_total_bytes}, {eta} left";

/// The terminal, or whatever is in its place.
pub(super) struct Console {
    json: bool,
    quiet: bool,
    verbose: bool,
    bars: Option<MultiProgress>,
    lines: Mutex<HashMap<String, Line>>,
}

/// Progress of one source or manifest, or of something that is counted.
struct Line {
    bar: Option<ProgressBar>,
    /// Bytes, or a count.
    done: u64,
    stored_bytes: u64,
    goal: Goal,
    begun: Instant,
    told: Instant,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Nobody knows.
    Unknown,
    /// Bytes to be restored.
    Restore(u64),
    /// Bytes to be checked.
    Bytes(u64),
    /// Objects to be checked.
    Count(u64),
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("json", &self.json).field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

impl Console {
    /// `log`: log lines are written to standard error, so there are no bars.
    pub(super) fn new(json: bool, quiet: bool, verbosity: u8, log: bool) -> Self {
        let bars = !json && !quiet && !log && io::stderr().is_terminal();
        let (verbose, bars) = (verbosity > 0, bars.then(MultiProgress::new));
        Self { json, quiet, verbose, bars, lines: Mutex::default() }
    }

    /// Whether more is to be said.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether objects are wanted instead of text.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Words for people: standard error, unless quiet.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            self.stderr(text);
        }
    }

    /// A question: standard error, however quiet, because somebody waits for the answer.
    pub(super) fn ask(&self, text: &str) {
        self.stderr(text);
    }

    /// A warning, on one line: some repeat the words of servers.
    pub(super) fn warning(&self, source: Option<&SourceName>, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.json {
            let source = source.map(SourceName::as_str);
            return self.stderr(&json!({"type": "warning", "source": source, "message": text}).to_string());
        }
        match source {
            Some(source) => self.stderr(&format!("warning: {source}: {text}")),
            None => self.stderr(&format!("warning: {text}")),
        }
    }

    /// An error, once, with its hint.
    pub(super) fn error(&self, error: &CliError) {
        self.error_of(None, error);
    }

    /// An error of one source; most of their messages begin with its name, and the others get it here.
    pub(super) fn error_of(&self, source: Option<&SourceName>, error: &CliError) {
        let (mut message, hint) = (chain(error), error.hint());
        if self.json {
            let (source, code) = (source.map(SourceName::as_str), error.exit().code());
            let object = json!({"type": "error", "source": source, "message": message, "hint": hint, "code": code});
            return self.stderr(&object.to_string());
        }
        if let Some(source) = source.filter(|source| !message.starts_with(&format!("{source}: "))) {
            message = format!("{source}: {message}");
        }
        self.stderr(&format!("error: {message}"));
        if let Some(hint) = hint {
            self.stderr(&format!("hint: {hint}"));
        }
    }

    /// Lines on standard error; there is nobody to tell when that fails. Nothing in them commands a terminal.
    fn stderr(&self, text: &str) {
        let clean = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
        let text: String = text.chars().map(clean).collect();
        let write = || {
            let mut stderr = io::stderr().lock();
            let _ = writeln!(stderr, "{}", text.trim_end());
        };
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// A table or the like on standard output. Nobody who closes the pipe after some lines wants an error.
    pub(super) fn show(&self, text: &str) -> Result<(), CliError> {
        match self.data(text.as_bytes()) {
            Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// The same, unless quiet: for what only tells how a command went.
    pub(super) fn report(&self, text: &str) -> Result<(), CliError> {
        if self.quiet { Ok(()) } else { self.show(text) }
    }

    /// One object, one line.
    pub(super) fn object(&self, object: &Value) -> Result<(), CliError> {
        self.show(&format!("{object}\n"))
    }

    /// An object where standard output carries a snapshot.
    pub(super) fn object_aside(&self, object: &Value) {
        self.stderr(&object.to_string());
    }

    /// Bytes that are of use only if all of them arrive.
    pub(super) fn data(&self, bytes: &[u8]) -> Result<(), CliError> {
        let write = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        };
        let written = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
        written.map_err(CliError::Output)
    }

    /// Takes the bars away.
    pub(super) fn finish_progress(&self) {
        for (_, line) in self.lock().drain() {
            if let Some(bar) = line.bar {
                bar.finish_and_clear();
            }
        }
    }

    /// A panic elsewhere leaves figures that are still good enough.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, name: String, goal: Goal, change: impl FnOnce(&mut Line)) {
        if self.quiet || self.json {
            return;
        }
        let mut lines = self.lock();
        let line = lines.entry(name.clone()).or_insert_with(|| self.line(&name, goal));
        change(line);
        if let Some(bar) = &line.bar {
            bar.set_position(line.done);
            bar.set_message(format!("{} stored", human::size(line.stored_bytes)));
        } else if line.told.elapsed() >= PLAIN_PROGRESS_EVERY {
            line.told = Instant::now();
            self.stderr(&format!("{name}: {}", line.words()));
        }
    }

    fn line(&self, name: &str, goal: Goal) -> Line {
        let bar = self.bars.as_ref().map(|bars| {
            let (bar, style) = match goal {
                Goal::Unknown => (ProgressBar::new_spinner(), READ_STYLE),
                Goal::Restore(total) | Goal::Bytes(total) => (ProgressBar::new(total), RESTORE_STYLE),
                Goal::Count(total) => (ProgressBar::new(total), COUNT_STYLE),
            };
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(bar.with_style(style).with_prefix(name.to_owned()));
            bar.enable_steady_tick(TICK_EVERY);
            bar
        });
        let now = Instant::now();
        Line { bar, done: 0, stored_bytes: 0, goal, begun: now, told: now }
    }
}

impl Line {
    fn words(&self) -> String {
        let done = human::size(self.done);
        match self.goal {
            Goal::Unknown => format!("{done} read, {} stored", human::size(self.stored_bytes)),
            Goal::Restore(total) => format!("{done} of {} restored{}", human::size(total), self.left(total)),
            Goal::Bytes(total) => format!("{done} of {} checked{}", human::size(total), self.left(total)),
            Goal::Count(total) => format!("{} of {total} checked{}", self.done, self.left(total)),
        }
    }

    /// How long it will take if it goes on like this.
    fn left(&self, total: u64) -> String {
        if self.done == 0 {
            return String::new();
        }
        let seconds = self.begun.elapsed().as_secs_f64() * total.saturating_sub(self.done) as f64 / self.done as f64;
        format!(", {} left", human::span(seconds as u64))
    }
}

impl Monitor for Console {
    fn event(&self, event: Event) {
        match event {
            Event::Read { source, len_bytes } => {
                self.progress(source.to_string(), Goal::Unknown, |line| line.done += len_bytes);
            }
            Event::Stored { source, len_bytes } => {
                self.progress(source.to_string(), Goal::Unknown, |line| line.stored_bytes += len_bytes);
            }
            Event::Restored { manifest, len_bytes, total_bytes } => {
                self.progress(manifest.to_string(), Goal::Restore(total_bytes), |line| line.done += len_bytes);
            }
            Event::Checked { what, done, total, are_bytes } => {
                let goal = if are_bytes { Goal::Bytes(total) } else { Goal::Count(total) };
                self.progress(what.to_owned(), goal, |line| line.done += done);
            }
            Event::GivenUp { source, packs, reason } if self.verbose => {
                self.say(&format!("{source}: {packs} packs of the last snapshot are not reused: {reason}"));
            }
            Event::GivenUp { .. } => {}
            Event::Warning { source, text } => self.warning(source.as_ref(), &text),
        }
    }
}
