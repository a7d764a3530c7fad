//! Several connections of one device serve one port.

use std::time::Duration;

use daemon::ssh_client::RequestError;
use proxy::Limits;
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout};

use crate::stream::{ends_cleanly, open};
use crate::world::{LONG, World, quick};

#[tokio::test]
async fn a_stream_goes_by_port_and_by_name() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    for (host, port) in [
        ("localhost", port),
        ("127.0.0.1", port),
        ("333", 22),
        ("333.hula.atlas", 22),
    ] {
        let mut stream = open(&controller, host, port).await.unwrap();
        stream.ping().await;
        drop(stream.pipe);
        ends_cleanly(stream.ended).await;
        world.until("closed", |stats| stats.streams == 0).await;
    }
    assert_eq!((world.stats().members, world.stats().tunnels), (1, 1));
    drop(controller);
    world.end().await;
}

#[tokio::test]
async fn each_stream_has_a_connection_to_itself_and_then_they_share() {
    let limits = Limits {
        share_wait: Duration::from_secs(5),
        ..Limits::default()
    };
    let mut world = World::with(limits).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    assert_eq!(
        world
            .agent("333.hula.atlas", &key, "localhost", port, echo)
            .await,
        port
    );
    let controller = world.controller("controller.hula.atlas").await;
    let start = Instant::now();
    let mut first = open(&controller, "localhost", port).await.unwrap();
    let mut second = open(&controller, "localhost", port).await.unwrap();
    assert!(start.elapsed() < limits.share_wait, "two idle members");
    let mut third = open(&controller, "localhost", port).await.unwrap();
    assert!(
        start.elapsed() >= limits.share_wait,
        "a spare was waited for"
    );
    for stream in [&mut first, &mut second, &mut third] {
        stream.ping().await;
    }
    assert_eq!((world.stats().members, world.stats().streams), (2, 3));
    let waiting = open(&controller, "localhost", port);
    let spare = async {
        tokio::task::yield_now().await;
        let dialed = world.dial("333.hula.atlas", key.clone()).await.unwrap();
        dialed
            .request_forward("localhost", port, LONG)
            .await
            .unwrap();
        (dialed, Instant::now())
    };
    let start = Instant::now();
    let (fourth, (mut spare, _)) = tokio::join!(waiting, async {
        let (mut dialed, at) = spare.await;
        let stream = timeout(LONG, dialed.forwarded.recv())
            .await
            .unwrap()
            .unwrap();
        drop(stream.accept().await);
        (dialed, at)
    });
    fourth.unwrap();
    assert!(
        start.elapsed() < limits.share_wait,
        "the spare is taken when it comes"
    );
    assert!(spare.forwarded.try_recv().is_err());
}

#[tokio::test]
async fn a_member_that_does_not_open_is_passed_over() {
    let limits = Limits {
        open_deadline: Duration::from_secs(3),
        ..Limits::default()
    };
    let mut world = World::with(limits).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    // The latest is asked first, and never answers.
    let deaf = world.dial("333.hula.atlas", key).await.unwrap();
    deaf.request_forward("localhost", port, LONG).await.unwrap();
    let controller = world.controller("controller.hula.atlas").await;
    open(&controller, "localhost", port)
        .await
        .unwrap()
        .ping()
        .await;
    assert!(!deaf.forwarded.is_empty(), "it was asked");
}

#[tokio::test]
async fn members_that_do_not_open_cost_one_deadline_together() {
    let limits = Limits {
        open_deadline: Duration::from_secs(3),
        stream_deadline: Duration::from_secs(5),
        ..quick()
    };
    let world = World::with(limits).await;
    let key = world.key("333.hula.atlas");
    let mut deaf = Vec::new();
    for _ in 0..limits.tries {
        let dialed = world.dial("333.hula.atlas", key.clone()).await.unwrap();
        dialed
            .request_forward("localhost", 20_000, LONG)
            .await
            .unwrap();
        deaf.push(dialed);
    }
    let controller = world.controller("controller.hula.atlas").await;
    let start = Instant::now();
    let refused = open(&controller, "localhost", 20_000).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: the device does not answer"
    );
    assert!(start.elapsed() >= limits.stream_deadline);
    let each = u32::try_from(limits.tries).unwrap() * limits.open_deadline;
    assert!(start.elapsed() < each, "{:?}", start.elapsed());
    let asked = deaf.iter().filter(|dialed| !dialed.forwarded.is_empty());
    assert_eq!(asked.count(), 2, "the second had what was left");
}

#[tokio::test]
async fn a_service_that_is_down_is_told_apart_from_a_device_that_is_not_there() {
    let mut world = World::with(quick()).await;
    let key = world.key("333.hula.atlas");
    // Bound, so that nobody else gets the port, and never listening.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = silent.local_addr().unwrap();
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, nobody)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let refused = open(&controller, "localhost", port).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: the device cannot reach its service"
    );
}

#[tokio::test]
async fn a_stream_waits_for_a_forward_that_is_on_its_way() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let controller = world.controller("controller.hula.atlas").await;
    let ((), opened) = tokio::join!(
        async {
            world
                .agent("333.hula.atlas", &key, "localhost", 0, echo)
                .await;
        },
        open(&controller, "333", 22)
    );
    opened.unwrap().ping().await;
}

#[tokio::test]
async fn a_port_is_one_devices_and_comes_back_to_it() {
    let mut world = World::with(quick()).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let dialed = world.dial("333.hula.atlas", key.clone()).await.unwrap();
    let port = dialed.request_forward("localhost", 0, LONG).await.unwrap();
    let other = world
        .dial("334.hula.atlas", world.key("334.hula.atlas"))
        .await
        .unwrap();
    let refused = other
        .request_forward("localhost", port, LONG)
        .await
        .unwrap_err();
    assert!(matches!(refused, RequestError::Refused { .. }), "{refused}");
    let lono = world
        .dial("334.lono.atlas", world.key("334.lono.atlas"))
        .await
        .unwrap();
    assert_eq!(
        lono.request_forward("localhost", port, LONG).await.unwrap(),
        port,
        "another system's"
    );
    dialed.disconnect("test").await;
    world.until("gone", |stats| stats.members == 1).await;
    assert!(
        other
            .request_forward("localhost", port, LONG)
            .await
            .is_err(),
        "kept"
    );
    assert_eq!(
        world
            .agent("333.hula.atlas", &key, "localhost", 0, echo)
            .await,
        port
    );
    let again = world.dial("333.hula.atlas", key).await.unwrap();
    again
        .request_forward("localhost", port, LONG)
        .await
        .unwrap();
    again.cancel_forward("localhost", port, LONG).await.unwrap();
    assert!(again.cancel_forward("localhost", port, LONG).await.is_err());
}
