//! `restore --to`: a snapshot into a running server.
//!
//! ```text
//! plan ─> confirmation ─> rehearsal ─> backup of what is there ─> upload ─> settling ─> what is left to do
//! ```
//! Until the upload nothing is changed. An upload that is broken off is refused by the server.

use super::args::Restore;
use super::console::Console;
use super::context::{Context, Need};
use super::error::CliError;
use super::human;
use super::list::iso;
use super::prompt::TerminalPrompt;
use super::restore::Keystore;
use super::servers::Server;
use crate::archive::backup::{BackupOptions, Input, SourceSpec, backup};
use crate::archive::restore_service::{Concern, LABEL_BEFORE_RESTORE, ServicePlan, next_steps, plan};
use crate::archive::{ArchiveError, Repository};
use crate::exit::Exit;
use crate::source::ServiceKind;
use crate::source::restore::Settled;
use hah_vault_format::manifest::ManifestLabel;
use hah_vault_format::{Manifest, ManifestName, SourceName};
use serde_json::json;
use std::cell::Cell;

pub(super) async fn run(context: &Context, args: &Restore, to: &SourceName) -> Result<Exit, CliError> {
    let options = &args.server;
    if !options.yes && !options.dry_run && !TerminalPrompt::can_ask() {
        return Err(CliError::usage(
            "a restore into a server has to be confirmed, and there is no terminal to ask on",
            "pass --yes, or --dry-run to see what would be done",
        ));
    }
    let unknown = || {
        CliError::usage(
            format!("{to} is no server"),
            "--to takes vault, consul, nomad, or the name of a configured source",
        )
    };
    let server = context.servers.find(to).await?.ok_or_else(unknown)?;
    let repository = context.repository(Need::Reader, "restore").await?;
    // What `@latest` means is settled before a backup makes it mean something else.
    let name = repository.resolve(&args.manifest).await?;
    refuse_what_was_replaced(&repository, &args.manifest, &name).await?;
    let target = server.target();
    let plan = plan(&repository, &name, target.as_ref(), args.force).await?.aimed_at(to);
    let keystore = match &args.keystore {
        Some(_) if plan.kind != ServiceKind::Nomad => {
            return Err(CliError::usage(
                format!("--keystore is of no use: {to} is {}", plan.kind),
                "only Nomad has such a folder",
            ));
        }
        Some(folder) => Some(Keystore::open(&repository, &name, folder, args.force).await?),
        None => None,
    };
    let run = Run { context, args, to, repository: &repository, plan: &plan };
    run.show();
    run.confirm()?;
    context.console.say("checking the whole snapshot before anything is sent");
    let rehearsed = plan.rehearse(&repository, &context.cancel).await?;
    context.console.finish_progress();
    if options.dry_run {
        context.console.say("the snapshot is sound; nothing was sent (--dry-run)");
        return run.tell(None, None, None).map(|()| Exit::Done);
    }
    let before = if options.no_backup_first { None } else { Some(run.back_up_first(&server).await?) };
    let key_files = match keystore {
        Some(keystore) => Some(keystore.write(context).await?),
        None => None,
    };
    let underway = Underway { console: &context.console, kind: plan.kind, phase: Cell::new(Phase::Sending) };
    context.console.say(&format!("sending it to {} at {}", plan.kind, plan.preflight.address));
    let sent = rehearsed.send(&repository, target.as_ref(), &context.cancel).await;
    context.console.finish_progress();
    underway.phase.set(Phase::Settling);
    let settled = match sent {
        Ok(sent) => {
            context.console.say(&format!("waiting until {} works again", plan.kind));
            sent.settle(&repository, target.as_ref(), options.settle_limit, &context.cancel).await
        }
        Err(error) => Err(error),
    };
    underway.phase.set(Phase::Over);
    let settled = settled.inspect_err(|_| run.say_way_back(before.as_ref()))?;
    run.tell(before.as_ref(), key_files, Some(&settled))?;
    Ok(Exit::Done)
}

