//! One connected client, in one task: its packets in, its messages out, and the reasons why that ends.

mod end;

use std::sync::Arc;
use std::time::Duration;

use daemon::report::one_line;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, SubAck, SubscribeReasonCode, UnsubAck};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use crate::accounts::Account;
use crate::acknowledgements::Acknowledgements;
use crate::attachment::Attachment;
use crate::connection::end::End;
use crate::cost;
use crate::gate::{Admitted, Refusal};
use crate::hub::{Hub, PublishError};
use crate::limits::MAX_PACKET;
use crate::message::{Message, Qos};
use crate::packet::{self, Request};
use crate::seat::{Cut, SubscribeError};
use crate::session::Outgoing;
use crate::topic::TopicFilter;
use crate::transport::{Exchanged, Transport};

/// A client after its CONNECT.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    transport: Transport<S>,
    attachment: Attachment,
    acknowledgements: Acknowledgements,
    client: Admitted,
    hub: Arc<Hub>,
    /// The longest silence that is allowed.
    silence: Duration,
    heard: Instant,
    account: Arc<Account>,
    /// When a client that is slowed is listened to again.
    resume: Option<Instant>,
    refused_filters: u32,
    /// A message has been published since the last turn.
    published: bool,
    /// There may be whole packets in the transport.
    unhandled: bool,
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
        let account = hub.accounts.of(client.peer().subject.client_id());
        Self {
            transport,
            attachment,
            account,
            acknowledgements: Acknowledgements::default(),
            client,
            hub,
            silence,
            heard: Instant::now(),
            resume: None,
            refused_filters: 0,
            published: false,
            unhandled: false,
        }
    }

    /// Serves the client until the connection ends.
    pub(crate) async fn run(mut self: Box<Self>) {
        let end = self.serve().await;
        self.record(&end);
        let limit = self.hub.limits.close;
        let mut transport = self.leave(&end);
        if !matches!(end, End::Lost(_) | End::Stalled) {
            drop(timeout(limit, transport.close()).await);
        }
    }

    /// The session is left before the socket is closed, which may take a while. No future holds what is moved here: it
    /// would keep the room for it all the time, for each of many connections.
    #[expect(
        clippy::boxed_local,
        clippy::unnecessary_box_returns,
        reason = "what is not in a box is in the future, of each connection and all the time"
    )]
    fn leave(self: Box<Self>, end: &End) -> Box<Transport<S>> {
        let Self {
            transport,
            attachment,
            ..
        } = *self;
        match end {
            End::Disconnected => attachment.disconnect(),
            End::Closed
            | End::Lost(_)
            | End::Silent
            | End::Stalled
            | End::Malformed(_)
            | End::Refused
            | End::Flood
            | End::Unkept
            | End::Unwritable(_)
            | End::Cut(_) => drop(attachment),
        }
        Box::new(transport)
    }

    async fn serve(&mut self) -> End {
        let timer = sleep_until(self.deadline());
        tokio::pin!(timer);
        // A client need not wait for its CONNACK (MQTT 3.1.1, section 3.1.4): there may be packets already.
        if let Err(end) = self.receive() {
            return end;
        }
        loop {
            if let Err(end) = self.fill().and_then(|()| self.answer()) {
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
                        // Those for whom a message is come before its acknowledgement: they wait for it, its sender does not.
                        if std::mem::take(&mut self.published) {
                            yield_now().await;
                        }
                    }
                    Ok(Exchanged::Sent) => {}
                    Ok(Exchanged::Closed) => return End::Closed,
                    Err(error) => return End::Lost(error),
                },
                () = self.attachment.rung() => {}
                () = kept(&self.attachment, &self.acknowledgements) => {}
                () = timer.as_mut() => {}
            }
            let now = Instant::now();
            if self.unkept_at().is_some_and(|at| at <= now) {
                return End::Unkept;
            }
            if self.account.is_flood(now, &self.hub.limits) {
                return self.cut_flood();
            }
            if self.silent_at() <= now {
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
        let stalled = self.transport.stalled_since();
        let stalled = stalled.map(|since| since + self.hub.limits.write);
        [stalled, self.unkept_at(), self.resume]
            .into_iter()
            .flatten()
            .fold(self.silent_at(), Instant::min)
    }

    /// When the client will have been silent for too long. While the link is held nobody listens, and something else is
    /// overdue before.
    fn silent_at(&self) -> Instant {
        let held = self.transport.held.then(|| self.unkept_at()).flatten();
        (self.heard + self.silence).max(held.unwrap_or(self.heard))
    }

    /// When the client has waited too long for its message to be on the disk.
    fn unkept_at(&self) -> Option<Instant> {
        self.acknowledgements.overdue(self.hub.limits.keeping)
    }

    /// Acknowledges what is on the disk.
    fn answer(&mut self) -> Result<(), End> {
        loop {
            while let Some(pkid) = self.acknowledgements.next(self.attachment.durable()) {
                self.write(&Packet::PubAck(PubAck { pkid }))?;
            }
            self.resume = self.account.held_until(Instant::now(), &self.hub.limits);
            let held = !self.acknowledgements.has_room() || self.resume.is_some();
            if std::mem::replace(&mut self.transport.held, held) && !held {
                // Nobody has listened; from now on somebody does.
                self.heard = Instant::now();
            }
            if held || !self.unhandled {
                return Ok(());
            }
            // What stopped for want of room goes on.
            self.receive()?;
        }
    }

    /// Whether requests are handled now, or wait in the link.
    fn takes_more(&self) -> bool {
        let held = self.account.held_until(Instant::now(), &self.hub.limits);
        self.acknowledgements.has_room() && held.is_none()
    }

    /// A request is paid for, and who cannot pay is slowed.
    fn pay(&self, tokens: u32) {
        let limits = &self.hub.limits;
        if tokens > 0 && self.account.spend(tokens, self.heard, limits) {
            self.hub.counters.slowed.increment();
            self.hub.audit.slowed(&self.client, limits.rate);
        }
    }

    fn cut_flood(&self) -> End {
        let limits = &self.hub.limits;
        let rule = format!(
            "a device earns {} tokens a second, and slowed for {:?} it does not stop",
            limits.rate, limits.flood
        );
        self.hub
            .audit
            .refused(&self.client, &Refusal::new("rate", "connection", rule));
        End::Flood
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
        while self.takes_more()
            && let Some(frame) = packet::frame(&mut self.transport.inbound, packet::is_request)?
        {
            let request = frame.request()?;
            self.heard = Instant::now();
            self.pay(cost::of_request(&request));
            match request {
                Request::Publish(message, pkid) => self.publish(message, pkid)?,
                // One that nobody waits for is work for nothing.
                Request::PubAck(pkid) => {
                    if !self.attachment.acknowledge(pkid) {
                        self.pay(1);
                    }
                }
                Request::Subscribe(pkid, filters) => self.subscribe(pkid, filters)?,
                Request::Unsubscribe(pkid, filters) => {
                    self.attachment.unsubscribe(&filters);
                    self.write(&Packet::UnsubAck(UnsubAck { pkid }))?;
                }
                Request::Ping => self.write(&Packet::PingResp)?,
                Request::Disconnect => return Err(End::Disconnected),
            }
        }
        self.unhandled = !self.takes_more();
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
        let mark = match self.attachment.publish(accepted) {
            Ok(mark) => mark,
            Err(PublishError::Cut(cut)) => return Err(cut.into()),
            Err(PublishError::Full(full)) => {
                return Err(self.refuse_publish(&Refusal::new("retain", topic.as_str(), full)));
            }
        };
        if let Some(pkid) = pkid {
            self.acknowledgements.push(pkid, mark, Instant::now());
        }
        self.published = true;
        Ok(())
    }

    fn refuse_publish(&self, refusal: &Refusal) -> End {
        self.hub.counters.refused_publishes.increment();
        self.hub.audit.refused(&self.client, refusal);
        End::Refused
    }

    fn subscribe(
        &mut self,
        pkid: u16,
        filters: Vec<(Result<TopicFilter, String>, Qos)>,
    ) -> Result<(), End> {
        // A connection that has lost its session is not judged by what it still wants to have.
        self.attachment.standing()?;
        let mut codes = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            codes.push(match self.subscribe_one(filter, qos)? {
                Ok(()) => SubscribeReasonCode::Success(wire_qos(qos)),
                Err(refusal) => {
                    self.refuse_filter(&refusal);
                    SubscribeReasonCode::Failure
                }
            });
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

    fn subscribe_one(
        &self,
        filter: Result<TopicFilter, String>,
        qos: Qos,
    ) -> Result<Result<(), Refusal>, Cut> {
        let refuse = |filter: &str, rule: &str| Refusal::new("iot:Subscribe", filter, rule);
        let decided = filter
            .map_err(|text| refuse(&text, "it is longer or deeper than any topic"))
            .and_then(|filter| self.hub.gate.subscribe(&self.client, filter));
        let granted = match decided {
            Ok(granted) => granted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match self.attachment.subscribe(&granted, qos) {
            Ok(search) => {
                self.pay(cost::of_search(search.walked, search.found));
                Ok(Ok(()))
            }
            Err(SubscribeError::Cut(cut)) => Err(cut),
            Err(SubscribeError::Refused(refusal)) => Ok(Err(refusal)),
            Err(SubscribeError::TooMany) => {
                let most = self.hub.limits.subscriptions;
                let rule = format!("a session has at most {most} subscriptions");
                Ok(Err(refuse(granted.filter().as_str(), &rule)))
            }
        }
    }

    fn refuse_filter(&mut self, refusal: &Refusal) {
        self.refused_filters += 1;
        self.hub.counters.refused_filters.increment();
        self.hub.audit.refused(&self.client, refusal);
    }

    fn write(&mut self, packet: &Packet) -> Result<(), End> {
        packet
            .write(&mut self.transport.outbound, MAX_PACKET)
            .map(drop)
            .map_err(End::Unwritable)
    }

    fn record(&self, end: &End) {
        end.count(&self.hub.counters);
        let peer = self.client.peer();
        tracing::info!(device = %peer.id, address = %peer.address, "{}", one_line(end));
    }
}

/// Completes when a message that the client waits for is on the disk. Cancel-safe.
async fn kept(attachment: &Attachment, acknowledgements: &Acknowledgements) {
    match acknowledgements.awaited() {
        Some(mark) => attachment.until_durable(mark).await,
        None => std::future::pending().await,
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

#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
