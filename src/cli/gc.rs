//! `gc`.

use super::args::Gc;
use super::console::Console;
use super::context::{Context, Need};
use super::error::CliError;
use super::human;
use super::list::iso;
use super::retention::Retention;
use super::telemetry::Job;
use crate::archive::gc::budget::Budget;
use crate::archive::gc::{GcOptions, GcReport, Plan, Row, execute, plan};
use crate::archive::host_state::HostState;
use crate::archive::manifests::sources;
use crate::archive::retention::{Reason, Verdict};
use crate::archive::{ArchiveError, GRACE, Repository};
use crate::exit::Exit;
use crate::store::{Counts, RecordingStore};
use crate::telemetry::Collected;
use hah_vault_format::{ManifestName, SourceName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn run(context: &Context, args: Gc) -> Result<Exit, CliError> {
    if args.grace < GRACE && !args.exclusive {
        let hint = "--exclusive allows it: a promise that no backup, gc or undelete runs until this one is done";
        return Err(CliError::usage("--grace is less than the 24h that every backup relies on", hint));
    }
    let Retention { policy, policies } =
        args.keep.policy().map_or_else(|| Retention::of(&context.settings), |policy| Ok(Retention::one(policy)))?;
    if !args.dry_run {
        context.telemetry.begin(Job::Gc);
    }
    let repository = context.repository(Need::Writer, "gc").await?;
    let counter = Arc::new(RecordingStore::new(repository.store.clone()));
    let repository = Repository { store: counter.clone(), ..repository };
    let options = GcOptions {
        policy,
        policies,
        source: args.source.clone(),
        grace: args.grace,
        exclusive: args.exclusive,
        ignore: args.ignore.clone(),
        damaged: context.state(&repository).as_ref().map(HostState::damaged).unwrap_or_default(),
        force: args.force,
        ..GcOptions::default()
    };
    let plan = plan(&repository, &options, &context.cancel).await?;
    let names: Vec<ManifestName> = plan.rows.iter().map(|row| row.name.clone()).collect();
    let sources = sources(&names);
    if let Some(source) = args.source.as_ref().filter(|source| !sources.is_empty() && !sources.contains(source)) {
        return Err(ArchiveError::NoSource { text: source.to_string(), sources }.into());
    }
    let console = &context.console;
    warn(console, &plan, &args);
    if console.is_json() {
        plan.rows.iter().try_for_each(|row| console.object(&row_object(row)))?;
    } else if args.dry_run || console.is_verbose() {
        let rows: Vec<Vec<String>> = plan.rows.iter().map(|row| cells(row, plan.start.unix_ms)).collect();
        console.report(&human::table(&["MANIFEST", ">AGE", "", "WHY"], &rows))?;
    }
    let report =
        if args.dry_run { plan.foretell() } else { execute(&repository, &plan, &options, &context.cancel).await? };
    complain(console, &report);
    let told = Told { args: &args, plan: &plan, report: &report, counts: counter.counts() };
    if console.is_json() {
        console.object(&told.object())?;
    } else {
        console.report(&told.text())?;
    }
    let complete = report.is_complete() && plan.blocked_by.is_empty();
    if !args.dry_run {
        context.telemetry.end_gc(collected(&plan, &report, complete), args.budget);
    }
    Ok(if complete { Exit::Done } else { Exit::Partial })
}

/// The same for monitoring.
pub(super) fn collected(plan: &Plan, report: &GcReport, is_complete: bool) -> Collected {
    let deleted = [report.trash, report.packs, report.indexes, report.leftovers];
    Collected {
        retired_manifests: report.retired.len() as u64,
        deleted_objects: deleted.iter().map(|amount| amount.count).sum(),
        deleted_bytes: report.freed_bytes(),
        waiting_bytes: plan.later_bytes.unwrap_or(0),
        is_complete,
    }
}

/// What a plan says that somebody should know.
fn warn(console: &Console, plan: &Plan, args: &Gc) {
    for what in &plan.blocked_by {
        console.warning(None, &format!("no pack is deleted, because this does not open: {what}"));
    }
    for name in &plan.ignored {
        console.warning(Some(&name.source), &format!("{name} does not open and is ignored: packs it needs may go"));
    }
    for name in &plan.ignored_in_vain {
        console
            .warning(Some(&name.source), &format!("{name} is not among those that do not open: --ignore is needless"));
    }
    for row in plan.rows.iter().filter(|row| has(row, Reason::Future)) {
        let text = format!("{} claims a time that has not come yet: it is kept, and counts for nothing", row.name);
        console.warning(Some(&row.name.source), &text);
    }
    for (source, count) in damaged(plan) {
        let text = format!(
            "{count} snapshots cannot be restored, because packs are gone or damaged: they take no place of whole ones, \
             and `hah-vault verify` says more"
        );
        console.warning(Some(source), &text);
    }
    if args.dry_run && !args.force {
        for too_many in &plan.too_many {
            let text = format!("{} of {} snapshots would go: that takes --force", too_many.dropped, too_many.of);
            console.warning(Some(&too_many.source), &text);
        }
    }
}

/// How many snapshots of each source need packs that are not there.
fn damaged(plan: &Plan) -> BTreeMap<&SourceName, usize> {
    let mut counts = BTreeMap::new();
    for row in plan.rows.iter().filter(|row| row.lost.is_some()) {
        *counts.entry(&row.name.source).or_default() += 1;
    }
    counts
}

/// What was not done.
fn complain(console: &Console, report: &GcReport) {
    if let Some(refusal) = &report.refusal {
        console.warning(None, &format!("{} objects are still there: {refusal}", report.refused));
    }
    if report.late > 0 {
        console.warning(None, &format!("{} snapshots are left for the next gc", report.late));
    }
    for name in &report.held_meanwhile {
        let text =
            format!("{name} was held while it was being dropped: bring it back with `hah-vault undelete {name}`");
        console.warning(Some(&name.source), &text);
    }
}

fn has(row: &Row, reason: Reason) -> bool {
    matches!(&row.verdict, Verdict::Keep(reasons) if reasons.contains(&reason))
}

fn cells(row: &Row, now_unix_ms: i64) -> Vec<String> {
    let (verdict, why) = match &row.verdict {
        Verdict::Keep(reasons) => ("stays", reasons.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ")),
        Verdict::Drop { instead: Some(other) } => ("goes", format!("its day keeps {}", other.stem())),
        Verdict::Drop { instead: None } => ("goes", "no rule keeps it".into()),
    };
    let why = row.lost.map_or(why.clone(), |lost| format!("{why} ({lost})"));
    vec![row.name.to_string(), human::age(row.name.time.unix_s(), now_unix_ms), verdict.into(), why]
}

pub(super) fn row_object(row: &Row) -> Value {
    let (keep, reasons, instead) = match &row.verdict {
        Verdict::Keep(reasons) => (true, reasons.iter().map(|r| r.as_str()).collect::<Vec<_>>(), None),
        Verdict::Drop { instead } => (false, Vec::new(), instead.as_ref().map(ToString::to_string)),
    };
    json!({
        "type": "gc_manifest",
        "manifest": row.name.to_string(),
        "source": row.name.source,
        "time": iso(row.name.time),
        "keep": keep,
        "reasons": reasons,
        "instead": instead,
        "lost_packs": row.lost,
    })
}

/// Everything that the summary is made of.
pub(super) struct Told<'t> {
    pub args: &'t Gc,
    pub plan: &'t Plan,
    pub report: &'t GcReport,
    pub counts: Counts,
}

impl Told<'_> {
    fn text(&self) -> String {
        let Self { args, plan, report, counts } = self;
        let mut text = self.sources();
        let (drop, delete) = if args.dry_run { ("would go", "would be deleted") } else { ("set aside", "deleted") };
        if !report.retired.is_empty() {
            let until = human::iso_ms(plan.undelete_until().unix_ms);
            let count = report.retired.len();
            text.push_str(&format!("{count} snapshots {drop}: `hah-vault undelete` brings them back until {until}\n"));
        }
        text.push_str(&format!(
            "{delete}: {} packs, {} indexes, {} trash copies, {} leftovers: {}\n",
            report.packs.count,
            report.indexes.count,
            report.trash.count,
            report.leftovers.count,
            human::size(report.freed_bytes()),
        ));
        if let Some(later_bytes) = plan.later_bytes.filter(|bytes| *bytes > 0) {
            let after = human::size(later_bytes);
            text.push_str(&format!("freed by a later gc, once the grace has passed: {after}\n"));
        }
        text.push_str(&format!("operations: {} of class A, {} of class B\n", counts.class_a(), counts.class_b()));
        if let Some(budget) = args.budget {
            text.push_str(&budget_text(&plan.budget(budget)));
        }
        text
    }

    /// How many of each source stay and go.
    fn sources(&self) -> String {
        let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
        for row in &self.plan.rows {
            counts.entry(row.name.source.as_str()).or_default()[usize::from(!row.verdict.keeps())] += 1;
        }
        let row = |(source, [keep, drop]): (&str, [usize; 2])| vec![source.into(), keep.to_string(), drop.to_string()];
        let rows: Vec<Vec<String>> = counts.into_iter().map(row).collect();
        if rows.is_empty() { String::new() } else { human::table(&["SOURCE", ">STAY", ">GO"], &rows) + "\n" }
    }

    pub(super) fn object(&self) -> Value {
        let Self { args, plan, report, counts } = self;
        json!({
            "type": "gc",
            "dry_run": args.dry_run,
            "time": human::iso_ms(plan.start.unix_ms),
            "kept": plan.rows.iter().filter(|row| row.verdict.keeps()).count(),
            "dropped": report.retired.len(),
            "undelete_until": human::iso_ms(plan.undelete_until().unix_ms),
            "trash_deleted": report.trash.count,
            "packs_deleted": report.packs.count,
            "indexes_deleted": report.indexes.count,
            "leftovers_deleted": report.leftovers.count,
            "freed_bytes": report.freed_bytes(),
            "later_bytes": plan.later_bytes,
            "left": report.late,
            "refused": report.refused,
            "held_meanwhile": report.held_meanwhile.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "blocked_by": plan.blocked_by,
            "class_a": counts.class_a(),
            "class_b": counts.class_b(),
            "budget": args.budget.map(|budget| plan.budget(budget)),
        })
    }
}

fn budget_text(budget: &Budget) -> String {
    let (of, stored) = (human::size(budget.budget_bytes), human::size(budget.stored_bytes));
    let lasts = match (budget.lasts_days, budget.growth) {
        (Some(0), _) => "it is used up".into(),
        (Some(days), _) => format!("it lasts {days} days"),
        (None, Some(_)) => "it lasts for ever: nothing grows".into(),
        (None, None) => "how long it lasts cannot be said before there is a day of history".into(),
    };
    let growth = budget.growth.map_or_else(String::new, |growth| {
        let days = growth.window_hours / 24;
        format!(", {} a day by what stays of the last {days} days", human::size(growth.bytes_per_day))
    });
    format!("budget of {of}: {stored} used{growth}; {lasts}\n")
}
