//! What the agent says of itself to a monitor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::monitor::{Counter, Page, Source};
use protocol::ReplyBody;

use crate::tunnel::Event;

/// The agent's part of the monitor. Clones are of the same agent.
#[derive(Clone, Debug)]
pub struct Vitals(Arc<Counts>);

#[derive(Debug)]
pub(crate) struct Counts {
    /// Why the agent cannot do its work, while it cannot.
    unready: Mutex<Option<String>>,
    pub(crate) sessions: Counter,
    pub(crate) lost_sessions: Counter,
    pub(crate) orders: Counter,
    pub(crate) unreadable_orders: Counter,
    pub(crate) opened: Counter,
    pub(crate) refused: Counter,
    pub(crate) closed: Counter,
    pub(crate) leases: Counter,
    pub(crate) tunnel: Counter,
    pub(crate) streams: Counter,
    pub(crate) openings: Counter,
    pub(crate) failed_openings: Counter,
    pub(crate) losses: Counter,
}

impl Vitals {
    /// Those of an agent that has not begun.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counts {
            unready: Mutex::new(Some("agent: it has not begun yet".to_owned())),
            sessions: Counter::default(),
            lost_sessions: Counter::default(),
            orders: Counter::default(),
            unreadable_orders: Counter::default(),
            opened: Counter::default(),
            refused: Counter::default(),
            closed: Counter::default(),
            leases: Counter::default(),
            tunnel: Counter::default(),
            streams: Counter::default(),
            openings: Counter::default(),
            failed_openings: Counter::default(),
            losses: Counter::default(),
        }))
    }

    /// The numbers.
    pub(crate) fn counts(&self) -> &Counts {
        &self.0
    }

    /// It can do its work from now on.
    pub(crate) fn ready(&self) {
        *self.unready_now() = None;
    }

    /// It cannot, and why.
    pub(crate) fn unready(&self, why: impl Into<String>) {
        *self.unready_now() = Some(why.into());
    }

    /// Counts an answer to a controller.
    pub(crate) fn replied(&self, body: &ReplyBody) {
        match body {
            ReplyBody::Opened { .. } => self.0.opened.increment(),
            ReplyBody::Refused { .. } => self.0.refused.increment(),
            ReplyBody::Closed => self.0.closed.increment(),
        }
    }

    /// Counts what has become of the tunnel.
    pub(crate) fn tunnel(&self, event: &Event) {
        match event {
            Event::Opened(_) => self.0.openings.increment(),
            Event::Failed(_) => self.0.failed_openings.increment(),
            Event::Lost { silent: _ } => self.0.losses.increment(),
            Event::Streams(streams) => self.0.streams.set(*streams),
        }
    }

    fn unready_now(&self) -> MutexGuard<'_, Option<String>> {
        self.0
            .unready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Vitals {
    fn unready(&self) -> Option<String> {
        self.unready_now().clone()
    }

    fn write(&self, page: &mut Page) {
        let counts = &self.0;
        let ready = u8::from(self.unready_now().is_none());
        page.number(
            "tunnel_agent_ready",
            "Whether controllers can reach it: 1 with a session at the broker, or with an always-on tunnel.",
            ready,
        );
        for (name, help, count) in [
            (
                "tunnel_agent_sessions_total",
                "Sessions with the broker that began.",
                &counts.sessions,
            ),
            (
                "tunnel_agent_failed_sessions_total",
                "Sessions with the broker that were lost, and tries that failed.",
                &counts.lost_sessions,
            ),
            (
                "tunnel_agent_orders_total",
                "Orders of controllers.",
                &counts.orders,
            ),
            (
                "tunnel_agent_unreadable_orders_total",
                "Orders that could not be read.",
                &counts.unreadable_orders,
            ),
            (
                "tunnel_agent_leases",
                "Controllers' claims on the tunnel.",
                &counts.leases,
            ),
            (
                "tunnel_agent_tunnel_open",
                "Whether there is a tunnel.",
                &counts.tunnel,
            ),
            ("tunnel_agent_streams", "Open streams.", &counts.streams),
            (
                "tunnel_agent_tunnel_openings_total",
                "Times that the proxy granted the tunnel's forwards.",
                &counts.openings,
            ),
            (
                "tunnel_agent_tunnel_failures_total",
                "Times that no tunnel could be opened.",
                &counts.failed_openings,
            ),
            (
                "tunnel_agent_tunnel_losses_total",
                "Times that an open tunnel was lost.",
                &counts.losses,
            ),
        ] {
            page.number(name, help, count.get());
        }
        page.numbers(
            "tunnel_agent_replies_total",
            "Answers to controllers.",
            "answer",
            [
                ("opened", counts.opened.get()),
                ("refused", counts.refused.get()),
                ("closed", counts.closed.get()),
            ],
        );
    }
}
