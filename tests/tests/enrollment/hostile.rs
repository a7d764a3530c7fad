//! Hostile uploads: each is refused with its own message, and none of them keeps an honest one from being served.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, World, run, tool, wait_until};

/// A request as `openssl` makes it.
pub(super) fn request(world: &World, subject: &str, key: &[&str]) -> String {
    let (key_file, file) = (world.path("openssl.key"), world.path("openssl.csr"));
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["req", "-new", "-noenc", "-subj", subject, "-keyout"])
        .arg(key_file)
        .arg("-out")
        .arg(&file)
        .arg("-newkey")
        .args(key);
    run(&mut openssl, CEILING).success();
    fs::read_to_string(file).unwrap()
}

pub(super) const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

pub(super) fn subject(device: &str, system: &str) -> String {
    format!("/CN={device}.{system}.atlas/OU={device}/O={system}")
}

/// Another character in the base64 of the last octets, which are the signature.
pub(super) fn with_wrong_signature(pem: &str) -> String {
    let end = pem.find("-----END").unwrap();
    let line = pem[..end].trim_end().len();
    let at = line - 12;
    let other = if pem.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &pem[..at], &pem[at + 1..])
}

#[test]
fn each_hostile_request_is_refused_with_its_own_message() {
    let world = World::new();
    let registry = world.realm().join("registry");
    let good = request(&world, &subject("1", "hula"), P256);
    let table = [
        (
            "2.hula.atlas.x509.csr",
            request(&world, &subject("2", "kiwi"), P256),
            "where \"CN=2.hula.atlas, OU=2, O=hula\" is the only one allowed",
        ),
        (
            "3.hula.atlas.x509.csr",
            request(&world, &subject("controller-3", "hula"), P256),
            "the subject is \"CN=controller-3.hula.atlas",
        ),
        (
            "4.hula.atlas.x509.csr",
            request(&world, &subject("4", "hula"), &["rsa:1024"]),
            "an RSA key of 1024 bits is not within",
        ),
        (
            "5.hula.atlas.x509.csr",
            with_wrong_signature(&request(&world, &subject("5", "hula"), P256)),
            "the signature of the request does not verify",
        ),
        (
            "6.hula.atlas.x509.csr",
            "x".repeat(1024 * 1024),
            "it is longer than 8192 bytes",
        ),
        (
            "7.hula.atlas.x509.csr",
            format!(
                "{}{}",
                request(&world, &subject("7", "hula"), P256),
                request(&world, &subject("7", "hula"), P256)
            ),
            "there is more in it than one block",
        ),
    ];
    for (title, body, _) in &table {
        fs::write(registry.join(title), body).unwrap();
    }
    // These are no titles at all, and nobody serves them.
    let misnamed = [
        "x.evil.hula.atlas.x509.csr",
        "..hula.atlas.x509.csr",
        "9.HULA.atlas.x509.csr",
    ];
    for title in misnamed {
        fs::write(registry.join(title), &good).unwrap();
    }
    fs::write(registry.join("1.hula.atlas.x509.csr"), &good).unwrap();
    let outcome = sign(&world);
    for (title, _, message) in &table {
        let line = outcome
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("{title}: refused: ")))
            .unwrap_or_else(|| panic!("{title}: {}", outcome.report()));
        assert!(line.contains(message), "{message} is not in {line}");
        let answer = fs::read_to_string(registry.join(format!("{title}.refused"))).unwrap();
        assert!(answer.contains("remedy = "), "{answer}");
    }
    for title in misnamed {
        let reason = format!("the name `{title}` is no title: ");
        assert!(outcome.stderr.contains(&reason), "{}", outcome.report());
        let answer = fs::read_to_string(registry.join(format!("{title}.refused"))).unwrap();
        assert!(answer.contains(&reason), "{answer}");
    }
    // Told once.
    let again = sign(&world);
    assert!(!again.stderr.contains("is no title"), "{}", again.report());
    assert!(
        outcome.stdout.contains("1.hula.atlas.x509.csr: signed"),
        "{}",
        outcome.report()
    );
    assert_eq!(super::signer::list(&world).len(), 1);

    // The old request once more, after a newer one was answered.
    let newer = request(&world, &subject("1", "hula"), P256);
    fs::write(registry.join("1.hula.atlas.x509.csr"), newer).unwrap();
    assert!(
        sign(&world)
            .stdout
            .contains("1.hula.atlas.x509.csr: signed")
    );
    for replayed in [good.clone(), format!("\n{}\n\n", good.trim())] {
        fs::write(registry.join("1.hula.atlas.x509.csr"), replayed).unwrap();
        let outcome = sign(&world);
        assert!(
            outcome
                .stdout
                .contains("refused: the request has been answered before"),
            "{}",
            outcome.report()
        );
        fs::remove_file(registry.join("1.hula.atlas.x509.csr.refused")).unwrap();
    }
}

