//! The agent of a system whose tunnels are always on: no broker, no orders, no leases.

use std::sync::Arc;

use daemon::device_dir::Membership;
use daemon::device_file::Hooks as Commands;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use russh::keys::PrivateKey;

use crate::agent::AgentError;
use crate::builtin::Builtin;
use crate::hooks::Hooks;
use crate::plan::Plan;
use crate::tunnel::{Event, Tunnel};

/// A remote computer's agent which keeps its tunnel up by itself.
pub struct AlwaysOn {
    plan: Plan,
    commands: Commands,
}

impl AlwaysOn {
    /// Checks that everything that it needs is there: the SSH key, and a port. Nothing is connected yet.
    pub fn new(
        membership: &Membership,
        key: PrivateKey,
        builtin: Option<Arc<dyn Builtin>>,
    ) -> Result<Self, AgentError> {
        Ok(Self {
            plan: Plan::new(membership, Arc::new(key), builtin)?,
            commands: membership.device.hooks.clone(),
        })
    }

    /// Keeps the tunnel up until the shutdown. A proxy that is away is tried again for ever.
    pub async fn run(self, shutdown: &Shutdown) {
        let Self { plan, commands } = self;
        let device = plan.device.clone();
        tracing::info!(%device, proxy = %plan.proxy, port = plan.port, links = ?plan.always_on, "the agent begins; its tunnel is always on");
        let hooks = Hooks::start(commands, device.clone(), plan.proxy.to_string(), shutdown);
        let mut tunnel = Tunnel::start(plan, shutdown);
        tunnel.want(true);
        systemd::feed_watchdog(shutdown);
        systemd::ready();
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                event = tunnel.next() => event,
            };
            match event {
                Some(Event::Opened(forwards)) => {
                    let port = forwards.first().map_or(0, |forward| forward.port);
                    tracing::info!(%device, port, "the tunnel is up");
                    systemd::status(&format!("a tunnel at port {port}"));
                    hooks.up(&forwards);
                }
                Some(Event::Failed(reason)) => systemd::status(&format!("no tunnel: {reason}")),
                Some(Event::Lost) => {
                    tracing::warn!(%device, "the tunnel is lost; it is opened again");
                    systemd::status("the tunnel is lost");
                    hooks.down();
                }
                Some(Event::Streams(_)) => {}
                None => break,
            }
        }
        systemd::stopping();
        // Streams that are open may end by themselves within the grace period.
        tunnel.want(false);
    }
}
