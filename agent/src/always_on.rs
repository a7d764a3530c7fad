//! The agent of a system whose tunnels are always on: no broker, no orders, no leases.

use std::error::Error;
use std::sync::Arc;

use daemon::device_dir::Membership;
use daemon::device_file::DeviceFile;
use daemon::monitor::Pulse;
use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use protocol::DeviceId;
use russh::keys::PrivateKey;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::AgentError;
use crate::builtin::Builtin;
use crate::hangup::hangup;
use crate::hooks::Hooks;
use crate::plan::Plan;
use crate::tunnel::{Event, Tunnel};
use crate::vitals::Vitals;

/// A remote computer's agent which keeps its tunnel up by itself.
pub struct AlwaysOn {
    plan: Plan,
    settings: Box<DeviceFile>,
    vitals: Vitals,
    files: Option<Files>,
}

/// Reads everything again, as for an agent that begins.
type Files = Box<dyn Fn() -> Result<AlwaysOn, Box<dyn Error + Send + Sync>> + Send + Sync>;

impl AlwaysOn {
    /// Checks that everything that it needs is there: the SSH key, and a port. Nothing is connected yet.
    pub fn new(
        membership: &Membership,
        key: PrivateKey,
        builtin: Option<Arc<dyn Builtin>>,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            plan: Plan::new(membership, Arc::new(key), builtin)?,
            settings: Box::new(membership.device.clone()),
            vitals: Vitals::new(),
            files: None,
        })
    }

    /// Reads everything again at SIGHUP, by this.
    pub fn rereading(
        mut self,
        files: impl Fn() -> Result<Self, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.files = Some(Box::new(files));
        self
    }

    /// What it says of itself to a monitor.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// Keeps the tunnel up until the shutdown. A proxy that is away is tried again for ever.
    pub async fn run(self, shutdown: &Shutdown, pulse: &Pulse) {
        let Self {
            plan,
            settings,
            vitals,
            files,
        } = self;
        // Without it the files are read at a restart, and that is all.
        let mut hangups = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be watched for"))
            .ok();
        let commands = settings.hooks.clone();
        vitals.unready("agent: there is no tunnel yet");
        let device = plan.device.clone();
        tracing::info!(%device, proxy = %plan.proxy, port = plan.port, links = ?plan.always_on, "the agent begins; its tunnel is always on");
        let hooks = Hooks::start(commands, device.clone(), plan.proxy.to_string(), shutdown);
        let mut tunnel = Tunnel::start(plan, shutdown);
        tunnel.want(true);
        systemd::feed_watchdog(shutdown, pulse);
        systemd::ready();
        let mut beats = Pulse::ticks();
        loop {
            pulse.beat();
            let event = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                event = tunnel.next() => event,
                () = hangup(hangups.as_mut()) => {
                    if let Some(next) = files.as_ref().and_then(|files| read_again(files, &device, &settings)) {
                        tunnel.replan(next);
                    }
                    continue;
                }
                _ = beats.tick() => continue,
            };
            if let Some(event) = &event {
                vitals.tunnel(event);
            }
            match event {
                Some(Event::Opened(forwards)) => {
                    let port = forwards.first().map_or(0, |forward| forward.port);
                    tracing::info!(%device, port, "the tunnel is up");
                    systemd::status(&format!("a tunnel at port {port}"));
                    vitals.ready();
                    vitals.counts().tunnel.set(1);
                    hooks.up(&forwards);
                }
                Some(Event::Failed(reason)) => {
                    systemd::status(&format!("no tunnel: {reason}"));
                    vitals.unready(format!("agent: no tunnel: {reason}"));
                }
                Some(Event::Lost { silent: _ }) => {
                    tracing::warn!(%device, "the tunnel is lost; it is opened again");
                    systemd::status("the tunnel is lost");
                    vitals.unready("agent: the tunnel is lost");
                    vitals.counts().tunnel.set(0);
                    hooks.down();
                }
                Some(Event::Streams(_)) => {}
                None => break,
            }
        }
        vitals.unready("agent: stopping");
        systemd::stopping();
        // Streams that are open may end by themselves within the grace period.
        tunnel.want(false);
    }
}

/// What the files say now, if they can be used.
fn read_again(files: &Files, device: &DeviceId, settings: &DeviceFile) -> Option<Plan> {
    let next = match files() {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(%device, error = one_line(&*error), "SIGHUP received: the files cannot be used, and the last good ones stay in use");
            return None;
        }
    };
    if next.plan.device != *device {
        tracing::error!(%device, now = %next.plan.device, "SIGHUP received: the files are another device's; that takes a restart");
        return None;
    }
    for setting in settings.restart_for(&next.settings) {
        tracing::warn!(%device, "SIGHUP received: another {setting} takes a restart");
    }
    tracing::info!(%device, "SIGHUP received: the files have been read again");
    Some(next.plan)
}
