//! Being seen in Consul: a service with two checks, as Consul's own snapshot agent has them (facts 2.4).

use super::core::{Agent, Leadership};
use crate::source::Consul;
use crate::source::consul::session::{CheckState, Registration, TtlCheck};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A check is critical after this time without an update.
const CHECK_TTL: Duration = Duration::from_secs(60);
/// How often they are updated.
const UPDATE_EVERY: Duration = Duration::from_secs(20);
/// Longest note of a check, in characters.
const NOTE_LEN_CHARS_MAX: usize = 512;

/// How the agent is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceSettings {
    /// Name of the service.
    pub name: String,
    /// Id of the instance; unique on the node.
    pub id: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Where it is reached.
    pub address: Option<SocketAddr>,
    /// It is forgotten after being critical for so long.
    pub deregister_after: Duration,
}

/// The agent's registration.
#[derive(Debug)]
pub struct Presence {
    consul: Arc<Consul>,
    settings: PresenceSettings,
}

impl Presence {
    /// Registers nothing yet.
    pub fn new(consul: Arc<Consul>, settings: PresenceSettings) -> Self {
        Self { consul, settings }
    }

    /// Registers, keeps the checks up to date, and takes the registration back when the agent stops.
    pub async fn keep(&self, agent: &Agent) {
        let mut registered = false;
        loop {
            if !registered {
                registered = self.register().await;
            }
            if registered {
                registered = self.update(agent).await;
            }
            tokio::select! {
                () = agent.clock.sleep(UPDATE_EVERY) => {}
                () = agent.stopping() => break,
            }
        }
        if let Err(error) = self.consul.deregister(&self.settings.id).await {
            tracing::warn!(%error, "the registration in Consul could not be taken back");
        }
    }

    fn check_ids(&self) -> [String; 2] {
        ["alive", "saving"].map(|check| format!("{}:{check}", self.settings.id))
    }

    async fn register(&self) -> bool {
        let [alive, saving] = self.check_ids();
        let check = |id: String, name: &str| TtlCheck { id, name: name.into(), ttl: CHECK_TTL };
        let settings = &self.settings;
        let registration = Registration {
            id: settings.id.clone(),
            name: settings.name.clone(),
            tags: settings.tags.clone(),
            address: settings.address.filter(|a| !a.ip().is_unspecified()).map(|address| address.ip().to_string()),
            port: settings.address.map(|address| address.port()),
            checks: vec![check(alive, "hah-vault agent alive"), check(saving, "hah-vault agent saving snapshots")],
            deregister_after: settings.deregister_after,
        };
        match self.consul.register(&registration).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the agent could not be registered in Consul");
                false
            }
        }
    }

    /// `false`: the checks are gone.
    async fn update(&self, agent: &Agent) -> bool {
        let [alive, saving] = self.check_ids();
        let (state, note) = saving_state(agent);
        for (id, state, note) in [(alive, CheckState::Pass, "alive".to_owned()), (saving, state, note)] {
            match self.consul.update_check(&id, state, &note).await {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    tracing::warn!(%error, id, "a check in Consul could not be updated");
                    return true;
                }
            }
        }
        true
    }
}

/// Whether snapshots are being saved. A replica that waits for the lock has nothing to answer for.
fn saving_state(agent: &Agent) -> (CheckState, String) {
    if let Leadership::Standby { holder, .. } = agent.leadership() {
        let holder = holder.map_or_else(String::new, |holder| format!("; {holder} holds the lock"));
        return (CheckState::Pass, format!("standby{holder}"));
    }
    let late: Vec<String> = agent.late_jobs().iter().map(ToString::to_string).collect();
    if late.is_empty() {
        return (CheckState::Pass, "all jobs are up to date".into());
    }
    let text: String = format!("late: {}", late.join(", ")).chars().take(NOTE_LEN_CHARS_MAX).collect();
    let is_backup = late.iter().any(|job| job.starts_with("backup/"));
    (if is_backup { CheckState::Fail } else { CheckState::Warn }, text)
}
