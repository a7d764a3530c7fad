//! Those who do not read, and those who have much to read.

use std::time::Duration;

use broker::{Limits, Message, Qos, TopicName};
use rumqttc::mqttbytes::QoS;
use tokio::time::Instant;

use crate::raw::Raw;
use crate::world::{Authority, PATIENCE, World, config, presence, wait_until};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";

/// A subscriber that does not read costs a queue and then its connection; the other one's latency stays what it was.
#[tokio::test]
async fn a_slow_subscriber_costs_only_itself() {
    let limits = Limits {
        queue_messages: 200,
        write: Duration::from_mins(1),
        rate: 100_000,
        ..Limits::default()
    };
    let world = World::with(limits);
    let mut slow = world.raw("controller-slow.hula.atlas").await;
    slow.connect("controller-slow.hula.atlas").await;
    slow.subscribe(&presence(333), QoS::AtMostOnce).await;
    let mut good = world.client(CONTROLLER).await;
    good.subscribe(&presence(333), QoS::AtMostOnce).await;
    let mut device = world.client(DEVICE).await;
    let payload = "x".repeat(10_000);
    // Others who have nothing to do with it: their round trip before, and while it happens.
    let mut neighbours = (
        world.client("controller-b.other.atlas").await,
        world.client("1.other.atlas").await,
    );
    neighbours.0.subscribe(ELSEWHERE, QoS::AtLeastOnce).await;
    let mut before = Vec::new();
    for _ in 0..100 {
        before.push(round_trip(&mut neighbours).await);
    }
    let mut during = Vec::new();
    let mut worst = Duration::ZERO;
    let mut sent = 0;
    while world.count().slow == 0 {
        let start = Instant::now();
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, &payload)
            .await;
        assert_eq!(good.message().await.payload.len(), payload.len());
        worst = worst.max(start.elapsed());
        if during.len() < 400 {
            during.push(round_trip(&mut neighbours).await);
        }
        sent += 1;
        assert!(sent < 10_000, "the slow subscriber is never cut");
    }
    // Whoever waited for the one that does not read would do so for a minute.
    assert!(worst < Duration::from_secs(10), "{worst:?}");
    before.sort_unstable();
    during.sort_unstable();
    let (before, during) = (before[before.len() / 2], during[during.len() / 2]);
    println!("a neighbour's round trip: {before:?}, while somebody does not read {during:?}");
    assert!(
        during < before * 20 + Duration::from_secs(1),
        "{before:?} and {during:?}"
    );
    good.quiet().await;
    // What the kernel had taken arrives, then the end; not all of it.
    let received = slow.rest().await.len() / payload.len();
    assert!(received < sent, "{received} of {sent}");
    assert_eq!(world.count().connected, 4);
}

async fn round_trip((controller, device): &mut (Raw, Raw)) -> Duration {
    let start = Instant::now();
    device
        .publish(ELSEWHERE, QoS::AtLeastOnce, false, "x")
        .await;
    assert_eq!(controller.text().await, "x");
    start.elapsed()
}

const ELSEWHERE: &str = "atlas/other/1/tunnel/presence";

/// Where the queue never overflows, the write deadline finds it.
#[tokio::test]
async fn a_subscriber_that_stops_reading_is_noticed() {
    let world = World::with(Limits {
        write: Duration::from_millis(300),
        rate: 100_000,
        queue_bytes: usize::MAX,
        queue_messages: usize::MAX,
        ..Limits::default()
    });
    let mut slow = world.client(CONTROLLER).await;
    slow.subscribe(&presence(333), QoS::AtMostOnce).await;
    let mut device = world.client(DEVICE).await;
    let payload = "x".repeat(16_000);
    let start = Instant::now();
    while world.count().slow == 0 {
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, &payload)
            .await;
        assert!(start.elapsed() < PATIENCE, "never noticed");
    }
    assert_eq!(world.count().dropped, 0, "the queue was full before");
    device.quiet().await;
}

/// The retained messages of a large system are more than a queue may hold otherwise.
#[tokio::test]
async fn a_whole_systems_presence_fits() {
    let limits = Limits {
        queue_messages: 10,
        ..Limits::default()
    };
    let authority = Authority::new("atlas");
    let broker = broker::Broker::bind(config(&authority, &authority.pem(), limits)).unwrap();
    let mut service = broker.service("test").unwrap();
    let world = World::of(authority, broker);
    for device in 0..2_000 {
        let message = Message::new(
            TopicName::parse(&presence(device)).unwrap(),
            b"x",
            Qos::AtLeastOnce,
            true,
        );
        wait_until(
            || std::future::ready(((), service.publish(&message).is_ok())),
            "the bus has room",
        )
        .await;
    }
    world
        .until("all are retained", |count| count.retained_messages == 2_000)
        .await;
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    for _ in 0..2_000 {
        assert!(controller.message().await.retain);
    }
    controller.quiet().await;
}
