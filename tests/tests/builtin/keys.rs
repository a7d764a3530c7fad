//! Who may log in, as whom, and until when.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use e2e::{CEILING, Session, World, run, wait_until};
use rustix::process::Signal;

use super::{House, configure};

#[test]
fn another_user_is_refused_with_the_reason() {
    let house = House::start();
    let mut ssh = house.stock_as("ssh", "somebody");
    ssh.args(["-o", "LogLevel=INFO", "333", "true"]);
    let outcome = run(&mut ssh, CEILING);
    assert_eq!(outcome.code, Some(255), "{}", outcome.report());
    let reason = format!(
        "this computer's built-in ssh is for user `{}` alone, not for `somebody`",
        e2e::current_user()
    );
    assert!(outcome.stderr.contains(&reason), "{}", outcome.report());
}

#[test]
fn a_key_that_is_not_in_the_file_is_refused() {
    let house = House::start();
    let other = house.world.enroll("hula", "controller-y");
    let mut ssh = house.stock("ssh");
    ssh.args(["-o", "IdentitiesOnly=yes", "-i"])
        .arg(other.ssh_key());
    fs::write(house.device.dir().join("controllers"), "").unwrap();
    ssh.args(["333", "true"]);
    let outcome = run(&mut ssh, CEILING);
    assert_eq!(outcome.code, Some(255), "{}", outcome.report());
    assert!(
        outcome.stderr.contains("Permission denied (publickey)"),
        "{}",
        outcome.report()
    );
    // The next round brings both.
    let sync = ["agent", "sync-keys", "--builtin"];
    house.world.run_as(&house.device, &sync).success();
    let lines = fs::read_to_string(house.device.dir().join("controllers")).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    run(&mut house.ssh("true"), CEILING).success();
}

#[test]
fn a_withdrawn_key_ends_its_live_sessions_without_a_restart() {
    let house = House::start();
    let mut session = Session::start(house.ssh("cat").stderr(Stdio::null()));
    session.echo("it is up");
    fs::write(house.device.dir().join("controllers"), "").unwrap();
    wait_until("the session's end", CEILING, || {
        match session.try_echo("still there?", CEILING) {
            Ok(_) => Err("it goes on".to_owned()),
            Err(_) => Ok(()),
        }
    });
    assert_eq!(session.finish(), Some(255));
    let log = house.agent.stderr();
    assert!(log.contains("its key was withdrawn"), "{log}");
}

#[test]
fn a_file_that_others_can_write_lets_nobody_in() {
    let house = House::start();
    let file = house.device.dir().join("controllers");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let outcome = run(&mut house.ssh("true"), CEILING);
    assert_eq!(outcome.code, Some(255), "{}", outcome.report());
    let log = house.agent.stderr();
    assert!(log.contains("can be written by others (mode 0666"), "{log}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    run(&mut house.ssh("true"), CEILING).success();
}

#[test]
fn the_agent_brings_the_keys_by_itself_when_it_is_told_to() {
    let house = House::with("sync_keys = \"1s\"");
    let late = house.world.enroll("hula", "controller-late");
    wait_until("the late controller's key", CEILING, || {
        let keys = fs::read_to_string(house.device.dir().join("controllers")).unwrap();
        keys.contains(&late.id()).then_some(()).ok_or(keys)
    });
}

#[test]
fn the_host_key_stays_and_is_the_agents_alone() {
    let mut house = House::start();
    let file = house.device.dir().join("builtin-ssh.hostkey");
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before = fs::read(&file).unwrap();
    // A second one is refused as long as the first runs, and the presence is to be the second one's.
    house.agent.signal(Signal::TERM);
    assert!(house.agent.wait(CEILING).success());
    house
        .world
        .wait_for_presence(&house.controller, &house.device, false);
    house.agent = house.world.agent(&house.device);
    house
        .world
        .wait_for_presence(&house.controller, &house.device, true);
    assert!(before == fs::read(&file).unwrap());
    run(&mut house.ssh("true"), CEILING).success();
}

#[test]
fn as_root_it_serves_only_when_that_is_said() {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests are run by root, as the harness needs it"
    );
    let world = World::new();
    let _signer = world.signer();
    let device = world.enroll("hula", "333");
    configure(&device, "");
    world.run_as(&device, &["agent", "--check"]).success();
    let path = device.dir().join("device.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("as_root = true", "as_root = false")).unwrap();
    // A check may be root's for an agent that is not.
    world.run_as(&device, &["agent", "--check"]).success();
    let outcome = world.run_as(&device, &["agent"]);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert_eq!(
        outcome.lines("error"),
        ["the built-in ssh would let controllers in as root"]
    );
    assert_eq!(
        outcome.lines("hint"),
        [
            "run the agent as another user, or say that it is meant: `as_root = true` below `[builtin]` in device.toml"
        ]
    );
}
