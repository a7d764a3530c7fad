//! The link's task and the handles on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::Epoch;
use protocol::limits::MAX_PAYLOAD;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions,
    Outgoing, Packet, QoS, SubAck, SubscribeFilter, SubscribeReasonCode, TlsConfiguration,
    Transport,
};
use rustls::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::LinkError;
use crate::backoff::Backoff;
use crate::clock;
use crate::host_port::HostPort;
use crate::realm_file::SubscribeQos;
use crate::report::one_line;
use crate::shutdown::Shutdown;

/// What a link is to be.
pub struct LinkSettings {
    /// The broker: an address at least, several of a cluster. Each client id begins with another one; a session that
    /// does not begin at one address is tried at the next at once, and one that ends begins again where it was.
    pub brokers: Vec<HostPort>,
    /// How to meet it.
    pub tls: Arc<ClientConfig>,
    /// The MQTT client id, which is the certificate's common name.
    pub client_id: String,
    /// The filters to subscribe to in each session. AWS IoT Core takes 8.
    pub filters: Vec<String>,
    /// How to subscribe to them.
    pub subscribe_qos: SubscribeQos,
    /// The last will of a session that begins at this epoch; `None` for no will.
    pub will: Option<Box<dyn Fn(Epoch) -> Message + Send + Sync>>,
}

/// A message to publish with QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
}

/// What a link tells its owner.
#[derive(Debug)]
pub enum LinkEvent {
    /// A session has begun and all filters are granted.
    Up {
        /// The session's epoch; the last will has the same.
        epoch: Epoch,
    },
    /// The session has ended or could not begin; the link tries again by itself.
    Down(LinkError),
    /// Something was published that a filter matches.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload. It may be over [`MAX_PAYLOAD`], which its decoder then says.
        payload: Bytes,
    },
}

/// The owner's end of a link.
pub struct Link {
    events: mpsc::Receiver<LinkEvent>,
    publisher: Publisher,
    task: JoinHandle<()>,
}

/// Publishes on a link; clones share it.
#[derive(Clone)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
}

impl Link {
    /// Starts the link's task. It ends after [`finish`](Self::finish), or when all handles are gone.
    pub fn start(settings: LinkSettings, shutdown: &Shutdown) -> Self {
        Self::start_with(settings, None, shutdown)
    }

    /// Like [`start`](Self::start), with a message that goes out right behind the first session's subscriptions, one
    /// round trip sooner than after [`LinkEvent::Up`]. The broker takes packets in their order, so that an answer to it
    /// finds the subscriptions in their place.
    pub fn start_with(settings: LinkSettings, first: Option<Message>, shutdown: &Shutdown) -> Self {
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let task = LinkTask {
            place: first_place(&settings.client_id, settings.brokers.len()),
            settings,
            first,
            events: event_sender,
            commands: command_receiver,
            epoch: Epoch(0),
        };
        Self {
            events,
            publisher: Publisher { commands },
            task: shutdown.spawn(task.run()),
        }
    }

    /// The next event; `None` when the link has finished. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }

    /// A handle to publish with.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Begins a new session, with these settings if there are some: the certificate is another one now, or the address. The
    /// broker is not told, so that it takes the new session for the old one's successor; without a session this is a try
    /// at once.
    pub async fn reconnect(&self, settings: Option<LinkSettings>) {
        let command = Command::Reconnect(settings.map(Box::new));
        // It fails only when the link has finished.
        let _ = self.publisher.commands.send(command).await;
    }

    /// Publishes a last message and disconnects cleanly, so that the broker does not publish the will. Waits for at
    /// most two seconds: nobody should wait longer for a goodbye. The link's task has ended then, one way or the other.
    pub async fn finish(self, last: Option<Message>) {
        let Self {
            mut events,
            publisher,
            task,
        } = self;
        // Both at once: the task may be waiting for room for an event, and then takes no command.
        let told = publisher.commands.send(Command::Finish(last));
        let drained = async { while events.recv().await.is_some() {} };
        let goodbye = async { tokio::join!(told, drained) };
        if timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("the broker did not take the goodbye in time");
            task.abort();
        }
    }
}

