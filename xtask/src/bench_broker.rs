//! `cargo xtask bench broker`: ours beside mosquitto in one run, with mutual TLS and the same load client.
//!
//! Both run all the time and take turns: a chunk of devices connects to one, then to the other. The broker's memory and
//! processor time are the kernel's figures of its process, so that the load client, which shares the machine, is not in
//! them; rates and times are, for both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use e2e::{CEILING, ReservedPort, Stopwatch, World};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::arguments::Arguments;
use crate::bench_broker_fleet::Fleet;
use crate::bench_broker_load::{Heard, Sessions, online};
use crate::bench_broker_process::Process;
use crate::bench_broker_rows::{Row, Rows};
use crate::float::as_f64;
use crate::percentile::Samples;
use crate::step::{ChoreError, goals, measured_build, step};

/// Measures, and prints a line for each figure as soon as it is there.
pub(crate) fn command(mut arguments: Arguments) -> Result<(), ChoreError> {
    let (as_json, check) = (arguments.flag("--json"), arguments.flag("--check"));
    let most = arguments.number("--devices")?.unwrap_or(9_000).max(CHUNK);
    let sessions = arguments.number("--sessions")?.unwrap_or(100_000);
    arguments.none_left()?;
    raise_descriptors()?;
    measured_build()?;
    if !as_json {
        println!(
            "{:<52}{:>12}{:>12}{:>8}   goal",
            "", "ours", "mosquitto", "ratio"
        );
    }
    let mut rows = Rows {
        as_json,
        rows: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| ChoreError::Failed(error.to_string()))?;
    for count in [2_000.min(most), most] {
        runtime.block_on(measure(count, &mut rows))?;
    }
    runtime.shutdown_timeout(CEILING);
    if as_json {
        let figures: Vec<_> = rows.rows.iter().map(Row::json).collect();
        println!("{}", json!({"figures": figures}));
    }
    without_sockets(sessions)?;
    let missed = rows.rows.iter().filter(|row| row.is_kept() == Some(false));
    goals(missed.map(|row| row.name.as_str()), check)
}

/// A broker with its devices, and what has been measured of it.
struct Side {
    process: Process,
    sessions: Sessions,
    heard: Heard,
    /// Per chunk: processor time per connect, and connects a second.
    connects: Vec<(f64, f64)>,
    empty: f64,
}

impl Side {
    async fn new(process: Process, fleet: &Arc<Fleet>) -> Result<Self, ChoreError> {
        let mut sessions = Sessions::new(process.port(), Arc::clone(fleet));
        // What is there once, however many devices there are, is in place before anything is counted.
        let heard = sessions
            .controller("state")
            .await
            .map_err(|error| ChoreError::Failed(format!("the controller of the bench: {error}")))?;
        sleep(SETTLE).await;
        Ok(Self {
            empty: process.resident(),
            process,
            sessions,
            heard,
            connects: Vec::new(),
        })
    }

    async fn connect(&mut self, which: std::ops::Range<usize>) {
        let count = as_f64(which.len());
        let (cpu, watch) = (self.process.cpu_us(), Stopwatch::start());
        self.sessions.connect(which, Duration::ZERO, 1).await;
        let seconds = watch.elapsed().as_secs_f64();
        let cpu = (self.process.cpu_us() - cpu) / count;
        self.connects.push((cpu, count / seconds));
    }

    /// Processor time per connect of these chunks.
    fn cpu(&self, chunks: impl Iterator<Item = usize>) -> f64 {
        let of: Vec<_> = chunks
            .filter_map(|chunk| self.connects.get(chunk))
            .collect();
        of.iter().map(|(cpu, _)| cpu).sum::<f64>() / as_f64(of.len())
    }

    fn rate(&self) -> f64 {
        let seconds: f64 = self.connects.iter().map(|(_, rate)| 1.0 / rate).sum();
        as_f64(self.connects.len()) / seconds
    }

    /// Sends a state of one device and waits until the controller has it; milliseconds.
    async fn round_trip(&mut self, index: usize) -> Option<f64> {
        let watch = Stopwatch::start();
        self.sessions.state(index, &[b'x'; 200]).await;
        timeout(CEILING, self.heard.recv()).await.ok()??;
        Some(watch.elapsed_ms())
    }

    /// Loses all devices and has them back within [`JITTER`]; seconds until the controller knows all of them as online
    /// again, and the peak of memory in KiB.
    async fn storm(&mut self, count: usize) -> Result<(f64, f64, usize), ChoreError> {
        let failed = |what: &str| ChoreError::Failed(format!("lost and back: {what}"));
        let mut heard = self
            .sessions
            .controller("presence")
            .await
            .map_err(|error| failed(&error.to_string()))?;
        let mut known = BTreeMap::new();
        while known.len() < count {
            let (topic, payload) = timeout(CEILING, heard.recv())
                .await
                .ok()
                .flatten()
                .ok_or_else(|| failed("retained presences are missing"))?;
            known.insert(topic, payload);
        }
        self.process.forget_peak();
        let watch = Stopwatch::start();
        self.sessions.lose_all();
        let back = online(2).into_bytes();
        let mut online = 0;
        let truth = async {
            while online < count {
                let (topic, payload) = heard.recv().await?;
                let is_back = payload == back;
                let was_back = known.insert(topic, payload).is_some_and(|old| old == back);
                online = online + usize::from(is_back) - usize::from(was_back);
            }
            Some(watch.elapsed().as_secs_f64())
        };
        let (failures, seconds) = tokio::join!(
            self.sessions.connect(0..count, JITTER, 2),
            timeout(STORM, truth)
        );
        let seconds = seconds
            .ok()
            .flatten()
            .ok_or_else(|| failed(&format!("{online} of {count} presences are true again")))?;
        Ok((seconds, self.process.peak(), failures))
    }
}

