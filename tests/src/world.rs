//! One realm in one temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::outcome::{run_into, run_with_input};
use crate::{
    CEILING, Daemon, Device, Outcome, ReservedPort, end_marked, run, tool, tunnel_binary,
    wait_until,
};

/// The environment variable by which every process that a world started, directly or not, is known.
pub const MARK: &str = "TUNNEL_E2E_WORLD";

/// A realm named `atlas`, its ports, and the folder where everything of one test is. Declare it before the daemons, so
/// that it goes last. When the test fails, the end of every log is printed.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    /// Where broker and proxy are found.
    host: String,
    broker: ReservedPort,
    proxy: ReservedPort,
    /// Whether everything that can be logged is logged.
    loud: bool,
}

impl World {
    /// A new realm on free ports of 127.0.0.1, with nothing running.
    ///
    /// # Panics
    /// When `tunnel realm init` fails.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_realm_options(&[])
    }

    /// Like [`new`](Self::new), with more options of `tunnel realm init`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn with_realm_options(options: &[&str]) -> Self {
        Self::made("127.0.0.1", "127.0.0.1", options)
    }

    /// A realm whose broker and proxy listen on every address of the test's side, and are found at this one.
    ///
    /// # Panics
    /// When `tunnel realm init` fails.
    #[track_caller]
    pub fn found_at(host: &str) -> Self {
        Self::made(host, "0.0.0.0", &[])
    }

    #[track_caller]
    fn made(host: &str, listen: &str, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("e2e-")
            .tempdir()
            .expect("the temporary directory is writable");
        let world = Self {
            folder,
            host: host.to_owned(),
            broker: ReservedPort::take(),
            proxy: ReservedPort::take(),
            loud: false,
        };
        for name in ["logs", "tmp", "home"] {
            fs::create_dir(world.path(name)).expect("a new folder is writable");
        }
        let mut init = world.tunnel();
        init.args([
            "realm", "init", "atlas", "--proxy", host, "--listen", listen,
        ])
        .args(["--broker-port", &world.broker.number().to_string()])
        .args(["--proxy-port", &world.proxy.number().to_string()])
        .arg("--dir")
        .arg(world.realm())
        .args(options);
        run(&mut init, CEILING).success();
        world
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the world's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The realm's directory.
    pub fn realm(&self) -> PathBuf {
        self.path("realm")
    }

    /// The directory of log files.
    pub fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// The address of broker and proxy.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The broker's port.
    pub fn broker_port(&self) -> u16 {
        self.broker.number()
    }

    /// The proxy's port.
    pub fn proxy_port(&self) -> u16 {
        self.proxy.number()
    }

    /// `tunnel`, with an environment of its own: nothing of the person who runs the tests reaches it.
    pub fn tunnel(&self) -> Command {
        let mut command = Command::new(tunnel_binary());
        self.mark(&mut command);
        command
    }

    /// Puts this world's mark, home and temporary directory into a command's environment.
    pub fn mark(&self, command: &mut Command) {
        command
            .env(MARK, self.folder.path())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("tmp"))
            .env_remove("TUNNEL_DIR")
            .env_remove("TUNNEL_LOG")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SSH_AUTH_SOCK");
        if self.loud {
            command.env("TUNNEL_LOG", "trace");
        }
    }

    /// Has every part from now on log all that it can.
    pub fn be_loud(&mut self) {
        self.loud = true;
    }

    /// Starts any command of `tunnel` as a daemon, its logs under this name.
    #[track_caller]
    pub fn daemon(&self, name: &str, command: &mut Command) -> Daemon {
        Daemon::start(name, command, &self.logs())
    }

    /// Starts `tunnel serve`: broker, proxy and signer in one process.
    #[track_caller]
    pub fn serve(&self) -> Daemon {
        self.part(&["serve"], "ready")
    }

    /// Starts `tunnel broker` alone.
    #[track_caller]
    pub fn broker(&self) -> Daemon {
        self.part(&["broker"], "listening on")
    }

    /// Starts `tunnel proxy` alone.
    #[track_caller]
    pub fn proxy(&self) -> Daemon {
        self.part(&["proxy"], "listening on")
    }

    /// Starts `tunnel signer run` alone.
    #[track_caller]
    pub fn signer(&self) -> Daemon {
        self.part(&["signer", "run"], "watching")
    }

    /// Runs a command of `tunnel signer` to its end, such as `revoke`, which has to succeed.
    #[track_caller]
    pub fn run_signer(&self, words: &[&str]) -> Outcome {
        let mut signer = self.tunnel();
        signer.arg("signer").args(words);
        run(signer.arg("--dir").arg(self.realm()), CEILING).success()
    }

    /// Enrolls a device; a signer has to be running.
    ///
    /// # Panics
    /// When it does not get its certificate.
    #[track_caller]
    pub fn enroll(&self, system: &str, device: &str) -> Device {
        let made = Device::new(&self.path("devices"), system, device);
        let mut enroll = self.tunnel();
        enroll
            .args([
                "enroll",
                system,
                device,
                "--no-proof",
                "--wait",
                "30s",
                "--realm",
            ])
            .arg(self.realm().join("realm.toml"))
            .arg("--dir")
            .arg(made.dir());
        let outcome = run(&mut enroll, CEILING).success();
        let log = self.logs().join(format!("enroll-{device}.stderr"));
        fs::write(log, &outcome.stderr).expect("the folder is writable");
        made
    }

    /// As [`enroll`](Self::enroll), with a signer that is there for as long as that takes.
    #[track_caller]
    pub fn enroll_alone(&self, system: &str, device: &str) -> Device {
        let _signer = self.signer();
        self.enroll(system, device)
    }

    /// A command of `tunnel` in a device's name.
    pub fn tunnel_as(&self, device: &Device, arguments: &[&str]) -> Command {
        let mut command = self.tunnel();
        command.env("TUNNEL_DIR", device.dir()).args(arguments);
        command
    }

    /// Starts a device's agent.
    #[track_caller]
    pub fn agent(&self, device: &Device) -> Daemon {
        self.daemon(
            &format!("agent-{}", device.device()),
            &mut self.tunnel_as(device, &["agent", "-v"]),
        )
    }

    /// Runs a command of `tunnel` in a device's name to its end, which has to come within the ceiling.
    #[track_caller]
    pub fn run_as(&self, device: &Device, arguments: &[&str]) -> Outcome {
        run(&mut self.tunnel_as(device, arguments), CEILING)
    }

    /// Runs a command with a file as standard input and one as standard output.
    ///
    /// # Panics
    /// When the files cannot be opened, or the command does not end within `limit`.
    #[track_caller]
    pub fn run_through(
        &self,
        command: &mut Command,
        from: &Path,
        to: &Path,
        limit: Duration,
    ) -> Outcome {
        command
            .stdin(fs::File::open(from).expect("the input exists"))
            .stdout(fs::File::create(to).expect("the output is writable"));
        run_into(command, limit)
    }

    /// Runs a command with a file as standard input.
    ///
    /// # Panics
    /// When the file cannot be opened, or the command does not end within `limit`.
    #[track_caller]
    pub fn run_from(&self, command: &mut Command, from: &Path, limit: Duration) -> Outcome {
        command.stdin(fs::File::open(from).expect("the input exists"));
        run_with_input(command, limit)
    }

    /// What `tunnel list --json` says to a controller about a device: its entry, when there is one.
    pub fn listed(
        &self,
        controller: &Device,
        device: &Device,
    ) -> Result<serde_json::Value, String> {
        let outcome = self.run_as(controller, &["list", "--json"]);
        let devices: Vec<serde_json::Value> = serde_json::from_str(&outcome.stdout)
            .map_err(|error| format!("{error}\n{}", outcome.report()))?;
        devices
            .into_iter()
            .find(|entry| entry.get("device").and_then(|id| id.as_str()) == Some(&device.id()))
            .ok_or_else(|| format!("not listed:\n{}", outcome.stdout))
    }

    /// Waits until a controller sees a device as online (or offline).
    #[track_caller]
    pub fn wait_for_presence(
        &self,
        controller: &Device,
        device: &Device,
        online: bool,
    ) -> serde_json::Value {
        let what = format!("{} to be online={online}", device.id());
        wait_until(&what, CEILING, || {
            let entry = self.listed(controller, device)?;
            if entry.get("online").and_then(serde_json::Value::as_bool) == Some(online) {
                Ok(entry)
            } else {
                Err(entry.to_string())
            }
        })
    }

    /// Stock `ssh` (or `scp`, `sftp`) as a controller's person would set it up: the controller's key for every hop, the
    /// proxy and the given hosts known, nothing else read.
    ///
    /// # Panics
    /// When its configuration cannot be written.
    #[track_caller]
    pub fn stock(&self, program: &str, controller: &Device, known: &[(&str, &Path)]) -> Command {
        let folder = self.path(&format!("stock-{}", controller.id()));
        fs::create_dir_all(&folder).expect("the world's folder is writable");
        let proxy = format!("[{}]:{}", self.host, self.proxy_port());
        let proxy_key = self.realm().join("proxy/hostkey.pub");
        let hosts: String = known
            .iter()
            .map(|(host, key)| known_host(host, key))
            .chain([known_host(&proxy, &proxy_key)])
            .collect();
        let (known_hosts, config) = (folder.join("known_hosts"), folder.join("config"));
        fs::write(&known_hosts, hosts).expect("the world's folder is writable");
        let settings = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nBatchMode yes\nUserKnownHostsFile {}\n\
             GlobalKnownHostsFile none\nStrictHostKeyChecking yes\nLogLevel ERROR\n",
            controller.ssh_key().display(),
            known_hosts.display()
        );
        fs::write(&config, settings).expect("the world's folder is writable");
        let mut command = Command::new(tool(program));
        self.mark(&mut command);
        command.stdin(Stdio::null()).arg("-F").arg(config);
        command
    }

    /// The `-J` argument which leads through the proxy as this system.
    pub fn jump(&self, system: &str) -> String {
        format!("{system}@{}:{}", self.host, self.proxy_port())
    }

    #[track_caller]
    fn part(&self, words: &[&str], ready: &str) -> Daemon {
        let mut command = self.tunnel();
        command.args(words).arg("--dir").arg(self.realm());
        let name = words.first().copied().unwrap_or("part");
        let mut daemon = self.daemon(name, &mut command);
        daemon.wait_for_line(ready);
        daemon
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        end_marked(self.folder());
        if std::thread::panicking() {
            print_logs(&self.logs());
        }
    }
}

/// Lines of each log that a failed test shows.
const SHOWN: usize = 60;

#[expect(
    clippy::print_stderr,
    reason = "the test runner captures it and shows it with the failure"
)]
fn print_logs(logs: &Path) {
    let mut files: Vec<_> = fs::read_dir(logs)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let shown = lines
            .get(lines.len().saturating_sub(SHOWN)..)
            .unwrap_or_default();
        if !shown.is_empty() {
            eprintln!("--- {}\n{}", file.display(), shown.join("\n"));
        }
    }
}

fn known_host(host: &str, public_key: &Path) -> String {
    let key = fs::read_to_string(public_key)
        .unwrap_or_else(|error| panic!("`{}`: {error}", public_key.display()));
    format!("{host} {}\n", key.trim())
}
