//! One connection to the proxy, from its dialling to its end.

use std::sync::Arc;
use std::time::Duration;

use daemon::report::one_line;
use daemon::service::Service;
use daemon::ssh::PeerKind;
use daemon::ssh_client::{self, Dialed, ForwardedStream, RequestError};
use protocol::{Forward, Label};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ends::Ends;
use crate::plan::Plan;
use crate::pool::MemberId;
use crate::stream;

/// What a member tells its pool.
#[derive(Debug)]
pub(crate) enum Event {
    /// It forwards these.
    Up(Vec<Forward>),
    /// The proxy, which is not of our kind, refuses a second connection the first one's port.
    NotPooled,
    /// It could not be made.
    Failed(String),
    /// It is gone.
    Down {
        /// Why.
        reason: String,
        /// Whether nothing came through it before.
        silent: bool,
    },
    /// It has ended as it was told to.
    Retired,
    StreamBegan,
    StreamEnded,
}

/// A member's place in its pool.
pub(crate) struct Seat {
    pub(crate) id: MemberId,
    /// The ports that are granted already, so that this connection joins them; empty for the first.
    pub(crate) ports: Vec<Forward>,
    /// Whether others forward those ports now.
    pub(crate) joins: bool,
    /// Cancelled when the member is to end after its streams. A token and no command: a full queue cannot lose it.
    pub(crate) retire: CancellationToken,
    /// Where its streams are entered, with those of the others.
    pub(crate) ends: Ends,
    pub(crate) events: mpsc::Sender<(MemberId, Event)>,
}

/// The task of one member.
pub(crate) struct Member {
    plan: Arc<Plan>,
    seat: Seat,
}

/// What the proxy forwards to a member.
struct Granted {
    /// By the ports that it has allocated.
    forwards: Vec<Forward>,
    /// By the device's name, at these ports of the services.
    named: Vec<u16>,
}

impl Member {
    pub(crate) fn new(plan: Arc<Plan>, seat: Seat) -> Self {
        Self { plan, seat }
    }

    /// Dials, forwards, and serves streams until it is retired or the connection is lost.
    pub(crate) async fn run(mut self) {
        let ended = match self.connect().await {
            Ok((dialed, granted)) => {
                self.tell(Event::Up(granted.forwards.clone())).await;
                self.serve(dialed, &granted).await
            }
            Err(event) => event,
        };
        self.tell(ended).await;
    }

    async fn connect(&self) -> Result<(Dialed, Granted), Event> {
        let plan = &self.plan;
        let user = plan.device.system().as_str();
        let address = plan.proxy.to_string();
        let dialed = ssh_client::dial(&address, user, Arc::clone(&plan.key), &plan.host_keys, DIAL)
            .await
            .map_err(|error| Event::Failed(one_line(&error)))?;
        let mut granted = Granted {
            forwards: Vec::new(),
            named: Vec::new(),
        };
        for (index, (service, address)) in plan.services.iter().enumerate() {
            // Where nobody orders, nobody could be told of more than one port.
            if index == 0 || plan.always_on.is_none() {
                let port = self.forward(&dialed, service).await?;
                granted.forwards.push(Forward {
                    service: service.clone(),
                    port,
                });
            }
            // By name, for whoever writes `333:80`. Only our own proxy knows names; another would take the port itself.
            if index > 0 && dialed.kind() == PeerKind::Own {
                let port = address.port();
                match dialed.request_forward(self.name(), port, REQUEST).await {
                    Ok(_) => granted.named.push(port),
                    Err(error) => {
                        tracing::debug!(%service, error = one_line(&error), "the service cannot be reached by name");
                    }
                }
            }
        }
        Ok((dialed, granted))
    }

    /// The port of one service: the one it had, if that is still free for us.
    async fn forward(&self, dialed: &Dialed, service: &Label) -> Result<u16, Event> {
        let before = self
            .seat
            .ports
            .iter()
            .find(|forward| forward.service == *service)
            .map(|forward| forward.port);
        let is_first = self
            .plan
            .services
            .first()
            .is_some_and(|(first, _)| first == service);
        let before = before.unwrap_or(if is_first { self.plan.port } else { 0 });
        let failed = |error: &RequestError| Event::Failed(one_line(error));
        let error = match dialed.request_forward(HOST, before, REQUEST).await {
            Ok(port) => return Ok(port),
            Err(error) => error,
        };
        match after_refusal(&error, dialed.kind(), self.seat.joins, before) {
            Next::Share => Err(Event::NotPooled),
            // Controllers look for it at this port and at no other: whoever has it may go.
            Next::AnyPort if self.plan.always_on.is_some() => Err(failed(&error)),
            Next::AnyPort => {
                let any = dialed.request_forward(HOST, 0, REQUEST).await;
                any.map_err(|error| failed(&error))
            }
            Next::Fail => Err(failed(&error)),
        }
    }

    fn name(&self) -> &str {
        self.plan.device.device().as_str()
    }

