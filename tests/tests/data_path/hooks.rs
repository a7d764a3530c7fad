//! The commands that a device runs when its tunnel comes and goes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use e2e::{CEILING, Daemon, Session, run, wait_until};

use crate::main_job::{Job, Parts};

#[test]
fn up_and_down_run_in_turn_with_the_tunnel_s_facts_and_no_secret() {
    let mut parts = Parts::start();
    let told = parts.job.world.path("told");
    let script = format!(
        "{{ env; echo argument=$1; }} > {0}.part && cat {0}.part >> {0}",
        told.display()
    );
    let hook = |argument: &str| format!("['/bin/sh', '-c', '{script}', 'hook', '{argument}']");
    let lines = format!("up = {}\ndown = {}\n", hook("$(touch /tmp/x)"), hook("a b"));
    start_with_hooks(&mut parts.job, &lines);

    let mut session = Session::start(&mut parts.job.connect("cat"));
    session.echo("up");
    let blocks = wait_for_events(&told, &["up"]);
    let port = blocks[0]
        .lines()
        .find_map(|line| line.strip_prefix("TUNNEL_PORT="))
        .unwrap()
        .to_owned();
    assert_eq!(
        sorted(&blocks[0]),
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "PWD=/".to_owned(),
            "TUNNEL_DEVICE=333".to_owned(),
            "TUNNEL_EVENT=up".to_owned(),
            format!("TUNNEL_FORWARDS=ssh={port}"),
            "TUNNEL_ID=333.hula.atlas".to_owned(),
            format!("TUNNEL_PORT={port}"),
            format!("TUNNEL_PROXY=127.0.0.1:{}", parts.job.world.proxy_port()),
            "TUNNEL_REALM=atlas".to_owned(),
            "TUNNEL_SYSTEM=hula".to_owned(),
            "argument=$(touch /tmp/x)".to_owned(),
        ]
    );

    // The proxy dies: down; somebody connects through its successor: up; nobody needs it any more: down.
    parts.proxy.take().unwrap().kill();
    assert_ne!(session.wait(CEILING), Some(0));
    let blocks = wait_for_events(&told, &["up", "down"]);
    assert!(
        blocks[1].contains(&format!("TUNNEL_PORT={port}\n")),
        "{}",
        blocks[1]
    );
    assert!(blocks[1].contains("argument=a b\n"), "{}", blocks[1]);
    parts.proxy = Some(parts.job.world.proxy());
    let mut session = Session::start(&mut parts.job.connect("cat"));
    session.echo("up again");
    wait_for_events(&told, &["up", "down", "up"]);
    assert_eq!(session.finish(), Some(0));
    wait_for_events(&told, &["up", "down", "up", "down"]);

    // An agent that stops takes down what it has put up.
    let mut session = Session::start(&mut parts.job.connect("cat"));
    session.echo("a third time");
    wait_for_events(&told, &["up", "down", "up", "down", "up"]);
    parts.job.agent.take().unwrap().terminate();
    wait_for_events(&told, &["up", "down", "up", "down", "up", "down"]);
    assert!(!fs::read_to_string(&told).unwrap().contains(CANARY));
}

#[test]
fn a_hook_that_hangs_is_killed_with_its_children_and_holds_up_nobody() {
    let mut job = Job::start();
    let pids = job.world.path("pids");
    let lines = format!(
        "up = ['/bin/sh', '-c', 'sleep 1000 & echo $! $$ > {0}.part; mv {0}.part {0}; wait']\n\
         down = ['/bin/sh', '-c', 'exit 3']\ntime_limit = '2s'\n",
        pids.display()
    );
    start_with_hooks(&mut job, &lines);
    let outcome = run(&mut job.connect("echo works"), CEILING).success();
    assert_eq!(outcome.stdout, "works\n");
    let agent = job.agent.as_ref().unwrap();
    wait_for_log(agent, "a hook took too long and was killed");
    let pids = fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
    wait_until("both processes to be gone", CEILING, || {
        let left: Vec<_> = pids.split_whitespace().filter(|pid| runs(pid)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    // The other one fails, which is logged with how, and nothing else comes of it.
    let line = wait_for_log(agent, "a hook failed");
    assert!(
        line.contains("hook=\"down\"") && line.contains("status=exit status: 3"),
        "{line}"
    );
    run(&mut job.connect("echo works"), CEILING).success();
}

#[test]
fn a_hook_that_is_no_list_is_refused_and_one_that_is_missing_is_logged() {
    let mut job = Job::start();
    let settings = job.device.dir().join("device.toml");
    let before = fs::read_to_string(&settings).unwrap();
    fs::write(
        &settings,
        format!("{before}\n[hooks]\nup = 'ip route add'\n"),
    )
    .unwrap();
    let outcome = job.world.run_as(&job.device, &["agent", "--check"]);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    fs::write(&settings, before).unwrap();
    start_with_hooks(&mut job, "up = ['/no/such/program']\n");
    run(&mut job.connect("echo works"), CEILING).success();
    wait_for_log(job.agent.as_ref().unwrap(), "a hook cannot be run");
}

/// Starts the agent anew with these lines under `[hooks]`, and a secret in its own environment.
#[track_caller]
fn start_with_hooks(job: &mut Job, lines: &str) {
    job.agent.take().unwrap().terminate();
    job.world
        .wait_for_presence(&job.controller, &job.device, false);
    let mut settings = OpenOptions::new()
        .append(true)
        .open(job.device.dir().join("device.toml"))
        .unwrap();
    write!(settings, "\n[hooks]\n{lines}").unwrap();
    let mut command = job.world.tunnel_as(&job.device, &["agent", "-v"]);
    command.env("GH_TOKEN", CANARY);
    job.agent = Some(job.world.daemon("agent-with-hooks", &mut command));
    job.world
        .wait_for_presence(&job.controller, &job.device, true);
}

/// What the hooks were told, call by call, once these have run.
#[track_caller]
fn wait_for_events(told: &Path, events: &[&str]) -> Vec<String> {
    let (blocks, seen) = wait_until(&format!("{events:?}"), CEILING, || {
        let text = fs::read_to_string(told).unwrap_or_default();
        // Each call's last line is its argument.
        let mut blocks = vec![String::new()];
        for line in text.split_inclusive('\n') {
            blocks.last_mut().unwrap().push_str(line);
            if line.starts_with("argument=") {
                blocks.push(String::new());
            }
        }
        blocks.pop();
        let seen: Vec<String> = blocks
            .iter()
            .filter_map(|block| {
                let event = block
                    .lines()
                    .find_map(|line| line.strip_prefix("TUNNEL_EVENT="))?;
                Some(event.to_owned())
            })
            .collect();
        if seen.len() >= events.len() {
            Ok((blocks, seen))
        } else {
            Err(text)
        }
    });
    assert_eq!(seen, events);
    blocks
}

#[track_caller]
fn wait_for_log(agent: &Daemon, text: &str) -> String {
    wait_until(text, CEILING, || {
        let log = agent.stderr();
        let line = log.lines().find(|line| line.contains(text));
        line.map(str::to_owned).ok_or(log.clone())
    })
}

fn sorted(block: &str) -> Vec<String> {
    let shell = ["_=", "SHLVL=", "OLDPWD="];
    let mut lines: Vec<String> = block
        .lines()
        .filter(|line| !shell.iter().any(|own| line.starts_with(own)))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn runs(pid: &str) -> bool {
    let status = fs::read_to_string(PathBuf::from("/proc").join(pid).join("status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Stands in the agent's environment, and must stand nowhere else.
const CANARY: &str = "canary-3f1c9a7e";
