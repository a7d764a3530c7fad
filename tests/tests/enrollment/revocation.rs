//! A revoked device: gone from the broker within seconds, from the registry, and for every other verifier.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::{CEILING, Device, Mosquitto, Outcome, Stopwatch, World, run, tool, wait_until};

use super::signer::list;

/// What `openssl verify` says of a certificate when it asks the revocation list.
fn verify(world: &World, certificate: &Path) -> Outcome {
    let realm = world.realm();
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["verify", "-x509_strict", "-crl_check", "-CAfile"])
        .arg(realm.join("ca/ca.cert"))
        .arg("-CRLfile")
        .arg(realm.join("ca/crl.pem"))
        .arg(certificate);
    run(&mut openssl, CEILING)
}

#[test]
fn a_live_device_is_gone_within_seconds_and_does_not_come_back() {
    let world = World::new();
    let _serve = world.serve();
    let device = world.enroll("hula", "333");
    let other = world.enroll("hula", "334");
    let controller = world.enroll("hula", "controller-a");
    let _agent = world.agent(&device);
    let _other_agent = world.agent(&other);
    world.wait_for_presence(&controller, &device, true);
    world.wait_for_presence(&controller, &other, true);

    let outcome = world.run_signer(&["revoke", "333.hula.atlas"]);
    let watch = Stopwatch::start();
    world.wait_for_presence(&controller, &device, false);
    let took = watch.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    println!("a revoked device was offline after {took:?}");
    for said in ["revoked", "shut out"] {
        assert!(
            outcome.stdout.contains(said),
            "{said}: {}",
            outcome.report()
        );
    }
    let registry = world.realm().join("registry");
    // Whichever of the command and the running signer has come to it first.
    for withdrawn in ["333.hula.atlas.sshkey.pub", "333.hula.atlas.x509.cert"] {
        assert!(!registry.join(withdrawn).exists(), "{withdrawn}");
    }
    assert!(registry.join("334.hula.atlas.sshkey.pub").exists());
    // The others stay.
    world.wait_for_presence(&controller, &other, true);
    // A new connection of the revoked one fails in its TLS handshake.
    let refused = Mosquitto::client("mosquitto_pub", &world, &device, "333.hula.atlas")
        .args(["-t", "atlas/hula/333/tunnel/state", "-m", "x", "-q", "1"])
        .args(["--tls-version", "tlsv1.2"])
        .output()
        .unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    world.wait_for_presence(&controller, &device, false);

    let states: Vec<_> = list(&world)
        .iter()
        .map(|entry| (entry["device"].to_string(), entry["state"].to_string()))
        .collect();
    assert!(
        states.contains(&("\"333.hula.atlas\"".into(), "\"revoked\"".into())),
        "{states:?}"
    );
    // Enrolling again is refused, with the reason; after the readmission it takes new keys.
    let again = |dir: &str| {
        let mut enroll = world.tunnel();
        enroll
            .args([
                "enroll",
                "hula",
                "333",
                "--no-proof",
                "--replace",
                "--wait",
                "20s",
                "--realm",
            ])
            .arg(world.realm().join("realm.toml"))
            .arg("--dir")
            .arg(world.path(dir));
        run(&mut enroll, CEILING)
    };
    let refused = again("new-333");
    assert_ne!(refused.code, Some(0), "{}", refused.report());
    assert!(
        refused.stderr.contains("`333.hula.atlas` has been revoked"),
        "{}",
        refused.report()
    );
    world.run_signer(&["readmit", "333.hula.atlas"]);
    again("new-333").success();
    verify(&world, &world.path("new-333/333.hula.atlas.x509.cert")).success();
    assert_ne!(verify(&world, &device.certificate()).code, Some(0));
}

