//! `cargo xtask bench proxy`: what tunnels cost, how fast they are set up, and what goes through them, beside OpenSSH.
//!
//! The proxy, the agent and the controller are the built program in processes of their own. The crowd of idle tunnels, and
//! those that come and go, are russh clients of this process, the same for both servers. Every round measures ours and the
//! peer one after the other.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use e2e::{Daemon, Device, Sshd, Stopwatch, World, cpu_time, current_user, resident};
use russh::keys::load_secret_key;
use serde_json::{Value, json};

use crate::bench_proxy_crowd::{AT_A_TIME, Crowd, Login};
use crate::bench_proxy_openssh::{DoubleHop, SSHD};
use crate::bench_proxy_peers::{Programs, Relay};
use crate::bench_proxy_row::{Goal, Row, head};
use crate::bench_proxy_stream::{Stream, serve};
use crate::bench_proxy_way::{Load, Way};
use crate::float::as_f64;
use crate::percentile::Samples;
use crate::step::{ChoreError, goals, measured_build};

pub(crate) fn command(
    runs: Option<usize>,
    quick: bool,
    only: Option<&str>,
    as_json: bool,
    check: bool,
) -> Result<(), ChoreError> {
    let only = only.map(Part::named).transpose()?;
    if check && only.is_some() {
        return Err(ChoreError::Usage(
            "`--check` looks at all goals: not with `--only`".to_owned(),
        ));
    }
    measured_build()?;
    let mut size = if quick { QUICK } else { FULL };
    size.rounds = runs.unwrap_or(size.rounds).max(1);
    let programs = Programs::ensure()?;
    let rows = measure(&size, only, &programs).map_err(ChoreError::Failed)?;
    if as_json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", json!({"rounds": size.rounds, "figures": rows}));
    } else {
        println!(
            "proxy: medians of {} rounds, interleaved, on loopback",
            size.rounds
        );
        println!("{}", head());
        for row in &rows {
            println!("{}", row.line());
        }
    }
    let missed = rows.iter().filter(|row| row.is_kept() == Some(false));
    goals(missed.map(|row| row.name.as_str()), check)
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// How many idle tunnels there are at each look.
    crowds: &'static [usize],
    rounds: usize,
    /// Set up in each round: of ours one at a time, of ours several at a time, and the same of the slower peer.
    ours: (usize, usize),
    peers: (usize, usize),
    load: Load,
}

const FULL: Size = Size {
    crowds: &[1_000, 10_000, 16_000],
    rounds: 5,
    ours: (200, 1_000),
    peers: (16, 96),
    load: Load {
        pings: 400,
        one: 256_000_000,
        each: 64_000_000,
    },
};

const QUICK: Size = Size {
    crowds: &[1_000],
    rounds: 1,
    load: Load {
        one: 64_000_000,
        each: 16_000_000,
        ..FULL.load
    },
    ..FULL
};

/// One of the three things that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Idle,
    SetUp,
    Streams,
}

impl Part {
    fn named(name: &str) -> Result<Self, ChoreError> {
        match name {
            "idle" => Ok(Self::Idle),
            "setup" => Ok(Self::SetUp),
            "streams" => Ok(Self::Streams),
            other => Err(ChoreError::Usage(format!(
                "no part `{other}`: `idle`, `setup` or `streams`"
            ))),
        }
    }
}

fn measure(size: &Size, only: Option<Part>, programs: &Programs) -> Result<Vec<Row>, String> {
    let bench = Bench::start(size, programs)?;
    let is_wanted = |part| only.is_none_or(|only| only == part);
    let mut rows = Vec::new();
    if is_wanted(Part::Idle) {
        bench.idle(size, &mut rows)?;
    }
    if is_wanted(Part::SetUp) {
        bench.set_up(size, &mut rows)?;
    }
    if is_wanted(Part::Streams) {
        bench
            .streams(size, &mut rows)
            .map_err(|error| format!("a stream of the bench: {error}"))?;
    }
    Ok(rows)
}

/// A realm, and a stock sshd beside its proxy.
struct Bench {
    agent: Daemon,
    proxy: Daemon,
    _broker: Daemon,
    double_hop: DoubleHop,
    _sshd: Sshd,
    controller: Device,
    other: Device,
    relays: Vec<Relay>,
    target: Login,
    stock: Login,
    crowd: Crowd,
    logins: Vec<Login>,
    world: World,
}

