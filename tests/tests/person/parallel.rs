//! Several connections at once: they take turns at the broker, and do not wait for each other all the same.

use std::process::Command;
use std::time::Duration;

use e2e::{CEILING, DelayRelay, Laptop, Stopwatch, current_user, established, run, wait_until};

use super::{installed, line};
use crate::main_job::{GONE, Job};

#[test]
fn eight_at_once_take_about_as_long_as_one() {
    let job = Job::start();
    let laptop = installed(&job);
    // So far from the broker that time is made of round trips, whatever else runs on this machine.
    let relay = DelayRelay::start(job.world.broker_port(), RTT).unwrap();
    redirect(&laptop, job.world.broker_port(), relay.port());
    let ssh = format!("ssh {}@333.hula.atlas echo here", current_user());
    let one = line(&laptop, &ssh).success().took;
    settle(&job);
    let eight = at_once(8, || laptop.shell(&ssh));
    println!(
        "RTT {RTT:?} to the broker: one ssh in {one:?}, eight at once in {eight:?}, {:.1} times as long",
        eight.as_secs_f64() / one.as_secs_f64()
    );
    assert!(
        one > 3 * RTT,
        "the way to the broker was not that long: {one:?}"
    );
    assert!(eight < 4 * one, "one took {one:?}, eight {eight:?}");
}

#[test]
fn four_connections_of_an_editor_beside_direct_ones() {
    let job = Job::start();
    let laptop = installed(&job);
    let through = || {
        laptop.shell(&format!(
            "ssh -o ControlMaster=no {}@333.hula.atlas true",
            current_user()
        ))
    };
    let sshd = job.sshd.address();
    let (host, port) = sshd.split_once(':').unwrap();
    let direct = || {
        let mut ssh = job.stock("ssh");
        ssh.args(["-o", "HostKeyAlias=333.hula.atlas", "-p", port])
            .arg(format!("{}@{host}", current_user()))
            .arg("true");
        ssh
    };
    // Once for each, so that neither is the first to find anything.
    at_once(1, through);
    at_once(1, direct);
    for round in 1..=3 {
        let (ours, theirs) = (at_once(4, through), at_once(4, direct));
        println!(
            "round {round}: four at once through the tunnel in {ours:?}, direct in {theirs:?}"
        );
    }
}

/// Runs so many at once, each of which has to succeed; the time until the last is done.
#[track_caller]
fn at_once(count: usize, command: impl Fn() -> Command) -> Duration {
    let commands: Vec<_> = (0..count).map(|_| command()).collect();
    let watch = Stopwatch::start();
    std::thread::scope(|scope| {
        let running: Vec<_> = commands
            .into_iter()
            .map(|mut command| scope.spawn(move || run(&mut command, CEILING)))
            .collect();
        for one in running {
            one.join().unwrap().success();
        }
    });
    watch.elapsed()
}

/// Waits until the tunnel of the connection before is gone: the eight shall find none.
#[track_caller]
fn settle(job: &Job) {
    wait_until("the proxy to hold no tunnel", GONE, || {
        match established(job.world.proxy_port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
}

/// Has the laptop find the broker elsewhere.
#[track_caller]
fn redirect(laptop: &Laptop<'_>, from: u16, to: u16) {
    let path = laptop.dir().join("realm.toml");
    let text = super::read(&path);
    let changed = text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"));
    assert_ne!(changed, text);
    std::fs::write(path, changed).unwrap();
}

/// To the broker and back: as far as a satellite.
const RTT: Duration = Duration::from_millis(400);
