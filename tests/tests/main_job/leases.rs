//! Several controllers at one device, and what is left when they go.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::{CEILING, EchoServer, Session, Stopwatch, current_user, established, run, wait_until};
use rustix::process::Signal;

use super::{GONE, Job};

/// The lifetime that our controller asks for (docs/protocol.md).
const LEASE: Duration = Duration::from_mins(1);

#[test]
fn one_controllers_end_does_not_cut_anothers_session() {
    let job = Job::start();
    let other = job.second_controller();
    let mut first = Session::start(&mut job.connect("cat"));
    let mut second = Session::start(&mut job.connect_as(&other, "cat"));
    first.echo("first");
    second.echo("second");
    assert_eq!(first.finish(), Some(0));
    // Longer than the grace period of the one that left.
    for round in 0..30 {
        second.echo(&format!("round {round}"));
        wait_until("a tick", CEILING, tick(50));
    }
    assert_eq!(second.finish(), Some(0));
    wait_until_no_tunnel(&job, GONE);
}

#[test]
fn the_last_end_leaves_no_tunnel_at_the_proxy() {
    let job = Job::start();
    assert_eq!(
        established(job.world.proxy_port()),
        0,
        "no tunnel before anybody asked"
    );
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("up");
    assert_ne!(established(job.world.proxy_port()), 0);
    assert_eq!(session.finish(), Some(0));
    wait_until_no_tunnel(&job, GONE);
    let mut ssh = job.stock("ssh");
    ssh.arg("-J")
        .arg(job.world.jump("hula"))
        .arg(format!("{}@333", current_user()))
        .arg("true");
    let outcome = run(&mut ssh, CEILING);
    assert_eq!(outcome.code, Some(255), "{}", outcome.report());
}

#[test]
fn a_controller_that_vanishes_from_its_stream_costs_nothing() {
    let job = Job::start();
    let marker = job.world.path("remote-is-alive");
    let file = marker.display();
    let mut session = Session::start(&mut job.connect(&format!("touch {file}; cat; rm {file}")));
    session.echo("up");
    assert!(marker.exists());
    session.signal(Signal::KILL);
    session.wait(CEILING);
    // The remote command's connection closes with the controller's.
    wait_until("the remote command to end", GONE, || {
        if marker.exists() {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    });
    // It gave its lease up when its stream was open, so nothing but the stream held the tunnel.
    let watch = Stopwatch::start();
    wait_until_no_tunnel(&job, GONE);
    println!(
        "the tunnel of a controller that vanished from its stream was gone after {:?}",
        watch.elapsed()
    );
}

#[test]
fn a_controller_that_vanishes_before_its_stream_costs_a_lease() {
    let stuck = StuckServer::start();
    let job = Job::with_services(&[("stuck", &stuck.address)]);
    let mut stdio = Session::start(
        &mut job
            .world
            .tunnel_as(&job.controller, &["stdio", "333", "stuck"]),
    );
    // The order is answered, and no stream can begin: the device waits for its service, which does not accept.
    let agent = job.agent.as_ref().unwrap();
    wait_until("the controller to be at the proxy", CEILING, || {
        let answered = agent.stderr().contains("answered");
        // The device's two connections at most, so one of three is the controller's.
        match established(job.world.proxy_port()) {
            3.. if answered => Ok(()),
            some => Err(format!("{some} connections, answered: {answered}")),
        }
    });
    stdio.signal(Signal::KILL);
    assert_eq!(stdio.wait(CEILING), None, "it ended before it was killed");
    let watch = Stopwatch::start();
    // Nobody has given the lease up, so it lasts as long as it was asked for.
    wait_until_no_tunnel(&job, LEASE + GONE);
    let took = watch.elapsed();
    println!("the tunnel of a controller that vanished before its stream was gone after {took:?}");
    assert!(
        took > LEASE / 2,
        "the lease was given up, so this was not the case that is meant: {took:?}"
    );
    assert!(!agent.stderr().contains("a stream has begun"));
}

#[test]
fn disconnect_ends_the_own_sessions_and_nobody_elses() {
    let job = Job::start();
    let other = job.second_controller();
    let mut mine = Session::start(&mut job.connect("cat"));
    let mut theirs = Session::start(&mut job.connect_as(&other, "cat"));
    mine.echo("mine");
    theirs.echo("theirs");
    job.world
        .run_as(&job.controller, &["disconnect", "333"])
        .success();
    assert_ne!(
        mine.wait(CEILING),
        Some(0),
        "a session that was cut did not succeed"
    );
    theirs.echo("still here");
    assert_eq!(theirs.finish(), Some(0));
    wait_until_no_tunnel(&job, GONE);
}

#[test]
fn disconnect_ends_a_stream_on_which_nothing_happens() {
    let echo = EchoServer::start();
    let job = Job::with_services(&[("echo", &echo.address())]);
    let other = job.second_controller();
    let stdio = |controller| {
        let mut command = job.world.tunnel_as(controller, &["stdio", "333", "echo"]);
        Session::start(&mut command)
    };
    let (mut mine, mut theirs) = (stdio(&job.controller), stdio(&other));
    mine.echo("mine");
    theirs.echo("theirs");
    job.world
        .run_as(&job.controller, &["disconnect", "333"])
        .success();
    // Its standard input stays open all the time.
    let watch = Stopwatch::start();
    assert_ne!(mine.wait(GONE), Some(0), "a stream was cut");
    println!("an idle stream was gone after {:?}", watch.elapsed());
    theirs.echo("still here");
    assert_eq!(theirs.finish(), Some(0));
    wait_until_no_tunnel(&job, GONE);
}

#[test]
fn many_sessions_share_one_device() {
    let job = Job::start();
    let mut sessions: Vec<_> = (0..6)
        .map(|_| Session::start(&mut job.connect("cat")))
        .collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        session.echo(&format!("session {number}"));
    }
    // In the reverse order, so that each end meets others that are alive.
    while let Some(session) = sessions.pop() {
        assert_eq!(session.finish(), Some(0));
        if let Some(next) = sessions.last_mut() {
            next.echo("still here");
        }
    }
    wait_until_no_tunnel(&job, GONE);
}

/// A service that never accepts: whoever connects waits for an answer until he gives up.
struct StuckServer {
    address: String,
    _queue: (TcpListener, Vec<TcpStream>),
}

impl StuckServer {
    #[track_caller]
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        // Linux leaves further connections unanswered as soon as the queue is full.
        while let Ok(waiting) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(waiting);
            assert!(queue.len() < 16, "the queue has no end");
        }
        Self {
            address: address.to_string(),
            _queue: (listener, queue),
        }
    }
}

/// The proxy has no SSH connection at all: neither a device's nor a controller's.
#[track_caller]
fn wait_until_no_tunnel(job: &Job, limit: Duration) {
    wait_until("the proxy to hold no tunnel", limit, || {
        match established(job.world.proxy_port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
}

/// A probe that is true after this many milliseconds: the distance between two looks at something that has to last.
fn tick(ms: u128) -> impl FnMut() -> Result<(), String> {
    let watch = Stopwatch::start();
    move || {
        if watch.elapsed().as_millis() >= ms {
            Ok(())
        } else {
            Err(String::new())
        }
    }
}
