//! A controller's session with the broker.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::device_dir::{DeviceDir, Membership};
use daemon::identity::Identity;
use daemon::mqtt::{Link, LinkError, LinkEvent, LinkSettings, Message};
use daemon::shutdown::Shutdown;
use daemon::tls::{self, TlsError};
use protocol::{DeviceId, Label, Topic};
use russh::keys::PrivateKey;

use crate::turn::{Turn, TurnError};

/// Who the controller is: what its directory holds.
pub struct Account {
    /// The directory.
    pub dir: DeviceDir,
    /// Its configuration.
    pub membership: Membership,
    /// Its key for the proxy.
    pub ssh_key: Arc<PrivateKey>,
    /// What it shows the broker; a controller of an always-on system needs none.
    pub identity: Option<Identity>,
}

/// Why there is no session with the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// TLS cannot be set up with what the directory holds.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The link could not be made, or was lost.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Other commands of this controller are in the way.
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// There is nobody to ask.
    #[error("the tunnels of system `{system}` are always on, without a broker")]
    AlwaysOn {
        /// The system.
        system: Label,
    },
    /// The link's task has ended.
    #[error("the session with the broker has been ended")]
    Ended,
    /// Nothing can be left out of what the broker sends before it answers the subscription: our answer may be among it.
    #[error("the broker sent more than {} MiB before it answered the subscription", MAX_BEFORE / (1024 * 1024))]
    Flooded,
}

impl BrokerError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Link(error) => Some(error.hint()),
            Self::Turn(_) => Some(
                "sessions of one controller take turns; wait, or enroll another controller"
                    .to_owned(),
            ),
            Self::Flooded => Some(
                "the realm has more devices than a list has room for, something publishes to this controller all the time, or the broker keeps what nobody reads: its admin can see what"
                    .to_owned(),
            ),
            Self::Tls(_) | Self::AlwaysOn { .. } | Self::Ended => None,
        }
    }
}

impl Account {
    /// Whether the tunnels of its system are always on, so that nobody orders them.
    pub fn is_always_on(&self) -> bool {
        let ports = &self.membership.realm.ports;
        ports.is_always_on(self.id().system())
    }

    /// The controller's own id.
    pub fn id(&self) -> &DeviceId {
        &self.membership.id
    }
}

/// A session with the broker, while it is this command's turn to have one.
pub(crate) struct Session {
    link: Link,
    /// The owner of the link's task.
    tasks: Shutdown,
    /// What came before the link was up: a broker may send what it keeps before it answers a subscription.
    before: Before,
    turn: Turn,
}

/// Messages from before the answer to the subscription, in their order.
#[derive(Default)]
struct Before {
    messages: VecDeque<(String, Bytes)>,
    bytes: usize,
}

impl Session {
    /// Begins a session that is subscribed to these filters. A controller has somebody waiting: it does not try again
    /// by itself.
    pub(crate) async fn begin(
        account: &Account,
        filters: Vec<String>,
    ) -> Result<Self, BrokerError> {
        let turn = Turn::take(&account.dir).await?;
        Self::begin_in(account, turn, filters).await
    }

    /// The same, for whoever would go on for ever, and so gives way.
    pub(crate) async fn begin_patiently(
        account: &Account,
        filters: Vec<String>,
    ) -> Result<Self, BrokerError> {
        let turn = Turn::take_patiently(&account.dir).await?;
        Self::begin_in(account, turn, filters).await
    }

