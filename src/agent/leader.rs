//! Taking the lock, keeping it, and stepping down.

use super::clock::Moment;
use super::core::{Agent, Leadership};
use super::lock::{Attempt, Lock, LockError};
use super::planner::Journal;
use crate::archive::chain;
use std::sync::Arc;
use std::time::Duration;

/// The shortest and the longest wait between two looks at a lock that another replica holds.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Waits between attempts to learn the repository's past.
const ADOPT_EVERY: Duration = Duration::from_secs(15);

/// What came of a renewal.
enum Kept {
    /// It is ours until this, by the clock that counts suspension.
    Until(Duration),
    /// It is another's.
    Lost,
    /// Nobody can say.
    Unknown(LockError),
}

struct Leader {
    agent: Arc<Agent>,
    lock: Arc<dyn Lock>,
    /// Since when the lock has not answered, and what it said.
    silent_since: Option<Duration>,
}

impl Agent {
    /// Tries to hold the lock until the agent stops, and gives it back then. Runs beside [`Agent::run`]; `done` resolves when
    /// that has returned.
    pub async fn lead(self: &Arc<Self>, lock: Arc<dyn Lock>, done: impl Future<Output = ()>) {
        let mut leader = Leader { agent: Arc::clone(self), lock: Arc::clone(&lock), silent_since: None };
        tokio::select! {
            () = leader.lead() => {}
            () = done => {}
        }
        // While a run finished, the lock was still renewed.
        if matches!(self.leadership(), Leadership::Held { .. })
            && let Err(error) = lock.release(&self.journal()).await
        {
            tracing::warn!(error = %told(&error), "the lock could not be given back; it ends by itself");
        }
        self.set_leadership(Leadership::Standby { holder: None, error: None }, false);
    }
}

impl Leader {
    async fn lead(&mut self) {
        loop {
            let since = self.agent.clock.since_boot();
            match self.lock.take().await {
                Ok(Attempt::Held(journal)) => {
                    self.silent_since = None;
                    self.hold(journal, since + self.lock.ttl()).await;
                }
                Ok(Attempt::Taken { holder }) => {
                    self.silent_since = None;
                    let lost = self.agent.leadership().is_active();
                    self.agent.set_leadership(Leadership::Standby { holder, error: None }, lost);
                    self.agent.check().await;
                }
                Err(error) => self.silent(&error, since).await,
            }
            let wait = (self.lock.ttl() / 3).clamp(LOOK_EVERY.0, LOOK_EVERY.1);
            self.agent.clock.sleep(wait).await;
        }
    }

    /// The lock does not answer. After the patience is at its end, go on without it: backups need none.
    async fn silent(&mut self, error: &LockError, now: Duration) {
        let since = *self.silent_since.get_or_insert(now);
        let text = told(error);
        tracing::warn!(error = text, "the lock cannot be reached");
        let patience = self.agent.settings().lock_patience;
        let is_over = patience.is_some_and(|patience| now.saturating_sub(since) >= patience);
        let leadership = match self.agent.leadership() {
            Leadership::Unguarded { since, .. } => Leadership::Unguarded { since, error: text },
            _ if is_over => Leadership::Unguarded { since: Moment(self.agent.clock.unix_ms()), error: text },
            _ => Leadership::Standby { holder: None, error: Some(text) },
        };
        self.agent.set_leadership(leadership, false);
        if self.agent.wants_adoption() {
            self.agent.adopt().await;
        } else {
            self.agent.check().await;
        }
    }

    /// Holds the lock until it is lost. `until`: by the clock that counts suspension.
    async fn hold(&mut self, journal: Journal, mut until: Duration) {
        let since = Moment(self.agent.clock.unix_ms());
        self.agent.inherit(journal);
        self.agent.set_leadership(Leadership::Held { since }, false);
        let mut renewed = self.agent.clock.since_boot();
        loop {
            if self.agent.wants_adoption() {
                // The lock's time goes on meanwhile.
                let limit = until.saturating_sub(self.agent.clock.since_boot()) / 2;
                tokio::select! {
                    _ = self.agent.adopt() => {}
                    () = self.agent.clock.sleep(limit) => {}
                }
            }
            if !self.wait_for_renewal(renewed).await {
                continue;
            }
            renewed = self.agent.clock.since_boot();
            match self.renew(until).await {
                Kept::Until(later) => (until, self.silent_since) = (later, None),
                Kept::Lost => {
                    return self.agent.set_leadership(Leadership::Standby { holder: None, error: None }, true);
                }
                Kept::Unknown(error) => {
                    let now = self.agent.clock.since_boot();
                    self.silent_since.get_or_insert(now);
                    if now >= until {
                        // Nothing new begins. What is under way may end: perhaps nobody can have the lock.
                        return self.silent(&error, now).await;
                    }
                    self.agent.clock.sleep(LOOK_EVERY.0).await;
                }
            }
        }
    }

    /// Until a third of the lock's time has passed, or there is something to note. `false`: it is not time yet, but to
    /// learn the repository's past once more.
    async fn wait_for_renewal(&self, renewed: Duration) -> bool {
        let clock = &self.agent.clock;
        let left = (renewed + self.lock.ttl() / 3).saturating_sub(clock.since_boot());
        let wait = if self.agent.wants_adoption() { left.min(ADOPT_EVERY) } else { left };
        tokio::select! {
            () = clock.sleep(wait) => wait == left,
            () = self.agent.noted.notified() => true,
        }
    }

    async fn renew(&self, until: Duration) -> Kept {
        let clock = &self.agent.clock;
        let before = clock.since_boot();
        let journal = self.agent.journal();
        let left = until.saturating_sub(before);
        tokio::select! {
            renewed = self.lock.renew(&journal) => match renewed {
                Ok(true) => Kept::Until(before + self.lock.ttl()),
                Ok(false) => Kept::Lost,
                Err(error) => Kept::Unknown(error),
            },
            () = clock.sleep(left) => Kept::Unknown(LockError::Silent { waited: left }),
        }
    }
}

/// An error and its sources on one line.
fn told(error: &LockError) -> String {
    chain(error).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
