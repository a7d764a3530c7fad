//! The tunnel of a device: the task that keeps its pool of connections to the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::{Backoff, FIRST_REDIAL, LAST_REDIAL, LASTING};
use daemon::shutdown::Shutdown;
use protocol::{Forward, Label};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::deadline::reached;
use crate::ends::Ends;
use crate::member::{self, Member, Seat};
use crate::plan::Plan;
use crate::pool::{self, MemberId, Pool};

/// The owner's end of the tunnel. When it is dropped the tunnel closes after its streams.
pub(crate) struct Tunnel {
    demand: watch::Sender<Demand>,
    ends: Ends,
    events: mpsc::Receiver<Event>,
    plan: PlanCell,
}

/// What the tunnel tells its owner.
#[derive(Debug)]
pub(crate) enum Event {
    /// These forwards are granted: for the first time, anew, or still when the tunnel is asked for.
    Opened(Vec<Forward>),
    /// No connection could be made; it is tried again.
    Failed(String),
    /// All connections are gone; they are made again.
    Lost {
        /// Whether nothing came through the last of them before.
        silent: bool,
    },
    /// So many streams are open.
    Streams(usize),
}

/// What the owner wants. It asks anew each time: a tunnel that is still up since the last time has to be told again, also
/// when the task never saw that nobody wanted it in between.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    wanted: bool,
    /// How often it was asked for.
    asked: u64,
    /// How often what it forwards has changed.
    renewed: u64,
}

/// The plan that the next connection is made by.
type PlanCell = Arc<Mutex<Arc<Plan>>>;

