//! A realm whose proxy is a stock sshd, and what is tried there with stock clients.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{CEILING, Daemon, Device, ReservedPort, World, is_listening, run, wait_until};

use super::house::House;

/// How a stream ended: after so many octets, or so.
pub(crate) type GreetingEnd = Result<usize, ErrorKind>;

/// A realm whose proxy is the house's sshd: device 3 and a controller of `hula`, device 3 of `tau`.
pub(crate) struct Stock {
    pub(crate) house: House,
    pub(crate) target: Device,
    pub(crate) controller: Device,
    pub(crate) stranger: Device,
    pub(crate) port: ReservedPort,
    pub(crate) other: ReservedPort,
    pub(crate) world: World,
}

impl Stock {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let world = World::new();
        let port = ReservedPort::take();
        // Far enough from it for two ranges that do not overlap.
        let mut held = vec![ReservedPort::take()];
        while held[held.len() - 1].number().abs_diff(port.number()) < 10 {
            held.push(ReservedPort::take());
        }
        let other = held.pop().unwrap();
        let file = world.realm().join("realm.toml");
        let mut text = fs::read_to_string(&file).unwrap();
        for (system, port) in [("hula", &port), ("tau", &other)] {
            let (start, end) = (port.number() - 3, port.number() + 3);
            writeln!(text, "\n[ports.{system}]\nstart = {start}\nend = {end}").unwrap();
        }
        // Its proxy is the house's sshd.
        let house = House::new(&world);
        let proxy = format!("127.0.0.1:{}", world.proxy_port());
        let own = fs::read_to_string(world.realm().join("proxy/hostkey.pub")).unwrap();
        text = text
            .replace(&proxy, &house.address())
            .replace(first_two_words(&own), first_two_words(&house.host_key()));
        fs::write(&file, text).unwrap();
        let signer = world.signer();
        let target = world.enroll("hula", "3");
        let controller = world.enroll("hula", "controller-a");
        let stranger = world.enroll("tau", "3");
        drop(signer);
        let stock = Self {
            house,
            target,
            controller,
            stranger,
            port,
            other,
            world,
        };
        for system in ["hula", "tau"] {
            stock.tunnel(&["proxy", "add-system", system]).success();
        }
        stock
    }

    #[track_caller]
    pub(crate) fn tunnel(&self, arguments: &[&str]) -> e2e::Outcome {
        self.house
            .tunnel(&self.world, &self.world.realm(), arguments)
    }

    #[track_caller]
    pub(crate) fn sync(&self) -> e2e::Outcome {
        self.tunnel(&["proxy", "sync", "--openssh"])
    }

    pub(crate) fn keys_file(&self, system: &str) -> std::path::PathBuf {
        self.house.home(system).join(".ssh/authorized_keys")
    }

    /// `ssh -N` with these arguments, left running.
    #[track_caller]
    pub(crate) fn forward(
        &self,
        name: &str,
        device: &Device,
        system: &str,
        arguments: &[&str],
    ) -> Daemon {
        let mut ssh = self.house.stock(&self.world, "ssh", &device.ssh_key());
        ssh.arg("-N")
            .args(arguments)
            .arg(format!("{system}@127.0.0.1"));
        self.world.daemon(name, &mut ssh)
    }

    /// A command with these arguments, which has to fail.
    #[track_caller]
    pub(crate) fn refused(
        &self,
        program: &str,
        device: &Device,
        before: &[&str],
        after: &[&str],
    ) -> String {
        let mut ssh = self.house.stock(&self.world, program, &device.ssh_key());
        ssh.args(before).arg("hula@127.0.0.1").args(after);
        let outcome = run(&mut ssh, CEILING);
        assert_ne!(
            outcome.code,
            Some(0),
            "{before:?} {after:?}: {}",
            outcome.report()
        );
        assert!(
            !outcome.stderr.contains("Permission denied"),
            "the key itself has to be good: {}",
            outcome.report()
        );
        outcome.stdout + &outcome.stderr
    }

    /// What comes back through `ssh -L` from a socket on the proxy that greets, how it ends, and what ssh says.
    #[track_caller]
    pub(crate) fn greeting(
        &self,
        name: &str,
        port: u16,
        local: &str,
    ) -> (String, GreetingEnd, String) {
        let tunnel = self.forward(name, &self.controller, "hula", &["-L", local]);
        wait_until("the local end", CEILING, || {
            is_listening(port)
                .then_some(())
                .ok_or_else(|| tunnel.stderr())
        });
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(CEILING)).unwrap();
        let mut text = String::new();
        let end = stream.read_to_string(&mut text);
        let end = end.map_err(|error| error.kind());
        (text, end, tunnel.stderr())
    }

    /// What `ssh -W` brings back of a greeting.
    #[track_caller]
    pub(crate) fn through(&self, to: &str) -> String {
        let mut ssh = self
            .house
            .stock(&self.world, "ssh", &self.controller.ssh_key());
        ssh.args(["-W", to, "hula@127.0.0.1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = ssh.spawn().unwrap();
        // It fails when the stream is refused, and then nothing comes back either.
        let _ = child.stdin.take().unwrap().write_all(b"hello");
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Greets whoever connects to a unix socket at this path, which every user may; counts them.
pub(crate) fn greeter(path: &Path) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    let greeted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&greeted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.unwrap().write_all(b"greetings");
        }
    });
    greeted
}

/// `TYPE BASE64` of a public key.
fn first_two_words(line: &str) -> &str {
    let end = line
        .match_indices(' ')
        .nth(1)
        .map_or(line.len(), |(at, _)| at);
    line[..end].trim_end()
}