impl Bench {
    fn start(size: &Size, programs: &Programs) -> Result<Self, String> {
        let world = World::new();
        let (broker, signer) = (world.broker(), world.signer());
        let device = world.enroll("hula", "333");
        let visitor = world.enroll("hula", "334");
        let controller = world.enroll("hula", "controller-a");
        let other = world.enroll("hula", "controller-b");
        drop(signer);
        let ours = SocketAddr::from((Ipv4Addr::LOCALHOST, world.proxy_port()));
        let most = size.crowds.iter().copied().max().unwrap_or(0);
        let logins = made_up(&world, ours, most)?;
        let sshd = Sshd::start(SSHD, world.folder(), &world.logs());
        for may in [&device, &visitor, &controller] {
            sshd.authorize(may);
        }
        let service = serve().map_err(|error| error.to_string())?;
        device.configure(&sshd, &[("bulk", &service)], "1h");
        let proxy = world.proxy();
        let agent = world.agent(&device);
        world.wait_for_presence(&controller, &device, true);
        let double_hop = DoubleHop::start(&world, &sshd, (&device, &controller), &service)?;
        let relays = programs.start(&world, &service)?;
        let key = load_secret_key(visitor.ssh_key(), None).map_err(|error| error.to_string())?;
        let target = Login {
            server: ours,
            user: "hula".to_owned(),
            key: key.into(),
        };
        let stock = Login {
            server: (Ipv4Addr::LOCALHOST, sshd.port()).into(),
            user: current_user(),
            ..target.clone()
        };
        Ok(Self {
            agent,
            proxy,
            _broker: broker,
            double_hop,
            _sshd: sshd,
            controller,
            other,
            relays,
            target,
            stock,
            crowd: Crowd::new()?,
            logins,
            world,
        })
    }

    /// Memory and processor time of idle tunnels, and the memory that is left when they have gone.
    fn idle(&self, size: &Size, rows: &mut Vec<Row>) -> Result<(), String> {
        let warm = vec![self.target.clone(); 64];
        self.crowd.come_and_go(&warm, AT_A_TIME)?;
        self.crowd.pass(SETTLING);
        let before = resident(self.proxy.pid());
        let (mut held, mut most) = (0, before);
        for &count in size.crowds {
            self.crowd
                .grow(self.logins.get(held..count).unwrap_or_default())?;
            held = count;
            self.crowd.pass(SETTLING);
            let now = resident(self.proxy.pid());
            most = most.max(now);
            let each = as_f64(now.saturating_sub(before)) / as_f64(count) / KIB;
            let row = Row::new(
                format!("memory of each of {count} idle tunnels"),
                "KiB",
                each,
            );
            rows.push(row.goal(Goal::AtMost(32.0)));
            let total = Row::new(
                format!("proxy with {count} tunnels"),
                "MB",
                as_f64(now) / MB,
            );
            rows.push(if count >= HELD_AT_ONCE {
                total.goal(Goal::AtMost(600.0))
            } else {
                total
            });
            let name = format!("processor, {count} tunnels, pings each 4 s");
            rows.push(Row::new(name, "% of one", self.load()));
            self.crowd.pause();
            // The pings that are on their way.
            self.crowd.pass(Duration::from_secs(2));
            let name = format!("processor, {count} tunnels, no pings");
            rows.push(Row::new(name, "% of one", self.load()).goal(Goal::AtMost(0.05)));
            self.crowd.resume();
            self.crowd.pass(SETTLING);
            let alive = self.crowd.alive();
            if alive < count {
                return Err(format!("of {count} tunnels {alive} are alive"));
            }
        }
        self.crowd.leave();
        self.crowd.pass(GIVING_BACK);
        let left = resident(self.proxy.pid());
        let taken = as_f64(most.saturating_sub(before));
        let back = as_f64(most.saturating_sub(left)) / taken * 100.0;
        rows.push(Row::new("of it given back 15 s after they left", "%", back));
        rows.push(Row::new("proxy then", "MB", as_f64(left) / MB));
        Ok(())
    }

