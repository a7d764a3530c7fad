//! The realm's own services on the bus.

use broker::{Limits, Message, Qos, TopicFilter, TopicName};
use protocol::{Epoch, Presence};
use rumqttc::mqttbytes::QoS;
use tokio::time::timeout;

use crate::raw::with_will;
use crate::world::{Authority, PATIENCE, World, config, presence};

const DEVICE: &str = "333.hula.atlas";

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
    // Its filter asks for this one too, but it may hear only controllers: each delivery is decided as well.
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await;
    for (sender, text) in [("stranger", "no"), ("controller-a", "yes")] {
        let topic = TopicName::parse(&format!("atlas/hula/333/tunnel/control/{sender}")).unwrap();
        service
            .publish(&Message::new(
                topic,
                text.as_bytes(),
                Qos::AtLeastOnce,
                false,
            ))
            .unwrap();
    }
    assert_eq!(device.text().await, "yes");
    assert_eq!(world.count().withheld, 1);
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
            proxy: None,
            controllers: Vec::new(),
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
            proxy: None,
            controllers: Vec::new(),
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
