//! An open tunnel: a lease that is kept, a login at the proxy, and streams through it.

use std::sync::Arc;
use std::time::Duration;

use daemon::clock;
use daemon::mqtt::{Link, LinkEvent, Message, Publisher};
use daemon::shutdown::Shutdown;
use daemon::splice::ChannelEnd;
use daemon::ssh_client::{self, Dialed};
use protocol::{
    DeviceId, Label, LeaseId, Lifetime, Order, PlainOrder, PlainState, Presence, Reply, Role,
    Topic, filter,
};
use russh::client::Msg;
use russh::keys::PublicKey;
use tokio::time::{Instant, interval_at, timeout_at};

use crate::attempt::{Action, Attempt, Event, Failure, Opened, Ports};
use crate::connection::{Account, BrokerError, wait_until_up};
use crate::timing::{Step, Timing};

mod error;

pub use error::OpenError;

/// A tunnel to one service of a device. [`close`](Self::close) it: a tunnel that is merely dropped costs the device a
/// lifetime and a grace period.
pub struct Tunnel {
    device: DeviceId,
    proxy: Dialed,
    port: u16,
    host_keys: Vec<String>,
    /// Ends the task that keeps the lease.
    keeper: Shutdown,
}

/// What one tunnel is to be.
pub struct Wanted {
    /// The device.
    pub device: DeviceId,
    /// Its service.
    pub service: Label,
    /// Whether to speak the original's grammar from the beginning.
    pub plain: bool,
}

