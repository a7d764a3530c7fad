//! What a client costs that asks and never reads.

use super::*;
use crate::limits::REFUSED_SESSIONS;

/// A client that grants no window: whatever is written to its channels has to wait.
fn deaf() -> Config {
    Config {
        window_size: 0,
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_nobody_reads_are_not_kept_in_memory() {
    let mut world = World::new();
    let client = world.login_with("controller-x", deaf()).await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        let mut channel = client.exec("cat /dev/zero & cat /dev/zero >&2").await;
        assert!(is_granted(&mut channel).await);
        channels.push(channel);
    }
    let before = allocated();
    // All the while they could write, and each answer is one that the client has read.
    for _ in 0..5_000 {
        channels[0].window_change(80, 24, 0, 0).await.unwrap();
        within(client.handle.send_ping()).await.unwrap();
    }
    let grown = allocated().saturating_sub(before);
    println!("8 sessions that nobody reads: {} KiB", grown / 1024);
    assert!(grown < BOUND, "{} MiB", grown >> 20);
    // Others are served.
    let other = world.login().await;
    echoes(&other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_cannot_begin_are_bounded_while_nobody_reads_why() {
    let mut world = World::within(Limits {
        processes: 0,
        ..Limits::default()
    });
    let client = world.login_with("controller-x", deaf()).await;
    let before = allocated();
    let mut refused = 0;
    while refused <= 2 * REFUSED_SESSIONS && !client.handle.is_closed() {
        let Ok(channel) = within(client.handle.channel_open_session()).await else {
            break;
        };
        if channel.exec(false, "echo never").await.is_err() {
            break;
        }
        refused += 1;
    }
    client.until_closed().await;
    let grown = allocated().saturating_sub(before);
    println!("{refused} refused sessions: {} KiB", grown / 1024);
    assert!(
        (REFUSED_SESSIONS..=REFUSED_SESSIONS + 40).contains(&refused),
        "{refused}"
    );
    assert!(grown < BOUND, "{} MiB", grown >> 20);
}

/// What this process, client and service together, has allocated, in bytes.
fn allocated() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

/// Far more than it takes, and far less than is written in that time where nothing waits.
const BOUND: usize = 96 << 20;
