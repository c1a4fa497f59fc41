//! The agent's runs, told as batch runs are: metrics file, Pushgateway, dead man's switch. Beside the runs, which wait
//! for none of it; and one after the other, so that a start is never told after its end.

use super::super::outlets::Outlets;
use crate::exit::Exit;
use crate::telemetry::{Reason, Registry};
use hah_vault_format::SourceName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What is untold when the agent ends may take this long.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// Pings that wait for a switch that does not answer; then the oldest are dropped.
const PINGS_MAX: usize = 16;

/// What a dead man's switch hears.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ping {
    Start,
    /// These sources' last backups failed; with an exit code as a batch run of all sources would end with.
    End(Exit, Vec<(SourceName, Reason)>),
}

/// How a backup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackupEnd {
    /// Its manifest is committed.
    Done,
    /// It failed, with the exit code of the command.
    Failed(Reason, Exit),
    /// It was stopped: if no other follows, the switch goes off by itself.
    Stopped,
}

#[derive(Debug, Default)]
struct News {
    is_any: bool,
    is_over: bool,
    /// Sources whose figures are to be pushed.
    sources: BTreeSet<SourceName>,
    pings: VecDeque<Ping>,
    /// Sources whose last backup failed.
    failing: BTreeMap<SourceName, Reason>,
}

/// Tells.
pub(super) struct Telling {
    outlets: Option<Arc<Outlets>>,
    registry: Arc<Registry>,
    news: Mutex<News>,
    wake: Notify,
    over: Notify,
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telling").finish_non_exhaustive()
    }
}

impl Telling {
    pub(super) fn new(outlets: Option<Arc<Outlets>>, registry: Arc<Registry>) -> Self {
        Self { outlets, registry, news: Mutex::default(), wake: Notify::new(), over: Notify::new() }
    }

