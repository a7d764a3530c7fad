//! Each limit at its edge: the last that is let in, the first that is not, what that one reads, and what the log says.

use std::time::Duration;

use daemon::ssh_client::DialError;
use proxy::Limits;
use russh::keys::{Algorithm, PrivateKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::world::{LONG, World, open, quick, receive, send, until_logged};

/// A TCP connection from another address of this machine.
async fn connect_from(world: &World, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    socket.connect(world.address).await.unwrap()
}

/// All that the proxy says, until it closes.
async fn last_words(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(LONG, socket.read_to_end(&mut all))
        .await
        .expect("not closed");
    String::from_utf8_lossy(&all).into_owned()
}

/// What OpenSSH's client tells its user.
async fn told_by_ssh(world: &World, id: &str) -> String {
    let mut ssh = world.ssh(id);
    let output = timeout(LONG, ssh.args(["-N", "127.0.0.1"]).output())
        .await
        .expect("hangs")
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn strangers_of_one_address() {
    let world = World::with(Limits {
        unauthenticated_per_address: 3,
        ..Limits::default()
    })
    .await;
    world.key("333.hula.atlas");
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(TcpStream::connect(world.address).await.unwrap());
    }
    world.until("full", |stats| stats.strangers == 3).await;
    let told = told_by_ssh(&world, "333.hula.atlas").await;
    let reason = "too many connections of its address that have not authenticated: come back later";
    assert!(told.contains(reason), "{told}");
    until_logged(&["connection refused", "127.0.0.1", reason]).await;
    // Another address has its own.
    let mut other = connect_from(&world, "127.0.0.2").await;
    let mut banner = [0; 4];
    timeout(LONG, other.read_exact(&mut banner))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&banner, b"SSH-");
    world.until("let in", |stats| stats.strangers == 4).await;
    inside.pop();
    world.until("left", |stats| stats.strangers == 3).await;
    let key = world.key("334.hula.atlas");
    world.dial("334.hula.atlas", key).await.unwrap();
}

#[tokio::test]
async fn strangers_in_all() {
    let world = World::with(Limits {
        unauthenticated: 3,
        doorway_patience: LONG,
        auth_deadline: 2 * LONG,
        ..Limits::default()
    })
    .await;
    let mut inside = Vec::new();
    for last in 1..=3 {
        inside.push(connect_from(&world, &format!("127.0.1.{last}")).await);
    }
    world.until("full", |stats| stats.strangers == 3).await;
    let told = last_words(&mut connect_from(&world, "127.0.1.4").await).await;
    let reason = "too many connections that have not authenticated: come back later";
    assert!(
        told.starts_with("SSH-2.0-tunnel_") && told.contains(reason),
        "{told:?}"
    );
    until_logged(&["connection refused", "127.0.1.4", reason]).await;
}

#[tokio::test]
async fn who_only_stands_there_makes_room() {
    let world = World::with(Limits {
        unauthenticated: 3,
        doorway_patience: Duration::from_millis(200),
        auth_deadline: 2 * LONG,
        ..Limits::default()
    })
    .await;
    let key = world.key("333.hula.atlas");
    let mut silent = Vec::new();
    for last in 1..=3 {
        silent.push(connect_from(&world, &format!("127.0.1.{last}")).await);
    }
    world.until("full", |stats| stats.strangers == 3).await;
    let start = Instant::now();
    while world.dial("333.hula.atlas", key.clone()).await.is_err() {
        assert!(start.elapsed() < LONG, "never let in");
    }
    // One of them was put out, not all.
    until_logged(&["others needed the place"]).await;
    assert_eq!(world.stats().strangers, 2);
}

