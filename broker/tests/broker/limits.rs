//! Each limit at its edge: what just fits is served, and what is one more is refused or cut, and nobody else is.

use std::time::Duration;

use broker::{Limits, TopicFilter, TopicName};
use protocol::limits::{MAX_PAYLOAD, MAX_TOPIC, MAX_TOPIC_LEVELS};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Login, Packet, PubAck, SubscribeReasonCode,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::raw::{Raw, kept};
use crate::world::{PATIENCE, World, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";
const WITNESS: &str = "witness.hula.atlas";

#[tokio::test]
async fn connections_of_one_address() {
    let world = World::with(Limits {
        connections_per_address: 3,
        ..Limits::default()
    });
    let mut there = Vec::new();
    for number in 0..3 {
        there.push(world.client(&format!("d{number}.hula.atlas")).await);
    }
    assert_eq!(
        ended(TcpStream::connect(world.address).await.unwrap()).await,
        0
    );
    assert_eq!(world.count().refused_address, 1);
    // Another address has its own share.
    let mut other = from("127.0.0.2", &world).await;
    assert!(
        timeout(SOON, other.read(&mut [0])).await.is_err(),
        "it is open"
    );
    there.pop().unwrap().disconnect().await;
    // Its task has ended some moments after the connection.
    let again = loop {
        let tls = world
            .authority
            .client(Some(&world.authority.device(DEVICE)));
        if let Ok(raw) = Raw::open(world.address, tls).await {
            break raw;
        }
    };
    there.push(again);
    there[2].connect(DEVICE).await;
    for client in &mut there {
        client.quiet().await;
    }
}

#[tokio::test]
async fn connections_in_all() {
    let world = World::with(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    // One address has all of them: here nobody makes room for another.
    let _silent = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(ended(from("127.0.0.3", &world).await).await, 0);
    assert_eq!(world.count().refused_connections, 1);
    witness.quiet().await;
}

#[tokio::test]
async fn the_connect_deadline() {
    let world = World::with(Limits {
        greeting: Duration::from_secs(5),
        ..Limits::default()
    });
    let start = Instant::now();
    let (mut early, late) = (world.raw(DEVICE).await, world.raw(WITNESS).await);
    sleep_until(start + Duration::from_secs(1)).await;
    early.connect(DEVICE).await;
    late.closed().await;
    assert!(
        start.elapsed() >= Duration::from_secs(5),
        "not before its time"
    );
    early.quiet().await;
    assert_eq!(world.count().greetings_failed, 1);
}

/// The largest packet there can be, which only a CONNECT with a large user name is.
#[tokio::test]
async fn the_size_of_a_packet() {
    let world = World::start();
    let largest = MAX_PAYLOAD + MAX_TOPIC + 2 * 1024;
    // Before the user name: protocol, level, flags, keepalive, client id, and the lengths of all three texts.
    let fields = 10 + 2 + DEVICE.len() + 2 + 2;
    for (size, fits) in [(largest, true), (largest + 1, false)] {
        let mut connect = Connect::new(DEVICE);
        let username = "u".repeat(size - fields - 1);
        connect.login = Some(Login::new(username, "p"));
        let mut client = world.raw(DEVICE).await;
        client.send(Packet::Connect(connect)).await;
        let answer = client.next().await;
        assert_eq!(answer.is_some(), fits, "{size}: {answer:?}");
    }
    assert_eq!(world.count().malformed, 1);
}

#[test]
fn the_length_and_the_levels_of_a_topic() {
    let long = "x".repeat(MAX_TOPIC);
    let deep = ["x"; MAX_TOPIC_LEVELS].join("/");
    for fits in [&long, &deep] {
        assert!(TopicName::parse(fits).is_ok() && TopicFilter::parse(fits).is_ok());
    }
    for one_more in [long + "x", deep + "/"] {
        assert!(TopicName::parse(&one_more).is_err() && TopicFilter::parse(&one_more).is_err());
    }
}

#[tokio::test]
async fn subscriptions_of_one_session() {
    let world = World::with(Limits {
        subscriptions: 2,
        ..Limits::default()
    });
    let mut controller = world.client(CONTROLLER).await;
    let (good, failed) = (
        SubscribeReasonCode::Success(QoS::AtLeastOnce),
        SubscribeReasonCode::Failure,
    );
    for (device, answer) in [(1, good), (2, good), (3, failed), (2, good)] {
        let filter = presence(device);
        assert_eq!(
            controller.subscribe(&filter, QoS::AtLeastOnce).await,
            answer
        );
    }
    controller.unsubscribe(&presence(1)).await;
    let again = controller.subscribe(&presence(3), QoS::AtLeastOnce).await;
    assert_eq!(again, good);
}

#[tokio::test]
async fn refused_filters_of_one_connection() {
    let world = World::with(Limits {
        refused_filters: 3,
        ..Limits::default()
    });
    let mut device = world.client(DEVICE).await;
    for _ in 0..4 {
        device.quiet().await;
        let answer = device.subscribe("#", QoS::AtMostOnce).await;
        assert_eq!(answer, SubscribeReasonCode::Failure);
    }
    device.closed().await;
    assert_eq!(world.count().refused_filters, 4);
}

#[tokio::test]
async fn messages_in_flight() {
    let world = World::with(Limits {
        inflight: 2,
        ..Limits::default()
    });
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence(333), QoS::AtLeastOnce).await;
    let mut device = world.client(DEVICE).await;
    for text in ["1", "2", "3"] {
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, text)
            .await;
    }
    let first = controller.unacknowledged().await;
    controller.unacknowledged().await;
    controller.quiet().await;
    controller
        .send(Packet::PubAck(PubAck { pkid: first.pkid }))
        .await;
    assert_eq!(controller.text().await, "3");
}