    /// The proxy's processor time for a while, of one processor.
    fn load(&self) -> f64 {
        let (watch, before) = (Stopwatch::start(), cpu_time(self.proxy.pid()));
        self.crowd.pass(LOOK);
        let used = cpu_time(self.proxy.pid()).saturating_sub(before);
        used.as_secs_f64() / watch.elapsed().as_secs_f64() * 100.0
    }

    /// From the TCP connection to the granted forward.
    fn set_up(&self, size: &Size, rows: &mut Vec<Row>) -> Result<(), String> {
        let mut sides = [(&self.target, size.ours), (&self.stock, size.peers)]
            .map(|(login, counts)| (login, counts, SetUp::default()));
        for _ in 0..size.rounds {
            for (login, (alone, together), figures) in &mut sides {
                let round = self.crowd.come_and_go(&vec![login.clone(); *alone], 1)?;
                figures.rate_alone.push(round.per_second);
                figures.p50.push(round.took.p50());
                figures.p99.push(round.took.p99());
                let logins = vec![login.clone(); *together];
                let round = self.crowd.come_and_go(&logins, AT_A_TIME)?;
                figures.rate.push(round.per_second);
                figures.p50_together.push(round.took.p50());
            }
        }
        let [(_, _, ours), (_, _, peer)] = sides;
        let row = |name: &str, unit, of: fn(&SetUp) -> &Samples| {
            Row::new(name, unit, of(&ours).p50()).beside(of(&peer).p50())
        };
        let rate = row("tunnels set up, 16 at a time", "1/s", |of| &of.rate);
        let p50 = row("one set up, one at a time, p50", "ms", |of| &of.p50);
        rows.extend([
            row("tunnels set up, one at a time", "1/s", |of| &of.rate_alone),
            p50.goal(Goal::AtMost(2.0)),
            row("one set up, one at a time, p99", "ms", |of| &of.p99),
            rate.goal(Goal::RatioAtLeast(15.0)),
            row("one set up, 16 at a time, p50", "ms", |of| &of.p50_together),
        ]);
        Ok(())
    }

    /// One stream, and several, through both ways.
    fn streams(&self, size: &Size, rows: &mut Vec<Row>) -> std::io::Result<()> {
        let mut ours = Way::open(|| {
            let words = ["stdio", "333", "bulk"];
            Stream::through(&mut self.world.tunnel_as(&self.controller, &words))
        })?;
        let mut peer = Way::open(|| Stream::at(self.double_hop.port()))?;
        let mut relays = Vec::new();
        for relay in &self.relays {
            relays.push((relay, Way::open(|| Stream::at(relay.port()))?));
        }
        let mut stalled = Stalled::default();
        for _ in 0..size.rounds {
            ours.round(&size.load, |pids| self.cpu(pids))?;
            peer.round(&size.load, |_| self.double_hop.cpu())?;
            for (relay, way) in &mut relays {
                way.round(&size.load, |_| relay.cpu())?;
            }
            self.beside_a_stalled_one(&mut ours, &mut stalled, size.load.pings)?;
        }
        let row = |name: &str, unit, of: fn(&Way) -> &Samples| {
            Row::new(name, unit, of(&ours).p50()).beside(of(&peer).p50())
        };
        let faster = Some(Goal::RatioAtLeast(1.2));
        let cheaper = Some(Goal::RatioAtMost(0.75));
        let several = Some(Goal::RatioAtLeast(1.5));
        let quicker = Some(Goal::RatioAtMost(1.0));
        let all = [
            (
                row("one stream, down", "MB/s", |way| &way.down.rate),
                faster,
            ),
            (row("one stream, up", "MB/s", |way| &way.up.rate), faster),
            (
                row("one stream, down", "CPU-s/GB", |way| &way.down.cost),
                cheaper,
            ),
            (
                row("one stream, up", "CPU-s/GB", |way| &way.up.cost),
                cheaper,
            ),
            (
                row("eight streams, down", "MB/s", |way| &way.downs.rate),
                several,
            ),
            (
                row("eight streams, up", "MB/s", |way| &way.ups.rate),
                several,
            ),
            (
                row("eight streams, down", "CPU-s/GB", |way| &way.downs.cost),
                None,
            ),
            (
                row("eight streams, up", "CPU-s/GB", |way| &way.ups.cost),
                None,
            ),
            (row("ping, p50", "ms", |way| &way.ping_p50), quicker),
            (row("ping, p99", "ms", |way| &way.ping_p99), quicker),
        ];
        rows.extend(all.map(|(row, goal)| Row { goal, ..row }));
        for (relay, way) in &relays {
            let row = |what: &str, unit, of: fn(&Way) -> &Samples| {
                let name = format!("{what}, beside {}", relay.name());
                Row::new(name, unit, of(&ours).p50()).beside(of(way).p50())
            };
            rows.extend([
                row("one stream, down", "MB/s", |way| &way.down.rate),
                row("one stream, up", "MB/s", |way| &way.up.rate),
                row("one stream, down", "CPU-s/GB", |way| &way.down.cost),
                row("one stream, up", "CPU-s/GB", |way| &way.up.cost),
                row("eight streams, down", "MB/s", |way| &way.downs.rate),
                row("eight streams, up", "MB/s", |way| &way.ups.rate),
                row("ping, p50", "ms", |way| &way.ping_p50),
            ]);
        }
        let calm = Row::new(STALLED, "ms", stalled.meanwhile.p50()).beside(stalled.before.p50());
        rows.push(calm.goal(Goal::RatioAtMost(2.0)));
        Ok(())
    }

