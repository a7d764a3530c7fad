//! When there has to be a tunnel, and what each controller is told: the decisions, without a socket.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::{
    DeviceId, Forward, Label, LeaseId, Lifetime, Order, PlainOrder, PlainState, RefusalCode, Reply,
    ReplyBody,
};
use tokio::time::Instant;

use crate::reply_text::bounded;

mod by_port;
mod refusal;

pub(crate) use by_port::ByPort;
use refusal::stale_text;
pub use refusal::{MAX_LEASES, MAX_LEASES_PER_CONTROLLER};

/// The leases of a device and the state of its tunnel. A tunnel lives while a lease or a stream does, and one grace
/// period more.
#[derive(Debug)]
pub(crate) struct Leases {
    device: DeviceId,
    services: Vec<Label>,
    by_port: ByPort,
    proxy: String,
    host_keys: Vec<String>,
    grace: Duration,
    held: BTreeMap<(Label, LeaseId), Lease>,
    /// Until when the plain grammar's one claim lasts; it has no owner.
    plain: Option<PlainLease>,
    tunnel: Tunnel,
    streams: usize,
    /// Since when there has been neither a lease nor a stream.
    idle_since: Option<Instant>,
    shutting_down: bool,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A controller has ordered something. `unix_now` is the device's clock in seconds since 1970.
    Order {
        /// Who, as the topic says.
        controller: Label,
        /// What.
        order: Order,
        /// The device's clock in seconds since 1970.
        unix_now: u64,
    },
    /// Somebody has ordered something in the plain grammar; `None` is an unknown word, which asks for the state.
    Plain(Option<PlainOrder>),
    /// The proxy has granted these forwards, for the first time or anew.
    Opened(Vec<Forward>),
    /// No tunnel could be opened; it is tried again as long as it is wanted.
    OpenFailed(String),
    /// The tunnel is gone; it is being opened again.
    Lost,
    /// So many streams are open now.
    Streams(usize),
    /// The link to the broker is up, again perhaps: what was said while it was down has reached nobody.
    LinkUp,
    /// The time that [`Leases::deadline`] named has come.
    Deadline,
    /// The agent is about to stop.
    ShuttingDown,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open the tunnel, and keep it open.
    Open,
    /// Close the tunnel.
    Close,
    /// Answer a controller.
    Reply(Label, Reply),
    /// Tell the state in the plain grammar.
    PlainState(PlainState),
    /// End the streams that this controller opened.
    EndStreams(Label),
}

#[derive(Debug)]
struct Lease {
    services: Vec<Label>,
    expires: Instant,
    /// Whether its controller has been told that the tunnel is open: from then on a failure is ours to mend.
    answered: bool,
}

#[derive(Debug)]
struct PlainLease {
    expires: Instant,
    answered: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Tunnel {
    Closed,
    Opening,
    Open(Vec<Forward>),
}

impl Leases {
    /// No lease yet. `services` are what the device offers, `proxy` is told to controllers as `HOST:PORT`.
    pub(crate) fn new(
        device: DeviceId,
        services: Vec<Label>,
        proxy: String,
        host_keys: Vec<String>,
        grace: Duration,
    ) -> Self {
        Self {
            device,
            services,
            by_port: ByPort::default(),
            proxy,
            host_keys,
            grace,
            held: BTreeMap::new(),
            plain: None,
            tunnel: Tunnel::Closed,
            streams: 0,
            idle_since: None,
            shutting_down: false,
        }
    }

    /// The same, with services that may be asked for by their port too.
    pub(crate) fn with_ports(self, by_port: ByPort) -> Self {
        Self { by_port, ..self }
    }

    /// Takes over what is offered and told from now on.
    pub(crate) fn reconfigure(&mut self, next: Self) {
        self.services = next.services;
        self.by_port = next.by_port;
        self.proxy = next.proxy;
        self.host_keys = next.host_keys;
        self.grace = next.grace;
    }

