//! The broker is killed under load, again and again: what it had acknowledged is there, and nobody is online who is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::{CEILING, Daemon, Device, World, run, wait_until};
use rustls::ClientConfig;
use serde_json::Value;

use super::packets::Connect;
use super::party::{Party, tls};
use super::seen::Seen;

/// How often the broker is killed.
const ROUNDS: u64 = 20;

/// Devices that do nothing but publish, without a will; and devices that come and go.
const WRITERS: usize = 6;
const DEVICES: usize = 6;

/// How long devices have to come back. In some rounds all that is to be seen happens within it, in others after it; whoever
/// watches has to be there before it ends.
const WINDOW: Duration = Duration::from_secs(4);

#[test]
fn what_was_acknowledged_is_never_lost_and_nobody_is_online_who_is_not() {
    let realm = Realm::new();
    let mut broker = realm.world.broker();
    let writers: Vec<Writer> = (0..WRITERS)
        .map(|number| Writer::start(&realm, &format!("w{number}")))
        .collect();
    let mut devices: Vec<Comer> = (0..DEVICES)
        .map(|number| Comer::new(&realm, &format!("d{number}")))
        .collect();
    let mut given_up = 0;
    for round in 1..=ROUNDS {
        for device in &mut devices {
            device.come(round);
        }
        // Somewhere in the middle of it, and not always at the same place.
        let enough = 10 + round * 13 % 30;
        for writer in &writers {
            writer.wait_for_more(enough);
        }
        if round % 7 == 0 {
            assert!(broker.terminate().success());
        } else {
            broker.kill();
        }
        let promised: Vec<u64> = writers.iter().map(Writer::acknowledged).collect();
        writers.iter().for_each(Writer::pause);
        for device in &mut devices {
            device.session = None;
        }
        broker = realm.world.broker();
        let watcher = (round % 5 == 0).then(|| realm.watcher());

        let seen = realm.look();
        for (writer, promised) in writers.iter().zip(promised) {
            let kept = seen
                .get(&writer.name)
                .map_or(0, |presence| number(presence, "since"));
            assert!(
                (promised..=writer.sent()).contains(&kept),
                "round {round}: {} was promised {promised} and has sent {}, but {kept} was kept",
                writer.name,
                writer.sent()
            );
        }
        for device in &devices {
            device.is_lost(&seen, round);
        }
        // Every other one comes back.
        let (back, away): (Vec<_>, Vec<_>) = devices
            .iter_mut()
            .enumerate()
            .partition(|(number, _)| comes_back(*number, round));
        for (_, device) in back {
            device.come(round);
        }
        let seen = realm.look();
        for (_, device) in &away {
            device.is_lost(&seen, round);
        }
        if let Some(mut watcher) = watcher {
            // The window ends: who watches is told.
            let mut awaited: BTreeSet<_> = away.iter().map(|(_, away)| topic(&away.name)).collect();
            while !awaited.is_empty() {
                match watcher.until(is_event).pop() {
                    Some(Seen::Publish(heard)) => awaited.remove(&heard.topic),
                    other => panic!("round {round}: {awaited:?}, but {other:?}"),
                };
                given_up += 1;
            }
        }
        drop(away);
        let seen = realm.look();
        for (place, device) in devices.iter().enumerate() {
            if comes_back(place, round) {
                let presence = seen.get(&device.name);
                assert!(
                    presence.is_some_and(|presence| presence["online"] == true
                        && number(presence, "epoch") == device.epoch),
                    "round {round}: {} is back, but {presence:?}",
                    device.name
                );
            } else {
                device.is_lost(&seen, round);
            }
        }
        writers.iter().for_each(Writer::go_on);
    }
    assert!(given_up > 0);
    let published: u64 = writers.iter().map(Writer::acknowledged).sum();
    println!("{ROUNDS} ends of the broker, {published} acknowledged messages");
    drop(writers);
    assert!(broker.terminate().success());
}

/// A store of no use is said to be, with what to do, and stays as it is.
#[test]
fn a_store_that_cannot_be_used_is_not_wiped() {
    let mut realm = Realm::new();
    // `tunnel serve` has its own.
    drop(realm.signer.take());
    let store = realm.world.realm().join("broker/store/broker.redb");
    assert!(realm.world.broker().terminate().success());
    fs::write(&store, "not a database ".repeat(1000)).unwrap();
    let before = fs::read(&store).unwrap();
    for command in ["broker", "serve"] {
        let mut start = realm.world.tunnel();
        start.arg(command).arg("--dir").arg(realm.world.realm());
        let outcome = run(&mut start, CEILING);
        let said = &outcome.stderr;
        assert_ne!(outcome.code, Some(0), "{}", outcome.report());
        for part in [
            "error: the broker's store `",
            "caused by: ",
            "hint: ",
            ".bad`",
        ] {
            assert!(said.contains(part), "`{part}` is not in:\n{said}");
        }
    }
    assert_eq!(fs::read(&store).unwrap(), before);
}

