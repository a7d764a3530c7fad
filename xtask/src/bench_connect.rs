//! `cargo xtask bench connect`: from process start to the banner of the remote computer's sshd, on loopback.
//!
//! The peer is the original's sequence, replayed with the programs that it stands on: the order over a TLS MQTT broker
//! (mosquitto), a reverse forward by stock `ssh` through a stock sshd, then `ssh -W`. Both begin each run cold, without a
//! tunnel. The peer is spared what the original pays besides: the start of a JVM, and the repetition of its word every 5 s
//! when the first one is lost; and where the original fails because the forward is not up yet, the peer tries again at once.
//!
//! With a round trip time, every leg of both (controller and agent, to broker and to proxy) goes through relays that are
//! that far away, and the times are shown in round trips too.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::{
    CEILING, Daemon, DelayRelay, Device, Mosquitto, OriginalTarget, ReservedPort, ReverseForward,
    Sshd, Stopwatch, World, current_user, established, is_listening, original_order,
    original_order_command, wait_until,
};

use crate::bench::{Figure, Report};
use crate::percentile::Samples;
use crate::step::{ChoreError, measured_build};

/// The whole way has to take at most this share of the original's.
const GOAL: f64 = 0.6;

/// The steps that `tunnel stdio --timing` reports, in order.
const STEPS: [&str; 6] = [
    "config",
    "mqtt-connect",
    "order",
    "proxy-login",
    "stream",
    "banner",
];

/// The most round trips that the whole way may take.
const ROUND_TRIPS: f64 = 10.0;

/// Measures cold runs of ours and of the original's in turn; with `rtt`, over lines of that round trip time.
pub(crate) fn measure(runs: usize, rtt: Option<Duration>) -> Result<Report, ChoreError> {
    measured_build()?;
    let ours = Ours::start(rtt)?;
    let original = Original::start(&ours.sshd, rtt)?;
    let (mut total, mut peer) = (Samples::default(), Samples::default());
    let mut steps: Vec<Samples> = STEPS.iter().map(|_| Samples::default()).collect();
    // One of each beforehand: page cache and the first-time costs of the daemons are nobody's figure.
    ours.connect()?;
    original.connect();
    for _ in 0..runs {
        let (whole, parts) = ours.connect()?;
        total.push(whole);
        for (samples, part) in steps.iter_mut().zip(parts) {
            samples.push(part);
        }
        peer.push(original.connect());
    }
    let whole = Figure {
        name: "total".to_owned(),
        ours: total,
        peer: Some(("the original's sequence".to_owned(), peer)),
        goal: Some(GOAL),
        trips_goal: rtt.map(|_| ROUND_TRIPS),
    };
    let parts = STEPS.iter().zip(steps).map(|(name, ours)| Figure {
        name: (*name).to_owned(),
        ours,
        peer: None,
        goal: None,
        trips_goal: None,
    });
    Ok(Report {
        about: format!(
            "connect: from process start to the remote sshd's banner, cold, {}",
            rtt.map_or("on loopback".to_owned(), |rtt| format!(
                "every leg {} ms there and back",
                rtt.as_millis()
            ))
        ),
        runs,
        rtt,
        figures: std::iter::once(whole).chain(parts).collect(),
    })
}

/// Our realm, agent and controller.
struct Ours {
    _agent: Daemon,
    _serve: Daemon,
    sshd: Sshd,
    controller: Device,
    world: World,
    _relays: Vec<DelayRelay>,
}

impl Ours {
    fn start(rtt: Option<Duration>) -> Result<Self, ChoreError> {
        let world = World::new();
        let serve = world.serve();
        let sshd = Sshd::start("sshd", world.folder(), &world.logs());
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-a");
        // Short, so that the next run soon begins cold.
        device.configure(&sshd, &[], "100ms");
        let mut relays = Vec::new();
        if let Some(rtt) = rtt {
            for port in [world.broker_port(), world.proxy_port()] {
                let relay = relay(port, rtt)?;
                for device in [&device, &controller] {
                    redirect(device, port, relay.port())?;
                }
                relays.push(relay);
            }
        }
        let agent = world.agent(&device);
        world.wait_for_presence(&controller, &device, true);
        Ok(Self {
            _agent: agent,
            _serve: serve,
            sshd,
            controller,
            world,
            _relays: relays,
        })
    }

    /// One cold run: the whole time as seen from outside, and what the program says about its steps.
    fn connect(&self) -> Result<(f64, Vec<f64>), ChoreError> {
        let proxy = self.world.proxy_port();
        wait_until("our tunnel to be gone", CEILING, || {
            match established(proxy) {
                0 => Ok(()),
                left => Err(format!("{left} connections")),
            }
        });
        let mut command = self
            .world
            .tunnel_as(&self.controller, &["stdio", "--timing", "333"]);
        command.stderr(Stdio::piped());
        let (took, mut child) = until_line(&mut command, BANNER).map_err(|said| failed(&said))?;
        // Its input ends, so sshd ends the stream, and the program says its times.
        drop(child.stdin.take());
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let _ = child.wait();
        Ok((took, steps_of(&said)))
    }
}

