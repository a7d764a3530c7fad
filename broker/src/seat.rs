//! A session's place in the hub, and the connection that has it now, if any.
//!
//! Connections are told apart by a generation: what a connection does after it has lost its seat reaches nobody. Ids are
//! never used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::counters::{Counters, QueueDepths};
use crate::gate::{Admitted, Gate, Granted, Refusal};
use crate::limits::Limits;
use crate::load::LoadShare;
use crate::message::{Message, Qos};
use crate::session::{Delivery, Outgoing, Session};
use crate::topic::TopicFilter;

/// Names a session for as long as the broker runs.
pub(crate) type SessionId = u64;

/// A session, shared between the hub and its connection.
#[derive(Debug)]
pub(crate) struct Seat {
    id: SessionId,
    client_id: Arc<str>,
    clean: bool,
    state: Mutex<State>,
}

/// Why a connection has to end, whatever it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Cut {
    #[error("the authority of the client's certificate is trusted no more")]
    Distrusted,
    #[error("the broker is draining")]
    Drain,
    #[error("the policies no longer permit what the client has")]
    Forbidden,
    #[error("too many messages wait for the client")]
    QueueFull,
    #[error("the client's certificate has been revoked")]
    Revoked,
    #[error("the same client has connected again")]
    TakenOver,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SubscribeError {
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error("the policies no longer permit it")]
    Refused(Refusal),
    #[error("the session has too many")]
    TooMany,
}

/// What other policies have taken from a client.
#[derive(Debug, Default)]
pub(crate) struct Withdrawn {
    /// Its session is no longer subscribed to these.
    pub(crate) filters: Vec<TopicFilter>,
    /// Its connection ends, and by which rule.
    pub(crate) refused: Option<(Admitted, Refusal)>,
}

#[derive(Debug)]
struct State {
    session: Session,
    generation: u64,
    client: Option<Admitted>,
    link: Option<Link>,
    /// When the session is given up; only while nobody has the seat.
    expiry: Option<Instant>,
}

/// The connection that has the seat.
#[derive(Debug)]
struct Link {
    bell: Arc<Notify>,
    will: Option<Arc<Message>>,
    cut: Option<Cut>,
}

