//! Commands, exit codes, bytes and other people's programs through a tunnel.

use std::fs;
use std::time::Duration;

use e2e::{
    CEILING, Session, World, checksum, current_user, processes_marked, random_file, run, wait_until,
};
use rustix::process::Signal;

use super::Job;

/// 100 MB each way in a debug build on a small machine that other tests share.
const BULK: Duration = Duration::from_secs(90);

#[test]
fn runs_a_command_and_returns_its_exit_code() {
    let job = Job::start();
    let outcome = run(
        &mut job.connect("echo to-stdout; echo to-stderr >&2; exit 7"),
        CEILING,
    );
    assert_eq!(outcome.code, Some(7), "{}", outcome.report());
    assert_eq!(outcome.stdout, "to-stdout\n");
    // Nothing of ours mixes with what the command says when no terminal is there.
    assert_eq!(outcome.stderr, "to-stderr\n");
    let outcome = run(&mut job.connect("true"), CEILING);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
}

#[test]
fn a_device_has_three_names() {
    let job = Job::start();
    for name in ["333", "333.hula", "333.hula.atlas"] {
        let whom = format!("{}@{name}", current_user());
        let outcome = job
            .world
            .run_as(&job.controller, &["connect", &whom, "--", "echo here"]);
        assert_eq!(outcome.success().stdout, "here\n", "{name}");
    }
}

#[test]
fn a_client_id_suffix_is_only_the_brokers_business() {
    let world = World::with_realm_options(&["--client-id-suffix", ".example.org"]);
    let serve = world.serve();
    let job = Job::around(world, Some(serve), &[]);
    let outcome = run(&mut job.connect("echo here"), CEILING).success();
    assert_eq!(outcome.stdout, "here\n");
}

#[test]
fn a_hundred_megabytes_go_out_and_come_back_unchanged() {
    let job = Job::start();
    let (sent, received) = (job.world.path("sent"), job.world.path("received"));
    random_file(&sent, 100_000_000);
    let mut cat = job.connect("cat");
    let outcome = job.world.run_through(&mut cat, &sent, &received, BULK);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(checksum(&received), checksum(&sent));
    println!("100 MB out and back in {:?}", outcome.took);
}

#[test]
fn input_that_ends_is_seen_by_the_command() {
    let job = Job::start();
    let sent = job.world.path("sent");
    random_file(&sent, 3_000_001);
    let outcome = job
        .world
        .run_from(&mut job.connect("wc -c; echo done"), &sent, CEILING);
    assert_eq!(outcome.success().stdout, "3000001\ndone\n");
}

#[test]
fn scp_and_sftp_go_through_the_tunnel() {
    let job = Job::start();
    let (sent, copied, back) = (
        job.world.path("sent"),
        job.world.path("copied"),
        job.world.path("back"),
    );
    random_file(&sent, 5_000_003);
    let remote =
        |path: &std::path::Path| format!("{}@333.hula.atlas:{}", current_user(), path.display());
    let mut upload = job.stock("scp");
    upload
        .args(["-q", "-o", &job.proxy_command()])
        .arg(&sent)
        .arg(remote(&copied));
    run(&mut upload, CEILING).success();
    assert_eq!(checksum(&copied), checksum(&sent));
    let mut download = job.stock("scp");
    download
        .args(["-q", "-o", &job.proxy_command()])
        .arg(remote(&copied))
        .arg(&back);
    run(&mut download, CEILING).success();
    assert_eq!(checksum(&back), checksum(&sent));
    let batch = job.world.path("batch");
    let again = job.world.path("again");
    fs::write(
        &batch,
        format!("get {} {}\n", copied.display(), again.display()),
    )
    .unwrap();
    let mut sftp = job.stock("sftp");
    sftp.args(["-q", "-o", &job.proxy_command(), "-b"])
        .arg(&batch)
        .arg(format!("{}@333.hula.atlas", current_user()));
    run(&mut sftp, CEILING).success();
    assert_eq!(checksum(&again), checksum(&sent));
}

