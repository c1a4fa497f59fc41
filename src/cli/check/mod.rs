//! `check`: everything that a backup needs, tested without taking a snapshot. No test stops another.

mod finding;
mod server;
mod store;

use super::args::Check;
use super::context::Context;
use super::error::CliError;
use super::human;
use super::settings::{self, Settings};
use crate::config::{Kind, Section, links};
use crate::exit::Exit;
use finding::{Finding, Verdict};
use futures::future::{BoxFuture, join_all};
use std::time::Duration;

/// How long one group of tests may take; each request in it has limits of its own below that.
const GROUP_MAX: Duration = Duration::from_secs(90);
/// How far clocks may be apart: tokens, signatures and certificates have some minutes of tolerance.
const CLOCKS_APART_MAX_S: u64 = 300;

/// What a group of tests found.
#[derive(Debug, Default)]
pub(super) struct Found {
    findings: Vec<Finding>,
    /// Clocks that were seen, and how many seconds they are ahead of this host's.
    clocks: Vec<(String, i64)>,
}

impl Found {
    fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

pub(super) async fn run(context: &Context, args: Check) -> Result<Exit, CliError> {
    let sections = sections(&args, &context.settings)?;
    if sections.is_empty() && context.settings.repository.setting("url").is_none() {
        return Err(CliError::usage(
            "there is nothing to check: no source is configured, and no repository is given",
            "set VAULT_ADDR, CONSUL_HTTP_ADDR or NOMAD_ADDR, or write a configuration file (`hah-vault help config`); \
             --repo checks a repository alone",
        ));
    }
    let mut groups: Vec<BoxFuture<'_, Found>> = vec![limited("store", Box::pin(store::check(context)))];
    for (section, is_source) in &sections {
        let group = server::check(context, section, *is_source);
        groups.push(limited(&section.source_name(), Box::pin(group)));
    }
    let mut findings = vec![configuration(&context.settings, &sections)];
    let mut clocks = Vec::new();
    for found in join_all(groups).await {
        findings.extend(found.findings);
        clocks.extend(found.clocks);
    }
    findings.extend(clock(&clocks));
    tell(context, &findings)?;
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    // The configuration was read, or there would be no test at all.
    let succeeded = findings.iter().skip(1).any(|finding| matches!(finding.verdict, Verdict::Ok | Verdict::Warning));
    Ok(match (failed, succeeded) {
        (0, _) => Exit::Done,
        (_, true) => Exit::Partial,
        _ => Exit::Failed,
    })
}

fn limited<'g>(of: &str, group: BoxFuture<'g, Found>) -> BoxFuture<'g, Found> {
    let of = of.to_owned();
    Box::pin(async move {
        tokio::time::timeout(GROUP_MAX, group).await.unwrap_or_else(|_| {
            let words = format!("no end after {} s", GROUP_MAX.as_secs());
            let late = Finding::new(&of, "time", Verdict::Failed, words);
            Found { findings: vec![late.with_hint("is the server, or the network to it, overloaded?")], clocks: vec![] }
        })
    })
}