    /// Decides on one event.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Order {
                controller,
                order,
                unix_now,
            } => self.order(controller, order, unix_now, now, &mut actions),
            Event::Plain(word) => self.plain(word, now, &mut actions),
            Event::Opened(forwards) => self.opened(forwards, &mut actions),
            Event::OpenFailed(text) => self.open_failed(&text, &mut actions),
            Event::Lost => {
                if self.tunnel != Tunnel::Closed {
                    self.tunnel = Tunnel::Opening;
                }
            }
            Event::Streams(streams) => self.streams = streams,
            Event::LinkUp => self.repeat(&mut actions),
            Event::Deadline => {}
            Event::ShuttingDown => self.shut_down(&mut actions),
        }
        self.settle(now, &mut actions);
        actions
    }

    /// When to come back with [`Event::Deadline`] if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let leases = self.held.values().map(|lease| lease.expires);
        let plain = self.plain.iter().map(|lease| lease.expires);
        let idle = self.idle_since.iter().map(|since| *since + self.grace);
        leases.chain(plain).chain(idle).min()
    }

    /// How many claims there are.
    pub(crate) fn len(&self) -> usize {
        self.held.len() + usize::from(self.plain.is_some())
    }

    /// Who holds a lease.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Label> {
        self.held.keys().map(|(controller, _)| controller)
    }

    /// Whether a tunnel is open, and at which port for the first of the services.
    pub(crate) fn port(&self) -> Option<u16> {
        Some(self.forwards()?.first()?.port)
    }

    /// What is forwarded, while a tunnel is open.
    pub(crate) fn forwards(&self) -> Option<&[Forward]> {
        match &self.tunnel {
            Tunnel::Open(forwards) => Some(forwards),
            Tunnel::Opening | Tunnel::Closed => None,
        }
    }

    fn order(
        &mut self,
        controller: Label,
        order: Order,
        unix_now: u64,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let stale = order.is_stale(unix_now);
        match order {
            Order::Open {
                lease,
                services,
                lifetime,
                issued,
            } => {
                let services = self.by_name(services);
                let refusal = if stale {
                    Some((
                        RefusalCode::Stale,
                        stale_text(&self.device, issued, unix_now),
                    ))
                } else {
                    self.refusal(&controller, lease, &services)
                };
                match refusal {
                    Some((code, text)) => {
                        let text = bounded(text);
                        let body = ReplyBody::Refused { code, text };
                        actions.push(Action::Reply(
                            controller,
                            Reply {
                                lease: Some(lease),
                                body,
                            },
                        ));
                    }
                    None => self.open(controller, lease, services, lifetime, now, actions),
                }
            }
            Order::Close { lease: Some(lease) } => {
                self.held.remove(&(controller.clone(), lease));
                actions.push(Action::Reply(
                    controller,
                    Reply {
                        lease: Some(lease),
                        body: ReplyBody::Closed,
                    },
                ));
            }
            Order::Close { lease: None } => {
                self.held.retain(|(owner, _), _| *owner != controller);
                actions.push(Action::EndStreams(controller.clone()));
                actions.push(Action::Reply(
                    controller,
                    Reply {
                        lease: None,
                        body: ReplyBody::Closed,
                    },
                ));
            }
        }
    }

    /// The services by their names. A name goes before a port: `80` may be a service's name.
    fn by_name(&self, asked: Vec<Label>) -> Vec<Label> {
        let named = |word: Label| match self.by_port.find(&word) {
            Some(service) if !self.services.contains(&word) => service.clone(),
            Some(_) | None => word,
        };
        asked.into_iter().map(named).collect()
    }

    fn open(
        &mut self,
        controller: Label,
        lease: LeaseId,
        services: Vec<Label>,
        lifetime: Lifetime,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let expires = now + Duration::from_secs(lifetime.as_secs().into());
        let mut claim = Lease {
            services,
            expires,
            answered: false,
        };
        match &self.tunnel {
            Tunnel::Open(forwards) => {
                claim.answered = true;
                actions.push(self.opened_reply(&controller, lease, &claim, forwards));
            }
            Tunnel::Opening => {
                // A renewal of a lease that was answered stays so: its tunnel is being opened anew.
                let before = self.held.get(&(controller.clone(), lease));
                claim.answered = before.is_some_and(|before| before.answered);
            }
            Tunnel::Closed => {
                self.tunnel = Tunnel::Opening;
                actions.push(Action::Open);
            }
        }
        self.held.insert((controller, lease), claim);
    }

    fn plain(&mut self, word: Option<PlainOrder>, now: Instant, actions: &mut Vec<Action>) {
        match word {
            Some(PlainOrder::Connect) if !self.shutting_down => {
                let expires = now + PLAIN_LIFETIME;
                let answered = matches!(self.tunnel, Tunnel::Open(_));
                self.plain = Some(PlainLease { expires, answered });
                if self.tunnel == Tunnel::Closed {
                    self.tunnel = Tunnel::Opening;
                    actions.push(Action::Open);
                }
            }
            Some(PlainOrder::Disconnect) => self.plain = None,
            Some(PlainOrder::Connect) | None => {}
        }
        // The original answers every word, known or not. Until the forward is granted the answer is `disconnected`, and
        // the original's controller asks again after five seconds.
        actions.push(Action::PlainState(self.plain_state()));
    }

    fn plain_state(&self) -> PlainState {
        match (&self.plain, self.port()) {
            (Some(_), Some(port)) => PlainState::Connected { port: Some(port) },
            // Others may still have a tunnel; whoever speaks the plain grammar has given up his.
            (None, _) | (_, None) => PlainState::Disconnected,
        }
    }

    fn opened(&mut self, forwards: Vec<Forward>, actions: &mut Vec<Action>) {
        if self.tunnel == Tunnel::Closed {
            return;
        }
        let changed = self.tunnel != Tunnel::Open(forwards.clone());
        for ((controller, lease), claim) in &self.held {
            if changed || !claim.answered {
                actions.push(self.opened_reply(controller, *lease, claim, &forwards));
            }
        }
        self.held
            .values_mut()
            .for_each(|claim| claim.answered = true);
        self.tunnel = Tunnel::Open(forwards);
        if let Some(plain) = &mut self.plain {
            plain.answered = true;
            if changed {
                actions.push(Action::PlainState(self.plain_state()));
            }
        }
    }

    /// Tells again what holds. Whoever has had no answer yet asks again by himself.
    fn repeat(&self, actions: &mut Vec<Action>) {
        if let Tunnel::Open(forwards) = &self.tunnel {
            for ((controller, lease), claim) in &self.held {
                if claim.answered {
                    actions.push(self.opened_reply(controller, *lease, claim, forwards));
                }
            }
        }
        if self.plain.is_some() {
            actions.push(Action::PlainState(self.plain_state()));
        }
    }

    /// Those who wait are told at once what is wrong. Those who had a tunnel keep their leases: it is tried again.
    fn open_failed(&mut self, text: &str, actions: &mut Vec<Action>) {
        let text = bounded(format!("`{}` cannot open a tunnel: {text}", self.device));
        self.held.retain(|(controller, lease), claim| {
            if !claim.answered {
                let body = ReplyBody::Refused {
                    code: RefusalCode::ProxyUnavailable,
                    text: text.clone(),
                };
                actions.push(Action::Reply(
                    controller.clone(),
                    Reply {
                        lease: Some(*lease),
                        body,
                    },
                ));
            }
            claim.answered
        });
        if self.plain.as_ref().is_some_and(|plain| !plain.answered) {
            self.plain = None;
            actions.push(Action::PlainState(PlainState::Disconnected));
        }
    }

    fn shut_down(&mut self, actions: &mut Vec<Action>) {
        self.shutting_down = true;
        for (controller, lease) in std::mem::take(&mut self.held).into_keys() {
            actions.push(Action::Reply(
                controller,
                Reply {
                    lease: Some(lease),
                    body: ReplyBody::Closed,
                },
            ));
        }
        if self.plain.take().is_some() {
            actions.push(Action::PlainState(PlainState::Disconnected));
        }
    }

    /// Lets expire what has expired, and closes the tunnel when nobody has needed it for a grace period. While no
    /// tunnel could be opened yet there is nothing to keep for the next one.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.held.retain(|_, lease| lease.expires > now);
        self.plain.take_if(|lease| lease.expires <= now);
        let needed = !self.held.is_empty() || self.plain.is_some() || self.streams > 0;
        if needed || self.tunnel == Tunnel::Closed {
            self.idle_since = None;
            return;
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        if self.tunnel == Tunnel::Opening || self.shutting_down || now >= idle_since + self.grace {
            self.idle_since = None;
            self.tunnel = Tunnel::Closed;
            actions.push(Action::Close);
        }
    }

    fn opened_reply(
        &self,
        controller: &Label,
        lease: LeaseId,
        claim: &Lease,
        forwards: &[Forward],
    ) -> Action {
        let wanted = |forward: &&Forward| claim.services.contains(&forward.service);
        let body = ReplyBody::Opened {
            proxy: self.proxy.clone(),
            forwards: forwards.iter().filter(wanted).cloned().collect(),
            host_keys: self.host_keys.clone(),
        };
        Action::Reply(
            controller.clone(),
            Reply {
                lease: Some(lease),
                body,
            },
        )
    }
}

/// How long a tunnel that was asked for in the plain grammar waits for its first stream. The original's controller
/// connects at once; a person with `mosquitto_pub` takes some minutes.
pub const PLAIN_LIFETIME: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests;