#[tokio::test]
async fn the_time_to_log_in() {
    let world = World::with(Limits {
        auth_deadline: Duration::from_millis(700),
        ..Limits::default()
    })
    .await;
    // It exchanges keys, and then says no more.
    let socket = TcpStream::connect(world.address).await.unwrap();
    let (sender, mut told) = tokio::sync::mpsc::channel(1);
    let start = Instant::now();
    let config = std::sync::Arc::new(russh::client::Config::default());
    let _handle = russh::client::connect_stream(config, socket, Listener(sender))
        .await
        .unwrap();
    let told = timeout(LONG, told.recv()).await.unwrap().unwrap();
    assert_eq!(told, "not authenticated in time");
    assert!(start.elapsed() >= Duration::from_millis(600));
    until_logged(&["connection ended", "not authenticated in time"]).await;
    // A peer that has said nothing reads the end.
    let told = last_words(&mut TcpStream::connect(world.address).await.unwrap()).await;
    assert!(told.starts_with("SSH-2.0-tunnel_"), "{told:?}");
    until_logged(&["silent: cut"]).await;
}

#[tokio::test]
async fn keys_of_one_connection() {
    let world = World::new().await;
    world.key("333.hula.atlas");
    // Six that are not admitted; russh's own limit, the question for methods among them.
    let mut ssh = world.ssh("333.hula.atlas");
    for number in 0..8 {
        let id = format!("controller-{number}.hula.atlas");
        world.strangers_key(&id);
        ssh.arg("-i").arg(world.private_path(&id));
    }
    // Without its own key.
    std::fs::remove_file(world.private_path("333.hula.atlas")).unwrap();
    let output = timeout(LONG, ssh.args(["-N", "127.0.0.1"]).output())
        .await
        .expect("hangs")
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("Too many authentication attempts"), "{told}");
    until_logged(&["key not admitted"]).await;
}

