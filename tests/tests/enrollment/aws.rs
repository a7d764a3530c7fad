//! Signing with AWS IoT Core: one active certificate a request whatever happens, everything listed, and revoked there too.

use std::fs;

use e2e::aws::{AwsCertificate, AwsTrouble, PAGE};
use e2e::{CEILING, run};

use super::aws_stage::{AwsStage, openssl};

fn active(certificates: &[AwsCertificate]) -> usize {
    let is_active = |certificate: &&AwsCertificate| certificate.status == "ACTIVE";
    certificates.iter().filter(is_active).count()
}

#[test]
fn a_device_gets_an_active_certificate_with_the_policy_of_its_role() {
    let stage = AwsStage::new();
    let (target, controller) = (stage.hand_in("333"), stage.hand_in("controller-a"));
    let outcome = stage.sign_once().success();
    assert!(
        outcome
            .stdout
            .contains("333.hula.atlas.x509.csr: signed, serial "),
        "{}",
        outcome.report()
    );
    for (device, policy) in [
        (&target, "tunnel.target"),
        (&controller, "tunnel.controller"),
    ] {
        stage.enroll(device, "10s").success();
        let held = stage.certificates(&device.id());
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(
            (held[0].status.as_str(), &held[0].policies[..]),
            ("ACTIVE", &[policy.to_owned()][..])
        );
        // What the device has installed is what AWS has, for the device's own key, issued by the authority of AWS.
        let installed = fs::read_to_string(device.certificate()).unwrap();
        assert_eq!(installed.trim(), held[0].pem.trim());
        let ca = stage.aws.ca();
        openssl(
            &["verify", "-CAfile", ca.to_str().unwrap()],
            &device.certificate(),
        );
        let key = device.dir().join(format!("{}.x509.key", device.id()));
        assert_eq!(
            openssl(&["x509", "-noout", "-pubkey", "-in"], &device.certificate()),
            openssl(&["pkey", "-pubout", "-in"], &key)
        );
    }
    // A second run finds nothing to do, and asks AWS for nothing.
    stage.aws.take_calls();
    stage.sign_once().success();
    assert_eq!(stage.aws.take_calls(), []);
    let shown = fs::read_to_string(
        stage
            .world
            .realm()
            .join("signer")
            .read_dir()
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path(),
    );
    assert!(
        !shown.unwrap().contains("canary"),
        "the journal has no secret"
    );
}

#[test]
fn a_signer_that_is_killed_at_any_call_makes_one_active_certificate_a_request() {
    let stage = AwsStage::new();
    let mut killed = Vec::new();
    for trouble in [AwsTrouble::KillBefore, AwsTrouble::KillAfter] {
        for at in 0.. {
            assert!(at < 10, "a request takes more calls than it should");
            let name = format!(
                "k{}-{at}",
                if trouble == AwsTrouble::KillBefore {
                    "b"
                } else {
                    "a"
                }
            );
            let device = stage.hand_in(&name);
            stage.aws.set_victim(None);
            stage.aws.fail("", "/", at, trouble);
            let mut first = stage
                .world
                .daemon("first-signer", &mut stage.signer(&["run", "--once"]));
            stage.aws.set_victim(Some(first.pid()));
            let survived = first.wait(CEILING).success();
            assert_eq!(stage.aws.has_failed(), !survived, "{trouble:?} {at}");
            let before = stage.certificates(&device.id());
            assert!(active(&before) <= 1, "{trouble:?} {at}: {before:?}");
            stage.sign_once().success();
            let after = stage.certificates(&device.id());
            assert_eq!(after.len(), 1, "{trouble:?} {at}: {after:?}");
            assert_eq!(
                (active(&after), &after[0].policies[..]),
                (1, &["tunnel.target".to_owned()][..])
            );
            stage.enroll(&device, "10s").success();
            if survived {
                break;
            }
            killed.push((trouble, at));
        }
    }
    // Making, giving the policy, making active: before and after each.
    assert_eq!(killed.len(), 6, "{killed:?}");
    println!("killed at {killed:?}");
}

