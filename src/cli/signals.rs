//! ctrl-C, SIGTERM and SIGHUP: the first stops the command in good order, the second ends the process at once.

use super::prompt::Asking;
use crate::archive::Cancel;
use crate::exit::Exit;
use std::io;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Tells of the first signal.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<Notify>);

impl Interrupt {
    /// Begins to listen; called within the runtime. A task of its own: the command's may be busy. `closing` gives back
    /// what was made for this run, if the command itself cannot because it waits for an answer.
    pub(super) fn watch(
        cancel: Cancel,
        asking: Asking,
        closing: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let interrupt = Self::default();
        let (int, term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Under nohup a terminal that goes away is no reason to stop.
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        let signals = Signals { int, term, hangup };
        tokio::spawn(listen(signals, interrupt.clone(), cancel, asking, closing));
        Ok(interrupt)
    }

    /// Returns when the first signal has come.
    pub(super) async fn happened(&self) {
        self.0.notified().await;
    }
}

/// Whether whoever started us has SIGHUP ignored; `/proc` tells (proc_pid_status(5), SigIgn). Where it does not, the
/// signal keeps its own way.
fn hangup_is_ignored() -> bool {
    const HANGUP: u64 = 1;
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask & (1 << (HANGUP - 1)) != 0)
}

/// The signals that end a run.
struct Signals {
    int: Signal,
    term: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Waits for the next one.
    async fn next(&mut self) {
        let Self { int, term, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            () = hung_up => {}
        }
    }
}

async fn listen(
    mut signals: Signals,
    interrupt: Interrupt,
    cancel: Cancel,
    asking: Asking,
    closing: impl Future<Output = ()>,
) {
    signals.next().await;
    cancel.cancel();
    interrupt.0.notify_one();
    // While a question is open nothing has been written yet, but tokens may have been made; and its thread cannot be
    // reached.
    if asking.interrupt() {
        tokio::select! {
            () = closing => {}
            () = signals.next() => {}
        }
    } else {
        signals.next().await;
        asking.interrupt();
    }
    std::process::exit(Exit::Interrupted.code().into());
}