/// After a restore, also one that failed, `@latest` is what the server held before it: whoever types the same command
/// again means something else.
pub(super) async fn refuse_what_was_replaced(
    repository: &Repository,
    typed: &str,
    name: &ManifestName,
) -> Result<(), CliError> {
    if !typed.contains('@') {
        return Ok(());
    }
    let manifest = repository.open_manifest(name).await?;
    match manifest.labels.iter().find(|label| label.key == LABEL_BEFORE_RESTORE) {
        None => Ok(()),
        Some(ManifestLabel { value: restored, .. }) => Err(CliError::usage(
            format!("{typed} is {name}, which was made when {restored} was about to replace it"),
            format!("name the one that is meant in full: {restored} to restore that again, {name} to go back"),
        )),
    }
}

/// What is going on when a signal ends it all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Sending,
    Settling,
    Over,
}

/// Says when dropped in the middle what that leaves behind.
struct Underway<'c> {
    console: &'c Console,
    kind: ServiceKind,
    phase: Cell<Phase>,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let kind = self.kind;
        match self.phase.get() {
            Phase::Sending => self.console.warning(
                None,
                &format!(
                    "the upload was broken off, and {kind} takes nothing but whole snapshots: it holds what it held, \
                     unless all of it had been sent and only the answer was missing: then it holds the snapshot, or soon \
                     will; look at it"
                ),
            ),
            Phase::Settling => self
                .console
                .warning(None, &format!("{kind} has taken the snapshot; whether it works again was not waited for")),
            Phase::Over => {}
        }
    }
}

/// A restore, from its plan on.
struct Run<'r> {
    context: &'r Context,
    args: &'r Restore,
    to: &'r SourceName,
    repository: &'r Repository,
    plan: &'r ServicePlan,
}

