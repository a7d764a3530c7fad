//! One authenticated connection that asks for everything it can think of.

use std::sync::Arc;

use russh::ChannelMsg;
use russh::client::{Config, Handle, Handler};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::stream::open;
use crate::world::{LONG, World, forget_log, logged, quick};

const MIB: usize = 1024 * 1024;

/// A client that believes everything.
struct Greedy;

impl Handler for Greedy {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn greedy(world: &World, id: &str) -> Handle<Greedy> {
    greedy_with(world, id, Config::default()).await
}

async fn greedy_with(world: &World, id: &str, config: Config) -> Handle<Greedy> {
    let key = world.key(id);
    let socket = TcpStream::connect(world.address).await.unwrap();
    let config = Arc::new(config);
    let mut handle = russh::client::connect_stream(config, socket, Greedy)
        .await
        .unwrap();
    let key = PrivateKeyWithHashAlg::new(key, None);
    let result = handle.authenticate_publickey("hula", key).await.unwrap();
    assert!(result.success());
    handle
}

/// What this process has allocated, client and proxy together. Not all that is resident: how much of the program's file is
/// follows from what the computer has cached.
pub(crate) fn allocated() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let size = line.and_then(|line| line.split_whitespace().next());
    size.unwrap().parse::<usize>().unwrap() * 1024
}

/// A login and a stream of somebody else, while the flood goes on.
async fn neighbours_are_served(world: &World, port: u16) {
    let start = Instant::now();
    let controller = world.controller("controller-calm.hula.atlas").await;
    open(&controller, "localhost", port)
        .await
        .unwrap()
        .ping()
        .await;
    println!(
        "login, stream and echo of a neighbour: {:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_and_forwards_by_the_thousand() {
    const COUNT: u32 = 5_000;
    let mut world = World::with(quick()).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let target = greedy(&world, "334.hula.atlas").await;
    let before = allocated();

    let (mut sessions, mut forwards, mut held) = (0, 0, Vec::new());
    for number in 0..COUNT {
        if let Ok(channel) = target.channel_open_session().await {
            sessions += 1;
            held.push(channel);
        }
        let port = 10_000 + number;
        if target.tcpip_forward("localhost", port).await.is_ok() {
            forwards += 1;
        }
    }
    let limits = quick();
    assert_eq!(sessions, limits.sessions_per_connection);
    assert_eq!(forwards, limits.forwards_per_connection);
    let grown = allocated().saturating_sub(before);
    println!(
        "{COUNT} sessions and forwards asked for: {} KiB more",
        grown / 1024
    );
    assert!(grown < 16 * MIB, "{} MiB", grown / MIB);

    // Streams to nowhere wait, and that many do not.
    let mut rounds = Vec::new();
    for _ in 0..8 {
        // A client of russh keeps every refusal for its handle, as long as it lives.
        let controller = greedy(&world, "controller-greedy.hula.atlas").await;
        let asked = (0..COUNT)
            .map(|number| controller.channel_open_direct_tcpip("nobody", number + 1, "x", 0));
        let all = timeout(LONG, futures_util::future::join_all(asked));
        let ((), results) = tokio::join!(neighbours_are_served(&world, port), all);
        assert!(results.expect("stuck").iter().all(Result::is_err));
        world.until("over", |stats| stats.waiting == 0).await;
        drop(controller);
        forget_log();
        let grown = allocated().saturating_sub(before);
        println!("{COUNT} streams to nowhere: {} KiB more", grown / 1024);
        rounds.push(grown);
    }
    // What it takes at both ends, in each of the allocator's arenas. Nothing stays of each that is refused: with 2 KiB of each
    // of the 40,000 it would be more.
    assert!(rounds[7] < 64 * MIB, "it grows: {rounds:?}");
    neighbours_are_served(&world, port).await;
    drop(held);
}

/// Who grants no window could have the proxy keep an answer to each request for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_by_the_thousand_on_a_channel_without_a_window() {
    const COUNT: usize = 10_000;
    let world = World::new().await;
    let closed = Config {
        window_size: 0,
        ..Config::default()
    };
    let target = greedy_with(&world, "333.hula.atlas", closed).await;
    let channel = target.channel_open_session().await.unwrap();
    let (mut answers, asker) = channel.split();
    let asking = async {
        for number in 0..COUNT {
            match number % 3 {
                0 => asker.request_shell(true).await.unwrap(),
                1 => asker.exec(true, "id").await.unwrap(),
                _ => asker.request_subsystem(true, "sftp").await.unwrap(),
            }
        }
    };
    let (mut told, mut refused, mut exits) = (0, 0, 0);
    let hearing = async {
        while told + refused < COUNT {
            let heard = answers.wait().await.expect("the channel is closed");
            told += usize::from(matches!(heard, ChannelMsg::Success));
            refused += usize::from(matches!(heard, ChannelMsg::Failure));
            exits += usize::from(matches!(heard, ChannelMsg::ExitStatus { .. }));
        }
    };
    timeout(2 * LONG, async { tokio::join!(asking, hearing) })
        .await
        .expect("no answers");
    assert_eq!((told, exits), (1, 1), "it is told once what this is");
}

/// A stream's channel is the stream's: what belongs to sessions is refused there, and ends nothing.
#[tokio::test]
async fn a_stream_is_not_ended_by_what_a_session_may_ask() {
    let mut world = World::new().await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    let port = world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let controller = greedy(&world, "controller.hula.atlas").await;
    let stream = controller.channel_open_direct_tcpip("localhost", port.into(), "x", 0);
    let mut stream = stream.await.unwrap();
    stream.exec(true, "id").await.unwrap();
    let heard = timeout(LONG, stream.wait()).await.unwrap();
    assert!(matches!(heard, Some(ChannelMsg::Failure)), "{heard:?}");
    stream.data_bytes("ping").await.unwrap();
    let heard = timeout(LONG, stream.wait()).await.unwrap();
    assert!(
        matches!(&heard, Some(ChannelMsg::Data { data }) if data[..] == *b"ping"),
        "{heard:?}"
    );
    stream.close().await.unwrap();
    world.until("closed", |stats| stats.streams == 0).await;
}

#[tokio::test]
async fn refusals_of_one_connection_do_not_fill_the_log() {
    let mut world = World::with(quick()).await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    world
        .agent("333.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let target = greedy(&world, "334.hula.atlas").await;
    let controller = greedy(&world, "controller-loud.hula.atlas").await;
    let long = "x".repeat(100_000);
    let start = Instant::now();
    for _ in 0..100 {
        let forward = target.tcpip_forward(long.as_str(), 1).await;
        assert!(forward.is_err());
    }
    let asked = (0..100)
        .map(|number| controller.channel_open_direct_tcpip(long.as_str(), number + 1, "x", 0));
    let asked = timeout(LONG, futures_util::future::join_all(asked));
    assert!(asked.await.unwrap().iter().all(Result::is_err));
    // Eight of each connection in each ten seconds that this took.
    let most = 8 * (1 + start.elapsed().as_secs() / 10);
    for (words, whose) in [("forward refused", "334"), ("stream refused", "-loud")] {
        let of_it = |line: &&String| line.contains(words) && line.contains(whose);
        let lines: Vec<String> = logged().iter().filter(of_it).cloned().collect();
        assert!(
            !lines.is_empty() && lines.len() as u64 <= most,
            "{lines:#?}"
        );
        assert!(lines.iter().all(|line| line.len() < 1000), "{lines:#?}");
    }
}