    /// Pings of one controller before another has a stream that it does not read, and meanwhile.
    fn beside_a_stalled_one(
        &self,
        ours: &mut Way,
        figures: &mut Stalled,
        pings: usize,
    ) -> std::io::Result<()> {
        figures.before.push(ours.pings(pings)?.p99());
        let words = ["stdio", "333", "bulk"];
        let mut other = Stream::through(&mut self.world.tunnel_as(&self.other, &words))?;
        other.ping()?;
        other.stall()?;
        self.crowd.pass(SETTLING);
        figures.meanwhile.push(ours.pings(pings)?.p99());
        Ok(())
    }

    /// The processor time of all of our processes so far.
    fn cpu(&self, controllers: &[u32]) -> Duration {
        let daemons = [self.proxy.pid(), self.agent.pid()];
        controllers
            .iter()
            .copied()
            .chain(daemons)
            .map(cpu_time)
            .sum()
    }
}

/// Figures of one server.
#[derive(Debug, Default)]
struct SetUp {
    rate_alone: Samples,
    p50: Samples,
    p99: Samples,
    rate: Samples,
    p50_together: Samples,
}

/// The 99th percentile of each round's pings.
#[derive(Debug, Default)]
struct Stalled {
    before: Samples,
    meanwhile: Samples,
}

/// So many logins of computers with a key each, half of them in another system; their public keys are put where the proxy reads
/// them.
fn made_up(world: &World, server: SocketAddr, count: usize) -> Result<Vec<Login>, String> {
    let devices = count.div_ceil(TUNNELS_PER_DEVICE).max(1);
    let mut logins = Vec::with_capacity(devices);
    for number in 0..devices {
        let system = if number % 2 == 0 { "hula" } else { "kona" };
        let login = Login::made_up(server, system, number as u64);
        let device = format!("d{number}.{system}.atlas");
        let file = world.realm().join(format!("registry/{device}.sshkey.pub"));
        fs::write(&file, login.public_key(&device)? + "\n")
            .map_err(|error| format!("`{}`: {error}", file.display()))?;
        logins.push(login);
    }
    Ok(logins.into_iter().cycle().take(count).collect())
}

/// Its peer is the same controller a moment before.
const STALLED: &str = "ping, p99, while another does not read";

const KIB: f64 = 1024.0;
const MB: f64 = 1e6;

/// Below the proxy's limit of a device's entries, which is 64.
const TUNNELS_PER_DEVICE: usize = 60;

/// As many tunnels as are to be held at once in so much memory.
const HELD_AT_ONCE: usize = 16_000;

/// Until what a crowd's logins have left behind is over.
const SETTLING: Duration = Duration::from_secs(3);

/// How long the processor time of an idle proxy is looked at: less than the ten seconds for which a peer may be silent.
const LOOK: Duration = Duration::from_secs(5);

/// After how long what is given back is measured.
const GIVING_BACK: Duration = Duration::from_secs(15);
