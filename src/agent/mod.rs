//! The agent: schedules, one replica at a time, and a control API.
//!
//! ```text
//! lock ──> leader ─┐
//!                  ├─> agent (scheduler) ──> Worker   whoever does the work: the command line's, on a real repository
//! schedule ─> planner      │    └──> registry         runs: waiting, under way, ended
//! api (HTTP) ──────────────┘
//! ```
//! A **replica** is one agent process; of several with the same lock, the **holder** runs the schedules and takes requests.
//!
//! Architecture invariant: nothing here knows a repository: [`Worker`] does. Time comes from [`Clock`] alone, but for the
//! limits of HTTP connections. No answer of the API and no log line holds a secret.

pub mod api;
pub mod client;
mod clock;
mod core;
mod cron;
mod leader;
pub mod lock;
mod planner;
mod presence;
mod registry;
mod schedule;
pub mod serve;
pub mod systemd;
mod task;
mod telemetry;

pub use clock::{Clock, MachineClock, Moment};
pub use core::{Agent, AgentSettings, Leadership, SourceSettings, StopLimits};
pub use planner::{JobKey, JobSettings, JobStatus, Journal, Retry, ScheduleStatus, Settled};
pub use presence::{Presence, PresenceSettings};
pub use registry::{Entry, Progress, Refused, Registry, Request, Run, RunState, Trigger};
pub use schedule::{Schedule, ScheduleError};
pub use task::{Failure, Outcome, RunKind, Stored, Summary, Task, Worker};
pub use telemetry::{NoTelemetry, Telemetry};