async fn measure(count: usize, rows: &mut Rows) -> Result<(), ChoreError> {
    let world = World::new();
    let port = ReservedPort::take();
    let fleet = Arc::new(Fleet::of_realm(&world.realm(), count)?);
    let mut ours = Side::new(Process::ours(&world), &fleet).await?;
    let mut peer = Side::new(Process::mosquitto(&world, port.number())?, &fleet).await?;
    let chunks = count / CHUNK;
    for chunk in 0..chunks {
        let which = chunk * CHUNK..(chunk + 1) * CHUNK;
        ours.connect(which.clone()).await;
        peer.connect(which).await;
    }
    let count = chunks * CHUNK;
    sleep(SETTLE).await;
    connects(count, &ours, &peer, rows);
    idle(count, &ours, &peer, rows).await;
    round_trips(count, &mut ours, &mut peer, rows).await?;
    let (ours, peer) = (ours.storm(count).await?, peer.storm(count).await?);
    rows.push(Row::new(
        &of(count, "lost and back within 10 s: all true after, s"),
        ours.0,
        peer.0,
        None,
    ));
    rows.push(Row::new(
        &of(count, "lost and back: peak memory, MiB"),
        ours.1 / 1024.0,
        peer.1 / 1024.0,
        None,
    ));
    rows.push(Row::new(
        &of(count, "lost and back: tries that failed"),
        as_f64(ours.2),
        as_f64(peer.2),
        None,
    ));
    Ok(())
}

fn of(count: usize, name: &str) -> String {
    format!("{count} devices: {name}")
}

fn connects(count: usize, ours: &Side, peer: &Side, rows: &mut Rows) {
    let chunks = count / CHUNK;
    let per_device = |side: &Side| (side.process.resident() - side.empty) / as_f64(count);
    rows.push(Row::new(
        &of(count, "memory per device, KiB"),
        per_device(ours),
        per_device(peer),
        Some(1.0),
    ));
    rows.push(Row::new(
        &of(count, "processor time per connect, µs"),
        ours.cpu(0..chunks),
        peer.cpu(0..chunks),
        Some(0.5),
    ));
    rows.push(Row::new(
        &of(count, "connects a second"),
        ours.rate(),
        peer.rate(),
        None,
    ));
    let first = 1_000 / CHUNK;
    if chunks > 2 * first {
        // What the machine does to both is in both: the goal is for ours alone.
        for (whose, side, goal) in [("ours", ours, Some(1.2)), ("mosquitto's", peer, None)] {
            rows.push(Row {
                name: of(count, &format!("{whose} last 1,000 beside first, µs")),
                ours: side.cpu(chunks - first..chunks),
                peer: Some(side.cpu(0..first)),
                goal,
            });
        }
    }
}

async fn idle(count: usize, ours: &Side, peer: &Side, rows: &mut Rows) {
    let before = (ours.process.cpu_us(), peer.process.cpu_us());
    let watch = Stopwatch::start();
    sleep(IDLE).await;
    let percent = |side: &Side, before: f64| {
        (side.process.cpu_us() - before) / watch.elapsed().as_secs_f64() / 1e4
    };
    rows.push(Row::new(
        &of(count, "idle processor, %"),
        percent(ours, before.0),
        percent(peer, before.1),
        None,
    ));
}

/// One message at a time, in turn.
async fn round_trips(
    count: usize,
    ours: &mut Side,
    peer: &mut Side,
    rows: &mut Rows,
) -> Result<(), ChoreError> {
    let (mut own, mut others) = (Samples::default(), Samples::default());
    for turn in 0..ROUND_TRIPS {
        for (side, samples) in [(&mut *ours, &mut own), (&mut *peer, &mut others)] {
            let took = side.round_trip(turn * 7919 % count).await;
            samples.push(
                took.ok_or_else(|| ChoreError::Failed("a message was lost".to_owned()))? * 1e3,
            );
        }
    }
    rows.push(Row::new(
        &of(count, "QoS 1 round trip p50, µs"),
        own.p50(),
        others.p50(),
        Some(1.0),
    ));
    rows.push(Row::new(
        &of(count, "QoS 1 round trip p99, µs"),
        own.p99(),
        others.p99(),
        None,
    ));
    Ok(())
}

/// Sessions without sockets, in a process of their own.
fn without_sockets(count: usize) -> Result<(), ChoreError> {
    if count == 0 {
        return Ok(());
    }
    let mut test = e2e::cargo();
    test.env("TUNNEL_BENCH_SESSIONS", count.to_string())
        .args([
            "test",
            "--quiet",
            "--release",
            "--package",
            "broker",
            "--lib",
            "--",
        ])
        .args(["sessions_without_sockets", "--nocapture"]);
    step("sessions without sockets", &mut test)
}

/// The load client has a socket for every device, twice.
fn raise_descriptors() -> Result<(), ChoreError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| ChoreError::Failed(format!("the limit of open files: {error}")))
}

/// Devices that connect to one broker before it is the other's turn.
const CHUNK: usize = 500;

/// After which nothing of what came before is still being done.
const SETTLE: Duration = Duration::from_secs(2);

/// How long idle brokers are watched: most devices say something in it (every 30 s).
const IDLE: Duration = Duration::from_secs(20);

const ROUND_TRIPS: usize = 2_000;

/// Within which a fleet comes back after it was lost: an agent's first tries.
const JITTER: Duration = Duration::from_secs(10);

/// How long all of it may take.
const STORM: Duration = Duration::from_mins(3);
