//! Commands: what goes in, what comes out, how they end, and that nothing is left of them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{
    CEILING, Session, checksum, descriptors, processes_marked, random_file, run, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

use super::{House, running};

#[test]
fn a_command_runs_as_the_agents_user_and_its_streams_and_code_come_back() {
    let house = House::start();
    let outcome = run(
        &mut house.ssh("echo out; echo err >&2; id -un; pwd; exit 7"),
        CEILING,
    );
    assert_eq!(outcome.code, Some(7), "{}", outcome.report());
    let home = run(
        Command::new("sh").args(["-c", "getent passwd $(id -u) | cut -d: -f6"]),
        CEILING,
    );
    let expected = format!("out\n{}\n{}", e2e::current_user(), home.stdout);
    assert_eq!(outcome.stdout, expected);
    assert_eq!(outcome.stderr, "err\n");
    // As `connect` does it, which has learnt the host key from the agent's reply.
    let whom = format!("{}@333", e2e::current_user());
    let words = ["connect", &whom, "--", "echo here; exit 3"];
    let outcome = house.world.run_as(&house.controller, &words);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(3), "here\n"));
    let pinned = fs::read_to_string(house.controller.dir().join("known_hosts")).unwrap();
    let ours = fs::read_to_string(house.device.dir().join("builtin-ssh.hostkey.pub")).unwrap();
    let key = ours.split_whitespace().nth(1).unwrap();
    assert!(pinned.contains(key), "{pinned}");
}

#[test]
fn connect_needs_no_ssh() {
    let house = House::start();
    let (empty, sent) = (house.path("empty"), house.path("sent"));
    fs::create_dir(&empty).unwrap();
    fs::write(&sent, "through\n").unwrap();
    let connect = |user: &str| {
        let words = [
            "connect",
            &format!("{user}@333"),
            "--",
            "cat; echo err >&2; exit 6",
        ];
        let mut connect = house.world.tunnel_as(&house.controller, &words);
        connect.env("PATH", &empty);
        house.world.run_from(&mut connect, &sent, CEILING)
    };
    let outcome = connect(&e2e::current_user());
    assert_eq!(outcome.code, Some(6), "{}", outcome.report());
    assert_eq!(outcome.stdout, "through\n");
    assert!(outcome.stderr.contains("err\n"), "{}", outcome.report());
    let refused = connect("somebody");
    assert_eq!(refused.code, Some(255), "{}", refused.report());
    let expected = format!(
        "`333.hula.atlas` ends the connection: this computer's built-in ssh is for user `{}` alone, not for `somebody`",
        e2e::current_user()
    );
    assert_eq!(refused.lines("error"), [expected.as_str()]);
}

#[test]
fn an_interrupt_ends_a_session_without_ssh_and_its_options_need_one() {
    let house = House::start();
    let empty = house.path("empty");
    fs::create_dir(&empty).unwrap();
    let whom = format!("{}@333", e2e::current_user());
    let connect = |words: &[&str]| {
        let words = [&["connect"][..], words].concat();
        let mut connect = house.world.tunnel_as(&house.controller, &words);
        connect.env("PATH", &empty);
        connect
    };
    let sleep = format!("sleep 6{:07}", std::process::id());
    let line = format!("echo here; exec {sleep}");
    let mut session = Session::start(&mut connect(&[&whom, "--", &line]));
    assert_eq!(session.hear(CEILING).unwrap(), "here");
    let is_asleep = || {
        let mut found = running(&sleep).into_iter();
        // Not those who only speak of it.
        found.any(|process| {
            process
                .split_once(' ')
                .is_some_and(|(_, told)| told.trim() == sleep)
        })
    };
    wait_until("the command to sleep", CEILING, || {
        is_asleep().then_some(()).ok_or("not yet".to_owned())
    });
    session.signal(Signal::INT);
    assert_eq!(session.wait(CEILING), Some(130));
    wait_until("the command to end", CEILING, || {
        (!is_asleep()).then_some(()).ok_or("still there".to_owned())
    });
    let refused = run(&mut connect(&["-L", "1:a:2", &whom]), CEILING);
    assert_eq!(refused.code, Some(1), "{}", refused.report());
    assert_eq!(
        refused.lines("error"),
        ["there is no `ssh` to pass `-L` on to"]
    );
    assert_eq!(refused.lines("hint").len(), 1, "{}", refused.report());
}

