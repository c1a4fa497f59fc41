//! `list`.

use super::args::List;
use super::context::{Context, Need};
use super::error::{CliError, chain};
use super::human;
use crate::archive::manifests::{Listed, sources};
use crate::archive::{ArchiveError, Repository};
use crate::exit::Exit;
use hah_vault_format::text::Scope;
use hah_vault_format::{Manifest, ManifestName, SourceName, UnixTime};
use serde_json::{Value, json};

type Opened = Result<Manifest, ArchiveError>;

pub(super) async fn run(context: &Context, args: List) -> Result<Exit, CliError> {
    let repository = context.repository(Need::Writer, "list").await?;
    if let Some(source) = &args.source {
        repository.source_keys(source)?;
    }
    let source = args.source.or_else(|| scope(context, &repository));
    let mut listed = repository.list_manifests(source.as_ref()).await?;
    if let (true, Some(source)) = (listed.is_empty(), &source) {
        let names: Vec<ManifestName> = repository.list_manifests(None).await?.into_iter().map(|l| l.name).collect();
        let sources = sources(&names);
        if !sources.is_empty() {
            return Err(ArchiveError::NoSource { text: source.to_string(), sources }.into());
        }
    }
    // As `@latest` has it: of one second, the one that was committed last is the newest.
    listed.sort_by(|a, b| (a.name.time, a.modified, &a.name).cmp(&(b.name.time, b.modified, &b.name)));
    let hidden = args.limit.map_or(0, |limit| listed.len().saturating_sub(limit));
    listed.drain(..hidden);
    let names: Vec<ManifestName> = listed.iter().map(|l| l.name.clone()).collect();
    let opened = repository.open_manifests(&names, &context.cancel).await?;
    let unreadable = opened.iter().any(Result::is_err);
    if context.console.is_json() {
        for (listed, opened) in listed.iter().zip(&opened) {
            context.console.object(&object(listed, opened))?;
        }
    } else if listed.is_empty() {
        context.console.say("no snapshots yet");
    } else {
        let now = repository.world.host_unix_ms();
        let rows: Vec<Vec<String>> = listed.iter().zip(&opened).map(|(l, o)| row(l, o, now)).collect();
        let header = ["MANIFEST", ">AGE", "KIND", ">SIZE", ">NEW", ">STORED", ">RAFT INDEX"];
        context.console.show(&human::table(&header, &rows))?;
        // Each names its manifest.
        opened.iter().filter_map(|o| o.as_ref().err()).for_each(|e| context.console.warning(None, &chain(e)));
    }
    Ok(if unreadable { Exit::Partial } else { Exit::Done })
}

/// With the key of one source only its manifests can be read.
fn scope(context: &Context, repository: &Repository) -> Option<SourceName> {
    match &repository.keyring.writer.scope {
        Scope::All => None,
        Scope::Source(source) => {
            context.console.say(&format!("the writer key is for source {source}: others are not listed"));
            Some(source.clone())
        }
    }
}

/// `2026-11-22T14:30:00Z`.
pub(super) fn iso(time: UnixTime) -> String {
    let (y, m, d, h, min, s) = time.civil();
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z")
}

fn row(listed: &Listed, opened: &Opened, now_unix_ms: i64) -> Vec<String> {
    let mut row = vec![listed.name.to_string(), human::age(listed.name.time.unix_s(), now_unix_ms)];
    match opened {
        Ok(manifest) => row.extend([
            manifest.kind.as_str().to_owned(),
            human::size(manifest.original.len_bytes),
            human::size(manifest.counts.new_bytes),
            human::size(manifest.counts.stored_bytes + listed.len_bytes),
            manifest.raft.as_ref().map_or_else(|| "-".into(), |raft| raft.index.to_string()),
        ]),
        Err(_) => row.push("unreadable".into()),
    }
    row
}

fn object(listed: &Listed, opened: &Opened) -> Value {
    let name = &listed.name;
    match opened {
        Ok(manifest) => json!({
            "type": "snapshot",
            "manifest": name.to_string(),
            "source": name.source,
            "time": iso(name.time),
            "kind": manifest.kind.as_str(),
            "original_len_bytes": manifest.original.len_bytes,
            "stream_len_bytes": manifest.stream.len_bytes,
            "new_bytes": manifest.counts.new_bytes,
            "stored_bytes": manifest.counts.stored_bytes + listed.len_bytes,
            "raft_index": manifest.raft.as_ref().map(|raft| raft.index),
        }),
        Err(error) => json!({
            "type": "unreadable",
            "manifest": name.to_string(),
            "source": name.source,
            "time": iso(name.time),
            "message": chain(error),
        }),
    }
}
