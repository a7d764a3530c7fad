//! Certificates, authorities and policies that change while the broker runs: nobody is dropped but those who have to be.

use std::fs;
use std::sync::Arc;

use broker::Limits;
use policies::RoleDocument;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, SubscribeReasonCode};
use rustls::ClientConfig;

use crate::files::{Files, server};
use crate::raw::{Raw, kept};
use crate::world::{Authority, Identity, World, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";
const OTHER: &str = "334.hula.atlas";

/// A client that trusts `server` and shows a certificate.
async fn open(world: &World, server: &Authority, identity: &Identity) -> Option<Raw> {
    let tls: Arc<ClientConfig> = server.client(Some(identity));
    Raw::open(world.address, tls).await.ok()
}

async fn connected(world: &World, server: &Authority, identity: &Identity, id: &str) -> Raw {
    let mut raw = open(world, server, identity).await.unwrap();
    raw.connect(id).await;
    raw
}

/// With TLS 1.3 a client learns only with its first read that it is refused.
async fn is_let_in(world: &World, identity: &Identity, id: &str) -> bool {
    let Some(mut raw) = open(world, &world.authority, identity).await else {
        return false;
    };
    raw.send(Packet::Connect(rumqttc::mqttbytes::v4::Connect::new(id)))
        .await;
    matches!(raw.next().await, Some(Packet::ConnAck(_)))
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_broken_one_is_not() {
    let (files, world) = Files::serve(Limits::default());
    let next = Authority::new("next");
    let identity = world.authority.device(DEVICE);
    let mut there = world.client(OTHER).await;

    files.certificate("rubbish");
    world
        .until("rubbish is refused", |count| count.reload_failures == 1)
        .await;
    // The old one is still shown, and so is it while certificate and key do not belong together.
    connected(&world, &world.authority, &identity, DEVICE).await;
    let new = server(&next);
    files.certificate(&new.certificate);
    world
        .until("half of a pair is refused", |count| {
            count.reload_failures == 2
        })
        .await;
    connected(&world, &world.authority, &identity, DEVICE).await;
    files.key(&new.key);
    world
        .until("the pair is used", |count| count.reloads == 1)
        .await;
    connected(&world, &next, &identity, DEVICE).await;
    assert!(open(&world, &world.authority, &identity).await.is_none());
    there.quiet().await;
    world.stop().await;
}

#[tokio::test]
async fn an_authority_that_comes_drops_nobody_and_one_that_goes_drops_its_own() {
    let (files, world) = Files::serve(Limits::default());
    let second = Authority::new("second");
    let (own, others) = (world.authority.device(DEVICE), second.device(OTHER));
    let first = world.authority.pem();
    assert!(!is_let_in(&world, &others, OTHER).await);
    let mut old = connected(&world, &world.authority, &own, DEVICE).await;

    files.trust(&format!("{first}{}", second.pem()));
    world.until("both count", |count| count.reloads == 1).await;
    let mut new = connected(&world, &world.authority, &others, OTHER).await;
    old.quiet().await;

    files.trust("rubbish");
    world
        .until("rubbish is refused", |count| count.reload_failures == 1)
        .await;
    old.quiet().await;
    new.quiet().await;

    files.trust(&second.pem());
    world
        .until("the first one's has gone", |count| count.distrusted == 1)
        .await;
    old.closed().await;
    new.quiet().await;
    assert!(!is_let_in(&world, &own, DEVICE).await);
    world.stop().await;
}

/// An authority with a new key and its old name: nobody can say whose certificates the connected ones are, so that they
/// have to show them again.
#[tokio::test]
async fn an_authority_with_a_new_key_lets_nobody_stay_by_its_name() {
    let (files, world) = Files::serve(Limits::default());
    let again = Authority::new("atlas");
    let both = format!("{}{}", world.authority.pem(), again.pem());
    files.trust(&both);
    world.until("both count", |count| count.reloads == 1).await;
    let (old, new) = (world.authority.device(DEVICE), again.device(OTHER));
    let old_one = connected(&world, &world.authority, &old, DEVICE).await;
    let new_one = connected(&world, &world.authority, &new, OTHER).await;
    files.trust(&again.pem());
    world
        .until("both have gone", |count| count.distrusted == 2)
        .await;
    old_one.closed().await;
    new_one.closed().await;
    assert!(is_let_in(&world, &new, OTHER).await);
    assert!(!is_let_in(&world, &old, DEVICE).await);
    world.stop().await;
}

#[tokio::test]
async fn policies_take_back_what_they_gave_and_from_nobody_else() {
    let (files, world) = Files::serve(Limits::default());
    let mut device = world.client(DEVICE).await;
    let mut controller = world.raw(CONTROLLER).await;
    controller.connect_with(kept(CONTROLLER)).await.unwrap();
    let granted = controller.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    assert_eq!(granted, SubscribeReasonCode::Success(QoS::AtLeastOnce));

    let own = files.policies().join("tunnel.controller.json");
    let bundled = RoleDocument::Controller.json();
    let narrow = bundled.replace("*/tunnel/presence", "334/tunnel/presence");
    assert_ne!(narrow, bundled);
    fs::write(&own, &narrow).unwrap();
    world
        .until("the controller has to go", |count| count.forbidden == 1)
        .await;
    controller.closed().await;
    device
        .publish(&presence(333), QoS::AtLeastOnce, true, "x")
        .await;
    device.quiet().await;

    // Its session is kept, and has lost the filter: nothing is delivered, and a new SUBSCRIBE is refused.
    let mut controller = world.raw(CONTROLLER).await;
    assert_eq!(controller.connect_with(kept(CONTROLLER)).await, Ok(true));
    controller.quiet().await;
    assert_eq!(
        controller.subscribe(&presence("+"), QoS::AtLeastOnce).await,
        SubscribeReasonCode::Failure
    );
    let narrower = controller.subscribe(&presence(334), QoS::AtLeastOnce).await;
    assert_eq!(narrower, SubscribeReasonCode::Success(QoS::AtLeastOnce));

    fs::write(&own, "{}").unwrap();
    world
        .until("what is no policy is refused", |count| {
            count.reload_failures == 1
        })
        .await;
    controller.quiet().await;

    // The program's own would permit more.
    fs::remove_file(&own).unwrap();
    world
        .until("one that has gone decides on", |count| {
            count.reload_failures == 2
        })
        .await;
    let granted = controller.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    assert_eq!(granted, SubscribeReasonCode::Failure);
    fs::write(&own, bundled).unwrap();
    world
        .until("the same as the program's decide", |count| {
            count.reloads == 2
        })
        .await;
    controller.quiet().await;
    controller
        .subscribe_all(&[(&presence("+"), QoS::AtLeastOnce)])
        .await;
    assert_eq!(controller.text().await, "x");
    // Where a connection may not be at all, it ends.
    fs::write(
        files.policies().join("tunnel.target.json"),
        RoleDocument::Target
            .json()
            .replace("iot:Connect", "iot:Receive")
            .replace(":client/", ":topic/"),
    )
    .unwrap();
    world
        .until("the device has to go", |count| count.forbidden == 2)
        .await;
    device.closed().await;
    controller.quiet().await;
    world.stop().await;
}

#[tokio::test]
async fn who_asks_does_not_wait() {
    let (files, world) = Files::serve(Limits::default());
    let mut there = world.client(DEVICE).await;
    files.bell.ring();
    world
        .until("all three groups are read", |count| count.reloads == 3)
        .await;
    there.quiet().await;
    assert_eq!(world.count().reload_failures, 0);
    world.stop().await;
}
