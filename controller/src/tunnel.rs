//! A tunnel to one service of a device: an order, a login at the proxy, and a stream.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use daemon::device_file::SSH_SERVICE;
use daemon::shutdown::Shutdown;
use daemon::splice::ChannelEnd;
use daemon::ssh_client::{self, Dialed, OPEN_LIMIT};
use protocol::{DeviceId, Forward, Label, LeaseId, PlainOrder, Role};
use russh::client::Msg;
use tokio::time::{Instant, sleep};

use crate::answers::{self, Answers};
use crate::attempt::{Attempt, Failure, Opened, Ports};
use crate::connection::{Account, Session};
use crate::disconnect::disconnect;
use crate::order::{Asked, OrderError, filters, plain_order};
use crate::timing::{Step, Timing};
use crate::turn::{GIVE_WAY, Taken, Turn};

mod early;
mod error;

pub use error::OpenError;
pub(crate) use error::UNKNOWN_HINT;

/// An open tunnel. Its stream is what keeps it: the lease is given up as soon as the stream is open, so that a
/// controller which vanishes leaves nothing behind, and has no session with the broker while somebody works.
pub struct Tunnel {
    account: Arc<Account>,
    device: DeviceId,
    proxy: Dialed,
    host_keys: Vec<String>,
    /// An original device knows no lease: it has to be told at the end.
    is_plain: bool,
}

/// A stream to a device's service.
pub type Stream = ChannelEnd<Msg>;

/// What one tunnel is to be.
pub struct Wanted {
    /// The device.
    pub device: DeviceId,
    /// Its service.
    pub service: Label,
    /// Whether to speak the original's grammar from the beginning.
    pub plain: bool,
    /// The port at the proxy, when it is known: then nothing is ordered.
    pub port: Option<NonZeroU16>,
}

