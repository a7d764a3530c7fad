//! `tunnel connect` before a person's eyes: what is waited for, Ctrl-C, a tunnel that falls, options of ssh.

use std::fs;
use std::process::Command;

use e2e::{
    CEILING, CrowdedServer, Daemon, EchoServer, ReservedPort, Screen, Session, SilentServer, Sshd,
    current_user, established, processes_marked, run, tool, unix_sockets_under, wait_until,
};
use rustix::process::Signal;

use super::read;
use crate::main_job::{GONE, Job};

#[test]
fn ctrl_c_at_each_stage_takes_it_all_back() {
    let job = Job::start();
    let (silent, crowded) = (SilentServer::start(), CrowdedServer::start());
    // Neither the broker nor the proxy says anything.
    for (what, port) in [
        ("the broker", job.world.broker_port()),
        ("the proxy", job.world.proxy_port()),
    ] {
        let path = job.controller.dir().join("realm.toml");
        let realm = read(&path);
        let elsewhere = realm.replace(&format!("127.0.0.1:{port}"), &silent.address());
        assert_ne!(elsewhere, realm);
        fs::write(&path, elsewhere).unwrap();
        interrupted(&job, "333", what);
        fs::write(&path, realm).unwrap();
    }
    // The device does not answer.
    let agent = job.agent.as_ref().unwrap();
    agent.signal(Signal::STOP);
    interrupted(&job, "333", "the device");
    agent.signal(Signal::CONT);
    // Its sshd lets nobody in, or says nothing.
    let _full = another(&job, "444", &crowded.address());
    interrupted(&job, "444", "the stream");
    let _mute = another(&job, "555", &silent.address());
    interrupted(&job, "555", "ssh at the device");
    // And nothing of that is in the way of whoever comes next.
    assert_eq!(run(&mut job.connect("exit 7"), CEILING).code, Some(7));
}

#[test]
fn a_tunnel_that_falls_under_a_shell_comes_back_and_ctrl_c_ends_the_wait() {
    let mut job = Job::start();
    let mut command = connect(&job, "333", &[]);
    command.env("TERM", "xterm");
    let screen = Screen::start(&job.world, "falls", (100, 40), &command);
    // The answer is not what was typed, which the terminal shows too.
    say(&screen, "echo first $((6 * 7))");
    screen.wait_for("first 42");
    // To what runs there, and not to us.
    say(&screen, "echo wait; sleep 600");
    screen.wait_for("\nwait");
    screen.press("C-c");
    say(&screen, "echo still $((4 * 4))");
    screen.wait_for("still 16");
    job.agent.take().unwrap().kill();
    screen.wait_for("the tunnel to `333.hula.atlas` fell; connecting again, until Ctrl-C");
    let agent = job.world.agent(&job.device);
    screen.wait_for("the tunnel to `333.hula.atlas` is there again");
    say(&screen, "echo second $((6 * 7))");
    screen.wait_for("second 42");
    agent.kill();
    screen.wait_for("fell again; connecting again, until Ctrl-C");
    screen.press("C-c");
    assert_eq!(screen.wait(), 130);
    nothing_is_left(&job);
}

#[test]
fn a_command_is_not_run_twice() {
    let mut job = Job::start();
    let marker = job.world.path("runs");
    let command = format!("echo run >> {}; cat", marker.display());
    let setting = format!("RemoteCommand={command}");
    let config = job.world.path("config");
    fs::write(&config, format!("Host *.atlas\n{setting}\n")).unwrap();
    let at_terminal = |name: &str, options: &[&str]| {
        let mut connect = connect(&job, "333", options);
        connect.env("TERM", "xterm");
        Screen::start(&job.world, name, (100, 40), &connect)
    };
    let said = at_terminal("said", &["-o", &setting]);
    let written = at_terminal("written", &["-F", &config.to_string_lossy()]);
    let mut session = Session::start(&mut job.connect(&command));
    session.echo("running");
    let runs = "run\n".repeat(3);
    wait_until("all to run", CEILING, || {
        let now = read(&marker);
        if now == runs { Ok(()) } else { Err(now) }
    });
    job.agent.take().unwrap().kill();
    let _agent = job.world.agent(&job.device);
    assert_eq!(session.wait(CEILING), Some(255));
    for (screen, why) in [
        (&said, "its command is not run again"),
        (
            &written,
            "the command that ssh's configuration names is not run again",
        ),
    ] {
        assert_eq!(screen.wait(), 255);
        screen.wait_for(&format!("the tunnel to `333.hula.atlas` fell; {why}"));
    }
    assert_eq!(read(&marker), runs);
}

