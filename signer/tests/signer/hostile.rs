//! Requests that must not be signed, each with its own reason, beside one that must.

use std::fs;
use std::os::unix::fs::symlink;

use enrollment::{UploadPermission, pem_block};
use signer::Outcome;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer;

use crate::openssl::{P256, request, run};
use crate::world::{World, subject};

/// A request whose signed part was changed after it was signed: the names are of one length, so it still parses.
fn with_wrong_signature(signed_for: &str, claims: &str) -> String {
    assert_eq!(signed_for.len(), claims.len());
    let home = tempfile::tempdir().unwrap();
    let pem = request(&P256, &subject(signed_for), &[]);
    fs::write(home.path().join("pem"), pem).unwrap();
    run(
        home.path(),
        &["req", "-in", "pem", "-outform", "DER", "-out", "der"],
    );
    let mut der = fs::read(home.path().join("der")).unwrap();
    let (from, to) = (
        signed_for.split('.').next().unwrap(),
        claims.split('.').next().unwrap(),
    );
    while let Some(at) = der
        .windows(from.len())
        .position(|part| part == from.as_bytes())
    {
        der[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(home.path().join("der"), der).unwrap();
    run(
        home.path(),
        &["req", "-inform", "DER", "-in", "der", "-out", "changed"],
    );
    fs::read_to_string(home.path().join("changed")).unwrap()
}

/// The same request with the other of the two signatures (r, s) and (r, n − s), of which everybody who has one can make the
/// other, and in an outer frame that says the same in other octets.
fn twin(pem: &str) -> String {
    let der = pem_block::single(pem, pem_block::CERTIFICATE_REQUEST).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    let signature = request.signature_value.data.to_vec();
    // SEQUENCE { INTEGER r, INTEGER s }, all of them short.
    let after_r = 4 + usize::from(signature[3]);
    let (r, s) = (&signature[4..after_r], &signature[after_r + 2..]);
    let order = b"FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order = BigUint::parse_bytes(order, 16).unwrap();
    let other = (order - BigUint::from_bytes_be(s)).to_bytes_be();
    let padding: &[u8] = if other[0] < 128 { &[] } else { &[0] };
    let tagged = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap();
        let [high, low] = length.to_be_bytes();
        let header: &[u8] = match length {
            0..128 => &[tag, low],
            128..256 => &[tag, 0x81, low],
            256.. => &[tag, 0x82, high, low],
        };
        [header, content].concat()
    };
    let both = [tagged(2, r), tagged(2, &[padding, &other].concat())].concat();
    let both = [&[0], tagged(0x30, &both).as_slice()].concat();
    let ecdsa_with_sha256 = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let parts = [
        request.certification_request_info.raw,
        &tagged(0x30, &ecdsa_with_sha256),
        &tagged(3, &both),
    ];
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("der"), tagged(0x30, &parts.concat())).unwrap();
    run(
        home.path(),
        &[
            "req", "-inform", "DER", "-in", "der", "-verify", "-out", "twin",
        ],
    );
    fs::read_to_string(home.path().join("twin")).unwrap()
}

/// A device's name, the request under its title, and a part of the reason for which it is refused.
type Case = (&'static str, String, &'static str);

fn p256(subject: &str, more: &[&str]) -> String {
    request(&P256, subject, more)
}

fn good(name: &str) -> String {
    p256(&subject(name), &[])
}

