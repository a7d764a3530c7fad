//! Messages from one client to others, retained ones, and those who do not read.

use std::time::Duration;

use broker::{Limits, Message, Qos, TopicFilter, TopicName};
use protocol::{Epoch, Presence};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::SubscribeReasonCode::{Failure, Success};
use tokio::time::{Instant, timeout};

use crate::raw::with_will;
use crate::world::{Authority, PATIENCE, World, config, presence, wait_until};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";
const ORDER: &str = "atlas/hula/333/tunnel/control/controller-a";
const REPLY: &str = "atlas/hula/controller-a/tunnel/reply/333";

#[tokio::test]
async fn orders_and_replies_go_both_ways() {
    let world = World::start();
    let (mut controller, mut device) = (world.client(CONTROLLER).await, world.client(DEVICE).await);
    controller
        .subscribe("atlas/hula/controller-a/tunnel/reply/+", QoS::AtLeastOnce)
        .await;
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await;
    for number in 0..100 {
        controller
            .publish(ORDER, QoS::AtLeastOnce, false, &format!("order {number}"))
            .await;
        let order = device.message().await;
        assert_eq!(
            (order.topic.as_str(), order.qos, order.dup, order.retain),
            (ORDER, QoS::AtLeastOnce, false, false)
        );
        assert_eq!(order.payload, format!("order {number}"));
        device
            .publish(REPLY, QoS::AtLeastOnce, false, "reply")
            .await;
        assert_eq!(controller.text().await, "reply");
    }
}

/// More than the window of unacknowledged messages, so that acknowledgements move it; all in order.
#[tokio::test]
async fn a_window_moves_with_its_acknowledgements() {
    let world = World::with(Limits {
        inflight: 4,
        ..Limits::default()
    });
    let (mut controller, mut device) = (world.client(CONTROLLER).await, world.client(DEVICE).await);
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await;
    for number in 0..50 {
        controller
            .publish(ORDER, QoS::AtLeastOnce, false, &number.to_string())
            .await;
    }
    for number in 0..50 {
        assert_eq!(device.text().await, number.to_string());
    }
    device.quiet().await;
}

/// MQTT-3.3.1-5 to -12, MQTT-3.8.4-3
#[tokio::test]
async fn retained_messages() {
    let world = World::start();
    let (mut controller, mut device) = (world.client(CONTROLLER).await, world.client(DEVICE).await);
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, "one")
        .await;
    // Each subscription gets it anew, with the flag; also one that was there before.
    for _ in 0..2 {
        assert_eq!(
            controller.subscribe(&presence("+"), QoS::AtLeastOnce).await,
            Success(QoS::AtLeastOnce)
        );
        let message = controller.message().await;
        assert_eq!(
            (&message.payload[..], message.retain, message.dup),
            (&b"one"[..], true, false)
        );
    }
    // Those who are subscribed get it without.
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, "two")
        .await;
    let message = controller.message().await;
    assert_eq!((&message.payload[..], message.retain), (&b"two"[..], false));
    // An empty message without the flag deletes nothing, and one without the flag replaces nothing.
    device
        .publish(&presence(333), QoS::AtLeastOnce, false, "")
        .await;
    device
        .publish(&presence(333), QoS::AtLeastOnce, false, "three")
        .await;
    assert_eq!(
        (controller.text().await, controller.text().await),
        (String::new(), "three".to_owned())
    );
    controller.subscribe(&presence(333), QoS::AtMostOnce).await;
    let message = controller.message().await;
    assert_eq!(
        (&message.payload[..], message.qos),
        (&b"two"[..], QoS::AtMostOnce)
    );
    // An empty one with the flag does, and is delivered as well.
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, "")
        .await;
    assert_eq!(controller.text().await, "");
    controller.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    controller.quiet().await;
    assert_eq!(
        (
            world.count().retained_messages,
            world.count().retained_bytes
        ),
        (0, 0)
    );
}