impl Run<'_> {
    fn show(&self) {
        let console = &self.context.console;
        let Self { to, plan, .. } = self;
        let (manifest, target) = (&plan.manifest, &plan.preflight);
        let name = &manifest.name;
        let now = self.repository.world.host_unix_ms();
        let label = |key: &str| manifest.labels.iter().find(|label| label.key == key).map(|label| label.value.clone());
        let snapshot = [
            Some(format!("{} ({})", iso(name.time), human::age(name.time.unix_s(), now))),
            Some(human::size(manifest.original.len_bytes)),
            label("server-version").map(|version| format!("version {version}")),
            cluster(label("cluster-name"), label("cluster-id")),
            manifest.raft.as_ref().map(|raft| format!("Raft index {}", raft.index)),
        ];
        let into = [
            Some(format!("{} at {}", plan.kind, target.address)),
            target.version.as_ref().map(|version| format!("version {version}")),
            cluster(target.cluster_name.clone(), target.cluster_id.clone()),
            target.index.map(|index| format!("Raft index {index}")),
        ];
        let first = match self.args.server.no_backup_first {
            true => "not backed up first (--no-backup-first): nothing leads back".to_owned(),
            false => format!("backed up first, as a snapshot of {to}"),
        };
        let rows = [
            ("restore", name.to_string()),
            ("of", joined(snapshot)),
            ("into", joined(into)),
            ("lost", format!("everything that {} holds now and the snapshot does not", plan.kind)),
            ("what is there", first),
        ];
        console.say(&human::fields(&rows));
        plan.concerns.iter().for_each(|concern| console.warning(None, &concern.to_string()));
    }

    /// Asks on the terminal; what looks like a mistake takes more than a `yes`.
    fn confirm(&self) -> Result<(), CliError> {
        let options = &self.args.server;
        if options.yes || options.dry_run {
            return Ok(());
        }
        let is_grave = self.plan.concerns.iter().any(Concern::is_grave) || self.args.force;
        let expected = if is_grave { self.to.as_str() } else { "yes" };
        let question = match is_grave {
            true => format!("Something above is unusual. Replace all that {} holds? Type its name to go on:", self.to),
            false => format!("Replace all that {} holds? Type yes to go on:", self.to),
        };
        match self.context.ask(&question) {
            Some(answer) if answer.eq_ignore_ascii_case(expected) => Ok(()),
            _ => Err(CliError::NotConfirmed),
        }
    }

    async fn back_up_first(&self, server: &Server) -> Result<Manifest, CliError> {
        let Self { context, to, plan, .. } = self;
        context.console.say(&format!("backing up what {to} holds now"));
        let label = ManifestLabel { key: LABEL_BEFORE_RESTORE.into(), value: plan.manifest.name.to_string() };
        // A new or broken server holds little: that is why something is restored into it.
        let options = BackupOptions { compare: false, labels: vec![label], ..BackupOptions::default() };
        let source = SourceSpec { name: (*to).clone(), input: Input::Service(server.service()) };
        let outcomes = backup(self.repository, vec![source], &options, &context.cancel).await;
        context.console.finish_progress();
        let none = || ArchiveError::Internal("a backup without an outcome".into());
        let report = outcomes.and_then(|outcomes| outcomes.into_iter().next().map_or_else(|| Err(none()), |(_, o)| o));
        match report {
            Ok(report) => Ok(report.manifest),
            Err(ArchiveError::Interrupted) => Err(ArchiveError::Interrupted.into()),
            Err(error) => Err(CliError::BackupFirst { to: (*to).clone(), source: Box::new(error) }),
        }
    }

    fn say_way_back(&self, before: Option<&Manifest>) {
        if let Some(before) = before {
            self.context.console.say(&way_back(&before.name, self.to));
        }
    }

    /// How it went; without `settled` nothing was sent.
    fn tell(
        &self,
        before: Option<&Manifest>,
        key_files: Option<usize>,
        settled: Option<&Settled>,
    ) -> Result<(), CliError> {
        let Self { context, to, plan, .. } = self;
        let name = &plan.manifest.name;
        let steps = settled.map(|settled| next_steps(plan, settled, key_files.is_some())).unwrap_or_default();
        let console = &context.console;
        if console.is_json() {
            let target = &plan.preflight;
            let (outcome, index_after) = match settled {
                None => (None, None),
                Some(Settled::Active { index, .. }) => (Some("active"), *index),
                Some(Settled::Sealed) => (Some("sealed"), None),
            };
            return console.object(&json!({
                "type": "restore_to",
                "manifest": name.to_string(),
                "to": to,
                "service": plan.kind.to_string().to_lowercase(),
                "address": target.address.to_string(),
                "version": target.version,
                "cluster_id": target.cluster_id,
                "cluster_name": target.cluster_name,
                "index_before": target.index,
                "index_after": index_after,
                "concerns": plan.concerns.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "before": before.map(|before| before.name.to_string()),
                "outcome": outcome,
                "keystore_files": key_files,
                "next_steps": steps,
            }));
        }
        let Some(settled) = settled else { return Ok(()) };
        let state = match settled {
            Settled::Active { index: Some(index), .. } => format!("it works again, at Raft index {index}"),
            Settled::Active { index: None, .. } => "it works again".to_owned(),
            Settled::Sealed => "it is sealed now".to_owned(),
        };
        console.say(&format!("restored {name} into {to}: {state}"));
        self.say_way_back(before);
        steps.iter().for_each(|step| console.say(&format!("next: {step}")));
        Ok(())
    }
}

fn way_back(before: &ManifestName, to: &SourceName) -> String {
    format!("what {to} held before is {before}; to go back: hah-vault restore {before} --to {to}")
}

fn cluster(name: Option<String>, id: Option<String>) -> Option<String> {
    let (name, id) = (name.unwrap_or_default(), id.unwrap_or_default());
    (!name.is_empty() || !id.is_empty()).then(|| format!("cluster {}", format!("{name} {id}").trim()))
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
