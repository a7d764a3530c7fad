//! A proxy that stops.

use proxy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stream::{ends_cleanly, open};
use crate::world::{LONG, World};

#[tokio::test]
async fn streams_get_the_grace_period_and_the_idle_do_not_wait() {
    let mut world = World::new().await;
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
    timeout(world.shutdown.grace(), controller.flow().dead())
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
