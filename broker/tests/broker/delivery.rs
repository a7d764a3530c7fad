//! Messages from one client to others, and retained ones.

use broker::Limits;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::SubscribeReasonCode::{Failure, Success};

use crate::world::{World, presence};

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
