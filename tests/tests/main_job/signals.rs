//! Signals to commands that somebody waits for, and two commands that get into each other's way.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use e2e::{CEILING, Session, Stopwatch, processes_marked, wait_until};
use rustix::process::Signal;

use super::Job;

#[test]
fn a_signal_ends_an_open_stream() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let job = Job::start();
        let mut command = job.world.tunnel_as(&job.controller, &["stdio", "333"]);
        let mut session = Session::start(&mut command);
        session.hear(CEILING).expect("sshd says who it is");
        session.signal(signal);
        assert_eq!(session.wait(CEILING), Some(code), "{signal:?}");
    }
}

#[test]
fn a_hang_up_that_nohup_has_ignored_ends_nothing() {
    let job = Job::start();
    let command = job.world.tunnel_as(&job.controller, &["stdio", "333"]);
    let mut kept = Command::new("nohup");
    kept.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => kept.env(name, value),
            None => kept.env_remove(name),
        };
    }
    let mut session = Session::start(&mut kept);
    session.hear(CEILING).expect("sshd says who it is");
    session.signal(Signal::HUP);
    // The first signal that counts decides.
    session.signal(Signal::TERM);
    assert_eq!(session.wait(CEILING), Some(143));
}

#[test]
fn an_interrupt_reaches_ssh_and_what_it_runs() {
    let job = Job::start();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("running");
    // To `tunnel` alone, as `kill` does; a terminal would tell ssh too.
    session.signal(Signal::INT);
    assert_ne!(session.wait(CEILING), Some(0));
    wait_until("ssh to be gone", CEILING, || {
        let is_ssh = |process: &String| process.contains("ssh ") || process.contains(" connect ");
        let left: Vec<_> = processes_marked(job.world.folder())
            .into_iter()
            .filter(is_ssh)
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
}

#[test]
fn a_device_that_does_not_answer_does_not_keep_the_others_waiting() {
    let job = Job::start();
    let mute = job.world.enroll("hula", "444");
    let agent = job.world.agent(&mute);
    job.world.wait_for_presence(&job.controller, &mute, true);
    agent.signal(Signal::STOP);
    let mut command = job.world.tunnel_as(&job.controller, &["stdio", "444"]);
    let waiting = Session::start(&mut command);
    let watch = Stopwatch::start();
    e2e::run(&mut job.connect("true"), CEILING).success();
    let took = watch.elapsed();
    // The other gives way after three seconds, and is at it for twenty in all.
    assert!(took < Duration::from_secs(15), "took {took:?}");
    waiting.signal(Signal::TERM);
    agent.signal(Signal::CONT);
}

#[test]
fn a_second_agent_does_not_throw_out_the_first() {
    let job = Job::start();
    let outcome = job.world.run_as(&job.device, &["agent"]);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(
        outcome.stderr.contains("another agent is running for"),
        "{}",
        outcome.report()
    );
    assert!(!outcome.lines("hint").is_empty(), "{}", outcome.report());
    e2e::run(&mut job.connect("true"), CEILING).success();
}

#[test]
fn an_agent_that_is_started_while_the_doctor_looks_waits_for_it() {
    let mut job = Job::start();
    job.agent.take().unwrap().terminate();
    let mut lock = fs::File::create(job.device.dir().join(".agent.lock")).unwrap();
    lock.lock().unwrap();
    lock.write_all(b"doctor").unwrap();
    let mut agent = job.world.agent(&job.device);
    agent.wait_for_line("waiting until it is through");
    assert!(!agent.stderr().contains("the agent begins"));
    drop(lock);
    job.world
        .wait_for_presence(&job.controller, &job.device, true);
}

#[test]
fn a_target_that_asks_for_the_list_does_not_throw_out_its_own_agent() {
    let job = Job::start();
    for words in [&["list"][..], &["disconnect", "333"], &["connect", "333"]] {
        let outcome = job.world.run_as(&job.device, words);
        assert_eq!(outcome.code, Some(77), "{}", outcome.report());
        assert!(
            outcome.stderr.contains("is not a controller"),
            "{}",
            outcome.report()
        );
    }
    let agent = job.agent.as_ref().unwrap().stderr();
    assert_eq!(agent.matches("online").count(), 1, "one session: {agent}");
}
