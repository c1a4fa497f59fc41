//! `backup`.

use super::args::{Backup, CompressionArg, Init};
use super::console::Console;
use super::context::{Context, Need};
use super::error::{CliError, chain};
use super::servers::Servers;
use super::settings::Settings;
use super::{human, init};
use crate::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use crate::archive::host_state::HostState;
use crate::archive::repository::read_info;
use crate::archive::{ArchiveError, Monitor, Repository};
use crate::config::{Kind, Section};
use crate::exit::Exit;
use hah_vault_format::{ObjectId, SourceName};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FORM: &str = "write NAME=PATH, NAME=- for standard input, vault, consul or nomad for the service itself, or the \
                    name of a source in the configuration file";

pub(super) async fn run(context: &Context, args: Backup) -> Result<Exit, CliError> {
    let names = names(&args.sources, &context.settings)?;
    context.telemetry.begin_backups(meant(&names, &context.settings)).await;
    let Sources { specs: sources, mut failed } = parse_sources(&names, &context.settings, &context.servers).await?;
    let total = names.len();
    let stdin = sources.iter().any(|s| s.input == Input::Stdin);
    if stdin && context.identities().iter().any(|path| path == Path::new("-")) {
        return Err(CliError::usage("standard input is both a source and an identity", "put the identity into a file"));
    }
    if stdin && std::io::stdin().is_terminal() {
        return Err(CliError::usage("standard input is a terminal", "pipe a snapshot into it, or write NAME=PATH"));
    }
    let keystores = keystores(args.keystore.clone(), &sources, &context.settings)?;
    let mut done = Vec::new();
    if !sources.is_empty() {
        let repository = open(context, args.init).await?;
        let state = context.state(&repository);
        let avoid = state.as_ref().map(HostState::damaged).unwrap_or_default();
        let options = options(&args, &sources, &keystores, &avoid, &context.settings);
        let outcomes = backup(&repository, sources, &options, &context.cancel).await?;
        context.telemetry.end_backups(&outcomes);
        context.console.finish_progress();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(report) => {
                    remember(context, &repository, state.as_ref(), &report).await;
                    done.push(report);
                }
                Err(error) => failed.push((name, CliError::from(error))),
            }
        }
    }
    tell(&context.console, &done)?;
    for (name, error) in &failed {
        context.console.error_of(Some(name), error);
    }
    Ok(match failed.as_slice() {
        [] => Exit::Done,
        [(_, error)] if total == 1 => error.exit(),
        all if all.len() == total => Exit::Failed,
        _ => Exit::Partial,
    })
}

/// Keystores, by source: the option is for the source nomad, and beats what is configured or in the environment.
fn keystores(
    option: Option<PathBuf>,
    sources: &[SourceSpec],
    settings: &Settings,
) -> Result<BTreeMap<SourceName, PathBuf>, CliError> {
    let configured = sources.iter().filter_map(|source| {
        let folder = settings.source(source.name.as_str())?.text("keystore").map(PathBuf::from)?;
        Some((source.name.clone(), folder))
    });
    let mut keystores: BTreeMap<SourceName, PathBuf> = configured.collect();
    if let Some(folder) = option {
        let nomad = sources.iter().map(|source| &source.name).find(|name| name.as_str() == "nomad");
        let nomad = nomad.ok_or_else(|| {
            CliError::usage(
                "--keystore is of no use: nomad is not among the sources",
                "the keystore is stored with the snapshot of the source nomad",
            )
        })?;
        keystores.insert(nomad.clone(), folder);
    }
    Ok(keystores)
}

/// One configured source, for the agent.
pub(super) async fn one(
    context: &Context,
    name: &SourceName,
    fresh: bool,
    monitor: Arc<dyn Monitor>,
) -> Result<BackupReport, CliError> {
    let args = Backup { fresh, ..Backup::default() };
    let Sources { specs, failed } = parse_sources(&[name.to_string()], &context.settings, &context.servers).await?;
    if let Some((_, error)) = failed.into_iter().next() {
        return Err(error);
    }
    let keystores = keystores(None, &specs, &context.settings)?;
    let repository = Repository { monitor, ..open(context, false).await? };
    let state = context.state(&repository);
    let avoid = state.as_ref().map(HostState::damaged).unwrap_or_default();
    let options = options(&args, &specs, &keystores, &avoid, &context.settings);
    let outcome = backup(&repository, specs, &options, &context.cancel).await?.into_iter().next();
    let missing = || ArchiveError::Internal("a backup without an outcome".into());
    let report = outcome.ok_or_else(missing)?.1?;
    remember(context, &repository, state.as_ref(), &report).await;
    Ok(report)
}

