//! `tunnel connect` before a person's eyes: what is waited for, Ctrl-C, a tunnel that falls, options of ssh.

use std::process::Command;

use e2e::{
    CEILING, EchoServer, ReservedPort, Session, Terminal, current_user, established,
    processes_marked, unix_sockets_under, wait_until,
};
use rustix::process::Signal;

use crate::main_job::{GONE, Job};

#[test]
fn the_wait_is_shown_and_an_interrupt_takes_it_all_back() {
    let job = Job::start();
    let agent = job.agent.as_ref().unwrap();
    agent.signal(Signal::STOP);
    let mut terminal = Terminal::start(&job.world, &connect(&job, &[]));
    terminal.wait_for("waiting for the device … 2 s");
    terminal.type_keys("\x03");
    assert_eq!(terminal.wait(), Some(130));
    agent.signal(Signal::CONT);
    let shown = terminal.shown();
    assert!(shown.contains("interrupted while connecting"), "{shown}");
    nothing_is_left(&job);
}

#[test]
fn a_tunnel_that_falls_under_a_shell_comes_back_and_ctrl_c_ends_the_wait() {
    let mut job = Job::start();
    let mut terminal = Terminal::start(&job.world, &connect(&job, &[]));
    // The answer is not what was typed, which the terminal shows too.
    terminal.type_line("echo first $((6 * 7))");
    terminal.wait_for("first 42");
    job.agent.take().unwrap().signal(Signal::KILL);
    terminal.wait_for("fell; connecting again, until Ctrl-C");
    let agent = job.world.agent(&job.device);
    job.world
        .wait_for_presence(&job.controller, &job.device, true);
    terminal.type_line("echo second $((6 * 7))");
    terminal.wait_for("second 42");
    agent.signal(Signal::KILL);
    terminal.wait_for("fell again; connecting again");
    terminal.type_keys("\x03");
    assert_eq!(terminal.wait(), Some(130));
    nothing_is_left(&job);
}

#[test]
fn a_command_is_not_run_twice() {
    let mut job = Job::start();
    let marker = job.world.path("runs");
    let command = format!("echo run >> {}; cat", marker.display());
    let mut session = Session::start(&mut job.connect(&command));
    session.echo("running");
    job.agent.take().unwrap().signal(Signal::KILL);
    assert_eq!(session.wait(CEILING), Some(255));
    assert_eq!(super::read(&marker), "run\n");
}

#[test]
fn options_of_ssh_are_passed_on_and_ours_cannot_be_overridden() {
    let echo = EchoServer::start();
    let job = Job::start();
    let local = ReservedPort::take();
    let lead = format!("{}:{}", local.address(), echo.address());
    let options = [
        "-L",
        &lead,
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "LogLevel=ERROR",
    ];
    let mut session = Session::start(connect(&job, &options).args(["--", "cat"]));
    session.echo("the session itself");
    let mut through = Session::start(Command::new("curl").args([
        "--silent",
        "--no-buffer",
        &format!("telnet://{}", local.address()),
    ]));
    through.echo("through the local port");
    // `-o` came too late to have the checking off: the device's key is known, and another is refused.
    let known = job.controller.dir().join("known_hosts");
    let impostor = e2e::Sshd::start("impostor", job.world.folder(), &job.world.logs());
    let key = super::read(&impostor.host_key());
    let words: Vec<&str> = key.split_whitespace().take(2).collect();
    std::fs::write(known, format!("333.hula.atlas {}\n", words.join(" "))).unwrap();
    let mut refused = connect(&job, &options[2..]);
    let outcome = e2e::run(refused.args(["--", "true"]), CEILING);
    assert_eq!(outcome.code, Some(65), "{}", outcome.report());
}

/// `tunnel connect OPTIONS USER@333`
fn connect(job: &Job, options: &[&str]) -> Command {
    let whom = format!("{}@333", current_user());
    let words = [&["connect"][..], options, &[&*whom]].concat();
    job.world.tunnel_as(&job.controller, &words)
}

/// No lease, no process, no socket, no file.
#[track_caller]
fn nothing_is_left(job: &Job) {
    wait_until("the proxy to hold no tunnel", GONE, || {
        match established(job.world.proxy_port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
    let left: Vec<_> = processes_marked(job.world.folder())
        .into_iter()
        .filter(|process| process.contains(" connect ") || process.contains("ssh -"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let temporary = job.world.path("tmp");
    let files: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
    assert!(files.is_empty(), "{files:?}");
    assert!(unix_sockets_under(&temporary).is_empty());
}
