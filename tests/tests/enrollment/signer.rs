//! The signer's own commands: how long certificates are good, what was signed, and being killed.

use std::fs;
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
fn a_signer_that_is_killed_again_and_again_makes_one_certificate_a_request() {
    let world = World::new();
    // What the signer does with the files of registry and journal: it is killed at the n-th of these calls.
    let strace = tool("strace");
    let requests = ["333", "334"];
    for device in requests {
        let mut enroll = world.tunnel();
        enroll
            .args([
                "enroll",
                "hula",
                device,
                "--no-proof",
                "--wait",
                "10ms",
                "--realm",
            ])
            .arg(world.realm().join("realm.toml"))
            .arg("--dir")
            .arg(world.path(device));
        run(&mut enroll, CEILING);
    }
    let mut killed = 0;
    for at in 1.. {
        let mut signer = Command::new(&strace);
        world.mark(&mut signer);
        signer
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg("trace=rename,renameat,renameat2,unlinkat")
            .arg("-e")
            .arg(format!(
                "inject=rename,renameat,renameat2,unlinkat:signal=KILL:when={at}"
            ))
            .arg(e2e::tunnel_binary())
            .args(["signer", "run", "--once", "--dir"])
            .arg(world.realm());
        let outcome = run(&mut signer, CEILING);
        let left = fs::read_dir(world.realm().join("registry"))
            .unwrap()
            .filter(|file| {
                let name = file.as_ref().unwrap().file_name();
                name.to_string_lossy().ends_with(".x509.csr")
            })
            .count();
        if outcome.code == Some(0) {
            assert_eq!(left, 0, "{}", outcome.report());
            break;
        }
        killed += 1;
        assert!(killed < 100, "{}", outcome.report());
    }
    assert!(killed >= 3, "it was killed {killed} times only");
    let listed = list(&world);
    assert_eq!(listed.len(), requests.len(), "{listed:?}");
    for entry in &listed {
        assert_eq!(entry["state"], "valid", "{entry}");
    }
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
