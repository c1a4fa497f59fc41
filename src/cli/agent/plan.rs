//! The agent's settings, from the configuration.

use super::super::error::CliError;
use super::super::files;
use super::super::retention::Retention;
use super::super::settings::Settings;
use crate::agent::api::Access;
use crate::agent::lock::{ConsulLockSettings, DEFAULT_KEY, LEASE_TTL_DEFAULT};
use crate::agent::serve::{Listen, TlsFiles};
use crate::agent::{
    AgentSettings, JobSettings, PresenceSettings, Retry, RunKind, Schedule, ScheduleError, SourceSettings, StopLimits,
    Task,
};
use crate::config::{Kind, Section};
use hah_vault_format::{Label, SourceName};
use std::path::PathBuf;
use std::time::Duration;

/// Where it listens if nothing is said.
const LISTEN: &str = "127.0.0.1:8205";
/// Runs may finish within this when it stops: less than the 30 s that Kubernetes gives.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Backups without a schedule of their own.
const BACKUP_SCHEDULE: &str = "every 1h";
/// A schedule that is none.
const NEVER: &str = "never";
/// Name of the lease.
const LEASE_NAME: &str = "agent";
/// Name of the service.
const SERVICE_NAME: &str = "hah-vault";
/// As Consul's own snapshot agent.
const DEREGISTER_AFTER: Duration = Duration::from_secs(72 * 3600);

/// How replicas agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LockPlan {
    /// There is only one; its journal is kept here.
    None(Option<PathBuf>),
    /// Through this Consul.
    Consul(ConsulLockSettings, Option<String>),
    /// Through the store.
    Lease(Label, Duration),
}

/// Everything that the agent is told.
#[derive(Debug, Clone)]
pub(super) struct AgentPlan {
    pub agent: AgentSettings,
    pub listen: Listen,
    pub access: Access,
    pub tls: Option<TlsFiles>,
    pub lock: LockPlan,
    /// With the label of the Consul.
    pub presence: Option<(PresenceSettings, Option<String>)>,
    pub stop: StopLimits,
    pub restore_folder: Option<PathBuf>,
    pub retention: Retention,
}

fn wrong(section: &Section, key: &str, what: impl std::fmt::Display) -> CliError {
    CliError::usage(
        format!("{}: {key} of {}: {what}", section.origin_of(key), section.title()),
        "see deploy/config.hcl",
    )
}

impl AgentPlan {
    /// Reads the agent's block, and what the sources say of schedules. `host`: this machine's name.
    pub(super) fn of(settings: &Settings, host: &str) -> Result<Self, CliError> {
        let block = settings.config.of(Kind::Agent).next().cloned().unwrap_or_else(|| Section::empty(Kind::Agent));
        let sources: Vec<(SourceName, &Section)> =
            settings.sources().filter_map(|section| Some((section.source_name().parse().ok()?, section))).collect();
        if sources.is_empty() {
            return Err(CliError::usage("no source is configured", "add a vault, consul, nomad or file block"));
        }
        let path = |key: &str| block.text(key).map(PathBuf::from);
        let instance = block.text("instance").unwrap_or(host).to_owned();
        let restore_folder = path("restore_folder");
        let agent = AgentSettings {
            retry: Retry {
                tries: block.count("retries").unwrap_or(Retry::default().tries),
                delay: block.duration("retry_delay").unwrap_or(Retry::default().delay),
            },
            runs_max: runs_max(Some(&block)),
            lock_patience: match block.duration("lock.patience") {
                Some(Duration::ZERO) => None,
                Some(patience) => Some(patience),
                None => Some(Duration::from_secs(600)),
            },
            budget_bytes: block
                .text("budget")
                .map(|text| size(text).map_err(|e| wrong(&block, "budget", e)))
                .transpose()?,
            can_restore: restore_folder.is_some(),
            ..AgentSettings::new(instance.clone(), shown(&sources), jobs(&block, &sources)?)
        };
        let listen: Listen = block.text("listen").unwrap_or(LISTEN).parse()?;
        let presence = presence(&block, &instance, &listen);
        Ok(Self {
            agent,
            access: Access {
                token_file: path("token_file"),
                hosts: block.texts("hosts").into_iter().map(str::to_owned).collect(),
                open_metrics: block.flag("open_metrics").unwrap_or(false),
            },
            tls: tls(&block)?,
            lock: lock(&block)?,
            presence,
            listen,
            stop: StopLimits { finish: block.duration("stop_timeout").unwrap_or(STOP_TIMEOUT) },
            restore_folder,
            retention: Retention::of(settings)?,
        })
    }
}

/// Runs at the same time, of an agent with this block.
pub(super) fn runs_max(block: Option<&Section>) -> usize {
    let count = block.and_then(|block| block.count("runs_at_once")).unwrap_or(1);
    usize::try_from(count).unwrap_or(1).clamp(1, 16)
}

fn shown(sources: &[(SourceName, &Section)]) -> Vec<SourceSettings> {
    let shown = |(name, section): &(SourceName, &Section)| SourceSettings {
        name: name.clone(),
        kind: section.kind.name().to_owned(),
    };
    sources.iter().map(shown).collect()
}

