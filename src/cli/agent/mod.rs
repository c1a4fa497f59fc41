//! `agent`: the agent with everything that it needs from this machine, and `--agent`: another one's client.

mod metrics;
mod plan;
pub(super) mod remote;
mod telling;
mod worker;

use super::args::{Agent as Args, Global};
use super::console::Console;
use super::context::Context;
use super::error::CliError;
use super::prompt::Asking;
use super::servers::Servers;
use super::settings::{Settings, environment};
use super::telemetry::Telemetry;
use crate::agent::api::Api;
use crate::agent::lock::{Alone, ConsulLock, LeaseLock, Lock};
use crate::agent::serve::{Listener, TlsReload, check_access};
use crate::agent::systemd::Systemd;
use crate::agent::{Agent, Clock, MachineClock, Presence};
use crate::archive::Cancel;
use crate::config::Kind;
use crate::exit::Exit;
use crate::source::Consul;
use crate::store::StoreUrl;
use crate::telemetry::Registry;
use crate::world::World;
use futures::FutureExt;
use metrics::AgentMetrics;
use plan::{AgentPlan, LockPlan};
use std::sync::Arc;
use telling::Telling;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use worker::ArchiveWorker;

/// What every run of the agent starts from.
#[derive(Debug, Clone)]
struct Base {
    global: Global,
    settings: Arc<Settings>,
    console: Arc<Console>,
    metrics: Arc<Registry>,
    world: Arc<dyn World>,
}

impl Base {
    /// A context of its own, with sessions of its own.
    fn context(&self, cancel: Cancel) -> Context {
        let telemetry = Telemetry::of_agent(Arc::clone(&self.metrics), Arc::clone(&self.console));
        Context {
            global: self.global.clone(),
            settings: Arc::clone(&self.settings),
            console: Arc::clone(&self.console),
            cancel,
            asking: Asking::default(),
            world: Arc::clone(&self.world),
            servers: Servers::new(Arc::clone(&self.console), Arc::clone(&self.settings)),
            telemetry: Arc::new(telemetry),
        }
    }

    fn worker(&self, plan: &AgentPlan) -> Arc<ArchiveWorker> {
        let url = self.settings.repository.text("url").map(str::parse::<StoreUrl>);
        let describe = match url {
            Some(Ok(url)) => url.to_string(),
            _ => "the default folder".into(),
        };
        Arc::new(ArchiveWorker::new(self.clone(), plan.clone(), describe))
    }
}

/// How many runs it has threads for; more take a restart.
pub(super) fn runs_max(settings: &Settings) -> usize {
    plan::runs_max(settings.config.of(Kind::Agent).next())
}

/// `is_flag` tells of an option whether it was typed.
pub(super) async fn run(context: &Context, args: Args, is_flag: &dyn Fn(&str) -> bool) -> Result<Exit, CliError> {
    let plan = AgentPlan::of(&context.settings, &context.world.host())?;
    if args.dry_run {
        check_access(&plan.listen, &plan.access)?;
        return context.console.show(&format!("{:#}\n", worker::describe(&plan))).map(|()| Exit::Done);
    }
    let systemd = Systemd::new(
        variable("NOTIFY_SOCKET").as_deref(),
        variable("WATCHDOG_USEC").as_deref(),
        variable("WATCHDOG_PID").as_deref(),
    );
    let base = Base {
        global: context.global.clone(),
        settings: Arc::clone(&context.settings),
        console: Arc::clone(&context.console),
        metrics: Registry::lasting(Arc::clone(&context.world)),
        world: Arc::clone(&context.world),
    };
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::new(Arc::clone(&context.world)));
    let lock = lock(context, &plan).boxed().await?;
    let presence = presence(context, &plan).boxed().await?;
    let listener = Listener::bind(&plan.listen, plan.tls.as_ref(), &plan.access).await?;
    let worker = base.worker(&plan);
    let telling = Arc::new(Telling::new(context.telemetry.outlets(), Arc::clone(&base.metrics)));
    let telemetry = Arc::new(AgentMetrics::new(Arc::clone(&base.metrics), Arc::clone(&telling), &plan.agent));
    let world = (Arc::clone(&context.world), clock);
    let agent =
        Agent::new(plan.agent.clone(), Arc::clone(&worker) as _, world, Arc::clone(&telemetry) as _, lock.kind());
    telemetry.attach(&agent);
    let api = Api::new(Arc::clone(&agent), plan.access.clone());
    let mut reload = Reload {
        base,
        worker,
        agent: &agent,
        api: &api,
        tls: listener.tls_reload(),
        listen: listener.address(),
        runs_max: plan.agent.runs_max,
        is_flag,
    };
    tracing::info!(listen = %listener.address(), jobs = plan.agent.jobs.len(), "the agent runs");
    systemd.ready(&format!("control API on {}", listener.address()));
    let (done, is_done) = oneshot::channel::<()>();
    let running = async {
        agent.run(plan.stop).await;
        drop(done);
    };
    let leading = agent.lead(lock, async { drop(is_done.await) });
    // Others may ask how it goes until the last run has ended.
    let (closed, is_closed) = oneshot::channel::<()>();
    let working = async {
        tokio::join!(running, leading);
        telling.end();
        drop(closed);
    };
    let serving = listener.serve(&api, async { drop(is_closed.await) });
    let seen = async {
        if let Some(presence) = presence {
            presence.keep(&agent).await;
        }
    };
    let all = async { tokio::join!(working, serving, seen, telling.run()) };
    tokio::select! {
        _ = all => {}
        result = signals(&mut reload, &systemd) => result?,
        () = watchdog(&systemd) => {}
    }
    tracing::info!("the agent has ended");
    Ok(Exit::Done)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The Consul with this label, or the only one, or the environment's. Its token lives as long as the agent.
