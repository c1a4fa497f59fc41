//! What the agent tells of itself, to whoever counts it.

use super::registry::Run;
use crate::archive::{Monitor, Silent};
use std::fmt;
use std::sync::Arc;

/// What an answer with the metrics is called: Prometheus' text format. (OpenMetrics wants other names and an end mark.)
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counts what happens. Must not block for long.
pub trait Telemetry: Send + Sync + fmt::Debug {
    /// A run begins.
    fn begun(&self, run: &Run);

    /// A run ended.
    fn ended(&self, run: &Run);

    /// The lock was taken, or lost.
    fn lock_held(&self, held: bool);

    /// Where the events of runs go.
    fn monitor(&self) -> Arc<dyn Monitor>;

    /// The metrics as text of Prometheus.
    fn render(&self) -> String;
}

/// Counts nothing.
#[derive(Debug)]
pub struct NoTelemetry;

impl Telemetry for NoTelemetry {
    fn begun(&self, _: &Run) {}

    fn ended(&self, _: &Run) {}

    fn lock_held(&self, _: bool) {}

    fn monitor(&self) -> Arc<dyn Monitor> {
        Arc::new(Silent)
    }

    fn render(&self) -> String {
        String::new()
    }
}
