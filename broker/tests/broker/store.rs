//! What outlives the broker: retained messages, and the wills of those who do not come back.

use std::path::Path;
use std::time::Duration;

use broker::{BindError, Broker, Limits, StoreError};
use protocol::{Epoch, Presence};
use rumqttc::mqttbytes::QoS;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::raw::{Raw, with_will};
use crate::world::{Authority, World, config, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";

/// A window that does not end while the test runs, or at once.
const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(1);

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn start(authority: Authority, store: &Path, window: Duration) -> World {
    let limits = Limits {
        reconnect_window: window,
        ..Limits::default()
    };
    let mut config = config(&authority, &authority.pem(), limits);
    config.store = Some(store.join("store"));
    let broker = Broker::bind(config).unwrap();
    World::of(authority, broker)
}

/// Ends the broker in an orderly way and starts another one in its place.
async fn restart(world: World, store: &Path, window: Duration) -> World {
    let (authority, _) = world.stop_and_keep().await;
    start(authority, store, window)
}

async fn device_online(world: &World) -> Raw {
    let mut device = world.raw(DEVICE).await;
    device
        .connect_with(with_will(DEVICE, &presence(333), &said(false)))
        .await
        .unwrap();
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, &said(true))
        .await;
    device
}

/// What a newcomer sees of 333.
async fn seen(world: &World) -> String {
    watcher(world).await.1
}

async fn watcher(world: &World) -> (Raw, String) {
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence(333), QoS::AtLeastOnce).await;
    let message = controller.message().await;
    assert!(message.retain);
    let text = String::from_utf8(message.payload.to_vec()).unwrap();
    (controller, text)
}

fn said(online: bool) -> String {
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
}

#[tokio::test]
async fn retained_messages_survive_and_deleted_ones_stay_deleted() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    for (number, qos) in [
        (0, QoS::AtLeastOnce),
        (1, QoS::AtMostOnce),
        (2, QoS::AtLeastOnce),
    ] {
        let mut device = world.client(&format!("{number}.hula.atlas")).await;
        let topic = presence(number);
        device.publish(&topic, qos, true, "1").await;
        if number == 2 {
            device.publish(&topic, qos, true, "").await;
        }
        device.disconnect().await;
    }
    let world = restart(world, home.path(), LONG).await;
    assert_eq!(world.count().retained_messages, 2);
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    for (number, qos) in [(0, QoS::AtLeastOnce), (1, QoS::AtMostOnce)] {
        let message = controller.message().await;
        assert_eq!(
            (message.topic, message.qos, message.retain),
            (presence(number), qos, true)
        );
    }
    controller.quiet().await;
}

#[tokio::test]
async fn a_device_that_is_not_back_yet_is_not_online_and_nobody_is_told_that_it_is_lost() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let device = device_online(&world).await;
    assert_eq!(seen(&world).await, said(true));
    let world = restart(world, home.path(), LONG).await;
    drop(device);
    let (mut controller, first) = watcher(&world).await;
    assert_eq!(first, said(false));
    assert_eq!((world.count().held_wills, *world.roster.borrow()), (1, 0));
    let device = device_online(&world).await;
    assert_eq!(controller.text().await, said(true));
    assert_eq!(seen(&world).await, said(true));
    assert_eq!((world.count().held_wills, world.count().wills), (0, 0));
    // Its new will is kept as the old one was.
    let world = restart(world, home.path(), SHORT).await;
    drop(device);
    world
        .until("it is given up", |count| count.wills == 1)
        .await;
    assert_eq!(seen(&world).await, said(false));
}

#[tokio::test]
async fn a_device_that_does_not_come_back_is_lost_when_the_window_is_over() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let device = device_online(&world).await;
    // Who watches is there before it ends.
    let window = Duration::from_secs(5);
    let world = restart(world, home.path(), window).await;
    drop(device);
    let (mut controller, first) = watcher(&world).await;
    assert_eq!(first, said(false));
    // The event, after the state.
    let will = controller.message().await;
    assert_eq!(
        (&will.payload[..], will.retain),
        (said(false).as_bytes(), false)
    );
    let world = restart(world, home.path(), LONG).await;
    assert_eq!(world.count().held_wills, 0);
    assert_eq!(seen(&world).await, said(false));
}