/// Remembers the new snapshot, and looks whether the last ones that this host saw are still there: what gc cannot have
/// dropped. `verify` says more.
async fn remember(context: &Context, repository: &Repository, state: Option<&HostState>, report: &BackupReport) {
    let Some(state) = state else { return };
    let manifest = &report.manifest;
    let source = &manifest.name.source;
    let last = state.seen_of(source).pop().filter(|last| manifest.parent.as_ref().is_none_or(|parent| parent < last));
    if let Some(last) = last
        && let Ok(None) = repository.store.stat(&last.key()).await
    {
        let text =
            format!("{last}, the last snapshot that this host saw, is gone: was it deleted, or the store rolled back?");
        context.console.warning(Some(source), &text);
    }
    if let Err(error) = state.note_seen(source, std::slice::from_ref(&manifest.name)) {
        context.console.warning(Some(source), &format!("the snapshot is not remembered here: {}", chain(&error)));
    }
}

/// The sources that are meant, also if something else about them is wrong: a nightly run that fails before it reads
/// anything is a failure of each. A word that is no source is nobody's failure.
fn meant(texts: &[String], settings: &Settings) -> Vec<SourceName> {
    let name = |text: &String| match text.split_once('=') {
        Some((name, _)) => name.parse().ok(),
        None => text.parse().ok().filter(|name: &SourceName| settings.source(name.as_str()).is_some()),
    };
    let mut names: Vec<SourceName> = texts.iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

async fn open(context: &Context, make: bool) -> Result<Repository, CliError> {
    // Keys given outright cannot be those of a repository that is not there yet.
    if make && !context.keys_given() {
        let store = context.store().await?;
        if read_info(store.as_ref()).await?.is_none() {
            let keyring = init::make(context, &store, Init::default()).await?;
            return Ok(context.with_keyring(store, keyring));
        }
    }
    context.repository(Need::Writer, "backup").await
}

/// What was typed, or else all sources of the configuration.
fn names(typed: &[String], settings: &Settings) -> Result<Vec<String>, CliError> {
    if !typed.is_empty() {
        return Ok(typed.to_vec());
    }
    let configured: Vec<String> = settings.backed_up().iter().map(ToString::to_string).collect();
    if configured.is_empty() {
        return Err(CliError::usage("no source is given, and none is configured", FORM));
    }
    Ok(configured)
}

/// Flags beat the file, source by source.
fn options(
    args: &Backup,
    sources: &[SourceSpec],
    keystores: &BTreeMap<SourceName, PathBuf>,
    avoid: &BTreeSet<ObjectId>,
    settings: &Settings,
) -> BackupOptions {
    let defaults = BackupOptions::default();
    let of = |section: Option<&Section>| {
        let is_off = section.and_then(|s| s.text("compression")).map(|text| text == "off");
        let configured = is_off.map(|off| if off { CompressionArg::Off } else { CompressionArg::Auto });
        let horizon = args.horizon.or_else(|| section?.duration("horizon")).unwrap_or(defaults.horizon);
        let shrink = section.and_then(|s| s.number("shrink_warn_below_percent"));
        BackupOptions {
            fresh: args.fresh,
            raw: args.raw || section.and_then(|s| s.flag("raw")) == Some(true),
            horizon,
            compression: args.compression.or(configured).unwrap_or(CompressionArg::Auto).into(),
            shrink_warn_below_percent: shrink.unwrap_or(defaults.shrink_warn_below_percent),
            keystores: keystores.clone(),
            tags: args.tags.clone(),
            avoid: avoid.clone(),
            ..defaults.clone()
        }
    };
    let named = sources.iter().filter_map(|source| {
        let section = settings.sources().find(|section| section.source_name() == source.name.as_str())?;
        Some((source.name.clone(), of(Some(section))))
    });
    BackupOptions { sources: named.collect::<BTreeMap<SourceName, BackupOptions>>(), ..of(None) }
}

/// The sources of a run, and those whose settings make no sense: the others are backed up all the same.
#[derive(Debug, Default)]
struct Sources {
    specs: Vec<SourceSpec>,
    failed: Vec<(SourceName, CliError)>,
}

async fn parse_sources(texts: &[String], settings: &Settings, servers: &Servers) -> Result<Sources, CliError> {
    let mut sources = Sources::default();
    for text in texts {
        let source = match parse_source(text, settings, servers).await {
            Ok(source) => source,
            Err(error @ CliError::Archive(_)) => {
                let name = text.parse().map_err(|_| CliError::usage(format!("{text:?} is not a source"), FORM))?;
                sources.failed.push((name, error));
                continue;
            }
            Err(error) => return Err(error),
        };
        if sources.specs.iter().any(|s| s.name == source.name) {
            return Err(CliError::usage(format!("source {} is given twice", source.name), "give each source once"));
        }
        if source.input == Input::Stdin && sources.specs.iter().any(|s| s.input == Input::Stdin) {
            return Err(CliError::usage("two sources read standard input", "only one can: put the others into files"));
        }
        sources.specs.push(source);
    }
    Ok(sources)
}

async fn parse_source(text: &str, settings: &Settings, servers: &Servers) -> Result<SourceSpec, CliError> {
    let Some((name, path)) = text.split_once('=') else {
        let unknown = || CliError::usage(format!("{text:?} is not a source"), FORM);
        let name: SourceName = text.parse().map_err(|_| unknown())?;
        if let Some(file) = settings.source(text).filter(|section| section.kind == Kind::File) {
            let no_path = || CliError::usage(format!("{} has no path", file.title()), "add path = \"/…\" to it");
            let path = file.text("path").ok_or_else(no_path)?.into();
            return Ok(SourceSpec { name, input: Input::File(path) });
        }
        let server = servers.find(&name).await?.ok_or_else(unknown)?;
        return Ok(SourceSpec { name, input: Input::Service(server.service()) });
    };
    let name: SourceName =
        name.parse().map_err(|e: hah_vault_format::FormatError| CliError::usage(e.to_string(), FORM))?;
    let input = match path {
        "" => return Err(CliError::usage(format!("source {name} has no path"), FORM)),
        "-" => Input::Stdin,
        path => Input::File(path.into()),
    };
    Ok(SourceSpec { name, input })
}

fn tell(console: &Console, reports: &[BackupReport]) -> Result<(), CliError> {
    if console.is_json() {
        return reports.iter().try_for_each(|report| console.object(&object(report)));
    }
    if reports.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    for report in reports.iter().filter(|report| report.keystore_files > 0) {
        let (name, files) = (&report.manifest.name.source, report.keystore_files);
        console.say(&format!("{name}: {files} key files of the keystore are stored with the snapshot"));
    }
    let header = ["SOURCE", ">SIZE", ">STREAM", ">NEW", ">STORED", ">RATIO", ">TIME", "MANIFEST"];
    console.report(&human::table(&header, &rows))
}

fn row(report: &BackupReport) -> Vec<String> {
    let manifest = &report.manifest;
    vec![
        manifest.name.source.to_string(),
        human::size(manifest.original.len_bytes),
        human::size(manifest.stream.len_bytes),
        human::size(manifest.counts.new_bytes),
        human::size(report.stored_bytes()),
        human::ratio(manifest.original.len_bytes, report.stored_bytes()),
        human::duration(report.took),
        manifest.name.to_string(),
    ]
}

pub(super) fn object(report: &BackupReport) -> serde_json::Value {
    let manifest = &report.manifest;
    json!({
        "type": "backup",
        "source": manifest.name.source,
        "manifest": manifest.name.to_string(),
        "parent": manifest.parent.as_ref().map(ToString::to_string),
        "kind": manifest.kind.as_str(),
        "original_len_bytes": manifest.original.len_bytes,
        "stream_len_bytes": manifest.stream.len_bytes,
        "new_bytes": manifest.counts.new_bytes,
        "stored_bytes": report.stored_bytes(),
        "chunks": manifest.counts.chunks,
        "chunks_new": manifest.counts.chunks_new,
        "packs_given_up": report.packs_given_up,
        "keystore_files": report.keystore_files,
        "took_ms": ms(report.took),
        "stages_ms": {
            "open": ms(report.stages.open),
            "read": ms(report.stages.read),
            "upload": ms(report.stages.upload),
            "commit": ms(report.stages.commit),
        },
    })
}

fn ms(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    fn parse_all(texts: &[&str]) -> Result<Vec<SourceSpec>, CliError> {
        let settings = Arc::new(Settings::none());
        let servers = Servers::new(Arc::new(Console::new(false, true, 0, false)), Arc::clone(&settings));
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        block_on(parse_sources(&texts, &settings, &servers)).map(|sources| sources.specs)
    }

    fn parse(text: &str) -> Result<SourceSpec, CliError> {
        parse_all(&[text]).map(|mut specs| specs.remove(0))
    }

    #[test]
    fn services_are_names_without_paths() {
        for text in ["vault", "consul", "nomad"] {
            assert!(matches!(parse(text).unwrap().input, Input::Service(_)), "{text}");
        }
    }

    #[test]
    fn sources_are_names_with_paths() {
        let spec = parse("vault=a=b").unwrap();
        assert_eq!((spec.name.as_str(), spec.input), ("vault", Input::File("a=b".into())));
        assert_eq!(parse("x=-").unwrap().input, Input::Stdin);
        for text in ["x", "Vault", "", "=x", "Vault=x", "x=", "a/b=x"] {
            assert!(matches!(parse(text), Err(CliError::Usage { .. })), "{text}");
        }
        let two = |a: &str, b: &str| parse_all(&[a, b]);
        assert!(two("a=x", "b=x").is_ok());
        assert!(two("a=x", "a=y").is_err());
        assert!(two("a=-", "b=-").is_err());
    }
}
