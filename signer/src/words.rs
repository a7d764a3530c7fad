//! What is said to those whose request is refused, and to the administrator whose authority cannot be used, word by word.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use daemon::report::Report;
use enrollment::pem_block::PemBlockError;
use enrollment::{Author, BodyFault, Entry, Revision, Revoked, UploadPermission, csr};
use protocol::{ClientIdSuffix, DeviceId};
use rcgen::{CertificateParams, KeyPair};

use crate::journal::Journal;
use crate::passphrase::EncryptionError;
use crate::{
    Authority, AuthorityError, CrlError, JournalError, Passphrase, RequestRefusal, RevocationError,
    Rules, ServerCertificateError, SignError, crl,
};

/// The name of a case and a report each.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, error: &dyn Error, hint: Option<&str>) {
        writeln!(self.0, "# {name}\n{}\n", Report::new(error, hint)).unwrap();
    }

    fn add_refusal(&mut self, name: &str, refusal: &RequestRefusal) {
        let told = refusal.refusal();
        let cause = refusal
            .source()
            .map(|cause| format!("\ncaused by: {cause}"));
        let (reason, remedy) = (told.reason(), told.remedy());
        let cause = cause.unwrap_or_default();
        writeln!(self.0, "# {name}\n{reason}{cause}\n→ {remedy}\n").unwrap();
    }
}

fn id() -> DeviceId {
    "333.hula.atlas".parse().unwrap()
}

fn request(body: &str) -> Entry {
    Entry {
        title: "333.hula.atlas.x509.csr".parse().unwrap(),
        author: Author::LocalUser { uid: 1000 },
        revision: Revision::of_body(body),
        body: Ok(body.to_owned()),
        arrived: 0,
    }
}

/// Reason and remedy, as the author of a request is told them; the cause is for the log.
#[test]
fn refusals() {
    let mut page = Page::default();
    let rules = Rules {
        realm: "atlas".parse().unwrap(),
        suffix: ClientIdSuffix::default(),
        permission: UploadPermission::everyone_with_write_access(),
    };
    let mut add = |name: &str, body: &str| {
        page.add_refusal(name, &rules.check(&request(body)).unwrap_err());
    };
    let key = KeyPair::generate().unwrap();
    let suffix = ClientIdSuffix::default();
    let good = csr::create(&key, &id(), &suffix).unwrap();
    add("no request", "please");
    add("two", &format!("{good}{good}"));
    let empty = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    add("something else in PEM", empty);
    add("much text", &"x".repeat(100_000));
    let mut params = CertificateParams::new(vec!["broker.example".to_owned()]).unwrap();
    params.distinguished_name = enrollment::subject::distinguished_name(&id(), &suffix);
    let wishes = params.serialize_request(&key).unwrap().pem().unwrap();
    add("other names too", &wishes);
    let other = "334.hula.atlas".parse().unwrap();
    add(
        "another's name",
        &csr::create(&key, &other, &suffix).unwrap(),
    );
    add("a signature of another", &forged(&good));
    let own = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    add(
        "a key of tomorrow",
        &csr::create(&own, &id(), &suffix).unwrap(),
    );
    let author = || Author::GitHub {
        login: "mallory".to_owned(),
    };
    for (name, refusal) in [
        ("a challenge password", RequestRefusal::Attributes),
        ("a link", RequestRefusal::Body(BodyFault::NotAFile)),
        ("damaged", RequestRefusal::Pem(PemBlockError::Damaged)),
        (
            "not permitted",
            RequestRefusal::Permission {
                author: author(),
                id: id(),
            },
        ),
        (
            "undecided",
            RequestRefusal::Undecided {
                author: author(),
                id: id(),
            },
        ),
        (
            "another realm",
            RequestRefusal::Realm("atlas".parse().unwrap()),
        ),
        ("shut out", RequestRefusal::Revoked(id())),
        ("a stolen key", RequestRefusal::RevokedKey),
        ("again", RequestRefusal::Replayed),
        ("a weak key", RequestRefusal::RsaSize { bits: 1_024 }),
        ("over SHA-1", RequestRefusal::SignatureAlgorithm),
    ] {
        page.add_refusal(name, &refusal);
    }
    insta::assert_snapshot!("refusals", page.0);
}

