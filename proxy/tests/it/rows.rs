//! What stock russh does wrong, with OpenSSH at one end or at both, again and again: so many times as `TUNNEL_REPEAT` says
//! (`TUNNEL_REPEAT=200 cargo test -p proxy --test it -- rows:: data_path:: --test-threads 1`). The rows between our own peers are in
//! `data_path`, full duplex in every pairing in `openssh`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::openssh::{connect_through, ssh_member, ssh_stream};
use crate::stream::{fill, open};
use crate::world::{LONG, World, times};

const MIB: usize = 1024 * 1024;

/// A service that the first byte chooses: `e` gives back what it gets, `s` sends without end, `d` never reads.
async fn service(world: &mut World) -> SocketAddr {
    world
        .service(|mut socket| async move {
            let mut wish = [0];
            if socket.read_exact(&mut wish).await.is_err() {
                return;
            }
            match wish[0] {
                b'e' => {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                }
                b's' => {
                    let chunk = vec![0; 64 * 1024];
                    while socket.write_all(&chunk).await.is_ok() {}
                }
                _ => {
                    std::future::pending::<()>().await;
                    drop(socket);
                }
            }
        })
        .await
}

async fn ping(socket: &mut UnixStream) -> Duration {
    let start = Instant::now();
    socket.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    timeout(LONG, socket.read_exact(&mut word))
        .await
        .expect("no answer")
        .unwrap();
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_read_beside_one_of_the_same_openssh_connection() {
    let mut world = World::new().await;
    let service = service(&mut world).await;
    let key = world.key("334.hula.atlas");
    let own = world
        .agent("334.hula.atlas", &key, "localhost", 0, service)
        .await;
    // The spare that an agent brings when one is taken.
    world
        .agent("334.hula.atlas", &key, "localhost", own, service)
        .await;
    let (_member, stock) = ssh_member(&world, "333.hula.atlas", service).await;
    world.key("controller.hula.atlas");
    for port in [own, stock] {
        let socket = world.home.path().join(format!("forwarded-{port}"));
        let mut ssh = world.ssh("controller.hula.atlas");
        let forward = format!("{}:localhost:{port}", socket.display());
        ssh.args(["-N", "-L", &forward, "127.0.0.1"]);
        let listener = ssh.spawn().unwrap();
        let mut stalled = connect_through(&socket).await;
        stalled.write_all(b"s").await.unwrap();
        for _ in 0..times(3) {
            let mut other = connect_through(&socket).await;
            other.write_all(b"e").await.unwrap();
            let mut slowest = Duration::ZERO;
            for _ in 0..30 {
                slowest = slowest.max(ping(&mut other).await);
            }
            println!("beside a stream that is not read: at most {slowest:?}");
            assert!(slowest < Duration::from_secs(10), "{slowest:?}");
            drop(other);
            world.until("closed", |stats| stats.streams == 1).await;
        }
        // It goes on when it is read again.
        let mut some = vec![0; 8 * MIB];
        timeout(LONG, stalled.read_exact(&mut some))
            .await
            .expect("it never resumes")
            .unwrap();
        drop((stalled, listener));
        world.until("closed", |stats| stats.streams == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_nobody_reads_into_an_openssh_member() {
    let mut world = World::new().await;
    let service = service(&mut world).await;
    let (_member, port) = ssh_member(&world, "333.hula.atlas", service).await;
    for round in 0..times(3) {
        let own = world
            .controller(&format!("controller-a{round}.hula.atlas"))
            .await;
        let mut deaf = open(&own, "localhost", port).await.unwrap();
        deaf.pipe.write_all(b"d").await.unwrap();
        fill(&mut deaf.pipe).await;
        let other = world
            .controller(&format!("controller-b{round}.hula.atlas"))
            .await;
        let mut echo = open(&other, "localhost", port).await.unwrap();
        echo.pipe.write_all(b"e").await.unwrap();
        for _ in 0..30 {
            assert!(echo.ping().await < Duration::from_secs(10), "slow");
        }
        drop((deaf, own, echo, other));
        world.until("released", |stats| stats.streams == 0).await;
    }
    assert_eq!(world.stats().members, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_killed_leaves_an_openssh_member_and_its_neighbours_alone() {
    let mut world = World::new().await;
    let service = service(&mut world).await;
    let (_member, port) = ssh_member(&world, "333.hula.atlas", service).await;
    let to = format!("localhost:{port}");
    for id in ["controller-a.hula.atlas", "controller-b.hula.atlas"] {
        world.key(id);
    }
    let mut other = ssh_stream(&world, "controller-b.hula.atlas", &to);
    other.stdin.write_all(b"e").await.unwrap();
    for _ in 0..times(3) {
        let mut download = ssh_stream(&world, "controller-a.hula.atlas", &to);
        download.stdin.write_all(b"s").await.unwrap();
        let mut some = vec![0; 4 * MIB];
        timeout(LONG, download.stdout.read_exact(&mut some))
            .await
            .expect("stuck")
            .unwrap();
        download.ssh.kill().await.unwrap();
        world.until("released", |stats| stats.streams == 1).await;
        other.ping().await;
    }
    assert_eq!((world.stats().members, world.stats().tunnels), (1, 1));
}
