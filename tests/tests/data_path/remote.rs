//! A remote computer behind a link of its own, and all that may be left behind on either side of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use e2e::{
    CEILING, Daemon, Device, Link, Outcome, Session, Sshd, Supervisor, World, current_user,
    descriptors, noise_file, processes_marked, threads, tool, tunnel_binary, wait_until,
};

/// An agent with a real sshd and a service of bytes, alone behind its link; the realm and a controller on the test's side.
pub(super) struct Remote {
    // Fields are dropped in this order: the world, which prints the logs of a failed test, goes last but for the link.
    pub(super) agent: Daemon,
    pub(super) serve: Daemon,
    pub(super) bytes: Daemon,
    pub(super) sshd: Sshd,
    pub(super) device: Device,
    pub(super) controller: Device,
    reports: Supervisor,
    pub(super) world: World,
    pub(super) link: Link,
}

/// A program that moves the payload, from this file and to that one.
pub(super) struct Moving<'a> {
    pub(super) program: Command,
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
}

/// What a computer has while nobody uses it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Baseline {
    agent: (usize, usize),
    serve: (usize, usize),
    service: usize,
    sessions: usize,
    /// What the server tells its supervisor: who is online, the tunnels and streams of the proxy's table.
    table: String,
    controllers: usize,
}

impl Remote {
    /// Everything running, the computer seen online, and no tunnel.
    #[track_caller]
    pub(super) fn start() -> Self {
        let link = Link::new();
        let world = World::found_at(&link.outside());
        noise_file(&world.path("payload"), PAYLOAD);
        let reports = Supervisor::at(&world.path("serve.notify"));
        let mut serve = world.tunnel();
        serve.arg("serve").arg("--dir").arg(world.realm());
        reports.attend(&mut serve, None);
        let mut serve = world.daemon("serve", &mut serve);
        serve.wait_for_line("ready");
        let (folder, logs) = (world.folder(), world.logs());
        let sshd = Sshd::start_behind(&link, "sshd", folder, &logs);
        let mut bytes = Command::new(tool("python3"));
        world.mark(&mut bytes);
        bytes.args(["-u", "-c", BYTES]).arg(world.path("payload"));
        let mut bytes = world.daemon("bytes", &mut link.inside(&bytes));
        bytes.wait_for_line("ready");
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-a");
        let services = [
            ("echo", "127.0.0.1:7"),
            ("sink", "127.0.0.1:9"),
            ("source", "127.0.0.1:19"),
        ];
        device.configure(&sshd, &services, GRACE);
        sshd.authorize(&controller);
        let agent = link.inside(&world.tunnel_as(&device, &["agent", "-v"]));
        let agent = world.daemon("agent", &mut { agent });
        world.wait_for_presence(&controller, &device, true);
        Self {
            agent,
            serve,
            bytes,
            sshd,
            device,
            controller,
            reports,
            world,
            link,
        }
    }

    /// `tunnel stdio 333 SERVICE`
    pub(super) fn stdio(&self, service: &str) -> Command {
        let words = ["stdio", "333", service];
        self.world.tunnel_as(&self.controller, &words)
    }

    /// Stock `ssh`, `scp` or `sftp`, which finds the computer through `tunnel stdio`.
    pub(super) fn stock(&self, program: &str) -> Command {
        let key = self.sshd.host_key();
        let mut command = self
            .world
            .stock(program, &self.controller, &[("333.hula.atlas", &key)]);
        let through = format!(
            "ProxyCommand={} stdio --dir {} %h",
            tunnel_binary().display(),
            self.controller.dir().display()
        );
        command.args(["-o", &through]);
        command
    }

    /// The file that is sent: [`PAYLOAD`] bytes of noise. Both sides see it, as they see all of the world's folder.
    pub(super) fn payload(&self) -> PathBuf {
        self.world.path("payload")
    }

    /// Begins all transfers, has the fault come when the link has carried [`MIDDLE`] bytes out and back since, and waits for
    /// their ends. None of them may have ended when the fault comes.
    #[track_caller]
    pub(super) fn in_the_middle<T>(
        &self,
        transfers: Vec<Moving<'_>>,
        fault: impl FnOnce() -> T,
    ) -> (T, Vec<Outcome>) {
        let (world, start) = (&self.world, self.link.carried());
        thread::scope(|scope| {
            let transfers: Vec<_> = transfers
                .into_iter()
                .map(|mut moving| {
                    scope.spawn(move || {
                        let Moving { program, from, to } = &mut moving;
                        world.run_through(program, from, to, LIMIT)
                    })
                })
                .collect();
            wait_until("the middle of all", LIMIT, || {
                let now = self.link.carried();
                let (out, back) = (now.0 - start.0, now.1 - start.1);
                let running = transfers.iter().all(|transfer| !transfer.is_finished());
                assert!(running, "too soon: {out} bytes out, {back} back");
                let middle = out.min(back) > MIDDLE;
                middle
                    .then_some(())
                    .ok_or(format!("{out} out, {back} back"))
            });
            let fault = fault();
            let ended = transfers.into_iter().map(thread::ScopedJoinHandle::join);
            (fault, ended.map(Result::unwrap).collect())
        })
    }

