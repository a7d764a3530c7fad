//! The agent's run loop: it decides nothing itself and never waits for anything slow.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use daemon::clock;
use daemon::device_dir::Membership;
use daemon::device_file::DeviceFile;
use daemon::host_port::HostPort;
use daemon::identity::{Identity, IdentityError};
use daemon::monitor::Pulse;
use daemon::mqtt::{Link, LinkEvent, LinkSettings, Message, Publisher};
use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use daemon::tls::{self, TlsError};
use protocol::limits::MAX_SERVICES;
use protocol::{
    DecodeError, DeviceId, Label, Order, PlainOrder, PlainState, RefusalCode, Reply, ReplyBody,
    Role, Topic, filter,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::builtin::Builtin;
use crate::deadline::reached;
use crate::hangup::hangup;
use crate::hooks::Hooks;
use crate::host_keys;
use crate::leases::{Action, ByPort, Event, Leases};
use crate::plan::Plan;
use crate::presence::{self, Told};
use crate::reply_text::bounded;
use crate::tunnel::{self, Tunnel};
use crate::vitals::Vitals;

/// A remote computer's agent, ready to run.
pub struct Agent {
    id: DeviceId,
    leases: Leases,
    link: LinkSettings,
    plan: Plan,
    settings: Box<DeviceFile>,
    vitals: Vitals,
    files: Option<Files>,
}

/// Reads everything again, as for an agent that begins.
type Files = Box<dyn Fn() -> Result<Agent, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// Why the agent cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A controller does not serve.
    #[error("`{id}` is a controller; an agent is for the computers that controllers connect to")]
    Controller {
        /// What it is.
        id: DeviceId,
    },
    /// More services than an order or a reply can name.
    #[error("`device.toml` names {count} services, and a device offers {MAX_SERVICES} at most")]
    TooManyServices {
        /// How many it names.
        count: usize,
    },
    /// Its controllers could not find it.
    #[error("`{id}` has no port: its name is no number within the ports of its system")]
    NoPort {
        /// What it is.
        id: DeviceId,
    },
    /// TLS cannot be set up with what the directory holds.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// This program was built without it.
    #[error("`device.toml` asks for the built-in ssh, and this build of the program has none")]
    NoBuiltin,
    /// The realm names no proxy.
    #[error("`realm.toml` names no proxy")]
    NoProxy,
    /// A host key of the proxy in the realm file is none.
    #[error("a host key of the proxy in `realm.toml` is no public key")]
    ProxyHostKey(#[source] russh::keys::ssh_key::Error),
}

impl AgentError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        let hint = match self {
            Self::Controller { .. } => {
                "enroll it as a computer of its own, whose name does not begin with `controller`, in another directory"
            }
            Self::TooManyServices { .. } => "take some out of `[services]`",
            Self::NoPort { .. } => {
                "name its port as `port` in `device.toml`, within those of its system in `[ports]` of `realm.toml`"
            }
            Self::Tls(error) => return error.hint(),
            Self::NoBuiltin => {
                "name this computer's sshd in its place, `ssh = \"127.0.0.1:22\"` in `[services]`, or install the whole program"
            }
            Self::NoProxy | Self::ProxyHostKey(_) => {
                "ask the realm's admin for the present `realm.toml`"
            }
        };
        Some(hint)
    }
}

impl Agent {
    /// Checks that everything that the agent needs is there and fits together. Nothing is connected yet.
    pub fn new(
        membership: &Membership,
        identity: &Identity,
        builtin: Option<Arc<dyn Builtin>>,
    ) -> Result<Self, AgentError> {
        let plan = Plan::new(membership, Arc::clone(&identity.ssh_key), builtin)?;
        let Membership { realm, device, id } = membership;
        let names = plan.services.iter().map(|(name, _)| name.clone()).collect();
        let by_port = ByPort::of(plan.services.iter().map(|(name, address)| (name, address)));
        let address = plan.proxy.to_string();
        let known = match &plan.builtin {
            Some(builtin) => vec![builtin.host_key()],
            None => host_keys::read(device.host_keys.as_deref()),
        };
        let will = id.clone();
        Ok(Self {
            id: id.clone(),
            leases: Leases::new(id.clone(), names, address, known, device.grace_period)
                .with_ports(by_port),
            link: LinkSettings {
                brokers: realm.brokers(),
                subscribe_qos: realm.broker.subscribe_qos,
                tls: tls::client(realm.broker_ca(), identity)?,
                client_id: realm.client_id_suffix.client_id(id),
                filters: vec![
                    filter::orders(id),
                    Topic::PlainControl(id.clone()).to_string(),
                ],
                will: Some(Box::new(move |epoch| presence::will(&will, epoch))),
            },
            plan,
            settings: Box::new(device.clone()),
            vitals: Vitals::new(),
            files: None,
        })
    }

