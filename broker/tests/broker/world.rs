//! A realm for one test: authority, broker on a free port, and certificates for whoever the test names.

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerConfig, CounterSnapshot, CounterView, Limits, Pem};
use daemon::shutdown::Shutdown;
use protocol::DeviceId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::raw::Raw;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A realm `atlas` with a running broker.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    pub(crate) counters: CounterView,
    pub(crate) roster: watch::Receiver<usize>,
    shutdown: Shutdown,
    run: JoinHandle<()>,
}

/// Somebody who signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let authority = Authority::new("atlas");
        let broker = Broker::bind(config(&authority, &authority.pem(), limits)).unwrap();
        Self::of(authority, broker)
    }

    pub(crate) fn of(authority: Authority, broker: Broker) -> Self {
        let shutdown = Shutdown::new(PATIENCE);
        Self {
            authority,
            address: broker.local_addr(),
            counters: broker.counters(),
            roster: broker.roster(),
            run: shutdown.spawn(broker.run(shutdown.clone())),
            shutdown,
        }
    }

    /// A client that has done its TLS handshake, and nothing else.
    pub(crate) async fn raw(&self, id: &str) -> Raw {
        let tls = self.authority.client(Some(&self.authority.device(id)));
        Raw::open(self.address, tls).await.unwrap()
    }

    /// A connected client with a clean session and no will.
    pub(crate) async fn client(&self, id: &str) -> Raw {
        let mut raw = self.raw(id).await;
        raw.connect(id).await;
        raw
    }

    pub(crate) fn count(&self) -> CounterSnapshot {
        self.counters.snapshot()
    }

    /// Waits until the counters are as wished.
    pub(crate) async fn until(&self, what: &str, wished: impl Fn(&CounterSnapshot) -> bool) {
        wait_until(|| async { (self.count(), wished(&self.count())) }, what).await;
    }

    /// Asks the broker to drain and waits for it.
    pub(crate) async fn stop(self) -> CounterView {
        self.stop_and_keep().await.1
    }

    /// Like [`stop`](Self::stop); the authority can have another broker.
    pub(crate) async fn stop_and_keep(self) -> (Authority, CounterView) {
        self.shutdown.request();
        timeout(PATIENCE, self.run)
            .await
            .expect("the broker drains")
            .unwrap();
        (self.authority, self.counters)
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority that this one has signed.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, self.issuer()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.0
    }

    /// The certificate of a device, as enrollment makes it.
    pub(crate) fn device(&self, id: &str) -> Identity {
        let parsed: DeviceId = id.parse().unwrap();
        self.sign(
            &[
                (DnType::CommonName, id),
                (DnType::OrganizationName, parsed.system().as_str()),
                (DnType::OrganizationalUnitName, parsed.device().as_str()),
            ],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    pub(crate) fn sign(
        &self,
        names: &[(DnType, &str)],
        usage: ExtendedKeyUsagePurpose,
    ) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = subject(names);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity {
            certificate,
            key: key.serialize_pem(),
        }
    }

    /// The settings of a client that trusts this authority.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        Arc::new(self.client_of(identity, rustls::DEFAULT_VERSIONS))
    }

    pub(crate) fn client_of(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }
}

/// A broker's configuration, with its certificate from this authority.
pub(crate) fn config(
    authority: &Authority,
    client_authorities: &str,
    limits: Limits,
) -> BrokerConfig {
    let identity = authority.sign(
        &[(DnType::CommonName, "broker")],
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    BrokerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        realm: "atlas".parse().unwrap(),
        client_id_suffix: "".parse().unwrap(),
        certificates: Pem::Text(identity.certificate.into()),
        key: Pem::Text(identity.key.into()),
        client_authorities: Pem::Text(client_authorities.into()),
        revocations: None,
        policies: None,
        store: None,
        limits,
    }
}

/// Looks often and waits long.
pub(crate) async fn wait_until<T, F>(mut look: impl FnMut() -> F, what: &str)
where
    F: Future<Output = (T, bool)>,
    T: std::fmt::Debug,
{
    let give_up = Instant::now() + PATIENCE;
    loop {
        let (status, done) = look().await;
        if done {
            return;
        }
        assert!(
            Instant::now() < give_up,
            "waited in vain until {what}: {status:?}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn presence(device: impl Display) -> String {
    format!("atlas/hula/{device}/tunnel/presence")
}

fn subject(names: &[(DnType, &str)]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    for (kind, value) in names {
        subject.push(kind.clone(), *value);
    }
    subject
}
