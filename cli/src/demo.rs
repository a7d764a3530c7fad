//! `tunnel demo`: a realm, a remote computer and a controller on this machine, each a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use daemon::device_dir::DeviceDir;
use daemon::host_port::HostPort;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::arguments::Demo;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::output;
use crate::runtime::{self, account, cannot};

mod process;
mod remote;

use process::Process;
use remote::Remote;

pub(crate) fn run(arguments: &Demo) -> Result<u8, Failure> {
    runtime::block_on(async {
        let interruption = Interruption::watch()?;
        let mut stage = Stage::new()?;
        let played = tokio::select! {
            played = stage.play(arguments.keep) => played,
            code = interruption.requested() => Err(Failure::text("interrupted", None, code)),
        };
        if arguments.keep && played.is_ok() {
            interruption.requested().await;
        }
        if played.is_err() && interruption.code().is_none() {
            stage.show_logs();
        }
        stage.clear().await;
        played.map(|()| exit::OK)
    })
}

/// Everything that the demo makes: one temporary directory and a few processes.
struct Stage {
    home: TempDir,
    program: PathBuf,
    began: Instant,
    processes: Vec<Process>,
    remote: Option<Remote>,
}

impl Stage {
    fn new() -> Result<Self, Failure> {
        let home = tempfile::Builder::new()
            .prefix("tunnel-demo-")
            .tempdir()
            .map_err(|error| cannot("make a temporary directory", error))?;
        let program =
            std::env::current_exe().map_err(|error| cannot("find this program itself", error))?;
        Ok(Self {
            home,
            program,
            began: Instant::now(),
            processes: Vec::new(),
            remote: None,
        })
    }

    async fn play(&mut self, keep: bool) -> Result<(), Failure> {
        self.serve_a_realm().await?;
        self.enroll().await?;
        self.start_remote_computer().await?;
        let next = self.connect().await?;
        let program = self.program.display();
        if keep {
            let dir = self.controller().display().to_string();
            output::line("It runs on. Type this in another terminal:\n");
            output::line(format_args!("    {program} --dir {dir} {next}\n"));
            output::line("Ctrl-C ends it here.");
        } else {
            let all = millis(self.began.elapsed());
            output::line(format_args!(
                "{all:>6.0} ms in all. `tunnel demo --keep` leaves it running for you to try."
            ));
        }
        Ok(())
    }

    async fn serve_a_realm(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let realm = self.path("realm");
        let (broker, proxy) = (
            free_port().await?.to_string(),
            free_port().await?.to_string(),
        );
        let init = [
            "realm",
            "init",
            "atlas",
            "--proxy",
            "127.0.0.1",
            "--listen",
            "127.0.0.1",
        ];
        let ports = ["--broker-port", &broker, "--proxy-port", &proxy];
        self.output(&realm, &[&init[..], &ports[..]].concat())
            .await?;
        step(
            began,
            "realm `atlas`: an authority, a broker certificate, a proxy host key",
        );

        let began = Instant::now();
        let mut serve = Process::start(
            "serve",
            self.tunnel(&realm, &["serve"]),
            &self.path("serve.log"),
        )?;
        let ready = serve.wait_for_line("ready", START).await;
        self.processes.push(serve);
        ready?;
        step(
            began,
            &format!("broker on 127.0.0.1:{broker}, proxy on 127.0.0.1:{proxy}, signer"),
        );
        Ok(())
    }

    async fn enroll(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let realm_file = self.path("realm").join("realm.toml");
        let realm_file = realm_file.to_string_lossy();
        self.output(
            &self.device(),
            &["enroll", "hula", "333", "--realm", &realm_file],
        )
        .await?;
        self.output(
            &self.controller(),
            &["enroll", "hula", "controller-demo", "--realm", &realm_file],
        )
        .await?;
        step(
            began,
            "keys and certificates of a remote computer, `333`, and of a controller",
        );
        Ok(())
    }

