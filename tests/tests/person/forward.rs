//! `tunnel forward`: local ports that lead to a device's services, whatever happens to the device meanwhile.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{
    CEILING, Daemon, EchoServer, ReservedPort, Session, World, checksum, established, is_listening,
    random_file, run, tool, wait_until,
};
use rustix::process::Signal;

use crate::main_job::{GONE, Job};

#[test]
fn several_services_at_once_each_with_its_address() {
    let (echo, web) = (EchoServer::start(), ReservedPort::take());
    let job = Job::with_services(&[("echo", &echo.address()), ("web", &web.address())]);
    let _web = web_server(&job.world, web.number());
    let reserved = ReservedPort::take();
    let local = reserved.number();
    let port = echo.address().rsplit_once(':').unwrap().1.to_owned();
    let wish = format!("{local}:ssh");
    let words = ["forward", "333", "web", &wish, &port];
    let mut forward = Session::start(&mut job.world.tunnel_as(&job.controller, &words));
    let lines: Vec<String> = (0..3).map(|_| forward.hear(CEILING).unwrap()).collect();
    let place = |line: &str| line.split_once(' ').unwrap().0.to_owned();
    assert!(
        lines[0].ends_with(" leads to `web` of `333.hula.atlas`"),
        "{lines:?}"
    );
    assert!(
        lines[2].ends_with(" leads to `echo` of `333.hula.atlas`"),
        "{lines:?}"
    );
    assert_eq!(place(&lines[1]), format!("127.0.0.1:{local}"));
    let url = place(&lines[0]);
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let page = run(&mut curl(&[&format!("{url}/small")]), CEILING).success();
    assert_eq!(page.stdout, "small\n");
    let mut banner = [0; 8];
    let mut ssh = TcpStream::connect(("127.0.0.1", local)).unwrap();
    ssh.set_read_timeout(Some(CEILING)).unwrap();
    ssh.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    // Another of this computer's own addresses: nothing listens there.
    assert!(TcpStream::connect(("127.0.0.2", local)).is_err());

    forward.signal(Signal::INT);
    assert_eq!(forward.wait(CEILING), Some(130));
    assert!(!is_listening(local));
    // The lease too: nothing keeps the tunnel up but its grace period.
    wait_until("the proxy to hold no tunnel", GONE, || {
        match established(job.world.proxy_port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
}

#[test]
fn fifty_requests_while_the_agent_is_started_anew() {
    let web = ReservedPort::take();
    let mut job = Job::with_services(&[("web", &web.address())]);
    let server = web_server(&job.world, web.number());
    let words = ["forward", "--json", "333", "web"];
    let forward = Session::start(&mut job.world.tunnel_as(&job.controller, &words));
    let told = forward.hear(CEILING).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let url = told[0]["url"].as_str().unwrap().to_owned();
    assert_eq!(told[0]["service"], "web");
    let folder = job.world.path("fetched");
    std::fs::create_dir(&folder).unwrap();
    let whole = checksum(&job.world.path("page"));
    let fetch = |name: &str, retries: &str| fetch_fifty(&folder, &format!("{url}/{name}"), retries);

    // Answered only once all of them are there.
    let outcome = run(&mut fetch("together", "0"), LONG).success();
    println!("{REQUESTS} at once in {:?}", outcome.took);
    assert_whole(&folder, whole);

    // In the middle of fifty more, of which some have begun, the agent is killed and another started.
    let agent = job.agent.take().unwrap();
    let device = job.device.clone();
    let world = &job.world;
    let outcome = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| run(&mut fetch("slow", "20"), LONG));
        wait_until("some requests to be under way", CEILING, || {
            let log = server.stderr();
            let begun = log.matches("slow").count();
            if begun > 3 { Ok(()) } else { Err(log) }
        });
        agent.kill();
        let _agent = world.agent(&device);
        let outcome = fetching.join().unwrap().success();
        assert_whole(&folder, whole);
        // What comes now finds the new agent as if nothing had been.
        run(&mut fetch("page", "0"), LONG).success();
        assert_whole(&folder, whole);
        outcome
    });
    println!("{REQUESTS} around a new agent in {:?}", outcome.took);
}

