//! What a device offers, and nothing else: several services, and a web server behind one of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{
    CEILING, Daemon, EchoServer, ReservedPort, Session, World, checksum, is_listening, random_file,
    run, tool, wait_until,
};

use crate::main_job::Job;

#[test]
fn each_service_by_its_name_and_nothing_else() {
    let echo = EchoServer::start();
    let dead = ReservedPort::take();
    let job = Job::with_services(&[("echo", &echo.address()), ("dead", &dead.address())]);
    let sent = job.world.path("sent");
    fs::write(&sent, "through the service\n").unwrap();
    let stdio = |service: &str| {
        let mut command = job
            .world
            .tunnel_as(&job.controller, &["stdio", "333", service]);
        job.world.run_from(&mut command, &sent, CEILING)
    };
    assert_eq!(stdio("echo").success().stdout, "through the service\n");
    let banner = stdio("ssh");
    assert!(banner.stdout.starts_with("SSH-2.0-"), "{}", banner.report());

    let unknown = stdio("vnc");
    assert_eq!(unknown.code, Some(77), "{}", unknown.report());
    assert_eq!(
        unknown.lines("error"),
        [
            "`333.hula.atlas` refuses: `333.hula.atlas` offers no service `vnc`, only: ssh, dead, echo"
        ]
    );
    let unreachable = stdio("dead");
    assert_eq!(unreachable.code, Some(69), "{}", unreachable.report());
    assert_eq!(
        unreachable.lines("caused by"),
        ["the proxy refuses it: the device cannot reach its service"]
    );
    // Why, its own log says: what is behind a device is its own business.
    let log = job.agent.as_ref().unwrap().stderr();
    assert!(
        log.contains("the service cannot be reached service=dead"),
        "{log}"
    );
    // The others are served all the same.
    assert_eq!(stdio("echo").success().stdout, "through the service\n");
}

#[test]
fn a_port_of_the_device_that_is_no_service_cannot_be_reached_through_the_proxy() {
    // It listens on the device's loopback, but its settings do not name it.
    let secret = EchoServer::start();
    let echo = EchoServer::start();
    let job = Job::with_services(&[("echo", &echo.address())]);
    let mut held = Session::start(&mut job.connect("cat"));
    held.echo("the tunnel is up");
    let sent = job.world.path("sent");
    fs::write(&sent, "hello\n").unwrap();
    let through = |address: &str| {
        let port = address.rsplit(':').next().unwrap();
        let mut ssh = job.stock("ssh");
        ssh.args(["-W", &format!("333:{port}"), "-p"])
            .arg(job.world.proxy_port().to_string())
            .arg("hula@127.0.0.1");
        job.world.run_from(&mut ssh, &sent, CEILING)
    };
    assert_eq!(through(&echo.address()).success().stdout, "hello\n");
    let refused = through(&secret.address());
    assert_eq!(refused.code, Some(255), "{}", refused.report());
    assert_eq!(refused.stdout, "", "{}", refused.report());
    assert_eq!(held.finish(), Some(0));
}

#[test]
fn a_web_service_answers_fifty_requests_at_once_through_one_device() {
    let port = ReservedPort::take();
    let job = Job::with_services(&[("web", &port.address())]);
    let _web = web_server(&job.world, port.number());
    let mut held = Session::start(&mut job.connect("cat"));
    held.echo("the tunnel is up");
    let local = ReservedPort::take();
    let _forward = forward(&job, &local, port.number());
    let whole = checksum(&job.world.path("page"));

    // The server answers only when all of them are there: fewer at a time would never end.
    let folder = job.world.path("fetched");
    fs::create_dir(&folder).unwrap();
    let mut curl = fetch(&job.world, &folder, &local, "together");
    let outcome = run(&mut curl, TOGETHER).success();
    println!("{REQUESTS} requests at once in {:?}", outcome.took);
    for number in 1..=REQUESTS {
        assert_eq!(
            checksum(&folder.join(number.to_string())),
            whole,
            "request {number}"
        );
    }

    // And again, over what the first have left.
    let mut curl = fetch(&job.world, &folder, &local, "page");
    let outcome = run(&mut curl, TOGETHER).success();
    println!("{REQUESTS} more in {:?}", outcome.took);
    for number in 1..=REQUESTS {
        assert_eq!(checksum(&folder.join(number.to_string())), whole);
    }
    held.echo("still here");
    assert_eq!(held.finish(), Some(0));
}

/// A real web server, of the world's folder. `/together` is the page too, but answered only once all requests are there.
#[track_caller]
fn web_server(world: &World, port: u16) -> Daemon {
    random_file(&world.path("page"), PAGE);
    let script = format!(
        "import http.server, threading
barrier = threading.Barrier({REQUESTS}, timeout=60)
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith('/together'):
            barrier.wait()
        self.path = '/page'
        super().do_GET()
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(('127.0.0.1', {port}), Handler).serve_forever()
"
    );
    let mut command = Command::new(tool("python3"));
    world.mark(&mut command);
    command.current_dir(world.folder()).args(["-c", &script]);
    let web = world.daemon("web", &mut command);
    listening(port);
    web
}

/// Stock `ssh -N -L`: a local port that leads to the device's web service, by the device's name.
#[track_caller]
fn forward(job: &Job, local: &ReservedPort, service: u16) -> Daemon {
    let mut ssh = job.stock("ssh");
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L"])
        .arg(format!("{}:333:{service}", local.address()))
        .args(["-p", &job.world.proxy_port().to_string()])
        .arg("hula@127.0.0.1");
    let forward = job.world.daemon("forward", &mut ssh);
    listening(local.number());
    forward
}

fn fetch(world: &World, folder: &Path, local: &ReservedPort, page: &str) -> Command {
    let mut curl = Command::new(tool("curl"));
    world.mark(&mut curl);
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(["--parallel", "--parallel-immediate", "--parallel-max"])
        .arg(REQUESTS.to_string())
        .arg("--output")
        .arg(folder.join("#1"))
        .arg(format!("http://{}/{page}?[1-{REQUESTS}]", local.address()));
    curl
}

#[track_caller]
fn listening(port: u16) {
    wait_until("a listener", CEILING, || {
        if is_listening(port) {
            Ok(())
        } else {
            Err(format!("nobody listens at {port}"))
        }
    });
}

/// What a page with many pictures asks for at once.
const REQUESTS: usize = 50;

/// The size of each answer in bytes.
const PAGE: usize = 200_000;

/// Fifty connections of a device, dialled one after the other by a debug build on a loaded machine.
const TOGETHER: Duration = Duration::from_mins(1);
