//! `show`: everything in a manifest.

use super::args::Show;
use super::context::{Context, Need};
use super::error::CliError;
use super::human;
use super::list::iso;
use crate::archive::keystore::is_part;
use crate::archive::{Repository, tags};
use crate::exit::Exit;
use hah_vault_format::Manifest;
use hah_vault_format::manifest::{Transform, Wrapper, extents_len_bytes};
use serde_json::{Value, json};

pub(super) async fn run(context: &Context, args: Show) -> Result<Exit, CliError> {
    let repository = context.repository(Need::Writer, "show").await?;
    let name = repository.resolve(&args.manifest).await?;
    let manifest = repository.open_manifest(&name).await?;
    let hold = hold(&repository, &manifest).await?;
    if context.console.is_json() {
        context.console.object(&object(&manifest, hold))?;
    } else {
        context.console.show(&text(&manifest, hold, repository.world.host_unix_ms()))?;
    }
    Ok(Exit::Done)
}

/// The reason of a hold, empty without one; `None` if the manifest is not held.
async fn hold(repository: &Repository, manifest: &Manifest) -> Result<Option<String>, CliError> {
    let held = repository.store.stat(&manifest.name.hold_key()).await?.is_some();
    Ok(if held { Some(repository.hold_reason(&manifest.name).await?.unwrap_or_default()) } else { None })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn wrapper(wrapper: Wrapper) -> (&'static str, &'static str) {
    match wrapper {
        Wrapper::None => ("none", "none"),
        Wrapper::GzipGoTo126 => ("gzip-go-1.26", "gzip by Go up to 1.26: restored byte for byte"),
        Wrapper::GzipUnknown => ("gzip-unknown", "gzip by an unknown encoder: an equivalent one is restored"),
    }
}

/// Exact figures, with the readable ones beside them.
fn bytes(len_bytes: u64) -> String {
    if len_bytes < 1000 { human::size(len_bytes) } else { format!("{} ({len_bytes} B)", human::size(len_bytes)) }
}

fn text(manifest: &Manifest, hold: Option<String>, now_unix_ms: i64) -> String {
    let time = manifest.name.time;
    let counts = &manifest.counts;
    let packs_bytes: u64 = manifest.packs.iter().map(|p| p.object_len_bytes).sum();
    let mut rows = vec![
        ("manifest", manifest.name.to_string()),
        ("time", format!("{} ({})", iso(time), human::age(time.unix_s(), now_unix_ms))),
        ("kind", manifest.kind.as_str().into()),
        ("host", manifest.host.clone()),
        ("tool", manifest.tool.clone()),
        ("parent", manifest.parent.as_ref().map_or_else(|| "none".into(), ToString::to_string)),
        ("key generation", manifest.key_generation.to_string()),
    ];
    if let Some(raft) = &manifest.raft {
        let text = format!("index {}, term {}, version {}, id {}", raft.index, raft.term, raft.version, raft.id);
        rows.push(("raft", text));
    }
    rows.extend(hold.map(|reason| ("held", if reason.is_empty() { "yes".into() } else { reason })));
    let labels = manifest.labels.iter().filter(|label| !is_part(&label.key));
    rows.extend(labels.map(|label| ("label", format!("{} = {}", label.key, label.value))));
    rows.extend([
        ("original", bytes(manifest.original.len_bytes)),
        ("original sha256", hex(&manifest.original.sha256)),
        ("wrapper", wrapper(manifest.original.wrapper).1.into()),
        ("stream", bytes(manifest.stream.len_bytes)),
        ("stream blake3", hex(&manifest.stream.blake3)),
        ("transform", transform_text(&manifest.transform)),
        ("chunks", format!("{}, of these {} new ({})", counts.chunks, counts.chunks_new, bytes(counts.new_bytes))),
        ("chunker", format!("mean {} B, join {} B", manifest.chunker.mean_len_bytes, manifest.chunker.join_len_bytes)),
        ("stored", format!("{} by this run, without the manifest", bytes(counts.stored_bytes))),
        ("packs", format!("{}, {} in all", manifest.packs.len(), bytes(packs_bytes))),
        ("extents", manifest.extents.len().to_string()),
    ]);
    if !manifest.records.is_empty() {
        let records: Vec<String> = manifest.records.iter().map(|r| format!("{}: {}", r.tag, r.count)).collect();
        rows.push(("records", records.join(", ")));
    }
    rows.extend(manifest.packs.iter().map(|p| ("pack", format!("{}  {}", p.id, human::size(p.object_len_bytes)))));
    human::fields(&rows)
}

fn transform_text(transform: &Transform) -> String {
    match transform {
        Transform::None => "none".into(),
        Transform::MapOrder { regions, notes } => {
            let notes_bytes = human::size(extents_len_bytes(notes));
            format!("map order, {} regions, {notes_bytes} of notes in {} extents", regions.len(), notes.len())
        }
    }
}

pub(super) fn object(manifest: &Manifest, hold: Option<String>) -> Value {
    let packs: Vec<Value> = manifest
        .packs
        .iter()
        .map(|p| json!({"id": p.id.to_string(), "object_len_bytes": p.object_len_bytes, "plaintext_len_bytes": p.plaintext_len_bytes}))
        .collect();
    let labels = manifest.labels.iter().filter(|l| !is_part(&l.key));
    let labels: Vec<Value> = labels.map(|l| json!({"key": l.key, "value": l.value})).collect();
    let records: Vec<Value> = manifest.records.iter().map(|r| json!({"tag": r.tag, "count": r.count})).collect();
    let raft = manifest.raft.as_ref();
    let raft = raft.map(|r| json!({"index": r.index, "term": r.term, "version": r.version, "id": r.id}));
    let regions = match &manifest.transform {
        Transform::None => 0,
        Transform::MapOrder { regions, .. } => regions.len(),
    };
    json!({
        "type": "manifest",
        "manifest": manifest.name.to_string(),
        "source": manifest.name.source,
        "time": iso(manifest.name.time),
        "kind": manifest.kind.as_str(),
        "host": manifest.host,
        "tool": manifest.tool,
        "parent": manifest.parent.as_ref().map(ToString::to_string),
        "key_generation": manifest.key_generation,
        "raft": raft,
        "labels": labels,
        "tags": tags::of(manifest).iter().map(tags::Tag::as_str).collect::<Vec<_>>(),
        "held": hold.is_some(),
        "hold_reason": hold.filter(|reason| !reason.is_empty()),
        "wrapper": wrapper(manifest.original.wrapper).0,
        "original_len_bytes": manifest.original.len_bytes,
        "original_sha256": hex(&manifest.original.sha256),
        "stream_len_bytes": manifest.stream.len_bytes,
        "stream_blake3": hex(&manifest.stream.blake3),
        "regions": regions,
        "notes_len_bytes": extents_len_bytes(manifest.notes()),
        "chunker_mean_len_bytes": manifest.chunker.mean_len_bytes,
        "chunker_join_len_bytes": manifest.chunker.join_len_bytes,
        "chunks": manifest.counts.chunks,
        "chunks_new": manifest.counts.chunks_new,
        "new_bytes": manifest.counts.new_bytes,
        "stored_bytes": manifest.counts.stored_bytes,
        "extents": manifest.extents.len(),
        "records": records,
        "packs": packs,
    })
}
