//! Noise and changed packets at the running broker, on many connections at once, while others are served.
//!
//! `TUNNEL_FUZZ_SECONDS` makes it longer, and `TUNNEL_FUZZ_SEED` repeats it as far as threads and the network can be
//! repeated; both are printed.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::{Device, Stopwatch};

use super::packets::{self, Connect, DISCONNECT, PINGREQ, packet};
use super::party::Party;
use super::realm::{CONTROL, ORDER, PRESENCE, PRESENCES, Realm};
use super::seen::Seen;

/// What a single test may cost beside all the others.
const SECONDS: u64 = 20;

/// Each keeps a connection; more would only wait for the processor.
const THREADS: u64 = 4;

/// What the broker may hold afterwards: far more than it needs, far less than a leak of all that was sent.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;

#[test]
fn noise_and_changed_packets_harm_nobody() {
    let seconds = number("TUNNEL_FUZZ_SECONDS").unwrap_or(SECONDS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("TUNNEL_FUZZ_SEED").unwrap_or(u64::from(now.subsec_nanos()) + now.as_secs());
    println!("TUNNEL_FUZZ_SEED={seed} TUNNEL_FUZZ_SECONDS={seconds}");
    let realm = Realm::start();
    let (watch, limit) = (Stopwatch::start(), Duration::from_secs(seconds));
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut rounds = Vec::new();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (over, sent) = (&over, &sent);
            let (port, id) = (realm.world.broker_port(), realm.other.id());
            let tls = realm.tls(&realm.other);
            scope.spawn(move || {
                let mut random = Random::new(seed, thread);
                while !over.load(Ordering::Relaxed) {
                    torment(&mut Party::dial(port, &tls), &id, &mut random);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Whatever fails here, the others have to be told.
        let finished = Finished(&over);
        let mut device = realm.connect(&realm.device);
        device.subscribe(&[(CONTROL, 1)]);
        let mut controller = realm.connect(&realm.controller);
        controller.subscribe(&[(PRESENCES, 1)]);
        while watch.elapsed() < limit {
            rounds.push(round(&mut device, &mut controller, rounds.len()));
            newcomer(&realm, &realm.controller, &mut controller, rounds.len());
        }
        drop(finished);
    });
    rounds.sort_unstable();
    let (connections, worst) = (sent.load(Ordering::Relaxed), rounds[rounds.len() - 1]);
    println!(
        "{connections} connections of noise; {} round trips, half of them below {:?}, the worst {worst:?}; {} MiB",
        rounds.len(),
        rounds[rounds.len() / 2],
        realm.allocated() / 1024 / 1024
    );
    assert!(connections > 20 && rounds.len() > 20, "nothing was shown");
    assert!(realm.allocated() < MOST_MEMORY, "{}", realm.allocated());
    assert!(!realm.log().contains("panicked"), "{}", realm.log());
    let mut witness = realm.connect(&realm.device);
    realm.still_serves(&mut witness);
}

/// An order to the device and its answer to the controller; how long that took.
#[track_caller]
fn round(device: &mut Party, controller: &mut Party, number: usize) -> Duration {
    let watch = Stopwatch::start();
    let (order, state) = (format!("order {number}"), format!("state {number}"));
    let has =
        |text: &str, seen: &Seen| matches!(seen, Seen::Publish(heard) if heard.payload == text);
    controller.publish(ORDER, &order, 1, false);
    let heard = device.until(|seen| has(&order, seen));
    assert!(
        heard.last().is_some_and(|last| has(&order, last)),
        "{heard:?}"
    );
    // One changed letter of the noise's own orders makes an order for this device, that it may hear on the way.
    let acknowledged = device.publish(PRESENCE, &state, 1, true);
    assert!(
        matches!(acknowledged[..], [.., Seen::PubAck(_)]),
        "{acknowledged:?}"
    );
    let heard = controller.until(|seen| has(&state, seen));
    assert!(
        heard.last().is_some_and(|last| has(&state, last)),
        "{heard:?}"
    );
    watch.elapsed()
}

/// Now and then the controller comes anew.
#[track_caller]
fn newcomer(realm: &Realm, device: &Device, controller: &mut Party, number: usize) {
    if number.is_multiple_of(50) {
        *controller = realm.connect(device);
        let heard = controller.subscribe(&[(PRESENCES, 1)]);
        assert!(!heard.contains(&Seen::Closed), "{heard:?}");
    }
}

/// One connection of bytes that are nearly right, or not at all.
fn torment(party: &mut Party, id: &str, random: &mut Random) {
    if random.below(3) > 0 {
        party.send(&Connect::new(id).bytes());
    }
    for _ in 0..=random.below(4) {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(6) {
            bytes.extend(good(id, random));
        }
        match random.below(4) {
            0 => {}
            1 => {
                let length = random.below(300);
                bytes = (0..length).map(|_| random.byte()).collect();
            }
            _ => {
                for _ in 0..=random.below(3) {
                    change(&mut bytes, random);
                }
            }
        }
        party.send(&bytes);
    }
    // Some stay and read what there is, some cut.
    if random.below(2) == 0 {
        while let Some(seen) = party.within(Duration::from_millis(5)) {
            if seen == Seen::Closed {
                break;
            }
        }
    }
}

/// A packet as it should be.
fn good(id: &str, random: &mut Random) -> Vec<u8> {
    let topic = [
        ORDER,
        PRESENCE,
        PRESENCES,
        "atlas/hula/controller-b/tunnel/reply/+",
        "\u{e9}/x",
        "#",
        "$x",
    ];
    let topic = topic[random.below(topic.len())];
    let (qos, pkid) = (u8::try_from(random.below(3)).unwrap(), random.pkid());
    match random.below(9) {
        0 => packets::publish(topic, "payload", qos, random.below(2) == 0, pkid),
        1 | 2 => packets::subscribe(pkid, &[(topic, qos), (PRESENCES, 1)]),
        3 => packets::unsubscribe(pkid, &[topic]),
        4 => packets::acknowledgement(0x40, pkid),
        5 => PINGREQ.to_vec(),
        6 => Connect::kept(id)
            .with_will(topic, "gone", qos, true)
            .bytes(),
        7 => {
            let body: Vec<u8> = (0..random.below(40)).map(|_| random.byte()).collect();
            packet(random.byte(), &body)
        }
        _ => DISCONNECT.to_vec(),
    }
}

/// One change: a byte, a bit, a part that is missing or there twice.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    let place = random.below(bytes.len());
    match random.below(4) {
        0 => bytes[place] = random.byte(),
        1 => bytes[place] ^= 1 << random.below(8),
        2 => bytes.truncate(place),
        _ => {
            let part = bytes[place..].to_vec();
            bytes.extend(part);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Tells the others that it is over, also when a test fails.
struct Finished<'a>(&'a AtomicBool);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn new(seed: u64, thread: u64) -> Self {
        Self(seed ^ thread.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn pkid(&mut self) -> u16 {
        u16::try_from(self.below(8)).unwrap()
    }
}