/// MQTT-3.3.5-1: one copy, of the highest `QoS` of all that match.
#[tokio::test]
async fn overlapping_subscriptions_give_one_message() {
    let world = World::start();
    let (mut controller, mut device) = (world.client(CONTROLLER).await, world.client(DEVICE).await);
    let filters = [
        (presence(333), QoS::AtMostOnce),
        (presence("+"), QoS::AtLeastOnce),
        ("atlas/hula/+/+/presence".to_owned(), QoS::AtMostOnce),
    ];
    let filters: Vec<_> = filters
        .iter()
        .map(|(filter, qos)| (filter.as_str(), *qos))
        .collect();
    let codes = controller.subscribe_all(&filters).await;
    // The last is wider than the policy's words.
    assert_eq!(
        codes,
        [Success(QoS::AtMostOnce), Success(QoS::AtLeastOnce), Failure]
    );
    device
        .publish(&presence(333), QoS::AtLeastOnce, false, "x")
        .await;
    assert_eq!(controller.message().await.qos, QoS::AtLeastOnce);
    device
        .publish(&presence(333), QoS::AtMostOnce, false, "y")
        .await;
    assert_eq!(controller.message().await.qos, QoS::AtMostOnce);
    controller.quiet().await;
}

#[tokio::test]
async fn qos_2_is_granted_as_1_and_cannot_be_published() {
    let world = World::start();
    let mut device = world.client(DEVICE).await;
    let code = device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::ExactlyOnce)
        .await;
    assert_eq!(code, Success(QoS::AtLeastOnce));
    device
        .publish_unanswered(&presence(333), QoS::ExactlyOnce, false, "x")
        .await;
    device.closed().await;
}

/// MQTT-3.10.4-4, MQTT-3.10.4-5
#[tokio::test]
async fn unsubscribing_is_always_answered() {
    let world = World::start();
    let (mut controller, mut device) = (world.client(CONTROLLER).await, world.client(DEVICE).await);
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await;
    device
        .subscribe("atlas/hula/333/tunnel/control", QoS::AtLeastOnce)
        .await;
    device.unsubscribe("never/subscribed").await;
    device
        .unsubscribe(&format!("too/long/{}", "x".repeat(300)))
        .await;
    device.unsubscribe("atlas/hula/333/tunnel/control/+").await;
    controller
        .publish(ORDER, QoS::AtLeastOnce, false, "x")
        .await;
    controller
        .publish(
            "atlas/hula/333/tunnel/control",
            QoS::AtLeastOnce,
            false,
            "plain",
        )
        .await;
    assert_eq!(device.text().await, "plain");
    device.quiet().await;
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let world = World::with(Limits {
        subscriptions: 2,
        ..Limits::default()
    });
    let mut controller = world.client(CONTROLLER).await;
    for device in 0..2 {
        assert_eq!(
            controller
                .subscribe(&presence(device), QoS::AtLeastOnce)
                .await,
            Success(QoS::AtLeastOnce)
        );
    }
    assert_eq!(
        controller.subscribe(&presence(2), QoS::AtLeastOnce).await,
        Failure
    );
    assert_eq!(
        controller.subscribe(&presence(1), QoS::AtMostOnce).await,
        Success(QoS::AtMostOnce)
    );
    controller.unsubscribe(&presence(1)).await;
    assert_eq!(
        controller.subscribe(&presence(2), QoS::AtLeastOnce).await,
        Success(QoS::AtLeastOnce)
    );
}

#[tokio::test]
async fn a_full_store_of_retained_messages_ends_the_publisher() {
    let world = World::with(Limits {
        retained_messages: 1,
        ..Limits::default()
    });
    let mut first = world.client("1.hula.atlas").await;
    first
        .publish(&presence(1), QoS::AtLeastOnce, true, "x")
        .await;
    let mut second = world.client("2.hula.atlas").await;
    second
        .publish_unanswered(&presence(2), QoS::AtLeastOnce, true, "x")
        .await;
    // No PUBACK: it has not been kept.
    second.closed().await;
    first
        .publish(&presence(1), QoS::AtLeastOnce, true, "y")
        .await;
}

/// A subscriber that does not read costs a queue and then its connection; the other one's latency stays what it was.
#[tokio::test]
async fn a_slow_subscriber_costs_only_itself() {
    let limits = Limits {
        queue_messages: 200,
        write: Duration::from_mins(1),
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
    let mut worst = Duration::ZERO;
    let mut sent = 0;
    while world.count().slow == 0 {
        let start = Instant::now();
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, &payload)
            .await;
        assert_eq!(good.message().await.payload.len(), payload.len());
        worst = worst.max(start.elapsed());
        sent += 1;
        assert!(sent < 10_000, "the slow subscriber is never cut");
    }
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    good.quiet().await;
    // What the kernel had taken arrives, then the end; not all of it.
    let received = slow.rest().await.len() / payload.len();
    assert!(received < sent, "{received} of {sent}");
    assert_eq!(world.count().connected, 2);
}

