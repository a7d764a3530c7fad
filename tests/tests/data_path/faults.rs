//! A remote computer whose link fails: it is noticed in time, nothing hangs, no byte is wrong, and all comes back.

use std::fs;
use std::process::Command;
use std::time::Duration;

use e2e::{
    CEILING, Daemon, Device, Link, Session, Stopwatch, World, checksum, descriptors, random_file,
    tool, wait_until,
};

#[test]
fn a_cut_link_is_noticed_by_all_in_time_and_the_tunnel_is_back_soon() {
    let stage = Stage::start();
    let mut session = Session::start(&mut stage.stdio());
    session.echo("before");
    let open = wait_until("the stream's connection and the spare", CEILING, || {
        let open = stage.links();
        (open >= 2).then_some(open).ok_or(format!("{open}"))
    });
    let idle = descriptors(stage.proxy.pid());
    assert!(idle > 0);

    stage.link.rule("drop");
    let watch = Stopwatch::start();
    assert_ne!(session.wait(NOTICED), Some(0));
    let controller = watch.elapsed();
    let left = || NOTICED.saturating_sub(watch.elapsed());
    wait_until("the agent to notice", left(), || {
        logged(&stage.agent, "the tunnel is lost")
    });
    let agent = watch.elapsed();
    wait_until(
        "the proxy to hold none of its connections",
        left(),
        || match stage
            .proxy
            .stderr()
            .matches("connection ended device=333")
            .count()
        {
            ended if ended >= open => Ok(()),
            ended => Err(format!("{ended} of {open} ended")),
        },
    );
    println!(
        "cut: the controller knew after {controller:?}, the agent after {agent:?}, the proxy after {:?}",
        watch.elapsed()
    );

    stage.link.rule("");
    let watch = Stopwatch::start();
    stage.wait_until_back();
    println!(
        "the link is back: so is the tunnel after {:?}",
        watch.elapsed()
    );
    let mut session = Session::start(&mut stage.stdio());
    session.echo("after");
    assert_eq!(session.finish(), Some(0));
    stage.assert_baseline(idle);
}

#[test]
fn a_lossy_link_gives_no_wrong_byte_and_does_not_hang() {
    let stage = Stage::start();
    stage.link.rule("numgen random mod 100 < 20 drop");
    stage.transfer(3_000_000, "20 % of all packets lost each way", true);
}

#[test]
fn a_link_with_a_low_rate_is_slow_and_right() {
    let stage = Stage::start();
    stage.link.rate("20mbit");
    stage.transfer(4_000_000, "20 Mbit/s", false);
}

#[test]
fn a_reset_in_the_middle_is_heard_of_by_both_ends() {
    let stage = Stage::start();
    stage.link.rate("20mbit");
    let mut session = Session::start(&mut stage.stdio());
    session.echo("before");
    stage
        .link
        .rule("tcp flags & rst == rst accept\n meta l4proto tcp reject with tcp reset");
    let watch = Stopwatch::start();
    // Something has to be on its way for a reset to answer it.
    let _ = session.try_echo("during", Duration::from_millis(100));
    assert_ne!(session.wait(NOTICED), Some(0));
    wait_until("the agent to notice", NOTICED, || {
        logged(&stage.agent, "the tunnel is lost")
    });
    println!("reset: both ends knew after {:?}", watch.elapsed());
    stage.link.rule("");
    stage.wait_until_back();
}

/// An agent behind a link of its own, always on, with an echo service; proxy and controller on this side.
struct Stage {
    agent: Daemon,
    proxy: Daemon,
    _echo: Daemon,
    controller: Device,
    world: World,
    link: Link,
}