    /// What is there now.
    pub(super) fn now(&self) -> Baseline {
        let count = |daemon: &Daemon| (descriptors(daemon.pid()), threads(daemon.pid()));
        let stdio = |command: &&String| command.contains(" stdio ");
        let processes = processes_marked(self.world.folder());
        Baseline {
            agent: count(&self.agent),
            serve: count(&self.serve),
            service: descriptors(self.bytes.pid()),
            sessions: self.sshd.sessions(),
            table: self.reports.status(),
            controllers: processes.iter().filter(stdio).count(),
        }
    }

    /// What there is while nobody uses the computer.
    #[track_caller]
    pub(super) fn baseline(&self) -> Baseline {
        wait_until("nothing but the computer's presence", CEILING, || {
            let now = self.now();
            let idle = now.table == "1 devices online; 0 tunnels, 0 streams";
            if idle && now.sessions == 0 && now.controllers == 0 {
                Ok(now)
            } else {
                Err(format!("{now:?}"))
            }
        })
    }

    /// A new stream brings a line back. The broker may notice the cut only now, and refuse the first try.
    pub(super) fn carries_again(&self) {
        wait_until("a stream to bring a line back", CEILING, || {
            self.world
                .wait_for_presence(&self.controller, &self.device, true);
            let mut session = Session::start(&mut self.stdio("echo"));
            session.try_echo("after the fault", CEILING)?;
            match session.finish() {
                Some(0) => Ok(()),
                code => Err(format!("{code:?}")),
            }
        });
    }

    /// Waits until nothing is left of what was done since: no socket, no thread, no process, no entry of the proxy's table.
    #[track_caller]
    pub(super) fn returns_to(&self, before: &Baseline) {
        wait_until("everything to be as it was", CEILING, || {
            let now = self.now();
            let pairs = [(now.agent, before.agent), (now.serve, before.serve)];
            let grown = |(now, before): &((usize, usize), (usize, usize))| {
                now.0 > before.0 || now.1 > before.1 + FILE_THREADS
            };
            let left = now.service > before.service
                || now.sessions > before.sessions
                || now.controllers > before.controllers
                || now.table != before.table;
            if left || pairs.iter().any(grown) {
                Err(format!("{now:?}, {before:?} before"))
            } else {
                Ok(())
            }
        });
    }
}

/// A file of the computer's, as `scp` and `rsync` name it.
pub(super) fn remote_file(path: &Path) -> String {
    format!("{}@333.hula.atlas:{}", current_user(), path.display())
}

/// What is sent, each way.
pub(super) const PAYLOAD: u64 = 200_000_000;

/// How much of it has crossed the link, each way, when a fault comes: little enough that none of several transfers, of which
/// each has a pace of its own, is at its end before the slowest has come so far.
pub(super) const MIDDLE: u64 = 30_000_000;

/// The nine seconds after which whoever says nothing counts as gone (`daemon::ssh_client::SILENCE_LIMIT`), and what a loaded
/// machine adds; how long it took is printed.
pub(super) const NOTICED: Duration = Duration::from_secs(20);

/// What a transfer may take in a debug build on a small machine that others use too.
const LIMIT: Duration = Duration::from_secs(90);

/// A runtime's threads for reading and writing files come and go by themselves.
const FILE_THREADS: usize = 2;

/// How long the tunnel outlives its last stream: short, because every test waits for it.
const GRACE: &str = "1s";

/// At port 7 what comes is sent back; at 9 it is counted and compared with the payload, and the count is the answer; at 19 the
/// payload is sent. Each end is told in a line.
const BYTES: &str = r"
import hashlib, socketserver, sys, threading

payload = sys.argv[1]

def told(*words):
    print(*words, flush=True)

def digest(length):
    digest = hashlib.sha256()
    with open(payload, 'rb') as file:
        while length and (data := file.read(min(length, 1 << 18))):
            digest.update(data)
            length -= len(data)
    return digest.hexdigest() if not length else 'too long'

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

class Sink(socketserver.BaseRequestHandler):
    def handle(self):
        count, sha, end = 0, hashlib.sha256(), 'end'
        try:
            while data := self.request.recv(1 << 18):
                sha.update(data)
                count += len(data)
            self.request.sendall(b'%d %s\n' % (count, sha.hexdigest().encode()))
        except OSError as error:
            end = error.strerror
        told('sink', 'right' if digest(count) == sha.hexdigest() else 'wrong', count, end)

class Source(socketserver.BaseRequestHandler):
    def handle(self):
        count, end = 0, 'end'
        try:
            with open(payload, 'rb') as file:
                while data := file.read(1 << 18):
                    self.request.sendall(data)
                    count += len(data)
            self.request.shutdown(1)
            while self.request.recv(1):
                pass
        except OSError as error:
            end = error.strerror
        told('source', count, end)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

for port, handler in (7, Echo), (9, Sink), (19, Source):
    threading.Thread(target=Server(('127.0.0.1', port), handler).serve_forever).start()
told('ready')
";
