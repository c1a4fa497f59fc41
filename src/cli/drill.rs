//! `verify --drill`.

use super::args::{DrillInto, Verify};
use super::context::{Context, Need};
use super::error::CliError;
use super::human;
use super::list::iso;
use super::servers::Server;
use crate::archive::drill::{Counted, DrillReport, DrillTarget, Throwaway, Verdict, drill, find_program};
use crate::archive::{ArchiveError, Repository};
use crate::exit::Exit;
use crate::source::restore::Settled;
use crate::source::{Consul, Nomad, Service, SourceError, Target, Vault, env};
use hah_vault_format::{ManifestName, SourceName};
use serde_json::{Value, json};

pub(super) async fn run(context: &Context, args: &Verify, kind: DrillInto) -> Result<Exit, CliError> {
    let name = match args.wanted.as_slice() {
        [] => format!("{}@latest", kind.as_str()),
        [one] if one.contains(['/', '@']) => one.clone(),
        [source] => format!("{source}@latest"),
        _ => return Err(CliError::usage("a drill is for one snapshot", "name one, or none for the newest")),
    };
    if kind != DrillInto::Consul && args.to_address.is_none() && args.to.is_none() {
        let what = format!("there is no throwaway {} to start", kind.as_str());
        return Err(CliError::usage(what, "set up an empty one, and name it with --to NAME or --to-address URL"));
    }
    // Before a repository is opened: what is typed wrong is told first.
    let configured = match &args.to {
        Some(to) => Some(configured(context, to, kind).await?),
        None => None,
    };
    let repository = context.repository(Need::Reader, "verify --drill").await?;
    let name = repository.resolve(&name).await?;
    let report = match (&configured, &args.to_address) {
        (Some(server), _) => {
            let (target, service) = (server.target(), server.service());
            into(context, &repository, &name, target.as_ref(), service.as_ref()).await?
        }
        (None, Some(address)) => into_address(context, &repository, &name, kind, address).await?,
        (None, None) => throwaway(context, &repository, &name, args).await?,
    };
    context.console.finish_progress();
    if context.console.is_json() {
        context.console.object(&object(&report))?;
    } else {
        context.console.report(&text(&report))?;
    }
    Ok(if report.is_short() { Exit::Partial } else { Exit::Done })
}

/// A server of the configuration, if it is of the kind that was asked for.
async fn configured(context: &Context, to: &SourceName, kind: DrillInto) -> Result<Server, CliError> {
    let hint = "--to takes vault, consul, nomad, or the name of a configured source";
    let server = context.servers.find(to).await?.ok_or_else(|| CliError::usage(format!("{to} is no server"), hint))?;
    let found = server.target().kind();
    if found != kind.service() {
        let what = format!("{to} is {found}, and --drill {} needs {}", kind.as_str(), kind.service());
        return Err(CliError::usage(what, hint));
    }
    Ok(server)
}

async fn throwaway(
    context: &Context,
    repository: &Repository,
    name: &ManifestName,
    args: &Verify,
) -> Result<DrillReport, CliError> {
    let none = || CliError::usage("there is no consul in the PATH", "name it with --consul-binary FILE");
    let program = args.consul_binary.clone().or_else(find_program).ok_or_else(none)?;
    let manifest = repository.open_manifest(name).await?;
    let failed = |source| ArchiveError::Drill { name: name.clone(), source: Box::new(source) };
    let server = Throwaway::start(&program, &manifest, &context.cancel).await.map_err(failed)?;
    if !server.is_in_memory() {
        let folder = server.folder().display().to_string();
        let text = format!("the snapshot lies in the clear in {folder} while the drill runs, and is removed then");
        context.console.warning(Some(&name.source), &text);
    }
    context.console.say(&format!("a throwaway Consul leads; restoring {name}"));
    let into = DrillTarget { target: server.consul(), service: server.consul(), is_throwaway: true };
    // Dropped in any case: by ctrl-C too.
    Ok(drill(repository, name, into, &context.cancel).await?)
}

