//! Requests: how many there may be, on which channels, and input that nobody takes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::limits::{REQUESTS, REQUESTS_SIZE, STRAY_REQUESTS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_may_ask_for_so_much_before_it_begins() {
    let mut world = World::new();
    let client = world.login().await;
    let mut channel = client.session().await;
    for _ in 1..REQUESTS {
        channel.set_env(true, "LANG", "C").await.unwrap();
        assert!(is_granted(&mut channel).await);
    }
    channel.exec(true, "echo $LANG").await.unwrap();
    assert_eq!(finish(&mut channel).await, ("C\n".to_owned(), Some(0)));
    let mut channel = client.session().await;
    for _ in 0..REQUESTS {
        channel.set_env(true, "PATH", "/").await.unwrap();
        assert!(!is_granted(&mut channel).await);
    }
    channel.set_env(true, "LANG", "C").await.unwrap();
    client.until_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_asks_for_may_not_be_large() {
    let mut world = World::new();
    let client = world.login().await;
    let mut channel = client.session().await;
    let value = "x".repeat(REQUESTS_SIZE / 2 - 100);
    for _ in 0..2 {
        channel.set_env(true, "LANG", value.as_str()).await.unwrap();
        assert!(!is_granted(&mut channel).await);
    }
    channel.set_env(true, "LANG", value).await.unwrap();
    client.until_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_once() {
    let mut world = World::new();
    let client = world.login().await;
    let mut channel = echoes(&client).await;
    channel.exec(true, "echo never").await.unwrap();
    assert!(!is_granted(&mut channel).await);
    echo(&mut channel, "still up").await;
    channel.eof().await.unwrap();
    assert_eq!(finish(&mut channel).await, (String::new(), Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_on_a_stream_do_it_no_harm_and_are_counted() {
    let mut world = World::new();
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = u32::from(service.local_addr().unwrap().port());
    let client = world.login().await;
    let mut channel = client.stream_to(port).await.unwrap();
    let (mut socket, _) = within(service.accept()).await.unwrap();
    for _ in 0..STRAY_REQUESTS {
        channel.exec(true, "echo never").await.unwrap();
        assert!(!is_granted(&mut channel).await);
    }
    channel.data_bytes("there").await.unwrap();
    let mut came = [0; 5];
    within(socket.read_exact(&mut came)).await.unwrap();
    socket.write_all(&came).await.unwrap();
    read_until(&mut channel, "there").await;
    channel.exec(true, "echo never").await.unwrap();
    client.until_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_its_input_unread_is_ended_when_others_wait_behind_it() {
    let stall = Duration::from_millis(500);
    let mut world = World::within(Limits {
        stall,
        ..Limits::default()
    });
    let client = world.login().await;
    let mut deaf = client.exec("exec sleep 6012").await;
    assert!(is_granted(&mut deaf).await);
    // More than a pipe holds.
    deaf.data_bytes(vec![b'x'; 200_000]).await.unwrap();
    let alone = async {
        loop {
            match deaf.wait().await {
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            }
        }
    };
    let ended = timeout(stall * 4, alone).await;
    assert!(ended.is_err(), "nobody waits behind it");
    let mut other = echoes(&client).await;
    let (said, code) = finish(&mut deaf).await;
    assert_eq!((said.as_str(), code), ("", None));
    echo(&mut other, "goes on").await;
}
