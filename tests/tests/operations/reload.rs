//! SIGHUP: what changes without a restart, what does not, and what stays when the files are wrong.

use std::fs;
use std::process::Command;
use std::time::Duration;

use e2e::{CEILING, EchoServer, Session, Stopwatch, run, tool, wait_until};
use rustix::process::Signal;

use super::monitored::set;
use crate::main_job::Job;

const READ: &str = "the files have been read again";

#[test]
fn an_agent_offers_what_its_file_says_now_and_open_sessions_go_on() {
    let job = Job::start();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("before");
    let echo = EchoServer::start();
    let file = job.device.dir().join("device.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}echo = \"{}\"\n", echo.address())).unwrap();
    let refused = job.world.run_as(&job.controller, &["stdio", "333", "echo"]);
    assert!(
        refused.stderr.contains("offers no service"),
        "{}",
        refused.report()
    );
    let mut job = job;
    let agent = job.agent.as_mut().unwrap();
    agent.signal(Signal::HUP);
    agent.wait_for_line(READ);
    job.world
        .wait_for_presence(&job.controller, &job.device, true);
    let mut web = Session::start(
        &mut job
            .world
            .tunnel_as(&job.controller, &["stdio", "333", "echo"]),
    );
    web.echo("hello");
    session.echo("after");
    assert_eq!(session.finish(), Some(0));
}

#[test]
fn an_agent_keeps_what_it_has_when_its_files_are_wrong() {
    let mut job = Job::start();
    let file = job.device.dir().join("device.toml");
    let text = fs::read_to_string(&file).unwrap();
    let agent = job.agent.as_mut().unwrap();
    for (wrong, said) in [
        ("services = 7".to_owned(), "the last good ones stay in use"),
        (text.replace("\"333\"", "\"334\""), "334.hula.atlas"),
    ] {
        fs::write(&file, wrong).unwrap();
        agent.signal(Signal::HUP);
        agent.wait_for_line(said);
    }
    let hooks = format!("{text}\n[hooks]\nup = [\"/bin/true\"]\n");
    let builtin = format!("{text}\n[builtin]\nforwarding = \"none\"\n");
    for (late, said) in [
        (hooks, "another `[hooks]` takes a restart"),
        (builtin, "another `[builtin]` takes a restart"),
        (
            format!("metrics = \"127.0.0.1:1\"\n{text}"),
            "another `metrics` takes a restart",
        ),
        (
            with_own_ssh(&text),
            "an ssh of the agent's own takes a restart",
        ),
    ] {
        fs::write(&file, late).unwrap();
        agent.signal(Signal::HUP);
        agent.wait_for_line(said);
    }
    run(&mut job.connect("true"), CEILING).success();
}

#[test]
fn the_proxy_s_host_key_changes_and_nobody_restarts() {
    let mut job = Job::start();
    let (world, realm) = (&job.world, job.world.realm());
    let host_key = |word: &str| {
        let mut command = world.tunnel();
        command
            .args(["proxy", "host-key", word, "--dir"])
            .arg(&realm);
        run(&mut command, CEILING).success();
    };
    host_key("next");
    for device in [&job.device, &job.controller] {
        fs::copy(realm.join("realm.toml"), device.dir().join("realm.toml")).unwrap();
    }
    let agent = job.agent.as_mut().unwrap();
    agent.signal(Signal::HUP);
    agent.wait_for_line(READ);
    let before = shown(world.proxy_port());
    host_key("switch");
    let serve = job.serve.as_mut().unwrap();
    serve.signal(Signal::HUP);
    serve.wait_for_line("host keys and rates have been read again");
    let after = shown(world.proxy_port());
    assert_ne!(before, after);
    let now = fs::read_to_string(realm.join("proxy/hostkey.pub")).unwrap();
    let blob = now.split(' ').nth(1).unwrap();
    assert!(after.contains(blob), "{after} instead of {now}");
    // The agent has made no connection since: it knows the new key all the same.
    run(&mut job.connect("true"), CEILING).success();
}

#[test]
fn a_realm_s_rates_change_and_the_rest_is_said_to_take_a_restart() {
    let mut job = Job::start();
    let file = job.world.realm().join("server.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{text}\n[proxy.bandwidth]\nhula = \"50 kB/s\"\n"),
    )
    .unwrap();
    let serve = job.serve.as_mut().unwrap();
    serve.signal(Signal::HUP);
    serve.wait_for_line("host keys and rates have been read again");
    let watch = Stopwatch::start();
    run(&mut job.connect("head -c 200000 /dev/zero"), CEILING).success();
    assert!(
        watch.elapsed() > Duration::from_secs(3),
        "{:?}",
        watch.elapsed()
    );
    fs::write(&file, &text).unwrap();
    set(&file, "grace_period = \"1s\"");
    let serve = job.serve.as_mut().unwrap();
    // The file has it already: what is there twice cannot be used.
    serve.signal(Signal::HUP);
    serve.wait_for_line("the last good ones stay in use");
    fs::write(&file, text.replace("10s", "11s")).unwrap();
    serve.signal(Signal::HUP);
    serve.wait_for_line("takes a restart");
    wait_until("the realm to serve", CEILING, || {
        let outcome = run(&mut job.connect("true"), CEILING);
        if outcome.code == Some(0) {
            Ok(())
        } else {
            Err(outcome.report())
        }
    });
}

/// The proxy's host key, as whoever connects sees it.
fn shown(port: u16) -> String {
    let mut scan = Command::new(tool("ssh-keyscan"));
    scan.args(["-p", &port.to_string(), "127.0.0.1"]);
    run(&mut scan, CEILING).success().stdout
}

/// The file of a device, with the agent's own ssh in place of an sshd.
fn with_own_ssh(text: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.starts_with("ssh = ") {
            "ssh = \"builtin\""
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}
