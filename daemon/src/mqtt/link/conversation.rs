//! One session of a link, from its first packets to its end.

use std::time::Duration;

use protocol::Epoch;
use rumqttc::{
    Connect, ConnectionError, Disconnect, Event, LastWill, Outgoing, Packet, Publish, QoS, Request,
    SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Command, LinkEvent, LinkSettings, Message};
use crate::host_port::HostPort;
use crate::mqtt::LinkError;
use crate::mqtt::session::{KEEP_ALIVE, Opening, Session};
use crate::realm_file::SubscribeQos;

/// How a session ended.
pub(super) enum Ended {
    Finished,
    Failed(LinkError),
    /// On demand: the next one follows, with these settings.
    Left(Option<Box<LinkSettings>>),
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    /// CONNACK is here.
    Accepted,
    /// The filters are granted.
    Up,
}

/// One try at one address.
pub(super) struct Meeting<'l> {
    pub(super) settings: &'l LinkSettings,
    pub(super) broker: &'l HostPort,
    /// The deadline of CONNACK, and then as long again that of SUBACK.
    pub(super) limit: Duration,
    /// Whether what follows CONNECT leaves with it.
    pub(super) hurries: bool,
    pub(super) epoch: Epoch,
    pub(super) first: &'l mut Option<Message>,
    /// Whether commands are taken.
    pub(super) up: watch::Sender<bool>,
    pub(super) progress: &'l mut Progress,
}

impl Meeting<'_> {
    /// Connects, subscribes and moves packets until the session ends.
    pub(super) async fn converse(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Ended {
        let began = Instant::now();
        let mut session = match self.begin().await {
            Ok(session) => session,
            Err(error) => return Ended::Failed(LinkError::new(self.broker, error)),
        };
        *self.progress = Progress::Accepted;
        let patience = if self.hurries {
            HURRY.max(began.elapsed())
        } else {
            self.limit
        };
        let mut latest = Some(Instant::now() + patience.min(self.limit));
        loop {
            let next = session.next(&mut requests);
            let event = match latest {
                Some(latest) => match timeout_at(latest, next).await {
                    Ok(event) => event,
                    Err(_) => return Ended::Failed(self.silent()),
                },
                None => next.await,
            };
            let told = match event {
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    if let Some(filter) = refused(&ack, &self.settings.filters) {
                        let broker = self.broker.clone();
                        return Ended::Failed(LinkError::SubscriptionRefused { broker, filter });
                    }
                    if events.is_closed() {
                        return Ended::Finished;
                    }
                    latest = None;
                    *self.first = None;
                    *self.progress = Progress::Up;
                    self.up.send_replace(true);
                    LinkEvent::Up { epoch: self.epoch }
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => LinkEvent::Message {
                    topic: publish.topic,
                    payload: publish.payload,
                },
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ended::Finished,
                Ok(Event::Incoming(_) | Event::Outgoing(_)) => continue,
                Err(error) => return Ended::Failed(LinkError::new(self.broker, error)),
            };
            // An owner that does not listen any more may still publish.
            if timeout(OWNER, events.send(told)).await.is_err() {
                let broker = self.broker.clone();
                return Ended::Failed(LinkError::Overloaded { broker });
            }
        }
    }

    /// A session with the subscriptions, and the first message if there is one, on their way.
    async fn begin(&mut self) -> Result<Session, ConnectionError> {
        let subscribe = Request::Subscribe(self.settings.subscribe());
        let first = self.first.as_ref().map(publish);
        let flight: Vec<Request> = [subscribe].into_iter().chain(first).collect();
        let (behind, after) = if self.hurries {
            (flight, Vec::new())
        } else {
            (Vec::new(), flight)
        };
        let opening = Opening {
            broker: self.broker,
            tls: &self.settings.tls,
            connect: self.settings.connect(self.epoch),
            behind,
            sent: &self.up,
        };
        let mut session = Session::begin(opening, self.limit).await?;
        for request in after {
            session.send(request).await?;
        }
        if self.first.is_some() {
            // What is out may have to be taken back, so that the end is told from here on.
            self.up.send_replace(true);
        }
        Ok(session)
    }

    fn silent(&self) -> LinkError {
        let broker = self.broker.clone();
        LinkError::Silent { broker }
    }
}

/// Hands commands to the session once it is up. Returns when nobody is left to give any, or the session is to be left.
pub(super) async fn pump(
    commands: &mut mpsc::Receiver<Command>,
    requests: &mpsc::Sender<Request>,
    mut is_up: watch::Receiver<bool>,
) -> Ended {
    loop {
        let command = commands.recv().await;
        let up = *is_up.borrow_and_update();
        match command {
            Some(Command::Publish(message)) if up => send(requests, publish(&message)).await,
            Some(Command::Publish(message)) => {
                tracing::debug!(topic = message.topic, "no session: message dropped");
            }
            Some(Command::Reconnect(settings)) => return Ended::Left(settings),
            Some(Command::Finish(last)) if up => {
                if let Some(message) = last {
                    send(requests, publish(&message)).await;
                }
                disconnect(commands, requests).await;
            }
            None if up => disconnect(commands, requests).await,
            Some(Command::Finish(_)) | None => return Ended::Finished,
        }
    }
}

/// Asks for a clean end, and leaves it to the session to end. No command is taken after it, so that the task ends too when
/// the goodbye cannot be sent.
async fn disconnect(commands: &mut mpsc::Receiver<Command>, requests: &mpsc::Sender<Request>) {
    commands.close();
    send(requests, Request::Disconnect(Disconnect)).await;
    std::future::pending::<()>().await;
}

async fn send(requests: &mpsc::Sender<Request>, request: Request) {
    // It fails only when the session has ended, and then so does whoever sends.
    let _ = requests.send(request).await;
}

fn publish(message: &Message) -> Request {
    let Message {
        topic,
        payload,
        retain,
    } = message;
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.as_slice());
    publish.retain = *retain;
    Request::Publish(publish)
}

fn refused(ack: &SubAck, filters: &[String]) -> Option<String> {
    let failed = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Failure);
    let index = ack.return_codes.iter().position(failed)?;
    Some(filters.get(index).cloned().unwrap_or_default())
}

impl LinkSettings {
    fn connect(&self, epoch: Epoch) -> Connect {
        let mut connect = Connect::new(&self.client_id);
        connect.keep_alive = u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX);
        connect.last_will = self.will.as_ref().map(|will| {
            let Message {
                topic,
                payload,
                retain,
            } = will(epoch);
            LastWill::new(topic, payload, QoS::AtLeastOnce, retain)
        });
        connect
    }

    fn subscribe(&self) -> Subscribe {
        let qos = match self.subscribe_qos {
            SubscribeQos::AtMostOnce => QoS::AtMostOnce,
            SubscribeQos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let filter = |path: &String| SubscribeFilter::new(path.clone(), qos);
        Subscribe::new_many(self.filters.iter().map(filter))
    }
}

/// How long a session that did not wait for its CONNACK waits for SUBACK behind it, unless CONNACK itself took longer: a broker
/// that has left out what came too soon for it is met again packet by packet.
const HURRY: Duration = Duration::from_secs(3);

/// How long the owner may take no event while its queue is full. Meanwhile no keepalive is sent: one is due every 30 s
/// ([`KEEP_ALIVE`]) and a broker waits for 45 s, so that a stuck owner is told what is so, before the broker ends the session.
const OWNER: Duration = Duration::from_secs(10);
