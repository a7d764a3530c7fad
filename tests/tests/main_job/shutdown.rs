//! After SIGTERM nothing is left, and no log has a secret in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use e2e::{
    CEILING, Daemon, Session, Stopwatch, World, established, is_listening, processes_marked, run,
    unix_sockets_under, wait_until,
};
use rustix::process::Signal;

use super::Job;

#[test]
fn nothing_is_left_after_sigterm() {
    let mut job = Job::start();
    run(&mut job.connect("true"), CEILING).success();
    let files = files_of(&job);
    let agent = job.agent.take().unwrap();
    assert_ended_well(agent, "agent");
    assert_ended_well(job.serve.take().unwrap(), "serve");
    assert_nothing_left(&job);
    assert_eq!(files_of(&job), files, "files came or went");
}

#[test]
fn sigterm_in_the_middle_of_a_session_drains_within_the_grace_period() {
    let mut job = Job::start();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("up");
    let mut agent = job.agent.take().unwrap();
    agent.signal(Signal::TERM);
    // It says so at once: nobody should be sent to a device that is about to go.
    job.world
        .wait_for_presence(&job.controller, &job.device, false);
    let watch = Stopwatch::start();
    assert!(agent.wait(CEILING).success(), "{}", agent.stderr());
    println!("agent with a live session drained in {:?}", watch.elapsed());
    session.wait(CEILING);
    assert_ended_well(job.serve.take().unwrap(), "serve");
    assert_nothing_left(&job);
}

#[test]
fn a_realm_with_a_live_session_ends_too() {
    let mut job = Job::start();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("up");
    let mut serve = job.serve.take().unwrap();
    serve.signal(Signal::TERM);
    wait_until("the broker to stop listening", CEILING, || {
        if is_listening(job.world.broker_port()) {
            Err("listening".to_owned())
        } else {
            Ok(())
        }
    });
    // Draining is not cutting: a session that is used is served while there is time. It ends by itself here.
    assert_eq!(session.finish(), Some(0));
    assert!(serve.wait(CEILING).success(), "{}", serve.stderr());
    assert_ended_well(job.agent.take().unwrap(), "agent");
    assert_nothing_left(&job);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut job = Job::start();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("up");
    let mut serve = job.serve.take().unwrap();
    serve.signal(Signal::TERM);
    serve.wait_for_line("SIGTERM");
    let watch = Stopwatch::start();
    serve.signal(Signal::TERM);
    serve.wait(CEILING);
    // Less than the ten seconds for which a drain waits for the session.
    assert!(watch.elapsed().as_secs() < 8, "took {:?}", watch.elapsed());
}

#[test]
fn no_log_has_a_secret_in_it() {
    let mut world = World::new();
    world.be_loud();
    let serve = world.serve();
    let mut job = Job::around(world, Some(serve), &[]);
    let outcome = run(&mut job.connect("true"), CEILING).success();
    fs::write(job.world.logs().join("connect.stderr"), &outcome.stderr).unwrap();
    job.agent.take().unwrap().terminate();
    job.serve.take().unwrap().terminate();

    let secrets = secrets(job.world.folder());
    let logs: Vec<_> = files_under(&job.world.logs());
    let text: String = logs
        .iter()
        .map(|log| fs::read_to_string(log).unwrap_or_default())
        .collect();
    // The search can fail to find only if it looked: something was logged, and there are secrets to look for.
    for part in ["serve", "agent", "connect"] {
        let is_loud = |log: &&PathBuf| {
            log.file_name().unwrap().to_string_lossy().starts_with(part)
                && fs::read_to_string(log).is_ok_and(|text| text.contains("TRACE"))
        };
        assert!(
            logs.iter().any(|log| is_loud(&log)),
            "`{part}` has logged no trace: {logs:?}"
        );
    }
    assert!(
        secrets.len() >= 12,
        "{} lines of private keys",
        secrets.len()
    );
    for (file, line) in secrets {
        assert!(
            !text.contains(&line),
            "a line of {} is in a log",
            file.display()
        );
    }
}

/// The lines of every private key of the realm and its devices.
fn secrets(folder: &Path) -> Vec<(PathBuf, String)> {
    files_under(folder)
        .into_iter()
        .filter_map(|file| Some((fs::read_to_string(&file).ok()?, file)))
        .filter(|(text, _)| text.contains("PRIVATE KEY-----"))
        .flat_map(|(text, file)| {
            text.lines()
                // Every unencrypted OpenSSH key begins with the same line: it names the format, not the key.
                .filter(|line| {
                    !line.starts_with("-----") && !line.starts_with("b3BlbnNzaC1rZXktdjE")
                })
                .filter(|line| line.len() > 20)
                .map(|line| (file.clone(), line.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[track_caller]
fn assert_ended_well(mut daemon: Daemon, name: &str) {
    daemon.signal(Signal::TERM);
    let status = daemon.wait(CEILING);
    assert!(
        status.success(),
        "{name} ended with {status}: {}",
        daemon.stderr()
    );
}

#[track_caller]
fn assert_nothing_left(job: &Job) {
    let (broker, proxy) = (job.world.broker_port(), job.world.proxy_port());
    // The sshd of this test is the test's own.
    let sshd = job.world.path("sshd");
    wait_until("processes to be gone", CEILING, || {
        let left: Vec<_> = processes_marked(job.world.folder())
            .into_iter()
            .filter(|process| !process.contains(&*sshd.to_string_lossy()))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
    assert!(
        !is_listening(broker),
        "somebody listens on the broker's port"
    );
    assert!(!is_listening(proxy), "somebody listens on the proxy's port");
    assert_eq!((established(broker), established(proxy)), (0, 0));
    assert_eq!(unix_sockets_under(job.world.folder()), Vec::<String>::new());
    assert_eq!(files_under(&job.world.path("tmp")), Vec::<PathBuf>::new());
}

/// Every file of realm and devices; logs are not among them.
fn files_of(job: &Job) -> BTreeSet<PathBuf> {
    [
        job.world.realm(),
        job.world.path("devices"),
        job.world.path("home"),
    ]
    .iter()
    .flat_map(|folder| files_under(folder))
    .collect()
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_under(&path));
        } else {
            found.push(path);
        }
    }
    found
}
