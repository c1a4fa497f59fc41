//! `stats`.

use super::context::{Context, Need};
use super::error::CliError;
use super::human;
use crate::archive::stats::{SourceStats, Stats, stats};
use crate::exit::Exit;
use hah_vault_format::text::Scope;
use serde_json::{Value, json};

pub(super) async fn run(context: &Context) -> Result<Exit, CliError> {
    let repository = context.repository(Need::Writer, "stats").await?;
    let stats = stats(&repository, &context.cancel).await?;
    if context.console.is_json() {
        context.console.object(&object(&stats))?;
    } else {
        context.console.show(&text(&stats))?;
    }
    // The others' manifests are not unreadable, only not for this key.
    let unreadable = match &repository.keyring.writer.scope {
        Scope::All => stats.sources.values().map(|s| s.unreadable).sum(),
        Scope::Source(own) => stats.sources.get(own.as_str()).map_or(0, |s| s.unreadable),
    };
    Ok(if unreadable > 0 { Exit::Partial } else { Exit::Done })
}

fn text(stats: &Stats) -> String {
    let row = |(name, s): (&String, &SourceStats)| {
        vec![
            name.clone(),
            s.snapshots.to_string(),
            s.unreadable.to_string(),
            human::size(s.original_bytes),
            s.packs.to_string(),
            human::size(s.pack_bytes),
            human::ratio(s.original_bytes, s.pack_bytes),
        ]
    };
    let rows: Vec<Vec<String>> = stats.sources.iter().map(row).collect();
    let header = ["SOURCE", ">SNAPSHOTS", ">UNREADABLE", ">SIZE", ">PACKS", ">STORED", ">RATIO"];
    let mut text = human::table(&header, &rows);
    text.push('\n');
    let row = |(name, o): (&&str, &crate::archive::stats::Objects)| {
        vec![(*name).to_owned(), o.count.to_string(), human::size(o.len_bytes)]
    };
    let rows: Vec<Vec<String>> = stats.objects.iter().map(row).collect();
    text.push_str(&human::table(&["OBJECTS", ">COUNT", ">SIZE"], &rows));
    let unnamed = &stats.unnamed_packs;
    text.push_str(&format!(
        "\nstored in all: {}, for {} of snapshots ({:.1}x)\nin no snapshot: {} packs, {}\n",
        human::size(stats.stored_bytes),
        human::size(stats.sources.values().map(|s| s.original_bytes).sum()),
        stats.ratio,
        unnamed.count,
        human::size(unnamed.len_bytes),
    ));
    text
}

fn object(stats: &Stats) -> Value {
    json!({
        "type": "stats",
        "objects": stats.objects,
        "sources": stats.sources,
        "unnamed_packs": stats.unnamed_packs,
        "stored_bytes": stats.stored_bytes,
        "ratio": stats.ratio,
    })
}
