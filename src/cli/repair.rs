//! `repair`.

use super::args::Repair;
use super::context::Context;
use super::error::{CliError, chain};
use super::verify::reader_or_writer;
use crate::archive::ArchiveError;
use crate::archive::repair::{Action, Outcome, RepairOptions, execute, plan};
use crate::exit::Exit;
use serde_json::json;
use std::collections::BTreeSet;

pub(super) async fn run(context: &Context, args: Repair) -> Result<Exit, CliError> {
    let repository = reader_or_writer(context, "repair").await?;
    let mut give_up = BTreeSet::new();
    for text in &args.give_up {
        give_up.insert(repository.resolve(text).await?);
    }
    let state = context.state(&repository);
    let options = RepairOptions { read_data: args.read_data, give_up, state: state.as_ref() };
    let (plan, _) = plan(&repository, &options, &context.cancel).await?;
    context.console.finish_progress();
    let mut left = !plan.left.is_empty();
    for action in &plan.actions {
        if args.dry_run {
            tell(context, action, None)?;
            left = true;
            continue;
        }
        match execute(&repository, action, &context.cancel).await {
            Ok(outcome) => tell(context, action, Some(&outcome))?,
            Err(ArchiveError::Interrupted) => return Err(ArchiveError::Interrupted.into()),
            Err(error) => {
                left = true;
                context.console.warning(None, &format!("{} is left as it is: {}", action.key(), chain(&error)));
            }
        }
    }
    for (key, why) in &plan.left {
        context.console.warning(None, &format!("{key} is left as it is: {why}"));
    }
    if plan.actions.is_empty() && plan.left.is_empty() {
        context.console.say("nothing to repair");
    }
    Ok(if left { Exit::Partial } else { Exit::Done })
}

/// `None`: it was not tried.
fn tell(context: &Context, action: &Action, outcome: Option<&Outcome>) -> Result<(), CliError> {
    let key = action.key();
    let set_aside = match outcome {
        Some(Outcome::Done { set_aside }) => set_aside.as_deref(),
        _ => None,
    };
    let word = match outcome {
        None => "planned",
        Some(Outcome::Done { .. }) => "done",
        Some(Outcome::Sound) => "sound",
    };
    if context.console.is_json() {
        let (action, object) = (action.as_str(), &key);
        return context.console.object(&json!({
            "type": "repair", "object": object, "action": action, "outcome": word, "set_aside": set_aside,
        }));
    }
    let text = match (outcome, action) {
        (Some(Outcome::Sound), _) => format!("{key}: a second look found nothing wrong"),
        (_, Action::SetAside { flaw, .. }) => format!("{key}: set aside: {flaw}"),
        (_, Action::RebuildIndex { .. }) => format!("{key}: made again from its pack"),
        (_, Action::WriteHint { .. }) => format!("{key}: written again"),
    };
    let text = if outcome.is_none() { format!("would do: {text}") } else { text };
    let to = set_aside.map(|to| format!("; what was there is {to} now")).unwrap_or_default();
    context.console.report(&format!("{text}{to}\n"))
}