    async fn serve(&mut self, mut dialed: Dialed, granted: &Granted) -> Event {
        let forwards = &granted.forwards;
        let flow = dialed.flow().clone();
        // Dropping them ends them.
        let mut streams = JoinSet::new();
        let mut retired = false;
        let why = loop {
            tokio::select! {
                biased;
                () = flow.dead() => break "the connection is lost",
                Some(_) = streams.join_next(), if !streams.is_empty() => {
                    self.tell(Event::StreamEnded).await;
                    if retired && streams.is_empty() {
                        return retire(dialed).await;
                    }
                }
                () = self.seat.retire.cancelled(), if !retired => {
                    retired = true;
                    self.leave(&mut dialed, granted, &mut streams).await;
                    if streams.is_empty() {
                        return retire(dialed).await;
                    }
                }
                stream = dialed.forwarded.recv() => match stream {
                    Some(stream) => self.begin(stream, forwards, &mut streams).await,
                    None => break "the connection has ended",
                },
            }
        };
        let silent = flow.silent_for() > SILENT;
        drain(streams).await;
        Event::Down {
            reason: why.to_owned(),
            silent,
        }
    }

    async fn begin(
        &self,
        stream: ForwardedStream,
        forwards: &[Forward],
        streams: &mut JoinSet<()>,
    ) {
        let plan = &self.plan;
        let by_port = |index: usize| {
            forwards
                .get(index)
                .is_some_and(|forward| forward.port == stream.port)
        };
        let by_name = |address: &Service| {
            stream.address == plan.device.device().as_str() && stream.port == address.port()
        };
        let found = plan
            .services
            .iter()
            .enumerate()
            .find(|(index, (_, address))| by_port(*index) || by_name(address));
        let Some((_, (service, address))) = found else {
            tracing::warn!(
                port = stream.port,
                "a stream was refused: no service is forwarded there"
            );
            return stream.refuse("no service is forwarded there").await;
        };
        let end = self.seat.ends.enter(stream::controller(&stream));
        let (service, address) = (service.clone(), address.clone());
        let builtin = plan.builtin.clone();
        streams.spawn(async move {
            match (address, builtin) {
                (Service::At(address), _) => stream::serve(stream, &service, &address, end).await,
                (Service::Builtin, Some(builtin)) => {
                    stream::serve_here(stream, &service, builtin.as_ref(), end).await;
                }
                // The plan has made sure that there is one.
                (Service::Builtin, None) => stream.refuse("there is no such service").await,
            }
        });
        self.tell(Event::StreamBegan).await;
    }

    /// Leaves the proxy's table, so that no new stream is on its way when the connection ends.
    async fn leave(&self, dialed: &mut Dialed, granted: &Granted, streams: &mut JoinSet<()>) {
        let allocated = granted.forwards.iter().map(|forward| (HOST, forward.port));
        let named = granted.named.iter().map(|port| (self.name(), *port));
        for (host, port) in allocated.chain(named) {
            if let Err(error) = dialed.cancel_forward(host, port, REQUEST).await {
                tracing::debug!(
                    host,
                    port,
                    error = one_line(&error),
                    "a forward could not be given back"
                );
            }
        }
        while let Ok(stream) = dialed.forwarded.try_recv() {
            self.begin(stream, &granted.forwards, streams).await;
        }
    }

    async fn tell(&self, event: Event) {
        // The pool outlives its members; at a shutdown nobody needs to know.
        let _ = self.seat.events.send((self.seat.id, event)).await;
    }
}

async fn retire(dialed: Dialed) -> Event {
    dialed.disconnect("no longer needed").await;
    Event::Retired
}

/// What to do when a port is not granted.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// One connection is all that this proxy takes: the streams share it.
    Share,
    /// The port is somebody else's by now: take another.
    AnyPort,
    Fail,
}

fn after_refusal(error: &RequestError, proxy: PeerKind, joins: bool, port: u16) -> Next {
    match (error, proxy) {
        // Ours takes several; it is about to stop, or has too many.
        (RequestError::Refused { .. }, PeerKind::Own) if joins => Next::Fail,
        (RequestError::Refused { .. }, PeerKind::Foreign) if joins => Next::Share,
        (RequestError::Refused { .. }, _) if port != 0 => Next::AnyPort,
        // Without an answer, or without a connection, there is nothing to ask for another.
        (_, _) => Next::Fail,
    }
}

/// Lets the streams of a dead connection end, so that their services see it broken.
async fn drain(mut streams: JoinSet<()>) {
    let ended = async { while streams.join_next().await.is_some() {} };
    if timeout(DRAIN, ended).await.is_err() {
        tracing::debug!("streams of a dead connection did not end by themselves");
    }
}

/// The host that a forward is asked for: stock sshd, ours, and `permitlisten` all know it.
const HOST: &str = "localhost";

/// The deadline of the whole login at the proxy.
const DIAL: Duration = Duration::from_secs(10);

/// How long the streams of a dead connection may take to end: they are told at once.
const DRAIN: Duration = Duration::from_secs(2);

/// A connection that has heard nothing for so long was not ended by its proxy, which answers a ping every four seconds. Less
/// than [`ssh_client::SILENCE_LIMIT`], which ends it.
const SILENT: Duration = Duration::from_secs(7);

/// The deadline of one request on a live connection.
const REQUEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
