//! The agent's figures.

use crate::agent::{Agent, AgentSettings, Run, RunKind, Telemetry};
use crate::archive::{Monitor, Silent};
use crate::telemetry::{Reason, Registry, Watching};
use std::sync::{Arc, OnceLock, Weak};

/// Tells the registry what the agent does. What runs bring, the worker tells it.
#[derive(Debug)]
pub(super) struct AgentMetrics {
    registry: Arc<Registry>,
    agent: OnceLock<Weak<Agent>>,
}

impl AgentMetrics {
    pub(super) fn new(registry: Arc<Registry>, settings: &AgentSettings) -> Self {
        settings.sources.iter().for_each(|source| registry.know(&source.name));
        if let Some(budget_bytes) = settings.budget_bytes {
            registry.budget(budget_bytes);
        }
        registry.agent_started();
        registry.lock_held(false);
        Self { registry, agent: OnceLock::new() }
    }

    /// Whose jobs are told.
    pub(super) fn attach(&self, agent: &Arc<Agent>) {
        // A second time nothing changes.
        let _ = self.agent.set(Arc::downgrade(agent));
    }

    /// Figures of the moment.
    fn update(&self) {
        let Some(agent) = self.agent.get().and_then(Weak::upgrade) else { return };
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

impl Telemetry for AgentMetrics {
    fn begun(&self, run: &Run) {
        if let (RunKind::Backup, Some(source)) = (run.kind, &run.source) {
            self.registry.backup_began(source);
        }
    }

    fn ended(&self, run: &Run) {
        if let (RunKind::Backup, Some(source), Some(error)) = (run.kind, &run.source, &run.error) {
            let reason = Reason::ALL.iter().find(|reason| reason.as_str() == error.reason);
            self.registry.backup_failed(source, reason.copied().unwrap_or(Reason::Other));
        }
    }

    fn lock_held(&self, held: bool) {
        self.registry.lock_held(held);
    }

    fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::new(Watching::new(Arc::new(Silent), Arc::clone(&self.registry)))
    }

    fn render(&self) -> String {
        self.update();
        self.registry.encode()
    }
}