#[tokio::test]
async fn a_device_that_said_goodbye_is_as_it_said() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let mut device = device_online(&world).await;
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, "ended")
        .await;
    device.disconnect().await;
    let world = restart(world, home.path(), SHORT).await;
    assert_eq!(world.count().held_wills, 0);
    assert_eq!(seen(&world).await, "ended");
}

/// It has said neither that it is there nor that it goes since the broker is new.
#[tokio::test]
async fn a_device_that_comes_back_and_says_nothing_is_lost_and_stays_it() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let device = device_online(&world).await;
    let world = restart(world, home.path(), LONG).await;
    drop(device);
    let mut device = world.raw(DEVICE).await;
    device
        .connect_with(with_will(DEVICE, &presence(333), &said(false)))
        .await
        .unwrap();
    assert_eq!(seen(&world).await, said(false));
    device.disconnect().await;
    world
        .until("it has left", |count| count.connected == 0)
        .await;
    assert_eq!(seen(&world).await, said(false));
    let world = restart(world, home.path(), SHORT).await;
    assert_eq!(seen(&world).await, said(false));
    assert_eq!(world.count().wills, 0, "it had said goodbye");
}

#[tokio::test]
async fn what_changes_nothing_costs_the_disk_nothing() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let mut device = world.client(DEVICE).await;
    let topic = presence(333);
    device.publish(&topic, QoS::AtLeastOnce, true, "1").await;
    let before = world.count().store_commits;
    for _ in 0..20 {
        device.publish(&topic, QoS::AtLeastOnce, true, "1").await;
    }
    let mut other = world.client("334.hula.atlas").await;
    for _ in 0..20 {
        other
            .publish(&presence(334), QoS::AtLeastOnce, true, "")
            .await;
    }
    assert_eq!(world.count().store_commits, before);
    device.publish(&topic, QoS::AtLeastOnce, true, "2").await;
    assert_eq!(world.count().store_commits, before + 1);
}

/// All at once: the disk is asked a few times and not a thousand.
#[tokio::test]
async fn many_publishers_share_a_transaction() {
    const DEVICES: usize = 200;
    const ROUNDS: usize = 10;
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        devices.push(world.client(&format!("{number}.hula.atlas")).await);
    }
    let before = world.count().store_commits;
    let mut publishing = JoinSet::new();
    for (number, mut device) in devices.into_iter().enumerate() {
        publishing.spawn(async move {
            for round in 0..ROUNDS {
                let (topic, text) = (presence(number), round.to_string());
                device.publish(&topic, QoS::AtLeastOnce, true, &text).await;
            }
        });
    }
    publishing.join_all().await;
    let commits = world.count().store_commits - before;
    assert!(
        commits * 4 < (DEVICES * ROUNDS) as u64,
        "{commits} transactions for {} messages",
        DEVICES * ROUNDS
    );
    let world = restart(world, home.path(), LONG).await;
    let mut controller = world.client(CONTROLLER).await;
    controller.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    for _ in 0..DEVICES {
        assert_eq!(controller.text().await, (ROUNDS - 1).to_string());
    }
}

#[tokio::test]
async fn two_brokers_on_one_store_are_refused() {
    let home = home();
    let world = start(Authority::new("atlas"), home.path(), LONG);
    let mut config = config(&world.authority, &world.authority.pem(), Limits::default());
    config.store = Some(home.path().join("store"));
    let Err(error) = Broker::bind(config) else {
        panic!("two brokers have one store")
    };
    assert!(
        matches!(error, BindError::Store(StoreError::InUse { .. })),
        "{error:?}"
    );
    assert!(error.hint().is_some());
    // When the first has gone it is free.
    restart(world, home.path(), LONG).await.stop().await;
}
