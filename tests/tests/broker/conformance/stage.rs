//! A broker in whose realm everybody may do everything but speak on `forbidden`, and three clients with certificates.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use e2e::{Daemon, Mosquitto, World};
use rustls::ClientConfig;

use crate::broker::packets::Connect;
use crate::broker::party::{Party, tls};
use crate::broker::seen::Seen;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours, as it is built.
    Embedded,
    Mosquitto,
}

/// A running broker. Each case has topics of its own, and whoever it connects has no session from before.
pub(super) struct Stage {
    clients: BTreeMap<&'static str, (String, Arc<ClientConfig>)>,
    case: Cell<usize>,
    // Dropped last, in this order.
    _broker: Broker,
    world: World,
}

#[expect(dead_code, reason = "held while the test runs")]
enum Broker {
    Embedded(Daemon),
    Mosquitto(Mosquitto),
}

impl Stage {
    #[track_caller]
    pub(super) fn start(kind: Kind) -> Self {
        let world = World::new();
        let devices = {
            let _signer = world.signer();
            ["alice", "bob", "carol"].map(|name| (name, world.enroll("hula", name)))
        };
        let broker = match kind {
            Kind::Embedded => {
                open_policies(&world);
                Broker::Embedded(world.broker())
            }
            Kind::Mosquitto => {
                let rules =
                    "pattern readwrite #\npattern readwrite $case/#\npattern deny forbidden\n";
                Broker::Mosquitto(Mosquitto::start_open_with(&world, rules))
            }
        };
        let clients = devices
            .iter()
            .map(|(name, device)| (*name, (device.id(), tls(&world, device))))
            .collect();
        Self {
            clients,
            case: Cell::new(0),
            _broker: broker,
            world,
        }
    }

    /// Begins the next case: new topics, no sessions.
    pub(super) fn next_case(&self) {
        self.case.set(self.case.get() + 1);
        for who in ["alice", "bob", "carol"] {
            self.connect(who).disconnect();
        }
    }

    /// A topic of this case.
    pub(super) fn topic(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix())
    }

    /// The client id that this client's certificate is for.
    pub(super) fn id(&self, who: &str) -> &str {
        &self.clients[who].0
    }

    /// A TLS connection and nothing more.
    #[track_caller]
    pub(super) fn dial(&self, who: &str) -> Party {
        Party::dial(self.world.broker_port(), &self.clients[who].1)
    }

    /// A connected client with a clean session and no will.
    #[track_caller]
    pub(super) fn connect(&self, who: &str) -> Party {
        self.connected(who, &Connect::new(self.id(who))).0
    }

    /// A client with a session that is kept; whether it was there.
    #[track_caller]
    pub(super) fn resume(&self, who: &str) -> (Party, bool) {
        self.connected(who, &Connect::kept(self.id(who)))
    }

    /// A connected client; whether its session was there.
    #[track_caller]
    pub(super) fn connected(&self, who: &str, connect: &Connect<'_>) -> (Party, bool) {
        let mut party = self.dial(who);
        match party.connect(connect) {
            Seen::ConnAck { present, code: 0 } => (party, present),
            other => panic!("{connect:?} is answered with {other}"),
        }
    }

    /// All that has come and will come to `listener` of what has been published until now; `speaker` says when it is over.
    /// An answer to PINGREQ would not do: nothing says that it stays behind the messages.
    #[track_caller]
    pub(super) fn settle(&self, listener: &mut Party, speaker: &mut Party) -> Vec<Seen> {
        let end = self.topic("end");
        let mut all = listener.subscribe(&[(&end, 1)]);
        all.pop_if(|last| matches!(last, Seen::SubAck(..)));
        if matches!(all.last(), Some(Seen::Closed | Seen::Silence)) {
            return all;
        }
        speaker.publish(&end, "", 1, false);
        all.extend(
            listener.until(|seen| matches!(seen, Seen::Publish(heard) if heard.topic == end)),
        );
        all.pop_if(|last| matches!(last, Seen::Publish(_)));
        listener.unsubscribe(&[&end]);
        all
    }

    /// What was seen, in words.
    pub(super) fn tell(&self, seen: &[Seen]) -> String {
        if seen.is_empty() {
            return "nothing".to_owned();
        }
        let words: Vec<_> = seen.iter().map(ToString::to_string).collect();
        words.join("; ").replace(&self.prefix(), "")
    }

    fn prefix(&self) -> String {
        format!("case{}/", self.case.get())
    }
}

/// Policies as an operator writes them for a realm without secrets.
fn open_policies(world: &World) {
    let statement = |effect: &str, action: &str, resource: &str| {
        format!(
            r#"{{"Effect": "{effect}", "Action": "iot:{action}",
            "Resource": "arn:aws:iot:REGION:ACCOUNT:{resource}"}}"#
        )
    };
    let statements = [
        statement("Allow", "Connect", "client/*"),
        statement("Allow", "Publish", "topic/*"),
        statement("Allow", "RetainPublish", "topic/*"),
        statement("Allow", "Subscribe", "topicfilter/*"),
        statement("Allow", "Receive", "topic/*"),
        statement("Deny", "Publish", "topic/forbidden"),
    ];
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#,
        statements.join(", ")
    );
    let folder = world.realm().join("policies");
    fs::create_dir_all(&folder).unwrap();
    for name in ["tunnel.target.json", "tunnel.controller.json"] {
        fs::write(folder.join(name), &text).unwrap();
    }
}
