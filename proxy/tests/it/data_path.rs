//! Bytes: all of them, in order, in both directions, whoever stands still meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use daemon::splice::{self, SpliceLimits, Why};
use daemon::ssh_client::{Dialed, SILENCE_LIMIT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::stream::{Bulk, Stream, both_ways, ends_cleanly, fill, open, receive, send};
use crate::world::{LONG, World, times, until_logged};

const MIB: u64 = 1024 * 1024;

/// The port of a computer whose agent has this many connections, each for any of its streams.
async fn pooled(world: &mut World, links: usize, service: SocketAddr) -> u16 {
    let (key, mut port) = (world.key("333.hula.atlas"), 0);
    for _ in 0..links {
        port = world
            .agent("333.hula.atlas", &key, "localhost", port, service)
            .await;
    }
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_duplex_between_own_peers() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    for _ in 0..times(1) {
        let stream = open(&controller, "localhost", port).await.unwrap();
        both_ways(stream, 512 * MIB).await;
        world.until("closed", |stats| stats.streams == 0).await;
    }
    drop(controller);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_full_duplex_streams_in_one_connection() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    for _ in 0..times(1) {
        // Together, so that they wait for a spare together.
        let asked = (0..6).map(|_| open(&controller, "localhost", port));
        let opened = futures_util::future::join_all(asked).await;
        assert_eq!((world.stats().members, world.stats().streams), (1, 6));
        let streams = opened
            .into_iter()
            .map(|stream| both_ways(stream.unwrap(), 8 * MIB));
        futures_util::future::join_all(streams).await;
        world.until("closed", |stats| stats.streams == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_is_kept() {
    let mut world = World::new().await;
    // Answers only after the end of the question.
    let late = world
        .service(|mut socket| async move {
            let (mut read, mut write) = socket.split();
            let mut question = Vec::new();
            read.read_to_end(&mut question).await.unwrap();
            send(&mut write, MIB + question.len() as u64).await;
        })
        .await;
    let key = world.key("333.hula.atlas");
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, late)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.pipe.write_all(&[0; 1000]).await.unwrap();
    stream.pipe.shutdown().await.unwrap();
    timeout(LONG, receive(&mut stream.pipe, MIB + 1000))
        .await
        .expect("no answer");
    ends_cleanly(stream.ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_end_of_file_does_not_end_what_we_still_send() {
    let mut world = World::new().await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    // Says goodbye first, and goes on listening.
    let early = world
        .service(move |mut socket| {
            let sender = sender.clone();
            async move {
                socket.shutdown().await.unwrap();
                receive(&mut socket, MIB).await;
                sender.send(()).await.unwrap();
            }
        })
        .await;
    let key = world.key("333.hula.atlas");
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, early)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    assert_eq!(
        timeout(LONG, stream.pipe.read(&mut [0]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    send(&mut stream.pipe, MIB).await;
    timeout(LONG, receiver.recv()).await.unwrap().unwrap();
    ends_cleanly(stream.ended).await;
}

/// Opens a stream, has fifty words come back, and says how long the median and the last but one of them took.
async fn pings(controller: &Dialed, port: u16, beside: &str) {
    let mut stream = open(controller, "localhost", port).await.unwrap();
    stream.pipe.write_all(b"e").await.unwrap();
    let mut times = Vec::new();
    for _ in 0..50 {
        times.push(stream.ping().await);
    }
    times.sort_unstable();
    println!("beside {beside}: p50 {:?}, p98 {:?}", times[25], times[48]);
    assert!(times[49] < Duration::from_secs(10), "slow: {times:?}");
    drop(stream.pipe);
    ends_cleanly(stream.ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_does_not_read_disturbs_nobody_and_gets_its_bytes_later() {
    const COUNT: u64 = 96 * MIB;
    let mut world = World::new().await;
    let bulk = Bulk::start(&mut world, COUNT).await;
    let port = pooled(&mut world, 2, bulk.address).await;
    let lazy = world.controller("controller-lazy.hula.atlas").await;
    let busy = world.controller("controller-busy.hula.atlas").await;
    for round in 1..=times(1) {
        pings(&busy, port, "nothing").await;
        let mut stalled = open(&lazy, "localhost", port).await.unwrap();
        stalled.pipe.write_all(b"s").await.unwrap();
        let so_far = (round - 1) as u64 * COUNT;
        bulk.is_full(round as u64, so_far + COUNT).await;
        pings(&busy, port, "a controller that does not read").await;
        let Stream { mut pipe, ended } = stalled;
        timeout(LONG, receive(&mut pipe, COUNT))
            .await
            .expect("it never resumes");
        pipe.shutdown().await.unwrap();
        ends_cleanly(ended).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stands_still_is_not_taken_for_dead_by_anybody() {
    const COUNT: u64 = 96 * MIB;
    let mut world = World::new().await;
    let source = world
        .service(|mut socket| async move { send(&mut socket, COUNT).await })
        .await;
    let key = world.key("333.hula.atlas");
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, source)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    // Controller, proxy and agent all pause, for longer than a silent peer is allowed to be.
    sleep(SILENCE_LIMIT + Duration::from_secs(3)).await;
    assert_eq!((world.stats().members, world.stats().streams), (1, 1));
    timeout(LONG, receive(&mut stream.pipe, COUNT))
        .await
        .expect("it never resumes");
    stream.pipe.shutdown().await.unwrap();
    ends_cleanly(stream.ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_read_stops_its_sender_only() {
    let mut world = World::new().await;
    let bulk = Bulk::start(&mut world, 0).await;
    let port = pooled(&mut world, 2, bulk.address).await;
    for round in 0..times(1) {
        let sender = world
            .controller(&format!("controller-a{round}.hula.atlas"))
            .await;
        let mut stream = open(&sender, "localhost", port).await.unwrap();
        stream.pipe.write_all(b"d").await.unwrap();
        fill(&mut stream.pipe).await;
        let other = world
            .controller(&format!("controller-b{round}.hula.atlas"))
            .await;
        pings(&other, port, "a target that does not read").await;
        // The target still does not read when the controller has gone: the stream ends all the same.
        drop(stream);
        drop(sender);
        world.until("released", |stats| stats.streams == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_broken_off_leaves_the_member_as_it_was() {
    let mut world = World::new().await;
    let endless = world
        .service(|mut socket| async move {
            let chunk = vec![0; 64 * 1024];
            while socket.write_all(&chunk).await.is_ok() {}
        })
        .await;
    let key = world.key("333.hula.atlas");
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, endless)
        .await;
    for _ in 0..5 {
        let controller = world.controller("controller.hula.atlas").await;
        let mut stream = open(&controller, "localhost", port).await.unwrap();
        let mut some = vec![0; 4 * 1024 * 1024];
        timeout(LONG, stream.pipe.read_exact(&mut some))
            .await
            .unwrap()
            .unwrap();
        stream.ended.abort();
        drop(controller);
        world.until("released", |stats| stats.streams == 0).await;
    }
    assert_eq!((world.stats().members, world.stats().tunnels), (1, 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_at_the_far_end_ends_the_stream_while_our_input_is_open() {
    let mut world = World::new().await;
    let reset = world
        .service(|mut socket| async move {
            socket.read_exact(&mut [0]).await.unwrap();
            socket.set_zero_linger().unwrap();
        })
        .await;
    let key = world.key("333.hula.atlas");
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, reset)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.pipe.write_all(b"x").await.unwrap();
    let ended = timeout(LONG, stream.ended).await.unwrap().unwrap();
    assert!(!ended.is_clean(), "{ended:?}");
    world.until("released", |stats| stats.streams == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_member_is_told_as_a_loss_and_not_as_the_end() {
    let mut world = World::new().await;
    let relay = Relay::to(&mut world).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let direct = world.address;
    world.address = relay.address;
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    world.address = direct;
    let controller = world.controller("controller.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.ping().await;
    // No FIN, no RST: the link is simply silent from now on.
    relay.cut.cancel();
    let start = tokio::time::Instant::now();
    let ended = timeout(LONG, stream.ended).await.unwrap().unwrap();
    assert!(!ended.is_clean(), "{ended:?}");
    let noticed = start.elapsed();
    println!("noticed after {noticed:?}");
    // And what a busy machine adds.
    assert!(noticed <= 2 * SILENCE_LIMIT, "{noticed:?}");
    world.until("gone", |stats| stats.members == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_members_the_silent_ones_are_noticed_and_no_others() {
    const EACH: usize = 20;
    let mut world = World::new().await;
    let relay = Relay::to(&mut world).await;
    let direct = world.address;
    // All before the first login, so that the proxy reads them at once.
    let ids: Vec<String> = (0..2 * EACH).map(|n| format!("d{n}.hula.atlas")).collect();
    let keys: Vec<_> = ids.iter().map(|id| world.key(id)).collect();
    let mut members = Vec::new();
    for (number, (id, key)) in ids.iter().zip(keys).enumerate() {
        world.address = if number % 2 == 0 {
            relay.address
        } else {
            direct
        };
        let member = world.dial(id, key).await.unwrap();
        member.request_forward("localhost", 0, LONG).await.unwrap();
        members.push(member);
    }
    world
        .until("all there", |stats| stats.members == 2 * EACH)
        .await;
    relay.cut.cancel();
    let start = tokio::time::Instant::now();
    world.until("half", |stats| stats.members == EACH).await;
    let noticed = start.elapsed();
    println!("{EACH} silent ones noticed after {noticed:?}");
    let speak = members.iter().skip(1).step_by(2);
    assert!(speak.into_iter().all(|member| !member.flow().is_dead()));
    drop(members);
    world.end().await;
}

#[tokio::test]
async fn a_splice_that_is_ended_from_outside_closes_its_stream_at_once() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller.hula.atlas").await;
    let mut other = open(&controller, "localhost", port).await.unwrap();
    let end = controller.open("localhost", port, LONG).await.unwrap();
    world.until("open", |stats| stats.streams == 2).await;
    let (_near, far) = tokio::io::duplex(1024);
    let (mut read, mut write) = tokio::io::split(far);
    let token = tokio_util::sync::CancellationToken::new();
    let splice = Box::pin(splice::local_until(
        end,
        &mut read,
        &mut write,
        SpliceLimits::default(),
        token.cancelled(),
    ));
    // Neither side says anything, nor ends.
    let (ended, ()) = timeout(LONG, async {
        tokio::join!(splice, async {
            tokio::task::yield_now().await;
            token.cancel();
        })
    })
    .await
    .expect("it goes on");
    assert!(matches!(ended.why, Why::Cancelled), "{ended:?}");
    assert!(!ended.is_clean());
    world.until("closed", |stats| stats.streams == 1).await;
    other.ping().await;
}

#[tokio::test]
async fn the_end_of_a_stream_has_its_bytes_and_its_reason() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = world.controller("controller-counts.hula.atlas").await;
    let mut stream = open(&controller, "localhost", port).await.unwrap();
    stream.ping().await;
    stream.pipe.shutdown().await.unwrap();
    ends_cleanly(stream.ended).await;
    let line = until_logged(&["stream ended", "controller-counts"]).await;
    for part in ["up=4", "down=4", "333.hula.atlas", "reason="] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(
        line.contains("finished") || line.contains("closed by"),
        "{line}"
    );
}

/// A link that can be cut.
struct Relay {
    address: SocketAddr,
    cut: tokio_util::sync::CancellationToken,
}

impl Relay {
    async fn to(world: &mut World) -> Self {
        let cut = tokio_util::sync::CancellationToken::new();
        let (proxy, token) = (world.address, cut.clone());
        let address = world
            .service(move |mut near| {
                let token = token.clone();
                async move {
                    let mut far = TcpStream::connect(proxy).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = token.cancelled() => std::future::pending().await,
                    }
                }
            })
            .await;
        Self { address, cut }
    }
}