#[tokio::test]
async fn the_queue_of_one_session() {
    let world = World::with(Limits {
        queue_messages: 3,
        ..Limits::default()
    });
    let mut controller = world.raw(CONTROLLER).await;
    controller.connect_with(kept(CONTROLLER)).await.unwrap();
    controller.subscribe(&presence(333), QoS::AtLeastOnce).await;
    controller.disconnect().await;
    let mut device = world.client(DEVICE).await;
    for text in ["1", "2", "3", "4"] {
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, text)
            .await;
    }
    let queues = world.counters.queues();
    assert_eq!(
        (
            queues.sessions,
            queues.messages,
            queues.longest,
            world.count().dropped
        ),
        (1, 3, 3, 1)
    );
    let mut controller = world.raw(CONTROLLER).await;
    controller.connect_with(kept(CONTROLLER)).await.unwrap();
    for text in ["1", "2", "3"] {
        assert_eq!(controller.text().await, text);
    }
    controller.quiet().await;
}

/// Slowed first, and nothing of what it says is lost; then cut, when it does not stop; and a new connection is no new burst.
#[tokio::test]
async fn requests_of_one_device() {
    const BURST: u32 = 400;
    let world = World::with(Limits {
        rate: 40,
        burst: BURST,
        flood: Duration::from_secs(2),
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let start = Instant::now();
    let mut device = world.client(DEVICE).await;
    for _ in 0..10 {
        device.quiet().await;
    }
    assert_eq!(world.count().slowed, 0, "the burst is free");
    // 40 for its CONNECT, 10, and 11 for each of these: as many as it takes on this machine, and four that wait.
    let (mut published, mut waiting) = (0, 4);
    while waiting > 0 {
        if world.count().slowed > 0 {
            waiting -= 1;
        }
        let text = published.to_string();
        device
            .publish(&presence(333), QoS::AtLeastOnce, true, &text)
            .await;
        published += 1;
        assert!(start.elapsed() < PATIENCE, "never slowed");
    }
    // The last one is served as soon as all before it are paid for but for the burst.
    let earned = (40 + 10 + 11 * (published - 1)) - BURST;
    assert!(
        start.elapsed() >= Duration::from_millis(25) * earned,
        "{:?} for {earned} tokens",
        start.elapsed()
    );
    assert_eq!(world.count().published, u64::from(published));
    // All at once now: what is not read yet waits in the link.
    for _ in 0..1_000 {
        device.bytes(b"\xc0\x00").await;
    }
    world
        .until("the flood is cut", |count| count.floods == 1)
        .await;
    device.rest().await;
    let mut again = world.raw(DEVICE).await;
    let refused = again.connect_with(Connect::new(DEVICE)).await;
    assert_eq!(refused, Err(ConnectReturnCode::ServiceUnavailable));
    assert_eq!(world.count().refused_floods, 1);
    witness.quiet().await;
    assert_eq!(world.count().connected, 1);
}

/// Two connections of one device that take each other over, and a will each time: nobody does that for long.
#[tokio::test]
async fn connections_of_one_device() {
    let world = World::with(Limits {
        rate: 1,
        burst: 200,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let mut there = Vec::new();
    let refused = loop {
        let mut raw = world.raw(DEVICE).await;
        match raw.connect_with(Connect::new(DEVICE)).await {
            Ok(_) => there.push(raw),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, ConnectReturnCode::ServiceUnavailable);
    // 200 tokens, and as many that it may owe; each CONNECT is 40.
    assert!((11..=12).contains(&there.len()), "{}", there.len());
    witness.quiet().await;
}

/// The largest messages as fast as one device can: a subscriber that reads 1 MiB a second stays.
#[tokio::test]
async fn the_bytes_of_one_device() {
    let world = World::start();
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence(333), QoS::AtMostOnce).await;
    let mut device = world.client(DEVICE).await;
    let large = "x".repeat(MAX_PAYLOAD - 100);
    let start = Instant::now();
    for _ in 0..100 {
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, &large)
            .await;
    }
    // 16 tokens each, of which 960 were there.
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    for _ in 0..100 {
        assert_eq!(controller.text().await.len(), large.len());
    }
    controller.quiet().await;
    assert_eq!(world.count().slow, 0);
}

/// A connection from another address of this machine.
async fn from(address: &str, world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    socket.connect(world.address).await.unwrap()
}

/// How many bytes come until the broker closes.
async fn ended(mut stream: TcpStream) -> usize {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("it is closed")
        .ok();
    rest.len()
}

const SOON: Duration = Duration::from_millis(300);
