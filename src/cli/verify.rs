//! `verify`.

use super::args::Verify;
use super::context::{Context, Need};
use super::error::{CliError, chain};
use super::telemetry::Job;
use super::{drill, human};
use crate::archive::verify::report::{Affected, Damage, Lost, Report};
use crate::archive::verify::{Rehearse, VerifyOptions, Wanted, verify};
use crate::archive::{ArchiveError, Monitor, Repository};
use crate::exit::Exit;
use crate::store::RecordingStore;
use crate::telemetry::Depth;
use hah_vault_format::{ManifestName, SourceName};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn run(context: &Context, args: Verify) -> Result<Exit, CliError> {
    if let Some(kind) = args.drill {
        return drill::run(context, &args, kind).await;
    }
    let depths = [(Depth::Structure, true), (Depth::Data, args.read_data.is_some()), (Depth::Rehearsal, args.rehearse)];
    for (depth, _) in depths.into_iter().filter(|(_, is_wanted)| *is_wanted) {
        context.telemetry.begin(Job::Verify(depth));
    }
    let mut repository = match args.rehearse {
        true => context.repository(Need::Reader, "verify --rehearse").await?,
        false if args.read_data.is_some() => reader_or_writer(context, "verify").await?,
        false => context.repository(Need::Writer, "verify").await?,
    };
    let recording = Arc::new(RecordingStore::new(Arc::clone(&repository.store)));
    repository.store = recording.clone();
    let state = context.state(&repository);
    let options = VerifyOptions {
        wanted: repository.wanted(&args.wanted).await?,
        read_data: args.read_data,
        rehearse: args.rehearse.then_some(if args.all { Rehearse::All } else { Rehearse::Newest }),
        state: state.as_ref(),
        ..VerifyOptions::default()
    };
    let mut report = verify(&repository, &options, &context.cancel).await?;
    context.telemetry.end_verify(&report);
    context.console.finish_progress();
    report.operations = Some(recording.counts());
    if let Some(state) = state.filter(|_| args.accept_lost) {
        let lost = std::mem::take(&mut report.chain.lost);
        let names: Vec<ManifestName> = lost.into_iter().map(|lost| lost.name).collect();
        state.forget(&names)?;
        state.save_keys(&Default::default())?;
    }
    if context.console.is_json() {
        objects(&report).iter().try_for_each(|object| context.console.object(object))?;
    } else {
        tell(context, &report)?;
    }
    Ok(if report.is_damaged() { Exit::Partial } else { Exit::Done })
}

/// For the agent: everything, or one source; and what its run came to.
pub(super) async fn for_agent(
    context: &Context,
    source: Option<&SourceName>,
    read_data: Option<u8>,
    rehearse: bool,
    monitor: Arc<dyn Monitor>,
) -> Result<(Report, Value), CliError> {
    let repository = match (rehearse, read_data) {
        (true, _) => context.repository(Need::Reader, "a rehearsal").await?,
        (false, Some(_)) => reader_or_writer(context, "verify").await?,
        (false, None) => context.repository(Need::Writer, "verify").await?,
    };
    let recording = Arc::new(RecordingStore::new(Arc::clone(&repository.store)));
    let repository = Repository { store: Arc::clone(&recording) as _, monitor, ..repository };
    let state = context.state(&repository);
    let options = VerifyOptions {
        wanted: Wanted { sources: source.into_iter().cloned().collect(), ..Wanted::default() },
        read_data,
        rehearse: rehearse.then_some(Rehearse::Newest),
        state: state.as_ref(),
        ..VerifyOptions::default()
    };
    let mut report = verify(&repository, &options, &context.cancel).await?;
    report.operations = Some(recording.counts());
    let mut result = summary(&report);
    result["damage"] = report.damage.iter().map(damage_object).collect();
    result["damaged_snapshots"] = report.affected.iter().map(affected_object).collect();
    result["lost_snapshots"] = report.chain.lost.iter().map(lost_object).collect();
    Ok((report, result))
}

/// What is wrong, in one line.
pub(super) fn worst(report: &Report) -> String {
    let damage = report.damage.first().map(damage_words);
    damage.or_else(|| report.chain.lost.first().map(lost_words)).unwrap_or_else(|| "something is damaged".into())
}

/// With an identity where there is one that fits; the writer key will do otherwise.
pub(super) async fn reader_or_writer(context: &Context, what: &'static str) -> Result<Repository, CliError> {
    match context.repository(Need::Reader, what).await {
        Err(CliError::NoKey { .. }) => {}
        Err(CliError::Archive(error)) if matches!(*error, ArchiveError::NoIdentity { .. }) => {
            context.console.warning(None, &format!("{}; packs are not opened", chain(&*error)));
        }
        opened => return opened,
    }
    context.repository(Need::Writer, what).await
}