impl Tunnel {
    /// Orders a tunnel and logs in to the proxy, both at once, and opens a stream. `on_wait` is told what is waited for.
    /// When `cancel` is requested meanwhile, the order is taken back.
    pub async fn open(
        account: Arc<Account>,
        wanted: Wanted,
        timing: &Timing,
        on_wait: impl Fn(&'static str),
        cancel: &Shutdown,
    ) -> Result<(Self, Stream), OpenError> {
        check(account.id(), &wanted.device)?;
        if account.is_always_on() || wanted.port.is_some() {
            return Self::open_known(account, wanted, timing, on_wait, cancel).await;
        }
        let Wanted {
            device,
            service,
            plain,
            port: _,
        } = wanted;
        let asked = Asked {
            controller: account.id().clone(),
            device: device.clone(),
            service,
            lease: LeaseId::from_bytes(rand::random()),
        };
        let mut session = None;
        let opening = async {
            let mut others = Some(Answers::from_now(&account, &asked));
            loop {
                let answers = others.take();
                let ordering = order(
                    &account,
                    &asked,
                    plain,
                    answers.as_ref(),
                    &mut session,
                    timing,
                    &on_wait,
                );
                let (opened, proxy, early) =
                    ordered(ordering, &account, &asked, timing, &on_wait).await?;
                known_proxy(&account, &device, opened.proxy.as_deref())?;
                let port = port(&asked, &opened)?;
                on_wait("the stream");
                let stream = match early {
                    Some(stream) => Ok(stream),
                    None => stream(&proxy, &device, port, timing).await,
                };
                match stream {
                    Ok(stream) => return Ok((opened, proxy, stream)),
                    // What another command was told may be true no more; what we are told is the last word.
                    Err(error) if session.is_none() && answers.is_some() => {
                        tracing::debug!(%error, "another's answer does not do");
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let result = tokio::select! {
            result = opening => result,
            () = cancel.requested() => Err(OpenError::Interrupted { device: device.clone() }),
        };
        let is_plain = result
            .as_ref()
            .map_or(plain, |(opened, ..)| opened.proxy.is_none());
        if let Some(session) = session {
            let last = match (is_plain, &result) {
                (false, _) => Some(asked.close()),
                (true, Err(_)) => Some(plain_order(&device, PlainOrder::Disconnect)),
                (true, Ok(_)) => None,
            };
            session.finish(last).await;
        }
        let (Opened { host_keys, .. }, proxy, stream) = result?;
        Ok((
            Self {
                account,
                device,
                proxy,
                host_keys,
                is_plain,
            },
            stream,
        ))
    }

    /// Opens a stream to a tunnel that is there without an order, at a port that needs not be told: the one of the device's
    /// number in its system's range, or the one that was given.
    async fn open_known(
        account: Arc<Account>,
        wanted: Wanted,
        timing: &Timing,
        on_wait: impl Fn(&'static str),
        cancel: &Shutdown,
    ) -> Result<(Self, Stream), OpenError> {
        let Wanted {
            device,
            service,
            port,
            ..
        } = wanted;
        let computed = || match service.as_str() {
            SSH_SERVICE => account.membership.realm.ports.of(&device),
            _ => None,
        };
        let port = port.map(NonZeroU16::get).or_else(computed);
        let port = port.ok_or_else(|| OpenError::NoPort {
            device: device.clone(),
            service: service.clone(),
        })?;
        let opening = async {
            on_wait("the proxy");
            let proxy = log_in(&account, &device, timing).await?;
            on_wait("the stream");
            let stream = stream(&proxy, &device, port, timing).await?;
            Ok((proxy, stream))
        };
        let (proxy, stream) = tokio::select! {
            result = opening => result?,
            () = cancel.requested() => return Err(OpenError::Interrupted { device }),
        };
        let tunnel = Self {
            account,
            device,
            proxy,
            host_keys: Vec::new(),
            is_plain: false,
        };
        Ok((tunnel, stream))
    }

    /// The host keys that the device reported, `TYPE BASE64` each.
    pub fn host_keys(&self) -> &[String] {
        &self.host_keys
    }

    /// The device.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Says goodbye to the proxy, and to an original device.
    pub async fn close(self) {
        self.proxy.disconnect("done").await;
        if self.is_plain
            && let Err(error) = disconnect(&self.account, &self.device, true).await
        {
            tracing::warn!(%error, "the device could not be told that its tunnel is no longer needed");
        }
    }
}

/// A device of another system and one that does not exist look the same, here as at the broker. The former is refused
/// without asking anybody, whether it exists or not, so that the time which the latter takes tells nobody anything.
pub(crate) fn check(own: &DeviceId, device: &DeviceId) -> Result<(), OpenError> {
    if own.role() != Role::Controller {
        return Err(OpenError::NotAController { id: own.clone() });
    }
    if !own.same_system(device) {
        return Err(OpenError::unknown(own, device));
    }
    Ok(())
}

/// Waits for the answer and for the login at the proxy, and asks for the stream when only the answer is missing.
async fn ordered(
    ordering: impl Future<Output = Result<Opened, OpenError>>,
    account: &Account,
    asked: &Asked,
    timing: &Timing,
    on_wait: &impl Fn(&'static str),
) -> Result<(Opened, Dialed, Option<Stream>), OpenError> {
    let mut ordering = std::pin::pin!(ordering);
    let mut login = std::pin::pin!(log_in(account, &asked.device, timing));
    tokio::select! {
        opened = &mut ordering => {
            let opened = opened?;
            on_wait("the proxy");
            Ok((opened, login.await?, None))
        }
        proxy = &mut login => {
            let proxy = proxy?;
            let (opened, early) = early::beside(ordering, &proxy, asked, timing, on_wait).await?;
            Ok((opened, proxy, early))
        }
    }
}

/// Asks a device for a service, and leaves the lease to its lifetime. When `cancel` is requested meanwhile, it is taken back.
pub(crate) async fn ask(
    account: &Account,
    asked: &Asked,
    on_wait: impl Fn(&'static str),
    cancel: &Shutdown,
) -> Result<Opened, OpenError> {
    let mut session = None;
    let timing = Timing::start();
    let result = tokio::select! {
        result = order(account, asked, false, None, &mut session, &timing, &on_wait) => result,
        () = cancel.requested() => Err(OpenError::Interrupted { device: asked.device.clone() }),
    };
    if let Some(session) = session {
        session.finish(result.is_err().then(|| asked.close())).await;
    }
    let opened = result?;
    known_proxy(account, &asked.device, opened.proxy.as_deref())?;
    Ok(opened)
}

/// Orders over a session that is left in its place, so that the order can be taken back.
async fn order(
    account: &Account,
    asked: &Asked,
    plain: bool,
    others: Option<&Answers>,
    place: &mut Option<Session>,
    timing: &Timing,
    on_wait: &impl Fn(&'static str),
) -> Result<Opened, OpenError> {
    let broker = |source| OpenError::Broker {
        device: asked.device.clone(),
        source,
    };
    let filters = filters(&asked.controller, &asked.device);
    let mut attempt: Option<(Attempt, Instant)> = None;
    loop {
        on_wait("the broker");
        let began = Instant::now();
        let turn = match Turn::take_unless(&account.dir, || others?.given())
            .await
            .map_err(|error| broker(error.into()))?
        {
            Taken::Turn(turn) => turn,
            Taken::Needless(opened) => return Ok(opened),
        };
        // The first order follows the subscription at once: a broker takes packets in their order.
        let first = attempt.is_none().then(|| asked.first(plain));
        let session = Session::start(account, turn, filters.clone(), first).map_err(broker)?;
        // In its place before it is up: the order may be out before we hear that.
        let session = place.insert(session);
        session.up().await.map_err(broker)?;
        on_wait("the device");
        let now = Instant::now();
        let (attempt, ordered) = match &mut attempt {
            Some(earlier) => {
                earlier.0.again(now);
                earlier
            }
            none => {
                timing.record(Step::MqttConnect, began);
                none.insert((Attempt::ordered(plain, now), now))
            }
        };
        let answer = asked
            .order(session, attempt)
            .await
            .map_err(|error| match error {
                OrderError::Broker(source) => broker(source),
                OrderError::Failed(failure) => failed(&asked.controller, &asked.device, failure),
            })?;
        if let Some(opened) = answer {
            timing.record(Step::Order, *ordered);
            if let Some(note) = answers::note(asked, &opened) {
                session.say(&note);
            }
            return Ok(opened);
        }
        if let Some(session) = place.take() {
            session.finish(None).await;
        }
        sleep(GIVE_WAY).await;
    }
}

pub(crate) async fn log_in(
    account: &Account,
    device: &DeviceId,
    timing: &Timing,
) -> Result<Dialed, OpenError> {
    let began = Instant::now();
    let proxy = account.membership.realm.proxy().ok_or(OpenError::NoProxy)?;
    let host_keys = proxy
        .public_keys()
        .map_err(|source| OpenError::ProxyHostKey { source })?;
    let address = proxy.address.to_string();
    let key = Arc::clone(&account.ssh_key);
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

async fn stream(
    proxy: &Dialed,
    device: &DeviceId,
    port: u16,
    timing: &Timing,
) -> Result<Stream, OpenError> {
    let began = Instant::now();
    let stream = proxy
        .open("localhost", port, OPEN_LIMIT)
        .await
        .map_err(|source| OpenError::Stream {
            device: device.clone(),
            source,
        })?;
    timing.record(Step::Stream, began);
    Ok(stream)
}

pub(crate) fn port(asked: &Asked, opened: &Opened) -> Result<u16, OpenError> {
    let port = match &opened.forwards {
        Ports::Ssh(port) => Some(*port),
        Ports::Named(forwards) => forward(asked, forwards).map(|forward| forward.port),
    };
    port.ok_or_else(|| OpenError::NoService {
        device: asked.device.clone(),
        service: asked.service.clone(),
    })
}

/// What the device calls the service.
pub(crate) fn service(asked: &Asked, opened: &Opened) -> Label {
    let told = match &opened.forwards {
        Ports::Ssh(_) => None,
        Ports::Named(forwards) => forward(asked, forwards),
    };
    told.map_or(&asked.service, |forward| &forward.service)
        .clone()
}

/// Who asks for a port is told which service that is.
fn forward<'a>(asked: &Asked, forwards: &'a [Forward]) -> Option<&'a Forward> {
    let named = forwards
        .iter()
        .find(|forward| forward.service == asked.service);
    named.or(match forwards {
        [only] if asked.service.as_str().parse::<u16>().is_ok() => Some(only),
        _ => None,
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

fn failed(own: &DeviceId, device: &DeviceId, failure: Failure) -> OpenError {
    let device = device.clone();
    match failure {
        Failure::Unknown => OpenError::unknown(own, &device),
        Failure::Offline(presence) => OpenError::Offline {
            device,
            since: presence.since,
            lost: presence.lost,
        },
        Failure::Refused(code, text) => OpenError::Refused { device, code, text },
        Failure::NoAnswer(waited) => OpenError::NoAnswer { device, waited },
    }
}

/// The deadline of the login at the proxy: the same as the agent's.
const LOGIN: Duration = Duration::from_secs(10);

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
}
