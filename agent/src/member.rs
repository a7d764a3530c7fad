//! One connection to the proxy, from its dialling to its end.

mod asking;

use std::sync::Arc;
use std::time::Duration;

use daemon::report::one_line;
use daemon::service::Service;
use daemon::ssh_client::{self, Dialed, ForwardedStream};
use protocol::{Forward, Label};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::asking::Granted;
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

/// What comes through the connection, also while the proxy is still asked for forwards.
struct Streams {
    forwarded: mpsc::Receiver<ForwardedStream>,
    /// Dropping them ends them.
    running: JoinSet<()>,
    /// What the pool was told that is forwarded, once it was.
    up: Option<Vec<Forward>>,
    /// How many have begun of which the pool is not told before that.
    untold: usize,
}

impl Member {
    pub(crate) fn new(plan: Arc<Plan>, seat: Seat) -> Self {
        Self { plan, seat }
    }

    /// Dials, forwards, and serves streams until it is retired or the connection is lost.
    pub(crate) async fn run(mut self) {
        let ended = match self.dial().await {
            Ok(dialed) => self.attend(dialed).await,
            Err(event) => event,
        };
        self.tell(ended).await;
    }

    async fn dial(&self) -> Result<Dialed, Event> {
        let plan = &self.plan;
        let user = plan.device.system().as_str();
        let address = plan.proxy.to_string();
        ssh_client::dial(&address, user, Arc::clone(&plan.key), &plan.host_keys, DIAL)
            .await
            .map_err(|error| Event::Failed(one_line(&error)))
    }

    async fn attend(&mut self, mut dialed: Dialed) -> Event {
        let mut streams = Streams {
            // Apart from the connection, of which forwards are asked meanwhile.
            forwarded: std::mem::replace(&mut dialed.forwarded, mpsc::channel(1).1),
            running: JoinSet::new(),
            up: None,
            untold: 0,
        };
        let mut granted = Granted::default();
        match self.ask(&dialed, &mut granted, &mut streams).await {
            Ok(()) => self.serve(dialed, &granted, streams).await,
            Err(event) => {
                let was_up = streams.up.is_some();
                // The streams end as those of a lost connection do.
                drop(dialed);
                drain(streams.running).await;
                if was_up && let Event::Failed(reason) = event {
                    Event::Down {
                        reason,
                        silent: false,
                    }
                } else {
                    event
                }
            }
        }
    }

    /// Tells the pool what is forwarded, and then what it was not told before.
    async fn up(&self, forwards: Vec<Forward>, streams: &mut Streams) {
        streams.up = Some(forwards.clone());
        self.tell(Event::Up(forwards)).await;
        for _ in 0..std::mem::take(&mut streams.untold) {
            self.tell(Event::StreamBegan).await;
        }
    }

    fn name(&self) -> &str {
        self.plan.device.device().as_str()
    }

    async fn serve(&mut self, dialed: Dialed, granted: &Granted, mut streams: Streams) -> Event {
        let flow = dialed.flow().clone();
        let mut retired = false;
        let why = loop {
            tokio::select! {
                biased;
                () = flow.dead() => break "the connection is lost",
                Some(_) = streams.running.join_next(), if !streams.running.is_empty() => {
                    self.tell(Event::StreamEnded).await;
                    if retired && streams.running.is_empty() {
                        return retire(dialed).await;
                    }
                }
                () = self.seat.retire.cancelled(), if !retired => {
                    retired = true;
                    self.leave(&dialed, granted, &mut streams).await;
                    if streams.running.is_empty() {
                        return retire(dialed).await;
                    }
                }
                stream = streams.forwarded.recv() => match stream {
                    Some(stream) => self.begin(stream, granted, &mut streams).await,
                    None => break "the connection has ended",
                },
            }
        };
        let silent = flow.silent_for() > SILENT;
        drain(streams.running).await;
        Event::Down {
            reason: why.to_owned(),
            silent,
        }
    }

    async fn begin(&self, stream: ForwardedStream, granted: &Granted, streams: &mut Streams) {
        let plan = &self.plan;
        let by_port = |index: usize| {
            let forward = granted.forwards.get(index);
            forward.is_some_and(|forward| forward.port == stream.port)
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
            return stream.refuse(NO_SERVICE).await;
        };
        self.join(stream, service, address, streams).await;
    }

    /// Joins a stream with its service.
    async fn join(
        &self,
        stream: ForwardedStream,
        service: &Label,
        address: &Service,
        streams: &mut Streams,
    ) {
        let end = self.seat.ends.enter(stream::controller(&stream));
        let (service, address) = (service.clone(), address.clone());
        let builtin = self.plan.builtin.clone();
        streams.running.spawn(async move {
            match (address, builtin) {
                (Service::At(address), _) => stream::serve(stream, &service, &address, end).await,
                (Service::Builtin, Some(builtin)) => {
                    stream::serve_here(stream, &service, builtin.as_ref(), end).await;
                }
                // The plan has made sure that there is one.
                (Service::Builtin, None) => stream.refuse("there is no such service").await,
            }
        });
        if streams.up.is_some() {
            self.tell(Event::StreamBegan).await;
        } else {
            streams.untold += 1;
        }
    }

    /// Leaves the proxy's table, so that no new stream is on its way when the connection ends.
    async fn leave(&self, dialed: &Dialed, granted: &Granted, streams: &mut Streams) {
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
        while let Ok(stream) = streams.forwarded.try_recv() {
            self.begin(stream, granted, streams).await;
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

/// Lets the streams of a dead connection end, so that their services see it broken.
async fn drain(mut streams: JoinSet<()>) {
    let ended = async { while streams.join_next().await.is_some() {} };
    if timeout(DRAIN, ended).await.is_err() {
        tracing::debug!("streams of a dead connection did not end by themselves");
    }
}

/// The host that a forward is asked for: stock sshd, ours, and `permitlisten` all know it.
const HOST: &str = "localhost";

/// What the proxy is told where nothing is served.
const NO_SERVICE: &str = "no service is forwarded there";

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
