//! One connection to the proxy, from its dialling to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::host_port::HostPort;
use daemon::report::one_line;
use daemon::ssh_client::{self, Dialed, ForwardedStream, RequestError};
use protocol::{DeviceId, Forward, Label};
use russh::keys::{PrivateKey, PublicKey};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::pool::MemberId;
use crate::stream;

/// What every member of a device does.
pub(crate) struct Plan {
    pub(crate) device: DeviceId,
    pub(crate) proxy: HostPort,
    pub(crate) host_keys: Vec<PublicKey>,
    pub(crate) key: Arc<PrivateKey>,
    /// The port that the first service is to have; 0 for any.
    pub(crate) port: u16,
    /// The services, `ssh` first: a name without a port means the first.
    pub(crate) services: Vec<(Label, HostPort)>,
}

/// What a member tells its pool.
#[derive(Debug)]
pub(crate) enum Event {
    /// It forwards these.
    Up(Vec<Forward>),
    /// The proxy refuses a second connection the first one's port.
    NotPooled,
    /// It could not be made.
    Failed(String),
    /// It is gone.
    Down(String),
    StreamBegan,
    StreamEnded,
}

/// What a pool tells its member.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// End when no stream is left.
    Retire,
    /// End the streams of this controller.
    EndStreams(Label),
}

/// The task of one member.
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) plan: Arc<Plan>,
    /// The ports that are granted already, so that this connection joins them; empty for the first.
    pub(crate) ports: Vec<Forward>,
    /// Whether others forward those ports now.
    pub(crate) joins: bool,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<(MemberId, Event)>,
}

impl Member {
    /// Dials, forwards, and serves streams until it is retired or the connection is lost.
    pub(crate) async fn run(mut self) {
        let ended = match self.connect().await {
            Ok((dialed, forwards)) => {
                self.tell(Event::Up(forwards.clone())).await;
                self.serve(dialed, &forwards).await
            }
            Err(event) => event,
        };
        self.tell(ended).await;
    }

    async fn connect(&self) -> Result<(Dialed, Vec<Forward>), Event> {
        let plan = &self.plan;
        let user = plan.device.system().as_str();
        let address = plan.proxy.to_string();
        let dialed = ssh_client::dial(&address, user, Arc::clone(&plan.key), &plan.host_keys, DIAL)
            .await
            .map_err(|error| Event::Failed(one_line(&error)))?;
        let mut forwards = Vec::new();
        for (service, address) in &plan.services {
            let port = self.forward(&dialed, service).await?;
            forwards.push(Forward {
                service: service.clone(),
                port,
            });
            if forwards.len() > 1 {
                // By name, for whoever writes `333:80`. Only our own proxy knows names; without them ports do.
                let named = dialed
                    .request_forward(plan.device.device().as_str(), address.port(), REQUEST)
                    .await;
                if let Err(error) = named {
                    tracing::debug!(%service, error = one_line(&error), "the service cannot be reached by name");
                }
            }
        }
        Ok((dialed, forwards))
    }

    /// The port of one service: the one it had, if that is still free for us.
    async fn forward(&self, dialed: &Dialed, service: &Label) -> Result<u16, Event> {
        let before = self
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
        match dialed.request_forward(HOST, before, REQUEST).await {
            Ok(port) => Ok(port),
            Err(RequestError::Refused { .. }) if self.joins => Err(Event::NotPooled),
            Err(RequestError::Refused { .. }) if before != 0 => dialed
                .request_forward(HOST, 0, REQUEST)
                .await
                .map_err(|error| Event::Failed(one_line(&error))),
            Err(error) => Err(Event::Failed(one_line(&error))),
        }
    }

    async fn serve(&mut self, mut dialed: Dialed, forwards: &[Forward]) -> Event {
        let flow = dialed.flow().clone();
        let mut streams = Streams::default();
        let mut retired = false;
        loop {
            tokio::select! {
                biased;
                () = flow.dead() => {
                    streams.drain().await;
                    return Event::Down("the connection is lost".to_owned());
                }
                ended = streams.tasks.join_next_with_id(), if !streams.tasks.is_empty() => {
                    if let Some(Ok((id, ()))) = ended {
                        streams.controllers.remove(&id);
                    }
                    self.tell(Event::StreamEnded).await;
                    if retired && streams.tasks.is_empty() {
                        return retire(dialed).await;
                    }
                }
                stream = dialed.forwarded.recv() => match stream {
                    Some(stream) => self.begin(stream, forwards, &mut streams).await,
                    None => return Event::Down("the connection has ended".to_owned()),
                },
                command = self.commands.recv() => match command {
                    Some(Command::EndStreams(controller)) => streams.end(&controller),
                    Some(Command::Retire) | None => {
                        retired = true;
                        self.leave(&mut dialed, forwards, &mut streams).await;
                        if streams.tasks.is_empty() {
                            return retire(dialed).await;
                        }
                    }
                },
            }
        }
    }

    async fn begin(&self, stream: ForwardedStream, forwards: &[Forward], streams: &mut Streams) {
        let plan = &self.plan;
        let by_port = |index: usize| {
            forwards
                .get(index)
                .is_some_and(|forward| forward.port == stream.port)
        };
        let by_name = |address: &HostPort| {
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
        let controller = stream::controller(&stream);
        let (service, address) = (service.clone(), address.clone());
        let end = CancellationToken::new();
        let ends = end.clone();
        let task = streams
            .tasks
            .spawn(async move { stream::serve(stream, &service, &address, end).await });
        if let Some(controller) = controller {
            streams.controllers.insert(task.id(), (controller, ends));
        }
        self.tell(Event::StreamBegan).await;
    }

    /// Leaves the proxy's table, so that no new stream is on its way when the connection ends.
    async fn leave(&self, dialed: &mut Dialed, forwards: &[Forward], streams: &mut Streams) {
        for forward in forwards {
            if let Err(error) = dialed.cancel_forward(HOST, forward.port, REQUEST).await {
                tracing::debug!(
                    port = forward.port,
                    error = one_line(&error),
                    "a forward could not be given back"
                );
            }
        }
        while let Ok(stream) = dialed.forwarded.try_recv() {
            self.begin(stream, forwards, streams).await;
        }
    }

    async fn tell(&self, event: Event) {
        // The pool outlives its members; at a shutdown nobody needs to know.
        let _ = self.events.send((self.id, event)).await;
    }
}

async fn retire(dialed: Dialed) -> Event {
    dialed.disconnect("no longer needed").await;
    Event::Down("retired".to_owned())
}

/// The streams of a member. Dropping them ends them.
#[derive(Default)]
struct Streams {
    tasks: JoinSet<()>,
    controllers: BTreeMap<Id, (Label, CancellationToken)>,
}

impl Streams {
    /// Lets the streams of a dead connection end, so that their services see it broken.
    async fn drain(&mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(DRAIN, ended).await.is_err() {
            tracing::debug!("streams of a dead connection did not end by themselves");
        }
    }

    fn end(&mut self, controller: &Label) {
        for (owner, end) in self.controllers.values() {
            if owner == controller {
                end.cancel();
            }
        }
    }
}

/// The host that a forward is asked for: stock sshd, ours, and `permitlisten` all know it.
const HOST: &str = "localhost";

/// The deadline of the whole login at the proxy.
const DIAL: Duration = Duration::from_secs(10);

/// How long the streams of a dead connection may take to end: they are told at once.
const DRAIN: Duration = Duration::from_secs(2);

/// The deadline of one request on a live connection.
const REQUEST: Duration = Duration::from_secs(10);
