//! What can be wrong on the computer that asks: its files, its certificate, its clock.

use std::fs;

use e2e::{CEILING, Mosquitto, run};

use super::patient::{Diagnosis, Patient};
use super::{CONFIGURATION, USAGE};
use crate::looking::certificate::certify;
use crate::main_job::Job;

#[test]
fn what_is_wrong_with_the_files() {
    let job = Job::start();
    let patient = |name: &str| Patient::of(&job.world, &job.controller, name);

    let healthy = patient("healthy");
    let known = healthy.dir.join("known_hosts");
    let outcome = healthy.ask(&["333"]);
    outcome.praises();
    assert_eq!(outcome.names(), LEGS, "{}", outcome.report());
    assert!(outcome.found("sshd").contains("SSH-2.0-OpenSSH"));
    assert!(outcome.leg("broker-tls")["ms"].as_f64().unwrap() > 0.0);
    assert!(
        outcome.leg("forward").get("ms").is_none(),
        "seen by the way"
    );
    assert!(!known.exists(), "a look does not learn whom to trust");

    let outcome = Patient::nobody(&job.world).ask(&[]);
    outcome.blames("config", "tunnel enroll", CONFIGURATION);
    assert_eq!(outcome.names(), ["config"]);

    let garbage = patient("garbage");
    fs::write(garbage.dir.join("realm.toml"), "realm = 7\n").unwrap();
    let present = "the realm's admin has the present `realm.toml`";
    garbage.ask(&[]).blames("config", present, CONFIGURATION);

    let open = patient("open-key");
    open.open_to_others("sshkey", "644");
    let outcome = open.ask(&["333"]);
    outcome.blames("ssh-key", "chmod 600", CONFIGURATION);
    // What does not need it is looked at all the same.
    outcome.is("proxy-tcp", "ok");
    outcome.is("proxy-login", "skipped");
    outcome.is("sshd", "skipped");

    let open = patient("open-tls-key");
    open.open_to_others("x509.key", "604");
    let outcome = open.ask(&["333"]);
    outcome.blames("tls-key", "chmod 600", CONFIGURATION);
    outcome.is("broker-tcp", "ok");
    outcome.is("broker-mqtt", "skipped");
    outcome.is("proxy-login", "ok");

    let broken = patient("broken-key");
    fs::write(broken.file("sshkey"), "no key at all\n").unwrap();
    let aside = "put the file aside";
    broken.ask(&[]).blames("ssh-key", aside, CONFIGURATION);

    let unsigned = patient("unsigned");
    fs::remove_file(unsigned.file("x509.cert")).unwrap();
    let again = "run `tunnel enroll` again";
    unsigned
        .ask(&[])
        .blames("certificate", again, CONFIGURATION);

    let elsewhere = patient("elsewhere");
    elsewhere.edit("device.toml", "hula", "lava");
    for kind in ["sshkey", "sshkey.pub", "x509.key", "x509.cert"] {
        let name = format!("controller-a.lava.atlas.{kind}");
        fs::rename(elsewhere.file(kind), elsewhere.dir.join(name)).unwrap();
    }
    let other = "`device.toml` names another computer";
    elsewhere
        .ask(&[])
        .blames("certificate", other, CONFIGURATION);

    let no_name = patient("healthy-again").ask(&["Station_7"]);
    assert_eq!(no_name.code(), Some(USAGE), "{}", no_name.report());
    let from_a_device = Diagnosis::of(&job.world, job.device.dir(), &["444"]);
    assert_eq!(from_a_device.code(), Some(USAGE));
    assert!(from_a_device.report().contains("without a device"));
}

#[test]
fn what_is_wrong_with_time() {
    let job = Job::start();
    let valid_for = |name: &str, days| {
        let patient = Patient::of(&job.world, &job.controller, name);
        let (key, certificate) = (patient.file("x509.key"), patient.file("x509.cert"));
        certify(&job.world, &key, &certificate, days);
        patient
    };

    let outcome = valid_for("expired", (-9, -2)).ask(&[]);
    outcome.blames("certificate", "tunnel enroll --renew", CONFIGURATION);
    outcome.is("broker-tls", "ok");
    outcome.is("broker-mqtt", "error");
    outcome.is("proxy-login", "ok");

    let outcome = valid_for("early", (2, 99)).ask(&[]);
    outcome.blames("certificate", "timedatectl", CONFIGURATION);
    outcome.is("clock", "error");
    outcome.hints("clock", "timedatectl");
    assert!(outcome.found("clock").contains("behind"));

    let outcome = valid_for("soon", (-9, 20)).ask(&[]);
    outcome.warns("certificate", "tunnel enroll --renew");
    valid_for("good", (-9, 40)).ask(&[]).praises();

    // A device that came online at a time that is to come.
    let barn = job.world.enroll("hula", "barn-7");
    let then = time::OffsetDateTime::now_utc().unix_timestamp() + 100;
    let presence =
        format!(r#"{{"v":1,"online":true,"since":{then},"version":"0","epoch":{then}000}}"#);
    let mut publish = Mosquitto::client("mosquitto_pub", &job.world, &barn, "barn-7.hula.atlas");
    publish
        .args(["-r", "-q", "1", "-t", "atlas/hula/barn-7/tunnel/presence"])
        .args(["-m", &presence]);
    run(&mut publish, CEILING).success();
    let outcome = Patient::of(&job.world, &job.controller, "behind").ask(&["333"]);
    outcome.warns("clock", "`barn-7.hula.atlas` is ahead");
}

/// All legs of a controller that goes to a device, in their order.
const LEGS: [&str; 19] = [
    "config",
    "ssh-key",
    "tls-key",
    "certificate",
    "broker-dns",
    "broker-tcp",
    "broker-tls",
    "broker-mqtt",
    "broker-policy",
    "clock",
    "proxy-dns",
    "proxy-tcp",
    "proxy-ssh",
    "proxy-login",
    "device",
    "order",
    "forward",
    "sshd",
    "host-key",
];
