//! `list`.

use super::args::List;
use super::context::{Context, Need};
use super::error::{CliError, chain};
use super::human;
pub(super) use super::human::iso;
use crate::archive::gc::trash::Trashed;
use crate::archive::manifests::{Listed, sources};
use crate::archive::{ArchiveError, Repository, tags};
use crate::exit::Exit;
use hah_vault_format::text::Scope;
use hah_vault_format::{Manifest, ManifestName, SourceName};
use serde_json::{Value, json};
use std::collections::HashSet;

type Opened = Result<Manifest, ArchiveError>;

pub(super) async fn run(context: &Context, args: List) -> Result<Exit, CliError> {
    let repository = context.repository(Need::Writer, "list").await?;
    if let Some(source) = &args.source {
        repository.source_keys(source)?;
    }
    let source = args.source.or_else(|| scope(context, &repository));
    if args.trash {
        return trash(context, &repository, source.as_ref(), args.limit).await;
    }
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
    let holds = repository.list_holds(source.as_ref()).await?.into_iter().map(|held| held.name);
    let holds: HashSet<ManifestName> = holds.collect();
    let unreadable = opened.iter().any(Result::is_err);
    if context.console.is_json() {
        for (listed, opened) in listed.iter().zip(&opened) {
            context.console.object(&object(listed, opened, holds.contains(&listed.name)))?;
        }
    } else if listed.is_empty() {
        context.console.say("no snapshots yet");
    } else {
        let now = repository.world.host_unix_ms();
        let rows: Vec<Vec<String>> =
            listed.iter().zip(&opened).map(|(l, o)| row(l, o, holds.contains(&l.name), now)).collect();
        let header = ["MANIFEST", ">AGE", "KIND", ">SIZE", ">NEW", ">STORED", ">RAFT INDEX", "MARKS"];
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

/// `held`, and the tags.
fn marks(manifest: &Manifest, held: bool) -> String {
    let held = held.then(|| "held".to_owned());
    let tags = tags::of(manifest).into_iter().map(|tag| format!("#{tag}"));
    held.into_iter().chain(tags).collect::<Vec<_>>().join(" ")
}

fn row(listed: &Listed, opened: &Opened, held: bool, now_unix_ms: i64) -> Vec<String> {
    let mut row = vec![listed.name.to_string(), human::age(listed.name.time.unix_s(), now_unix_ms)];
    match opened {
        Ok(manifest) => row.extend([
            manifest.kind.as_str().to_owned(),
            human::size(manifest.original.len_bytes),
            human::size(manifest.counts.new_bytes),
            human::size(manifest.counts.stored_bytes + listed.len_bytes),
            manifest.raft.as_ref().map_or_else(|| "-".into(), |raft| raft.index.to_string()),
            marks(manifest, held),
        ]),
        Err(_) => row.push("unreadable".into()),
    }
    row
}

fn object(listed: &Listed, opened: &Opened, held: bool) -> Value {
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
            "tags": tags::of(manifest).iter().map(tags::Tag::as_str).collect::<Vec<_>>(),
            "held": held,
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

/// What gc has set aside.
async fn trash(
    context: &Context,
    repository: &Repository,
    source: Option<&SourceName>,
    limit: Option<usize>,
) -> Result<Exit, CliError> {
    let mut trash = repository.list_trash(source).await?;
    trash.sort_by_key(|copy| (copy.modified, copy.name.clone()));
    let hidden = limit.map_or(0, |limit| trash.len().saturating_sub(limit));
    trash.drain(..hidden);
    if context.console.is_json() {
        trash.iter().try_for_each(|copy| context.console.object(&trash_object(copy)))?;
    } else if trash.is_empty() {
        context.console.say("the trash is empty");
    } else {
        let times = |copy: &Trashed| [copy.set_aside(), copy.undelete_until(), copy.deleted_after()];
        let row = |copy: &Trashed| {
            let times = times(copy).map(|time| human::iso_ms(time.unix_ms));
            std::iter::once(copy.name.manifest.to_string()).chain(times).collect()
        };
        let rows: Vec<Vec<String>> = trash.iter().map(row).collect();
        context.console.show(&human::table(&["MANIFEST", "SET ASIDE", "UNDELETE UNTIL", "DELETED AFTER"], &rows))?;
    }
    Ok(Exit::Done)
}

fn trash_object(copy: &Trashed) -> Value {
    json!({
        "type": "trash",
        "trash": copy.name.to_string(),
        "manifest": copy.name.manifest.to_string(),
        "source": copy.name.manifest.source,
        "set_aside": human::iso_ms(copy.set_aside().unix_ms),
        "undelete_until": human::iso_ms(copy.undelete_until().unix_ms),
        "deleted_after": human::iso_ms(copy.deleted_after().unix_ms),
    })
}