    async fn start_remote_computer(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let device = self.device();
        let authorized = self
            .controller()
            .join("controller-demo.hula.atlas.sshkey.pub");
        let remote = Remote::start(&self.path("remote"), &authorized).await?;
        let remote = self.remote.insert(remote);
        remote.configure(&DeviceDir::new(&device))?;
        step(began, &remote.describe());

        let began = Instant::now();
        let agent = Process::start(
            "agent",
            self.tunnel(&device, &["agent"]),
            &self.path("agent.log"),
        )?;
        self.processes.push(agent);
        self.wait_until_online().await?;
        step(
            began,
            "the remote computer's agent is online; there is no tunnel yet",
        );
        Ok(())
    }

    /// Connects once, and tells what a person would type to connect again.
    async fn connect(&self) -> Result<String, Failure> {
        let user = self.remote.as_ref().map_or("", Remote::user);
        let next = format!("connect {user}@333");
        output::line(format_args!("           $ tunnel {next} -- '{HELLO}'"));
        let began = Instant::now();
        let words: Vec<&str> = next.split(' ').chain(["--", HELLO]).collect();
        let told = self.output(&self.controller(), &words).await?;
        output::line(format_args!("           {}", told.trim_end()));
        step(
            began,
            "order, tunnel, login at the proxy and at the remote computer, command, and back",
        );
        Ok(next)
    }

    async fn wait_until_online(&self) -> Result<(), Failure> {
        let account = account(Some(self.controller()))?;
        let online = async {
            loop {
                match controller::list(&account).await {
                    Ok(devices) if devices.iter().any(|device| device.online) => return,
                    Ok(_) | Err(_) => sleep(POLL).await,
                }
            }
        };
        timeout(START, online).await.map_err(|_| {
            Failure::text(
                format!("the agent did not come online within {START:?}"),
                None,
                exit::UNAVAILABLE,
            )
        })
    }

    fn tunnel(&self, dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--dir")
            .arg(dir)
            .args(words)
            .env_remove("TUNNEL_DIR")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, dir: &Path, words: &[&str]) -> Result<String, Failure> {
        let output = self.tunnel(dir, words).output();
        let output = timeout(COMMAND, output)
            .await
            .map_err(|_| {
                Failure::text(
                    format!(
                        "`tunnel {}` did not end within {COMMAND:?}",
                        words.join(" ")
                    ),
                    None,
                    exit::FAILURE,
                )
            })?
            .map_err(|error| cannot("run this program", error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::text(
            format!("`tunnel {}` failed:\n{}", words.join(" "), said.trim_end()),
            None,
            exit::FAILURE,
        ))
    }

    fn device(&self) -> PathBuf {
        self.path("333")
    }

    fn controller(&self) -> PathBuf {
        self.path("controller")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What the processes have logged, for whoever has to find out why it failed.
    fn show_logs(&self) {
        for process in &self.processes {
            output::note(process.log());
        }
    }

    /// Ends the processes, the last one first, and removes the directory.
    async fn clear(mut self) {
        while let Some(process) = self.processes.pop() {
            process.end().await;
        }
        if let Some(remote) = self.remote.take() {
            remote.end().await;
        }
        if let Err(error) = self.home.close() {
            tracing::warn!(%error, "the temporary directory could not be removed");
        }
    }
}

fn step(began: Instant, text: &str) {
    output::line(format_args!("{:>6.0} ms  {text}", millis(began.elapsed())));
}

/// A port that is free now. Somebody else may take it before we listen; then the demo says so.
async fn free_port() -> Result<u16, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|error| cannot("find a free port", error))?;
    Ok(listener
        .local_addr()
        .map_err(|error| cannot("find a free port", error))?
        .port())
}

fn loopback(port: u16) -> Result<HostPort, Failure> {
    HostPort::new("127.0.0.1", port).map_err(|error| Failure::new(error, None, exit::FAILURE))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Sends SIGTERM to a child, waits, and kills it if it does not end.
async fn end(child: &mut Child) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself this instant.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if timeout(END, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// How long a part may take to begin: a slow machine makes keys in a second.
const START: Duration = Duration::from_secs(20);

/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(30);

/// How long a part may take to end: longer than its own drain.
const END: Duration = Duration::from_secs(12);

/// How often the list is asked for.
const POLL: Duration = Duration::from_millis(50);

/// What is run on the remote computer.
const HELLO: &str = "echo hello from the remote computer, where I am $(whoami)";