/// The same with one digit of the signature changed, with which a request ends.
fn forged(request: &str) -> String {
    let at = request.find("\n-----END").unwrap() - 12;
    let other = if &request[at..=at] == "A" { "B" } else { "A" };
    [&request[..at], other, &request[at + 1..]].concat()
}

/// What the administrator meets whose files are not as they were.
#[test]
fn an_authority() {
    let mut page = Page::default();
    let home = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let directory = home.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let authority = Authority::create(&"atlas".parse().unwrap()).unwrap();
    let own = directory("own");
    authority.save(&own).unwrap();
    let error = authority.save(&own).unwrap_err();
    page.add("a second one", &error, error.hint().as_deref());
    let mut load = |name: &str, directory: &std::path::Path, passphrase: Option<&str>| {
        let passphrase = passphrase.map(|text| Passphrase::new(text).unwrap());
        let error = Authority::load_with(directory, passphrase.as_ref()).unwrap_err();
        page.add(name, &error, error.hint().as_deref());
    };
    load("none", home.path(), None);
    let (certificate, key) = (own.join("ca.cert"), own.join("ca.key"));
    let (good, good_key) = (
        fs::read_to_string(&certificate).unwrap(),
        fs::read_to_string(&key).unwrap(),
    );
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    load("a key for everybody", &own, None);
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&key, "nothing").unwrap();
    load("no key", &own, None);
    fs::write(&key, &good_key).unwrap();
    fs::write(&certificate, "nothing").unwrap();
    load("no certificate", &own, None);
    let another = Authority::create(&"atlas".parse().unwrap()).unwrap();
    fs::write(&certificate, another.certificate_pem()).unwrap();
    load("the certificate of another", &own, None);
    let leaf = CertificateParams::default();
    let leaf = leaf
        .self_signed(&KeyPair::from_pem(&good_key).unwrap())
        .unwrap();
    fs::write(&certificate, leaf.pem()).unwrap();
    load("the certificate of a device", &own, None);
    fs::write(&certificate, &good).unwrap();
    let encrypted = directory("encrypted");
    let passphrase = Passphrase::new("long enough for it").unwrap();
    authority.save_encrypted(&encrypted, &passphrase).unwrap();
    load("no passphrase", &encrypted, None);
    load(
        "a wrong passphrase",
        &encrypted,
        Some("long enough, and wrong"),
    );
    let locked = fs::read_to_string(encrypted.join("ca.key")).unwrap();
    fs::write(encrypted.join("ca.key"), format!("{locked}{locked}")).unwrap();
    load("two keys", &encrypted, Some("long enough for it"));
    let error = Passphrase::new("short").unwrap_err();
    page.add("a short passphrase", &error, None);
    for name in ["", "Broker.example"] {
        let names: Vec<String> = (!name.is_empty())
            .then(|| name.to_owned())
            .into_iter()
            .collect();
        let error = authority.server_certificate(&names).map(drop).unwrap_err();
        page.add(&format!("a server named {name:?}"), &error, None);
    }
    let place = home.path().to_string_lossy();
    insta::assert_snapshot!("an-authority", page.0.replace(&*place, "HOME"));
}

