//! The command line: what is typed, what is shown, and with which code it ends.
//!
//! ```text
//! args ─> mod (runtime, signals) ─> one module per command ─> archive
//!                                   context: store and keys; console: words, progress, data
//! ```
//!
//! Architecture invariant: nothing here decides about data; only this module names clap and indicatif. JSON objects
//! are listed in [`json`].

mod agent;
mod args;
mod backup;
mod check;
mod config;
mod config_help;
mod console;
mod context;
mod drill;
mod error;
mod files;
mod gc;
mod generate;
mod hold;
mod human;
mod init;
#[doc = include_str!("json.md")]
pub mod json {}
mod key;
mod kit;
mod list;
mod outlets;
mod prompt;
mod repair;
mod restore;
mod restore_to;
mod retention;
mod servers;
mod settings;
mod show;
mod signals;
mod stats;
mod telemetry;
mod verify;

use crate::archive::{ArchiveError, Cancel};
use crate::exit::Exit;
use args::{Cli, Command, Global, LogFormat};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use console::Console;
use context::Context;
use error::CliError;
use prompt::Asking;
use settings::Settings;
use signals::Interrupt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

/// How long threads that are still busy may hold up the end: a file system call takes less, and one that reads from a
/// silent pipe would hold it up for ever.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);
/// Threads for blocking calls of the store: its uploads and its reads ahead.
const STORE_THREADS: usize = 40;
/// The same in an agent, which waits most of the time: each thread that was busy once costs it memory.
const AGENT_STORE_THREADS: usize = 8;
/// Threads that each source of a backup keeps for itself: reader, ingest, seal. No other run of an agent keeps as many.
const THREADS_PER_SOURCE: usize = 3;

/// Runs what was typed.
pub fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help goes to standard output, the rest to standard error; a closed pipe is nobody's problem.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() });
        }
    };
    let log = start_log(&cli.global, matches!(cli.command, Command::Agent(_)));
    // A machine that reads the agent's log reads its warnings, too.
    let is_json =
        cli.global.json || (matches!(cli.command, Command::Agent(_)) && cli.global.log_format == LogFormat::Json);
    let console = Arc::new(Console::new(is_json, cli.global.quiet, cli.global.verbose, log));
    let exit = run(cli, &matches, &console).unwrap_or_else(|error| {
        console.finish_progress();
        console.error(&error);
        error.exit()
    });
    ExitCode::from(exit.code())
}

/// Logs to standard error with `-vv` or `HAH_VAULT_LOG`, and always for the agent. At most our own modules say everything:
/// those of others might print headers.
fn start_log(global: &Global, is_agent: bool) -> bool {
    let filter = match (std::env::var("HAH_VAULT_LOG"), global.verbose) {
        (Ok(filter), _) if !filter.is_empty() => EnvFilter::builder().parse_lossy(filter),
        (_, 0 | 1) if is_agent => EnvFilter::new("warn,hah_vault=info"),
        (_, 0 | 1) => return false,
        (_, 2) => EnvFilter::new("warn,hah_vault=debug"),
        _ => EnvFilter::new("info,hah_vault=trace"),
    };
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi);
    match global.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    true
}

/// Whether an option was typed, rather than taken from a variable.
fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
        || matches.subcommand().is_some_and(|(_, matches)| is_typed(matches, id))
}

/// With a runtime around it, unless the command needs none.
fn run(cli: Cli, matches: &ArgMatches, console: &Arc<Console>) -> Result<Exit, CliError> {
    let Cli { global, command } = cli;
    match command {
        Command::Completions { shell } => return generate::completions(shell, console),
        Command::Man { out } => return generate::man(out, console),
        _ => {}
    }
    let settings = Arc::new(Settings::open(&global, &|id| is_typed(matches, id))?);
    for warning in &settings.config.warnings {
        console.warning(None, warning);
    }
    let is_agent = matches!(command, Command::Agent(_));
    let runtime = runtime(&command, &settings)?;
    let (cancel, asking) = (Cancel::default(), Asking::default());
    let context = Context::new(global, settings, Arc::clone(console), cancel.clone(), asking.clone())?;
    let result = runtime.block_on(async {
        // The agent has ideas of its own about signals.
        let servers = context.servers.clone();
        let close = async move { servers.close().await };
        let interrupt = match is_agent {
            true => None,
            false => Some(Interrupt::watch(cancel, asking.clone(), close).map_err(internal)?),
        };
        let interrupted = async {
            match &interrupt {
                Some(interrupt) => interrupt.happened().await,
                None => std::future::pending().await,
            }
        };
        // Dropping the command's future removes its temporary files.
        let result = tokio::select! {
            biased;
            () = interrupted => Err(ArchiveError::Interrupted.into()),
            result = dispatch(&context, command, matches) => match result {
                Err(_) if asking.is_cut() => Err(ArchiveError::Interrupted.into()),
                result => result,
            },
        };
        // Also after an error or a signal: tokens that were made for this run end with it.
        context.servers.close().await;
        context.telemetry.finish(&result).await;
        result
    });
    console.finish_progress();
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    result
}

fn runtime(command: &Command, settings: &Settings) -> Result<Runtime, CliError> {
    let sources = match command {
        Command::Backup(backup) if backup.sources.is_empty() => settings.backed_up().len().max(1),
        Command::Backup(backup) => backup.sources.len(),
        Command::Agent(_) => agent::runs_max(settings),
        _ => 1,
    };
    let shared = if matches!(command, Command::Agent(_)) { AGENT_STORE_THREADS } else { STORE_THREADS };
    let threads = shared + THREADS_PER_SOURCE * sources;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(threads).enable_all().build().map_err(internal)
}

fn internal(error: io::Error) -> CliError {
    ArchiveError::Internal(error.to_string()).into()
}

async fn dispatch(context: &Context, command: Command, matches: &ArgMatches) -> Result<Exit, CliError> {
    let command = match agent::remote::client(&context.global)? {
        Some(client) => match agent::remote::run(context, &client, command).await? {
            Ok(exit) => return Ok(exit),
            // Nothing for an agent.
            Err(command) => command,
        },
        None => command,
    };
    match command {
        Command::Init(args) => init::run(context, args).await,
        Command::Backup(args) => backup::run(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Show(args) => show::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Gc(args) => gc::run(context, args).await,
        Command::Undelete(args) => hold::undelete(context, args).await,
        Command::Hold(args) => hold::run(context, args).await,
        Command::Agent(args) => agent::run(context, args, &|id| is_typed(matches, id)).await,
        Command::Status => {
            Err(CliError::usage("status asks an agent, and none is given", "pass --agent URL, or set HAH_VAULT_AGENT"))
        }
        Command::Verify(args) => verify::run(context, args).await,
        Command::Repair(args) => repair::run(context, args).await,
        Command::Key(args) => key::run(context, args).await,
        Command::Kit(args) => kit::run(context, args).await,
        Command::Stats => stats::run(context).await,
        Command::Config => config::run(context),
        Command::Check(args) => check::run(context, args).await,
        // Done before there was a runtime.
        Command::Completions { .. } | Command::Man { .. } => Ok(Exit::Done),
    }
}
