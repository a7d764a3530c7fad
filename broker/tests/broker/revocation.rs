//! Revoked devices: refused at the door, and ended where they are connected, without a restart.

use std::fs;
use std::path::Path;

use broker::{BindError, Broker, Limits, RevocationListError};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rumqttc::mqttbytes::v4::{Connect, Packet};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;

use crate::raw::Raw;
use crate::world::{Authority, Identity, World, config};

/// Writes a list that revokes these certificates, as the signer does: beside it, and then renamed.
pub(crate) fn write_list(path: &Path, by: &Authority, revoked: &[&Identity]) {
    let now = OffsetDateTime::now_utc();
    let list = CertificateRevocationListParams {
        this_update: now - Duration::hours(1),
        next_update: now + Duration::days(1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|identity| RevokedCertParams {
                serial_number: SerialNumber::from(serial(identity)),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let next = path.with_extension("next");
    fs::write(&next, list.signed_by(by.issuer()).unwrap().pem().unwrap()).unwrap();
    fs::rename(next, path).unwrap();
}

fn serial(identity: &Identity) -> Vec<u8> {
    let (_, pem) = parse_x509_pem(identity.certificate.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    certificate.tbs_certificate.serial.to_bytes_be()
}

fn world(list: &Path) -> World {
    let authority = Authority::new("atlas");
    let mut config = config(&authority, &authority.pem(), Limits::default());
    config.revocations = Some(list.to_owned());
    World::of(authority, Broker::bind(config).unwrap())
}

async fn connected(world: &World, id: &str, identity: &Identity) -> Raw {
    let tls = world.authority.client(Some(identity));
    let mut raw = Raw::open(world.address, tls).await.unwrap();
    raw.connect(id).await;
    raw
}

/// With TLS 1.3 a client learns only with its first read that it was refused.
async fn refused(world: &World, id: &str, identity: &Identity) {
    let tls = world.authority.client(Some(identity));
    if let Ok(mut raw) = Raw::open(world.address, tls).await {
        raw.send(Packet::Connect(Connect::new(id))).await;
        raw.closed().await;
    }
}

#[tokio::test]
async fn a_live_connection_ends_and_none_begins_without_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("crl.pem");
    let world = world(&list);
    let (id, other) = ("333.hula.atlas", "334.hula.atlas");
    let (revoked, good) = (world.authority.device(id), world.authority.device(other));
    let gone = connected(&world, id, &revoked).await;
    let mut kept = connected(&world, other, &good).await;

    write_list(&list, &world.authority, &[&revoked]);
    world
        .until("the revoked one is gone", |count| count.revoked == 1)
        .await;
    gone.closed().await;
    kept.quiet().await;
    refused(&world, id, &revoked).await;
    // The name is not gone: another certificate of the same device is let in.
    let renewed = world.authority.device(id);
    connected(&world, id, &renewed).await.quiet().await;

    // What is no list takes nothing back, and does not keep the next one from being read.
    fs::write(&list, "rubbish").unwrap();
    refused(&world, id, &revoked).await;
    write_list(&list, &world.authority, &[&revoked, &good]);
    world
        .until("the other one is gone", |count| count.revoked == 2)
        .await;
    kept.closed().await;
    world.stop().await;
}

#[tokio::test]
async fn a_broker_does_not_start_with_a_list_that_it_cannot_use() {
    let home = tempfile::tempdir().unwrap();
    let list = home.path().join("crl.pem");
    let authority = Authority::new("atlas");
    let bind = || {
        let mut config = config(&authority, &authority.pem(), Limits::default());
        config.revocations = Some(list.clone());
        Broker::bind(config)
    };
    write_list(&list, &Authority::new("atlas"), &[]);
    assert!(matches!(
        bind().err().unwrap(),
        BindError::Revocations(RevocationListError::Signature { .. })
    ));
    fs::write(&list, "rubbish").unwrap();
    assert!(matches!(
        bind().err().unwrap(),
        BindError::Revocations(RevocationListError::Pem { .. })
    ));
    write_list(&list, &authority, &[]);
    assert!(bind().is_ok());
}

/// Of a device whose certificate an intermediate authority has signed: it is as good as that one.
#[tokio::test]
async fn a_revoked_intermediate_takes_its_devices_along() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("crl.pem");
    let world = world(&path);
    let intermediate = world.authority.intermediate("workshop");
    let chained = |id| {
        let mut identity = intermediate.device(id);
        identity.certificate += &intermediate.pem();
        identity
    };
    let (device, direct) = (
        chained("333.hula.atlas"),
        world.authority.device("334.hula.atlas"),
    );
    let live = connected(&world, "333.hula.atlas", &device).await;
    let mut other = connected(&world, "334.hula.atlas", &direct).await;
    let listed = Identity {
        certificate: intermediate.pem(),
        key: String::new(),
    };
    write_list(&path, &world.authority, &[&listed]);
    world.until("it is cut", |count| count.revoked == 1).await;
    live.closed().await;
    refused(&world, "333.hula.atlas", &device).await;
    refused(&world, "335.hula.atlas", &chained("335.hula.atlas")).await;
    other.quiet().await;
    assert_eq!(world.count().refused_certificates, 2);
}
