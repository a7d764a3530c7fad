//! The link's task: session after session, at one address of the broker or the next, with growing pauses between them.

use std::time::Duration;

use protocol::Epoch;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::conversation::{Ended, Meeting, Progress, pump};
use super::{Command, LinkEvent, LinkSettings, Message};
use crate::backoff::Backoff;
use crate::clock;
use crate::host_port::HostPort;
use crate::mqtt::LinkError;
use crate::report::one_line;

/// What keeps a link.
pub(super) struct LinkTask {
    settings: LinkSettings,
    /// Which of the brokers the next session is tried at first.
    place: usize,
    /// To be published in the first session, with the first packets.
    first: Option<Message>,
    /// Whether CONNACK is waited for, although there is a first message.
    patient: bool,
    events: mpsc::Sender<LinkEvent>,
    commands: mpsc::Receiver<Command>,
    epoch: Epoch,
}

impl LinkTask {
    pub(super) fn new(
        settings: LinkSettings,
        first: Option<Message>,
        events: mpsc::Sender<LinkEvent>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            place: first_place(&settings.client_id, settings.brokers.len()),
            settings,
            first,
            patient: false,
            events,
            commands,
            epoch: Epoch(0),
        }
    }

    /// Runs until it is told to finish, or nobody is left who could.
    pub(super) async fn run(mut self) {
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
            // Whoever is told that there is no session decides anew.
            self.first = None;
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
            match self.session_at(&broker, limit).await {
                (Ended::Failed(error), Progress::Nothing | Progress::Accepted) => {
                    self.place = (self.place + 1) % count;
                    if left == 0 {
                        return Ended::Failed(error);
                    }
                    tracing::info!(error = one_line(&error), "the next address is tried");
                }
                (ended, _) => return ended,
            }
        }
        Ended::Failed(LinkError::NoBroker)
    }

    /// A session at one address. A broker that may not have liked that its CONNACK was not waited for is met once more.
    async fn session_at(&mut self, broker: &HostPort, limit: Duration) -> (Ended, Progress) {
        let hurries = self.first.is_some() && !self.patient;
        let (ended, progress) = self.session_once(broker, limit, hurries).await;
        match (&ended, progress) {
            (Ended::Failed(LinkError::Lost { .. }), Progress::Nothing | Progress::Accepted)
            | (Ended::Failed(LinkError::Silent { .. }), Progress::Accepted)
                if hurries =>
            {
                tracing::debug!(%broker, "the session ended early: once more, packet by packet");
                self.patient = true;
                self.session_once(broker, limit, false).await
            }
            (Ended::Finished | Ended::Left(_) | Ended::Failed(_), _) => (ended, progress),
        }
    }

    /// Connects, subscribes and moves packets until the session ends.
    async fn session_once(
        &mut self,
        broker: &HostPort,
        limit: Duration,
        hurries: bool,
    ) -> (Ended, Progress) {
        // It grows even when the clock is set back.
        self.epoch = Epoch(clock::unix_millis().max(self.epoch.0 + 1));
        let (requests, queue) = mpsc::channel(REQUESTS);
        let (up, is_up) = watch::channel(false);
        let mut progress = Progress::Nothing;
        let meeting = Meeting {
            settings: &self.settings,
            broker,
            limit,
            hurries,
            epoch: self.epoch,
            first: &mut self.first,
            up,
            progress: &mut progress,
        };
        let converse = meeting.converse(queue, &self.events);
        let pump = pump(&mut self.commands, &requests, is_up);
        // Neither future may be dropped and begun again half way: both run until the session ends.
        let ended = tokio::select! {
            ended = converse => ended,
            ended = pump => ended,
        };
        (ended, progress)
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

/// Where a client begins, so that a fleet spreads over a cluster, and one client always finds the same computer first.
fn first_place(client_id: &str, count: usize) -> usize {
    let sum = client_id.bytes().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    sum.checked_rem(count).unwrap_or(0)
}

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

/// Requests that wait for the session: for an acknowledgement of those before, or for the socket.
const REQUESTS: usize = 16;
