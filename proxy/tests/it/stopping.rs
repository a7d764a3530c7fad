//! A proxy that stops.

use proxy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::openssh::connect_through;
use crate::stream::{ends_cleanly, open};
use crate::world::{LONG, World};

#[tokio::test]
async fn streams_get_the_grace_period_and_the_idle_do_not_wait() {
    let mut world = World::with_grace(10 * LONG).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let idle = world.dial("333.hula.atlas", key.clone()).await.unwrap();
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.ping().await;
    world.shutdown.request();
    timeout(LONG, idle.flow().dead()).await.unwrap();
    stream.ping().await;
    // Nobody new is let in, whether or not the kernel still answers.
    assert!(world.dial("333.hula.atlas", key).await.is_err());
    stream.pipe.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(LONG, stream.pipe.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    ends_cleanly(stream.ended).await;
    timeout(LONG, controller.flow().dead())
        .await
        .expect("ends with its stream");
    world.end().await;
}

#[tokio::test]
async fn what_goes_on_after_the_grace_period_is_cut() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.ping().await;
    world.shutdown.request();
    let ended = timeout(LONG, stream.ended).await.unwrap().unwrap();
    assert!(!ended.is_clean(), "{ended:?}");
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_is_let_finish_gets_nothing_new() {
    let mut world = World::with_grace(10 * LONG).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.ping().await;
    world.shutdown.request();
    world.until("stopping", |stats| stats.waiting == 0).await;
    let start = Instant::now();
    let refused = loop {
        // Until the proxy has heard of it.
        match open(&controller, "localhost", port).await {
            Ok(opened) => drop(opened),
            Err(refused) => break refused,
        }
        assert!(start.elapsed() < LONG, "streams are opened all the same");
    };
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: the proxy is stopping"
    );
    stream.ping().await;
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn a_stream_that_waits_does_not_hold_the_end_up() {
    let world = World::with_grace(10 * LONG).await;
    world.key("controller.hula.atlas");
    let socket = world.home.path().join("forwarded");
    let mut ssh = world.ssh("controller.hula.atlas");
    ssh.args(["-N", "-L", &format!("{}:333:22", socket.display())]);
    let _ssh = ssh.arg("127.0.0.1").spawn().unwrap();
    let _asked = connect_through(&socket).await;
    world.until("waiting", |stats| stats.waiting == 1).await;
    world.end().await;
}

#[tokio::test]
async fn garbage_is_closed_at_once() {
    // Not because its time is over.
    let world = World::with(Limits {
        auth_deadline: 100 * LONG,
        ..Limits::default()
    })
    .await;
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"SSH-1.5-old\r\n",
        &[0xff; 4096],
    ] {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        // This side stays open.
        let _ = socket.write_all(garbage).await;
        let mut all = Vec::new();
        let _ = timeout(LONG, socket.read_to_end(&mut all))
            .await
            .expect("not closed");
    }
    world.end().await;
}
