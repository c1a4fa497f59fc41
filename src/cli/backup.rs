//! `backup`.

use super::args::{Backup, Init};
use super::console::Console;
use super::context::{Context, Need};
use super::error::CliError;
use super::servers::Servers;
use super::{human, init};
use crate::archive::Repository;
use crate::archive::backup::{BackupOptions, BackupReport, Input, SourceSpec, backup};
use crate::archive::repository::read_info;
use crate::exit::Exit;
use hah_vault_format::SourceName;
use serde_json::json;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

const FORM: &str = "write NAME=PATH, NAME=- for standard input, or vault, consul or nomad for the service itself";

pub(super) async fn run(context: &Context, args: Backup) -> Result<Exit, CliError> {
    context.telemetry.begin_backups(names(&args.sources)).await;
    let sources = parse_sources(&args.sources, &context.servers).await?;
    let stdin = sources.iter().any(|s| s.input == Input::Stdin);
    if stdin && context.global.identity.iter().any(|path| path == Path::new("-")) {
        return Err(CliError::usage("standard input is both a source and an identity", "put the identity into a file"));
    }
    if stdin && std::io::stdin().is_terminal() {
        return Err(CliError::usage("standard input is a terminal", "pipe a snapshot into it, or write NAME=PATH"));
    }
    let repository = open(context, args.init).await?;
    let options = BackupOptions {
        fresh: args.fresh,
        raw: args.raw,
        horizon: args.horizon,
        compression: args.compression.into(),
        tags: args.tags,
        ..BackupOptions::default()
    };
    let outcomes = backup(&repository, sources, &options, &context.cancel).await?;
    context.telemetry.end_backups(&outcomes);
    context.console.finish_progress();
    let total = outcomes.len();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (name, outcome) in outcomes {
        match outcome {
            Ok(report) => done.push(report),
            Err(error) => failed.push((name, CliError::from(error))),
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

/// The sources that are meant, also if something else about them is wrong: a nightly run that fails before it reads
/// anything is a failure of each. A word that is no source is nobody's failure.
fn names(texts: &[String]) -> Vec<SourceName> {
    let name = |text: &String| match text.split_once('=') {
        Some((name, _)) => name.parse().ok(),
        None => text.parse().ok().filter(|name: &SourceName| ["vault", "consul", "nomad"].contains(&name.as_str())),
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

async fn parse_sources(texts: &[String], servers: &Servers) -> Result<Vec<SourceSpec>, CliError> {
    let mut sources: Vec<SourceSpec> = Vec::with_capacity(texts.len());
    for text in texts {
        let source = parse_source(text, servers).await?;
        if sources.iter().any(|s| s.name == source.name) {
            return Err(CliError::usage(format!("source {} is given twice", source.name), "give each source once"));
        }
        if source.input == Input::Stdin && sources.iter().any(|s| s.input == Input::Stdin) {
            return Err(CliError::usage("two sources read standard input", "only one can: put the others into files"));
        }
        sources.push(source);
    }
    Ok(sources)
}

async fn parse_source(text: &str, servers: &Servers) -> Result<SourceSpec, CliError> {
    let Some((name, path)) = text.split_once('=') else {
        let unknown = || CliError::usage(format!("{text:?} is not a source"), FORM);
        let name: SourceName = text.parse().map_err(|_| unknown())?;
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

fn object(report: &BackupReport) -> serde_json::Value {
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
    use std::sync::Arc;

    fn servers() -> Servers {
        Servers::new(Arc::new(Console::new(false, true, 0, false)))
    }

    fn parse(text: &str) -> Result<SourceSpec, CliError> {
        block_on(parse_source(text, &servers()))
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
        let two = |a: &str, b: &str| block_on(parse_sources(&[a.into(), b.into()], &servers()));
        assert!(two("a=x", "b=x").is_ok());
        assert!(two("a=x", "a=y").is_err());
        assert!(two("a=-", "b=-").is_err());
    }
}
