//! Peers by the thousand that are silent, slow, or gone without a word, and one that behaves and should not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::Limits;
use daemon::descriptors::raise_limit;
use rumqttc::mqttbytes::QoS;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::raw::Raw;
use crate::world::{World, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";

/// 2,400 peers: 700 that say nothing, 700 that stop in the middle of a handshake, 600 that send a byte now and then, and 400
/// that are connected, subscribed, and never read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_dead_and_slow_peers_do_not_stop_one_that_behaves() {
    // Both ends of each are here.
    raise_limit(8_000);
    let world = World::with(Limits {
        // Nobody is to leave before the end.
        greeting: Duration::from_mins(5),
        write: Duration::from_mins(5),
        ..Limits::default()
    });
    let mut other = world.client("334.hula.atlas").await;
    let mut pair = Pair::new(&world).await;
    let before = pair.round_trips(ROUNDS).await;

    let mut dead = Vec::new();
    for number in 0..1_400 {
        let mut stream = stranger(&world, number).await;
        if number % 2 == 1 {
            stream.write_all(HALF_A_HELLO).await.unwrap();
        }
        dead.push(stream);
    }
    let mut slow = Vec::new();
    for number in 1_400..2_000 {
        slow.push(stranger(&world, number).await);
    }
    let mut unread = Vec::new();
    for number in 0..UNREAD {
        let id = format!("controller-{number}.hula.atlas");
        let tls = world.authority.client(Some(&world.authority.device(&id)));
        let mut raw = Raw::narrow(world.address, tls).await.unwrap();
        raw.connect(&id).await;
        raw.subscribe(&presence(OTHER), QoS::AtMostOnce).await;
        unread.push(raw);
    }
    world
        .until("all are there", |count| {
            count.accepted == 2_003 + UNREAD && count.connected == 3 + UNREAD
        })
        .await;

    // What the kernels take of it they have soon; the rest is the broker's.
    let text = "x".repeat(16_000);
    let mut sent = 0;
    while world.counters.queues().sessions < UNREAD {
        assert!(sent < 250, "they read: {:?}", world.counters.queues());
        let topic = presence(OTHER);
        other.publish(&topic, QoS::AtLeastOnce, false, &text).await;
        sent += 1;
    }
    println!("messages until all are stalled: {sent}");

    let done = AtomicBool::new(false);
    let dribble = async {
        let mut sent = 0;
        while !done.load(Ordering::Relaxed) {
            for stream in &mut slow {
                // One byte of a TLS record that is announced as 512 long.
                let byte = HALF_A_HELLO.get(sent).unwrap_or(&0);
                stream.write_all(&[*byte]).await.unwrap();
            }
            // The 400 are sent what they do not read.
            if sent % 10 == 0 {
                other
                    .publish(&presence(OTHER), QoS::AtLeastOnce, false, &text)
                    .await;
            }
            sent += 1;
            sleep(Duration::from_millis(20)).await;
        }
        sent
    };
    let behaving = async {
        let during = pair.round_trips(ROUNDS).await;
        // A newcomer gets in too.
        let start = Instant::now();
        world.client("newcomer.hula.atlas").await.quiet().await;
        done.store(true, Ordering::Relaxed);
        (during, start.elapsed())
    };
    let (sent, (during, newcomer)) = tokio::join!(dribble, behaving);
    println!("round trips of QoS 1, alone:     {}", told(&before));
    println!("  with 2,400 dead and slow ones: {}", told(&during));
    println!("a newcomer is connected after {newcomer:?}; bytes of each slow one: {sent}");
    assert!(sent > 0, "the slow ones were there");
    // Generous: other work runs beside this. A peer that stopped the others would do so for minutes.
    let (p50, p99) = (place(&during, 50), place(&during, 99));
    assert!(
        p50 < place(&before, 50) * 20 + Duration::from_secs(1),
        "{p50:?}"
    );
    assert!(p99 < Duration::from_secs(20), "{p99:?}");
    assert!(newcomer < Duration::from_secs(20), "{newcomer:?}");
    let count = world.count();
    assert_eq!(
        (
            count.greetings_failed,
            count.refused_full,
            count.refused_address
        ),
        (0, 0, 0)
    );
    assert!(world.counters.queues().sessions >= UNREAD);
    assert!(count.connected >= 3 + UNREAD, "nobody has been cut");
    drop((dead, slow, unread));
    world
        .until("all have left", |count| {
            count.connected == 3 && count.greetings_failed == 2_000
        })
        .await;
    pair.round_trips(1).await;
}

/// A device, and a controller that watches it.
struct Pair {
    device: Raw,
    controller: Raw,
}

impl Pair {
    async fn new(world: &World) -> Self {
        let mut controller = world.client(CONTROLLER).await;
        controller.subscribe(&presence(333), QoS::AtLeastOnce).await;
        Self {
            device: world.client(DEVICE).await,
            controller,
        }
    }

    /// From a PUBLISH to its PUBACK and its delivery, sorted.
    async fn round_trips(&mut self, count: usize) -> Vec<Duration> {
        let mut took = Vec::with_capacity(count);
        for number in 0..count {
            let text = number.to_string();
            let start = Instant::now();
            self.device
                .publish(&presence(333), QoS::AtLeastOnce, false, &text)
                .await;
            assert_eq!(self.controller.text().await, text);
            took.push(start.elapsed());
            // Less than any client is slowed for.
            sleep(Duration::from_millis(5)).await;
        }
        took.sort_unstable();
        took
    }
}

/// From one of sixteen addresses, so that no address has more than its share.
async fn stranger(world: &World, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let address = format!("127.0.1.{}:0", 1 + number % 16);
    socket.bind(address.parse().unwrap()).unwrap();
    socket.connect(world.address).await.unwrap()
}

fn place(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn told(sorted: &[Duration]) -> String {
    let [p50, p99, max] = [50, 99, 100].map(|percent| place(sorted, percent));
    format!("p50 {p50:?}, p99 {p99:?}, longest {max:?}")
}

/// A TLS record that is announced and does not come.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01";

const OTHER: u32 = 334;

const UNREAD: u64 = 400;

const ROUNDS: usize = 300;
