//! The test plays the members: it takes what the tunnel dials, says what has become of it, and hears what it is told.

use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};

use super::*;

/// More than every pause of the tunnel; the clock of these tests is wound on as soon as nobody has anything to do.
const LONG: Duration = Duration::from_mins(10);

/// A connection that its proxy has ended.
fn down(reason: &str) -> member::Event {
    member::Event::Down {
        reason: reason.to_owned(),
        silent: false,
    }
}

struct Stand {
    tunnel: Tunnel,
    dialled: mpsc::Receiver<Seat>,
    shutdown: Shutdown,
}

impl Stand {
    fn new() -> Self {
        let (sender, dialled) = mpsc::channel(QUEUE);
        let make = move |seat| {
            let sender = sender.clone();
            Box::pin(async move { sender.send(seat).await.map_err(drop).unwrap() }) as _
        };
        let shutdown = Shutdown::new(LONG);
        Self {
            tunnel: Tunnel::with_dialler(
                Box::new(make),
                Pool::default(),
                LAST_RETRY,
                plan(),
                &shutdown,
            ),
            dialled,
            shutdown,
        }
    }

    async fn dialled(&mut self) -> Seat {
        let next = tokio::time::timeout(LONG, self.dialled.recv()).await;
        next.expect("nothing is dialled").unwrap()
    }

    async fn told(&mut self) -> Event {
        let next = tokio::time::timeout(LONG, self.tunnel.next()).await;
        next.expect("nothing is told").unwrap()
    }

    /// Nothing more is dialled or told, however long one waits.
    async fn is_quiet(&mut self) {
        tokio::select! {
            seat = self.dialled.recv() => panic!("dialled {:?}", seat.map(|seat| seat.id)),
            event = self.tunnel.next() => panic!("told {event:?}"),
            () = tokio::time::sleep(LONG) => {}
        }
    }

    /// A tunnel with one stream on the first of its connections, and the spare.
    async fn with_a_stream() -> (Self, Seat, Seat) {
        let mut stand = Self::new();
        stand.tunnel.want(true);
        let first = stand.dialled().await;
        first.says(member::Event::Up(forwards(61333))).await;
        assert_opened(&stand.told().await, 61333);
        first.says(member::Event::StreamBegan).await;
        assert!(matches!(stand.told().await, Event::Streams(1)));
        let spare = stand.dialled().await;
        spare.says(member::Event::Up(forwards(61333))).await;
        (stand, first, spare)
    }
}

impl Seat {
    async fn says(&self, event: member::Event) {
        self.events.send((self.id, event)).await.unwrap();
    }

    async fn is_retired(&self) {
        let retired = tokio::time::timeout(LONG, self.retire.cancelled()).await;
        assert!(retired.is_ok(), "it is not retired");
        self.says(member::Event::Retired).await;
    }
}

/// That of the members which the test plays: nobody looks into it.
fn plan() -> PlanCell {
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    Arc::new(Mutex::new(Arc::new(Plan {
        device: "333.hula.atlas".parse().unwrap(),
        proxy: "127.0.0.1:1".parse().unwrap(),
        host_keys: Vec::new(),
        key: Arc::new(key),
        port: 0,
        services: Vec::new(),
        builtin: None,
        always_on: None,
    })))
}

fn forwards(port: u16) -> Vec<Forward> {
    let service = "ssh".parse().unwrap();
    vec![Forward { service, port }]
}

