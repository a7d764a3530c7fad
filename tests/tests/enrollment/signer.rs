//! The signer's own commands: how long certificates are good, what was signed, and being killed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::{CEILING, World, run, tool, wait_until};

#[test]
fn certificates_live_as_long_as_asked_for_and_are_listed() {
    let world = World::new();
    let mut signer = world.tunnel();
    signer
        .args(["signer", "run", "--every", "100ms", "--days", "7", "--dir"])
        .arg(world.realm());
    let mut daemon = world.daemon("signer", &mut signer);
    daemon.wait_for_line("watching");
    let device = world.enroll("hula", "333");
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args([
            "x509",
            "-noout",
            "-enddate",
            "-serial",
            "-checkend",
            "518400",
            "-in",
        ])
        .arg(device.certificate());
    let shown = run(&mut openssl, CEILING).success().stdout;
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["x509", "-noout", "-checkend", "691200", "-in"])
        .arg(device.certificate());
    assert_ne!(run(&mut openssl, CEILING).code, Some(0), "{shown}");

    // While the signer runs.
    let list = list(&world);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["device"], "333.hula.atlas");
    assert_eq!(list[0]["state"], "valid");
    let serial = list[0]["serial"].as_str().unwrap();
    assert!(shown.contains(&format!("serial={serial}\n")), "{shown}");
    let mut plain = world.tunnel();
    plain.args(["signer", "list", "--dir"]).arg(world.realm());
    let plain = run(&mut plain, CEILING).success().stdout;
    assert!(
        plain.starts_with(&format!("333.hula.atlas  {serial}  ")),
        "{plain}"
    );
    assert!(plain.trim_end().ends_with("  valid"), "{plain}");
}

#[test]
fn a_signer_that_is_killed_anywhere_makes_one_certificate_a_request() {
    let mut killed = 0;
    // The signer's every change of a file ends in one of these calls: at the n-th of a kind, as each thread counts them,
    // the kernel kills the process.
    for call in ["fsync", "rename", "renameat", "unlinkat"] {
        for at in 1.. {
            if !is_killed(call, at) {
                break;
            }
            killed += 1;
            assert!(killed < 50, "{call}");
        }
    }
    assert!(killed >= 5, "it was killed {killed} times");
    println!("killed at {killed} places");
}

/// Kills a signer at one place, lets another one go on, and looks at what has come of it. False if the first one lived.
#[track_caller]
fn is_killed(call: &str, at: usize) -> bool {
    let world = World::new();
    let mut enroll = world.tunnel();
    enroll
        .args(["enroll", "hula", "333", "--no-proof", "--wait", "10ms"])
        .arg("--realm")
        .arg(world.realm().join("realm.toml"))
        .arg("--dir")
        .arg(world.path("333"));
    run(&mut enroll, CEILING);
    let mut signer = Command::new(tool("strace"));
    world.mark(&mut signer);
    signer
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={at}"))
        .arg(e2e::tunnel_binary())
        .args(["signer", "run", "--once", "--dir"])
        .arg(world.realm());
    let killed = run(&mut signer, CEILING).code != Some(0);
    let mut again = world.tunnel();
    again
        .args(["signer", "run", "--once", "--dir"])
        .arg(world.realm());
    let outcome = run(&mut again, CEILING).success();
    let registry = world.realm().join("registry");
    let is_there = |ending: &str| registry.join(format!("333.hula.atlas.{ending}")).exists();
    assert!(!is_there("x509.csr"), "{}", outcome.report());
    assert!(is_there("x509.cert"), "{}", outcome.report());
    let listed = list(&world);
    assert_eq!(listed.len(), 1, "killed at {call} {at}: {listed:?}");
    assert_eq!(listed[0]["state"], "valid");
    killed
}

#[test]
fn an_encrypted_authority_signs_for_whoever_has_its_passphrase() {
    let world = World::new();
    let (realm, passphrase) = (world.path("encrypted"), world.path("passphrase"));
    fs::write(&passphrase, "correct horse battery\n").unwrap();
    let command = |words: &[&str], mode: Option<u32>| {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(&realm);
        if let Some(mode) = mode {
            fs::set_permissions(&passphrase, Permissions::from_mode(mode)).unwrap();
            command.env("TUNNEL_CA_PASSPHRASE_FILE", &passphrase);
        }
        run(&mut command, CEILING)
    };
    let init = [
        "realm",
        "init",
        "atlas",
        "--proxy",
        "127.0.0.1",
        "--encrypt-ca",
    ];
    let sign = ["signer", "run", "--once"];
    // Without a passphrase nothing is made; one that others can read is none.
    assert_eq!(command(&init, None).code, Some(78));
    assert!(!realm.exists());
    assert_ne!(command(&init, Some(0o644)).code, Some(0));
    command(&init, Some(0o600)).success();
    let key = fs::read_to_string(realm.join("ca/ca.key")).unwrap();
    assert!(
        key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
        "{key}"
    );
    command(&sign, Some(0o600)).success();
    let refused = command(&sign, None);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert!(
        refused.stderr.contains("is encrypted"),
        "{}",
        refused.report()
    );
    fs::write(&passphrase, "wrong horse battery\n").unwrap();
    let refused = command(&sign, Some(0o600));
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert!(
        refused.stderr.contains("the passphrase is wrong"),
        "{}",
        refused.report()
    );
}

#[test]
fn signers_of_one_realm_do_not_work_at_once() {
    let world = World::new();
    let _signer = world.signer();
    let mut second = world.tunnel();
    second
        .args(["signer", "run", "--once", "--dir"])
        .arg(world.realm());
    let outcome = run(&mut second, CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert_eq!(outcome.lines("hint").len(), 1, "{}", outcome.report());
    wait_until("the first signer to go on", CEILING, || {
        world.enroll("hula", "333");
        Ok(())
    });
}

/// What `tunnel signer list --json` says.
#[track_caller]
pub(super) fn list(world: &World) -> Vec<serde_json::Value> {
    let mut list = world.tunnel();
    list.args(["signer", "list", "--json", "--dir"])
        .arg(world.realm());
    let outcome = run(&mut list, CEILING).success();
    serde_json::from_str(&outcome.stdout).unwrap()
}