fn wrong_names() -> [Case; 9] {
    let subject_is = "the subject is";
    let extensions = "asks for extensions";
    [
        (
            "foreign",
            p256("/CN=foreign.kiwi.atlas/OU=foreign/O=kiwi", &[]),
            "the subject is \"CN=foreign.kiwi.atlas, OU=foreign, O=kiwi\"",
        ),
        (
            "device",
            good("controller-x.hula.atlas"),
            "the subject is \"CN=controller-x.hula.atlas",
        ),
        (
            "order",
            p256("/O=hula/OU=order/CN=order.hula.atlas", &[]),
            "the subject is \"O=hula",
        ),
        (
            "extra",
            p256(&(subject("extra.hula.atlas") + "/CN=admin"), &[]),
            subject_is,
        ),
        (
            "control",
            p256("/CN=control.hula.atlas\u{1}/OU=control/O=hula", &[]),
            subject_is,
        ),
        (
            "case",
            p256("/CN=CASE.hula.atlas/OU=case/O=hula", &[]),
            subject_is,
        ),
        (
            "multi",
            p256("/CN=multi.hula.atlas+OU=multi/O=hula", &["-multivalue-rdn"]),
            subject_is,
        ),
        (
            "name",
            p256(
                &subject("name.hula.atlas"),
                &["-addext", "subjectAltName=DNS:broker.example.org"],
            ),
            extensions,
        ),
        (
            "ca",
            p256(
                &subject("ca.hula.atlas"),
                &["-addext", "basicConstraints=CA:TRUE"],
            ),
            extensions,
        ),
    ]
}

fn wrong_forms() -> [Case; 5] {
    let noise = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----";
    let begin = "not one PEM block: it does not begin";
    [
        (
            "two",
            good("two.hula.atlas") + &good("two.hula.atlas"),
            "not one PEM block: there is more in it",
        ),
        ("none", "hello".to_owned(), begin),
        ("empty", String::new(), begin),
        (
            "damaged",
            good("damaged.hula.atlas").replace("MI", "M!"),
            "not one PEM block: the block is damaged",
        ),
        ("noise", noise.to_owned(), "cannot be parsed"),
    ]
}

fn wrong_keys() -> [Case; 6] {
    let with = |device: &str, key: &[&str], more: &[&str]| {
        request(key, &subject(&format!("{device}.hula.atlas")), more)
    };
    let curve = |name| ["ec", "-pkeyopt", name];
    let kind = "neither ECDSA P-256 or P-384 nor RSA";
    [
        (
            "stolen",
            with_wrong_signature("honest.hula.atlas", "stolen.hula.atlas"),
            "the signature of the request does not verify",
        ),
        (
            "weak",
            with("weak", &["rsa:1024"], &[]),
            "an RSA key of 1024 bits is not within 2048 to 4096",
        ),
        (
            "p521",
            with("p521", &curve("ec_paramgen_curve:secp521r1"), &[]),
            kind,
        ),
        (
            "k256",
            with("k256", &curve("ec_paramgen_curve:secp256k1"), &[]),
            kind,
        ),
        ("ed25519", with("ed25519", &["ed25519"], &[]), kind),
        (
            "sha1",
            with("sha1", &["rsa:2048"], &["-sha1"]),
            "not signed with ECDSA or RSA over SHA-256",
        ),
    ]
}

