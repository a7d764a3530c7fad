//! Making a realm, enrolling, and checking settings before they are used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, Device, Outcome, World, run, tool};

use super::Job;

#[test]
fn what_is_issued_stands_before_another_verifier() {
    let world = World::new();
    let _signer = world.signer();
    let device = world.enroll("hula", "333");
    let realm = world.realm();
    let verify = |purpose: &str, certificate: &Path| {
        let mut openssl = Command::new(tool("openssl"));
        openssl
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .arg(realm.join("ca/ca.cert"))
            .arg(certificate);
        run(&mut openssl, CEILING)
    };
    verify("sslclient", &device.certificate()).success();
    verify("sslserver", &realm.join("broker/server.cert")).success();
    // Neither can play the other's part.
    assert_ne!(verify("sslserver", &device.certificate()).code, Some(0));
    assert_ne!(
        verify("sslclient", &realm.join("broker/server.cert")).code,
        Some(0)
    );
    let mut subject = Command::new(tool("openssl"));
    subject
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"])
        .arg(device.certificate());
    let subject = run(&mut subject, CEILING).success().stdout;
    assert_eq!(subject.trim(), "subject=O=hula,OU=333,CN=333.hula.atlas");
    let mut fingerprint = Command::new(tool("ssh-keygen"));
    fingerprint.arg("-lf").arg(device.ssh_public_key());
    let fingerprint = run(&mut fingerprint, CEILING).success().stdout;
    assert!(
        fingerprint.contains("333.hula.atlas (ED25519)"),
        "{fingerprint}"
    );
}

#[test]
fn secrets_are_for_their_owner_alone() {
    let world = World::new();
    let _signer = world.signer();
    let device = world.enroll("hula", "333");
    let realm = world.realm();
    for secret in [
        device.ssh_key(),
        device.tls_key(),
        realm.join("ca/ca.key"),
        realm.join("broker/server.key"),
        realm.join("proxy/hostkey"),
    ] {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&secret), 0o600, "{}", secret.display());
        assert_eq!(
            mode(secret.parent().unwrap()) & 0o022,
            0,
            "{}",
            secret.display()
        );
    }
}

#[test]
fn enrolling_again_changes_nothing() {
    let world = World::new();
    let _signer = world.signer();
    let device = world.enroll("hula", "333");
    let kept = |device: &Device| {
        [device.ssh_key(), device.tls_key(), device.certificate()]
            .map(|file| fs::read(file).unwrap())
    };
    let before = kept(&device);
    world.enroll("hula", "333");
    assert!(
        before == kept(&device),
        "a key or the certificate was replaced"
    );
}

#[test]
fn a_realm_is_not_made_twice_in_one_place() {
    let world = World::new();
    let key = fs::read(world.realm().join("ca/ca.key")).unwrap();
    let mut again = world.tunnel();
    again
        .args(["realm", "init", "atlas", "--proxy", "127.0.0.1", "--dir"])
        .arg(world.realm());
    let outcome = run(&mut again, CEILING);
    assert_ne!(outcome.code, Some(0), "{}", outcome.report());
    assert_eq!(outcome.lines("error").len(), 1, "{}", outcome.report());
    assert!(
        key == fs::read(world.realm().join("ca/ca.key")).unwrap(),
        "the authority was replaced"
    );
}

#[test]
fn broker_and_proxy_do_without_the_authoritys_key() {
    let world = World::new();
    let signer = world.signer();
    let (device, controller) = (
        world.enroll("hula", "333"),
        world.enroll("hula", "controller-a"),
    );
    drop(signer);
    fs::remove_file(world.realm().join("ca/ca.key")).unwrap();
    let (_broker, _proxy) = (world.broker(), world.proxy());
    let sshd = e2e::Sshd::start("sshd", world.folder(), &world.logs());
    sshd.authorize(&controller);
    device.configure(&sshd, &[], super::GRACE);
    let _agent = world.agent(&device);
    world.wait_for_presence(&controller, &device, true);
    let whom = format!("{}@333", e2e::current_user());
    let outcome = world.run_as(&controller, &["connect", &whom, "--", "echo here"]);
    assert_eq!(outcome.success().stdout, "here\n");
}

#[test]
fn check_says_whether_settings_can_be_used() {
    let job = Job::start();
    job.world
        .run_as(&job.device, &["agent", "--check"])
        .success();
    let serve_check = |world: &World| {
        let mut serve = world.tunnel();
        serve.args(["serve", "--check", "--dir"]).arg(world.realm());
        run(&mut serve, CEILING)
    };
    serve_check(&job.world).success();

    let settings = job.device.dir().join("device.toml");
    let good = fs::read_to_string(&settings).unwrap();
    for (bad, named) in [
        (format!("grace_periode = \"1s\"\n{good}"), "grace_periode"),
        (good.replace("\"1s\"", "\"1\""), "grace_period"),
        (
            good.replace("ssh = \"127.0.0.1:", "ssh = \"127.0.0.1:9"),
            "ssh",
        ),
        ("this is no TOML".to_owned(), "device.toml"),
    ] {
        fs::write(&settings, &bad).unwrap();
        assert_unusable(&job.world.run_as(&job.device, &["agent", "--check"]), named);
        // What --check refuses does not start either.
        assert_unusable(&job.world.run_as(&job.device, &["agent"]), named);
    }
    let realm = job.world.realm().join("realm.toml");
    let good = fs::read_to_string(&realm).unwrap();
    fs::write(&realm, format!("colour = \"blue\"\n{good}")).unwrap();
    assert_unusable(&serve_check(&job.world), "colour");
}

#[track_caller]
fn assert_unusable(outcome: &Outcome, named: &str) {
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(
        outcome.stderr.contains(named),
        "names `{named}`: {}",
        outcome.report()
    );
}
