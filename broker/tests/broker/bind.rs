//! What is wrong with a configuration is known before anybody is served; and what TLS is spoken when nothing is.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use broker::{BindError, Broker, Limits, Pem, TlsError};
use daemon::report::Report;
use rustls::version::{TLS12, TLS13};

use crate::raw::Raw;
use crate::world::{Authority, World, config};

const DEVICE: &str = "333.hula.atlas";

fn refused(change: impl FnOnce(&mut broker::BrokerConfig)) -> BindError {
    let authority = Authority::new("atlas");
    let mut config = config(&authority, &authority.pem(), Limits::default());
    change(&mut config);
    match Broker::bind(config) {
        Ok(broker) => panic!("bound to {}", broker.local_addr()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn each_fault_has_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start();
    let mut page = String::new();
    let mut add = |name: &str, error: &BindError| {
        let report = Report::new(error, error.hint().as_deref()).to_string();
        let report = report.replace(&*folder.path().to_string_lossy(), "FOLDER");
        let report = report.replace(&world.address.to_string(), "ADDRESS");
        writeln!(page, "# {name}\n{report}\n").unwrap();
    };
    let missing = Pem::File(folder.path().join("missing.pem"));
    let error = refused(|config| config.certificates = missing);
    assert!(
        matches!(
            error,
            BindError::Tls(TlsError::File {
                what: "certificate",
                ..
            })
        ),
        "{error:?}"
    );

    add("no certificate", &error);

    let open = folder.path().join("open.key");
    std::fs::write(&open, "x").unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).unwrap();
    let error = refused(|config| config.key = Pem::File(open));
    assert!(
        matches!(
            error,
            BindError::Tls(TlsError::File {
                what: "private key",
                ..
            })
        ),
        "{error:?}"
    );
    add("a key for everybody", &error);

    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    let nothing = Pem::File(nothing);
    let error = refused(|config| config.certificates = nothing.clone());
    add("a certificate that is none", &error);
    let error = refused(|config| config.revocations = Some(folder.path().join("nothing.pem")));
    add("a revocation list that is none", &error);
    let error = refused(|config| config.policies = Some(folder.path().join("nothing.pem")));
    add("policies that are a file", &error);
    let error = refused(|config| config.store = Some(folder.path().join("nothing.pem")));
    add("a store in a file", &error);
    let leaf = Pem::Text(world.authority.device(DEVICE).key.into());
    let error = refused(|config| config.client_authorities = leaf);
    add("authorities that are a key", &error);

    let error = refused(|config| config.client_authorities = Pem::Text(Vec::new()));
    assert!(
        matches!(error, BindError::Tls(TlsError::Pem { .. })),
        "{error:?}"
    );
    add("no authorities", &error);

    let other = Authority::new("other").device(DEVICE);
    let error = refused(|config| config.key = Pem::Text(other.key.into()));
    assert!(
        matches!(error, BindError::Tls(TlsError::Identity(_))),
        "{error:?}"
    );
    add("another's key", &error);

    let error = refused(|config| config.listen = world.address);
    assert!(
        matches!(error, BindError::Listen { address, .. } if address == world.address),
        "{error:?}"
    );
    add("an address that is taken", &error);
    insta::assert_snapshot!("each-fault-has-its-own-error", page);
}

#[tokio::test]
async fn both_versions_of_tls_and_both_names_of_the_protocol() {
    let world = World::start();
    let identity = world.authority.device(DEVICE);
    for version in [&TLS12, &TLS13] {
        for name in [None, Some("mqtt"), Some("x-amzn-mqtt-ca")] {
            let mut tls = world.authority.client_of(Some(&identity), &[version]);
            tls.alpn_protocols = name.iter().map(|name| name.as_bytes().to_vec()).collect();
            let mut device = Raw::open(world.address, Arc::new(tls)).await.unwrap();
            device.connect(DEVICE).await;
            device.disconnect().await;
        }
    }
    let mut tls = world.authority.client_of(Some(&identity), &[&TLS13]);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    assert!(Raw::open(world.address, Arc::new(tls)).await.is_err());
}
