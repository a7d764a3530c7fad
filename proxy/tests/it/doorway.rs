//! Who has not logged in yet: the last that is let in, the first that is not, what that one reads, and what the log says.

use std::time::Duration;

use daemon::ssh_client::DialError;
use proxy::Limits;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::world::{LONG, World, logged, told_by_ssh, until_logged};

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
    let _other = greeted_from(&world, "127.0.0.2").await;
    world.until("let in", |stats| stats.strangers == 4).await;
    inside.pop();
    world.until("left", |stats| stats.strangers == 3).await;
    let key = world.key("334.hula.atlas");
    world.dial("334.hula.atlas", key).await.unwrap();
}

/// A site that logs in as many at a time as it may: the next one comes as soon as the one before is in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_has_left_his_place_to_the_next_of_his_address() {
    let world = World::with(Limits {
        unauthenticated_per_address: 1,
        ..Limits::default()
    })
    .await;
    let key = world.key("controller.hula.atlas");
    let mut inside = Vec::new();
    for _ in 0..50 {
        let dialed = world.dial("controller.hula.atlas", key.clone()).await;
        inside.push(dialed.expect("let in"));
    }
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
    world.until("two left", |stats| stats.strangers == 2).await;
}

#[tokio::test]
async fn the_time_to_log_in() {
    let world = World::with(Limits {
        auth_deadline: Duration::from_secs(3),
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
    assert!(start.elapsed() >= Duration::from_secs(2));
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
        // Those of one round may not be gone when the next one comes.
        unauthenticated_per_address: 64,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let good = world.key("333.hula.atlas");
    let bad = world.strangers_key("334.hula.atlas");
    let live = world.dial("333.hula.atlas", good.clone()).await.unwrap();
    // Four a second are forgiven: so many at a time fail faster than that on any machine.
    let start = Instant::now();
    let refused = 'shut: loop {
        let tries = (0..14).map(|_| world.dial("334.hula.atlas", bad.clone()));
        for refused in futures_util::future::join_all(tries).await {
            let refused = refused.unwrap_err();
            if !matches!(refused, DialError::Refused { .. }) {
                break 'shut refused;
            }
        }
        assert!(start.elapsed() < LONG, "never shut out");
    };
    let words = refused.to_string();
    assert!(
        words.contains("turns us away: too many failed logins from your address"),
        "{words}"
    );
    // The first were answered at once, later ones later.
    until_logged(&["key not admitted", "delay=0ns"]).await;
    let held_back =
        |line: &String| line.contains("key not admitted") && !line.contains("delay=0ns");
    assert!(logged().iter().any(held_back), "{:#?}", logged());
    until_logged(&["too many failed logins: shut out for a while", "127.0.0.1"]).await;
    let told = told_by_ssh(&world, "333.hula.atlas").await;
    assert!(
        told.contains("too many failed logins from your address: come back in"),
        "{told}"
    );
    // Who is inside stays, and other addresses are not concerned.
    live.request_forward("localhost", 0, LONG).await.unwrap();
    let _other = greeted_from(&world, "127.0.0.2").await;
    // It is forgiven by itself.
    let start = Instant::now();
    while world.dial("333.hula.atlas", good.clone()).await.is_err() {
        assert!(start.elapsed() < LONG, "for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A connection from this address that the proxy has begun to speak with.
async fn greeted_from(world: &World, address: &str) -> TcpStream {
    let mut stream = connect_from(world, address).await;
    let mut banner = [0; 4];
    timeout(LONG, stream.read_exact(&mut banner))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&banner, b"SSH-");
    stream
}

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