/// The original's parts.
struct Original {
    _target: OriginalTarget,
    _broker: Mosquitto,
    _proxy: Sshd,
    /// Where the proxy is reached, and the broker if not at its own port.
    proxy_port: u16,
    broker_port: Option<u16>,
    port: ReservedPort,
    device: Device,
    controller: Device,
    world: World,
    _relays: Vec<DelayRelay>,
}

impl Original {
    fn start(remote: &Sshd, rtt: Option<Duration>) -> Result<Self, ChoreError> {
        let world = World::new();
        let signer = world.signer();
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-a");
        drop(signer);
        let broker = Mosquitto::start_open(&world);
        let proxy = Sshd::start("proxy-sshd", world.folder(), &world.logs());
        proxy.authorize(&device);
        proxy.authorize(&controller);
        let port = ReservedPort::take();
        let relays = rtt.map(|rtt| -> Result<_, ChoreError> {
            Ok([relay(world.broker_port(), rtt)?, relay(proxy.port(), rtt)?])
        });
        let relays: Vec<_> = relays.transpose()?.into_iter().flatten().collect();
        let (broker_port, proxy_port) = match &*relays {
            [to_broker, to_proxy] => (Some(to_broker.port()), to_proxy.port()),
            _ => (None, proxy.port()),
        };
        let forward = ReverseForward {
            login: format!("{}@127.0.0.1", current_user()),
            proxy_port,
            port: port.number(),
            sshd_port: remote.port(),
        };
        let target = OriginalTarget::start_at(&world, &device, &forward, broker_port);
        Ok(Self {
            _target: target,
            _broker: broker,
            _proxy: proxy,
            proxy_port,
            broker_port,
            port,
            device,
            controller,
            world,
            _relays: relays,
        })
    }

    /// One cold run, then the end of its tunnel.
    fn connect(&self) -> f64 {
        let (world, port) = (&self.world, self.port.number());
        let mut order = original_order_command(world, &self.controller, &self.device, "connect");
        if let Some(port) = self.broker_port {
            // The last one counts.
            order.args(["-p", &port.to_string()]);
        }
        let watch = Stopwatch::start();
        let (_, mut ordered) = wait_until("the original's answer", CEILING, || {
            until_line(&mut order, "connected|port=")
        });
        let (_, mut child) = wait_until("the original's tunnel", CEILING, || {
            until_line(&mut self.dial(), BANNER)
        });
        let took = watch.elapsed_ms();
        let _ = ordered.wait();
        let _ = child.kill();
        let _ = child.wait();
        original_order(
            world,
            &self.controller,
            &self.device,
            "disconnect",
            "disconnected",
            CEILING,
        );
        wait_until("the original's tunnel to be gone", CEILING, || {
            if is_listening(port) {
                Err("still listening".to_owned())
            } else {
                Ok(())
            }
        });
        took
    }

    /// The inner `ssh` of the original's controller.
    fn dial(&self) -> Command {
        let mut ssh = Command::new(e2e::tool("ssh"));
        self.world.mark(&mut ssh);
        ssh.args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "LogLevel=ERROR",
        ])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-i"])
        .arg(self.controller.ssh_key())
        .args(["-p", &self.proxy_port.to_string(), "-W"])
        .arg(format!("localhost:{}", self.port.number()))
        .arg(format!("{}@127.0.0.1", current_user()))
        .stderr(Stdio::null());
        ssh
    }
}

/// How the line begins with which an SSH server greets (RFC 4253, section 4.2).
const BANNER: &str = "SSH-2.0-";

/// Starts a command and reads its first line, which has to begin like this; milliseconds from start to line.
fn until_line(command: &mut Command, beginning: &str) -> Result<(f64, Child), String> {
    let watch = Stopwatch::start();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    let took = watch.elapsed_ms();
    if line.starts_with(beginning) {
        return Ok((took, child));
    }
    let _ = child.kill();
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    Err(format!(
        "`{line}` {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn relay(to: u16, rtt: Duration) -> Result<DelayRelay, ChoreError> {
    DelayRelay::start(to, rtt).map_err(|error| failed(&format!("no relay: {error}")))
}

/// Has a device find at another port what its realm file has at this one.
fn redirect(device: &Device, from: u16, to: u16) -> Result<(), ChoreError> {
    let path = device.dir().join("realm.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| failed(&format!("`{}`: {error}", path.display())))?;
    let changed = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
    if changed == text {
        return Err(failed(&format!(
            "`{}` names no port {from}",
            path.display()
        )));
    }
    std::fs::write(&path, changed)
        .map_err(|error| failed(&format!("`{}`: {error}", path.display())))
}

fn failed(said: &str) -> ChoreError {
    ChoreError::Failed(format!("a connection of the bench: {said}"))
}

/// The milliseconds of each step from the JSON object on the last line.
fn steps_of(said: &str) -> Vec<f64> {
    let timing: serde_json::Value = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default();
    STEPS
        .iter()
        .map(|name| {
            timing
                .get("steps")
                .and_then(|steps| {
                    steps
                        .as_array()?
                        .iter()
                        .find(|step| step.get("name").is_some_and(|n| n == name))
                })
                .and_then(|step| step.get("ms")?.as_f64())
                .unwrap_or(f64::NAN)
        })
        .collect()
}
