//! `--agent`: commands that another agent does. What it cannot do is done here, as without it.

use super::super::args::{Backup, Command, Gc, Global, Hold, List, Verify};
use super::super::context::Context;
use super::super::error::CliError;
use super::super::human;
use crate::agent::client::{AgentClient, ClientSettings};
use crate::exit::Exit;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Mutex;

/// Manifests of one page.
const PAGE_LEN: usize = 1000;

/// The agent that is to do it.
pub(in crate::cli) fn client(global: &Global) -> Result<Option<AgentClient>, CliError> {
    let path = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let Some(url) = global.agent.url.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
    let agent = &global.agent;
    let settings = ClientSettings { url, token_file: path(&agent.token_file), ca_file: path(&agent.ca_file) };
    Ok(Some(AgentClient::new(&settings)?))
}

/// What the agent does of a command; the others are given back.
pub(in crate::cli) async fn run(
    context: &Context,
    client: &AgentClient,
    command: Command,
) -> Result<Result<Exit, Command>, CliError> {
    let remote = Remote { context, client };
    Ok(Ok(match command {
        Command::Backup(args) => remote.backup(args).await?,
        Command::Verify(args) => remote.verify(args).await?,
        Command::Gc(args) => remote.gc(args).await?,
        Command::List(args) if !args.trash => remote.list(args).await?,
        Command::Show(args) => remote.show(&args.manifest).await?,
        Command::Hold(args) => remote.hold(args).await?,
        Command::Status => remote.status().await?,
        // Done here, they would be done to another repository than the one that `list` and `gc` speak of.
        Command::List(_) => return Err(not_by_agent("list --trash")),
        Command::Undelete(_) => return Err(not_by_agent("undelete")),
        Command::Repair(_) => return Err(not_by_agent("repair")),
        other => return Ok(Err(other)),
    }))
}

struct Remote<'r> {
    context: &'r Context,
    client: &'r AgentClient,
}

/// Options that only mean something here.
fn not_by_agent(what: &str) -> CliError {
    CliError::usage(
        format!("{what} is nothing that an agent does, and one is given"),
        "run it without --agent and HAH_VAULT_AGENT, with --repo",
    )
}

fn refuse(given: &[(&str, bool)]) -> Result<(), CliError> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(CliError::usage(
            format!("{name} is not for an agent, which does as its own configuration says"),
            "leave it out, or run the command without --agent",
        )),
        None => Ok(()),
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or("-")
}

fn bytes(value: &Value, field: &str) -> String {
    value[field].as_u64().map_or_else(|| "-".into(), human::size)
}