fn tell(context: &Context, report: &Report) -> Result<(), CliError> {
    let console = &context.console;
    for damage in &report.damage {
        console.warning(None, &damage_words(damage));
    }
    if report.damage.is_empty() {
        // The table is not shown with -q, and nothing else tells of them.
        for Affected { name, reasons, .. } in &report.affected {
            console.warning(Some(&name.source), &format!("{name} cannot be restored: {}", reasons.join("; ")));
        }
    }
    for lost in &report.chain.lost {
        console.warning(Some(&lost.name.source), &lost_words(lost));
    }
    for name in &report.chain.future {
        console.warning(Some(&name.source), &format!("{name} claims a time that has not come yet"));
    }
    let mut text = String::new();
    if !report.affected.is_empty() {
        let row = |affected: &Affected| {
            let newest = if affected.is_newest { "newest" } else { "" };
            vec![affected.name.to_string(), newest.into(), affected.reasons.join("; ")]
        };
        let rows: Vec<Vec<String>> = report.affected.iter().map(row).collect();
        text += &human::table(&["DAMAGED SNAPSHOT", "", "WHY"], &rows);
        text.push('\n');
    }
    let rows: Vec<Vec<String>> = report
        .structure
        .sources
        .iter()
        .map(|(source, counts)| {
            let damaged = counts.snapshots - counts.whole;
            vec![source.to_string(), counts.snapshots.to_string(), counts.whole.to_string(), damaged.to_string()]
        })
        .collect();
    text += &human::table(&["SOURCE", ">SNAPSHOTS", ">WHOLE", ">DAMAGED"], &rows);
    text.push('\n');
    if report.is_damaged() {
        text += "not everything is as it should be; apart from what is named above:\n";
    }
    for proved in report.proved() {
        text += &format!("{proved}\n");
    }
    text += &rest(report);
    console.report(&text)
}

/// What was not proved, and what it cost.
fn rest(report: &Report) -> String {
    let mut text = String::new();
    let chain = &report.chain;
    if chain.retired + chain.expired > 0 {
        text += &format!(
            "{} older snapshots are gone as gc does it: {} of them lie in the trash\n",
            chain.retired + chain.expired,
            chain.retired
        );
    }
    if let Some(days) = report.data.and_then(|data| data.oldest_days) {
        text += &format!("every pack was read within the last {days} days\n");
    }
    if report.rehearsed.is_none() {
        text += "not tried: --rehearse, which puts the newest snapshots together\n";
    }
    if let Some(operations) = &report.operations {
        let asked = operations.get + operations.stat;
        text += &format!(
            "asked of the store: {asked} reads ({}), {} listings, {} writes\n",
            human::size(operations.get_bytes),
            operations.list,
            operations.put
        );
    }
    text
}

fn damage_words(damage: &Damage) -> String {
    let Damage { key, flaw, detail, snapshots, healing } = damage;
    let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let snapshots = match snapshots {
        0 => String::new(),
        1 => "; 1 snapshot is damaged by it".into(),
        n => format!("; {n} snapshots are damaged by it"),
    };
    format!("{key}: {flaw}{detail}{snapshots}; {healing}")
}

fn lost_words(lost: &Lost) -> String {
    let Lost { name, child, is_newest } = lost;
    let who = match child {
        Some(child) => format!("{child} was made upon it"),
        None => "this host has seen it".into(),
    };
    let why = if *is_newest {
        "nothing newer is there: the store was rolled back, or somebody deleted it"
    } else {
        "it is too young for gc: somebody deleted or hides it, unless gc ran with --exclusive"
    };
    format!("{name} is gone, {who}, and {why}")
}

fn objects(report: &Report) -> Vec<Value> {
    let mut objects: Vec<Value> = report.damage.iter().map(damage_object).collect();
    objects.extend(report.affected.iter().map(affected_object));
    objects.extend(report.chain.lost.iter().map(lost_object));
    objects.push(summary(report));
    objects
}

fn damage_object(damage: &Damage) -> Value {
    json!({
        "type": "damage",
        "object": damage.key,
        "flaw": damage.flaw.as_str(),
        "detail": damage.detail,
        "snapshots": damage.snapshots,
        "healing": damage.healing.as_str(),
    })
}

fn affected_object(affected: &Affected) -> Value {
    json!({
        "type": "damaged_snapshot",
        "manifest": affected.name.to_string(),
        "source": affected.name.source,
        "newest": affected.is_newest,
        "reasons": affected.reasons,
    })
}

fn lost_object(lost: &Lost) -> Value {
    json!({
        "type": "lost_snapshot",
        "manifest": lost.name.to_string(),
        "source": lost.name.source,
        "child": lost.child.as_ref().map(ToString::to_string),
        "newest": lost.is_newest,
    })
}

fn summary(report: &Report) -> Value {
    let (snapshots, whole) = report.snapshots();
    let structure = &report.structure;
    let data = report.data.map(|data| {
        json!({
            "percent": data.percent,
            "packs": data.packs,
            "packs_bytes": data.packs_bytes,
            "opened": data.opened,
            "chunks": data.chunks,
            "oldest_days": data.oldest_days,
        })
    });
    let rehearsed = report.rehearsed.as_ref().map(|all| {
        let one = |r: &crate::archive::verify::report::Rehearsed| {
            json!({
                "manifest": r.name.to_string(),
                "stream_len_bytes": r.stream_len_bytes,
                "records": r.records,
                "opaque_bytes": r.opaque_bytes,
                "exact": r.exact,
            })
        };
        all.iter().map(one).collect::<Vec<Value>>()
    });
    json!({
        "type": "verify",
        "damaged": report.is_damaged(),
        "snapshots": snapshots,
        "whole": whole,
        "packs": structure.packs,
        "packs_bytes": structure.packs_bytes,
        "unnamed_packs": structure.unnamed_packs,
        "keys": structure.keys,
        "data": data,
        "rehearsed": rehearsed,
        "retired": report.chain.retired,
        "expired": report.chain.expired,
        "lost": report.chain.lost.len(),
        "future": report.chain.future.iter().map(ToString::to_string).collect::<Vec<String>>(),
        "proved": report.proved(),
        "operations": report.operations,
    })
}
