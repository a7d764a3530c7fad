//! A link's owner's side: what it is to be, what it tells, and the handles on its task.

mod conversation;
mod task;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::Epoch;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::task::LinkTask;
use super::LinkError;
use crate::host_port::HostPort;
use crate::realm_file::SubscribeQos;
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
        /// Its payload. It may be over [`MAX_PAYLOAD`](protocol::limits::MAX_PAYLOAD), which its decoder then says.
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

    /// Like [`start`](Self::start), with a message that goes out in one piece with the first session's CONNECT and
    /// subscriptions, two round trips sooner than after [`LinkEvent::Up`]. The broker takes packets in their order, so that
    /// an answer to it finds the subscriptions in their place. A broker that does not take it so is met once more, packet
    /// by packet, and may see the message twice.
    pub fn start_with(settings: LinkSettings, first: Option<Message>, shutdown: &Shutdown) -> Self {
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let task = LinkTask::new(settings, first, event_sender, command_receiver);
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

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Events that wait for the owner. When so many do the link reads no further, and the broker keeps what is to come: 8 MiB
/// of the largest messages, and a system of any size can send all its retained presences at once.
const EVENTS: usize = 256;

/// Messages that wait for the session's task.
const COMMANDS: usize = 64;
