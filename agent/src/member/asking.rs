//! What a member asks of the proxy when it has logged in, and the streams that come before it is granted.

use daemon::report::one_line;
use daemon::ssh::PeerKind;
use daemon::ssh_client::{Dialed, ForwardedStream, RequestError};
use protocol::{Forward, Label};

use super::{Event, HOST, Member, NO_SERVICE, REQUEST, Streams};

/// What the proxy forwards to a member.
#[derive(Default)]
pub(super) struct Granted {
    /// By the ports that it has allocated.
    pub(super) forwards: Vec<Forward>,
    /// By the device's name, at these ports of the services.
    pub(super) named: Vec<u16>,
}

impl Member {
    /// Asks for all forwards, and begins the streams that come meanwhile.
    pub(super) async fn ask(
        &self,
        dialed: &Dialed,
        granted: &mut Granted,
        streams: &mut Streams,
    ) -> Result<(), Event> {
        let plan = &self.plan;
        for (index, (service, address)) in plan.services.iter().enumerate() {
            // Where nobody orders, nobody could be told of more than one port.
            if index == 0 || plan.always_on.is_none() {
                let asking = self.forward(dialed, service);
                let port = self.beside(asking, dialed.kind(), granted, streams).await?;
                granted.forwards.push(Forward {
                    service: service.clone(),
                    port,
                });
            }
            // By name, for whoever writes `333:80`. Only our own proxy knows names; another would take the port itself.
            if index > 0 && dialed.kind() == PeerKind::Own {
                let port = address.port();
                let asking = dialed.request_forward(self.name(), port, REQUEST);
                match self.beside(asking, dialed.kind(), granted, streams).await {
                    Ok(_) => granted.named.push(port),
                    Err(error) => {
                        tracing::debug!(%service, error = one_line(&error), "the service cannot be reached by name");
                    }
                }
            }
        }
        // Again, if another port was granted than the early stream told.
        if streams.up.as_ref() != Some(&granted.forwards) {
            self.up(granted.forwards.clone(), streams).await;
        }
        Ok(())
    }

    /// Waits for an answer of the proxy, and begins the streams that come before.
    async fn beside<T>(
        &self,
        asking: impl Future<Output = T>,
        proxy: PeerKind,
        granted: &Granted,
        streams: &mut Streams,
    ) -> T {
        let mut asking = std::pin::pin!(asking);
        loop {
            tokio::select! {
                biased;
                answer = &mut asking => return answer,
                Some(stream) = streams.forwarded.recv() => {
                    if granted.forwards.is_empty() && proxy == PeerKind::Own && stream.address == HOST {
                        self.begin_early(stream, streams).await;
                    } else {
                        self.begin(stream, granted, streams).await;
                    }
                }
            }
        }
    }

    /// Begins a stream for which our own proxy has not waited: it knows which port it will grant, and opens it there. Nothing
    /// else is asked of it yet, so this is the first service's.
    async fn begin_early(&self, stream: ForwardedStream, streams: &mut Streams) {
        let Some((service, address)) = self.plan.services.first() else {
            return stream.refuse(NO_SERVICE).await;
        };
        let before = self.port_before(service);
        // With more services there are ports that are not known yet.
        if streams.up.is_none()
            && self.plan.services.len() == 1
            && [0, stream.port].contains(&before)
        {
            let forward = Forward {
                service: service.clone(),
                port: stream.port,
            };
            self.up(vec![forward], streams).await;
        }
        self.join(stream, service, address, streams).await;
    }

    /// The port of one service: the one it had, if that is still free for us.
    async fn forward(&self, dialed: &Dialed, service: &Label) -> Result<u16, Event> {
        let before = self.port_before(service);
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

    /// The port that a service is to have, or 0 for any.
    fn port_before(&self, service: &Label) -> u16 {
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
        before.unwrap_or(if is_first { self.plan.port } else { 0 })
    }
}

/// What to do when a port is not granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// One connection is all that this proxy takes: the streams share it.
    Share,
    /// The port is somebody else's by now: take another.
    AnyPort,
    Fail,
}

pub(super) fn after_refusal(error: &RequestError, proxy: PeerKind, joins: bool, port: u16) -> Next {
    match (error, proxy) {
        // Ours takes several; it is about to stop, or has too many.
        (RequestError::Refused { .. }, PeerKind::Own) if joins => Next::Fail,
        (RequestError::Refused { .. }, PeerKind::Foreign) if joins => Next::Share,
        (RequestError::Refused { .. }, _) if port != 0 => Next::AnyPort,
        // Without an answer, or without a connection, there is nothing to ask for another.
        (_, _) => Next::Fail,
    }
}
