//! The embedded broker's settings: checked before they are used, and read again while it runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, Outcome, World, run, tool, wait_until};
use rustix::process::Signal;

use super::packets::Connect;
use super::party::{Party, tls};
use super::seen::Seen;

fn check(world: &World) -> Outcome {
    let mut check = world.tunnel();
    check
        .args(["broker", "--check", "--dir"])
        .arg(world.realm());
    run(&mut check, CEILING)
}

#[track_caller]
fn assert_refused(outcome: &Outcome, said: &[&str]) {
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert_eq!(outcome.lines("error").len(), 1, "{}", outcome.report());
    for said in said {
        assert!(
            outcome.stderr.contains(said),
            "{said}: {}",
            outcome.report()
        );
    }
}

#[test]
fn check_says_what_would_be_served_and_what_is_wrong() {
    let world = World::new();
    let realm = world.realm();
    let said = check(&world).success();
    for part in [
        format!("listen       127.0.0.1:{}\n", world.broker_port()),
        "certificate  ".to_owned(),
        "authority    ".to_owned(),
        "revoked      ".to_owned(),
        "tunnel.target (the program's own)".to_owned(),
        format!(
            "store        {} (new)",
            realm.join("broker/store").display()
        ),
        "can be served".to_owned(),
    ] {
        assert!(said.stdout.contains(&part), "{part}: {}", said.report());
    }

    // The realm's own documents are what is checked, and what is rendered for others.
    let render = || {
        let mut policies = world.tunnel();
        policies
            .args(["policies", "aws", "--region", "eu-central-1", "--account"])
            .args(["123456789012", "--dir"])
            .arg(&realm);
        run(&mut policies, CEILING)
    };
    let of_the_program = render().success().stdout;
    let own = realm.join("policies/tunnel.target.json");
    fs::create_dir_all(realm.join("policies")).unwrap();
    fs::write(&own, "{\"Version\": \"2012-10-17\"}").unwrap();
    assert_refused(&check(&world), &["tunnel.target.json", "no statement"]);
    assert_refused(&render(), &["tunnel.target.json", "no statement"]);
    let statement = r#"{"Sid": "Own", "Effect": "Deny", "Action": "iot:Connect", "Resource": "arn:aws:iot:REGION:ACCOUNT:client/*"}"#;
    let document = format!("{{\"Version\": \"2012-10-17\", \"Statement\": {statement}}}");
    fs::write(&own, document).unwrap();
    let said = check(&world).success();
    assert!(
        said.stdout.contains(own.to_str().unwrap()),
        "{}",
        said.report()
    );
    let of_the_realm = render().success().stdout;
    assert!(!of_the_program.contains("\"Own\"") && of_the_realm.contains("\"Own\""));
    fs::write(realm.join("policies/target.json"), "{}").unwrap();
    assert_refused(
        &check(&world),
        &["target.json", "is no policy of the broker's"],
    );
    fs::remove_dir_all(realm.join("policies")).unwrap();

    let crl = realm.join("ca/crl.pem");
    let good = fs::read(&crl).ok();
    fs::write(&crl, "rubbish").unwrap();
    assert_refused(&check(&world), &["crl.pem"]);
    match good {
        Some(good) => fs::write(&crl, good).unwrap(),
        None => fs::remove_file(&crl).unwrap(),
    }

    // A certificate for another host starts, and no device would accept it.
    let file = realm.join("realm.toml");
    let text = fs::read_to_string(&file).unwrap();
    let address = format!("127.0.0.1:{}", world.broker_port());
    let other = text.replace(
        &address,
        &format!("broker.example.org:{}", world.broker_port()),
    );
    assert_ne!(other, text);
    fs::write(&file, other).unwrap();
    assert_refused(
        &check(&world),
        &["devices that dial `broker.example.org`", "hint: "],
    );
    fs::write(&file, text).unwrap();

    let server = realm.join("server.toml");
    let text = fs::read_to_string(&server).unwrap();
    // An address that is no computer's here (RFC 5737).
    let elsewhere = text.replacen("127.0.0.1:", "192.0.2.1:", 1);
    assert_ne!(elsewhere, text);
    fs::write(&server, elsewhere).unwrap();
    assert_refused(&check(&world), &["192.0.2.1"]);
    fs::write(&server, text).unwrap();

    // A file that is no store would keep the broker from starting.
    let store = realm.join("broker/store");
    fs::create_dir_all(&store).unwrap();
    for (content, wrong) in [("presence", "damaged"), ("", "it is empty")] {
        fs::write(store.join("broker.redb"), content).unwrap();
        assert_refused(&check(&world), &["broker.redb", wrong, "hint: "]);
    }
    fs::remove_dir_all(&store).unwrap();

    // One that runs is no fault, and is not disturbed.
    let _broker = world.broker();
    let said = check(&world).success();
    assert_eq!(
        said.stdout.matches("in use").count(),
        2,
        "{}",
        said.report()
    );
}

/// A new broker certificate of the realm's authority, for a name by which it can be known.
fn renew(world: &World, subject: &str) {
    let realm = world.realm();
    let (key, request, certificate) = (
        world.path("tmp/new.key"),
        world.path("tmp/new.csr"),
        world.path("tmp/new.cert"),
    );
    let openssl = |arguments: &[&str], paths: &[(&str, &Path)]| {
        let mut openssl = Command::new(tool("openssl"));
        openssl.args(arguments);
        for (option, path) in paths {
            openssl.arg(option).arg(path);
        }
        run(&mut openssl, CEILING).success();
    };
    openssl(
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            subject,
        ],
        &[("-keyout", &key), ("-out", &request)],
    );
    let extensions = world.path("tmp/extensions");
    fs::write(
        &extensions,
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
    )
    .unwrap();
    openssl(
        &["x509", "-req", "-days", "2", "-set_serial", "4711"],
        &[
            ("-in", &request),
            ("-CA", &realm.join("ca/ca.cert")),
            ("-CAkey", &realm.join("ca/ca.key")),
            ("-extfile", &extensions),
            ("-out", &certificate),
        ],
    );
    fs::copy(&key, realm.join("broker/server.key")).unwrap();
    fs::copy(&certificate, realm.join("broker/server.cert")).unwrap();
}

/// Whom the broker says that it is.
fn shown(world: &World) -> String {
    let mut openssl = Command::new(tool("openssl"));
    openssl.args([
        "s_client",
        "-connect",
        &format!("127.0.0.1:{}", world.broker_port()),
    ]);
    run(&mut openssl, CEILING).stdout
}

#[test]
fn sighup_and_the_files_alone_renew_the_certificate_and_drop_nobody() {
    let world = World::new();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    signer.terminate();
    let broker = world.broker();
    let settings = tls(&world, &device);
    let mut there = Party::dial(world.broker_port(), &settings);
    assert_eq!(
        there.connect(&Connect::new("333.hula.atlas")),
        Seen::ConnAck {
            present: false,
            code: 0
        }
    );
    for (name, ask) in [("by-signal", true), ("by-itself", false)] {
        renew(&world, &format!("/CN={name}"));
        if ask {
            broker.signal(Signal::HUP);
        }
        wait_until("the new certificate is shown", CEILING, || {
            let said = shown(&world);
            said.contains(name).then_some(()).ok_or(said)
        });
        assert_eq!(there.ping(), [Seen::PingResp]);
    }
    assert_eq!(
        check(&world).success().stdout.matches("by-itself").count(),
        1
    );
    broker.terminate();
}
