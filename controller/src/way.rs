//! The way to one service of a device, for as long as somebody may want streams there.
//!
//! An order is sent when there has to be a tunnel, and not while nobody needs one: a stream is asked for where the service was last,
//! and if it does not come at once the device is told, while the stream waits at the proxy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::device_file::SSH_SERVICE;
use daemon::shutdown::Shutdown;
use daemon::ssh_client::{Dialed, OPEN_LIMIT};
use protocol::{DeviceId, Label, LeaseId};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Account, Session};
use crate::order::{Asked, LIFETIME, filters};
use crate::timing::Timing;
use crate::tunnel::{self, OpenError, Stream};

/// What the ways to one device have in common.
pub(crate) struct Device {
    pub(crate) account: Arc<Account>,
    pub(crate) id: DeviceId,
    /// One for all of them: each order renews it.
    lease: LeaseId,
    ordered: Mutex<Option<Instant>>,
    dials: Semaphore,
    pub(crate) tasks: Shutdown,
}

/// The way to one service.
pub(crate) struct Way {
    pub(crate) device: Arc<Device>,
    asked: Asked,
    place: watch::Sender<Place>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WayError {
    /// The proxy is away, or refuses.
    #[error(transparent)]
    Proxy(#[from] OpenError),
    /// The device was asked, for several streams at once.
    #[error(transparent)]
    Device(Arc<OpenError>),
}

/// Where the service is.
#[derive(Clone, Debug)]
struct Place {
    /// How often this has been found out.
    number: u64,
    is_asking: bool,
    found: Result<Found, Arc<OpenError>>,
    /// How often in a row the device could not be asked, and when the last time was.
    failed: Option<(u32, Instant)>,
}

#[derive(Clone, Debug)]
struct Found {
    host: String,
    port: u16,
    /// As the device calls it.
    service: Label,
}

/// What has come of asking for a stream.
enum Opened {
    Stream(Stream),
    /// The device has been asked anew, and says where.
    Asked((u64, Found)),
}

impl Device {
    pub(crate) fn new(account: Arc<Account>, id: DeviceId, tasks: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            account,
            id,
            lease: LeaseId::from_bytes(rand::random()),
            ordered: Mutex::new(None),
            dials: Semaphore::new(DIALS),
            tasks,
        })
    }

    /// Gives the lease up, if it has not ended by itself.
    pub(crate) async fn give_back(&self) {
        let ordered = *self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = Duration::from_secs(LIFETIME.as_secs().into());
        if ordered.is_none_or(|ordered| ordered.elapsed() > lasts) {
            return;
        }
        let asked = Asked {
            controller: self.account.id().clone(),
            device: self.id.clone(),
            service: self.id.device().clone(),
            lease: self.lease,
        };
        let giving = async {
            let session =
                Session::begin(&self.account, filters(&asked.controller, &asked.device)).await?;
            session.finish(Some(asked.close())).await;
            Ok::<_, crate::BrokerError>(())
        };
        match timeout(GIVE_BACK, giving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease ends by itself"),
            Err(_) => tracing::debug!("the broker takes too long; the lease ends by itself"),
        }
    }
}