/// What was signed and what was revoked, where it cannot be known or written.
#[test]
fn a_ledger() {
    let mut page = Page::default();
    let home = tempfile::tempdir().unwrap();
    let mut add = |name: &str, error: SignError| {
        page.add(name, &error, error.hint().as_deref());
    };
    let file = home.path().join("file");
    fs::write(&file, "nothing").unwrap();
    let opened = Journal::open(&file.join("signer")).map(drop);
    add("a folder in a file", opened.unwrap_err().into());
    let journal = Journal::open(home.path()).unwrap();
    let opened = Journal::open(home.path()).map(drop);
    add("two signers", opened.unwrap_err().into());
    drop(journal);
    let authority = Authority::create(&"atlas".parse().unwrap()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let written = crl::write(&authority, &Revoked::default(), &file, now);
    add(
        "a list that is none",
        RevocationError::from(written.unwrap_err()).into(),
    );
    for (name, error) in [
        ("a task that died", RevocationError::Cut),
        (
            "a folder of another",
            RevocationError::Lock {
                path: "atlas".into(),
                source: io::ErrorKind::PermissionDenied.into(),
            },
        ),
        (
            "a serial number that is none",
            CrlError::Serial("333".to_owned()).into(),
        ),
        (
            "a list that cannot be signed",
            CrlError::Sign(rcgen::Error::RingUnspecified).into(),
        ),
        (
            "a record that is none",
            JournalError::Record {
                path: "atlas/signer/0.json".into(),
                source: serde_json::from_str::<serde_json::Value>("{").unwrap_err(),
            }
            .into(),
        ),
    ] {
        add(name, error.into());
    }
    add("a signature too late", SignError::Cut);
    let place = home.path().to_string_lossy();
    insta::assert_snapshot!("a-ledger", page.0.replace(&*place, "HOME"));
}

/// What no test can provoke: an operating system without random numbers.
#[test]
fn what_hardly_happens() {
    let mut page = Page::default();
    let none = || rcgen::Error::RingUnspecified;
    let error = AuthorityError::Make {
        realm: "atlas".parse().unwrap(),
        source: none(),
    };
    page.add("no authority", &error, error.hint().as_deref());
    let error = AuthorityError::Encryption {
        path: "atlas/ca/ca.key".into(),
        source: EncryptionError::Pem(PemBlockError::Damaged),
    };
    page.add("a key cut short", &error, error.hint().as_deref());
    let error = ServerCertificateError::Make(none());
    page.add("no certificate for a server", &error, None);
    insta::assert_snapshot!("what-hardly-happens", page.0);
}

/// As the administrator reads what AWS IoT Core does not do.
#[cfg(feature = "aws")]
#[test]
fn aws() {
    use crate::AwsError;
    use std::time::Duration;

    let mut page = Page::default();
    let action = "CreateCertificateFromCsr";
    let gone = || Box::new(io::Error::from(io::ErrorKind::ConnectionReset));
    for (name, error) in [
        ("no JSON", AwsError::Answer { action }),
        (
            "another certificate",
            AwsError::Certificate {
                id: "c0ffee".to_owned(),
            },
        ),
        (
            "nobody",
            AwsError::Credentials {
                source: "the credential provider was not enabled".into(),
            },
        ),
        (
            "no address",
            AwsError::Endpoint {
                endpoint: "http://iot.example".to_owned(),
            },
        ),
        ("too many", AwsError::TooMany { limit: 50_000 }),
        (
            "no policy",
            AwsError::Policy {
                policy: "tunnel.target".to_owned(),
            },
        ),
        ("no region", AwsError::Region),
        (
            "no signature",
            AwsError::Sign {
                action,
                source: "invalid header value".into(),
            },
        ),
        (
            "no answer",
            AwsError::TimedOut {
                action,
                limit: Duration::from_secs(10),
            },
        ),
        (
            "no way",
            AwsError::Unreachable {
                action,
                source: gone(),
            },
        ),
    ] {
        page.add(name, &error, error.hint().as_deref());
    }
    for (status, code, message) in [
        (429, "ThrottlingException", "Rate exceeded"),
        (
            403,
            "AccessDeniedException",
            "User is not authorized to perform: iot:CreateCertificateFromCsr",
        ),
        (
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        (
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid",
        ),
        (403, "InvalidSignatureException", "Signature expired"),
        (410, "LimitExceededException", "Certificate limit exceeded"),
        (400, "InvalidRequestException", "Invalid CSR"),
        (503, "ServiceUnavailableException", "Try again"),
        (403, "ForbiddenException", "no"),
        (403, "InvalidClientTokenId", "no"),
        (403, "UnauthorizedException", "no"),
        (403, "SignatureDoesNotMatch", "no"),
        (403, "RequestTimeTooSkewed", "no"),
    ] {
        let error = AwsError::Refused {
            action,
            status,
            code: code.to_owned(),
            message: message.to_owned(),
        };
        page.add(code, &error, error.hint().as_deref());
    }
    insta::assert_snapshot!("aws", page.0);
}
