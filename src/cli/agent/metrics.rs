//! The agent's figures.

use super::telling::{BackupEnd, Telling};
use crate::agent::{Agent, AgentSettings, Run, RunKind, RunState, Telemetry};
use crate::archive::{Monitor, Silent};
use crate::exit::Exit;
use crate::telemetry::{Reason, Registry, Watching};
use hah_vault_format::SourceName;
use std::sync::{Arc, OnceLock, Weak};

/// Tells the registry what the agent does. What runs bring, the worker tells it.
#[derive(Debug)]
pub(super) struct AgentMetrics {
    registry: Arc<Registry>,
    telling: Arc<Telling>,
    agent: OnceLock<Weak<Agent>>,
}

impl AgentMetrics {
    pub(super) fn new(registry: Arc<Registry>, telling: Arc<Telling>, settings: &AgentSettings) -> Self {
        settings.sources.iter().for_each(|source| registry.know(&source.name));
        if let Some(budget_bytes) = settings.budget_bytes {
            registry.budget(budget_bytes);
        }
        registry.agent_started();
        registry.lock_held(false);
        Self { registry, telling, agent: OnceLock::new() }
    }

    /// Whose jobs are told.
    pub(super) fn attach(&self, agent: &Arc<Agent>) {
        // A second time nothing changes.
        let _ = self.agent.set(Arc::downgrade(agent));
    }

    fn agent(&self) -> Option<Arc<Agent>> {
        self.agent.get().and_then(Weak::upgrade)
    }

    /// Figures of the moment.
    fn update(&self) {
        let Some(agent) = self.agent() else { return };
        let open = agent.registry.open();
        for kind in [RunKind::Backup, RunKind::Verify, RunKind::Rehearse, RunKind::Gc, RunKind::Restore] {
            let count = open.iter().filter(|entry| entry.task.kind == kind).count();
            self.registry.runs_active(kind.as_str(), count);
        }
        for job in agent.jobs() {
            if let Some(next) = job.next {
                let unix_s = u64::try_from(next.0 / 1000).unwrap_or(0);
                self.registry.next_run(job.kind.as_str(), job.source.as_ref(), unix_s);
            }
            if let Some(source) = &job.source {
                self.registry.paused(source, job.paused);
            }
        }
    }
}

impl AgentMetrics {
    fn backup_ended(&self, run: &Run, source: &SourceName) {
        let failed = run.error.as_ref().map(|error| {
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == error.reason);
            (reason.copied().unwrap_or(Reason::Other), Exit::from_code(error.code))
        });
        if let Some((reason, _)) = failed {
            self.registry.backup_failed(source, reason);
        }
        let end = match failed {
            _ if run.state == RunState::Aborted => BackupEnd::Stopped,
            Some((reason, exit)) => BackupEnd::Failed(reason, exit),
            None => BackupEnd::Done,
        };
        let Some(agent) = self.agent() else { return };
        let known: Vec<SourceName> = agent.settings().sources.iter().map(|settings| settings.name.clone()).collect();
        let is_overdue = agent.late_jobs().iter().any(|job| job.kind == RunKind::Backup);
        self.telling.backup_ended(source, end, &known, is_overdue);
    }
}

impl Telemetry for AgentMetrics {
    fn begun(&self, run: &Run) {
        if let (RunKind::Backup, Some(source)) = (run.kind, &run.source) {
            self.registry.backup_began(source);
            self.telling.backup_began();
        }
    }

    fn ended(&self, run: &Run) {
        match (run.kind, &run.source) {
            (RunKind::Backup, Some(source)) => self.backup_ended(run, source),
            _ if run.dry_run => {}
            (_, source) => self.telling.run_ended(source.as_ref()),
        }
    }

    fn lock_held(&self, held: bool) {
        self.registry.lock_held(held);
        if !held {
            self.telling.stepped_down();
        }
    }

    fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::new(Watching::new(Arc::new(Silent), Arc::clone(&self.registry)))
    }

    fn render(&self) -> String {
        self.update();
        self.registry.encode()
    }
}