/// Where the queue never overflows, the write deadline finds it.
#[tokio::test]
async fn a_subscriber_that_stops_reading_is_noticed() {
    let world = World::with(Limits {
        write: Duration::from_millis(300),
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

#[tokio::test]
async fn services_of_the_realm_hear_and_are_heard() {
    let authority = Authority::new("atlas");
    let broker =
        broker::Broker::bind(config(&authority, &authority.pem(), Limits::default())).unwrap();
    let mut service = broker.service("test").unwrap();
    service.subscribe(TopicFilter::parse("atlas/+/+/tunnel/state").unwrap());
    let world = World::of(authority, broker);
    let mut device = world.client(DEVICE).await;
    device
        .subscribe("atlas/hula/333/tunnel/control", QoS::AtLeastOnce)
        .await;
    device
        .publish(
            "atlas/hula/333/tunnel/state",
            QoS::AtLeastOnce,
            false,
            "connected",
        )
        .await;
    let heard = timeout(PATIENCE, service.next()).await.unwrap().unwrap();
    assert_eq!(heard.payload, "connected");
    let order = TopicName::parse("atlas/hula/333/tunnel/control").unwrap();
    service
        .publish(&Message::new(order, b"disconnect", Qos::AtLeastOnce, false))
        .unwrap();
    assert_eq!(device.text().await, "disconnect");
    // Services too reach only those who may receive it.
    service
        .publish(&Message::new(
            TopicName::parse(&presence(333)).unwrap(),
            b"x",
            Qos::AtLeastOnce,
            false,
        ))
        .unwrap();
    device.quiet().await;
}

#[tokio::test]
async fn the_roster_counts_who_is_online() {
    let world = World::start();
    let mut roster = world.roster.clone();
    assert_eq!(*roster.borrow(), 0);
    let encode = |online| {
        let presence = Presence {
            online,
            since: 1,
            lost: !online,
            version: "1".to_owned(),
            epoch: Epoch(1),
        };
        String::from_utf8(presence.encode()).unwrap()
    };
    let mut devices = Vec::new();
    for number in 0..20 {
        let id = format!("{number}.hula.atlas");
        let mut device = world.raw(&id).await;
        device
            .connect_with(with_will(&id, &presence(number), &encode(false)))
            .await
            .unwrap();
        device
            .publish(&presence(number), QoS::AtLeastOnce, true, &encode(true))
            .await;
        devices.push(device);
    }
    timeout(PATIENCE, roster.wait_for(|count| *count == 20))
        .await
        .expect("20 are counted")
        .unwrap();
    devices.truncate(5);
    timeout(PATIENCE, roster.wait_for(|count| *count == 5))
        .await
        .expect("5 are counted")
        .unwrap();
}

/// What does not fit on the way to the bus is told later, so that the count becomes right all the same.
#[tokio::test]
async fn the_roster_is_right_after_the_bus_was_full() {
    let world = World::with(Limits {
        bus_queue: 1,
        ..Limits::default()
    });
    let mut roster = world.roster.clone();
    let mut device = world.client(DEVICE).await;
    let encode = |online, since| {
        let presence = Presence {
            online,
            since,
            lost: false,
            version: "1".to_owned(),
            epoch: Epoch(1),
        };
        String::from_utf8(presence.encode()).unwrap()
    };
    for round in 0..200 {
        device
            .publish_unanswered(
                &presence(333),
                QoS::AtMostOnce,
                true,
                &encode(round % 2 == 0, round),
            )
            .await;
    }
    device.quiet().await;
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, &encode(true, 999))
        .await;
    timeout(PATIENCE, roster.wait_for(|count| *count == 1))
        .await
        .expect("it is counted")
        .unwrap();
    world
        .until("the bus was full", |count| count.bus_delayed > 0)
        .await;
    device.quiet().await;
    assert_eq!(*roster.borrow(), 1);
}
