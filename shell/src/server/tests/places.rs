//! Places: who gets one, who does not, and that they are given back.

use russh::ChannelOpenFailure;
use russh::client::AuthResult;
use russh::keys::HashAlg;
use russh::keys::agent::AgentIdentity;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::limits::{KEY_OFFERS, LISTENERS, STREAMS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so_and_a_place_is_free_again() {
    let mut world = World::within(Limits {
        connections: 2,
        ..Limits::default()
    });
    let first = world.login().await;
    let second = world.login().await;
    let third = world.login().await;
    let reason = "this computer's built-in ssh has too many connections";
    assert_eq!(third.told().await, reason);
    echoes(&first).await;
    drop(second);
    let permits = &world.server.house.connections;
    until("a place", || permits.available_permits() == 1).await;
    let fourth = world.login().await;
    echoes(&fourth).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_say_nothing_keep_nobody_out() {
    let mut world = World::within(Limits {
        strangers: 2,
        connections: 1,
        ..Limits::default()
    });
    let mut first = world.stream("controller-silent");
    // Greeted, so it has its place: which of the others comes next is not said.
    within(first.read_u8()).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(world.stream("controller-silent"));
    }
    let client = world.login_with("controller-x", Config::default()).await;
    echoes(&client).await;
    // It had to make room, long before its time.
    let mut heard = Vec::new();
    within(first.read_to_end(&mut heard)).await.unwrap();
    for _ in 0..20 {
        silent.push(world.stream("controller-silent"));
    }
    echoes(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_log_in_in_time_is_sent_away() {
    let mut world = World::within(Limits {
        login: Duration::from_secs(3),
        ..Limits::default()
    });
    let client = world.login().await;
    let mut silent = world.stream("controller-silent");
    let slow = world.stranger("controller-slow", Config::default()).await;
    let mut heard = Vec::new();
    within(silent.read_to_end(&mut heard)).await.unwrap();
    assert!(heard.starts_with(b"SSH-2.0-tunnel_"), "{heard:?}");
    assert_eq!(slow.told().await, "not logged in in time");
    echoes(&client).await;
}

/// Asks about a key, and never proves that it has it.
struct Coy;

impl russh::Signer for Coy {
    type Error = russh::AgentAuthError;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        _to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        Err(russh::keys::Error::AgentFailure.into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_keys_of_one_connection_are_looked_at() {
    let mut world = World::new();
    let key = world.key.public_key().clone();
    let mut client = world.stranger("controller-x", Config::default()).await;
    let mut coy = Coy;
    for _ in 0..KEY_OFFERS {
        let asked = client
            .handle
            .authenticate_publickey_with(USER, key.clone(), None, &mut coy);
        assert!(within(asked).await.is_err(), "it was asked to prove it");
    }
    assert!(!client.handle.is_closed());
    let one_more = client
        .handle
        .authenticate_publickey_with(USER, key, None, &mut coy);
    let refused = within(one_more).await;
    assert!(!matches!(refused, Ok(AuthResult::Success)));
    assert_eq!(client.told().await, "too many keys were offered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_counted_over_all_connections() {
    let mut world = World::within(Limits {
        processes: 2,
        ..Limits::default()
    });
    let (one, other) = (world.login().await, world.login().await);
    let first = echoes(&one).await;
    let _second = echoes(&other).await;
    let mut third = other.exec("echo never").await;
    let (said, code) = finish(&mut third).await;
    let expected = "tunnel: there are too many sessions on this computer\r\n";
    assert_eq!((said.as_str(), code), (expected, Some(126)));
    first.close().await.unwrap();
    let permits = &world.server.house.processes;
    until("a place", || permits.available_permits() == 1).await;
    let mut fourth = other.exec("echo here").await;
    assert_eq!(finish(&mut fourth).await, ("here\n".to_owned(), Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_connection_are_bounded() {
    let mut world = World::new();
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = u32::from(service.local_addr().unwrap().port());
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = service.accept().await {
            held.push(socket);
        }
    });
    let (client, other) = (world.login().await, world.login().await);
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(client.stream_to(port).await.unwrap());
    }
    let refused = client.stream_to(port).await.unwrap_err();
    let shortage = ChannelOpenFailure::ResourceShortage;
    assert!(
        matches!(&refused, russh::Error::ChannelOpenFailure(why) if *why == shortage),
        "{refused}"
    );
    other.stream_to(port).await.unwrap();
    held[0].close().await.unwrap();
    let again = async { while client.stream_to(port).await.is_err() {} };
    within(again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_of_one_connection_are_bounded() {
    let mut world = World::new();
    let client = world.login().await;
    let ask = || client.handle.tcpip_forward("localhost", 0);
    let mut ports = Vec::new();
    for _ in 0..LISTENERS {
        ports.push(within(ask()).await.unwrap());
    }
    within(ask()).await.unwrap_err();
    let cancel = client.handle.cancel_tcpip_forward("localhost", ports[0]);
    within(cancel).await.unwrap();
    within(ask()).await.unwrap();
}