    /// Reads the identity again for each session with the broker, so that a renewed certificate is used from the next one
    /// on.
    pub fn reloading(
        mut self,
        membership: &Membership,
        identity: &Identity,
        load: impl Fn() -> Result<Identity, IdentityError> + Send + Sync + 'static,
    ) -> Result<Self, AgentError> {
        self.link.tls = tls::reloading_client(membership.realm.broker_ca(), identity, load)?;
        Ok(self)
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

    /// Serves until the shutdown; at SIGHUP it reads its files again and begins a new session with the broker. It never gives
    /// up: a broker or proxy that is away is tried again for ever.
    pub async fn run(self, shutdown: &Shutdown, pulse: &Pulse) {
        let Self {
            id,
            leases,
            link,
            plan,
            settings,
            vitals,
            files,
        } = self;
        vitals.unready("agent: connecting to the broker");
        tracing::info!(device = %id, broker = %addresses(&link.brokers), proxy = %plan.proxy, "the agent begins");
        // Without it there is one way less to have a certificate read again, and that is all.
        let hangups = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be watched for"))
            .ok();
        let link = Link::start(link, shutdown);
        let publisher = link.publisher();
        let told = Told::new(id.clone(), plan.proxy.to_string());
        let commands = settings.hooks.clone();
        let hooks = Hooks::start(commands, id.clone(), plan.proxy.to_string(), shutdown);
        let tunnel = Tunnel::start(plan, shutdown);
        let running = Running {
            id,
            leases,
            tunnel,
            hooks,
            publisher,
            told,
            silently_lost: false,
            vitals,
            files,
            settings,
        };
        systemd::feed_watchdog(shutdown, pulse);
        // An agent whose network is away is at work all the same; its supervisor must not kill it for that.
        systemd::ready();
        running.run(link, hangups, shutdown, pulse).await;
    }
}

struct Running {
    id: DeviceId,
    leases: Leases,
    tunnel: Tunnel,
    hooks: Hooks,
    publisher: Publisher,
    told: Told,
    /// The last tunnel was lost because nothing came through any more: so, perhaps, is the session with the broker.
    silently_lost: bool,
    vitals: Vitals,
    files: Option<Files>,
    settings: Box<DeviceFile>,
}

impl Running {
    async fn run(
        mut self,
        mut link: Link,
        mut hangups: Option<Signal>,
        shutdown: &Shutdown,
        pulse: &Pulse,
    ) {
        let mut beats = Pulse::ticks();
        loop {
            pulse.beat();
            self.tell_status();
            let event = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                event = link.next() => match event {
                    Some(event) => self.on_link(event),
                    None => break,
                },
                event = self.tunnel.next() => {
                    if event.as_ref().is_some_and(|event| self.is_network_back(event)) {
                        link.reconnect(None).await;
                    }
                    event.map(|event| self.on_tunnel(event))
                }
                () = hangup(hangups.as_mut()) => {
                    link.reconnect(self.read_again()).await;
                    None
                }
                () = reached(self.leases.deadline()) => Some(Event::Deadline),
                () = reached(self.told.deadline()) => None,
                _ = beats.tick() => None,
            };
            if let Some(event) = event {
                self.decide(event);
            }
            let connected = self.connected();
            if let Some(message) = self.told.see(&connected, Instant::now()) {
                self.publisher.publish(message);
            }
        }
        self.vitals.unready("agent: stopping");
        systemd::stopping();
        self.decide(Event::ShuttingDown);
        // Streams that are open may end by themselves within the grace period.
        self.tunnel.want(false);
        let goodbye = self.told.goodbye(clock::unix_seconds());
        link.finish(Some(goodbye)).await;
        tracing::info!(device = %self.id, "the agent has said goodbye");
    }

    /// Whether a tunnel's coming shows that a network is back which the broker's session does not know of yet: it may be waiting
    /// for its next try, or for the kernel's, both of which come seldom after a long cut.
    fn is_network_back(&mut self, event: &tunnel::Event) -> bool {
        match event {
            tunnel::Event::Opened(_) => {
                std::mem::take(&mut self.silently_lost) || !self.told.is_online()
            }
            tunnel::Event::Lost { silent } => {
                self.silently_lost = *silent;
                false
            }
            tunnel::Event::Failed(_) | tunnel::Event::Streams(_) => false,
        }
    }

