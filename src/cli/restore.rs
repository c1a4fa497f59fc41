//! `restore`.

use super::args::Restore;
use super::context::{Context, Need};
use super::error::CliError;
use super::human;
use super::show::hex;
use super::telemetry::Job;
use crate::archive::restore::{Exactness, RestoreReport, default_file_name, restore, restore_to_file};
use crate::archive::{ArchiveError, Repository};
use crate::exit::Exit;
use hah_vault_format::ManifestName;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What goes to standard output at once.
const OUT_LEN_BYTES: usize = 256 << 10;

pub(super) async fn run(context: &Context, args: Restore) -> Result<Exit, CliError> {
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        return Err(CliError::usage("a snapshot is nothing for a terminal", "redirect it, or pass -o FILE"));
    }
    let repository = context.repository(Need::Reader, "restore").await?;
    let name = repository.resolve(&args.manifest).await?;
    context.telemetry.begin(Job::Restore(name.source.clone()));
    let report = if to_stdout {
        stdout(context, &repository, &name, args.fast).await?
    } else {
        let path = match args.out {
            Some(path) => path,
            None => {
                let kind = repository.open_manifest(&name).await?.kind;
                PathBuf::from(default_file_name(&name, Some(kind)))
            }
        };
        file(context, &repository, &name, &path, args.force, args.fast).await?
    };
    context.telemetry.end_restore(&name.source, report.len_bytes);
    Ok(match report.exactness {
        Exactness::UnexpectedGzip => Exit::Partial,
        Exactness::Exact | Exactness::FastAsked | Exactness::OtherGzip => Exit::Done,
    })
}

async fn file(
    context: &Context,
    repository: &Repository,
    name: &ManifestName,
    path: &Path,
    force: bool,
    fast: bool,
) -> Result<RestoreReport, CliError> {
    // --force replaces a file; it must not replace /dev/null or a folder's name.
    if force && path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(CliError::usage(
            format!("{} is not a file", path.display()),
            "to write into a pipe or device, pass -o - and redirect",
        ));
    }
    let report = restore_to_file(repository, name, path, force, fast, &context.cancel).await?;
    context.console.finish_progress();
    if context.console.is_json() {
        context.console.object(&object(&report, Some(path)))?;
    } else {
        context.console.say(&words(&report, &path.display().to_string()));
    }
    Ok(report)
}

async fn stdout(
    context: &Context,
    repository: &Repository,
    name: &ManifestName,
    fast: bool,
) -> Result<RestoreReport, CliError> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(CliError::Output)?;
    // Not std's own writer: it looks for line breaks.
    let out = BufWriter::with_capacity(OUT_LEN_BYTES, File::from(stdout));
    let (mut out, report) = restore(repository, name, out, fast, &context.cancel).await?;
    out.flush().map_err(|source| ArchiveError::Output { source })?;
    context.console.finish_progress();
    if context.console.is_json() {
        context.console.object_aside(&object(&report, None));
    } else {
        context.console.say(&words(&report, "standard output"));
    }
    Ok(report)
}

fn words(report: &RestoreReport, place: &str) -> String {
    let (name, size) = (&report.manifest.name, human::size(report.len_bytes));
    let exactness = match report.exactness {
        Exactness::Exact => "it is the original, byte for byte",
        Exactness::FastAsked => "the same snapshot in another gzip, as --fast asks for",
        Exactness::OtherGzip => {
            "the same snapshot in another gzip: the program that compressed the original cannot be imitated"
        }
        Exactness::UnexpectedGzip => {
            "the same snapshot in ANOTHER gzip, although the manifest promised the original one: please report this"
        }
    };
    format!("restored {name} to {place}: {size}, all hashes checked\n{exactness}")
}

fn object(report: &RestoreReport, path: Option<&Path>) -> Value {
    json!({
        "type": "restore",
        "manifest": report.manifest.name.to_string(),
        "path": path,
        "len_bytes": report.len_bytes,
        "sha256": hex(&report.sha256),
        "exactness": report.exactness.as_str(),
    })
}
