//! What bulk, stalled and abandoned streams do to others: nothing.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{
    CEILING, Daemon, EchoServer, Session, SilentServer, allocated, checksum, current_user,
    random_file, run, wait_until,
};

use super::Job;

/// A bound that a stalled neighbour would break by far (it meant a time-out, not a delay), and that a debug build on a
/// loaded machine keeps.
const PROMPT: Duration = Duration::from_secs(3);

/// 64 MB each way at once in a debug build on a small machine that other tests share.
const BULK: Duration = Duration::from_mins(1);
const BULK_BYTES: usize = 64_000_000;

/// What one connection may have unread at the proxy before it is ended (`daemon::flow::HARD_CAP`).
const CAP: u64 = 64 << 20;

#[test]
fn a_controller_that_stops_reading_does_not_delay_another() {
    let job = Job::start();
    let other = job.second_controller();
    let server = job.serve.as_ref().unwrap().pid();
    let before = allocated(server);
    let stalled = stall(&mut job.connect("cat /dev/zero"));
    assert_prompt(&mut job.connect_as(&other, "cat"), "a stalled reader");
    let grown = allocated(server).saturating_sub(before);
    println!(
        "beside a stalled reader the server has {} KiB more",
        grown / 1024
    );
    assert!(grown < CAP, "{} MiB more", grown >> 20);
    drop(stalled);
    assert_prompt(&mut job.connect("cat"), "after a stalled reader");
}

#[test]
fn a_stock_controller_that_stops_reading_does_not_delay_another() {
    let job = Job::start();
    let other = job.second_controller();
    let mut held = Session::start(&mut job.connect("cat"));
    held.echo("the tunnel is up");
    let stalled = stall(jump(&job, &mut job.stock("ssh"), "cat /dev/zero"));
    held.echo("beside a stalled neighbour of the same controller");
    assert_prompt(&mut job.connect_as(&other, "cat"), "a stalled stock reader");
    assert_prompt(
        jump(&job, &mut job.stock_as("ssh", &other), "cat"),
        "two stock sessions",
    );
    drop(stalled);
    assert_eq!(held.finish(), Some(0));
}

#[test]
fn an_upload_into_a_service_that_never_reads_does_not_delay_another() {
    let silent = SilentServer::start();
    let job = Job::with_services(&[("silent", &silent.address())]);
    let other = job.second_controller();
    let mut upload = job
        .world
        .tunnel_as(&job.controller, &["stdio", "333", "silent"]);
    upload
        .stdin(fs::File::open("/dev/zero").unwrap())
        .stdout(Stdio::null());
    let upload = Running(upload.spawn().unwrap());
    assert_prompt(
        &mut job.connect_as(&other, "cat"),
        "an upload that nobody reads",
    );
    drop(upload);
}

#[test]
fn a_download_that_is_abandoned_leaves_the_next_one_alone() {
    let job = Job::start();
    for round in 0..3 {
        let download = stall(&mut job.connect("head -c 200000000 /dev/zero"));
        drop(download);
        let outcome = run(&mut job.connect("echo next"), CEILING);
        assert_eq!(outcome.code, Some(0), "round {round}: {}", outcome.report());
    }
    let mut held = Session::start(&mut job.connect("cat"));
    held.echo("the tunnel is up");
    for round in 0..3 {
        let download = stall(jump(
            &job,
            &mut job.stock("ssh"),
            "head -c 200000000 /dev/zero",
        ));
        drop(download);
        let outcome = run(jump(&job, &mut job.stock("ssh"), "echo next"), CEILING);
        assert_eq!(
            outcome.code,
            Some(0),
            "stock, round {round}: {}",
            outcome.report()
        );
    }
    held.echo("still here");
}

#[test]
fn full_duplex_through_our_own_stream() {
    let echo = EchoServer::start();
    let job = Job::with_services(&[("echo", &echo.address())]);
    full_duplex(
        &job,
        &mut job
            .world
            .tunnel_as(&job.controller, &["stdio", "333", "echo"]),
        "stdio",
    );
}