#[test]
fn ssh_may_go_into_the_background_and_keeps_its_tunnel() {
    let echo = EchoServer::start();
    let mut job = Job::start();
    let local = ReservedPort::take();
    let lead = format!("{}:{}", local.address(), echo.address());
    let config = job.world.path("config");
    fs::write(&config, "ForkAfterAuthentication yes\n").unwrap();
    let config = config.to_string_lossy();
    let options = ["-F", &config, "-N", "-L", &lead];
    let through = || {
        let mut command = Command::new(tool("curl"));
        command.args(["--silent", "--no-buffer"]);
        Session::start(command.arg(format!("telnet://{}", local.address())))
    };
    let begin = |name: &str| {
        let mut connect = job.world.daemon(name, &mut connect(&job, "333", &options));
        connect.wait_for_line("ssh is in the background; its tunnel to `333.hula.atlas` is here");
        through().echo("behind ssh's parent");
        connect
    };
    let mut connect = begin("interrupted");
    connect.signal(Signal::INT);
    assert_eq!(connect.wait(CEILING).code(), Some(130));
    wait_until("ssh to end", CEILING, || {
        let left = processes_marked(job.world.folder());
        let left: Vec<_> = left.iter().filter(|line| line.contains("ssh -")).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    nothing_is_left(&job);
    let mut connect = begin("falling");
    job.agent.take().unwrap().kill();
    assert_eq!(connect.wait(CEILING).code(), Some(255));
    let said = connect.stderr();
    let why = "fell; ssh was in the background, and is not started again";
    assert!(said.contains(why), "{said}");
}

#[test]
fn what_a_local_command_leaves_behind_is_no_ssh() {
    let job = Job::start();
    let file = job.world.path("left");
    let leave = format!(
        "LocalCommand=sleep 4711 < /dev/null > /dev/null 2>&1 & echo $! > {}",
        file.display()
    );
    let mut connect = connect(&job, "333", &["-o", "PermitLocalCommand=yes", "-o", &leave]);
    let outcome = run(connect.args(["--", "true"]), CEILING).success();
    assert!(
        !outcome.stderr.contains("background"),
        "{}",
        outcome.report()
    );
    let left = read(&file);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", left.trim())).unwrap();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let held = links.filter(|link| link.to_string_lossy().starts_with("socket:"));
    assert!(held.count() > 0, "it holds ssh's end of the stream");
    run(Command::new("kill").args(["-9", left.trim()]), CEILING).success();
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
    let mut session = Session::start(connect(&job, "333", &options).args(["--", "cat"]));
    session.echo("the session itself");
    let mut through = Session::start(Command::new(tool("curl")).args([
        "--silent",
        "--no-buffer",
        &format!("telnet://{}", local.address()),
    ]));
    through.echo("through the local port");
    // `-o` came too late to have the checking off: the device's key is known, and another is refused.
    let known = job.controller.dir().join("known_hosts");
    let impostor = Sshd::start("impostor", job.world.folder(), &job.world.logs());
    let key = read(&impostor.host_key());
    let words: Vec<&str> = key.split_whitespace().take(2).collect();
    fs::write(known, format!("333.hula.atlas {}\n", words.join(" "))).unwrap();
    let mut refused = connect(&job, "333", &options[2..]);
    let outcome = run(refused.args(["--", "true"]), CEILING);
    assert_eq!(outcome.code, Some(65), "{}", outcome.report());
}

/// Connects at a terminal until this is what it waits for, and then has had enough.
#[track_caller]
fn interrupted(job: &Job, device: &str, what: &str) {
    let name = what.replace(' ', "-");
    let screen = Screen::start(&job.world, &name, (100, 40), &connect(job, device, &[]));
    screen.wait_for(&format!("waiting for {what} … "));
    screen.press("C-c");
    assert_eq!(screen.wait(), 130, "{what}: {}", screen.shown());
    let shown = screen.shown();
    assert!(!shown.contains("waiting for"), "{what}: {shown}");
    nothing_is_left(job);
}

/// One more remote computer, with this for an sshd.
#[track_caller]
fn another(job: &Job, name: &str, address: &str) -> Daemon {
    let device = job.world.enroll("hula", name);
    device.configure(&job.sshd, &[], "1s");
    let path = device.dir().join("device.toml");
    let settings = read(&path).replace(&job.sshd.address(), address);
    fs::write(&path, settings).unwrap();
    let agent = job.world.agent(&device);
    job.world.wait_for_presence(&job.controller, &device, true);
    agent
}

/// `tunnel connect OPTIONS USER@DEVICE`
fn connect(job: &Job, device: &str, options: &[&str]) -> Command {
    let whom = format!("{}@{device}", current_user());
    let words = [&["connect"][..], options, &[&*whom]].concat();
    job.world.tunnel_as(&job.controller, &words)
}

#[track_caller]
fn say(screen: &Screen, line: &str) {
    screen.type_text(line);
    screen.press("Enter");
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
    // The terminal has the command's words in its own.
    let is_ours = |process: &String| process.contains(" connect ") || process.contains("ssh -");
    let temporary = job.world.path("tmp");
    // The connections end before the processes do.
    wait_until("nothing to be left", CEILING, || {
        let processes: Vec<_> = processes_marked(job.world.folder())
            .into_iter()
            .filter(|process| is_ours(process) && !process.contains("new-session"))
            .collect();
        let files: Vec<_> = fs::read_dir(&temporary).unwrap().collect();
        let sockets = unix_sockets_under(&temporary);
        if processes.is_empty() && files.is_empty() && sockets.is_empty() {
            Ok(())
        } else {
            Err(format!("{processes:?}, {files:?}, {sockets:?}"))
        }
    });
}