#[test]
fn the_environment_is_the_users_and_only_the_locale_is_the_clients() {
    let house = House::start();
    let mut ssh = house.stock("ssh");
    ssh.env("LANG", "C.UTF-8")
        .env("LC_TIME", "POSIX")
        .env("EVIL", "1")
        .args(["-o", "SendEnv=LANG LC_* EVIL TUNNEL_*", "333", "env"]);
    let said = run(&mut ssh, CEILING).success().stdout;
    let has = |line: &str| said.lines().any(|found| found == line);
    for line in [
        "LANG=C.UTF-8",
        "LC_TIME=POSIX",
        "TUNNEL_CONTROLLER=controller-x.hula.atlas",
        &format!("USER={}", e2e::current_user()),
    ] {
        assert!(has(line), "{line} in\n{said}");
    }
    for name in ["EVIL=", "TUNNEL_DIR=", e2e::MARK, "CARGO"] {
        assert!(!said.contains(name), "{name} in\n{said}");
    }
    assert!(said.contains("SSH_CONNECTION="), "{said}");
}

#[test]
fn input_ends_where_the_client_ends_it_and_the_answer_still_comes() {
    let house = House::start();
    let sent = house.path("sent");
    fs::write(&sent, "three\nlines\nhere\n").unwrap();
    let outcome = house
        .world
        .run_from(&mut house.ssh("wc -l; echo done"), &sent, CEILING);
    assert_eq!(outcome.success().stdout, "3\ndone\n");
    // One that does not read its input at all.
    random_file(&sent, 20 << 20);
    let outcome = house
        .world
        .run_from(&mut house.ssh("echo deaf; exit 4"), &sent, CEILING);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(4), "deaf\n"));
}

#[test]
fn what_is_large_goes_each_way_and_is_the_same() {
    let house = House::start();
    let (sent, got) = (house.path("sent"), house.path("got"));
    random_file(&sent, SIZE);
    let there = house.path("there");
    let upload = format!("cat > {}; echo kept >&2", there.display());
    let limit = CEILING * 3;
    let up = house
        .world
        .run_through(&mut house.ssh(&upload), &sent, &got, limit);
    assert_eq!((up.code, up.stderr.as_str()), (Some(0), "kept\n"));
    assert_eq!(checksum(&there), checksum(&sent));
    // Nobody takes the input: what comes back must not wait for that.
    let download = format!("cat {}", there.display());
    house
        .world
        .run_through(&mut house.ssh(&download), &sent, &got, limit)
        .success();
    assert_eq!(checksum(&got), checksum(&sent));
    // Both at once, through one program.
    house
        .world
        .run_through(&mut house.ssh("cat"), &sent, &got, limit)
        .success();
    assert_eq!(checksum(&got), checksum(&sent));
    println!("up {:?}", up.took);
}

#[test]
fn a_signal_ends_a_command_and_is_told() {
    let house = House::start();
    let killed = run(&mut house.ssh("kill -TERM $$"), CEILING);
    assert_eq!(killed.code, Some(255), "{}", killed.report());
    let outcome = run(&mut house.ssh("kill -9 $$; echo never"), CEILING);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(255), ""));
    let missing = run(&mut house.ssh("no-such-program-anywhere"), CEILING);
    assert_eq!(missing.code, Some(127), "{}", missing.report());
}

