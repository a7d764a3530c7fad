//! What a person is told who may not, cannot, or mistyped.

use std::time::Duration;

use e2e::{Outcome, World, current_user, run};

use super::{Job, Parts};

/// `at once`, on a machine that runs other tests. The longest that the program waits before it refuses is 1.4 s, for a
/// device without a presence, which may be an original one; its other waits, of 10 s and more, are over this bound.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Not permitted or no such device (`EX_NOPERM` of sysexits.h).
const REFUSED: i32 = 77;
/// Offline or not reachable (`EX_UNAVAILABLE`).
const UNAVAILABLE: i32 = 69;
/// The command line (`EX_USAGE`).
const USAGE: i32 = 64;
/// The settings (`EX_CONFIG`).
const CONFIGURATION: i32 = 78;

#[test]
fn a_foreign_device_and_an_unknown_one_look_the_same() {
    let job = Job::start();
    // A device that exists and is online, in another system.
    let foreign = job.world.enroll("lava", "444");
    let foreign_controller = job.world.enroll("lava", "controller-x");
    foreign.configure(&job.sshd, &[], super::GRACE);
    let _agent = job.world.agent(&foreign);
    job.world
        .wait_for_presence(&foreign_controller, &foreign, true);
    // Names of one length, so that nothing but the name can differ.
    let forbidden = connect(&job, "444.lava");
    let unknown = connect(&job, "555.lava");
    let nowhere = connect(&job, "666.none");
    assert_refused(&forbidden, REFUSED, "444.lava");
    let shape = |outcome: &Outcome, name: &str| outcome.stderr.replace(name, "NAME");
    assert_eq!(shape(&forbidden, "444.lava"), shape(&unknown, "555.lava"));
    assert_eq!(shape(&forbidden, "444.lava"), shape(&nowhere, "666.none"));
    assert_eq!(unknown.code, Some(REFUSED), "{}", unknown.report());
    assert_eq!(nowhere.code, Some(REFUSED), "{}", nowhere.report());
    // One that could exist, of the own system, reads the same too, and is refused at once as they are.
    let own = connect(&job, "777.hula");
    assert_refused(&own, REFUSED, "777.hula");
    assert_eq!(shape(&forbidden, "444.lava"), shape(&own, "777.hula"));
    for outcome in [&forbidden, &unknown, &nowhere] {
        assert!(outcome.took < AT_ONCE, "{}", outcome.report());
    }
}

#[test]
fn an_unknown_device_of_the_own_system_is_said_to_be_unknown() {
    let job = Job::start();
    let outcome = connect(&job, "999");
    assert_refused(&outcome, REFUSED, "999");
}

#[test]
fn an_offline_device_is_said_to_be_offline_and_since_when() {
    let mut job = Job::start();
    job.agent.take().unwrap().terminate();
    job.world
        .wait_for_presence(&job.controller, &job.device, false);
    let outcome = connect(&job, "333");
    assert_refused(&outcome, UNAVAILABLE, "333");
    let text = outcome.lines("error").join(" ");
    assert!(
        text.contains("offline") && text.contains("since"),
        "{}",
        outcome.report()
    );
}

#[test]
fn a_device_that_crashed_is_offline_too() {
    let mut job = Job::start();
    job.agent.take().unwrap().kill();
    job.world
        .wait_for_presence(&job.controller, &job.device, false);
    let outcome = connect(&job, "333");
    assert_refused(&outcome, UNAVAILABLE, "333");
    assert!(outcome.stderr.contains("offline"), "{}", outcome.report());
}

#[test]
fn a_broker_that_is_away_is_named() {
    let mut parts = Parts::start();
    parts.broker.take().unwrap().kill();
    let outcome = connect(&parts.job, "333");
    let broker = format!("127.0.0.1:{}", parts.job.world.broker_port());
    assert_refused(&outcome, UNAVAILABLE, &broker);
}

#[test]
fn a_proxy_that_is_away_is_named() {
    let mut parts = Parts::start();
    parts.proxy.take().unwrap().kill();
    let outcome = connect(&parts.job, "333");
    let proxy = format!("127.0.0.1:{}", parts.job.world.proxy_port());
    assert_refused(&outcome, UNAVAILABLE, &proxy);
}

#[test]
fn a_device_may_not_connect_to_its_neighbours() {
    let job = Job::start();
    let whom = format!("{}@444", current_user());
    let outcome = job
        .world
        .run_as(&job.device, &["connect", &whom, "--", "true"]);
    assert_eq!(outcome.code, Some(REFUSED), "{}", outcome.report());
    assert!(!outcome.lines("hint").is_empty(), "{}", outcome.report());
}

#[test]
fn names_are_refused_where_they_enter() {
    let job = Job::start();
    for name in [
        "33/3",
        "#",
        "+",
        "UPPER",
        "-x-",
        "333.hula.atlas.extra",
        "333..atlas",
        "é",
        "",
    ] {
        let outcome = connect(&job, name);
        assert_eq!(outcome.code, Some(USAGE), "`{name}`: {}", outcome.report());
    }
}

#[test]
fn a_directory_without_settings_says_what_to_do() {
    let world = World::new();
    let mut command = world.tunnel();
    command
        .env("TUNNEL_DIR", world.path("nothing-here"))
        .args(["connect", "333"]);
    let outcome = run(&mut command, AT_ONCE);
    assert_refused(&outcome, CONFIGURATION, "nothing-here");
    assert!(
        outcome.lines("hint").join(" ").contains("enroll"),
        "{}",
        outcome.report()
    );
}

/// Refused with this code by an error that names the thing, with a hint, in time.
#[track_caller]
fn assert_refused(outcome: &Outcome, code: i32, name: &str) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.report());
    assert_eq!(outcome.stdout, "", "{}", outcome.report());
    let errors = outcome.lines("error");
    assert_eq!(errors.len(), 1, "one error: {}", outcome.report());
    assert!(
        outcome.stderr.contains(name),
        "names `{name}`: {}",
        outcome.report()
    );
    assert!(
        !outcome.lines("hint").is_empty(),
        "a hint: {}",
        outcome.report()
    );
    assert!(outcome.took < AT_ONCE, "at once: {}", outcome.report());
}

#[track_caller]
fn connect(job: &Job, device: &str) -> Outcome {
    let whom = format!("{}@{device}", current_user());
    job.world
        .run_as(&job.controller, &["connect", &whom, "--", "true"])
}