fn jobs(block: &Section, sources: &[(SourceName, &Section)]) -> Result<Vec<JobSettings>, CliError> {
    let zone = block.text("schedule.time_zone").unwrap_or("UTC");
    let jitter = block.duration("schedule.jitter").unwrap_or(Duration::ZERO);
    let mut jobs = Vec::new();
    for (name, section) in sources.iter().filter(|(_, section)| section.is_backed_up()) {
        let (of, key, text) = match (section.text("schedule"), block.text("schedule.backup")) {
            (Some(text), _) => (*section, "schedule", text),
            (None, Some(text)) => (block, "schedule.backup", text),
            (None, None) => (block, "schedule.backup", BACKUP_SCHEDULE),
        };
        let zone = section.text("time_zone").unwrap_or(zone);
        let jitter = section.duration("jitter").unwrap_or(jitter);
        let task = Task::new(RunKind::Backup, Some(name.clone()));
        jobs.extend(job(text, zone, jitter, task).map_err(|error| wrong(of, key, error))?);
    }
    for (key, kind) in
        [("schedule.gc", RunKind::Gc), ("schedule.verify", RunKind::Verify), ("schedule.rehearse", RunKind::Rehearse)]
    {
        let Some(text) = block.text(key) else { continue };
        let mut task = Task::new(kind, None);
        if kind == RunKind::Verify {
            task.read_data_percent = block.number("schedule.read_data_percent").filter(|percent| *percent > 0);
        }
        jobs.extend(job(text, zone, jitter, task).map_err(|error| wrong(block, key, error))?);
    }
    Ok(jobs)
}

fn job(text: &str, zone: &str, jitter: Duration, task: Task) -> Result<Option<JobSettings>, ScheduleError> {
    if text == NEVER {
        return Ok(None);
    }
    Ok(Some(JobSettings { schedule: Schedule::parse(text, zone, jitter)?, task }))
}

fn tls(block: &Section) -> Result<Option<TlsFiles>, CliError> {
    let path = |key: &str| block.text(key).map(PathBuf::from);
    match (path("tls.certificate"), path("tls.key"), path("tls.client_ca")) {
        (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles { certificate, key, client_ca })),
        (None, None, None) => Ok(None),
        _ => Err(wrong(block, "tls.certificate", "certificate and key belong together")),
    }
}

fn lock(block: &Section) -> Result<LockPlan, CliError> {
    let folder = block.text("state_folder").map(PathBuf::from).or_else(files::agent_state_folder);
    let journal = || Some(folder?.join("agent.json"));
    Ok(match block.text("lock.kind") {
        Some("consul") => {
            let default = ConsulLockSettings::default();
            let settings = ConsulLockSettings {
                key: block.text("lock.key").unwrap_or(DEFAULT_KEY).trim_matches('/').to_owned(),
                ttl: block.duration("lock.ttl").unwrap_or(default.ttl),
                lock_delay: block.duration("lock.delay").unwrap_or(default.lock_delay),
            };
            if !(Duration::from_secs(10)..=Duration::from_secs(86_400)).contains(&settings.ttl) {
                return Err(wrong(block, "lock.ttl", "Consul takes 10s to 24h"));
            }
            LockPlan::Consul(settings, block.text("lock.consul").map(str::to_owned))
        }
        Some("lease") => {
            let name = block.text("lock.name").unwrap_or(LEASE_NAME);
            let ttl = block.duration("lock.ttl").unwrap_or(LEASE_TTL_DEFAULT);
            if !(Duration::from_secs(30)..=Duration::from_secs(86_400)).contains(&ttl) {
                return Err(wrong(block, "lock.ttl", "a lease lasts 30s to 24h"));
            }
            LockPlan::Lease(name.parse().map_err(|error| wrong(block, "lock.name", error))?, ttl)
        }
        _ => LockPlan::None(journal()),
    })
}

fn presence(block: &Section, instance: &str, listen: &Listen) -> Option<(PresenceSettings, Option<String>)> {
    if !block.settings().any(|(key, _)| key.starts_with("consul_service.")) {
        return None;
    }
    let name = block.text("consul_service.name").unwrap_or(SERVICE_NAME).to_owned();
    let settings = PresenceSettings {
        id: block.text("consul_service.id").map_or_else(|| format!("{name}-{instance}"), str::to_owned),
        name,
        tags: block.texts("consul_service.tags").into_iter().map(str::to_owned).collect(),
        address: match listen {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        },
        deregister_after: block.duration("consul_service.deregister_after").unwrap_or(DEREGISTER_AFTER),
    };
    Some((settings, block.text("consul_service.consul").map(str::to_owned)))
}

/// `10GB`, `500MB`: decimal units, as stores are sold.
fn size(text: &str) -> Result<u64, String> {
    let bad = || "a number and a unit are needed: 500MB, 10GB or 2TB".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(at);
    let unit: u64 = match unit.trim() {
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(bad)
}