impl Publisher {
    /// Queues a message for the present session. Without a session, or when the queue is full, it is dropped and that
    /// is logged: whoever waits for an answer asks again, and what must be known is published at each
    /// [`LinkEvent::Up`].
    pub fn publish(&self, message: Message) {
        if self.commands.try_send(Command::Publish(message)).is_err() {
            tracing::warn!("a message was dropped: {COMMANDS} are waiting for the broker already");
        }
    }
}

enum Command {
    Publish(Message),
    Reconnect(Option<Box<LinkSettings>>),
    Finish(Option<Message>),
}

/// How a session ended.
enum Ended {
    Finished,
    Failed(LinkError),
    /// On demand: the next one follows, with these settings.
    Left(Option<Box<LinkSettings>>),
}

struct LinkTask {
    settings: LinkSettings,
    /// Which of the brokers the next session is tried at first.
    place: usize,
    /// To be published in the first session, as soon as the broker has accepted it.
    first: Option<Message>,
    events: mpsc::Sender<LinkEvent>,
    commands: mpsc::Receiver<Command>,
    epoch: Epoch,
}

impl LinkTask {
    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let began = Instant::now();
            let error = match self.session().await {
                Ended::Finished => return,
                Ended::Left(settings) => {
                    self.take(settings);
                    backoff.reset();
                    continue;
                }
                Ended::Failed(error) => error,
            };
            if self.events.send(LinkEvent::Down(error)).await.is_err() {
                return;
            }
            // A broker that accepts and closes at once is not a success: only a session that lasted is.
            if began.elapsed() >= LASTING {
                backoff.reset();
            }
            if self.told_to_finish_within(backoff.next_delay()).await {
                return;
            }
        }
    }

    /// Tries the brokers in turn, once each, until a session begins, and stays in it until it ends.
    async fn session(&mut self) -> Ended {
        let count = self.settings.brokers.len();
        for left in (0..count).rev() {
            let Some(broker) = self.settings.brokers.get(self.place).cloned() else {
                break;
            };
            let limit = if left == 0 {
                CONNECT
            } else {
                CONNECT_OF_SEVERAL
            };
            let (up, was_up) = watch::channel(false);
            match self.session_at(broker, limit, up).await {
                Ended::Failed(error) if !*was_up.borrow() => {
                    self.place = (self.place + 1) % count;
                    if left == 0 {
                        return Ended::Failed(error);
                    }
                    tracing::info!(error = one_line(&error), "the next address is tried");
                }
                ended @ (Ended::Finished | Ended::Left(_) | Ended::Failed(_)) => return ended,
            }
        }
        Ended::Failed(LinkError::NoBroker)
    }

    /// Connects, subscribes and moves packets until the session ends.
    async fn session_at(
        &mut self,
        broker: HostPort,
        limit: Duration,
        up: watch::Sender<bool>,
    ) -> Ended {
        // It grows even when the clock is set back.
        self.epoch = Epoch(clock::unix_millis().max(self.epoch.0 + 1));
        let epoch = self.epoch;
        let (client, event_loop) =
            AsyncClient::new(self.settings.options(&broker, epoch), REQUESTS);
        let is_up = up.subscribe();
        let meeting = Meeting {
            settings: &self.settings,
            broker,
            limit,
            epoch,
            up,
            first: &mut self.first,
        };
        let poll = poll(event_loop, &client, meeting, &self.events);
        let pump = pump(&mut self.commands, &client, is_up);
        // Neither future may be dropped and begun again half way: both run until the session ends.
        tokio::select! {
            ended = poll => ended,
            ended = pump => ended,
        }
    }

    /// Waits, and drops what is to be published meanwhile.
    async fn told_to_finish_within(&mut self, delay: Duration) -> bool {
        let told = async {
            loop {
                match self.commands.recv().await {
                    Some(Command::Publish(message)) => {
                        tracing::debug!(topic = message.topic, "no session: message dropped");
                    }
                    Some(Command::Reconnect(settings)) => return (false, settings),
                    Some(Command::Finish(_)) | None => return (true, None),
                }
            }
        };
        let (finish, settings) = tokio::select! {
            told = told => told,
            () = sleep(delay) => (false, None),
        };
        self.take(settings);
        finish
    }

    fn take(&mut self, settings: Option<Box<LinkSettings>>) {
        if let Some(settings) = settings {
            self.place = first_place(&settings.client_id, settings.brokers.len());
            self.settings = *settings;
        }
    }
}

