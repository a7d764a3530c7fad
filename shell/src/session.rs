//! One connection: what its client has asked for so far, and what it has got.
//!
//! What a session asks for before it begins is kept here, because russh knows only of the last request whether its client
//! wants an answer: each has to be answered before the next is looked at.

mod asked;
mod begin;
mod callbacks;
mod login;

use std::collections::HashMap;
use std::sync::Arc;

use daemon::flow::Flow;
use russh::server::{Handle, Session};
use russh::{ChannelId, Error};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::asked::{Asked, Tally};
use self::login::Standing;
pub(crate) use self::login::{Admitted, TurnedDown};
use crate::forward::{Listening, listen};
use crate::limits::{LISTENERS, SESSIONS, STRAY_REQUESTS, STREAMS};
use crate::process::Program;
use crate::server::House;

/// What is known of one connection and its client.
pub(crate) struct Visitor {
    house: Arc<House>,
    flow: Flow,
    tasks: TaskTracker,
    stop: CancellationToken,
    standing: Standing,
    offers: usize,
    admitted: Option<oneshot::Sender<Result<Admitted, TurnedDown>>>,
    /// Sessions that have not begun.
    waiting: HashMap<ChannelId, Asked>,
    sessions: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Ports that are forwarded to this client.
    listeners: HashMap<(String, u32), DropGuard>,
    /// Requests on channels that cannot have any.
    strays: Tally,
    /// Sessions that could not begin.
    refused: usize,
}

impl Visitor {
    pub(crate) fn new(
        house: Arc<House>,
        flow: Flow,
        tasks: TaskTracker,
        stop: CancellationToken,
        admitted: oneshot::Sender<Result<Admitted, TurnedDown>>,
    ) -> Self {
        Self {
            house,
            flow,
            tasks,
            stop,
            standing: Standing::Stranger,
            offers: 0,
            admitted: Some(admitted),
            waiting: HashMap::new(),
            sessions: Arc::new(Semaphore::new(SESSIONS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            listeners: HashMap::new(),
            strays: Tally::default(),
            refused: 0,
        }
    }

    fn who(&self) -> Option<&str> {
        match &self.standing {
            Standing::Member(who) => Some(who),
            Standing::Stranger | Standing::Proved(_) => None,
        }
    }

    /// What a session has asked for so far. Every request counts, with its size in bytes, since russh keeps each until the
    /// session begins; of those on other channels a client has no use for more than a few.
    fn asked(&mut self, channel: ChannelId, size: usize) -> Result<Option<&mut Asked>, Error> {
        if let Some(asked) = self.waiting.get_mut(&channel) {
            return if asked.count(size) {
                Ok(Some(asked))
            } else {
                Err(Error::Inconsistent)
            };
        }
        if self.strays.add(size, STRAY_REQUESTS) {
            Ok(None)
        } else {
            Err(Error::Inconsistent)
        }
    }

    fn begin(
        &mut self,
        channel: ChannelId,
        program: Option<Program>,
        size: usize,
        session: &mut Session,
    ) -> Result<(), Error> {
        if self.asked(channel, size)?.is_none() {
            return session.channel_failure(channel);
        }
        let (Some(program), Some(who)) = (program, self.who()) else {
            return session.channel_failure(channel);
        };
        let who = who.to_owned();
        let Some(asked) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        begin::begin(self, asked, program, &who, session)
    }

    async fn forward(&mut self, address: &str, port: &mut u32, handle: Handle) -> bool {
        let permitted = self.house.forwarding != crate::Forwarding::None;
        let Ok(wanted) = u16::try_from(*port) else {
            return false;
        };
        if self.who().is_none() || !permitted || self.listeners.len() >= LISTENERS {
            return false;
        }
        let (listener, granted) = match listen(address, wanted).await {
            Ok(listening) => listening,
            Err(error) => {
                tracing::info!(address, port, %error, "a port could not be forwarded");
                return false;
            }
        };
        let stop = self.stop.child_token();
        *port = u32::from(granted);
        let name = (address.to_owned(), *port);
        self.listeners.insert(name, stop.clone().drop_guard());
        let listening = Listening {
            listener,
            address: address.to_owned(),
            port: granted,
            handle,
            flow: self.flow.clone(),
            places: Arc::clone(&self.streams),
            tasks: self.tasks.clone(),
            stop,
        };
        self.tasks.spawn(listening.run());
        true
    }
}
