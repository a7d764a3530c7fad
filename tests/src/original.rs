//! The parties of the original system, replayed with the programs that it stands on: the plain words over MQTT, a reverse
//! forward by stock `ssh`. It is as fast as the original could be: no JVM has to start.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{CEILING, Device, Mosquitto, World, run, tool, wait_until};

/// Where the original's target opens its reverse forward to.
#[derive(Clone, Debug)]
pub struct ReverseForward {
    /// `user@host`
    pub login: String,
    /// The proxy's port.
    pub proxy_port: u16,
    /// The port at the proxy, chosen by the target.
    pub port: u16,
    /// The port of the target's own sshd.
    pub sshd_port: u16,
}

/// A target of the original: holds its MQTT connection, runs `ssh -R` when told to connect, answers with its state.
#[derive(Debug)]
pub struct OriginalTarget {
    listener: Child,
    worker: Option<JoinHandle<()>>,
}

impl OriginalTarget {
    /// Starts it, and returns when it is subscribed. It uses two client ids, so the broker has to let it.
    ///
    /// # Panics
    /// When it cannot reach the broker.
    #[track_caller]
    pub fn start(world: &World, device: &Device, forward: &ReverseForward) -> Self {
        Self::start_at(world, device, forward, None)
    }

    /// Like [`start`](Self::start), with the broker reached at another port of 127.0.0.1 than its own.
    ///
    /// # Panics
    /// When it cannot reach the broker.
    #[track_caller]
    pub fn start_at(
        world: &World,
        device: &Device,
        forward: &ReverseForward,
        broker: Option<u16>,
    ) -> Self {
        // Of an option that is given twice the last one counts.
        let port = broker.unwrap_or(world.broker_port()).to_string();
        let topic = |kind| topic(device, kind);
        let client_id = format!("{}-sub", device.id());
        let mut subscribe = Mosquitto::client("mosquitto_sub", world, device, &client_id);
        subscribe.args(["-p", &port, "-q", "1", "-t", &topic("control")]);
        let mut listener = subscribe
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub can be started");
        let client_id = format!("{}-pub", device.id());
        let mut publish = Mosquitto::client("mosquitto_pub", world, device, &client_id);
        publish.args(["-p", &port, "-l", "-t", &topic("state")]);
        let mut publisher = publish
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub can be started");
        let output = listener.stdout.take().expect("standard output is piped");
        let mut states = publisher.stdin.take().expect("standard input is piped");
        let mut ssh = reverse_forward(world, device, forward);
        let connected = format!("connected|port={}", forward.port);
        let (subscribed, ready) = sync_channel(1);
        let worker = thread::spawn(move || {
            let mut tunnel: Option<Child> = None;
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = subscribed.try_send(());
                match &*line {
                    "connect" if tunnel.is_none() => tunnel = ssh.spawn().ok(),
                    "disconnect" => end(tunnel.take()),
                    _ => {}
                }
                let state = if tunnel.is_some() {
                    &connected
                } else {
                    "disconnected"
                };
                if writeln!(states, "{state}").is_err() {
                    break;
                }
            }
            end(tunnel);
            drop(states);
            end(Some(publisher));
        });
        // Any word is a question for the state, and an answered one shows that the subscription stands.
        let client_id = format!("{}-ask", device.id());
        let mut ask = Mosquitto::client("mosquitto_pub", world, device, &client_id);
        ask.args(["-t", &topic("control"), "-m", "state?"]);
        wait_until("the original's target to listen", CEILING, || {
            let outcome = run(&mut ask, CEILING);
            ready
                .recv_timeout(Duration::from_millis(200))
                .map_err(|error| format!("{error}: {}", outcome.report()))
        });
        Self {
            listener,
            worker: Some(worker),
        }
    }
}

impl Drop for OriginalTarget {
    fn drop(&mut self) {
        // The end of the listener's output ends the worker, which ends the rest.
        let _ = self.listener.kill();
        let _ = self.listener.wait();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// The original controller's part over MQTT: says a word until a state comes that begins with `wanted`, and returns the
/// state. The original repeats its word every 5 s without end; this one stops at `limit`.
///
/// # Panics
/// When no such state comes.
#[track_caller]
pub fn original_order(
    world: &World,
    controller: &Device,
    target: &Device,
    said: &str,
    wanted: &str,
    limit: Duration,
) -> String {
    let mut order = original_order_command(world, controller, target, said);
    wait_until(wanted, limit, || {
        let outcome = run(&mut order, limit);
        let state = outcome.stdout.trim_end_matches('\n');
        if state.starts_with(wanted) {
            Ok(state.to_owned())
        } else {
            Err(outcome.report())
        }
    })
}

/// A command that says a word once and prints the next state, over one connection like the original.
///
/// # Panics
/// When mosquitto's clients are not installed.
#[track_caller]
pub fn original_order_command(
    world: &World,
    controller: &Device,
    target: &Device,
    said: &str,
) -> Command {
    let (control, state) = (topic(target, "control"), topic(target, "state"));
    let mut order = Mosquitto::client("mosquitto_rr", world, controller, &controller.id());
    order.args(["-t", &control, "-e", &state, "-m", said, "-W", "5"]);
    order
}

/// `atlas/SYSTEM/DEVICE/tunnel/KIND`, the original's topics.
pub(crate) fn topic(device: &Device, kind: &str) -> String {
    format!(
        "atlas/{}/{}/tunnel/{kind}",
        device.system(),
        device.device()
    )
}

/// The original's command line, with a port for the proxy and an ssh that reads nobody's settings.
fn reverse_forward(world: &World, device: &Device, forward: &ReverseForward) -> Command {
    let mut ssh = Command::new(tool("ssh"));
    world.mark(&mut ssh);
    ssh.args([
        "-F",
        "none",
        "-o",
        "ServerAliveInterval=60",
        "-4",
        "-N",
        "-x",
        "-R",
    ])
    .arg(format!("{}:localhost:{}", forward.port, forward.sshd_port))
    .arg("-i")
    .arg(device.ssh_key())
    .args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ])
    .args([
        "-o",
        "LogLevel=ERROR",
        "-p",
        &forward.proxy_port.to_string(),
        &forward.login,
    ])
    .stdin(Stdio::null());
    ssh
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        // Both fail only when it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}