/// The blocks to test, and whether snapshots are taken of each: Vaults that only have secrets are tested too.
fn sections(args: &Check, settings: &Settings) -> Result<Vec<(Section, bool)>, CliError> {
    let mut chosen: Vec<Section> = Vec::new();
    for name in &args.sources {
        let unknown = || {
            let configured: Vec<String> = settings.sources().map(Section::source_name).collect();
            let configured = if configured.is_empty() { "none".to_owned() } else { configured.join(", ") };
            CliError::usage(
                format!("{name} is not a source"),
                format!("configured are: {configured}; vault, consul and nomad are known without"),
            )
        };
        chosen.push(settings.source(name.as_str()).ok_or_else(unknown)?);
    }
    if args.sources.is_empty() {
        chosen.extend(settings.sources().filter(|section| section.is_backed_up()).cloned());
    }
    if chosen.is_empty() {
        let kinds = [Kind::Vault, Kind::Consul, Kind::Nomad];
        chosen.extend(kinds.map(settings::environment).into_iter().filter(|s| s.setting("address").is_some()));
    }
    let mut sections: Vec<(Section, bool)> = Vec::new();
    let mut readers: Vec<Section> = vec![settings.repository.clone()];
    for section in chosen {
        readers.push(section.clone());
        if !sections.iter().any(|(other, _)| other.title() == section.title()) {
            sections.push((section, true));
        }
    }
    for reader in readers {
        let needs = reader.references().any(|(_, r)| r.needs_vault()) || reader.setting("kv").is_some();
        if needs {
            let vault = settings.vault_of(&reader)?;
            if !sections.iter().any(|(other, _)| other.title() == vault.title()) {
                sections.push((vault, false));
            }
        }
    }
    Ok(sections)
}

fn configuration(settings: &Settings, sections: &[(Section, bool)]) -> Finding {
    let file = settings.path.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    let names: Vec<String> =
        sections.iter().filter(|(_, is_source)| *is_source).map(|(s, _)| s.source_name()).collect();
    match names.as_slice() {
        [] => Finding::new("configuration", "sources", Verdict::Warning, format!("{file}; no source is configured"))
            .with_hint("name some in the configuration file, or set VAULT_ADDR, CONSUL_HTTP_ADDR, NOMAD_ADDR"),
        names => Finding::ok("configuration", "sources", format!("{file}; sources: {}", names.join(", "))),
    }
}

/// Clocks that are far from this host's, or all of them in one line.
fn clock(clocks: &[(String, i64)]) -> Vec<Finding> {
    let apart: Vec<Finding> = clocks
        .iter()
        .filter(|(_, ahead_s)| ahead_s.unsigned_abs() > CLOCKS_APART_MAX_S)
        .map(|(name, ahead_s)| {
            let direction = if *ahead_s > 0 { "ahead of" } else { "behind" };
            let words = format!("{name} is {} {direction} this host", human::span(ahead_s.unsigned_abs()));
            Finding::new("clock", name.clone(), Verdict::Warning, words).with_hint("set the clocks by NTP")
        })
        .collect();
    let most = clocks.iter().map(|(_, ahead_s)| ahead_s.unsigned_abs()).max();
    match most.filter(|_| apart.is_empty()) {
        Some(most) => {
            vec![Finding::ok("clock", "all", format!("{} clocks differ by at most {most} s", clocks.len() + 1))]
        }
        None => apart,
    }
}

fn tell(context: &Context, findings: &[Finding]) -> Result<(), CliError> {
    if context.console.is_json() {
        return findings.iter().try_for_each(|finding| context.console.object(&finding.object()));
    }
    let mut rows = Vec::new();
    for finding in findings {
        rows.push(finding.row());
        rows.extend(
            finding.hint.as_ref().map(|hint| vec![String::new(), String::new(), String::new(), format!("-> {hint}")]),
        );
    }
    context.console.show(&human::table(&["RESULT", "OF", "WHAT", "FOUND"], &rows))
}

/// Whether an address is in a catalog: its look-up is a test of its own.
fn is_in_catalog(section: &Section) -> bool {
    links::is_in_catalog(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_one_by_one() {
        let told = |clocks: &[(&str, i64)]| {
            let clocks: Vec<(String, i64)> = clocks.iter().map(|(name, s)| ((*name).to_owned(), *s)).collect();
            clock(&clocks).into_iter().map(|f| (f.verdict, f.words)).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), []);
        assert_eq!(told(&[("store", 2), ("vault", -300)]), [(Verdict::Ok, "3 clocks differ by at most 300 s".into())]);
        let apart = told(&[("store", 2), ("vault", -3601)]);
        assert_eq!(apart, [(Verdict::Warning, "vault is 1 h behind this host".into())]);
    }
}