impl Stage {
    #[track_caller]
    fn start() -> Self {
        let link = Link::new();
        let world = World::new();
        let realm = world.realm().join("realm.toml");
        let text = fs::read_to_string(&realm).unwrap();
        let ports = "[ports.hula]\nstart = 61000\nend = 61999\nalways_on = true\n";
        fs::write(&realm, format!("{text}\n{ports}")).unwrap();
        let signer = world.signer();
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-a");
        signer.terminate();
        let port = world.proxy_port();
        let here = format!("127.0.0.1:{port}");
        replace(
            &world.realm().join("server.toml"),
            &here,
            &format!("0.0.0.0:{port}"),
        );
        replace(
            &device.dir().join("realm.toml"),
            &here,
            &format!("{}:{port}", link.outside()),
        );
        let settings =
            "system = \"hula\"\ndevice = \"333\"\n\n[services]\necho = \"127.0.0.1:7\"\n";
        fs::write(device.dir().join("device.toml"), settings).unwrap();
        let proxy = world.proxy();
        let mut echo = Command::new(tool("python3"));
        world.mark(&mut echo);
        echo.args(["-u", "-c", ECHO]);
        let mut echo = world.daemon("echo", &mut link.inside(&echo));
        echo.wait_for_line("ready");
        let command = world.tunnel_as(&device, &["agent", "-v"]);
        let mut agent = world.daemon("agent", &mut link.inside(&command));
        agent.wait_for_line("the tunnel is up");
        Self {
            agent,
            proxy,
            _echo: echo,
            controller,
            world,
            link,
        }
    }

    fn stdio(&self) -> Command {
        let words = ["stdio", "--port", "61333", "333", "echo"];
        self.world.tunnel_as(&self.controller, &words)
    }

    #[track_caller]
    fn wait_until_back(&self) {
        wait_until("the tunnel to be back", BACK, || {
            match self.agent.stderr().matches("the tunnel is up").count() {
                2.. => Ok(()),
                _ => Err(self.agent.stderr()),
            }
        });
    }

    /// Sends so many bytes (or as many as `TUNNEL_FAULT_BYTES` says) there and back at once.
    #[track_caller]
    fn transfer(&self, bytes: usize, link: &str, may_break: bool) {
        let wanted = std::env::var("TUNNEL_FAULT_BYTES").ok();
        let bytes = wanted.map_or(bytes, |wanted| wanted.parse().unwrap());
        let (sent, received) = (self.world.path("sent"), self.world.path("received"));
        random_file(&sent, bytes);
        let idle = descriptors(self.proxy.pid());
        let limit = TRANSFER + Duration::from_micros(bytes as u64 * 8);
        let mut stdio = self.stdio();
        let outcome = self.world.run_through(&mut stdio, &sent, &received, limit);
        println!("{bytes} bytes there and back, {link}: {:?}", outcome.took);
        if outcome.code == Some(0) {
            assert_eq!(checksum(&received), checksum(&sent));
        } else {
            // Given up with words, at both ends, and without a wrong byte. A link that only is slow is no reason for it.
            assert!(may_break, "{}", outcome.report());
            assert_eq!(outcome.code, Some(69), "{}", outcome.report());
            let whole = fs::read(&sent).unwrap();
            assert!(whole.starts_with(&fs::read(&received).unwrap()));
            wait_until("the agent to hear of it", NOTICED, || {
                logged(&self.agent, "a stream has ended")
            });
        }
        self.link.rule("");
        self.assert_baseline(idle);
    }

    /// The device's connections to the proxy.
    fn links(&self) -> usize {
        let log = self.proxy.stderr();
        log.matches("logged in device=333").count()
            - log.matches("connection ended device=333").count()
    }

    /// The proxy has no more files and sockets open than before, but for the second spare that may stay.
    #[track_caller]
    fn assert_baseline(&self, before: usize) {
        wait_until(
            "the proxy's sockets to be as before",
            CEILING,
            || match descriptors(self.proxy.pid()) {
                now if now <= before + 1 => Ok(()),
                now => Err(format!("{now} descriptors, {before} before")),
            },
        );
        // And the next stream finds a connection that works.
        let mut session = Session::start(&mut self.stdio());
        session.echo("works");
        assert_eq!(session.finish(), Some(0));
    }
}

fn logged(daemon: &Daemon, text: &str) -> Result<(), String> {
    let log = daemon.stderr();
    if log.contains(text) { Ok(()) } else { Err(log) }
}

#[track_caller]
fn replace(file: &std::path::Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// Sends back what it receives, and ends when the peer does.
const ECHO: &str = "
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
server = Server(('127.0.0.1', 7), Echo)
print('ready')
server.serve_forever()
";

/// The nine seconds after which whoever says nothing counts as gone (`daemon::ssh_client::SILENCE_LIMIT`), and what a loaded
/// machine adds; how long it took is printed.
const NOTICED: Duration = Duration::from_secs(20);

/// How soon after its link a tunnel is back.
const BACK: Duration = Duration::from_secs(10);

/// What a transfer takes beside its bytes.
const TRANSFER: Duration = Duration::from_mins(1);