async fn consul(context: &Context, label: Option<&str>) -> Result<Arc<Consul>, CliError> {
    let mut blocks = context.settings.config.of(Kind::Consul);
    let section = match label {
        Some(label) => blocks.find(|section| section.label.as_deref() == Some(label)).cloned().ok_or_else(|| {
            CliError::usage(format!("there is no consul block with the label {label:?}"), "name one that there is")
        })?,
        None => blocks.next().cloned().unwrap_or_else(|| environment(Kind::Consul)),
    };
    let name = section.source_name();
    let consul = Arc::clone(context.servers.sessions())
        .consul(section)
        .await
        .map_err(|source| CliError::Server { name, source: Box::new(source) })?;
    Ok(Arc::new(consul))
}

/// A name that no other replica, and no other start of this one, has.
fn holder(context: &Context, plan: &AgentPlan) -> String {
    format!("{}-{:08x}", plan.agent.instance, context.world.random_u32())
}

async fn lock(context: &Context, plan: &AgentPlan) -> Result<Arc<dyn Lock>, CliError> {
    Ok(match &plan.lock {
        LockPlan::None(path) => Arc::new(Alone::new(path.clone())),
        LockPlan::Consul(settings, label) => {
            let consul = consul(context, label.as_deref()).await?;
            Arc::new(ConsulLock::new(consul, settings.clone(), holder(context, plan)))
        }
        LockPlan::Lease(name, ttl) => {
            if context.settings.repository.setting("s3.credentials").is_some() {
                let hint = "use lock { kind = \"consul\" }, or keys that do not end";
                return Err(CliError::usage("a lease needs keys of the store that live as long as the agent", hint));
            }
            let store = context.store().await?;
            Arc::new(LeaseLock::new(store, name.clone(), holder(context, plan), *ttl))
        }
    })
}

async fn presence(context: &Context, plan: &AgentPlan) -> Result<Option<Presence>, CliError> {
    let Some((settings, label)) = &plan.presence else { return Ok(None) };
    Ok(Some(Presence::new(consul(context, label.as_deref()).await?, settings.clone())))
}

/// Tells systemd that it lives, for ever.
async fn watchdog(systemd: &Systemd) {
    let Some(every) = systemd.watchdog_every() else { return std::future::pending().await };
    loop {
        systemd.alive();
        tokio::time::sleep(every).await;
    }
}

/// The first SIGTERM or ctrl-C stops in good order, the second ends the process; SIGHUP reads the configuration again.
async fn signals(reload: &mut Reload<'_>, systemd: &Systemd) -> Result<(), CliError> {
    let failed = super::internal;
    let (mut int, mut term) =
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?);
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hangup.recv() => {
                systemd.reloading(reload.agent.clock.since_boot());
                reload.run().await;
                systemd.ready("reloaded");
                continue;
            }
        }
        if reload.agent.is_stopping() {
            std::process::exit(Exit::Interrupted.code().into());
        }
        tracing::info!("stopping");
        systemd.stopping();
        reload.agent.begin_stop();
    }
}

/// Reading the configuration again.
struct Reload<'r> {
    base: Base,
    worker: Arc<ArchiveWorker>,
    agent: &'r Arc<Agent>,
    api: &'r Api,
    tls: TlsReload,
    listen: crate::agent::serve::Listen,
    /// At the start.
    runs_max: usize,
    is_flag: &'r dyn Fn(&str) -> bool,
}

impl Reload<'_> {
    /// What cannot be read or makes no sense changes nothing.
    async fn run(&mut self) {
        match self.read() {
            Ok((base, plan)) => {
                let worker = base.worker(&plan);
                self.agent.reload(plan.agent.clone(), Arc::clone(&worker) as _);
                self.api.set_access(plan.access.clone());
                if let Err(error) = self.tls.reload(plan.tls.as_ref()) {
                    tracing::error!(%error, "the old certificates stay");
                }
                let old = std::mem::replace(&mut self.worker, worker);
                self.base = base;
                crate::agent::Worker::close(old.as_ref()).await;
                tracing::info!(jobs = plan.agent.jobs.len(), "the configuration was read again");
            }
            Err(error) => {
                let text = super::error::chain(&error);
                tracing::error!(error = text, "the configuration cannot be used; the old one stays");
            }
        }
    }

    fn read(&self) -> Result<(Base, AgentPlan), CliError> {
        let settings = Arc::new(Settings::open(&self.base.global, self.is_flag)?);
        let base = Base { settings, ..self.base.clone() };
        let mut plan = AgentPlan::of(&base.settings, &self.agent.settings().instance)?;
        if plan.agent.runs_max > self.runs_max {
            tracing::warn!(runs_at_once = self.runs_max, "more runs at once take a restart");
            plan.agent.runs_max = self.runs_max;
        }
        // The listener stays where it is.
        check_access(&self.listen, &plan.access)?;
        Ok((base, plan))
    }
}
