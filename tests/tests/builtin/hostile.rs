//! Clients that mean no good, and have a permitted key.

use std::process::{Command, Stdio};

use e2e::{CEILING, Session, run, tool, wait_until};

use super::House;

#[test]
fn many_sessions_on_one_connection_are_bounded_and_others_are_served() {
    let house = House::start();
    let control = house.path("control");
    let mut master = house.stock("ssh");
    master
        .args(["-M", "-N", "-S"])
        .arg(&control)
        .arg("333")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut master = master.spawn().unwrap();
    wait_until("the shared connection", CEILING, || {
        control.exists().then_some(()).ok_or(String::new())
    });
    let over = |command: &str| {
        let mut ssh = Command::new(tool("ssh"));
        ssh.arg("-S")
            .arg(&control)
            // Without the shared connection ssh would try one of its own.
            .args(["-o", "LogLevel=ERROR", "-o", "ProxyCommand=false"])
            .args(["333", command]);
        ssh
    };
    let mut held: Vec<_> = (0..32).map(|_| Session::start(&mut over("cat"))).collect();
    for session in &mut held {
        session.echo("up");
    }
    let refused = run(&mut over("true"), CEILING);
    assert_ne!(refused.code, Some(0), "{}", refused.report());
    // Another connection is another matter.
    run(&mut house.ssh("true"), CEILING).success();
    for session in &mut held {
        session.echo("still up");
    }
    drop(held);
    wait_until("a place to be free again", CEILING, || {
        let outcome = run(&mut over("true"), CEILING);
        (outcome.code == Some(0))
            .then_some(())
            .ok_or(outcome.report())
    });
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn odd_sizes_names_and_commands_do_no_harm() {
    let house = House::start();
    let mut ssh = house.stock("ssh");
    ssh.env("TERM", "x".repeat(5000))
        .args(["-tt", "333", "echo $TERM"]);
    let outcome = run(&mut ssh, CEILING).success();
    assert_eq!(outcome.stdout.trim(), "dumb", "{}", outcome.report());
    let long = format!("echo {}", "x".repeat(100_000));
    let outcome = run(&mut house.ssh(&long), CEILING).success();
    assert_eq!(outcome.stdout.len(), 100_001);
    let too_long = format!("echo {}", "x".repeat(125_000));
    let outcome = run(&mut house.ssh(&too_long), CEILING);
    assert_ne!(outcome.code, Some(0), "{}", outcome.report());
    let mut locale = house.stock("ssh");
    locale.env("LC_ALL", "y".repeat(3000)).args([
        "-o",
        "SendEnv=LC_ALL",
        "333",
        "echo \"<$LC_ALL>\"",
    ]);
    let outcome = run(&mut locale, CEILING).success();
    assert_eq!(outcome.stdout, "<>\n", "{}", outcome.report());
    let mut other = house.stock("ssh");
    other.args(["-s", "333", "netconf"]);
    let outcome = run(&mut other, CEILING);
    assert_eq!(outcome.code, Some(255), "{}", outcome.report());
    run(&mut house.ssh("true"), CEILING).success();
}

#[test]
fn a_clients_agent_is_not_forwarded() {
    let house = House::start();
    let socket = house.path("keys");
    let mut agent = Command::new(tool("ssh-agent"));
    house.world.mark(&mut agent);
    agent.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null());
    let _agent = house.world.daemon("keys", &mut agent);
    wait_until("the agent of keys", CEILING, || {
        socket.exists().then_some(()).ok_or(String::new())
    });
    let mut ssh = house.stock("ssh");
    ssh.env("SSH_AUTH_SOCK", &socket)
        .args(["-v", "-o", "LogLevel=DEBUG", "-o", "ForwardAgent=yes"])
        .args(["333", "echo \"<$SSH_AUTH_SOCK>\""]);
    let outcome = run(&mut ssh, CEILING).success();
    let asked = "Requesting authentication agent forwarding";
    assert!(outcome.stderr.contains(asked), "{}", outcome.report());
    assert_eq!(outcome.stdout, "<>\n", "{}", outcome.report());
}