#[test]
fn what_is_left_behind_and_not_listed_stays_inactive() {
    let stage = AwsStage::new();
    let device = stage.hand_in("333");
    stage
        .aws
        .fail("POST", "/certificates", 0, AwsTrouble::CutAfter);
    assert_ne!(stage.sign_once().code, Some(0));
    assert!(stage.aws.has_failed());
    // AWS does not show yet what it has made.
    stage
        .aws
        .fail("GET", "/certificates", 0, AwsTrouble::EmptyList);
    stage.sign_once().success();
    assert!(stage.aws.has_failed());
    let held = stage.certificates(&device.id());
    assert_eq!((held.len(), active(&held)), (2, 1), "{held:?}");
    let left = held
        .iter()
        .find(|certificate| certificate.status != "ACTIVE")
        .unwrap();
    assert_eq!((left.status.as_str(), left.policies.len()), ("INACTIVE", 0));
    stage.enroll(&device, "10s").success();
    let states: Vec<_> = stage
        .list()
        .iter()
        .map(|entry| entry["state"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        states.contains(&"inactive".to_owned()) && states.contains(&"valid".to_owned()),
        "{states:?}"
    );
}

#[test]
fn a_call_that_fails_is_repeated_where_it_may_be() {
    let stage = AwsStage::new();
    let throttled = AwsTrouble::Refused(429, "ThrottlingException");
    let troubles = [
        // Turned away unread: may be repeated, also the one that makes a certificate.
        ("POST", "/certificates", throttled, true),
        ("PUT", "/target-policies", AwsTrouble::After(503), true),
        ("PUT", "/target-policies", AwsTrouble::CutAfter, true),
        (
            "PUT",
            "/certificates/",
            AwsTrouble::Refused(500, "InternalFailureException"),
            true,
        ),
        // Perhaps carried out: looked for by the next run.
        ("POST", "/certificates", AwsTrouble::After(504), false),
        ("POST", "/certificates", AwsTrouble::CutAfter, false),
    ];
    for (index, (method, path, trouble, repeated)) in troubles.into_iter().enumerate() {
        let device = stage.hand_in(&format!("4{index}"));
        stage.aws.fail(method, path, 0, trouble);
        let outcome = stage.sign_once();
        assert!(stage.aws.has_failed(), "{trouble:?}");
        assert_eq!(
            outcome.code == Some(0),
            repeated,
            "{trouble:?}: {}",
            outcome.report()
        );
        stage.sign_once().success();
        let held = stage.certificates(&device.id());
        assert_eq!((held.len(), active(&held)), (1, 1), "{trouble:?}: {held:?}");
    }
}

#[test]
fn everything_is_listed_over_all_pages_and_a_lost_device_is_revoked_at_aws() {
    let stage = AwsStage::new();
    // What others have made in the same account: for the same device, for other devices, for other things.
    stage.sign_for_another("/CN=333.hula.atlas/OU=333/O=hula");
    stage.sign_for_another("/CN=333.hula.elsewhere/OU=333/O=hula");
    for number in 0..2 * PAGE {
        stage.sign_for_another(&format!("/CN={number}.kiwi.atlas/OU={number}/O=kiwi"));
    }
    let (device, other) = (stage.hand_in("333"), stage.hand_in("334"));
    stage.sign_once().success();
    stage.enroll(&device, "10s").success();
    stage.enroll(&other, "10s").success();

    stage.aws.take_calls();
    let list = stage.list();
    let pages = stage
        .aws
        .take_calls()
        .iter()
        .filter(|call| call.path == "/certificates")
        .count();
    assert_eq!((list.len(), pages), (2 * PAGE + 3, 3));
    let of = |list: &[serde_json::Value], id: &str| -> Vec<(String, String)> {
        let entries = list.iter().filter(|entry| entry["device"] == id);
        entries
            .map(|entry| {
                (
                    entry["serial"].as_str().unwrap().to_owned(),
                    entry["state"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    };
    assert_eq!(of(&list, "39.kiwi.atlas").len(), 1);
    assert_eq!(of(&list, "333.hula.atlas").len(), 2);
    let serial = openssl(&["x509", "-noout", "-serial", "-in"], &other.certificate());
    assert_eq!(
        of(&list, "334.hula.atlas"),
        [(serial.trim().replace("serial=", ""), "valid".to_owned())]
    );
    assert_eq!(list[0]["not_after"], "2049-12-31T23:59:59Z");

    let outcome = run(&mut stage.signer(&["revoke", "333.hula.atlas"]), CEILING).success();
    for said in [
        "revoked",
        "shut out",
        "333.hula.atlas.sshkey.pub: withdrawn",
        "333.hula.atlas.x509.cert: withdrawn",
    ] {
        assert!(
            outcome.stdout.contains(said),
            "{said}: {}",
            outcome.report()
        );
    }
    for certificate in stage.certificates("333.hula.atlas") {
        assert_eq!(
            (certificate.status.as_str(), certificate.policies.len()),
            ("REVOKED", 0)
        );
    }
    assert_eq!(active(&stage.certificates("334.hula.atlas")), 1);
    assert_eq!(active(&stage.certificates("333.hula.elsewhere")), 1);
    assert!(
        of(&stage.list(), "333.hula.atlas")
            .iter()
            .all(|(_, state)| state == "revoked")
    );
    // Again, as after an interruption; then nothing of it comes back.
    let again = run(&mut stage.signer(&["revoke", "333.hula.atlas"]), CEILING).success();
    assert!(
        again.stdout.contains("no certificate to revoke"),
        "{}",
        again.report()
    );
    let newcomer = stage.device("333-new");
    let enroll = || stage.enroll_anew(&newcomer, "333");
    enroll();
    let refused = stage.sign_once().success();
    assert!(
        refused.stdout.contains("`333.hula.atlas` has been revoked"),
        "{}",
        refused.report()
    );
    run(&mut stage.signer(&["readmit", "333.hula.atlas"]), CEILING).success();
    enroll();
    stage.sign_once().success();
    assert_eq!(active(&stage.certificates("333.hula.atlas")), 1);
}

#[test]
fn a_device_is_shut_out_here_although_aws_cannot_be_reached() {
    let stage = AwsStage::new();
    let device = stage.hand_in("333");
    stage.sign_once().success();
    stage.enroll(&device, "10s").success();
    stage.aws.fail(
        "PUT",
        "/certificates/",
        0,
        AwsTrouble::Refused(403, "AccessDeniedException"),
    );
    let outcome = run(&mut stage.signer(&["revoke", "333.hula.atlas"]), CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(
        outcome.lines("hint")[0].contains("permit `iot:UpdateCertificate`"),
        "{}",
        outcome.report()
    );
    assert!(
        outcome
            .stdout
            .contains("333.hula.atlas.sshkey.pub: withdrawn"),
        "{}",
        outcome.report()
    );
    assert_eq!(active(&stage.certificates("333.hula.atlas")), 1);
    run(&mut stage.signer(&["revoke", "333.hula.atlas"]), CEILING).success();
    assert_eq!(active(&stage.certificates("333.hula.atlas")), 0);
}