/// Two brokers with ports of their own on one store.
#[test]
fn a_second_broker_on_the_same_store_is_refused() {
    let realm = Realm::new();
    let broker = realm.world.broker();
    let server = realm.world.realm().join("server.toml");
    let port = format!(":{}", realm.world.broker_port());
    let text = fs::read_to_string(&server).unwrap().replace(&port, ":0");
    fs::write(&server, text).unwrap();
    let mut second = realm.world.tunnel();
    second.arg("broker").arg("--dir").arg(realm.world.realm());
    let outcome = run(&mut second, CEILING);
    assert_ne!(outcome.code, Some(0));
    for part in ["is in use by another broker", "hint: stop that broker"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.report());
    }
    assert!(broker.terminate().success());
}

/// A disk that takes nothing more: nothing is promised, the broker says so once, and goes on as soon as there is room.
#[test]
fn a_full_disk_promises_nothing_and_is_no_end() {
    let realm = Realm::new();
    assert!(realm.world.broker().terminate().success());
    // No file may be written beyond 8 KiB, which the store is: what a full disk does, for this process alone. Its log is
    // shorter.
    let mut command = realm.world.tunnel();
    let program = command.get_program().to_owned();
    let mut shell = std::process::Command::new("sh");
    realm.world.mark(&mut shell);
    shell
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -S -f 16; exec \"$0\" \"$@\"")
        .arg(program)
        .arg("broker")
        .arg("--dir")
        .arg(realm.world.realm());
    command = shell;
    let mut broker: Daemon = realm.world.daemon("full", &mut command);
    broker.wait_for_line("listening on");
    let device = realm.enroll("d0");
    let mut party = Party::dial(realm.world.broker_port(), &device.1);
    let id = device.0.id();
    party.connect(&Connect::new(&id));
    party.send(&super::packets::publish(
        &topic("d0"),
        &said(true, 1, 1),
        1,
        true,
        7,
    ));
    broker.wait_for_line("cannot be written");
    assert_eq!(
        party.within(Duration::from_millis(500)),
        None,
        "it was promised"
    );
    // Everything else goes on.
    assert_eq!(realm.look()["d0"]["online"], true);
    lift_file_limit(&broker);
    assert_eq!(party.next(), Seen::PubAck(7));
    let log = broker.stdout() + &broker.stderr();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    broker.wait_for_line("is written again");
    broker.kill();
    let broker = realm.world.broker();
    assert_eq!(realm.look()["d0"]["online"], true);
    broker.terminate();
}

/// A realm with a controller, and devices that are enrolled when they are asked for.
struct Realm {
    /// Ends before its world does.
    signer: Option<Daemon>,
    world: World,
    /// One that looks, and one that watches: a client id has one session.
    controllers: [(Device, Arc<ClientConfig>); 2],
}

impl Realm {
    fn new() -> Self {
        let world = World::new();
        let server = world.realm().join("server.toml");
        let text = fs::read_to_string(&server).unwrap();
        let window = format!("[broker]\nreconnect_window = \"{}s\"", WINDOW.as_secs());
        assert_eq!(text.matches("[broker]").count(), 1, "{text}");
        fs::write(&server, text.replace("[broker]", &window)).unwrap();
        let signer = world.signer();
        let controllers = ["controller-a", "controller-b"].map(|name| {
            let controller = world.enroll("hula", name);
            let tls = tls(&world, &controller);
            (controller, tls)
        });
        Self {
            world,
            controllers,
            signer: Some(signer),
        }
    }

    fn enroll(&self, name: &str) -> (Device, Arc<ClientConfig>) {
        let device = self.world.enroll("hula", name);
        let tls = tls(&self.world, &device);
        (device, tls)
    }

    /// A controller that has subscribed to all presences.
    fn watcher(&self) -> Party {
        self.subscriber(1)
    }

    fn subscriber(&self, controller: usize) -> Party {
        let (device, tls) = &self.controllers[controller];
        let mut party = Party::dial(self.world.broker_port(), tls);
        party.connect(&Connect::new(&device.id()));
        party.subscribe(&[(&topic("+"), 0)]);
        party
    }

    /// What a controller sees that comes now.
    fn look(&self) -> BTreeMap<String, Value> {
        let mut watcher = self.subscriber(0);
        let mut seen = BTreeMap::new();
        for packet in watcher.ping() {
            if let Seen::Publish(heard) = packet
                && heard.retain
            {
                let name = heard.topic.split('/').nth(2).unwrap().to_owned();
                seen.insert(name, serde_json::from_str(&heard.payload).unwrap());
            }
        }
        watcher.disconnect();
        seen
    }
}

