//! ctrl-C and SIGTERM: the first stops the command in good order, the second ends the process at once.

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
    /// Begins to listen; called within the runtime. A task of its own: the command's may be busy.
    pub(super) fn watch(cancel: Cancel, asking: Asking) -> io::Result<Self> {
        let interrupt = Self::default();
        let (int, term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(listen(int, term, interrupt.clone(), cancel, asking));
        Ok(interrupt)
    }

    /// Returns when the first signal has come.
    pub(super) async fn happened(&self) {
        self.0.notified().await;
    }
}

async fn listen(mut int: Signal, mut term: Signal, interrupt: Interrupt, cancel: Cancel, asking: Asking) {
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        // While a question is open nothing has been written yet, and its thread cannot be reached.
        if asking.interrupt() || cancel.is_cancelled() {
            std::process::exit(Exit::Interrupted.code().into());
        }
        cancel.cancel();
        interrupt.0.notify_one();
    }
}
