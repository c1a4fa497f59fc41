//! Where figures and signs of life go: metrics file, Pushgateway, dead man's switch. What goes wrong with them is a warning.

use super::args::TelemetryArgs;
use super::console::Console;
use super::error::{CliError, chain};
use crate::exit::Exit;
use crate::telemetry::file::{FileError, MetricsFile};
use crate::telemetry::ping::Ping;
use crate::telemetry::push::Push;
use crate::telemetry::{HttpError, Reason, Registry, Values};
use hah_vault_format::SourceName;
use std::fmt::Display;
use std::sync::Arc;

/// All of them; each may be missing.
pub(super) struct Outlets {
    console: Arc<Console>,
    file: Option<MetricsFile>,
    push: Option<Push>,
    ping: Option<Ping>,
}

impl Outlets {
    /// As the options say. `host`: this machine's name.
    pub(super) fn new(args: &TelemetryArgs, host: &str, console: Arc<Console>) -> Result<Self, CliError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let file = args.metrics_file.clone().filter(|path| !path.as_os_str().is_empty());
        let push = given(&args.metrics_push).map(|url| Push::parse(&url, host));
        let ping = given(&args.ping).map(|url| Ping::parse(&url));
        let bad_push =
            |error: HttpError| CliError::usage(error.to_string(), "check --metrics-push or HAH_VAULT_METRICS_PUSH");
        let bad_ping = |error: HttpError| CliError::usage(error.to_string(), "check --ping or HAH_VAULT_PING_URL");
        let bad_name = |error: FileError| CliError::usage(error.to_string(), "node_exporter reads no other: rename it");
        Ok(Self {
            console,
            file: file.map(MetricsFile::new).transpose().map_err(bad_name)?,
            push: push.transpose().map_err(bad_push)?,
            ping: ping.transpose().map_err(bad_ping)?,
        })
    }

    /// Whether anybody wants figures.
    pub(super) fn take_figures(&self) -> bool {
        self.file.is_some() || self.push.is_some()
    }

    /// Whether anybody wants signs of life.
    pub(super) fn take_pings(&self) -> bool {
        self.ping.is_some()
    }

    /// Brings the metrics file up to date; all that is in it then. 5 s at most.
    pub(super) async fn write(&self, registry: &Arc<Registry>) -> Option<Values> {
        let (file, registry) = (self.file.clone()?, Arc::clone(registry));
        let updated = tokio::task::spawn_blocking(move || file.update(&registry)).await;
        match updated {
            Ok(Ok(updated)) => {
                if updated.rubbish_lines > 0 {
                    let text = format!("{} lines of the old metrics file made no sense", updated.rubbish_lines);
                    self.console.warning(None, &format!("{text}; what they counted begins anew"));
                }
                Some(updated.values)
            }
            Ok(Err(error)) => self.not_written(chain(&error)),
            Err(error) => self.not_written(error),
        }
    }

    fn not_written<T>(&self, error: impl Display) -> Option<T> {
        self.console.warning(None, &format!("metrics: {error}"));
        None
    }

    /// Pushes what is of these sources, and what is of none. 20 s at most for each if nobody answers.
    pub(super) async fn push(&self, values: &Values, sources: &[SourceName]) {
        let Some(push) = &self.push else { return };
        let sources: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
        if let Err(error) = push.send(values, &sources).await {
            self.console.warning(None, &format!("metrics were not pushed: {error}"));
        }
    }

    /// A backup begins.
    pub(super) async fn ping_start(&self) {
        let Some(ping) = &self.ping else { return };
        if let Err(error) = ping.start().await {
            self.console.warning(None, &format!("the start was not pinged: {error}"));
        }
    }

    /// Backups ended so, and these failed.
    pub(super) async fn ping_end(&self, exit: Exit, failed: &[(SourceName, Reason)]) {
        let Some(ping) = &self.ping else { return };
        if let Err(error) = ping.end(exit, failed).await {
            self.console.warning(None, &format!("the end was not pinged: {error}"));
        }
    }
}
