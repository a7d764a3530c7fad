//! Other reverse tunnels beside ours in the proxy's bench: rathole (with its Noise transport) and bore (which does not
//! encrypt). Each has a server, a client beside the service, and a port at which visitors come without encryption.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use e2e::{CEILING, Daemon, ReservedPort, World, cargo, cpu_time, is_listening, wait_until};

use crate::step::ChoreError;

/// Where their programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

/// One of them, up.
#[derive(Debug)]
pub(crate) struct Relay {
    name: &'static str,
    daemons: [Daemon; 2],
    visitors: ReservedPort,
}

impl Programs {
    /// Builds what is not there yet below the target directory: some minutes, once.
    pub(crate) fn ensure() -> Result<Self, ChoreError> {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
            PathBuf::from,
        );
        let folder = target.join("bench-peers");
        for (name, version, more) in PEERS {
            if folder.join("bin").join(program(name)).is_file() {
                continue;
            }
            let mut install = cargo();
            install
                .args(["install", "--locked", name, "--version", version, "--root"])
                .arg(&folder)
                .args(more);
            // Standard output is for the figures.
            install.stdout(Stdio::null());
            if !install.status().is_ok_and(|status| status.success()) {
                return Err(ChoreError::Failed(format!(
                    "{name} {version} does not build"
                )));
            }
        }
        Ok(Self { folder })
    }

    /// Starts them before this service.
    pub(crate) fn start(&self, world: &World, service: &str) -> Result<Vec<Relay>, String> {
        Ok(vec![
            self.rathole(world, service)?,
            self.bore(world, service)?,
        ])
    }

    fn rathole(&self, world: &World, service: &str) -> Result<Relay, String> {
        let keys = self.command("rathole").arg("--genkey").output();
        let keys = keys.map_err(|error| format!("rathole: {error}"))?;
        let keys = String::from_utf8_lossy(&keys.stdout).into_owned();
        let (private, public) = keys_of(&keys).ok_or("rathole prints no keys")?;
        let (server, visitors) = (ReservedPort::take(), ReservedPort::take());
        let both = "default_token = \"bench\"\n";
        let (at, visit) = (server.address(), visitors.address());
        let near = format!(
            "[server]\nbind_addr = \"{at}\"\n{both}[server.transport]\ntype = \"noise\"\n[server.transport.noise]\n\
             local_private_key = \"{private}\"\n[server.services.bulk]\nbind_addr = \"{visit}\"\n"
        );
        let far = format!(
            "[client]\nremote_addr = \"{at}\"\n{both}[client.transport]\ntype = \"noise\"\n[client.transport.noise]\n\
             remote_public_key = \"{public}\"\n[client.services.bulk]\nlocal_addr = \"{service}\"\n"
        );
        let run = |role: &str, text: &str| {
            let file = world.path(&format!("rathole-{role}.toml"));
            fs::write(&file, text).map_err(|error| error.to_string())?;
            let mut command = self.command("rathole");
            world.mark(&mut command);
            command.arg(format!("--{role}")).arg(file);
            Ok::<_, String>(world.daemon(&format!("rathole-{role}"), &mut command))
        };
        let daemons = [run("server", &near)?, run("client", &far)?];
        Ok(Relay::up("rathole (noise)", daemons, visitors))
    }

    fn bore(&self, world: &World, service: &str) -> Result<Relay, String> {
        let (_, port) = service.rsplit_once(':').ok_or("a service without a port")?;
        let visitors = ReservedPort::take();
        let number = visitors.number().to_string();
        let mut server = self.command("bore");
        world.mark(&mut server);
        server.args(["server", "--bind-addr", "127.0.0.1"]);
        server.args(["--min-port", &number, "--max-port", &number]);
        let server = world.daemon("bore-server", &mut server);
        wait_until("bore", CEILING, || {
            is_listening(BORE)
                .then_some(())
                .ok_or_else(|| server.stderr())
        });
        let mut client = self.command("bore");
        world.mark(&mut client);
        client.args(["local", port, "--to", "127.0.0.1", "--port", &number]);
        let client = world.daemon("bore-client", &mut client);
        Ok(Relay::up("bore (plain)", [server, client], visitors))
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.folder.join("bin").join(name))
    }
}

impl Relay {
    fn up(name: &'static str, daemons: [Daemon; 2], visitors: ReservedPort) -> Self {
        wait_until(name, CEILING, || {
            let said = || daemons.iter().map(Daemon::stderr).collect::<String>();
            is_listening(visitors.number())
                .then_some(())
                .ok_or_else(said)
        });
        Self {
            name,
            daemons,
            visitors,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where visitors come.
    pub(crate) fn port(&self) -> u16 {
        self.visitors.number()
    }

    /// The processor time of both of its processes so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.daemons
            .iter()
            .map(|daemon| cpu_time(daemon.pid()))
            .sum()
    }
}

/// `Private Key:`, a line of it, `Public Key:`, a line of it.
fn keys_of(text: &str) -> Option<(&str, &str)> {
    let after = |head: &str| {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(head));
        lines.nth(1).map(str::trim)
    };
    Some((after("Private Key")?, after("Public Key")?))
}

/// The name of a package's program.
fn program(package: &str) -> &str {
    package.strip_suffix("-cli").unwrap_or(package)
}

/// The newest ones of 2026-11.
const PEERS: [(&str, &str, &[&str]); 2] = [
    (
        "rathole",
        "0.5.0",
        &["--no-default-features", "--features=client,server,noise"],
    ),
    ("bore-cli", "0.6.0", &[]),
];

/// Where a bore server listens for its clients, always.
const BORE: u16 = 7835;