impl Seat {
    /// An empty session; `clean` ones end with their connection.
    pub(crate) fn new(id: SessionId, client_id: Arc<str>, clean: bool, load: LoadShare) -> Self {
        let state = State {
            session: Session::new(load),
            generation: 0,
            client: None,
            link: None,
            expiry: None,
        };
        Self {
            id,
            client_id,
            clean,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    /// A connection takes the seat. It gets its generation, and the bell that rings when there is something to do.
    /// Returned too is when the session would have been given up, if nobody had it.
    pub(crate) fn occupy(
        &self,
        client: Admitted,
        will: Option<Arc<Message>>,
    ) -> (u64, Arc<Notify>, Option<Instant>) {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        state.generation += 1;
        state.client = Some(client);
        state.link = Some(Link {
            bell: Arc::clone(&bell),
            will,
            cut: None,
        });
        state.session.resume();
        (state.generation, bell, state.expiry.take())
    }

    /// Another connection is about to take the seat, or this session to be replaced. Returns the will of the one that had it.
    pub(crate) fn displace(&self) -> Option<Arc<Message>> {
        let mut state = self.lock();
        let link = state.link.take()?;
        state.generation += 1;
        link.bell.notify_one();
        link.will
    }

    /// The connection of this generation leaves, and its will with it.
    pub(crate) fn vacate(
        &self,
        generation: u64,
        expiry: Instant,
    ) -> Result<Option<Arc<Message>>, Cut> {
        let mut state = self.lock();
        if state.generation != generation || state.link.is_none() {
            return Err(Cut::TakenOver);
        }
        let link = state.link.take();
        state.expiry = Some(expiry);
        state.session.rest();
        Ok(link.and_then(|link| link.will))
    }

    /// The connection has to end; the first reason stands.
    pub(crate) fn cut(&self, reason: Cut) {
        if let Some(link) = &mut self.lock().link {
            link.cut.get_or_insert(reason);
            link.bell.notify_one();
        }
    }

    /// The connection has to end if there is an objection to its client.
    pub(crate) fn cut_where(&self, objection: impl Fn(&Admitted) -> Option<Cut>) {
        let mut state = self.lock();
        let state = &mut *state;
        if let (Some(client), Some(link)) = (&state.client, &mut state.link)
            && let Some(cut) = objection(client)
        {
            link.cut.get_or_insert(cut);
            link.bell.notify_one();
        }
    }

    /// Other policies are in force: what they do not permit is taken back, and the connection that had it ends. Its will is
    /// decided when that is done.
    pub(crate) fn recheck(&self, gate: &Gate) -> Withdrawn {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(client) = &state.client else {
            return Withdrawn::default();
        };
        let will = state.link.as_ref().and_then(|link| link.will.as_deref());
        let mut objection = gate.objection(client, will);
        let mut filters = Vec::new();
        for filter in state.session.subscriptions() {
            if let Some(refusal) = gate.filter_objection(client, filter) {
                filters.push(filter.clone());
                objection.get_or_insert(refusal);
            }
        }
        for filter in &filters {
            state.session.unsubscribe(filter);
        }
        let refused = match (objection, &mut state.link) {
            (Some(refusal), Some(link)) => {
                link.cut.get_or_insert(Cut::Forbidden);
                link.bell.notify_one();
                Some((client.clone(), refusal))
            }
            (Some(_), None) | (None, _) => None,
        };
        Withdrawn { filters, refused }
    }

    /// The will of the connection that has the seat.
    pub(crate) fn will(&self) -> Option<Arc<Message>> {
        self.lock().link.as_ref()?.will.clone()
    }

    /// Adds what waits for the client.
    pub(crate) fn add_depth(&self, depths: &mut QueueDepths) {
        let (messages, bytes, inflight) = self.lock().session.depth();
        depths.add(messages, bytes, inflight);
    }

    /// The next message to be sent, or why the connection has to end.
    pub(crate) fn next(&self, generation: u64, limits: &Limits) -> Result<Option<Outgoing>, Cut> {
        let mut state = self.lock();
        state.check(generation)?;
        Ok(state.session.next(limits))
    }

    /// Whether the acknowledgement was awaited.
    pub(crate) fn acknowledge(&self, generation: u64, pkid: u16) -> bool {
        let mut state = self.lock();
        state.check(generation).is_ok() && state.session.acknowledge(pkid)
    }

    /// Adds a subscription to the session. The gate is asked once more: there may be other policies since, and who rechecks
    /// them comes before this or finds it.
    pub(crate) fn subscribe(
        &self,
        generation: u64,
        granted: &Granted,
        qos: Qos,
        gate: &Gate,
        limits: &Limits,
    ) -> Result<(), SubscribeError> {
        let mut state = self.lock();
        let state = &mut *state;
        state.check(generation)?;
        let filter = granted.filter();
        let objection = state
            .client
            .as_ref()
            .and_then(|client| gate.filter_objection(client, filter));
        match objection {
            Some(refusal) => Err(SubscribeError::Refused(refusal)),
            None if state.session.subscribe(filter, qos, limits) => Ok(()),
            None => Err(SubscribeError::TooMany),
        }
    }

    /// Removes a subscription; whether there was one.
    pub(crate) fn unsubscribe(&self, generation: u64, filter: &TopicFilter) -> bool {
        let mut state = self.lock();
        state.check(generation).is_ok() && state.session.unsubscribe(filter)
    }

    /// Queues a message, if the client may receive it. A full queue costs the client its connection; while it has none, it
    /// costs the message.
    pub(crate) fn deliver(
        &self,
        delivery: Delivery,
        gate: &Gate,
        limits: &Limits,
        counters: &Counters,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        if !state
            .client
            .as_ref()
            .is_some_and(|client| gate.may_receive(client, &delivery.message.topic))
        {
            counters.withheld.increment();
            return;
        }
        match &mut state.link {
            None if delivery.qos == Qos::AtMostOnce => {}
            None => {
                if state.session.enqueue(delivery, limits).is_err() {
                    counters.dropped.increment();
                }
            }
            Some(link) => {
                if state.session.enqueue(delivery, limits).is_err() {
                    counters.dropped.increment();
                    link.cut.get_or_insert(Cut::QueueFull);
                }
                link.bell.notify_one();
            }
        }
    }

    /// The session's filters.
    pub(crate) fn filters(&self) -> Vec<TopicFilter> {
        self.lock().session.subscriptions().cloned().collect()
    }

    /// When the session is given up, if nobody has the seat.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        self.lock().expiry
    }

    /// The connection goes on, or why it has to end.
    pub(crate) fn standing(&self, generation: u64) -> Result<(), Cut> {
        self.lock().check(generation)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this connection still has the seat, and may go on.
    fn check(&self, generation: u64) -> Result<(), Cut> {
        match &self.link {
            Some(link) if self.generation == generation => link.cut.map_or(Ok(()), Err),
            Some(_) | None => Err(Cut::TakenOver),
        }
    }
}
