//! What is said of what strangers hand in, and of a registry that does not do what it is asked, word by word.

use std::fmt::Write;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use daemon::report::Report;
use protocol::{ClientIdSuffix, DeviceId};
use rcgen::PublicKeyData as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use russh::keys::ssh_key;

use crate::certificate_check::{CertificateError, CheckedCertificate, Expected};
use crate::enroll::EnrollError;
use crate::key_directory::{KeyDirectory, KeyDirectoryError};
use crate::key_sync::LeftOutReason;
use crate::public_key::{DeviceKey, KeyRefusal};
use crate::revoked::RevokedError;
use crate::ssh_key::SshKeyError;
use crate::trust_store::TrustError;
use crate::x509_key::X509KeyError;
use crate::{BodyFault, Kind, RegistryError, Title, TitleError, subject};

/// The name of a case and a report each.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, error: &dyn std::error::Error, hint: Option<&str>) {
        writeln!(self.0, "# {name}\n{}\n", Report::new(error, hint)).unwrap();
    }
}

fn id() -> DeviceId {
    "333.hula.atlas".parse().unwrap()
}

/// As `tunnel enroll` says it of what lies in the registry, and `tunnel doctor` of what lies here.
#[test]
fn certificates() {
    let mut page = Page::default();
    let mut add = |name: &str, pem: &str, authority: &str, own: &KeyPair, now| {
        let expected = Expected {
            id: &id(),
            suffix: &ClientIdSuffix::default(),
            public_key: &own.subject_public_key_info(),
            authority: Some(authority),
        };
        let source = CheckedCertificate::check(pem, &expected, now).unwrap_err();
        let title = Title::new(id(), Kind::Certificate);
        let error = EnrollError::Certificate { title, source };
        page.add(name, &error, error.hint().as_deref());
    };
    let (authority, other) = (authority("atlas"), authority("lava"));
    let forged = self::authority("atlas");
    let (own, now) = (KeyPair::generate().unwrap(), SystemTime::now());
    let ours = authority.pem();
    let good = certificate(&own, &authority, |_| {});
    add("none", "nothing", &ours, &own, now);
    add("two", &format!("{good}{good}"), &ours, &own, now);
    add("half of one", &good[..200], &ours, &own, now);
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    add("something else in PEM", empty, &ours, &own, now);
    add("too long a text", &"x".repeat(100_000), &ours, &own, now);
    let key = KeyPair::generate().unwrap();
    add("for another key", &good, &ours, &key, now);
    let named = certificate(&own, &authority, |params| {
        let other = "334.hula.atlas".parse().unwrap();
        params.distinguished_name = subject::distinguished_name(&other, &ClientIdSuffix::default());
    });
    add("for another device", &named, &ours, &own, now);
    let server = certificate(&own, &authority, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    add("for a server", &server, &ours, &own, now);
    add("of another realm", &good, &other.pem(), &own, now);
    add(
        "of another authority of that name",
        &good,
        &forged.pem(),
        &own,
        now,
    );
    add("a realm without an authority", &good, "nothing", &own, now);
    let year = Duration::from_hours(24 * 365);
    let ended = certificate(&own, &authority, |params| {
        params.not_after = rcgen::date_time_ymd(2000, 1, 1);
    });
    add("over", &ended, &ours, &own, now);
    let later = certificate(&own, &authority, |params| {
        params.not_before = rcgen::date_time_ymd(2200, 1, 1);
    });
    add("not yet", &later, &ours, &own, now);
    add(
        "with a clock that began anew",
        &good,
        &ours,
        &own,
        SystemTime::UNIX_EPOCH + year,
    );
    insta::assert_snapshot!("certificates", page.0);
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(
    key: &KeyPair,
    authority: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject::distinguished_name(&id(), &ClientIdSuffix::default());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    params.signed_by(key, &**authority).unwrap().pem()
}

/// As the log says it of a key that somebody has handed in, and as its author is told.
#[test]
fn keys() {
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    let mut page = Page::default();
    for (name, body) in [
        ("nothing", String::new()),
        ("two", format!("{KEY}\n{KEY}")),
        ("a control character", format!("{KEY}\t333.hula.atlas")),
        ("options", format!("command=\"sh\" {KEY}")),
        ("no comment", KEY.to_owned()),
        ("another's comment", format!("{KEY} 334.hula.atlas")),
        ("too much text", format!("{KEY}{}", " ".repeat(9_000))),
        ("half a key", KEY[..60].to_owned()),
        (
            "a type of yesterday",
            "ssh-dss AAAAB3NzaC1kc3MAAACBAO".to_owned(),
        ),
    ] {
        let refusal = DeviceKey::parse(&id(), &body).unwrap_err();
        page.add(name, &LeftOutReason::Key(refusal), None);
    }
    for (name, refusal) in [
        ("a weak key", KeyRefusal::Weak { bits: 1_024 }),
        ("a key that takes long", KeyRefusal::Strong { bits: 16_384 }),
    ] {
        page.add(name, &LeftOutReason::Key(refusal), None);
    }
    for (name, fault) in [
        (
            "edited by another",
            BodyFault::EditedByAnother {
                editor: "mallory".to_owned(),
            },
        ),
        ("a link", BodyFault::NotAFile),
        ("a file of another", BodyFault::NotReadable),
        ("no text", BodyFault::NotText),
        ("a long text", BodyFault::TooLarge { limit: 8_192 }),
    ] {
        page.add(name, &LeftOutReason::Body(fault), None);
    }
    page.add("not permitted", &LeftOutReason::NotPermitted, None);
    let holder = "334.hula.atlas".parse().unwrap();
    page.add("a copied key", &LeftOutReason::Shared { holder }, None);
    for title in ["333.hula.atlas", "333.sshkey.pub", &"x".repeat(300)] {
        let error = title.parse::<Title>().unwrap_err();
        assert!(matches!(
            error,
            TitleError::Kind | TitleError::Id(_) | TitleError::TooLong { .. }
        ));
        page.add(&format!("named {title:.20}"), &error, None);
    }
    insta::assert_snapshot!("keys", page.0);
}

#[cfg(feature = "github")]
#[test]
fn a_registry_at_github() {
    use crate::github::GitHubError;

    let mut page = Page::default();
    let message = || "Resource not accessible by personal access token".to_owned();
    let answer = serde_json::from_str::<u8>("<html>").unwrap_err();
    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
    for (name, source) in [
        ("no JSON", GitHubError::Answer(answer)),
        (
            "a weak token",
            GitHubError::Forbidden { message: message() },
        ),
        ("no issues", GitHubError::Gone),
        (
            "too often",
            GitHubError::Limited {
                wait: Duration::from_secs(61),
            },
        ),
        ("another name", GitHubError::NotFound),
        (
            "a query that is refused",
            GitHubError::Query { message: message() },
        ),
        (
            "a text that is refused",
            GitHubError::Rejected {
                message: "Validation Failed".to_owned(),
            },
        ),
        ("no answer", GitHubError::TimedOut),
        ("no way", GitHubError::Transport(Box::new(gone))),
        ("a token that has ended", GitHubError::Unauthorized),
        ("a bad day", GitHubError::Unavailable { status: 503 }),
        (
            "something else there",
            GitHubError::Unexpected { status: 302 },
        ),
    ] {
        let error = RegistryError::GitHub {
            action: "read",
            repository: "octo/atlas".to_owned(),
            source,
        };
        page.add(name, &error, error.hint().as_deref());
    }
    insta::assert_snapshot!("a-registry-at-github", page.0);
}

#[test]
fn a_registry() {
    let mut page = Page::default();
    let place = || "atlas/registry".to_owned();
    for (name, error) in [
        (
            "too long a text",
            RegistryError::BodyTooLarge {
                title: Title::new(id(), Kind::SshPublicKey),
                limit: Kind::SshPublicKey.max_body(),
            },
        ),
        ("a task that died", RegistryError::Cut),
        (
            "a build without GitHub",
            RegistryError::GitHubLeftOut {
                place: "the issues of octo/atlas".to_owned(),
            },
        ),
        (
            "a folder of another",
            RegistryError::Io {
                action: "read",
                place: place(),
                source: io::ErrorKind::PermissionDenied.into(),
            },
        ),
        (
            "a token of another",
            RegistryError::NotASigner {
                login: "mallory".to_owned(),
                signers: "`octo`".to_owned(),
            },
        ),
        (
            "no answer",
            RegistryError::TimedOut {
                limit: Duration::from_secs(30),
            },
        ),
        (
            "a folder of something else",
            RegistryError::TooMany {
                place: place(),
                limit: 20_000,
            },
        ),
    ] {
        page.add(name, &error, error.hint().as_deref());
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let error = KeyDirectory::create(&file).unwrap_err();
    let place = home.path().to_string_lossy();
    page.add("a folder that is a file", &error, None);
    let path = "/var/lib/tunnel/keys".into();
    page.add(
        "keys of ten years",
        &KeyDirectoryError::TooMany { path },
        None,
    );
    insta::assert_snapshot!("a-registry", page.0.replace(&*place, "HOME"));
}

/// What no test can provoke: an operating system without random numbers, a form that no file has.
#[test]
fn what_hardly_happens() {
    let mut page = Page::default();
    let form = || serde::ser::Error::custom("unsupported type");
    let random = rcgen::Error::RingUnspecified;
    let error = X509KeyError::Generate(random.clone());
    page.add("no key for TLS", &error, error.hint().as_deref());
    let error = SshKeyError::Encode {
        comment: "333.hula.atlas".to_owned(),
        source: ssh_key::Error::Crypto,
    };
    page.add("no key for ssh", &error, error.hint().as_deref());
    let error = RevokedError::Serialize(form());
    page.add("a list that is none", &error, error.hint().as_deref());
    let error = TrustError::Rule {
        path: "atlas/trust.toml".into(),
        source: form(),
    };
    page.add("a rule that is none", &error, error.hint().as_deref());
    let signature =
        CertificateError::Signature(x509_parser::error::X509Error::SignatureUnsupportedAlgorithm);
    page.add(
        "a signature of tomorrow",
        &signature,
        Some(signature.hint()),
    );
    insta::assert_snapshot!("what-hardly-happens", page.0);
}
