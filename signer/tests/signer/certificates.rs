//! What the authority makes, as OpenSSL sees it.

use std::fs;

use signer::{Authority, Outcome};

use crate::openssl::{P256, request, run, try_run};
use crate::world::{World, id, subject};

/// `openssl verify` with the strictest reading of RFC 5280.
fn verify<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["verify", "-x509_strict", "-CAfile", "ca/ca.cert"], more].concat()
}

#[test]
fn the_authority_may_sign_devices_and_lists_and_no_other_authority() {
    let world = World::new();
    let home = world.path("");
    run(&home, &verify(&["ca/ca.cert"]));
    let text = run(
        &home,
        &[
            "x509",
            "-in",
            "ca/ca.cert",
            "-noout",
            "-text",
            "-nameopt",
            "RFC2253",
        ],
    );
    for part in [
        "Issuer: CN=atlas realm CA\n",
        "Subject: CN=atlas realm CA\n",
        "CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
        "ASN1 OID: prime256v1",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let seconds = |days: u64| (days * 86_400).to_string();
    run(
        &home,
        &[
            "x509",
            "-in",
            "ca/ca.cert",
            "-noout",
            "-checkend",
            &seconds(3649),
        ],
    );
    assert!(
        !try_run(
            &home,
            &[
                "x509",
                "-in",
                "ca/ca.cert",
                "-noout",
                "-checkend",
                &seconds(3651)
            ]
        )
        .0
    );
    run(&home, &["pkey", "-in", "ca/ca.key", "-noout", "-check"]);
}

#[tokio::test]
async fn a_device_gets_a_certificate_for_clients_and_nothing_else() {
    let world = World::new();
    let home = world.path("");
    let keys = [
        ("p256", &P256[..]),
        ("p384", &["ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"]),
        ("rsa2048", &["rsa:2048"]),
    ];
    for (device, key) in keys {
        let name = format!("{device}.hula.atlas");
        world
            .put(
                &format!("{name}.x509.csr"),
                &request(key, &subject(&name), &[]),
            )
            .await;
    }
    let outcomes = world.signer().once(&world.registry).await.unwrap();
    assert_eq!(outcomes.len(), keys.len());
    assert!(
        world.requests().await.is_empty(),
        "answered requests are closed"
    );
    for (title, outcome) in outcomes {
        let Outcome::Signed { serial } = outcome else {
            panic!("{title}: {outcome:?}")
        };
        let name = title.id();
        fs::write(
            world.path("cert"),
            world.certificate(&name.to_string()).await.unwrap(),
        )
        .unwrap();
        run(&home, &verify(&["-purpose", "sslclient", "cert"]));
        for purpose in ["sslserver", "smimesign", "crlsign", "timestampsign"] {
            let (well, text) = try_run(&home, &verify(&["-purpose", purpose, "cert"]));
            assert!(!well, "{purpose}: {text}");
        }
        let text = run(
            &home,
            &[
                "x509",
                "-in",
                "cert",
                "-noout",
                "-text",
                "-serial",
                "-purpose",
                "-nameopt",
                "RFC2253,-dn_rev",
            ],
        );
        for part in [
            &format!("Subject: CN={name},OU={},O=hula\n", name.device()),
            "CA:FALSE",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
            "SSL client : Yes\n",
            "SSL client CA : No\n",
            "SSL server : No\n",
            &format!("serial={serial}\n"),
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("Subject Alternative Name"), "{text}");
        assert_eq!(serial.len(), 32);
        let ends_within = |days: u64| {
            let seconds = (days * 86_400).to_string();
            !try_run(
                &home,
                &["x509", "-in", "cert", "-noout", "-checkend", &seconds],
            )
            .0
        };
        assert!(!ends_within(396) && ends_within(398));
    }
}

#[test]
fn a_server_certificate_is_for_its_names_and_for_servers() {
    let world = World::new();
    let home = world.path("");
    let names = ["broker.example.org", "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = world.authority().server_certificate(&names).unwrap();
    fs::write(world.path("cert"), &made.certificate_pem).unwrap();
    fs::write(world.path("key"), made.key_pem.expose()).unwrap();
    for good in [
        ["-verify_hostname", "broker.example.org"],
        ["-verify_hostname", "localhost"],
        ["-verify_ip", "127.0.0.1"],
        ["-verify_ip", "::1"],
    ] {
        run(
            &home,
            &verify(&[&["-purpose", "sslserver"], &good[..], &["cert"]].concat()),
        );
    }
    for bad in [
        ["-purpose", "sslclient"],
        ["-verify_hostname", "other.example.org"],
        ["-verify_ip", "127.0.0.2"],
    ] {
        assert!(
            !try_run(&home, &verify(&[&bad[..], &["cert"]].concat())).0,
            "{bad:?}"
        );
    }
    let public = run(&home, &["x509", "-in", "cert", "-noout", "-pubkey"]);
    assert_eq!(run(&home, &["pkey", "-in", "key", "-pubout"]), public);
}

/// RFC 5280 caps a common name at 64 characters (`ub-common-name`), and names of DNS are longer. OpenSSL refuses to make
/// such a request, which is why this one is made by our own code, and verifies the certificate all the same.
#[tokio::test]
async fn the_longest_names_verify() {
    let world = World::new();
    let home = world.path("");
    let label = "a".repeat(63);
    let realm: protocol::Label = label.parse().unwrap();
    let authority = Authority::create(&realm).unwrap();
    authority.save(&world.path("long")).unwrap();
    let device = id(&format!("{label}.{label}.{label}"));
    let rules = signer::Rules {
        realm,
        suffix: ".example.org".parse().unwrap(),
        permission: enrollment::UploadPermission::everyone_with_write_access(),
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let body = enrollment::csr::create(&key, &device, &rules.suffix).unwrap();
    let entry = enrollment::Entry {
        title: enrollment::Title::new(device.clone(), enrollment::Kind::CertificateRequest),
        author: enrollment::Author::LocalUser { uid: 0 },
        revision: enrollment::Revision::of_body(&body),
        body: Ok(body),
        arrived: 0,
    };
    let accepted = rules.check(&entry).unwrap();
    let issued = authority
        .issue(&accepted, 1, time::OffsetDateTime::now_utc())
        .unwrap();
    fs::write(world.path("cert"), &issued.certificate_pem).unwrap();
    run(
        &home,
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            "long/ca.cert",
            "cert",
        ],
    );
    let text = run(
        &home,
        &[
            "x509",
            "-in",
            "cert",
            "-noout",
            "-subject",
            "-nameopt",
            "RFC2253,-dn_rev",
        ],
    );
    assert_eq!(
        text,
        format!("subject=CN={device}.example.org,OU={label},O={label}\n")
    );
}
