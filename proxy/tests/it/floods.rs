//! One authenticated connection that asks for everything it can think of.

use std::sync::Arc;

use russh::client::{Config, Handle, Handler};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::stream::open;
use crate::world::{LONG, World, forget_log, quick};

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
    let key = world.key(id);
    let socket = TcpStream::connect(world.address).await.unwrap();
    let config = Arc::new(Config::default());
    let mut handle = russh::client::connect_stream(config, socket, Greedy)
        .await
        .unwrap();
    let key = PrivateKeyWithHashAlg::new(key, None);
    let result = handle.authenticate_publickey("hula", key).await.unwrap();
    assert!(result.success());
    handle
}

/// This process's memory, client and proxy together.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
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
    let before = resident();

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
    let grown = resident().saturating_sub(before);
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
        let all = timeout(4 * LONG, futures_util::future::join_all(asked));
        let ((), results) = tokio::join!(neighbours_are_served(&world, port), all);
        assert!(results.expect("stuck").iter().all(Result::is_err));
        world.until("over", |stats| stats.waiting == 0).await;
        drop(controller);
        forget_log();
        let grown = resident().saturating_sub(before);
        println!("{COUNT} streams to nowhere: {} KiB more", grown / 1024);
        rounds.push(grown);
    }
    // The first rounds show what it takes, at both ends, in each of the allocator's arenas; nothing of it stays with each
    // that is refused: 400 bytes of each would be 8 MiB after another four rounds.
    assert!(rounds[7] < 64 * MIB, "{} MiB", rounds[7] / MIB);
    assert!(rounds[7] < rounds[3] + 8 * MIB, "it grows: {rounds:?}");
    neighbours_are_served(&world, port).await;
    drop(held);
}