/// One try at one address.
struct Meeting<'l> {
    settings: &'l LinkSettings,
    broker: HostPort,
    /// The deadline of CONNACK, and then as long again that of SUBACK.
    limit: Duration,
    epoch: Epoch,
    /// Whether commands are taken.
    up: watch::Sender<bool>,
    first: &'l mut Option<Message>,
}

async fn poll(
    mut event_loop: EventLoop,
    client: &AsyncClient,
    meeting: Meeting<'_>,
    events: &mpsc::Sender<LinkEvent>,
) -> Ended {
    let Meeting {
        settings,
        broker,
        limit,
        epoch,
        up,
        first,
    } = meeting;
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(limit.as_secs());
    event_loop.set_network_options(network);
    let silent = || {
        Ended::Failed(LinkError::Silent {
            broker: broker.clone(),
        })
    };
    // The client library has a deadline until CONNACK; from there on to SUBACK it is ours.
    let mut latest = None;
    loop {
        let polled = match latest {
            Some(latest) => match timeout_at(latest, event_loop.poll()).await {
                Ok(polled) => polled,
                Err(_) => return silent(),
            },
            None => event_loop.poll().await,
        };
        let event = match polled {
            Ok(event) => event,
            Err(error) => return Ended::Failed(LinkError::new(&broker, error)),
        };
        let told = match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                latest = Some(Instant::now() + limit);
                let qos = match settings.subscribe_qos {
                    SubscribeQos::AtMostOnce => QoS::AtMostOnce,
                    SubscribeQos::AtLeastOnce => QoS::AtLeastOnce,
                };
                let filters = settings
                    .filters
                    .iter()
                    .map(|filter| SubscribeFilter::new(filter.clone(), qos));
                if client.try_subscribe_many(filters).is_err() {
                    // A new client's queue is empty; a filter that is not one is refused here.
                    return Ended::Failed(LinkError::new(&broker, ConnectionError::RequestsDone));
                }
                if let Some(message) = first.take() {
                    publish(client, message).await;
                    // What is out may have to be taken back, so that the end is told from here on.
                    up.send_replace(true);
                }
                continue;
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                if let Some(filter) = refused(&ack, &settings.filters) {
                    return Ended::Failed(LinkError::SubscriptionRefused { broker, filter });
                }
                if events.is_closed() {
                    return Ended::Finished;
                }
                latest = None;
                up.send_replace(true);
                LinkEvent::Up { epoch }
            }
            Event::Incoming(Packet::Publish(publish)) => LinkEvent::Message {
                topic: publish.topic,
                payload: publish.payload,
            },
            Event::Outgoing(Outgoing::Disconnect) => return Ended::Finished,
            Event::Incoming(_) | Event::Outgoing(_) => continue,
        };
        // An owner that does not listen any more may still publish.
        if timeout(OWNER, events.send(told)).await.is_err() {
            return Ended::Failed(LinkError::Overloaded { broker });
        }
    }
}