#[tokio::test]
async fn failed_logins_slow_an_address_down_and_then_shut_it_out() {
    let limits = Limits {
        failed_logins_free: 6,
        failed_logins_shut: 24,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let good = world.key("333.hula.atlas");
    let bad = world.strangers_key("334.hula.atlas");
    let live = world.dial("333.hula.atlas", good.clone()).await.unwrap();
    let mut times = Vec::new();
    // Several at a time: four a second are forgiven.
    let refused = 'shut: loop {
        let start = Instant::now();
        let tries = (0..6).map(|_| world.dial("334.hula.atlas", bad.clone()));
        for refused in futures_util::future::join_all(tries).await {
            let refused = refused.unwrap_err();
            if !matches!(refused, DialError::Refused { .. }) {
                break 'shut refused;
            }
        }
        times.push(start.elapsed());
        assert!(times.len() < 40, "never shut out: {times:?}");
    };
    assert!(times.len() >= 2, "{times:?} then {refused}");
    let words = refused.to_string();
    assert!(
        words.contains("turns us away: too many failed logins from your address"),
        "{words}"
    );
    assert!(
        times.last().unwrap() > &(times[0] + Duration::from_millis(200)),
        "not slowed down: {times:?}"
    );
    until_logged(&["too many failed logins: shut out for a while", "127.0.0.1"]).await;
    let told = told_by_ssh(&world, "333.hula.atlas").await;
    assert!(
        told.contains("too many failed logins from your address: come back in"),
        "{told}"
    );
    // Who is inside stays, and other addresses are not concerned.
    live.request_forward("localhost", 0, LONG).await.unwrap();
    let mut other = connect_from(&world, "127.0.0.2").await;
    let mut banner = [0; 4];
    timeout(LONG, other.read_exact(&mut banner))
        .await
        .unwrap()
        .unwrap();
    // It is forgiven by itself.
    let start = Instant::now();
    while world.dial("333.hula.atlas", good.clone()).await.is_err() {
        assert!(start.elapsed() < LONG, "for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn connections_of_a_device_and_of_a_system() {
    let world = World::with(Limits {
        connections_per_target: 2,
        connections_per_controller: 2,
        connections_per_system: 3,
        ..Limits::default()
    })
    .await;
    let key = world.key("333.hula.atlas");
    let mut inside = Vec::new();
    for _ in 0..2 {
        inside.push(world.dial("333.hula.atlas", key.clone()).await.unwrap());
    }
    let told = told_by_ssh(&world, "333.hula.atlas").await;
    assert!(
        told.contains("too many connections of this device"),
        "{told}"
    );
    until_logged(&[
        "login refused",
        "333.hula.atlas",
        "too many connections of this device",
    ])
    .await;
    inside.push(world.controller("controller.hula.atlas").await);
    world.key("334.hula.atlas");
    let told = told_by_ssh(&world, "334.hula.atlas").await;
    assert!(
        told.contains("too many connections of this system"),
        "{told}"
    );
    until_logged(&[
        "login refused",
        "334.hula.atlas",
        "too many connections of this system",
    ])
    .await;
    world.controller("controller.lono.atlas").await;
    inside.remove(0);
    world.until("left", |stats| stats.connections <= 3).await;
    world.dial("333.hula.atlas", key).await.unwrap();
}

#[tokio::test]
async fn streams_of_a_controller_of_a_target_and_of_a_system() {
    let mut world = World::with(Limits {
        streams_per_controller: 2,
        streams_per_target: 3,
        streams_per_system: 4,
        ..quick()
    })
    .await;
    let echo = world.echo().await;
    for id in ["333.hula.atlas", "334.hula.atlas"] {
        let key = world.key(id);
        for _ in 0..4 {
            world
                .agent(
                    id,
                    &key,
                    "localhost",
                    if id.starts_with("333") {
                        20_333
                    } else {
                        20_334
                    },
                    echo,
                )
                .await;
        }
    }
    let a = world.controller("controller-a.hula.atlas").await;
    let b = world.controller("controller-b.hula.atlas").await;
    let c = world.controller("controller-c.hula.atlas").await;
    let mut streams = vec![
        open(&a, "localhost", 20_333).await.unwrap(),
        open(&a, "localhost", 20_333).await.unwrap(),
    ];
    let refused = open(&a, "localhost", 20_333).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: too many streams of this device"
    );
    until_logged(&[
        "stream refused",
        "controller-a",
        "too many streams of this device",
    ])
    .await;
    streams.push(open(&b, "localhost", 20_333).await.unwrap());
    let refused = open(&b, "localhost", 20_333).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: the device has too many streams"
    );
    until_logged(&[
        "stream refused",
        "controller-b",
        "the device serves enough: too many streams of this device",
    ])
    .await;
    streams.push(open(&b, "localhost", 20_334).await.unwrap());
    let refused = open(&c, "localhost", 20_334).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: too many streams of this system"
    );
    until_logged(&[
        "stream refused",
        "controller-c",
        "too many streams of this system",
    ])
    .await;
    for stream in &mut streams {
        stream.ping().await;
    }
    drop(streams.remove(0).pipe);
    world.until("closed", |stats| stats.streams == 3).await;
    open(&c, "localhost", 20_334).await.unwrap().ping().await;
}

#[tokio::test]
async fn streams_of_one_connection_and_forwards_of_one() {
    let mut world = World::with(Limits {
        streams_per_connection: 2,
        forwards_per_connection: 2,
        ..quick()
    })
    .await;
    let (echo, key) = (world.echo().await, world.key("333.hula.atlas"));
    for port in [20_001, 20_002, 20_003] {
        world
            .agent("333.hula.atlas", &key, "localhost", port, echo)
            .await;
    }
    let controller = world.controller("controller.hula.atlas").await;
    let _first = open(&controller, "localhost", 20_001).await.unwrap();
    let _second = open(&controller, "localhost", 20_002).await.unwrap();
    let refused = open(&controller, "localhost", 20_003).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the proxy refuses it: too many streams on one connection"
    );
    until_logged(&["stream refused", "too many streams on one connection"]).await;
    // A refused forward has no words of its own in SSH: the log has them.
    let greedy = world.dial("333.hula.atlas", key).await.unwrap();
    for port in [21_001, 21_002] {
        greedy
            .request_forward("localhost", port, LONG)
            .await
            .unwrap();
    }
    assert!(
        greedy
            .request_forward("localhost", 21_003, LONG)
            .await
            .is_err()
    );
    until_logged(&["forward refused", "port=21003", "too many forwards"]).await;
}