impl Remote<'_> {
    /// Starts a run and follows it to its end.
    async fn follow(&self, request: &Value) -> Result<Value, CliError> {
        let started = self.client.post("/v1/runs", request).await?;
        let id = text(&started, "id").to_owned();
        let console = &self.context.console;
        let told = Mutex::new((String::new(), 0));
        let mut tell = |run: &Value| {
            let Ok(mut told) = told.lock() else { return };
            let (state, warnings) = (text(run, "state"), run["warnings"].as_array().map_or(&[][..], Vec::as_slice));
            if told.0 != state {
                console.say(&format!("{id}: {state}"));
                state.clone_into(&mut told.0);
            }
            for warning in warnings.iter().skip(told.1).filter_map(Value::as_str) {
                console.warning(None, warning);
            }
            told.1 = told.1.max(warnings.len());
        };
        Ok(self.client.follow(&id, &mut tell).await?)
    }

    /// Shows what came out of a run, and ends as the command would have.
    fn conclude(&self, run: &Value) -> Result<Exit, CliError> {
        let console = &self.context.console;
        let result = &run["result"];
        if !result.is_null() {
            match (console.is_json(), result.as_object()) {
                (false, Some(fields)) => console.report(&human::fields(&rows(fields)))?,
                _ => console.object(result)?,
            }
        }
        let error = &run["error"];
        match text(run, "state") {
            "done" => Ok(Exit::Done),
            _ => Err(CliError::Run {
                message: text(error, "message").to_owned(),
                hint: error["hint"].as_str().map(str::to_owned),
                code: error["code"].as_u64().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
            }),
        }
    }

    async fn backup(&self, args: Backup) -> Result<Exit, CliError> {
        refuse(&[
            ("--raw", args.raw),
            ("--init", args.init),
            ("--tag", !args.tags.is_empty()),
            ("--horizon", args.horizon.is_some()),
            ("--compression", args.compression.is_some()),
            ("--keystore", args.keystore.is_some()),
            ("NAME=PATH", args.sources.iter().any(|source| source.contains('='))),
        ])?;
        let names = match args.sources.is_empty() {
            false => args.sources,
            true => self.scheduled().await?,
        };
        let (total, mut failed) = (names.len(), Vec::new());
        for name in names {
            let mut request = json!({"kind": "backup", "source": name});
            if args.fresh {
                request["fresh"] = json!(true);
            }
            let ended = self.follow(&request).await.and_then(|run| self.conclude(&run));
            if let Err(error) = ended {
                failed.push(error);
            }
        }
        if total == 1
            && let Some(error) = failed.pop()
        {
            return Err(error);
        }
        failed.iter().for_each(|error| self.context.console.error(error));
        Ok(match failed.len() {
            0 => Exit::Done,
            all if all == total => Exit::Failed,
            _ => Exit::Partial,
        })
    }

    /// Sources that the agent backs up by itself.
    async fn scheduled(&self) -> Result<Vec<String>, CliError> {
        let sources = self.client.get("/v1/sources").await?;
        let all = sources["sources"].as_array().cloned().unwrap_or_default();
        let scheduled = all.iter().filter(|source| !source["schedule"].is_null());
        Ok(scheduled.map(|source| text(source, "name").to_owned()).collect())
    }

    async fn verify(&self, args: Verify) -> Result<Exit, CliError> {
        refuse(&[("--drill", args.drill.is_some()), ("--all", args.all), ("--accept-lost", args.accept_lost)])?;
        let source = match args.wanted.as_slice() {
            [] => None,
            [source] => Some(source.clone()),
            _ => return Err(CliError::usage("an agent verifies everything, or one source", "name one source")),
        };
        let mut request = json!({"kind": if args.rehearse { "rehearse" } else { "verify" }});
        if let Some(source) = source {
            request["source"] = json!(source);
        }
        if let (Some(percent), false) = (args.read_data, args.rehearse) {
            request["read_data_percent"] = json!(percent);
        }
        self.conclude(&self.follow(&request).await?)
    }

    /// The plan first; it is shown, and followed unless that was all.
    async fn gc(&self, args: Gc) -> Result<Exit, CliError> {
        refuse(&[
            ("--source", args.source.is_some()),
            ("--force", args.force),
            ("--ignore", !args.ignore.is_empty()),
            ("--exclusive", args.exclusive),
            ("a --keep option", args.keep.policy().is_some()),
        ])?;
        let plan = self.follow(&json!({"kind": "gc", "dry_run": true})).await?;
        if args.dry_run || text(&plan, "state") != "done" {
            return self.conclude(&plan);
        }
        self.conclude(&self.follow(&json!({"kind": "gc", "plan": plan["id"]})).await?)
    }

    async fn list(&self, args: List) -> Result<Exit, CliError> {
        let wanted = args.limit.unwrap_or(usize::MAX);
        let mut found: Vec<Value> = Vec::new();
        let mut after = None;
        while found.len() < wanted {
            let mut path = format!("/v1/manifests?limit={}", PAGE_LEN.min(wanted - found.len()).max(1));
            if let Some(source) = &args.source {
                path.push_str(&format!("&source={source}"));
            }
            if let Some(after) = &after {
                path.push_str(&format!("&after={after}"));
            }
            let page = self.client.get(&path).await?;
            found.extend(page["manifests"].as_array().cloned().unwrap_or_default());
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        found.reverse();
        if self.context.console.is_json() {
            for mut manifest in found {
                manifest["type"] = json!(if manifest["error"].is_null() { "snapshot" } else { "unreadable" });
                self.context.console.object(&manifest)?;
            }
            return Ok(Exit::Done);
        }
        let row = |m: &Value| {
            let note = if m["hold"] == true { "held" } else { "" };
            let sizes = ["original_len_bytes", "new_bytes", "stored_bytes"].map(|field| bytes(m, field));
            let [size, new, stored] = sizes;
            let kind = m["kind"].as_str().unwrap_or("unreadable").to_owned();
            vec![text(m, "manifest").to_owned(), kind, size, new, stored, note.to_owned()]
        };
        let rows: Vec<Vec<String>> = found.iter().map(row).collect();
        self.context.console.show(&human::table(&["MANIFEST", "KIND", ">SIZE", ">NEW", ">STORED", ""], &rows))?;
        Ok(Exit::Done)
    }

    /// The full name that a text means, by the agent's list.
    async fn name(&self, wanted: &str) -> Result<String, CliError> {
        let mut names = Vec::new();
        let mut path = format!("/v1/manifests?limit={PAGE_LEN}");
        loop {
            let page = self.client.get(&path).await?;
            let found = page["manifests"].as_array().cloned().unwrap_or_default();
            names.extend(found.iter().filter_map(|m| m["manifest"].as_str()?.parse().ok()));
            match page["next"].as_str() {
                Some(next) => path = format!("/v1/manifests?limit={PAGE_LEN}&after={next}"),
                None => break,
            }
        }
        // Oldest first, those of one second in the order of their commits.
        names.reverse();
        Ok(crate::archive::manifests::choose(wanted, &names)?.to_string())
    }

    async fn show(&self, wanted: &str) -> Result<Exit, CliError> {
        let name = self.name(wanted).await?;
        let manifest = self.client.get(&format!("/v1/manifests/{name}")).await?;
        match (self.context.console.is_json(), manifest.as_object()) {
            (false, Some(fields)) => self.context.console.show(&human::fields(&rows(fields)))?,
            _ => self.context.console.object(&manifest)?,
        }
        Ok(Exit::Done)
    }

    async fn hold(&self, args: Hold) -> Result<Exit, CliError> {
        let name = self.name(&args.manifest).await?;
        let path = format!("/v1/holds/{name}");
        match args.release {
            true => self.client.delete(&path).await?,
            false => drop(self.client.put(&path, &json!({"reason": args.reason.unwrap_or_default()})).await?),
        }
        let words = if args.release { "is not held" } else { "is held" };
        self.context.console.say(&format!("{name} {words}"));
        if self.context.console.is_json() {
            self.context.console.object(&json!({"type": "hold", "manifest": name, "held": !args.release}))?;
        }
        Ok(Exit::Done)
    }

    async fn status(&self) -> Result<Exit, CliError> {
        let status = self.client.get("/v1/status").await?;
        let console = &self.context.console;
        if console.is_json() {
            let mut status = status;
            status["type"] = json!("status");
            console.object(&status)?;
            return Ok(Exit::Done);
        }
        let lock = &status["lock"];
        let held = match (lock["held"].as_bool(), lock["holder"].as_str(), lock["error"].as_str()) {
            (Some(true), ..) => "held".to_owned(),
            (_, Some(holder), _) => format!("held by {holder}"),
            (_, None, Some(error)) => format!("unknown: {error}"),
            _ => "not held".to_owned(),
        };
        let fields = [
            ("instance", text(&status, "instance").to_owned()),
            ("version", text(&status, "version").to_owned()),
            ("repository", text(&status, "repository").to_owned()),
            ("lock", format!("{}, {held}", text(lock, "kind"))),
            ("ready", status["ready"].to_string()),
        ];
        let job = |job: &Value| {
            let state = match (&job["paused"], job["last_error"]["message"].as_str()) {
                (Value::Bool(true), _) => "paused".to_owned(),
                (_, Some(error)) => format!("failed {} times: {error}", job["failures"]),
                _ => String::new(),
            };
            vec![
                text(job, "kind").to_owned(),
                text(job, "source").to_owned(),
                text(&job["schedule"], "text").to_owned(),
                text(job, "last_success").to_owned(),
                text(job, "next").to_owned(),
                state,
            ]
        };
        let jobs: Vec<Vec<String>> = status["jobs"].as_array().into_iter().flatten().map(job).collect();
        let table = human::table(&["JOB", "SOURCE", "SCHEDULE", "LAST SUCCESS", "NEXT", ""], &jobs);
        console.show(&format!("{}\n{table}", human::fields(&fields)))?;
        Ok(Exit::Done)
    }
}

/// An object's fields for people; lists and objects as JSON.
fn rows(fields: &Map<String, Value>) -> Vec<(&str, String)> {
    let words = |value: &Value| match value {
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        other => other.to_string(),
    };
    let shown = fields.iter().filter(|(name, value)| *name != "type" && !value.is_null());
    shown.map(|(name, value)| (name.as_str(), words(value))).collect()
}