/// Hands commands to the client once the session is up. Returns when nobody is left to give any, or the session is to be
/// left.
async fn pump(
    commands: &mut mpsc::Receiver<Command>,
    client: &AsyncClient,
    mut is_up: watch::Receiver<bool>,
) -> Ended {
    loop {
        let command = commands.recv().await;
        let up = *is_up.borrow_and_update();
        match command {
            Some(Command::Publish(message)) if up => publish(client, message).await,
            Some(Command::Publish(message)) => {
                tracing::debug!(topic = message.topic, "no session: message dropped");
            }
            Some(Command::Reconnect(settings)) => return Ended::Left(settings),
            Some(Command::Finish(last)) if up => {
                if let Some(message) = last {
                    publish(client, message).await;
                }
                disconnect(commands, client).await;
            }
            None if up => disconnect(commands, client).await,
            Some(Command::Finish(_)) | None => return Ended::Finished,
        }
    }
}

async fn publish(client: &AsyncClient, message: Message) {
    let Message {
        topic,
        payload,
        retain,
    } = message;
    if let Err(error) = client
        .publish(topic, QoS::AtLeastOnce, retain, payload)
        .await
    {
        tracing::warn!(%error, "a message could not be published");
    }
}

/// Asks for a clean end, and leaves it to the event loop to end the session. No command is taken after it, so that the
/// task ends too when the goodbye cannot be sent.
async fn disconnect(commands: &mut mpsc::Receiver<Command>, client: &AsyncClient) {
    commands.close();
    if client.disconnect().await.is_ok() {
        std::future::pending::<()>().await;
    }
}

fn refused(ack: &SubAck, filters: &[String]) -> Option<String> {
    let failed = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Failure);
    let index = ack.return_codes.iter().position(failed)?;
    Some(filters.get(index).cloned().unwrap_or_default())
}

/// Where a client begins, so that a fleet spreads over a cluster, and one client always finds the same computer first.
fn first_place(client_id: &str, count: usize) -> usize {
    let sum = client_id.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    sum.checked_rem(count).unwrap_or(0)
}

impl LinkSettings {
    fn options(&self, broker: &HostPort, epoch: Epoch) -> MqttOptions {
        let mut options = MqttOptions::new(&self.client_id, broker.host(), broker.port());
        options
            .set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(
                &self.tls,
            ))))
            .set_clean_session(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some(will) = &self.will {
            let Message {
                topic,
                payload,
                retain,
            } = will(epoch);
            options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, retain));
        }
        options
    }
}

/// How often the client shows that it is there. The least that AWS IoT Core takes; a link that died silently is found
/// after two of them at most.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The deadline of DNS, TCP, TLS and CONNACK together: three retransmissions of a SYN (1 + 2 + 4 s) and the rest. The
/// answer to the subscription has as long again.
const CONNECT: Duration = Duration::from_secs(10);

/// The same for an address that is not the last to be tried: two retransmissions of a SYN (1 + 2 s) and the rest. Whoever
/// waits for a session of a cluster that has lost a computer waits so much longer.
const CONNECT_OF_SEVERAL: Duration = Duration::from_secs(4);

/// The bound of the first delay before a new try; with full jitter half a second on average.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The bound of all later delays: a fleet of 10,000 then makes 670 tries a second, and is back within half a minute.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How long a session must have lasted to count as a success.
const LASTING: Duration = Duration::from_secs(10);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// The largest packet, either way: a payload at its cap and a topic at its.
const MAX_PACKET: usize = 2 * MAX_PAYLOAD;

/// Events that wait for the owner. When so many do the link reads no further, and the broker keeps what is to come: 8 MiB
/// of the largest messages, and a system of any size can send all its retained presences at once.
const EVENTS: usize = 256;

/// How long the owner may take no event while [`EVENTS`] wait. Meanwhile no keepalive is sent: one is due every 30 s
/// ([`KEEP_ALIVE`]) and a broker waits for 45 s, so that a stuck owner
/// is told what is so, before the broker ends the session.
const OWNER: Duration = Duration::from_secs(10);

/// Messages that wait for the session's task.
const COMMANDS: usize = 64;

/// Requests that wait in the client library; the filters are one, and the first message another.
const REQUESTS: usize = 16;