async fn into_address(
    context: &Context,
    repository: &Repository,
    name: &ManifestName,
    kind: DrillInto,
    address: &str,
) -> Result<DrillReport, CliError> {
    let failed = |source: SourceError| ArchiveError::Target { name: name.clone(), source: Box::new(source) };
    // As the environment says, but for the place.
    let lookup = |variable: &str| match variable {
        "VAULT_ADDR" | "BAO_ADDR" | "CONSUL_HTTP_ADDR" | "NOMAD_ADDR" => Some(address.to_owned()),
        "VAULT_AGENT_ADDR" | "BAO_AGENT_ADDR" | "NOMAD_UNIX_ADDR" => None,
        other => std::env::var(other).ok(),
    };
    let mut warn = |text: String| context.console.warning(None, &text);
    match kind {
        DrillInto::Consul => {
            let server = env::consul(&lookup).and_then(|settings| Consul::new(settings, &mut warn)).map_err(failed)?;
            into(context, repository, name, &server, &server).await
        }
        DrillInto::Vault => {
            let server = env::vault(&lookup).and_then(|s| Vault::new(s, None, &mut warn)).map_err(failed)?;
            into(context, repository, name, &server, &server).await
        }
        DrillInto::Nomad => {
            let server = env::nomad(&lookup).and_then(|s| Nomad::new(s, None, &mut warn)).map_err(failed)?;
            into(context, repository, name, &server, &server).await
        }
    }
}

async fn into(
    context: &Context,
    repository: &Repository,
    name: &ManifestName,
    target: &dyn Target,
    service: &dyn Service,
) -> Result<DrillReport, CliError> {
    let into = DrillTarget { target, service, is_throwaway: false };
    Ok(drill(repository, name, into, &context.cancel).await?)
}

fn text(report: &DrillReport) -> String {
    let mut text = String::new();
    let name = &report.manifest.name;
    match &report.counted {
        Ok(counted) => {
            let row = |c: &Counted| {
                vec![c.what.clone(), c.expected.to_string(), c.found.to_string(), c.verdict.as_str().to_owned()]
            };
            let rows: Vec<Vec<String>> = counted.iter().map(row).collect();
            text += &human::table(&["RECORDS", ">SNAPSHOT", ">SERVER", ""], &rows);
            text.push('\n');
            let has = |verdict| counted.iter().any(|c| c.verdict == verdict);
            if has(Verdict::More) {
                text += "more: the server adds its own, such as its node and its token\n";
            }
            if has(Verdict::Tidied) {
                text += "tidied: a server takes away what belongs to nodes that do not answer, and what is old\n";
            }
        }
        Err(why) => text += &format!("nothing was counted: {why}\n"),
    }
    let version = report.server_version.as_deref().unwrap_or("of unknown version");
    let end = match (&report.settled, report.is_short()) {
        (_, true) => "but NOT everything came back",
        (Settled::Sealed, _) => "which is sealed now",
        (Settled::Active { .. }, _) if report.counted.is_ok() => "which leads, and everything that must be there is",
        (Settled::Active { .. }, _) => "which works",
    };
    text += &format!("{name} was restored into {} {version}, {end}\n", report.kind);
    text
}

fn object(report: &DrillReport) -> Value {
    let counted = |c: &Counted| json!({"tag": c.tag, "what": c.what, "snapshot": c.expected, "server": c.found, "verdict": c.verdict.as_str()});
    let counts = report.counted.as_ref().ok().map(|all| all.iter().map(counted).collect::<Vec<Value>>());
    json!({
        "type": "drill",
        "manifest": report.manifest.name.to_string(),
        "source": report.manifest.name.source,
        "time": iso(report.manifest.name.time),
        "service": report.kind.to_string(),
        "server_version": report.server_version,
        "sealed": report.settled == Settled::Sealed,
        "counts": counts,
        "not_counted": report.counted.as_ref().err(),
        "short": report.is_short(),
    })
}
