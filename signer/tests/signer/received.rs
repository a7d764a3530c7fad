//! Certificates that a device must not install, made by a real authority.

use std::time::{Duration, SystemTime};

use enrollment::certificate_check::{CertificateError, Expected};
use enrollment::{Author, CheckedCertificate, Entry, Kind, Revision, Title, UploadPermission, csr};
use protocol::{ClientIdSuffix, DeviceId};
use rcgen::ExtendedKeyUsagePurpose::{self, ClientAuth, ServerAuth};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use signer::{Authority, Rules};
use time::OffsetDateTime;

use crate::world::id;

const DAY: Duration = Duration::from_hours(24);

fn authority() -> Authority {
    Authority::create(&"atlas".parse().unwrap()).unwrap()
}

fn certificate(authority: &Authority, key: &KeyPair, id: &DeviceId, days: u16) -> String {
    let rules = Rules {
        realm: authority.realm().clone(),
        suffix: ClientIdSuffix::default(),
        permission: UploadPermission::everyone_with_write_access(),
    };
    let body = csr::create(key, id, &rules.suffix).unwrap();
    let entry = Entry {
        title: Title::new(id.clone(), Kind::CertificateRequest),
        author: Author::LocalUser { uid: 0 },
        revision: Revision::of_body(&body),
        body: Ok(body),
        arrived: 0,
    };
    let request = rules.check(&entry).unwrap();
    authority
        .issue(&request, days, OffsetDateTime::now_utc())
        .unwrap()
        .certificate_pem
}

#[test]
fn each_wrong_certificate_is_refused_for_its_reason() {
    let (authority, stranger) = (authority(), authority());
    let (key, other_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let device = id("333.hula.atlas");
    let public_key = key.subject_public_key_info();
    let suffix = ClientIdSuffix::default();
    let expected = Expected {
        id: &device,
        suffix: &suffix,
        public_key: &public_key,
        authority: Some(authority.certificate_pem()),
    };
    let now = SystemTime::now();
    let check = |pem: &str, now| CheckedCertificate::check(pem, &expected, now);
    let refusal = |pem: &str| check(pem, now).unwrap_err();

    let good = certificate(&authority, &key, &device, 397);
    let checked = check(&good, now).unwrap();
    assert_eq!(checked.pem(), good);
    assert!(!checked.is_nearly_over(now));
    assert!(checked.is_nearly_over(now + DAY * 370));

    assert!(matches!(
        refusal(&certificate(&authority, &other_key, &device, 397)),
        CertificateError::Key
    ));
    let another = certificate(&authority, &key, &id("334.hula.atlas"), 397);
    assert!(matches!(
        refusal(&another),
        CertificateError::Subject { .. }
    ));
    // The stranger's authority has the same name, as far as names go.
    let forged = certificate(&stranger, &key, &device, 397);
    assert!(matches!(refusal(&forged), CertificateError::Signature(_)));
    assert!(matches!(
        check(&good, now - DAY),
        Err(CertificateError::NotYetValid(_) | CertificateError::Authority)
    ));
    let short = certificate(&authority, &key, &device, 10);
    assert!(matches!(
        check(&short, now + DAY * 11),
        Err(CertificateError::Expired(_))
    ));
    check(&good, now - Duration::from_mins(59)).unwrap();
    assert!(matches!(refusal(""), CertificateError::Pem(_)));
    assert!(matches!(
        refusal(&(good.clone() + &good)),
        CertificateError::Pem(_)
    ));
    assert!(matches!(
        refusal(&"x".repeat(1 << 20)),
        CertificateError::TooLong
    ));
    assert!(matches!(
        refusal(authority.certificate_pem()),
        CertificateError::Key
    ));

    let broken = Expected {
        authority: Some(&good),
        ..expected
    };
    let result = CheckedCertificate::check(&good, &broken, now);
    assert!(
        matches!(result, Err(CertificateError::Authority)),
        "a device is no authority"
    );
}

#[test]
fn a_certificate_for_servers_is_not_for_devices() {
    // Made by hand: the authority itself gives a server's certificate no device's name.
    let key = KeyPair::generate().unwrap();
    let device = id("333.hula.atlas");
    let suffix = ClientIdSuffix::default();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let public_key = key.subject_public_key_info();
    let expected = Expected {
        id: &device,
        suffix: &suffix,
        public_key: &public_key,
        authority: Some(&ca_pem),
    };
    let check = |usages: &[ExtendedKeyUsagePurpose], is_ca| {
        let mut params = CertificateParams::default();
        params.distinguished_name = enrollment::subject::distinguished_name(&device, &suffix);
        params.extended_key_usages = usages.to_vec();
        params.is_ca = is_ca;
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        CheckedCertificate::check(&pem, &expected, SystemTime::now())
    };
    check(&[ClientAuth], IsCa::NoCa).unwrap();
    assert!(matches!(
        check(&[ServerAuth], IsCa::NoCa),
        Err(CertificateError::Usage)
    ));
    assert!(matches!(
        check(&[], IsCa::NoCa),
        Err(CertificateError::Usage)
    ));
    // Where nobody knows who signs, as at AWS IoT Core, one without any usage is for every one; key and name count as ever.
    let unknown = Expected {
        authority: None,
        ..expected
    };
    let foreign = |usages: &[ExtendedKeyUsagePurpose], expected: &Expected<'_>| {
        let mut params = CertificateParams::default();
        params.distinguished_name = enrollment::subject::distinguished_name(&device, &suffix);
        params.extended_key_usages = usages.to_vec();
        let pem = params.self_signed(&key).unwrap().pem();
        CheckedCertificate::check(&pem, expected, SystemTime::now())
    };
    foreign(&[], &unknown).unwrap();
    foreign(&[ClientAuth], &unknown).unwrap();
    assert!(matches!(
        foreign(&[ServerAuth], &unknown),
        Err(CertificateError::Usage)
    ));
    let other = KeyPair::generate().unwrap().subject_public_key_info();
    let others = Expected {
        public_key: &other,
        ..unknown
    };
    assert!(matches!(foreign(&[], &others), Err(CertificateError::Key)));
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(matches!(
        check(&[ClientAuth], authority),
        Err(CertificateError::Usage)
    ));
}