#[tokio::test]
async fn each_hostile_request_is_refused_for_its_reason_and_stops_no_other() {
    let world = World::new();
    let cases: Vec<Case> = wrong_names()
        .into_iter()
        .chain(wrong_forms())
        .chain(wrong_keys())
        .collect();
    for (device, body, _) in &cases {
        world
            .put(&format!("{device}.hula.atlas.x509.csr"), body)
            .await;
    }
    let at = |name: &str| world.path("registry").join(name);
    fs::write(at("large.hula.atlas.x509.csr"), vec![b'x'; 1 << 20]).unwrap();
    fs::write(world.path("secret"), good("link.hula.atlas")).unwrap();
    symlink(world.path("secret"), at("link.hula.atlas.x509.csr")).unwrap();
    fs::write(at("realm.hula.delta.x509.csr"), good("realm.hula.delta")).unwrap();
    // Not titles: nobody looks at them.
    fs::write(at("x.good.hula.atlas.x509.csr"), good("good.hula.atlas")).unwrap();
    fs::write(at("Good.hula.atlas.x509.csr"), good("good.hula.atlas")).unwrap();
    // Last in the order of names, so that every other comes first.
    world
        .put("z.hula.atlas.x509.csr", &good("z.hula.atlas"))
        .await;

    let signer = world.signer();
    let outcomes = signer.once(&world.registry).await.unwrap();
    let reason = |device: &str| {
        let found = outcomes
            .iter()
            .find(|(title, _)| title.id().device().as_str() == device);
        let Some((_, Outcome::Refused(refusal))) = found else {
            panic!("{device}: {found:?}")
        };
        refusal.reason().to_owned()
    };
    for (device, _, expected) in &cases {
        assert!(
            reason(device).contains(expected),
            "{device}: {}",
            reason(device)
        );
    }
    assert!(reason("large").contains("it is longer than 8192 bytes"));
    assert!(reason("link").contains("it is not a regular file"));
    // Another realm's signer may use the same place, and it is his to answer.
    assert!(!at("realm.hula.delta.x509.csr.refused").exists());
    assert_eq!(outcomes.len(), cases.len() + 3);
    assert!(world.certificate("z.hula.atlas").await.is_some());
    assert_eq!(world.issued(), 1);

    // Once is enough.
    let answer = at("weak.hula.atlas.x509.csr.refused");
    let written = fs::metadata(&answer).unwrap().modified().unwrap();
    let again = signer.once(&world.registry).await.unwrap();
    assert!(
        again
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::StillRefused),
        "{again:?}"
    );
    assert_eq!(again.len(), outcomes.len() - 1);
    assert_eq!(fs::metadata(&answer).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn a_controller_needs_an_uploader_who_may_have_one() {
    let world = World::new();
    world
        .put(
            "controller-x.hula.atlas.x509.csr",
            &good("controller-x.hula.atlas"),
        )
        .await;
    world
        .put("333.hula.atlas.x509.csr", &good("333.hula.atlas"))
        .await;
    let nobody = UploadPermission::controllers_only_from([].into());
    let outcomes = world
        .signer_permitting(nobody)
        .once(&world.registry)
        .await
        .unwrap();
    assert!(
        matches!(outcomes[0].1, Outcome::Signed { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(&outcomes[1].1, Outcome::Refused(refusal) if refusal.reason().contains("may not request a certificate for `controller-x.hula.atlas`"))
    );
    assert!(world.certificate("controller-x.hula.atlas").await.is_none());
}

#[tokio::test]
async fn an_old_request_does_not_bring_an_old_certificate_back() {
    let world = World::new();
    let signer = world.signer();
    let old = good("333.hula.atlas");
    world.put("333.hula.atlas.x509.csr", &old).await;
    signer.once(&world.registry).await.unwrap();
    world
        .put("333.hula.atlas.x509.csr", &good("333.hula.atlas"))
        .await;
    signer.once(&world.registry).await.unwrap();
    let current = world.certificate("333.hula.atlas").await;
    assert_eq!(world.issued(), 2);

    world.put("333.hula.atlas.x509.csr", &old).await;
    let outcomes = signer.once(&world.registry).await.unwrap();
    assert!(
        matches!(&outcomes[0].1, Outcome::Refused(refusal) if refusal.reason().contains("answered before"))
    );
    assert_eq!(world.certificate("333.hula.atlas").await, current);
    assert_eq!(world.issued(), 2);
}

#[tokio::test]
async fn an_answered_request_with_its_signatures_twin_gets_no_second_certificate() {
    let world = World::new();
    let signer = world.signer();
    let old = good("333.hula.atlas");
    let copied = twin(&old);
    assert_ne!(old, copied);
    world.put("333.hula.atlas.x509.csr", &old).await;
    signer.once(&world.registry).await.unwrap();
    world.put("333.hula.atlas.x509.csr", &copied).await;
    let outcomes = signer.once(&world.registry).await.unwrap();
    assert!(
        matches!(outcomes[0].1, Outcome::HandedOut { .. }),
        "the one that there is: {outcomes:?}"
    );
    assert_eq!(world.issued(), 1);

    // Nor does it bring the old one back.
    world.put_request("333.hula.atlas").await;
    signer.once(&world.registry).await.unwrap();
    let current = world.certificate("333.hula.atlas").await;
    world.put("333.hula.atlas.x509.csr", &copied).await;
    let outcomes = signer.once(&world.registry).await.unwrap();
    assert!(
        matches!(&outcomes[0].1, Outcome::Refused(refusal) if refusal.reason().contains("answered before")),
        "{outcomes:?}"
    );
    assert_eq!(world.certificate("333.hula.atlas").await, current);
    assert_eq!(world.issued(), 2);
}