    /// Another thread's panic leaves news that are still good enough.
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        let mut news = self.news();
        news.is_any = true;
        change(&mut news);
        while news.pings.len() > PINGS_MAX {
            news.pings.pop_front();
        }
        drop(news);
        self.wake.notify_one();
    }

    /// A backup begins. The file says so at once: a crash must not look like a run that never began.
    pub(super) fn backup_began(&self) {
        self.tell(|news| news.pings.push_back(Ping::Start));
    }

    /// A backup ended. A success is told only when every source's last backup is one and none is overdue: one switch
    /// guards all of them. While one is overdue nothing is told, and the switch goes off in its own time.
    pub(super) fn backup_ended(&self, source: &SourceName, end: BackupEnd, known: &[SourceName], is_overdue: bool) {
        self.tell(|news| {
            news.sources.insert(source.clone());
            let exit = match end {
                BackupEnd::Done => {
                    news.failing.remove(source);
                    Exit::Partial
                }
                BackupEnd::Failed(reason, exit) => {
                    news.failing.insert(source.clone(), reason);
                    exit
                }
                BackupEnd::Stopped => return,
            };
            news.failing.retain(|source, _| known.contains(source));
            let failed: Vec<(SourceName, Reason)> = news.failing.clone().into_iter().collect();
            match (failed.is_empty(), is_overdue) {
                (true, false) => news.pings.push_back(Ping::End(Exit::Done, failed)),
                (true, true) => {}
                (false, _) => news.pings.push_back(Ping::End(exit, failed)),
            }
        });
    }

    /// Another run ended.
    pub(super) fn run_ended(&self, source: Option<&SourceName>) {
        self.tell(|news| news.sources.extend(source.cloned()));
    }

    /// Somebody else may back up from now on: what failed here says nothing any more.
    pub(super) fn stepped_down(&self) {
        self.news().failing.clear();
    }

    /// There will be nothing more to tell.
    pub(super) fn end(&self) {
        self.news().is_over = true;
        self.wake.notify_one();
        self.over.notify_one();
    }

    /// Tells what there is to tell, until the end.
    pub(super) async fn run(&self) {
        let Some(outlets) = &self.outlets else { return };
        let too_late = async {
            self.over.notified().await;
            tokio::time::sleep(LAST_WORDS_LIMIT).await;
        };
        tokio::select! {
            () = self.tell_all(outlets) => {}
            () = too_late => tracing::warn!("metrics or pings of the last runs were not told"),
        }
    }

    async fn tell_all(&self, outlets: &Outlets) {
        loop {
            let (sources, pings, is_any, is_over) = {
                let mut news = self.news();
                let sources: Vec<SourceName> = std::mem::take(&mut news.sources).into_iter().collect();
                let pings = std::mem::take(&mut news.pings);
                (sources, pings, std::mem::take(&mut news.is_any), news.is_over)
            };
            if is_any {
                self.tell_of(outlets, &sources, pings).await;
            } else if is_over {
                return;
            } else {
                self.wake.notified().await;
            }
        }
    }

    async fn tell_of(&self, outlets: &Outlets, sources: &[SourceName], pings: VecDeque<Ping>) {
        let written = outlets.write(&self.registry).await;
        let push = async {
            // That a backup began is in the file only, as with batch runs.
            if !sources.is_empty() || pings.is_empty() {
                let values = written.unwrap_or_else(|| self.registry.unsaved_snapshot());
                outlets.push(&values, sources).await;
            }
        };
        let ping = async {
            for ping in &pings {
                match ping {
                    Ping::Start => outlets.ping_start().await,
                    Ping::End(exit, failed) => outlets.ping_end(*exit, failed).await,
                }
            }
        };
        futures::future::join(push, ping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Machine;

    fn telling() -> (Telling, Vec<SourceName>) {
        let sources = ["consul", "vault"].map(|name| name.parse().unwrap()).to_vec();
        (Telling::new(None, Registry::lasting(Machine::shared())), sources)
    }

    fn last(telling: &Telling) -> Option<Ping> {
        telling.news().pings.pop_back()
    }

    #[test]
    fn one_switch_hears_of_success_only_when_all_sources_are_well() {
        let (telling, known) = telling();
        let [consul, vault] = [&known[0], &known[1]];
        let done = Some(Ping::End(Exit::Done, Vec::new()));
        telling.backup_ended(consul, BackupEnd::Done, &known, false);
        assert_eq!(last(&telling), done);
        telling.backup_ended(vault, BackupEnd::Failed(Reason::Key, Exit::NoKey), &known, false);
        let failing = vec![(vault.clone(), Reason::Key)];
        assert_eq!(last(&telling), Some(Ping::End(Exit::NoKey, failing.clone())));
        telling.backup_ended(consul, BackupEnd::Done, &known, false);
        assert_eq!(last(&telling), Some(Ping::End(Exit::Partial, failing)));
        // Stopped by hand: nothing, and the failure stays one.
        telling.backup_ended(vault, BackupEnd::Stopped, &known, false);
        assert_eq!(last(&telling), None);
        telling.backup_ended(vault, BackupEnd::Done, &known, true);
        assert_eq!(last(&telling), None, "another one is overdue");
        telling.backup_ended(vault, BackupEnd::Done, &known, false);
        assert_eq!(last(&telling), done);
        // A source that is configured no more, and another replica's turn.
        for forget in [0, 1] {
            telling.backup_ended(vault, BackupEnd::Failed(Reason::Key, Exit::NoKey), &known, false);
            if forget == 1 {
                telling.stepped_down();
            }
            telling.backup_ended(consul, BackupEnd::Done, &known[..=forget], false);
            assert_eq!(last(&telling), done, "{forget}");
        }
    }

    #[test]
    fn a_switch_that_does_not_answer_fills_no_memory() {
        let (telling, known) = telling();
        for _ in 0..100 {
            telling.backup_began();
            telling.backup_ended(&known[0], BackupEnd::Done, &known, false);
        }
        assert_eq!(telling.news().pings.len(), PINGS_MAX);
        assert_eq!(last(&telling), Some(Ping::End(Exit::Done, Vec::new())));
    }
}