    /// Takes over what the files say now, and returns how to meet the broker. What cannot be used changes nothing.
    fn read_again(&mut self) -> Option<LinkSettings> {
        let device = &self.id;
        let next = match self.files.as_ref()?() {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%device, error = one_line(&*error), "SIGHUP received: the files cannot be used, and the last good ones stay in use");
                return None;
            }
        };
        if next.id != *device {
            tracing::error!(%device, now = %next.id, "SIGHUP received: the files are another device's; that takes a restart");
            return None;
        }
        for setting in self.settings.restart_for(&next.settings) {
            tracing::warn!(%device, "SIGHUP received: another {setting} takes a restart");
        }
        tracing::info!(%device, "SIGHUP received: the files have been read again; a new session begins");
        self.leases.reconfigure(next.leases);
        self.told.passes_by(next.plan.proxy.to_string());
        self.tunnel.replan(next.plan);
        Some(next.link)
    }

    fn on_link(&mut self, event: LinkEvent) -> Option<Event> {
        match event {
            LinkEvent::Up { epoch } => {
                tracing::info!(device = %self.id, "online");
                let (connected, now) = (self.connected(), Instant::now());
                let message = self.told.up(epoch, connected, clock::unix_seconds(), now);
                self.vitals.ready();
                self.vitals.counts().sessions.increment();
                self.publisher.publish(message);
                Some(Event::LinkUp)
            }
            LinkEvent::Down(error) => {
                tracing::warn!(device = %self.id, error = one_line(&error), hint = error.hint(), "offline; trying again");
                self.told.down();
                self.vitals
                    .unready(format!("agent: offline: {}", one_line(&error)));
                self.vitals.counts().lost_sessions.increment();
                None
            }
            LinkEvent::Message { topic, payload } => match topic.parse() {
                Ok(Topic::Order { device, controller }) if device == self.id => {
                    // The broker's policy sees to it; another broker's may not.
                    if Role::of(&controller) != Role::Controller {
                        tracing::warn!(%controller, "an order of a device that is no controller was ignored");
                        return None;
                    }
                    self.on_order(controller, &payload)
                }
                Ok(Topic::PlainControl(device)) if device == self.id => {
                    Some(Event::Plain(PlainOrder::decode(&payload)))
                }
                Ok(_) | Err(_) => {
                    tracing::warn!(topic, "a message on a topic that is not ours was ignored");
                    None
                }
            },
        }
    }

    fn on_tunnel(&self, event: tunnel::Event) -> Event {
        self.vitals.tunnel(&event);
        match event {
            tunnel::Event::Opened(forwards) => Event::Opened(forwards),
            tunnel::Event::Failed(reason) => Event::OpenFailed(reason),
            tunnel::Event::Lost { silent: _ } => Event::Lost,
            tunnel::Event::Streams(streams) => Event::Streams(streams),
        }
    }

    fn on_order(&self, controller: Label, payload: &[u8]) -> Option<Event> {
        self.vitals.counts().orders.increment();
        match Order::decode(payload) {
            Ok(order) => {
                tracing::debug!(device = %self.id, %controller, ?order, "an order");
                Some(Event::Order {
                    controller,
                    order,
                    unix_now: clock::unix_seconds(),
                })
            }
            Err(error) => {
                tracing::warn!(device = %self.id, %controller, error = one_line(&error), "an order that cannot be read");
                self.vitals.counts().unreadable_orders.increment();
                self.reply(&controller, &unreadable(&error));
                None
            }
        }
    }

    fn decide(&mut self, event: Event) {
        let actions = self.leases.on_event(event, Instant::now());
        match self.leases.forwards() {
            Some(forwards) => self.hooks.up(forwards),
            None => self.hooks.down(),
        }
        for action in actions {
            match action {
                Action::Open => self.tunnel.want(true),
                Action::Close => self.tunnel.want(false),
                Action::EndStreams(controller) => self.tunnel.end_streams(&controller),
                Action::Reply(controller, reply) => self.reply(&controller, &reply),
                Action::PlainState(state) => self.tell_plain(state),
            }
        }
    }

    fn reply(&self, controller: &Label, reply: &Reply) {
        let Ok(to) = DeviceId::new(
            controller.clone(),
            self.id.system().clone(),
            self.id.realm().clone(),
        ) else {
            return;
        };
        tracing::info!(device = %self.id, %controller, lease = ?reply.lease, reply = ?reply.body, "answered");
        self.vitals.replied(&reply.body);
        let topic = Topic::Reply {
            controller: to,
            device: self.id.device().clone(),
        };
        self.publisher.publish(Message {
            topic: topic.to_string(),
            payload: reply.encode(),
            retain: false,
        });
    }

    fn tell_plain(&self, state: PlainState) {
        let topic = Topic::PlainState(self.id.clone()).to_string();
        self.publisher.publish(Message {
            topic,
            payload: state.to_string().into_bytes(),
            retain: false,
        });
    }

    /// The controllers that hold a lease or have a stream open.
    fn connected(&self) -> BTreeSet<Label> {
        let mut connected = self.tunnel.controllers();
        connected.extend(self.leases.holders().cloned());
        connected
    }

    fn tell_status(&self) {
        let counts = self.vitals.counts();
        counts.leases.set(self.leases.len());
        counts.tunnel.set(usize::from(self.leases.port().is_some()));
        let link = if self.told.is_online() {
            "online"
        } else {
            "connecting to the broker"
        };
        match self.leases.port() {
            Some(port) => systemd::status(&format!(
                "{link}; a tunnel at port {port} for {} leases",
                self.leases.len()
            )),
            None => systemd::status(&format!("{link}; no tunnel")),
        }
    }
}

fn addresses(brokers: &[HostPort]) -> String {
    let addresses: Vec<_> = brokers.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

fn unreadable(error: &DecodeError) -> Reply {
    let text = format!(
        "{}; this agent speaks version {}",
        one_line(error),
        protocol::VERSION
    );
    let body = ReplyBody::Refused {
        code: RefusalCode::Unsupported,
        text: bounded(text),
    };
    Reply {
        lease: error.lease(),
        body,
    }
}