impl Way {
    /// Asks the device for a service.
    pub(crate) async fn find(
        device: &Arc<Device>,
        service: Label,
        on_wait: impl Fn(&'static str),
    ) -> Result<Arc<Self>, OpenError> {
        let asked = Asked {
            controller: device.account.id().clone(),
            device: device.id.clone(),
            service,
            lease: device.lease,
        };
        let found = find(device, &asked, on_wait).await?;
        let place = Place {
            number: 0,
            is_asking: false,
            found: Ok(found),
            failed: None,
        };
        Ok(Arc::new(Self {
            device: Arc::clone(device),
            asked,
            place: watch::Sender::new(place),
        }))
    }

    /// What was asked for: a name, or a port.
    pub(crate) fn asked(&self) -> &Label {
        &self.asked.service
    }

    /// The service's name at the device.
    pub(crate) fn service(&self) -> Label {
        let place = self.place.borrow();
        let found = place.found.as_ref().ok();
        found.map_or_else(|| self.asked.service.clone(), |found| found.service.clone())
    }

    /// A stream, with the connection that carries it alone.
    pub(crate) async fn stream(self: &Arc<Self>) -> Result<(Dialed, Stream), WayError> {
        let place = self.place.borrow().clone();
        let (mut number, mut found) = match place.found {
            Ok(found) => (place.number, found),
            Err(_) => self.ask_again(place.number).await?,
        };
        let mut asked_anew = false;
        loop {
            let proxy = {
                let _dial = self.device.dials.acquire().await;
                let account = &self.device.account;
                tunnel::log_in(account, &self.device.id, &Timing::start()).await?
            };
            match self.open(&proxy, &found, number, asked_anew).await? {
                Opened::Stream(stream) => return Ok((proxy, stream)),
                Opened::Asked(now) => (number, found) = now,
            }
            asked_anew = true;
        }
    }

    /// Opens a stream there; when that takes its time, or is refused, the device is asked meanwhile.
    async fn open(
        self: &Arc<Self>,
        proxy: &Dialed,
        found: &Found,
        number: u64,
        asked_anew: bool,
    ) -> Result<Opened, WayError> {
        let failed = |source| {
            let device = self.device.id.clone();
            WayError::from(OpenError::Stream { device, source })
        };
        let mut opening = std::pin::pin!(proxy.open(&found.host, found.port, OPEN_LIMIT));
        let mut refused = match timeout(SOON, &mut opening).await {
            Ok(Ok(stream)) => return Ok(Opened::Stream(stream)),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        if self.device.account.is_always_on() {
            let opened = match refused {
                Some(error) => Err(error),
                None => opening.await,
            };
            return opened.map(Opened::Stream).map_err(failed);
        }
        let mut asking = std::pin::pin!(self.ask_again(number));
        loop {
            tokio::select! {
                opened = &mut opening, if refused.is_none() => match opened {
                    Ok(stream) => return Ok(Opened::Stream(stream)),
                    Err(error) => refused = Some(error),
                },
                asked = &mut asking => {
                    let (number, now) = asked?;
                    let is_there = (&now.host, now.port) == (&found.host, found.port);
                    return match refused {
                        // Now it comes, or never.
                        None if is_there => opening.await.map(Opened::Stream).map_err(failed),
                        // With a tunnel that is there for sure: it is the service that refuses.
                        Some(error) if is_there && asked_anew => Err(failed(error)),
                        None | Some(_) => Ok(Opened::Asked((number, now))),
                    };
                }
            }
        }
    }

    /// Waits until the device has been asked once more than so often; asks it if nobody does.
    async fn ask_again(self: &Arc<Self>, number: u64) -> Result<(u64, Found), WayError> {
        let mut place = self.place.subscribe();
        let is_ours = self.place.send_if_modified(|place| {
            let begin = place.number == number && !place.is_asking;
            place.is_asking |= begin;
            begin
        });
        if is_ours {
            let way = Arc::clone(self);
            // Not by whoever waits: his patience may end before the answer comes, and others wait for it too.
            self.device.tasks.spawn(async move {
                let failed = way.place.borrow().failed;
                if let Some((often, last)) = failed {
                    // However many wait: nobody is the sooner back for being asked all the time.
                    tokio::select! {
                        () = sleep_until(last + ASK_AGAIN * often.min(ASK_SLOWER)) => {}
                        () = way.device.tasks.requested() => return,
                    }
                }
                let found = find(&way.device, &way.asked, |_| {}).await;
                way.place.send_modify(|place| {
                    place.number += 1;
                    place.is_asking = false;
                    place.failed = found.is_err().then(|| {
                        let often = failed.map_or(0, |(often, _)| often);
                        (often.saturating_add(1), Instant::now())
                    });
                    place.found = found.map_err(Arc::new);
                });
            });
        }
        let asked = place.wait_for(|place| place.number > number).await;
        let asked = asked.map(|place| place.clone());
        match asked {
            Ok(Place {
                number,
                found: Ok(found),
                ..
            }) => Ok((number, found)),
            Ok(Place {
                found: Err(error), ..
            }) => Err(WayError::Device(error)),
            // The sender is in ourselves.
            Err(_) => Err(OpenError::Interrupted {
                device: self.device.id.clone(),
            }
            .into()),
        }
    }
}

/// Finds out where a service is: by an order, or without one where tunnels are always on.
async fn find(
    device: &Device,
    asked: &Asked,
    on_wait: impl Fn(&'static str),
) -> Result<Found, OpenError> {
    let account = &device.account;
    if account.is_always_on() {
        return always_on(account, asked);
    }
    let opened = tunnel::ask(account, asked, on_wait, &device.tasks).await?;
    *device
        .ordered
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    Ok(Found {
        host: "localhost".to_owned(),
        port: tunnel::port(asked, &opened)?,
        service: tunnel::service(asked, &opened),
    })
}

/// The port of `ssh` can be computed; another service is found by the device's name and its own port.
fn always_on(account: &Account, asked: &Asked) -> Result<Found, OpenError> {
    let service = asked.service.clone();
    let device = &asked.device;
    let computed = match service.as_str() {
        SSH_SERVICE => account.membership.realm.ports.of(device),
        _ => None,
    };
    let by_name = || Some((device.device().to_string(), service.as_str().parse().ok()?));
    let place = computed.map(|port| ("localhost".to_owned(), port));
    let (host, port) = place.or_else(by_name).ok_or_else(|| OpenError::NoPort {
        device: device.clone(),
        service: service.clone(),
    })?;
    Ok(Found {
        host,
        port,
        service,
    })
}

/// How many connections to the proxy begin at once: it lets sixteen of one address stand in its doorway.
const DIALS: usize = 8;

/// How soon a stream comes to a tunnel that is there: a round trip to the device, and its connection to the service.
const SOON: Duration = Duration::from_millis(400);

/// How long after a failure the device is asked again at the earliest; twice that after two, and no more than [`ASK_SLOWER`]
/// times.
const ASK_AGAIN: Duration = Duration::from_millis(750);

/// The bound of it: three seconds, which whoever waits for an agent that is back may wait in vain.
const ASK_SLOWER: u32 = 4;

/// How long giving back the lease may take. It ends by itself within a minute.
const GIVE_BACK: Duration = Duration::from_secs(3);
