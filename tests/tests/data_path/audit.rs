//! What an auditor finds at the proxy: `ssh-audit`, with its own opinion and with our policy.

use std::process::Command;

use e2e::{CEILING, Packages, World, run};

/// Warned about and kept all the same: OpenSSH before 9.9, Debian 12's among them, has no other key exchange that is as good
/// and that we have too.
const KNOWN: &[&str] = &["curve25519-sha256", "curve25519-sha256@libssh.org"];

#[test]
fn nothing_fails_and_only_the_known_is_warned_about() {
    let world = World::new();
    let _proxy = world.proxy();
    let outcome = run(audit(&world).args(["-j"]), CEILING);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let mut seen = 0;
    for group in ["kex", "key", "enc", "mac"] {
        for entry in found[group].as_array().unwrap() {
            seen += 1;
            let name = entry["algorithm"].as_str().unwrap();
            let notes = &entry["notes"];
            assert!(notes["fail"].is_null(), "{entry}");
            assert_eq!(notes["warn"].is_null(), !KNOWN.contains(&name), "{entry}");
        }
    }
    assert!(seen >= 8, "{found}");
    assert_eq!(found["cves"].as_array().map_or(0, Vec::len), 0, "{found}");
}

#[test]
fn the_proxy_is_what_the_policy_says() {
    let world = World::new();
    let _proxy = world.proxy();
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/ssh-audit.txt");
    let outcome = run(audit(&world).args(["-P", policy]), CEILING);
    assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    assert!(outcome.stdout.contains("Passed"), "{}", outcome.report());
}

#[test]
fn older_host_keys_are_there_when_they_are_asked_for() {
    let world = World::new();
    for kind in ["ecdsa", "rsa"] {
        let mut add = world.tunnel();
        add.args(["proxy", "host-key", "add", kind, "--dir"]);
        run(add.arg(world.realm()), CEILING).success();
    }
    let _proxy = world.proxy();
    let outcome = run(audit(&world).args(["-j"]), CEILING);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let keys = found["key"].as_array().unwrap();
    let sizes: Vec<_> = keys
        .iter()
        .map(|key| (key["algorithm"].as_str().unwrap(), key["keysize"].as_u64()))
        .collect();
    assert_eq!(sizes[0].0, "ssh-ed25519", "the best one first: {sizes:?}");
    for expected in ["ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"] {
        assert!(sizes.iter().any(|(name, _)| *name == expected), "{sizes:?}");
    }
    assert!(sizes.contains(&("rsa-sha2-512", Some(3072))), "{sizes:?}");
}

fn audit(world: &World) -> Command {
    let mut command = Command::new(Packages::SshAudit.folder().join("bin/ssh-audit"));
    world.mark(&mut command);
    // The rate at which connections are taken is for a fleet behind one address, and none of them costs a slow exchange.
    command.args(["-n", "--skip-rate-test", "-p"]);
    command.arg(world.proxy_port().to_string()).arg("127.0.0.1");
    command
}
