//! What waits for a person's decision is shown to whoever handed it in: uploaded, seen, signed.

use std::fs;
use std::os::unix::fs::chown;

use e2e::{CEILING, Terminal, World, wait_until};

use super::github_stage::{BOT, Stage};

const SEEN: &str = "the signer has seen the request";

/// The lines of an enrollment that tell how far it is, in their order.
fn progress(said: &str) -> Vec<&str> {
    let words = [
        ".x509.csr` handed in",
        SEEN,
        "signed",
        "certificate installed",
    ];
    let lines = said.lines().filter_map(|line| {
        let known = |word: &&&str| line.ends_with(**word);
        words.iter().find(known).copied()
    });
    lines.collect()
}

#[test]
fn whoever_waits_for_a_persons_decision_sees_that_it_is_asked_for() {
    let world = World::new();
    let mut enroll = world.tunnel();
    enroll
        .args(["enroll", "hula", "333", "--no-proof", "--wait", "60s"])
        .arg("--realm")
        .arg(world.realm().join("realm.toml"))
        .arg("--dir")
        .arg(world.path("device"));
    let mut enroll = world.daemon("enroll", &mut enroll);
    enroll.wait_for_line("waiting for the signer");
    let request = world.realm().join("registry/333.hula.atlas.x509.csr");
    chown(&request, Some(54_321), None).expect("the tests run as root, as in a container");
    let mut signer = world.tunnel();
    signer
        .args(["signer", "run", "--once", "--dir"])
        .arg(world.realm());
    let mut signer = Terminal::start(&world, &signer);
    signer.wait_for("Permit them to enroll");
    enroll.wait_for_line(SEEN);
    assert_eq!(enroll.has_ended(), None);
    signer.type_line("y");
    assert_eq!(signer.wait(), Some(0), "{}", signer.shown());
    assert!(enroll.wait(CEILING).success(), "{}", enroll.stderr());
    let said = enroll.stderr();
    let all = [
        ".x509.csr` handed in",
        SEEN,
        "signed",
        "certificate installed",
    ];
    assert_eq!(progress(&said), all, "{said}");
    // The mark goes with the request.
    let left: Vec<_> = fs::read_dir(world.realm().join("registry"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("csr"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn on_github_it_costs_one_call_and_only_the_realms_eyes_count() {
    let stage = Stage::new();
    fs::write(stage.world.realm().join("trust.toml"), "version = 1\n").unwrap();
    let device = stage.device("333");
    let mut enroll = stage.enroll_command(&device);
    enroll.args(["--no-proof", "--wait", "60s"]);
    let mut enroll = stage.world.daemon("enroll", &mut enroll);
    enroll.wait_for_line("waiting for the signer");
    let number = stage.github.issues("333.hula.atlas.x509.csr")[0].number;
    stage.github.take_calls();
    // A stranger's eyes are looked at, and say nothing.
    stage.github.react(number, "mallory", "eyes");
    let path = format!("/issues/{number}/reactions");
    let asked = |method: &str| {
        let calls = stage.github.take_calls();
        let asked = |call: &&e2e::github::Call| call.method == method && call.path.ends_with(&path);
        calls.iter().filter(asked).count()
    };
    wait_until("the device to ask whose eyes they are", CEILING, || {
        (asked("GET") > 0).then_some(()).ok_or(enroll.stderr())
    });
    assert!(!enroll.stderr().contains(SEEN), "{}", enroll.stderr());

    let mut signer = Terminal::start(&stage.world, &stage.signer_once());
    signer.wait_for("Permit them to enroll");
    enroll.wait_for_line(SEEN);
    let marked = asked("POST");
    signer.type_line("y");
    assert_eq!(signer.wait(), Some(0), "{}", signer.shown());
    assert!(enroll.wait(CEILING).success(), "{}", enroll.stderr());
    assert_eq!(marked + asked("POST"), 1);
    let eyes = |login: &str| (login.to_owned(), "eyes".to_owned());
    let given = stage.github.issue(number).unwrap().reactions;
    assert_eq!(given, [eyes("mallory"), eyes(BOT)]);
}
