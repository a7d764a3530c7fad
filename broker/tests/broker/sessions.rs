//! Sessions, wills, takeover, keepalive and drain.

use std::time::Duration;

use broker::Limits;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck};
use tokio::time::{Instant, interval};

use crate::raw::{Raw, kept, with_will};
use crate::world::{PATIENCE, World, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";

/// A controller that sees the presence of 333.
async fn watcher(world: &World) -> Raw {
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence(333), QoS::AtLeastOnce).await;
    controller
}

async fn device_with_will(world: &World, payload: &str) -> Raw {
    let mut device = world.raw(DEVICE).await;
    device
        .connect_with(with_will(DEVICE, &presence(333), payload))
        .await
        .unwrap();
    device
}

/// Also MQTT-3.1.4-2; a well-known broker publishes the will of the new connection here.
#[tokio::test]
async fn a_takeover_publishes_the_old_will_before_anything_of_the_new_session() {
    let world = World::start();
    let mut controller = watcher(&world).await;
    let old = device_with_will(&world, "old").await;
    let mut new = device_with_will(&world, "new").await;
    new.publish(&presence(333), QoS::AtLeastOnce, true, "online")
        .await;
    old.closed().await;
    assert_eq!(controller.text().await, "old");
    assert_eq!(controller.text().await, "online");
    new.quiet().await;
    controller.quiet().await;
    drop(new);
    assert_eq!(controller.text().await, "new");
    assert_eq!(world.count().taken_over, 1);
}

#[tokio::test]
async fn a_will_follows_a_cut_socket_but_not_a_disconnect() {
    let world = World::start();
    let mut controller = watcher(&world).await;
    device_with_will(&world, "never").await.disconnect().await;
    drop(device_with_will(&world, "cut").await);
    let will = controller.message().await;
    assert_eq!((&will.payload[..], will.retain), (&b"cut"[..], false));
    // It was published with the retain flag, so that those who come later see it.
    let mut late = world.client("controller-b.hula.atlas").await;
    late.subscribe(&presence(333), QoS::AtLeastOnce).await;
    let will = late.message().await;
    assert_eq!((&will.payload[..], will.retain), (&b"cut"[..], true));
}

/// A protocol error is no DISCONNECT (MQTT-3.1.2-8).
#[tokio::test]
async fn a_will_follows_a_protocol_error() {
    let world = World::start();
    let mut controller = watcher(&world).await;
    let mut device = device_with_will(&world, "broken").await;
    device.bytes(b"\xf0\x00").await;
    assert_eq!(controller.text().await, "broken");
    device.closed().await;
}

#[tokio::test]
async fn a_drain_closes_everybody_and_publishes_no_will() {
    // Nobody's time is over before the broker has ended.
    let world = World::with(Limits {
        greeting: Duration::from_mins(5),
        ..Limits::default()
    });
    let mut controller = watcher(&world).await;
    let device = device_with_will(&world, "false").await;
    let silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    world
        .until("the silent one is met", |count| count.accepted == 3)
        .await;
    let counters = world.stop().await;
    assert_eq!(controller.next().await, None);
    device.closed().await;
    drop(silent);
    let count = counters.snapshot();
    assert_eq!((count.wills, count.connected), (0, 0));
}

#[tokio::test]
async fn a_kept_session_has_its_subscriptions_and_messages() {
    let world = World::start();
    let mut device = world.raw(DEVICE).await;
    assert_eq!(device.connect_with(kept(DEVICE)).await, Ok(false));
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await;
    device.disconnect().await;
    world
        .until("the device is away", |count| count.connected == 0)
        .await;
    let mut controller = world.client(CONTROLLER).await;
    for (qos, text) in [
        (QoS::AtMostOnce, "lost"),
        (QoS::AtLeastOnce, "first"),
        (QoS::AtLeastOnce, "second"),
    ] {
        controller
            .publish(
                "atlas/hula/333/tunnel/control/controller-a",
                qos,
                false,
                text,
            )
            .await;
    }
    let mut device = world.raw(DEVICE).await;
    assert_eq!(device.connect_with(kept(DEVICE)).await, Ok(true));
    assert_eq!(device.text().await, "first");
    assert_eq!(device.text().await, "second");
    device.quiet().await;
    // MQTT-3.1.2-6: a clean session forgets it.
    drop(device);
    device = world.raw(DEVICE).await;
    assert_eq!(device.connect_with(Connect::new(DEVICE)).await, Ok(false));
    controller
        .publish(
            "atlas/hula/333/tunnel/control/controller-a",
            QoS::AtLeastOnce,
            false,
            "x",
        )
        .await;
    device.quiet().await;
    drop(device);
    device = world.raw(DEVICE).await;
    assert_eq!(device.connect_with(kept(DEVICE)).await, Ok(false));
}

