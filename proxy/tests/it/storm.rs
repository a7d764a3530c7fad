//! A proxy that restarts, and all its agents at once.
//!
//! In the suite with some hundred agents; with as many as a large realm has by
//! `TUNNEL_STORM=5000 cargo test --release -p proxy --test it storm -- --nocapture`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::backoff::{Backoff, FIRST_REDIAL, LAST_REDIAL, LASTING};
use daemon::descriptors::raise_limit;
use daemon::shutdown::Shutdown;
use proxy::{Limits, Proxy};
use russh::keys::{PrivateKey, PublicKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::world::{LONG, World};

/// The goal, of 5,000.
const ALL_BACK: Duration = Duration::from_mins(1);

/// What all agents of the test share.
struct Storm {
    address: String,
    host_key: PublicKey,
    /// Tries that ended before a forward was there.
    turned_away: AtomicUsize,
    /// For how long each agent was refused, from its first refusal until it was let in.
    refused_for: Mutex<Vec<Duration>>,
    tries: AtomicUsize,
}

impl Storm {
    /// An agent as small as it can be: it has a forward, and comes back when its connection is lost.
    async fn agent(self: Arc<Self>, key: Arc<PrivateKey>) {
        let mut backoff = Backoff::new(FIRST_REDIAL, LAST_REDIAL);
        let mut refused: Option<Instant> = None;
        let host_keys = std::slice::from_ref(&self.host_key);
        loop {
            let key = Arc::clone(&key);
            self.tries.fetch_add(1, Ordering::Relaxed);
            let dialed =
                daemon::ssh_client::dial(&self.address, "hula", key, host_keys, LONG).await;
            if let Ok(dialed) = dialed
                && dialed.request_forward("localhost", 0, LONG).await.is_ok()
            {
                if let Some(since) = refused.take() {
                    self.refused_for.lock().unwrap().push(since.elapsed());
                }
                let up = Instant::now();
                dialed.flow().dead().await;
                if up.elapsed() >= LASTING {
                    backoff.reset();
                }
            } else {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                refused.get_or_insert_with(Instant::now);
            }
            sleep(backoff.next_delay()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_agents_are_back_soon_after_a_restart() {
    raise_limit(20_000);
    let count = std::env::var("TUNNEL_STORM").ok();
    let count: usize = count.map_or(300, |count| count.parse().unwrap());
    // The agents of a realm have addresses of their own, and all of these have one.
    let limits = Limits {
        unauthenticated_per_address: usize::MAX,
        ..Limits::default()
    };
    let mut world = World::with(limits).await;
    let storm = Arc::new(Storm {
        address: world.address.to_string(),
        host_key: world.host_key.clone(),
        turned_away: AtomicUsize::new(0),
        refused_for: Mutex::default(),
        tries: AtomicUsize::new(0),
    });
    let mut agents = JoinSet::new();
    for number in 0..count {
        let key = world.key(&format!("d{number}.hula.atlas"));
        agents.spawn(Arc::clone(&storm).agent(key));
    }
    let start = Instant::now();
    while world.stats().tunnels < count {
        assert!(start.elapsed() < ALL_BACK, "{:?}", world.stats());
        sleep(Duration::from_millis(20)).await;
    }
    println!("{count} agents, all there after {:?}", start.elapsed());

    // It dies and comes back at the same address.
    let mut config = world.config(vec![world.private_host_key.clone()]);
    config.listen = world.address;
    // A doorway that is full for most of them, as that of a large realm is.
    config.limits = Limits {
        unauthenticated: count / 10,
        ..limits
    };
    world.shutdown.request();
    while world.tasks.join_next().await.is_some() {}
    let proxy = loop {
        match Proxy::bind(config.clone()).await {
            Ok(proxy) => break proxy,
            Err(error) => assert!(start.elapsed() < 2 * ALL_BACK, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    storm.refused_for.lock().unwrap().clear();
    for counter in [&storm.tries, &storm.turned_away] {
        counter.store(0, Ordering::Relaxed);
    }
    let (stats, shutdown) = (proxy.stats(), Shutdown::new(Duration::from_secs(1)));
    let mut running = JoinSet::new();
    running.spawn(proxy.run(shutdown.clone()));
    let start = Instant::now();
    while stats.now().tunnels < count {
        assert!(start.elapsed() < ALL_BACK, "{:?}", stats.now());
        sleep(Duration::from_millis(20)).await;
    }
    let turned_away = storm.turned_away.load(Ordering::Relaxed);
    let refused_for = std::mem::take(&mut *storm.refused_for.lock().unwrap());
    let longest = refused_for.iter().max().copied().unwrap_or_default();
    println!(
        "{count} agents, all back after {:?}: {} tries, of which {turned_away} were turned away or lost; {} agents were, for {longest:?} at the longest",
        start.elapsed(),
        storm.tries.load(Ordering::Relaxed),
        refused_for.len(),
    );
    // The time that anybody has to log in. Where the machine is quick enough, nobody is turned away at all.
    assert!(longest < limits.auth_deadline, "{longest:?}");
    agents.abort_all();
    while agents.join_next().await.is_some() {}
    shutdown.request();
    running.join_all().await;
}