/// A device that publishes without end, one message after the other is acknowledged.
struct Writer {
    name: String,
    state: Arc<WriterState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct WriterState {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
    /// Whether the writer is to rest, and the bell when that changes.
    rest: Mutex<bool>,
    bell: Condvar,
}

impl Writer {
    fn start(realm: &Realm, name: &str) -> Self {
        let (device, tls) = realm.enroll(name);
        let state = Arc::new(WriterState::default());
        let (shared, port, topic) = (Arc::clone(&state), realm.world.broker_port(), topic(name));
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                shared.wait_while_resting();
                if write(&shared, port, &device, &tls, &topic).is_none() {
                    std::thread::yield_now();
                }
            }
        });
        Self {
            name: name.to_owned(),
            state,
            thread: Some(thread),
        }
    }

    fn acknowledged(&self) -> u64 {
        self.state.acknowledged.load(Ordering::SeqCst)
    }

    fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    fn wait_for_more(&self, count: u64) {
        let start = self.acknowledged();
        wait_until("more acknowledgements", CEILING, || {
            let more = self.acknowledged() - start;
            if more >= count {
                Ok(())
            } else {
                Err(format!("{more} of {count}"))
            }
        });
    }

    fn pause(&self) {
        *self.state.rest.lock().unwrap() = true;
    }

    fn go_on(&self) {
        *self.state.rest.lock().unwrap() = false;
        self.state.bell.notify_all();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        self.go_on();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

impl WriterState {
    fn rests(&self) -> bool {
        *self.rest.lock().unwrap()
    }

    fn wait_while_resting(&self) {
        let rest = self.rest.lock().unwrap();
        drop(self.bell.wait_while(rest, |rests| *rests).unwrap());
    }
}

/// One session of a writer, until the broker closes.
fn write(
    state: &WriterState,
    port: u16,
    device: &Device,
    tls: &Arc<ClientConfig>,
    topic: &str,
) -> Option<()> {
    let mut party = Party::try_dial(port, tls).ok()?;
    let connected = party.connect(&Connect::new(&device.id()));
    if !matches!(connected, Seen::ConnAck { code: 0, .. }) {
        return None;
    }
    while !state.stop.load(Ordering::Relaxed) && !state.rests() {
        let next = state.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = party.publish(topic, &said(true, next, 1), 1, true);
        if !matches!(answer.last(), Some(Seen::PubAck(_))) {
            return None;
        }
        state.acknowledged.store(next, Ordering::SeqCst);
    }
    Some(())
}

/// A device with a will, that comes when it is told to.
struct Comer {
    name: String,
    device: Device,
    tls: Arc<ClientConfig>,
    port: u16,
    epoch: u64,
    /// When its session began, in its own words.
    since: u64,
    session: Option<Party>,
}

impl Comer {
    fn new(realm: &Realm, name: &str) -> Self {
        let (device, tls) = realm.enroll(name);
        Self {
            name: name.to_owned(),
            device,
            tls,
            port: realm.world.broker_port(),
            epoch: 0,
            since: 0,
            session: None,
        }
    }

    /// Connects as an agent does, unless it is connected.
    fn come(&mut self, round: u64) {
        if self.session.is_some() {
            return;
        }
        self.epoch += 1;
        self.since = 1000 + round;
        let (id, topic) = (self.device.id(), topic(&self.name));
        let will = said(false, self.since, self.epoch);
        let mut party = Party::dial(self.port, &self.tls);
        let connect = Connect::new(&id).with_will(&topic, &will, 1, true);
        let connected = party.connect(&connect);
        assert!(
            matches!(connected, Seen::ConnAck { code: 0, .. }),
            "{connected:?}"
        );
        let answer = party.publish(&topic, &said(true, self.since, self.epoch), 1, true);
        assert!(matches!(answer.last(), Some(Seen::PubAck(_))), "{answer:?}");
        self.session = Some(party);
    }

    /// It is seen as lost in its last session, which began when it said.
    fn is_lost(&self, seen: &BTreeMap<String, Value>, round: u64) {
        let presence = seen.get(&self.name);
        assert!(
            presence.is_some_and(|presence| presence["online"] == false
                && presence["lost"] == true
                && number(presence, "since") == self.since
                && number(presence, "epoch") == self.epoch),
            "round {round}: {} is away since {} (session {}), but {presence:?}",
            self.name,
            self.since,
            self.epoch
        );
    }
}

/// Whether the device of this number comes back in this round at once.
fn comes_back(number: usize, round: u64) -> bool {
    (number as u64 + round).is_multiple_of(2)
}

/// A message that is published now, and says that somebody is lost.
fn is_event(seen: &Seen) -> bool {
    matches!(seen, Seen::Publish(heard) if !heard.retain && heard.payload.contains(r#""lost":true"#))
}

fn number(presence: &Value, member: &str) -> u64 {
    presence[member].as_u64().unwrap()
}

fn topic(device: &str) -> String {
    format!("atlas/hula/{device}/tunnel/presence")
}

fn said(online: bool, since: u64, epoch: u64) -> String {
    let lost = !online;
    format!(
        r#"{{"v":1,"online":{online},"since":{since},"lost":{lost},"version":"e2e","epoch":{epoch}}}"#
    )
}

/// There is room on the disk again.
fn lift_file_limit(broker: &Daemon) {
    let mut command = std::process::Command::new("prlimit");
    command.args([
        "--fsize=unlimited:unlimited",
        "--pid",
        &broker.pid().to_string(),
    ]);
    run(&mut command, CEILING).success();
}
