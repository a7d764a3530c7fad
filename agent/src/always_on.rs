//! The agent of a system whose tunnels are always on: no broker, no orders, no leases.

use std::sync::Arc;

use daemon::device_dir::Membership;
use daemon::device_file::Hooks as Commands;
use daemon::monitor::Pulse;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use russh::keys::PrivateKey;

use crate::agent::AgentError;
use crate::hooks::Hooks;
use crate::plan::Plan;
use crate::tunnel::{Event, Tunnel};
use crate::vitals::Vitals;

/// A remote computer's agent which keeps its tunnel up by itself.
pub struct AlwaysOn {
    plan: Plan,
    commands: Commands,
    vitals: Vitals,
}

impl AlwaysOn {
    /// Checks that everything that it needs is there: the SSH key, and a port. Nothing is connected yet.
    pub fn new(membership: &Membership, key: PrivateKey) -> Result<Self, AgentError> {
        Ok(Self {
            plan: Plan::new(membership, Arc::new(key))?,
            commands: membership.device.hooks.clone(),
            vitals: Vitals::new(),
        })
    }

    /// What it says of itself to a monitor.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// Keeps the tunnel up until the shutdown. A proxy that is away is tried again for ever.
    pub async fn run(self, shutdown: &Shutdown, pulse: &Pulse) {
        let Self {
            plan,
            commands,
            vitals,
        } = self;
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