#[test]
fn stock_ssh_jumps_to_a_device_by_name() {
    let job = Job::start();
    let mut held = Session::start(&mut job.connect("cat"));
    held.echo("the tunnel is up");
    // OpenSSH takes a bare number for an address (inet_aton(3)): it asks the proxy for 0.0.1.77, and would look for the
    // host key under that name.
    for name in ["333.hula.atlas", "333"] {
        let mut ssh = job.stock("ssh");
        ssh.args(["-o", "HostKeyAlias=333.hula.atlas", "-J"]);
        ssh.arg(job.world.jump("hula"));
        ssh.arg(format!("{}@{name}", current_user()))
            .arg("echo by name; exit 5");
        let outcome = run(&mut ssh, CEILING);
        let seen = (outcome.code, &*outcome.stdout);
        assert_eq!(seen, (Some(5), "by name\n"), "{name}: {}", outcome.report());
    }
    // It did not cost the other session anything.
    held.echo("still here");
    assert_eq!(held.finish(), Some(0));
}

#[test]
fn a_signal_ends_the_session_at_both_ends() {
    let job = Job::start();
    let marker = job.world.path("remote-is-alive");
    let file = marker.display();
    // `cat` ends when sshd closes its input, which it does when the connection goes.
    let mut session = Session::start(&mut job.connect(&format!("touch {file}; cat; rm {file}")));
    session.echo("running");
    assert!(marker.exists());
    session.signal(Signal::TERM);
    let code = session.wait(CEILING);
    assert_ne!(code, Some(0), "a session that was cut did not succeed");
    wait_until("the remote command to end", CEILING, || {
        if marker.exists() {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    });
    wait_until("ssh to be gone", CEILING, || {
        let left: Vec<_> = processes_marked(job.world.folder())
            .into_iter()
            .filter(|process| process.contains("ssh ") || process.contains(" connect "))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
}

#[test]
fn the_stream_waits_at_the_proxy_while_the_device_opens_its_tunnel() {
    let job = Job::start();
    let (agent, serve) = (job.agent.as_ref().unwrap(), job.serve.as_ref().unwrap());
    // The device cannot answer before the controller has logged in, and has nothing left to do but to ask.
    agent.signal(Signal::STOP);
    let logged_in = format!("logged in device={}", job.controller.id());
    let outcome = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| run(&mut job.connect("echo here"), CEILING));
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the controller to log in", CEILING, || {
                let log = serve.stderr();
                if log.contains(&logged_in) {
                    Ok(())
                } else {
                    Err(log)
                }
            });
        }));
        agent.signal(Signal::CONT);
        let outcome = connecting.join().unwrap();
        seen.unwrap();
        outcome
    });
    assert_eq!(outcome.success().stdout, "here\n");
    // By name, since nobody knew the port yet; and once.
    let log = serve.stderr();
    let opened: Vec<_> = log
        .lines()
        .filter(|line| line.contains("stream opened"))
        .collect();
    let by_name = |line: &&str| line.contains("host=\"333\" port=22");
    assert!(opened.len() == 1 && opened.iter().all(by_name), "{log}");
}

#[test]
fn timing_is_one_json_object_with_every_step() {
    let job = Job::start();
    let outcome = job
        .world
        .run_as(&job.controller, &["stdio", "--timing", "333"]);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let timing: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", outcome.report()));
    let total = timing["total_ms"].as_f64().unwrap();
    let mut steps: Vec<(&str, f64)> = timing["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), step["ms"].as_f64().unwrap()))
        .collect();
    // Some run beside each other, so their order and sum may differ; none takes longer than the whole.
    assert!(
        steps.iter().all(|(_, ms)| (0.0..=total).contains(ms)),
        "{timing}"
    );
    steps.sort_by_key(|(name, _)| *name);
    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "banner",
            "config",
            "mqtt-connect",
            "order",
            "proxy-login",
            "stream"
        ]
    );
    assert!(
        outcome.stdout.starts_with("SSH-2.0-OpenSSH"),
        "{}",
        outcome.report()
    );
}