/// Makes a connection, and runs it until its end.
type Dialler = Box<dyn Fn(Seat) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Tunnel {
    /// Starts the task. No connection is made before one is [wanted](Self::want).
    pub(crate) fn start(plan: Plan, shutdown: &Shutdown) -> Self {
        let (links, last_retry) = match plan.always_on {
            Some(links) => (links.get().into(), LAST_REDIAL),
            None => (1, LAST_RETRY),
        };
        let plan: PlanCell = Arc::new(Mutex::new(Arc::new(plan)));
        let cell = Arc::clone(&plan);
        let dialler = move |seat| {
            let plan = Arc::clone(&cell.lock().unwrap_or_else(PoisonError::into_inner));
            Box::pin(Member::new(plan, seat).run()) as _
        };
        Self::with_dialler(
            Box::new(dialler),
            Pool::of(links),
            last_retry,
            plan,
            shutdown,
        )
    }

    fn with_dialler(
        dialler: Dialler,
        pool: Pool,
        last_retry: Duration,
        plan: PlanCell,
        shutdown: &Shutdown,
    ) -> Self {
        let (demand, demanded) = watch::channel(Demand::default());
        let ends = Ends::default();
        let (event_sender, events) = mpsc::channel(QUEUE);
        let (member_events, from_members) = mpsc::channel(QUEUE);
        let task = TunnelTask {
            dialler,
            asked: 0,
            renewed: 0,
            pool,
            ends: ends.clone(),
            members: BTreeMap::new(),
            tasks: JoinSet::new(),
            ports: Vec::new(),
            backoff: Backoff::new(FIRST_REDIAL, last_retry),
            retry_at: None,
            member_events,
            owner: event_sender,
        };
        shutdown.spawn(task.run(demanded, from_members));
        Self {
            demand,
            ends,
            events,
            plan,
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Whether a tunnel is to be open. Each time that it is, the answer is [`Event::Opened`] or [`Event::Failed`].
    pub(crate) fn want(&self, wanted: bool) {
        self.demand.send_modify(|demand| {
            demand.wanted = wanted;
            demand.asked += u64::from(wanted);
        });
    }

    /// The controllers that have a stream open.
    pub(crate) fn controllers(&self) -> BTreeSet<Label> {
        self.ends.controllers()
    }

    /// Makes connections by this plan from now on. Where they forward something else than before, they take the place of
    /// those that there are, which go after their streams.
    pub(crate) fn replan(&self, plan: Plan) {
        let plan = Arc::new(plan);
        let mut cell = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let same = cell.forwards_as(&plan);
        *cell = plan;
        drop(cell);
        if !same {
            self.demand.send_modify(|demand| demand.renewed += 1);
        }
    }

    /// Ends the streams of this controller.
    pub(crate) fn end_streams(&self, controller: &Label) {
        self.ends.request(controller);
    }
}

struct TunnelTask {
    dialler: Dialler,
    /// The last of the owner's requests that was seen.
    asked: u64,
    /// The last of the changes of plan that was seen.
    renewed: u64,
    pool: Pool,
    ends: Ends,
    members: BTreeMap<MemberId, Running>,
    tasks: JoinSet<()>,
    /// What was granted last: asked for again, so that the port stays the same.
    ports: Vec<Forward>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    member_events: mpsc::Sender<(MemberId, member::Event)>,
    owner: mpsc::Sender<Event>,
}

struct Running {
    /// Dropped, it retires the member: so does the end of this task.
    stays: Option<DropGuard>,
    up_since: Option<Instant>,
}

impl TunnelTask {
    async fn run(
        mut self,
        mut demanded: watch::Receiver<Demand>,
        mut from_members: mpsc::Receiver<(MemberId, member::Event)>,
    ) {
        let mut owned = true;
        while owned || !self.members.is_empty() {
            tokio::select! {
                changed = demanded.changed(), if owned => {
                    owned = changed.is_ok();
                    let demand = *demanded.borrow_and_update();
                    self.demand(Demand { wanted: owned && demand.wanted, ..demand }).await;
                }
                Some((id, event)) = from_members.recv() => self.on_member(id, event).await,
                // Members report their own end; here only what is left of them is cleared.
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                () = reached(self.retry_at) => {
                    self.retry_at = None;
                    self.decide(pool::Event::Retry);
                }
            }
        }
    }

    async fn demand(&mut self, demand: Demand) {
        if demand.renewed != self.renewed {
            self.renewed = demand.renewed;
            self.decide(pool::Event::Renewed);
        }
        self.decide(pool::Event::Wanted(demand.wanted));
        let anew = demand.asked != self.asked;
        self.asked = demand.asked;
        // A stream may have kept a connection since the last time; then none comes up that would tell.
        if demand.wanted && anew && self.pool.any_up() {
            self.tell(Event::Opened(self.ports.clone())).await;
        }
    }

    async fn on_member(&mut self, id: MemberId, event: member::Event) {
        let was_up = self.pool.any_up();
        match event {
            member::Event::Up(forwards) => {
                if let Some(running) = self.members.get_mut(&id) {
                    running.up_since = Some(Instant::now());
                }
                self.decide(pool::Event::Up(id));
                // A late one that is to go again forwards nothing for long, perhaps at a port of its own.
                if self.pool.serves(id) && (!was_up || self.ports != forwards) {
                    self.ports.clone_from(&forwards);
                    self.tell(Event::Opened(forwards)).await;
                }
            }
            member::Event::NotPooled => {
                tracing::info!("the proxy lets one connection forward the port: streams share it");
                self.members.remove(&id);
                self.decide(pool::Event::NotPooled(id));
            }
            member::Event::Failed(reason) => {
                tracing::warn!(reason, "no connection to the proxy");
                self.down(id).await;
                if !was_up {
                    self.tell(Event::Failed(reason)).await;
                }
            }
            member::Event::Down { reason, silent } => {
                tracing::debug!(member = id.0, reason, "a connection to the proxy has ended");
                self.down(id).await;
                if was_up && !self.pool.any_up() {
                    self.tell(Event::Lost { silent }).await;
                }
            }
            member::Event::Retired => {
                tracing::debug!(member = id.0, "a connection to the proxy was given back");
                self.members.remove(&id);
                self.decide(pool::Event::Retired(id));
            }
            member::Event::StreamBegan => self.streams(pool::Event::StreamBegan(id)).await,
            member::Event::StreamEnded => self.streams(pool::Event::StreamEnded(id)).await,
        }
    }

    async fn down(&mut self, id: MemberId) {
        let streams = self.pool.streams();
        let up_since = self
            .members
            .remove(&id)
            .and_then(|running| running.up_since);
        // A proxy that accepts and closes is not a success: only a connection that lasted is.
        if up_since.is_some_and(|since| since.elapsed() >= LASTING) {
            self.backoff.reset();
        }
        self.decide(pool::Event::Down(id));
        if self.pool.streams() != streams {
            self.tell(Event::Streams(self.pool.streams())).await;
        }
        if self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + self.backoff.next_delay());
        }
    }

    async fn streams(&mut self, event: pool::Event) {
        self.decide(event);
        self.tell(Event::Streams(self.pool.streams())).await;
    }

    fn decide(&mut self, event: pool::Event) {
        for action in self.pool.on_event(event) {
            match action {
                pool::Action::Dial(id) => self.dial(id),
                pool::Action::Retire(id) => {
                    drop(
                        self.members
                            .get_mut(&id)
                            .and_then(|running| running.stays.take()),
                    );
                }
            }
        }
    }

    fn dial(&mut self, id: MemberId) {
        let retire = CancellationToken::new();
        let stays = Some(retire.clone().drop_guard());
        let seat = Seat {
            id,
            ports: self.ports.clone(),
            joins: self.pool.any_up(),
            retire,
            ends: self.ends.clone(),
            events: self.member_events.clone(),
        };
        self.members.insert(
            id,
            Running {
                stays,
                up_since: None,
            },
        );
        self.tasks.spawn((self.dialler)(seat));
    }

    async fn tell(&self, event: Event) {
        // Without an owner nobody needs to know.
        let _ = self.owner.send(event).await;
    }
}

/// Events that wait between two tasks of the agent; each side only ever decides and passes on.
const QUEUE: usize = 64;

/// The bound of later delays, while a lease lives and somebody waits: a tunnel is there again within five seconds of its network.
/// Few devices have a lease at one time, so this is no storm.
const LAST_RETRY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