    async fn begin_in(
        account: &Account,
        turn: Turn,
        filters: Vec<String>,
    ) -> Result<Self, BrokerError> {
        let mut session = Self::start(account, turn, filters, None)?;
        match session.up().await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.finish(None).await;
                Err(error)
            }
        }
    }

    /// Starts a session that is not [`up`](Self::up) yet. The first message goes out right behind the subscription.
    pub(crate) fn start(
        account: &Account,
        turn: Turn,
        filters: Vec<String>,
        first: Option<(Topic, Vec<u8>)>,
    ) -> Result<Self, BrokerError> {
        let Some(identity) = &account.identity else {
            let system = account.id().system().clone();
            return Err(BrokerError::AlwaysOn { system });
        };
        let realm = &account.membership.realm;
        let settings = LinkSettings {
            brokers: realm.brokers(),
            subscribe_qos: realm.broker.subscribe_qos,
            tls: tls::client(realm.broker_ca(), identity)?,
            client_id: realm.client_id_suffix.client_id(account.id()),
            filters,
            will: None,
        };
        let tasks = Shutdown::new(CUT);
        let first = first.map(|(topic, payload)| message(&topic, payload));
        Ok(Self {
            link: Link::start_with(settings, first, &tasks),
            tasks,
            before: Before::default(),
            turn,
        })
    }

    /// Waits until the link is up, or says why it is not.
    pub(crate) async fn up(&mut self) -> Result<(), BrokerError> {
        loop {
            match self.link.next().await {
                Some(LinkEvent::Up { .. }) => return Ok(()),
                Some(LinkEvent::Down(error)) => return Err(error.into()),
                Some(LinkEvent::Message { topic, payload }) => self.before.keep(topic, payload)?,
                None => return Err(BrokerError::Ended),
            }
        }
    }

    /// The next message: its topic and payload. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<(String, Bytes), BrokerError> {
        if let Some(message) = self.before.next() {
            return Ok(message);
        }
        loop {
            match self.link.next().await {
                Some(LinkEvent::Message { topic, payload }) => return Ok((topic, payload)),
                Some(LinkEvent::Up { .. }) => {}
                Some(LinkEvent::Down(error)) => return Err(error.into()),
                None => return Err(BrokerError::Ended),
            }
        }
    }

    /// Publishes a message that no broker keeps.
    pub(crate) fn publish(&self, topic: &Topic, payload: Vec<u8>) {
        self.link.publisher().publish(message(topic, payload));
    }

    /// Leaves a note for the commands that wait for their turn.
    pub(crate) fn say(&self, note: &[u8]) {
        self.turn.say(note);
    }

    /// Ends the session, after a last message if there is one. Nothing of it runs any more when this returns, and only
    /// then it is another command's turn.
    pub(crate) async fn finish(self, last: Option<(Topic, Vec<u8>)>) {
        let last = last.map(|(topic, payload)| message(&topic, payload));
        self.link.finish(last).await;
        self.tasks.request();
        if !self.tasks.drained().await {
            tracing::debug!("the link to the broker did not end in time");
        }
    }
}

impl Before {
    fn keep(&mut self, topic: String, payload: Bytes) -> Result<(), BrokerError> {
        let bytes = topic.len() + payload.len() + size_of::<(String, Bytes)>();
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BEFORE {
            return Err(BrokerError::Flooded);
        }
        self.messages.push_back((topic, payload));
        Ok(())
    }

    fn next(&mut self) -> Option<(String, Bytes)> {
        self.messages.pop_front()
    }
}

fn message(topic: &Topic, payload: Vec<u8>) -> Message {
    Message {
        topic: topic.to_string(),
        payload,
        retain: false,
    }
}

/// How much is kept from before the link is up, in bytes with what each message costs beside its own. For an order that is a
/// presence, a state and an answer; a list has a presence of each device, whose count nobody bounds: with 600 bytes in a topic of 40,
/// the 640 that the broker is measured for, this is room for 90,000, and for 200,000 of the usual 200 bytes. What is more ends the
/// session with an error: to leave any out would be to lose a device, or the answer.
const MAX_BEFORE: usize = 64 * 1024 * 1024;

/// How long the link's task may take to end after it has said goodbye or has been cut: it has nothing left to wait for.
const CUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use protocol::limits::MAX_PAYLOAD;

    use super::*;

    #[test]
    fn nothing_that_came_before_the_subscriptions_answer_is_lost() {
        let mut before = Before::default();
        let presence = Bytes::from(vec![b'x'; 600]);
        let topic = |number| format!("atlas/hula/{number:05}/tunnel/presence");
        for number in 0..90_000 {
            before.keep(topic(number), presence.clone()).unwrap();
        }
        for number in 0..90_000 {
            assert_eq!(before.next(), Some((topic(number), presence.clone())));
        }
        assert_eq!(before.next(), None);
    }

    #[test]
    fn a_flood_is_an_error_and_not_a_silence() {
        let mut before = Before::default();
        let large = Bytes::from(vec![b'x'; MAX_PAYLOAD]);
        let kept = (0..=MAX_BEFORE / MAX_PAYLOAD)
            .map(|_| before.keep("a/b".to_owned(), large.clone()))
            .find_map(Result::err);
        let error = kept.unwrap();
        assert_eq!(
            error.to_string(),
            "the broker sent more than 64 MiB before it answered the subscription"
        );
        assert!(error.hint().is_some());
        // Messages of nothing are not free either.
        let mut before = Before::default();
        let mut count = 0;
        while before.keep(String::new(), Bytes::new()).is_ok() {
            count += 1;
        }
        assert!(count < 2_000_000, "{count}");
    }
}