/// MQTT-4.4.0-1
#[tokio::test]
async fn what_was_not_acknowledged_comes_again_with_dup() {
    let world = World::start();
    let mut device = world.raw(DEVICE).await;
    device.connect_with(kept(DEVICE)).await.unwrap();
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await;
    let mut controller = world.client(CONTROLLER).await;
    for text in ["1", "2", "3"] {
        controller
            .publish(
                "atlas/hula/333/tunnel/control/controller-a",
                QoS::AtLeastOnce,
                false,
                text,
            )
            .await;
    }
    let mut first = Vec::new();
    for _ in 0..3 {
        let message = device.unacknowledged().await;
        assert!(!message.dup);
        first.push((message.pkid, message.payload));
    }
    device
        .send(Packet::PubAck(PubAck { pkid: first[1].0 }))
        .await;
    device.quiet().await;
    drop(device);
    let mut device = world.raw(DEVICE).await;
    assert_eq!(device.connect_with(kept(DEVICE)).await, Ok(true));
    for expected in [&first[0], &first[2]] {
        let message = device.message().await;
        assert!(message.dup);
        assert_eq!(&(message.pkid, message.payload), expected);
    }
    device.quiet().await;
    drop(device);
    let mut device = world.raw(DEVICE).await;
    device.connect_with(kept(DEVICE)).await.unwrap();
    device.quiet().await;
}

/// Being sent messages, and sending parts of a packet, are no signs of life (MQTT-3.1.2-24).
#[tokio::test]
async fn keepalive_counts_what_the_client_sends() {
    let world = World::start();
    let mut controller = world.client(CONTROLLER).await;
    let mut device = world.raw(DEVICE).await;
    let mut connect = Connect::new(DEVICE);
    connect.keep_alive = 1;
    device.connect_with(connect).await.unwrap();
    // Its last whole packet is this one.
    let heard = Instant::now();
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtMostOnce)
        .await;
    device.bytes(b"\x30\x7f").await;
    let mut ticks = interval(Duration::from_millis(100));
    let mut received = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                controller.publish("atlas/hula/333/tunnel/control/controller-a", QoS::AtMostOnce, false, "x").await;
                device.bytes(b"x").await;
            }
            packet = device.next() => match packet {
                Some(_) => received += 1,
                None => break,
            }
        }
        assert!(heard.elapsed() < PATIENCE);
    }
    let silence = heard.elapsed();
    assert!(
        silence > Duration::from_millis(1400),
        "closed after {silence:?}"
    );
    assert!(received > 0, "{received}");
    assert_eq!(world.count().silent, 1);
}

#[tokio::test]
async fn pings_keep_a_client_and_no_keepalive_is_still_bounded() {
    let world = World::with(Limits {
        idle: Duration::from_secs(6),
        ..Limits::default()
    });
    let mut quiet = world.raw("1.hula.atlas").await;
    let mut connect = Connect::new("1.hula.atlas");
    connect.keep_alive = 0;
    quiet.connect_with(connect).await.unwrap();
    let mut pinging = world.raw("2.hula.atlas").await;
    let mut connect = Connect::new("2.hula.atlas");
    connect.keep_alive = 3;
    pinging.connect_with(connect).await.unwrap();
    let closing = quiet.closed();
    tokio::pin!(closing);
    let mut ticks = interval(Duration::from_millis(300));
    loop {
        tokio::select! {
            () = &mut closing => break,
            _ = ticks.tick() => pinging.quiet().await,
        }
    }
    pinging.quiet().await;
    assert_eq!(world.count().silent, 1);
}

/// The late end of an old connection must reach neither its successor nor a stranger.
#[tokio::test]
async fn an_old_connection_that_lingers_does_no_harm() {
    let world = World::start();
    let mut controller = watcher(&world).await;
    let mut lingering = Vec::new();
    for round in 0..10 {
        // Each is kept open by its client after it has been taken over.
        lingering.push(device_with_will(&world, &round.to_string()).await);
    }
    let mut last = lingering.pop().unwrap();
    let mut stranger = world.client("444.hula.atlas").await;
    for round in 0..9 {
        assert_eq!(controller.text().await, round.to_string());
    }
    for mut old in lingering {
        // It may still try something in its old name.
        old.publish_unanswered(&presence(333), QoS::AtLeastOnce, true, "late")
            .await;
        drop(old);
    }
    world
        .until("they are gone", |count| count.connected == 3)
        .await;
    last.quiet().await;
    stranger.quiet().await;
    controller.quiet().await;
}
