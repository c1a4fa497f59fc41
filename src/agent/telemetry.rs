//! What the agent tells of itself, to whoever counts it.

use super::registry::Run;
use crate::archive::{Monitor, Silent};
use std::fmt;
use std::sync::Arc;

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

    /// The metrics as OpenMetrics text.
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
        "# EOF\n".into()
    }
}