#[test]
fn twenty_sessions_at_once_each_get_their_own() {
    let house = House::start();
    // Each is made before the first begins, for that writes the file of known hosts anew.
    let made: Vec<_> = (0..20)
        .map(|number| {
            let mut ssh = house.ssh(&format!("sleep 1; echo session {number}; exit {number}"));
            ssh.stdin(Stdio::null()).stdout(Stdio::piped());
            (number, ssh)
        })
        .collect();
    let mut sessions: Vec<_> = made
        .into_iter()
        .map(|(number, mut ssh)| (number, ssh.spawn().unwrap()))
        .collect();
    for (number, session) in &mut sessions {
        let code = wait_until("a session's end", CEILING * 2, || {
            session.try_wait().unwrap().ok_or("it runs".to_owned())
        });
        assert_eq!(code.code(), Some(*number));
        let mut said = String::new();
        std::io::Read::read_to_string(session.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(said, format!("session {number}\n"));
    }
    nothing_is_left(&house);
}

#[test]
fn a_client_that_is_killed_leaves_no_process() {
    let house = House::start();
    let mark = house.path("a-session-of-ours");
    let mark = mark.to_str().unwrap();
    for terminal in ["-T", "-tt"] {
        let mut ssh = house.stock("ssh");
        // A shell, what it waits for, and what it has put into the background.
        let command = format!("sleep 987 {mark} & sh -c 'sleep 986; : {mark}'; :");
        let mut ssh = ssh
            .args([
                terminal,
                "333",
                &command.replace("sleep 987", "tail -f /dev/null"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the session", CEILING, || {
            let found = running("sh -c sleep 986");
            let ours = found.iter().any(|line| line.contains(mark));
            ours.then_some(()).ok_or(format!("{found:?}"))
        });
        let id = Pid::from_raw(i32::try_from(ssh.id()).unwrap()).unwrap();
        kill_process(id, Signal::KILL).unwrap();
        ssh.wait().unwrap();
        wait_until("its processes to be gone", CEILING, || {
            let left = running(mark);
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        });
    }
    nothing_is_left(&house);
}

#[test]
fn a_command_that_writes_for_ever_stops_when_nobody_reads() {
    let house = House::start();
    let mark = house.path("endless");
    let command = format!(
        "while :; do head -c 1000000 /dev/zero; echo x >> {}; done",
        mark.display()
    );
    let mut ssh = house
        .ssh(&command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let written = || fs::read(&mark).map_or(0, |marks| marks.len());
    // It has stopped when what it has written does not grow for a while, in which a free one would write gigabytes.
    let mut last = (0, e2e::Stopwatch::start());
    wait_until("the command to stop", CEILING * 2, || {
        let now = written();
        if now != last.0 {
            last = (now, e2e::Stopwatch::start());
        }
        let stands = now > 0 && last.1.elapsed() > Duration::from_secs(3);
        stands.then_some(()).ok_or(format!("{now} marks"))
    });
    assert!(written() < 200, "{} MB are somewhere", written() / 2);
    let allocated = e2e::allocated(house.agent.pid());
    println!(
        "stopped after {} MB; agent {} KiB",
        written() / 2,
        allocated / 1024
    );
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    nothing_is_left(&house);
}

#[test]
fn the_agents_end_is_the_sessions_end() {
    let mut house = House::start();
    let mark = house.path("outlived");
    let mut ssh = house
        .ssh(&format!("sh -c 'sleep 985; : {}'; :", mark.display()))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mark = mark.to_str().unwrap();
    wait_until("the session", CEILING, || {
        (running(mark).len() >= 2)
            .then_some(())
            .ok_or(String::new())
    });
    house.agent.signal(Signal::TERM);
    house.agent.wait(CEILING);
    wait_until("the session's process to be gone", CEILING, || {
        let left: Vec<_> = running(mark)
            .into_iter()
            .filter(|line| line.contains("sleep 985") && !line.contains("ProxyCommand"))
            .collect();
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
    assert_ne!(ssh.wait().unwrap().code(), Some(0));
}

/// No zombie, and no file that the agent has not closed.
#[track_caller]
fn nothing_is_left(house: &House) {
    let agent = house.agent.pid();
    wait_until("the agent to have no children", CEILING, || {
        let children = format!("/proc/{agent}/task/{agent}/children");
        let threads = fs::read_dir(format!("/proc/{agent}/task")).unwrap();
        let children: String = threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
            .chain(fs::read_to_string(children).ok())
            .collect();
        let left = children.trim().to_owned();
        left.is_empty().then_some(()).ok_or(left)
    });
    wait_until("the agent to have closed what it had open", CEILING, || {
        let open = descriptors(agent);
        (open < 30).then_some(()).ok_or(format!("{open} files"))
    });
    let shells: Vec<_> = processes_marked(house.world.folder())
        .into_iter()
        .filter(|line| line.contains("builtin-ssh"))
        .collect();
    assert!(shells.is_empty(), "{shells:?}");
}

const SIZE: usize = 32 << 20;
