//! One connected client, in one task: its packets in, its messages out, and the reasons why that ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use daemon::report::one_line;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, SubAck, SubscribeReasonCode, UnsubAck};
use rumqttc::mqttbytes::{self, QoS};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use crate::attachment::Attachment;
use crate::audit;
use crate::gate::{Admitted, Refusal};
use crate::hub::{Hub, PublishError};
use crate::limits::MAX_PACKET;
use crate::message::{Message, Qos};
use crate::packet::{self, PacketError, Request};
use crate::seat::Cut;
use crate::session::Outgoing;
use crate::topic::TopicFilter;
use crate::transport::{Exchanged, Transport};

/// A client after its CONNECT.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    transport: Transport<S>,
    attachment: Attachment,
    client: Admitted,
    hub: Arc<Hub>,
    /// The longest silence that is allowed.
    silence: Duration,
    heard: Instant,
    refused_filters: u32,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum End {
    #[error("the client has disconnected")]
    Disconnected,
    #[error("the client has closed the connection without a DISCONNECT")]
    Closed,
    #[error("the connection is lost")]
    Lost(#[source] io::Error),
    #[error("the client was silent for too long")]
    Silent,
    #[error("the client takes nothing of what there is for it")]
    Stalled,
    #[error("the client has sent what MQTT 3.1.1 forbids")]
    Malformed(#[from] PacketError),
    #[error("the client wanted what it may not")]
    Refused,
    #[error("a packet cannot be written")]
    Unwritable(#[source] mqttbytes::Error),
    #[error(transparent)]
    Cut(#[from] Cut),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection whose CONNACK waits in the transport.
    pub(crate) fn new(
        transport: Transport<S>,
        attachment: Attachment,
        client: Admitted,
        hub: Arc<Hub>,
        keepalive: Option<Duration>,
    ) -> Self {
        // MQTT-3.1.2-24: one and a half times the keepalive.
        let silence = keepalive.map_or(hub.limits.idle, |keepalive| {
            (keepalive * 3 / 2).min(hub.limits.idle)
        });
        Self {
            transport,
            attachment,
            client,
            hub,
            silence,
            heard: Instant::now(),
            refused_filters: 0,
        }
    }

    /// Serves the client until the connection ends.
    pub(crate) async fn run(mut self) {
        let end = self.serve().await;
        self.record(&end);
        let Self {
            mut transport,
            attachment,
            hub,
            ..
        } = self;
        // The session is left before the socket is closed, which may take a while.
        match end {
            End::Disconnected => attachment.disconnect(),
            End::Closed
            | End::Lost(_)
            | End::Silent
            | End::Stalled
            | End::Malformed(_)
            | End::Refused
            | End::Unwritable(_)
            | End::Cut(_) => drop(attachment),
        }
        if !matches!(end, End::Lost(_) | End::Stalled) {
            drop(timeout(hub.limits.close, transport.close()).await);
        }
    }

    async fn serve(&mut self) -> End {
        let timer = sleep_until(self.deadline());
        tokio::pin!(timer);
        // A client need not wait for its CONNACK (MQTT 3.1.1, section 3.1.4): there may be packets already.
        if let Err(end) = self.receive() {
            return end;
        }
        loop {
            if let Err(end) = self.fill() {
                return end;
            }
            // Moving a timer forward costs more than to let it ring early once.
            let deadline = self.deadline();
            if timer.is_elapsed() || deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                // The link comes first: a bell that never rests must not keep it from being served, and what the bell
                // and the timer would say is looked at in every round.
                biased;
                exchanged = self.transport.exchange() => match exchanged {
                    Ok(Exchanged::Received) => {
                        if let Err(end) = self.receive() {
                            return end;
                        }
                    }
                    Ok(Exchanged::Sent) => {}
                    Ok(Exchanged::Closed) => return End::Closed,
                    Err(error) => return End::Lost(error),
                },
                () = self.attachment.rung() => {}
                () = timer.as_mut() => {}
            }
            let now = Instant::now();
            if self.heard + self.silence <= now {
                return End::Silent;
            }
            if self
                .transport
                .stalled_since()
                .is_some_and(|since| since + self.hub.limits.write <= now)
            {
                return End::Stalled;
            }
        }
    }

    /// When something is overdue, if nothing happens before.
    fn deadline(&self) -> Instant {
        let silent = self.heard + self.silence;
        match self.transport.stalled_since() {
            Some(since) => silent.min(since + self.hub.limits.write),
            None => silent,
        }
    }

    /// Moves messages from the session to the transport.
    fn fill(&mut self) -> Result<(), End> {
        self.attachment.standing()?;
        while self.transport.has_room()
            && let Some(outgoing) = self.attachment.next()?
        {
            self.hub.counters.delivered.increment();
            self.write(&Packet::Publish(publish_packet(&outgoing)))?;
        }
        Ok(())
    }

    /// Handles every whole packet that has come. Only whole ones count as a sign of life.
    fn receive(&mut self) -> Result<(), End> {
        while let Some(frame) = packet::frame(&mut self.transport.inbound, packet::is_request)? {
            let request = frame.request()?;
            self.heard = Instant::now();
            match request {
                Request::Publish(message, pkid) => self.publish(message, pkid)?,
                Request::PubAck(pkid) => self.attachment.acknowledge(pkid),
                Request::Subscribe(pkid, filters) => self.subscribe(pkid, filters)?,
                Request::Unsubscribe(pkid, filters) => {
                    self.attachment.unsubscribe(&filters);
                    self.write(&Packet::UnsubAck(UnsubAck { pkid }))?;
                }
                Request::Ping => self.write(&Packet::PingResp)?,
                Request::Disconnect => return Err(End::Disconnected),
            }
        }
        Ok(())
    }

    /// MQTT 3.1.1 cannot refuse a message other than by ending the connection, and AWS IoT Core does that.
    fn publish(&mut self, message: Message, pkid: Option<u16>) -> Result<(), End> {
        // A connection that has lost its session is not judged by what it still wants to say.
        self.attachment.standing()?;
        let topic = message.topic.clone();
        let accepted = self
            .hub
            .gate
            .publish(&self.client, message)
            .map_err(|refusal| self.refuse_publish(&refusal))?;
        match self.attachment.publish(accepted) {
            Ok(()) => {}
            Err(PublishError::Cut(cut)) => return Err(cut.into()),
            Err(PublishError::Full(full)) => {
                return Err(self.refuse_publish(&Refusal::new("retain", topic.as_str(), full)));
            }
        }
        match pkid {
            Some(pkid) => self.write(&Packet::PubAck(PubAck { pkid })),
            None => Ok(()),
        }
    }

    fn refuse_publish(&self, refusal: &Refusal) -> End {
        self.hub.counters.refused_publishes.increment();
        audit::refused(&self.client, refusal);
        End::Refused
    }

    fn subscribe(
        &mut self,
        pkid: u16,
        filters: Vec<(Result<TopicFilter, String>, Qos)>,
    ) -> Result<(), End> {
        let mut granted = Vec::with_capacity(filters.len());
        let mut codes = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            let decided = filter
                .map_err(|text| {
                    Refusal::new(
                        "iot:Subscribe",
                        &text,
                        "it is longer or deeper than any topic",
                    )
                })
                .and_then(|filter| self.hub.gate.subscribe(&self.client, filter));
            match decided {
                Ok(filter) => {
                    granted.push((filter, qos));
                    codes.push(SubscribeReasonCode::Success(wire_qos(qos)));
                }
                Err(refusal) => {
                    self.refuse_filter(&refusal);
                    codes.push(SubscribeReasonCode::Failure);
                }
            }
        }
        let fitted = self.attachment.subscribe(&granted);
        let allowed = codes
            .iter_mut()
            .filter(|code| matches!(code, SubscribeReasonCode::Success(_)));
        for ((code, fits), (filter, _)) in allowed.zip(fitted).zip(&granted) {
            if !fits {
                *code = SubscribeReasonCode::Failure;
                let filter = filter.filter().as_str().to_owned();
                let rule = format!(
                    "a session has at most {} subscriptions",
                    self.hub.limits.subscriptions
                );
                self.refuse_filter(&Refusal::new("iot:Subscribe", &filter, rule));
            }
        }
        self.write(&Packet::SubAck(SubAck {
            pkid,
            return_codes: codes,
        }))?;
        if self.refused_filters > self.hub.limits.refused_filters {
            Err(End::Refused)
        } else {
            Ok(())
        }
    }

    fn refuse_filter(&mut self, refusal: &Refusal) {
        self.refused_filters += 1;
        self.hub.counters.refused_filters.increment();
        audit::refused(&self.client, refusal);
    }

    fn write(&mut self, packet: &Packet) -> Result<(), End> {
        packet
            .write(&mut self.transport.outbound, MAX_PACKET)
            .map(drop)
            .map_err(End::Unwritable)
    }

    fn record(&self, end: &End) {
        let counters = &self.hub.counters;
        match end {
            End::Silent => counters.silent.increment(),
            End::Stalled | End::Cut(Cut::QueueFull) => counters.slow.increment(),
            End::Malformed(_) => counters.malformed.increment(),
            End::Cut(Cut::TakenOver) => counters.taken_over.increment(),
            End::Cut(Cut::Revoked) => counters.revoked.increment(),
            End::Disconnected
            | End::Closed
            | End::Lost(_)
            | End::Refused
            | End::Unwritable(_)
            | End::Cut(Cut::Drain) => {}
        }
        let peer = self.client.peer();
        tracing::info!(device = %peer.id, address = %peer.address, "{}", one_line(end));
    }
}

fn publish_packet(outgoing: &Outgoing) -> Publish {
    let message = &outgoing.message;
    let qos = if outgoing.pkid.is_some() {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    };
    Publish {
        dup: outgoing.dup,
        qos,
        retain: outgoing.retained,
        topic: message.topic.as_str().to_owned(),
        pkid: outgoing.pkid.unwrap_or_default(),
        payload: message.payload.clone(),
    }
}

fn wire_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}