#[test]
fn openssl_reads_the_list_and_refuses_whom_it_names() {
    let world = World::new();
    let _signer = world.signer();
    let (device, other) = (world.enroll("hula", "333"), world.enroll("hula", "334"));
    verify(&world, &device.certificate()).success();
    world.run_signer(&["revoke", "333.hula.atlas"]);
    let refused = verify(&world, &device.certificate());
    assert!(
        refused.stderr.contains("certificate revoked"),
        "{}",
        refused.report()
    );
    verify(&world, &other.certificate()).success();
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["crl", "-noout", "-text", "-verify", "-in"])
        .arg(world.realm().join("ca/crl.pem"))
        .arg("-CAfile")
        .arg(world.realm().join("ca/ca.cert"));
    let shown = run(&mut openssl, CEILING).success();
    assert!(shown.stderr.contains("verify OK"), "{}", shown.report());
    let serial = list(&world)[0]["serial"].as_str().unwrap().to_owned();
    assert!(shown.stdout.contains(&serial), "{}", shown.report());
}

#[test]
fn mosquitto_refuses_whom_the_list_names() {
    let world = World::new();
    let signer = world.signer();
    let (device, other) = (world.enroll("hula", "333"), world.enroll("hula", "334"));
    drop(signer);
    let publish = |device: &Device| {
        let mut publish = Mosquitto::client("mosquitto_pub", &world, device, &device.id());
        publish.args(["-t", "test", "-m", "x", "-q", "1"]);
        run(&mut publish, CEILING)
    };
    let mosquitto = Mosquitto::start_with_list(&world);
    publish(&device).success();
    publish(&other).success();
    drop(mosquitto);
    world.run_signer(&["revoke", "333.hula.atlas"]);
    let mosquitto = Mosquitto::start_with_list(&world);
    publish(&other).success();
    let refused = publish(&device);
    assert_ne!(refused.code, Some(0), "{}", refused.report());
    wait_until("mosquitto to say why", CEILING, || {
        let log = mosquitto.log();
        if log.contains("revoked") || log.contains("certificate verify failed") {
            Ok(())
        } else {
            Err(log)
        }
    });
}

#[test]
fn a_damaged_record_does_not_keep_a_device_in() {
    let world = World::new();
    let _signer = world.signer();
    world.enroll("hula", "333");
    let journal = world.realm().join("signer");
    let record = std::fs::read_dir(&journal).unwrap().next().unwrap();
    std::fs::write(record.unwrap().path(), "").unwrap();
    world.enroll("hula", "334");
    let tunnel = |words: &[&str]| {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(world.realm());
        run(&mut command, CEILING)
    };
    for device in ["777.hula.atlas", "334.hula.atlas"] {
        let outcome = tunnel(&["signer", "revoke", device]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.report());
        assert!(outcome.stdout.contains("shut out"), "{}", outcome.report());
        assert!(
            outcome.lines("error")[0].contains("not everything that was signed can be read"),
            "{}",
            outcome.report()
        );
        assert!(
            outcome.lines("hint")[0].contains("back from a backup"),
            "{}",
            outcome.report()
        );
    }
    let revoked = std::fs::read_to_string(world.realm().join("revoked.toml")).unwrap();
    assert!(revoked.contains("777.hula.atlas"), "{revoked}");
    let listed = tunnel(&["signer", "list"]);
    assert_eq!(listed.code, Some(1), "{}", listed.report());
    assert!(
        listed.stdout.contains("334.hula.atlas"),
        "{}",
        listed.report()
    );
    assert!(listed.stdout.contains("  revoked"), "{}", listed.report());
}

#[test]
fn a_broker_does_not_run_without_the_list_of_whom_it_has_to_refuse() {
    let world = World::new();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    world.run_signer(&["revoke", "333.hula.atlas"]);
    drop(signer);
    let list = world.realm().join("ca/crl.pem");
    std::fs::remove_file(&list).unwrap();
    for more in [&[][..], &["--check"]] {
        let mut broker = world.tunnel();
        broker
            .arg("broker")
            .args(more)
            .arg("--dir")
            .arg(world.realm());
        let refused = run(&mut broker, CEILING);
        assert_eq!(refused.code, Some(78), "{}", refused.report());
        assert!(
            refused.lines("error")[0].contains("there is no revocation list"),
            "{}",
            refused.report()
        );
        assert!(
            refused.lines("hint")[0].contains("`tunnel signer run --once` makes it"),
            "{}",
            refused.report()
        );
    }
    // Where the authority is, the list is made first.
    let _serve = world.serve();
    assert!(list.exists());
    assert_ne!(verify(&world, &device.certificate()).code, Some(0));
}
