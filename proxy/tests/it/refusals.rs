//! Who may not do what, and what they are told.

use std::fs;
use std::time::Duration;

use daemon::ssh_client::{DialError, RequestError, dial};
use proxy::Limits;
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::stream::open;
use crate::world::{LONG, World, quick, told_by_ssh};

#[tokio::test]
async fn unknown_and_forbidden_look_the_same() {
    let mut world = World::with(quick()).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let stranger = world.controller("controller.lono.atlas").await;
    let mut answers = Vec::new();
    for (host, port) in [
        ("333.hula.atlas", 22),
        ("333.hula", 22),
        ("nobody.hula.atlas", 22),
        ("333", 22),
        ("nobody", 22),
        ("localhost", port),
        ("localhost", 1),
    ] {
        let start = Instant::now();
        let refused = open(&stranger, host, port).await.err().unwrap();
        assert!(
            start.elapsed() >= quick().forward_wait,
            "{host}:{port} was answered at once"
        );
        answers.push(refused.to_string());
    }
    answers.dedup();
    assert_eq!(
        answers,
        ["the proxy refuses it: there is no such tunnel, or it is not for you"]
    );
}

#[tokio::test]
async fn each_role_keeps_to_its_half() {
    let world = World::with(quick()).await;
    let controller = world.controller("controller.hula.atlas").await;
    let refused = controller
        .request_forward("localhost", 0, LONG)
        .await
        .unwrap_err();
    assert!(matches!(refused, RequestError::Refused { .. }), "{refused}");
    let target = world
        .dial("333.hula.atlas", world.key("333.hula.atlas"))
        .await
        .unwrap();
    target.request_forward("333", 22, LONG).await.unwrap();
    assert!(
        target.request_forward("334", 22, LONG).await.is_err(),
        "another's name"
    );
    assert!(
        target
            .request_forward("example.org", 22, LONG)
            .await
            .is_err()
    );
    let refused = target.open("333", 22, LONG).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: there is no such tunnel, or it is not for you"
    );
}

#[tokio::test]
async fn a_key_counts_for_its_own_system_only() {
    let world = World::new().await;
    let key = world.key("333.hula.atlas");
    for (user, key) in [
        ("lono", key),
        ("hula", world.strangers_key("334.hula.atlas")),
    ] {
        let refused = world.dial_as(user, key).await.unwrap_err();
        assert!(matches!(refused, DialError::Refused { .. }), "{refused}");
        assert!(refused.hint().is_some());
    }
}

#[tokio::test]
async fn another_host_key_is_refused_with_both_fingerprints() {
    let world = World::new().await;
    let key = world.key("333.hula.atlas");
    let other = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let pinned = other.public_key().fingerprint(russh::keys::HashAlg::Sha256);
    let proxy = world.address.to_string();
    let refused = dial(&proxy, "hula", key, &[other.public_key().clone()], LONG)
        .await
        .unwrap_err();
    let got = world.host_key.fingerprint(russh::keys::HashAlg::Sha256);
    assert_eq!(
        refused.to_string(),
        format!("proxy `{proxy}` presented host key {got}, expected {pinned}")
    );
}

#[tokio::test]
async fn a_host_key_is_needed_to_listen() {
    let world = World::new().await;
    let config = world.config(vec![]);
    let refused = proxy::Proxy::bind(config).await.unwrap_err();
    assert_eq!(refused.to_string(), "a proxy needs a host key");
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    assert!(proxy::Proxy::bind(world.config(vec![key])).await.is_ok());
}

#[tokio::test]
async fn a_new_key_works_at_once_and_a_withdrawn_one_ends_its_connections() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.ping().await;
    fs::remove_file(world.public_path("controller.hula.atlas")).unwrap();
    timeout(LONG, controller.flow().dead())
        .await
        .expect("still connected");
    let ended = timeout(LONG, stream.ended).await.unwrap().unwrap();
    assert!(!ended.is_clean(), "{ended:?}");
    world
        .until("left alone", |stats| {
            stats.streams == 0 && stats.members == 1
        })
        .await;
    fs::remove_file(world.public_path("333.hula.atlas")).unwrap();
    world.until("empty", |stats| stats.connections == 0).await;
    assert!(world.dial("333.hula.atlas", key).await.is_err());
}

#[tokio::test]
async fn silent_and_slow_strangers_are_cut_and_do_not_take_all_places() {
    let limits = Limits {
        auth_deadline: Duration::from_secs(3),
        unauthenticated_per_address: 4,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let key = world.key("333.hula.atlas");
    let start = Instant::now();
    let mut strangers = Vec::new();
    for number in 0..5 {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        if number % 2 == 0 {
            // Half a packet that announces 256 KiB.
            let _ = socket.write_all(b"SSH-2.0-x\r\n\x00\x03\xff\xff\x00").await;
        }
        strangers.push(socket);
    }
    let mut banner = Vec::new();
    let _ = strangers.pop().unwrap().read_to_end(&mut banner).await;
    let told = String::from_utf8_lossy(&banner);
    assert!(
        told.contains("too many connections of its address"),
        "the fifth was let in: {told}"
    );
    for mut socket in strangers {
        let mut all = Vec::new();
        let _ = timeout(LONG, socket.read_to_end(&mut all))
            .await
            .expect("not cut");
    }
    assert!(start.elapsed() >= limits.auth_deadline);
    world.dial("333.hula.atlas", key).await.unwrap();
}

#[tokio::test]
async fn a_device_has_so_many_connections_and_the_others_stay() {
    let limits = Limits {
        connections_per_target: 2,
        connections_per_controller: 1,
        ..quick()
    };
    let mut world = World::with(limits).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    for _ in 0..2 {
        world
            .agent("333.hula.atlas", &key, "localhost", 20_000, echo)
            .await;
    }
    let controller_key = world.key("controller.hula.atlas");
    let controller = world
        .dial("controller.hula.atlas", controller_key.clone())
        .await
        .unwrap();
    for (id, key) in [
        ("333.hula.atlas", key),
        ("controller.hula.atlas", controller_key),
    ] {
        let surplus = world.dial(id, key).await.unwrap();
        let forward = surplus.request_forward("localhost", 0, LONG).await;
        assert!(forward.is_err(), "{id}");
        timeout(LONG, surplus.flow().dead()).await.expect("stays");
    }
    world
        .until("as before", |stats| {
            (stats.connections, stats.members) == (3, 2)
        })
        .await;
    let mut stream = open(&controller, "localhost", 20_000).await.unwrap();
    stream.ping().await;
    // Its place is free again.
    controller.disconnect("test").await;
    world.until("gone", |stats| stats.connections == 2).await;
    let again = world
        .dial("334.hula.atlas", world.key("334.hula.atlas"))
        .await
        .unwrap();
    again.request_forward("localhost", 0, LONG).await.unwrap();
    let told = told_by_ssh(&world, "333.hula.atlas").await;
    assert!(
        told.contains("too many connections of this device"),
        "{told}"
    );
}
