//! TLS sessions that OpenSSL resumes.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, Device, Outcome, World, run, tool, wait_until};

use super::packets::{Connect, DISCONNECT};

/// A session with CONNECT and DISCONNECT.
fn s_client(world: &World, device: &Device, version: &str, session: (&str, &Path)) -> Outcome {
    let words = world.path("tmp/words");
    let said = [Connect::new(&device.id()).bytes(), DISCONNECT.to_vec()].concat();
    fs::write(&words, said).unwrap();
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["s_client", "-ign_eof", version, "-connect"])
        .arg(format!("127.0.0.1:{}", world.broker_port()))
        .arg("-CAfile")
        .arg(world.realm().join("ca/ca.cert"))
        .arg("-cert")
        .arg(device.certificate())
        .arg("-key")
        .arg(device.tls_key())
        .arg(session.0)
        .arg(session.1);
    world.run_from(&mut openssl, &words, CEILING)
}

fn is_connected(outcome: &Outcome) -> bool {
    outcome.stdout.contains("\u{20}\u{2}\0\0")
}

#[test]
fn a_session_is_resumed_until_its_certificate_is_revoked() {
    for version in ["-tls1_2", "-tls1_3"] {
        let world = World::new();
        let _signer = world.signer();
        let device = world.enroll("hula", "333");
        let broker = world.broker();
        let kept = world.path("tmp/session");
        let first = s_client(&world, &device, version, ("-sess_out", &kept));
        assert!(is_connected(&first), "{version}: {}", first.report());
        assert!(first.stdout.contains("New, TLSv1"), "{}", first.report());
        let second = s_client(&world, &device, version, ("-sess_in", &kept));
        assert!(
            second.stdout.contains("Reused, TLSv1"),
            "{version}: {}",
            second.report()
        );
        assert!(is_connected(&second), "{version}: {}", second.report());

        let mut revoke = world.tunnel();
        revoke
            .args(["signer", "revoke", "333.hula.atlas", "--dir"])
            .arg(world.realm());
        run(&mut revoke, CEILING).success();
        wait_until("the list is read again", CEILING, || {
            let log = broker.stderr();
            log.contains("revocation list have been read again")
                .then_some(())
                .ok_or(log)
        });
        let third = s_client(&world, &device, version, ("-sess_in", &kept));
        assert!(!is_connected(&third), "{version}: {}", third.report());
        assert!(
            !third.stdout.contains("Reused"),
            "{version}: {}",
            third.report()
        );
    }
}