#[test]
fn what_cannot_be_had_is_said_at_once() {
    let job = Job::start();
    let forward = |words: &[&str]| {
        let words = [&["forward", "333"][..], words].concat();
        job.world.run_as(&job.controller, &words)
    };
    let sshd = job.sshd.address();
    let sshd = sshd.rsplit_once(':').unwrap().1;
    for (service, offers) in [
        ("vnc", "`vnc`, only: ssh".to_owned()),
        ("5900", format!("`5900`, only: ssh ({sshd})")),
    ] {
        let refused = forward(&[service]);
        assert_eq!(refused.code, Some(77), "{}", refused.report());
        let error = refused.lines("error")[0];
        assert!(error.ends_with(&offers), "{error}");
    }
    let taken = EchoServer::start();
    let port = taken.address().rsplit_once(':').unwrap().1.to_owned();
    let refused = forward(&[&format!("{port}:ssh")]);
    assert_eq!(refused.code, Some(1), "{}", refused.report());
    assert_eq!(
        refused.lines("error"),
        [format!("cannot listen on 127.0.0.1:{port}")]
    );
    assert_eq!(
        refused.lines("hint"),
        ["leave the local port out to get one that is free"]
    );
    assert_eq!(forward(&["0:ssh"]).code, Some(64));
}

#[test]
fn a_service_that_refuses_is_told_and_not_waited_for() {
    let web = ReservedPort::take();
    let job = Job::with_services(&[("web", &web.address())]);
    let mut command = job
        .world
        .tunnel_as(&job.controller, &["forward", "333", "web"]);
    let mut forward = job.world.daemon("forward", &mut command);
    let line = forward.wait_for_line("http://");
    let url = line.split_once(' ').unwrap().0.to_owned();
    for _ in 0..2 {
        assert_ne!(run(&mut curl(&[&url]), CEILING).code, Some(0));
    }
    let said = wait_until("the refusal to be told", CEILING, || {
        let said = forward.stderr();
        if said.contains("service") {
            Ok(said)
        } else {
            Err(said)
        }
    });
    assert!(!said.contains("wait for it"), "{said}");
    assert_eq!(
        said.matches("cannot reach its service").count(),
        1,
        "{said}"
    );
}

/// A real web server of a page. `/together` is answered once all requests are there, `/slow` takes its time and says so.
#[track_caller]
fn web_server(world: &World, port: u16) -> Daemon {
    random_file(&world.path("page"), PAGE);
    std::fs::write(world.path("small"), "small\n").unwrap();
    let script = format!(
        "import http.server, sys, threading, time
barrier = threading.Barrier({REQUESTS}, timeout=60)
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith('/together'):
            barrier.wait()
        if self.path.startswith('/slow'):
            sys.stderr.write('slow\\n')
            time.sleep(0.5)
        if not self.path.startswith('/small'):
            self.path = '/page'
        super().do_GET()
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(('127.0.0.1', {port}), Handler).serve_forever()
"
    );
    let mut command = Command::new(tool("python3"));
    world.mark(&mut command);
    command.current_dir(world.folder()).args(["-c", &script]);
    let web = world.daemon("web", &mut command);
    wait_until("the web server", CEILING, || {
        is_listening(port).then_some(()).ok_or_else(|| web.stderr())
    });
    web
}

fn fetch_fifty(folder: &Path, url: &str, retries: &str) -> Command {
    let mut command = curl(&[
        "--retry",
        retries,
        "--retry-all-errors",
        "--retry-delay",
        "1",
    ]);
    command
        .args(["--parallel", "--parallel-immediate", "--parallel-max"])
        .arg(REQUESTS.to_string())
        .arg("--output")
        .arg(folder.join("#1"))
        .arg(format!("{url}?[1-{REQUESTS}]"));
    command
}

fn curl(words: &[&str]) -> Command {
    let mut curl = Command::new(tool("curl"));
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(words);
    curl
}

#[track_caller]
fn assert_whole(folder: &Path, whole: (u64, u64)) {
    for number in 1..=REQUESTS {
        let file = folder.join(number.to_string());
        assert_eq!(checksum(&file), whole, "request {number}");
        std::fs::remove_file(file).unwrap();
    }
}

/// What a page with many pictures asks for at once.
const REQUESTS: usize = 50;

/// The size of each answer in bytes.
const PAGE: usize = 200_000;

/// Fifty connections dialled by a debug build on a loaded machine, and an agent that is started in between.
const LONG: Duration = Duration::from_secs(90);