impl Tunnel {
    /// Orders a tunnel and logs in to the proxy, both at once. `on_wait` is told what is waited for.
    pub async fn open(
        account: Arc<Account>,
        wanted: Wanted,
        timing: &Timing,
        on_wait: impl Fn(&'static str),
    ) -> Result<Self, OpenError> {
        check(account.id(), &wanted.device)?;
        let lease = LeaseId::from_bytes(rand::random());
        let (ordered, proxy) = tokio::try_join!(
            order(&account, &wanted, lease, timing, &on_wait),
            log_in(&account, &wanted.device, timing),
        )?;
        let Ordered { link, opened } = ordered;
        let keeper = Shutdown::new(FAREWELL);
        let port = port(&wanted, &opened);
        let keep = Keep {
            account: Arc::clone(&account),
            device: wanted.device.clone(),
            service: wanted.service.clone(),
            lease,
        };
        let is_plain = opened.proxy.is_none();
        keeper.spawn(keep.run(link, is_plain, keeper.clone()));
        let tunnel = Self {
            device: wanted.device,
            proxy,
            port: 0,
            host_keys: opened.host_keys,
            keeper,
        };
        // From here on the lease is held, and has to be given up when something is wrong.
        match port.and_then(|port| {
            known_proxy(&account, &tunnel.device, opened.proxy.as_deref()).map(|()| port)
        }) {
            Ok(port) => Ok(Self { port, ..tunnel }),
            Err(error) => {
                tunnel.close().await;
                Err(error)
            }
        }
    }

    /// The host keys that the device reported, `TYPE BASE64` each.
    pub fn host_keys(&self) -> &[String] {
        &self.host_keys
    }

    /// The device.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Opens a stream to the service.
    pub async fn stream(&self, timing: &Timing) -> Result<ChannelEnd<Msg>, OpenError> {
        let began = Instant::now();
        let stream = self
            .proxy
            .open("localhost", self.port, STREAM)
            .await
            .map_err(|source| OpenError::Stream {
                device: self.device.clone(),
                source,
            })?;
        timing.record(Step::Stream, began);
        Ok(stream)
    }

    /// Gives the lease up and says goodbye to the proxy.
    pub async fn close(self) {
        self.keeper.request();
        let (_, ()) = tokio::join!(self.keeper.drained(), self.proxy.disconnect("done"));
    }
}

/// A device of another system and one that does not exist look the same, here as at the broker.
fn check(own: &DeviceId, device: &DeviceId) -> Result<(), OpenError> {
    if own.role() != Role::Controller {
        return Err(OpenError::NotAController { id: own.clone() });
    }
    if !own.same_system(device) {
        return Err(OpenError::unknown(own, device));
    }
    Ok(())
}

struct Ordered {
    link: Link,
    opened: Opened,
}

async fn order(
    account: &Account,
    wanted: &Wanted,
    lease: LeaseId,
    timing: &Timing,
    on_wait: &impl Fn(&'static str),
) -> Result<Ordered, OpenError> {
    let device = &wanted.device;
    let broker = |source: BrokerError| OpenError::Broker {
        device: device.clone(),
        source,
    };
    on_wait("the broker");
    let began = Instant::now();
    let (presence, state) = (
        Topic::Presence(device.clone()),
        Topic::PlainState(device.clone()),
    );
    let filters = vec![
        filter::replies(account.id()),
        presence.to_string(),
        state.to_string(),
    ];
    // The link outlives this function and is ended by its last handle.
    let mut link = account
        .link(filters, &Shutdown::new(FAREWELL))
        .map_err(broker)?;
    wait_until_up(&mut link).await.map_err(broker)?;
    timing.record(Step::MqttConnect, began);

    on_wait("the device");
    let began = Instant::now();
    let publisher = link.publisher();
    let mut attempt = Attempt::new(wanted.plain, began);
    let mut next = Some(Event::Deadline);
    loop {
        let event = match next.take() {
            Some(event) => event,
            None => match timeout_at(attempt.deadline(), link.next()).await {
                Err(_) => Event::Deadline,
                Ok(Some(LinkEvent::Message { topic, payload })) => {
                    match read(&topic, &payload, lease) {
                        Some(event) => event,
                        None => continue,
                    }
                }
                Ok(Some(LinkEvent::Up { .. })) => continue,
                Ok(Some(LinkEvent::Down(error))) => return Err(broker(error.into())),
                Ok(None) => return Err(broker(BrokerError::Ended)),
            },
        };
        match attempt.on_event(event, Instant::now()) {
            None => {}
            Some(Action::Order) => {
                account.order(&publisher, device, &open_order(&wanted.service, lease));
            }
            Some(Action::PlainConnect) => plain(&publisher, device, PlainOrder::Connect),
            Some(Action::Opened(opened)) => {
                timing.record(Step::Order, began);
                return Ok(Ordered { link, opened });
            }
            Some(Action::Fail(failure)) => {
                link.finish(None).await;
                return Err(failed(account.id(), device, failure));
            }
        }
    }
}

/// What a message says to this attempt, if anything.
fn read(topic: &str, payload: &[u8], lease: LeaseId) -> Option<Event> {
    match topic.parse().ok()? {
        Topic::Presence(_) => Presence::decode(payload).ok().map(Event::Presence),
        Topic::PlainState(_) => PlainState::decode(payload).map(Event::PlainState),
        Topic::Reply { .. } => match Reply::decode(payload) {
            // An answer without a lease is to something that the device could not read: to us, then.
            Ok(reply) => reply
                .lease
                .is_none_or(|id| id == lease)
                .then_some(Event::Reply(reply.body)),
            Err(error) => {
                tracing::warn!(%error, "a reply that cannot be read was ignored");
                None
            }
        },
        Topic::Order { .. } | Topic::PlainControl(_) => None,
    }
}

async fn log_in(
    account: &Account,
    device: &DeviceId,
    timing: &Timing,
) -> Result<Dialed, OpenError> {
    let began = Instant::now();
    let proxy = account.membership.realm.proxy().ok_or(OpenError::NoProxy)?;
    let host_keys = proxy
        .host_keys
        .iter()
        .map(|key| PublicKey::from_openssh(key))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| OpenError::ProxyHostKey { source })?;
    let address = proxy.address.to_string();
    let key = Arc::clone(&account.identity.ssh_key);
    let user = account.id().system().as_str();
    let dialed = ssh_client::dial(&address, user, key, &host_keys, LOGIN)
        .await
        .map_err(|source| OpenError::Proxy {
            device: device.clone(),
            source,
        })?;
    timing.record(Step::ProxyLogin, began);
    Ok(dialed)
}

fn failed(own: &DeviceId, device: &DeviceId, failure: Failure) -> OpenError {
    let device = device.clone();
    match failure {
        Failure::Unknown => OpenError::unknown(own, &device),
        Failure::Offline(Presence { since, lost, .. }) => OpenError::Offline {
            device,
            since,
            lost,
        },
        Failure::Refused(code, text) => OpenError::Refused { device, code, text },
        Failure::NoAnswer(waited) => OpenError::NoAnswer { device, waited },
    }
}

fn port(wanted: &Wanted, opened: &Opened) -> Result<u16, OpenError> {
    match &opened.forwards {
        Ports::Ssh(port) => Some(*port),
        Ports::Named(forwards) => forwards
            .iter()
            .find(|forward| forward.service == wanted.service)
            .map(|forward| forward.port),
    }
    .ok_or_else(|| OpenError::NoService {
        device: wanted.device.clone(),
        service: wanted.service.clone(),
    })
}

/// A device cannot send a controller to a proxy that the realm does not have.
fn known_proxy(account: &Account, device: &DeviceId, named: Option<&str>) -> Result<(), OpenError> {
    let ours = account
        .membership
        .realm
        .proxy()
        .map(|proxy| proxy.address.to_string());
    match named {
        Some(named) if ours.as_deref() != Some(named) => Err(OpenError::ForeignProxy {
            device: device.clone(),
            proxy: named.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn open_order(service: &Label, lease: LeaseId) -> Order {
    Order::Open {
        lease,
        services: vec![service.clone()],
        issued: clock::unix_seconds(),
        lifetime: LIFETIME,
    }
}

fn plain(publisher: &Publisher, device: &DeviceId, word: PlainOrder) {
    let topic = Topic::PlainControl(device.clone()).to_string();
    publisher.publish(Message {
        topic,
        payload: word.to_string().into_bytes(),
        retain: false,
    });
}

/// Keeps a lease until the tunnel is closed.
struct Keep {
    account: Arc<Account>,
    device: DeviceId,
    service: Label,
    lease: LeaseId,
}

impl Keep {
    async fn run(self, mut link: Link, is_plain: bool, until: Shutdown) {
        let publisher = link.publisher();
        let renew = || {
            if !is_plain {
                self.account.order(
                    &publisher,
                    &self.device,
                    &open_order(&self.service, self.lease),
                );
            }
        };
        let mut ticks = interval_at(Instant::now() + RENEW, RENEW);
        loop {
            tokio::select! {
                biased;
                () = until.requested() => break,
                _ = ticks.tick() => renew(),
                event = link.next() => match event {
                    // The broker was away: the device may have counted the lease down meanwhile.
                    Some(LinkEvent::Up { .. }) => renew(),
                    Some(LinkEvent::Down(error)) => tracing::info!(%error, "the lease cannot be renewed for now"),
                    Some(LinkEvent::Message { .. }) => {}
                    None => return,
                },
            }
        }
        if is_plain {
            plain(&publisher, &self.device, PlainOrder::Disconnect);
        } else {
            self.account.order(
                &publisher,
                &self.device,
                &Order::Close {
                    lease: Some(self.lease),
                },
            );
        }
        link.finish(None).await;
    }
}

/// How long a lease lasts without being renewed: what a controller that vanished costs a device at most, besides the
/// grace period.
const LIFETIME: Lifetime = match Lifetime::from_secs(60) {
    Some(lifetime) => lifetime,
    None => panic!("60 s are a lifetime"),
};

/// How often the lease is renewed: twice may fail.
const RENEW: Duration = Duration::from_secs(20);

/// The deadline of the login at the proxy: the same as the agent's.
const LOGIN: Duration = Duration::from_secs(10);

/// The deadline of a stream: the proxy tries other connections of the device, and the device dials its service.
const STREAM: Duration = Duration::from_secs(15);

/// How long giving a lease up may take.
const FAREWELL: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_controllers_order_and_only_in_their_system() {
        let id = |text: &str| text.parse::<DeviceId>().unwrap();
        let controller = id("controller-a.hula.atlas");
        assert!(check(&controller, &id("333.hula.atlas")).is_ok());
        let foreign = check(&controller, &id("333.other.atlas"))
            .unwrap_err()
            .to_string();
        let unknown = OpenError::unknown(&controller, &id("999.hula.atlas")).to_string();
        assert_eq!(
            foreign.replace("333.other", "X"),
            unknown.replace("999.hula", "X")
        );
        assert!(matches!(
            check(&id("333.hula.atlas"), &controller),
            Err(OpenError::NotAController { .. })
        ));
    }

    #[test]
    fn replies_to_others_leases_are_not_ours() {
        let topic = "atlas/hula/controller-a/tunnel/reply/333";
        let reply = |lease| {
            Reply {
                lease,
                body: protocol::ReplyBody::Closed,
            }
            .encode()
        };
        let (ours, other) = (LeaseId::from_bytes([1; 16]), LeaseId::from_bytes([2; 16]));
        assert!(read(topic, &reply(Some(ours)), ours).is_some());
        assert!(read(topic, &reply(None), ours).is_some());
        assert!(read(topic, &reply(Some(other)), ours).is_none());
        assert!(read(topic, b"{", ours).is_none());
        assert!(read("not/ours", &reply(Some(ours)), ours).is_none());
    }
}