#[tokio::test]
async fn streams_that_wait() {
    let mut world = World::with(Limits {
        waiting_per_controller: 2,
        forward_wait: Duration::from_secs(8),
        ..Limits::default()
    })
    .await;
    let echo = world.echo().await;
    let controller = world.controller("controller.hula.atlas").await;
    let key = world.key("333.hula.atlas");
    let scenario = async {
        world.until("waiting", |stats| stats.waiting == 2).await;
        for (host, port) in [("333", 22), ("localhost", 1), ("333.lono", 22)] {
            let refused = open(&controller, host, port).await.err().unwrap();
            assert_eq!(
                refused.to_string(),
                "the proxy refuses it: too many of your streams are waiting for their devices"
            );
        }
        until_logged(&[
            "stream refused",
            "too many streams are waiting for their devices",
        ])
        .await;
        let dialed = world.dial("333.hula.atlas", key.clone()).await.unwrap();
        dialed.request_forward("333", 80, LONG).await.unwrap();
        dialed
            .request_forward("localhost", 20_022, LONG)
            .await
            .unwrap();
        let second = world.dial("333.hula.atlas", key.clone()).await.unwrap();
        second
            .request_forward("localhost", 20_022, LONG)
            .await
            .unwrap();
        (dialed, second)
    };
    let (by_name, by_port, (dialed, second)) = tokio::join!(
        open(&controller, "333", 80),
        open(&controller, "localhost", 20_022),
        async {
            let (dialed, second) = scenario.await;
            (world_serve(dialed, echo), world_serve(second, echo))
        }
    );
    for opened in [by_name, by_port] {
        opened.unwrap().ping().await;
    }
    drop((dialed, second));
}

/// A client that listens to the last words.
struct Listener(tokio::sync::mpsc::Sender<String>);

impl russh::client::Handler for Listener {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn disconnected(
        &mut self,
        reason: russh::client::DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        if let russh::client::DisconnectReason::ReceivedDisconnect(info) = reason {
            self.0.send(info.message).await.unwrap();
        }
        Ok(())
    }
}

/// Serves in the background for as long as the value lives.
fn world_serve(
    dialed: daemon::ssh_client::Dialed,
    service: std::net::SocketAddr,
) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(crate::world::serve(dialed, service));
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_per_second_of_a_system() {
    const COUNT: u64 = 2_000_000;
    let mut world = World::with_bandwidth(Limits::default(), "2 MB/s").await;
    let echo = world.echo().await;
    let mut times = Vec::new();
    for system in ["hula", "lono"] {
        let (target, asker) = (
            format!("333.{system}.atlas"),
            format!("controller.{system}.atlas"),
        );
        let key = world.key(&target);
        let port = world.agent(&target, &key, "localhost", 0, echo).await;
        let controller = world.controller(&asker).await;
        let start = Instant::now();
        let stream = open(&controller, "localhost", port).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream.pipe);
        timeout(LONG, async {
            tokio::join!(send(&mut write, COUNT), receive(&mut read, COUNT))
        })
        .await
        .expect("stuck");
        let ended = timeout(LONG, stream.ended).await.unwrap().unwrap();
        assert!(ended.is_clean(), "{ended:?}");
        times.push(start.elapsed());
    }
    // There and back, together.
    assert!(times[0] >= Duration::from_millis(1900), "{times:?}");
    assert!(
        times[1] < times[0],
        "the other system has no limit: {times:?}"
    );
}

#[tokio::test]
async fn a_host_key_is_needed_to_listen() {
    let world = World::new().await;
    let config = world.config(vec![]);
    let refused = proxy::Proxy::bind(config).await.unwrap_err();
    assert_eq!(refused.to_string(), "a proxy needs a host key");
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    assert!(proxy::Proxy::bind(world.config(vec![key])).await.is_ok());
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
    assert!(
        timeout(LONG, stream.ended)
            .await
            .unwrap()
            .unwrap()
            .is_clean()
    );
    let line = until_logged(&["stream ended", "controller-counts"]).await;
    for part in ["up=4", "down=4", "333.hula.atlas", "reason="] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(
        line.contains("finished") || line.contains("closed by"),
        "{line}"
    );
}
