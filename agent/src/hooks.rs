//! The commands around the tunnel: one at a time, `up` and `down` in turn, each for a limited time.

use std::process::Stdio;
use std::time::Duration;

use daemon::device_file::{HookCommand, Hooks as Commands};
use daemon::shutdown::Shutdown;
use protocol::{DeviceId, Forward};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// The owner's end of the hooks. When it is dropped, and a tunnel was up, `down` runs a last time.
pub(crate) struct Hooks {
    state: watch::Sender<State>,
}

/// What the hooks are to reflect. Only the latest state counts: a tunnel that came and went while a hook was running needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    forwards: Option<Vec<Forward>>,
    /// How often it came: one that went and came back meanwhile is another.
    time: u64,
}

/// What the commands are told of the device.
struct Facts {
    device: DeviceId,
    proxy: String,
}

impl Hooks {
    /// Starts the task that runs the commands.
    pub(crate) fn start(
        commands: Commands,
        device: DeviceId,
        proxy: String,
        shutdown: &Shutdown,
    ) -> Self {
        let (state, states) = watch::channel(State::default());
        if !commands.is_empty() {
            shutdown.spawn(run(commands, Facts { device, proxy }, states));
        }
        Self { state }
    }

    /// The tunnel is open at these ports.
    pub(crate) fn up(&self, forwards: &[Forward]) {
        self.state.send_if_modified(|state| {
            if state.forwards.as_deref() == Some(forwards) {
                return false;
            }
            *state = State {
                forwards: Some(forwards.to_vec()),
                time: state.time + 1,
            };
            true
        });
    }

    /// There is no tunnel.
    pub(crate) fn down(&self) {
        self.state
            .send_if_modified(|state| state.forwards.take().is_some());
    }
}

async fn run(commands: Commands, facts: Facts, mut states: watch::Receiver<State>) {
    let limit = commands.time_limit.unwrap_or(TIME_LIMIT);
    let mut told = State::default();
    loop {
        let owned = states.changed().await.is_ok();
        let state = if owned {
            states.borrow_and_update().clone()
        } else {
            State::default()
        };
        // Each `up` has its `down` before the next `up`: what one has set the other takes back.
        if let Some(forwards) = &told.forwards
            && state != told
        {
            one("down", commands.down.as_ref(), &facts, forwards, limit).await;
        }
        if let Some(forwards) = &state.forwards
            && state != told
        {
            one("up", commands.up.as_ref(), &facts, forwards, limit).await;
        }
        told = state;
        if !owned {
            return;
        }
    }
}

async fn one(
    event: &'static str,
    command: Option<&HookCommand>,
    facts: &Facts,
    forwards: &[Forward],
    limit: Duration,
) {
    let Some(command) = command else { return };
    let program = &command.program;
    let mut child = match prepare(event, command, facts, forwards).spawn() {
        Ok(child) => Group(child),
        Err(error) => {
            tracing::warn!(device = %facts.device, hook = event, program, %error, "a hook cannot be run");
            return;
        }
    };
    tracing::debug!(device = %facts.device, hook = event, program, "a hook runs");
    match timeout(limit, child.0.wait()).await {
        Ok(Ok(status)) if status.success() => {
            tracing::info!(device = %facts.device, hook = event, program, "a hook has done its work");
        }
        Ok(Ok(status)) => {
            tracing::warn!(device = %facts.device, hook = event, program, %status, "a hook failed");
        }
        Ok(Err(error)) => {
            tracing::warn!(device = %facts.device, hook = event, program, %error, "a hook cannot be waited for");
        }
        Err(_) => {
            child.kill();
            // It was killed, so this ends; and nothing is left of it.
            let _ = timeout(limit, child.0.wait()).await;
            tracing::warn!(device = %facts.device, hook = event, program, ?limit, "a hook took too long and was killed");
        }
    }
}

/// The command with the facts in its environment, and nothing of ours: what else stands there is not for it.
fn prepare(event: &str, hook: &HookCommand, facts: &Facts, forwards: &[Forward]) -> Command {
    let id = &facts.device;
    let all: Vec<String> = forwards
        .iter()
        .map(|forward| format!("{}={}", forward.service, forward.port))
        .collect();
    let port = forwards.first().map_or(0, |forward| forward.port);
    let mut command = Command::new(&hook.program);
    command
        .args(&hook.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("TUNNEL_EVENT", event)
        .env("TUNNEL_ID", id.to_string())
        .env("TUNNEL_DEVICE", id.device().as_str())
        .env("TUNNEL_SYSTEM", id.system().as_str())
        .env("TUNNEL_REALM", id.realm().as_str())
        .env("TUNNEL_PROXY", &facts.proxy)
        .env("TUNNEL_PORT", port.to_string())
        .env("TUNNEL_FORWARDS", all.join(","))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    command
}

/// A hook with all that it has started. Dropping it, as the end of a drain does, kills it.
struct Group(Child);

impl Group {
    fn kill(&self) {
        // Not yet waited for: the number is still its own.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long a hook may run unless the settings say otherwise: setting a route takes milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Where a hook finds programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
