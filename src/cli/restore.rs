//! `restore`.

use super::args::Restore;
use super::context::{Context, Need};
use super::error::CliError;
use super::show::hex;
use super::telemetry::Job;
use super::{human, restore_to};
use crate::archive::restore::{Exactness, RestoreReport, default_file_name, restore, restore_to_file};
use crate::archive::{ArchiveError, Repository, keystore};
use crate::exit::Exit;
use crate::snapshot::keystore::KeyFile;
use hah_vault_format::ManifestName;
use rustix::fs::OFlags;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What goes to standard output at once.
const OUT_LEN_BYTES: usize = 256 << 10;

pub(super) async fn run(context: &Context, args: Restore) -> Result<Exit, CliError> {
    if let Some(to) = &args.server.to {
        return restore_to::run(context, &args, to).await;
    }
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        return Err(CliError::usage("a snapshot is nothing for a terminal", "redirect it, or pass -o FILE"));
    }
    let repository = context.repository(Need::Reader, "restore").await?;
    let name = repository.resolve(&args.manifest).await?;
    // A file harms nobody, but may not be the one that is meant.
    if let Err(error @ CliError::Usage { .. }) =
        restore_to::refuse_what_was_replaced(&repository, &args.manifest, &name).await
    {
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        context.console.warning(Some(&name.source), &format!("{error}{hint}"));
    }
    let keystore = match &args.keystore {
        Some(folder) => Some(Keystore::open(&repository, &name, folder, args.force).await?),
        None => None,
    };
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
    if let Some(keystore) = keystore {
        keystore.write(context).await?;
    }
    Ok(match report.exactness {
        Exactness::UnexpectedGzip => Exit::Partial,
        Exactness::Exact | Exactness::FastAsked | Exactness::OtherGzip => Exit::Done,
    })
}

/// The keystore that was backed up with a snapshot, on its way into a folder.
pub(super) struct Keystore {
    name: ManifestName,
    files: Vec<KeyFile>,
    folder: PathBuf,
    force: bool,
}

impl Keystore {
    /// Opens it, and refuses early what would be refused in the end.
    pub(super) async fn open(
        repository: &Repository,
        name: &ManifestName,
        folder: &Path,
        force: bool,
    ) -> Result<Self, CliError> {
        let files = keystore::open(repository, &repository.open_manifest(name).await?)?;
        keystore::check(name, folder, &files, force)?;
        Ok(Self { name: name.clone(), files, folder: folder.to_owned(), force })
    }

    /// Writes it; how many files were not there already.
    pub(super) async fn write(self, context: &Context) -> Result<usize, CliError> {
        let folder = self.folder.clone();
        let (total, shown) = (self.files.len(), folder.display());
        let writing =
            tokio::task::spawn_blocking(move || keystore::write(&self.name, &self.folder, &self.files, self.force));
        let written = writing.await.map_err(|error| ArchiveError::Internal(error.to_string()))??;
        context
            .console
            .say(&format!("{written} of {total} key files written to {shown}; the others were there already"));
        Ok(written)
    }
}

async fn file(
    context: &Context,
    repository: &Repository,
    name: &ManifestName,
    path: &Path,
    force: bool,
    fast: bool,
) -> Result<RestoreReport, CliError> {
    if path.is_dir() {
        let inside = path.join(default_file_name(name, None));
        return Err(CliError::usage(
            format!("{} is a folder", path.display()),
            format!("name a file in it: -o {}", inside.display()),
        ));
    }
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
    if is_closed(&stdout) {
        return Err(CliError::usage("standard output is closed", "redirect it into a file or a pipe, or pass -o FILE"));
    }
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

/// Whether standard output was closed when the program began. Rust's runtime opens `/dev/null` in its place then, for
/// reading and writing, and everything that is written is lost. (`>/dev/null` opens it for writing only.)
fn is_closed(stdout: &OwnedFd) -> bool {
    let is_read_write = rustix::fs::fcntl_getfl(stdout).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    let null = || Path::new("/dev/null").metadata().map(|found| found.rdev()).ok();
    let found = || File::from(stdout.try_clone().ok()?).metadata().map(|found| found.rdev()).ok();
    is_read_write && found().filter(|device| *device != 0).is_some_and(|device| Some(device) == null())
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

pub(super) fn object(report: &RestoreReport, path: Option<&Path>) -> Value {
    json!({
        "type": "restore",
        "manifest": report.manifest.name.to_string(),
        "path": path,
        "len_bytes": report.len_bytes,
        "sha256": hex(&report.sha256),
        "exactness": report.exactness.as_str(),
    })
}
