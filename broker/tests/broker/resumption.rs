//! TLS sessions that are resumed: they save a handshake, and outlive neither a revocation nor their certificate.

use std::sync::Arc;
use std::time::Duration;

use broker::Limits;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rumqttc::mqttbytes::v4::{Connect, Packet};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::files::Files;
use crate::raw::Raw;
use crate::revocation::write_list;
use crate::world::{Identity, World};

const DEVICE: &str = "333.hula.atlas";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

async fn session(world: &World, tls: &Arc<ClientConfig>) {
    let mut device = Raw::open(world.address, Arc::clone(tls)).await.unwrap();
    device.connect(DEVICE).await;
    device.disconnect().await;
}

/// The client, with the tickets that it has, gets no CONNACK.
async fn refused(world: &World, tls: &Arc<ClientConfig>) {
    if let Ok(mut device) = Raw::open(world.address, Arc::clone(tls)).await {
        device.send(Packet::Connect(Connect::new(DEVICE))).await;
        device.closed().await;
    }
}

#[tokio::test]
async fn a_session_is_resumed_and_its_client_is_who_it_was() {
    let (_files, world) = Files::serve(Limits::default());
    for (version, resumed) in VERSIONS.into_iter().zip([2, 5]) {
        let identity = world.authority.device(DEVICE);
        let tls = Arc::new(world.authority.client_of(Some(&identity), &[version]));
        for _ in 0..3 {
            session(&world, &tls).await;
        }
        assert_eq!(world.count().resumed, resumed, "{version:?}");
        // The gate goes by the certificate of the ticket.
        let mut other = Raw::open(world.address, Arc::clone(&tls)).await.unwrap();
        let answer = other.connect_with(Connect::new("334.hula.atlas")).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_ticket_does_not_outlive_a_revocation() {
    for version in VERSIONS {
        let (files, world) = Files::serve(Limits::default());
        let identity = world.authority.device(DEVICE);
        let tls = Arc::new(world.authority.client_of(Some(&identity), &[version]));
        session(&world, &tls).await;
        session(&world, &tls).await;
        assert_eq!(world.count().resumed, 1, "{version:?}");
        write_list(&files.list(), &world.authority, &[&identity]);
        world
            .until("the list is read", |count| count.reloads == 1)
            .await;
        for _ in 0..3 {
            refused(&world, &tls).await;
        }
        world
            .until("each is refused", |count| count.refused_certificates == 3)
            .await;
        world.stop().await;
    }
}

#[tokio::test]
async fn a_ticket_does_not_outlive_its_authority() {
    let (files, world) = Files::serve(Limits::default());
    let identity = world.authority.device(DEVICE);
    let tls = Arc::new(world.authority.client_of(Some(&identity), &[&TLS13]));
    session(&world, &tls).await;
    files.trust(&crate::world::Authority::new("another").pem());
    world
        .until("the bundle is read", |count| count.reloads == 1)
        .await;
    refused(&world, &tls).await;
    world
        .until("it is refused", |count| count.refused_certificates == 1)
        .await;
    world.stop().await;
}

/// Here nothing changes but the time, so that the ticket is good and only its certificate is not.
#[tokio::test]
async fn a_ticket_does_not_outlive_its_certificate() {
    for version in VERSIONS {
        let (_files, world) = Files::serve(Limits::default());
        let end = OffsetDateTime::now_utc() + Duration::from_secs(4);
        let identity = until(&world, end);
        let tls = Arc::new(world.authority.client_of(Some(&identity), &[version]));
        session(&world, &tls).await;
        // The end is a whole second, and is good itself.
        let rest = end + Duration::from_secs(2) - OffsetDateTime::now_utc();
        sleep(rest.try_into().unwrap()).await;
        refused(&world, &tls).await;
        world
            .until("it is resumed and refused", |count| {
                (count.resumed, count.refused_certificates) == (1, 1)
            })
            .await;
        world.stop().await;
    }
}

/// A device whose certificate ends then.
fn until(world: &World, end: OffsetDateTime) -> Identity {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::CommonName, DEVICE),
        (DnType::OrganizationName, "hula"),
        (DnType::OrganizationalUnitName, "333"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = end;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, world.authority.issuer()).unwrap();
    Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}