#[test]
fn full_duplex_through_stock_ssh_over_our_stream() {
    let job = Job::start();
    let mut ssh = job.stock("ssh");
    ssh.args(["-o", &job.proxy_command()])
        .arg(format!("{}@333.hula.atlas", current_user()))
        .arg("cat");
    full_duplex(&job, &mut ssh, "ssh with our ProxyCommand");
}

#[test]
fn full_duplex_through_stock_ssh_and_the_proxy() {
    let job = Job::start();
    let mut held = Session::start(&mut job.connect("cat"));
    held.echo("the tunnel is up");
    full_duplex(&job, jump(&job, &mut job.stock("ssh"), "cat"), "ssh -J");
    held.echo("still here");
}

#[test]
fn six_full_duplex_streams_at_once() {
    let echo = EchoServer::start();
    let job = Job::with_services(&[("echo", &echo.address())]);
    let sent = job.world.path("sent");
    random_file(&sent, 8_000_000);
    let mut streams: Vec<(Daemon, std::path::PathBuf)> = (0..6)
        .map(|number| {
            let received = job.world.path(&format!("received-{number}"));
            let script = format!(
                "exec {} stdio 333 echo < {} > {}",
                e2e::tunnel_binary().display(),
                sent.display(),
                received.display()
            );
            let mut command = Command::new("sh");
            job.world.mark(&mut command);
            command
                .env("TUNNEL_DIR", job.controller.dir())
                .args(["-c", &script]);
            (
                job.world.daemon(&format!("stream-{number}"), &mut command),
                received,
            )
        })
        .collect();
    let whole = checksum(&sent);
    for (stream, received) in &mut streams {
        assert!(stream.wait(BULK).success(), "{}", stream.stderr());
        assert_eq!(checksum(received), whole);
    }
}

#[test]
fn a_half_closed_stream_still_brings_the_answer() {
    let job = Job::start();
    let sent = job.world.path("sent");
    random_file(&sent, 1_000_000);
    // The command answers only after it has seen the end of its input.
    let mut command = job.connect("sha256sum >/dev/null; head -c 5000000 /dev/zero");
    let received = job.world.path("received");
    let outcome = job
        .world
        .run_through(&mut command, &sent, &received, CEILING);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(fs::metadata(&received).unwrap().len(), 5_000_000);
}

/// A download of which nothing more is read after the first megabyte. Dropping it kills it.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn stall(command: &mut Command) -> Running {
    let mut child = Running(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut megabyte = vec![0; 1_000_000];
    child
        .0
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut megabyte)
        .unwrap();
    child
}

/// The command echoes lines, half of them within [`PROMPT`].
#[track_caller]
fn assert_prompt(command: &mut Command, beside: &str) {
    let mut session = Session::start(command);
    session.echo("up");
    let mut times: Vec<_> = (0..21)
        .map(|ping| session.echo(&format!("ping {ping}")))
        .collect();
    times.sort_unstable();
    let (median, worst) = (times[10], times[20]);
    println!("ping beside {beside}: p50 {median:?}, worst {worst:?}");
    assert!(median < PROMPT, "p50 {median:?} beside {beside}");
    assert_eq!(session.finish(), Some(0));
}

/// Sends and receives at once, and compares.
#[track_caller]
fn full_duplex(job: &Job, command: &mut Command, name: &str) {
    let (sent, received) = (job.world.path("sent"), job.world.path("received"));
    random_file(&sent, BULK_BYTES);
    let outcome = job.world.run_through(command, &sent, &received, BULK);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(checksum(&received), checksum(&sent));
    println!(
        "{BULK_BYTES} bytes out and back through {name} in {:?}",
        outcome.took
    );
    wait_until("a later session", CEILING, || {
        let outcome = run(&mut job.connect("true"), CEILING);
        if outcome.code == Some(0) {
            Ok(())
        } else {
            Err(outcome.report())
        }
    });
}

fn jump<'a>(job: &Job, ssh: &'a mut Command, command: &str) -> &'a mut Command {
    ssh.arg("-J")
        .arg(job.world.jump("hula"))
        .arg(format!("{}@333.hula.atlas", current_user()))
        .arg(command)
}