#[track_caller]
fn assert_opened(event: &Event, port: u16) {
    assert!(
        matches!(event, Event::Opened(opened) if *opened == forwards(port)),
        "not opened at {port}: {event:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_lives_is_lost_comes_back_and_goes() {
    let (mut stand, first, spare) = Stand::with_a_stream().await;
    assert!(spare.joins, "others forward the port");
    assert_eq!(spare.ports, forwards(61333));
    // The proxy goes, and is away for a while.
    first.says(down("cut")).await;
    assert!(matches!(stand.told().await, Event::Streams(0)));
    spare.says(down("cut")).await;
    assert!(matches!(stand.told().await, Event::Lost { silent: false }));
    for _ in 0..8 {
        let began = Instant::now();
        let seat = stand.dialled().await;
        assert!(began.elapsed() <= LAST_RETRY, "{:?}", began.elapsed());
        assert!(!seat.joins);
        assert_eq!(seat.ports, forwards(61333), "the port shall stay the same");
        seat.says(member::Event::Failed("no route".to_owned()))
            .await;
        assert!(matches!(stand.told().await, Event::Failed(_)));
    }
    let back = stand.dialled().await;
    back.says(member::Event::Up(forwards(61333))).await;
    assert_opened(&stand.told().await, 61333);
    stand.is_quiet().await;
    // Nobody needs it any more.
    stand.tunnel.want(false);
    back.is_retired().await;
    stand.is_quiet().await;
    // Without an owner the task ends.
    drop(stand.tunnel);
    stand.shutdown.request();
    assert!(stand.shutdown.drained().await);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_a_stream_has_kept_is_told_when_it_is_wanted_again() {
    let (mut stand, first, spare) = Stand::with_a_stream().await;
    stand.tunnel.want(false);
    spare.is_retired().await;
    stand.is_quiet().await;
    stand.tunnel.want(true);
    assert_opened(&stand.told().await, 61333);
    let spare = stand.dialled().await;
    assert!(spare.joins);
    first.says(member::Event::StreamEnded).await;
    assert!(matches!(stand.told().await, Event::Streams(0)));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_mind_that_nobody_saw_is_answered_too() {
    let (mut stand, _first, _spare) = Stand::with_a_stream().await;
    // Both before the task has had a chance to run.
    stand.tunnel.want(false);
    stand.tunnel.want(true);
    assert_opened(&stand.told().await, 61333);
    stand.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn giving_connections_back_is_no_failure() {
    let mut stand = Stand::new();
    for _ in 0..20 {
        stand.tunnel.want(true);
        let seat = stand.dialled().await;
        seat.says(member::Event::Up(forwards(61333))).await;
        assert_opened(&stand.told().await, 61333);
        stand.tunnel.want(false);
        seat.is_retired().await;
        stand.is_quiet().await;
    }
    stand.tunnel.want(true);
    let seat = stand.dialled().await;
    seat.says(member::Event::Up(forwards(61333))).await;
    assert_opened(&stand.told().await, 61333);
    seat.says(down("cut")).await;
    assert!(matches!(stand.told().await, Event::Lost { silent: false }));
    // After twenty failures the next try would be many seconds away.
    let lost = Instant::now();
    stand.dialled().await;
    assert!(lost.elapsed() <= FIRST_REDIAL, "{:?}", lost.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_spare_that_could_not_be_made_is_tried_again_later() {
    let (mut stand, first, spare) = Stand::with_a_stream().await;
    spare.says(down("too many")).await;
    let mut waited = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        let spare = stand.dialled().await;
        waited.push(began.elapsed());
        spare
            .says(member::Event::Failed("too many".to_owned()))
            .await;
        // A page of many files: each of its streams shares the connection that there is, and none makes the agent hurry.
        first.says(member::Event::StreamBegan).await;
        assert!(matches!(stand.told().await, Event::Streams(2)));
        first.says(member::Event::StreamEnded).await;
        assert!(matches!(stand.told().await, Event::Streams(1)));
    }
    // Full jitter: single waits may be short, their sum is not.
    assert!(waited.iter().all(|wait| *wait <= LAST_RETRY), "{waited:?}");
    assert!(
        waited.iter().sum::<Duration>() > 2 * LAST_RETRY,
        "{waited:?}"
    );
    // The tunnel was open all the time.
    first.says(member::Event::StreamEnded).await;
    assert!(matches!(stand.told().await, Event::Streams(0)));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_without_pools_is_shared() {
    let mut stand = Stand::new();
    stand.tunnel.want(true);
    let only = stand.dialled().await;
    only.says(member::Event::Up(forwards(61333))).await;
    assert_opened(&stand.told().await, 61333);
    only.says(member::Event::StreamBegan).await;
    assert!(matches!(stand.told().await, Event::Streams(1)));
    stand.dialled().await.says(member::Event::NotPooled).await;
    only.says(member::Event::StreamBegan).await;
    assert!(matches!(stand.told().await, Event::Streams(2)));
    stand.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn members_that_take_nothing_are_told_to_end_streams_and_themselves_all_the_same() {
    let (mut stand, first, spare) = Stand::with_a_stream().await;
    let controller = |number: usize| format!("controller-{number}").parse::<Label>().unwrap();
    let of = |seat: &Seat, number| seat.ends.enter(Some(controller(number)));
    let last = 2 * QUEUE;
    let (here, there, another) = (of(&first, last), of(&spare, last), of(&first, last + 1));
    for number in 0..=last {
        stand.tunnel.end_streams(&controller(number));
    }
    for asked in [here, there] {
        let asked = tokio::time::timeout(LONG, asked.requested()).await;
        assert!(asked.is_ok(), "the last of them was lost");
    }
    let spared = tokio::time::timeout(LONG, another.requested()).await;
    assert!(spared.is_err(), "another controller's has ended");
    stand.tunnel.want(false);
    spare.is_retired().await;
    assert!(!first.retire.is_cancelled(), "its stream keeps it");
    first.says(member::Event::StreamEnded).await;
    first.is_retired().await;
    assert!(matches!(stand.told().await, Event::Streams(0)));
}

#[tokio::test(start_paused = true)]
async fn only_a_connection_that_lasted_ends_the_backing_off() {
    let mut stand = Stand::new();
    stand.tunnel.want(true);
    let mut waited = Duration::ZERO;
    let mut began = Instant::now();
    // A proxy that accepts and closes is no success, however often it does.
    for _ in 0..40 {
        let seat = stand.dialled().await;
        waited += began.elapsed();
        seat.says(member::Event::Up(forwards(61333))).await;
        assert_opened(&stand.told().await, 61333);
        seat.says(down("closed")).await;
        assert!(matches!(stand.told().await, Event::Lost { silent: false }));
        began = Instant::now();
    }
    // With jitter the mean is a half of the bound; were each a success, it would be 40 times a quarter of a second.
    assert!(waited > 10 * LAST_RETRY, "{waited:?}");
    let seat = stand.dialled().await;
    seat.says(member::Event::Up(forwards(61333))).await;
    assert_opened(&stand.told().await, 61333);
    tokio::time::sleep(LASTING).await;
    seat.says(down("closed")).await;
    assert!(matches!(stand.told().await, Event::Lost { silent: false }));
    let lost = Instant::now();
    stand.dialled().await;
    assert!(lost.elapsed() <= FIRST_REDIAL, "{:?}", lost.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_changed_plan_brings_new_connections_and_leaves_streams_alone() {
    let (mut stand, busy, spare) = Stand::with_a_stream().await;
    let before = Arc::clone(&stand.tunnel.plan.lock().unwrap());
    let same = Plan {
        services: before.services.clone(),
        host_keys: vec![before.key.public_key().clone()],
        ..copy(&before)
    };
    stand.tunnel.replan(same);
    stand.is_quiet().await;
    let other = Plan {
        port: 61444,
        ..copy(&before)
    };
    stand.tunnel.replan(other);
    let fresh = stand.dialled().await;
    spare.is_retired().await;
    let retired = tokio::time::timeout(LONG, busy.retire.cancelled()).await;
    assert!(retired.is_ok(), "it goes after its stream");
    fresh.says(member::Event::Up(forwards(61444))).await;
    assert_opened(&stand.told().await, 61444);
    busy.says(member::Event::StreamEnded).await;
    assert!(matches!(stand.told().await, Event::Streams(0)));
    busy.says(member::Event::Retired).await;
    stand.is_quiet().await;
}

fn copy(plan: &Plan) -> Plan {
    Plan {
        device: plan.device.clone(),
        proxy: plan.proxy.clone(),
        host_keys: plan.host_keys.clone(),
        key: Arc::clone(&plan.key),
        port: plan.port,
        services: plan.services.clone(),
        builtin: plan.builtin.clone(),
        always_on: plan.always_on,
    }
}