#[test]
fn a_strangers_certificate_is_not_installed() {
    let world = World::new();
    let file = world
        .realm()
        .join("registry")
        .join("333.hula.atlas.x509.cert");
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args([
            "req",
            "-x509",
            "-noenc",
            "-subj",
            &subject("333", "hula"),
            "-keyout",
        ])
        .arg(world.path("openssl.key"))
        .arg("-out")
        .arg(&file)
        .arg("-newkey")
        .args(P256);
    run(&mut openssl, CEILING).success();
    let mut enroll = world.tunnel();
    enroll
        .args([
            "enroll",
            "hula",
            "333",
            "--no-proof",
            "--wait",
            "2s",
            "--realm",
        ])
        .arg(world.realm().join("realm.toml"))
        .arg("--dir")
        .arg(world.path("device"));
    let outcome = run(&mut enroll, CEILING);
    assert_ne!(outcome.code, Some(0), "{}", outcome.report());
    assert!(!world.path("device/333.hula.atlas.x509.cert").exists());
}

#[test]
fn a_strangers_certificate_for_our_own_key_keeps_nobody_from_the_real_one() {
    let world = World::new();
    let registry = world.realm().join("registry");
    let mut enroll = world.tunnel();
    enroll
        .args(["-v", "enroll", "hula", "333", "--no-proof", "--wait", "5m"])
        .arg("--realm")
        .arg(world.realm().join("realm.toml"))
        .arg("--dir")
        .arg(world.path("device"));
    let mut waiting = world.daemon("enroll", &mut enroll);
    let told = |text: &str, waiting: &e2e::Daemon| {
        wait_until(text, CEILING, || {
            let said = waiting.stderr();
            said.contains(text).then_some(()).ok_or(said)
        });
    };
    told("waiting for the signer", &waiting);
    // Everybody can read the request, and with it the key. Signed with whatever key is at hand.
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["req", "-x509", "-noenc", "-subj", "/CN=atlas", "-keyout"])
        .arg(world.path("fake.key"))
        .arg("-out")
        .arg(world.path("fake.cert"))
        .arg("-newkey")
        .args(P256);
    run(&mut openssl, CEILING).success();
    let mut openssl = Command::new(tool("openssl"));
    openssl
        .args(["x509", "-req", "-in"])
        .arg(registry.join("333.hula.atlas.x509.csr"))
        .arg("-CA")
        .arg(world.path("fake.cert"))
        .arg("-CAkey")
        .arg(world.path("fake.key"))
        .arg("-out")
        .arg(world.path("forged.cert"));
    run(&mut openssl, CEILING).success();
    let certificate = registry.join("333.hula.atlas.x509.cert");
    fs::rename(world.path("forged.cert"), certificate).unwrap();
    told("a certificate is ignored", &waiting);
    assert!(waiting.has_ended().is_none(), "{}", waiting.stderr());
    let _signer = world.signer();
    let ended = waiting.wait(CEILING);
    assert!(ended.success(), "{}", waiting.stderr());
    assert!(world.path("device/333.hula.atlas.x509.cert").exists());
}

#[test]
fn each_hostile_key_is_left_out_with_its_own_reason() {
    let world = World::new();
    let (registry, settings) = (
        world.realm().join("registry"),
        world.realm().join("server.toml"),
    );
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(
        &settings,
        text.replace("[proxy]\n", "[proxy]\nkeys = \"proxy/keys\"\n"),
    )
    .unwrap();
    let key = |name: &str, kind: &[&str]| {
        let file = world.path("key");
        let _ = fs::remove_file(&file);
        let mut keygen = Command::new(tool("ssh-keygen"));
        keygen
            .args(["-q", "-N", "", "-C", &format!("{name}.hula.atlas"), "-t"])
            .args(kind)
            .arg("-f")
            .arg(&file);
        run(&mut keygen, CEILING).success();
        fs::read_to_string(file.with_extension("pub")).unwrap()
    };
    let ed25519 = |name: &str| key(name, &["ed25519"]);
    let bodies = [
        ("2", format!("{}{}", ed25519("2"), ed25519("2"))),
        ("3", format!("command=\"/bin/sh\" {}", ed25519("3"))),
        ("4", key("4", &["rsa", "-b", "1024"])),
        ("5", "x".repeat(1024 * 1024)),
        ("6", ed25519("7")),
    ];
    let title = |name: &str| format!("{name}.hula.atlas.sshkey.pub");
    for (name, body) in &bodies {
        fs::write(registry.join(title(name)), body).unwrap();
    }
    fs::write(registry.join(title("1")), ed25519("1")).unwrap();
    let mut sync = world.tunnel();
    sync.args(["--log-format", "json", "proxy", "sync", "--dir"])
        .arg(world.realm());
    let outcome = run(&mut sync, CEILING).success();
    let keys = world.realm().join("proxy/keys");
    assert!(keys.join(title("1")).exists(), "{}", outcome.report());
    let mut reasons = Vec::new();
    for (name, _) in &bodies {
        assert!(!Path::new(&keys).join(title(name)).exists(), "{name}");
        let line = outcome
            .stderr
            .lines()
            .find(|line| line.contains(&title(name)))
            .unwrap_or_else(|| panic!("{name}: {}", outcome.report()));
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = line["message"].as_str().unwrap();
        let (_, reason) = message.split_once("is left out: ").unwrap();
        println!("{}: {reason}", title(name));
        reasons.push(reason.to_owned());
    }
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), bodies.len(), "{reasons:?}");
}

#[track_caller]
fn sign(world: &World) -> e2e::Outcome {
    let mut signer = world.tunnel();
    signer
        .args(["signer", "run", "--once", "--dir"])
        .arg(world.realm());
    run(&mut signer, CEILING).success()
}
