//! Thousands of devices with certificates of the realm, made here instead of enrolled one by one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::step::ChoreError;

/// The devices of one realm, and one controller.
pub(crate) struct Fleet {
    devices: Vec<Arc<ClientConfig>>,
    controller: Arc<ClientConfig>,
}

/// Whose system it is.
pub(crate) const SYSTEM: &str = "hula";

/// The name of the controller.
pub(crate) const CONTROLLER: &str = "controller-bench";

impl Fleet {
    /// Signs certificates with the authority of the realm in this directory. All have one key: what is measured is the
    /// broker, which sees no difference.
    pub(crate) fn of_realm(realm: &Path, count: usize) -> Result<Self, ChoreError> {
        let read = |file: &str| {
            let path = realm.join(file);
            fs::read_to_string(&path)
                .map_err(|error| ChoreError::Failed(format!("{}: {error}", path.display())))
        };
        let certificate = read("ca/ca.cert")?;
        let key = KeyPair::from_pem(&read("ca/ca.key")?).map_err(|error| failed(&error))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| failed(&error))?;
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| failed(&error))?;
        roots.add(root).map_err(|error| failed(&error))?;
        let roots = Arc::new(roots);
        let client = |name: &str| client(name, &key, &issuer, &roots);
        Ok(Self {
            devices: (0..count)
                .map(|index| client(&name(index)))
                .collect::<Result<_, _>>()?,
            controller: client(CONTROLLER)?,
        })
    }

    /// How many devices there are.
    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// How a device meets the broker.
    pub(crate) fn device(&self, index: usize) -> Option<Arc<ClientConfig>> {
        self.devices.get(index).cloned()
    }

    /// How the controller meets the broker.
    pub(crate) fn controller(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.controller)
    }
}

/// The name of a device.
pub(crate) fn name(index: usize) -> String {
    format!("d{index:05}")
}

/// The client id of a name, which is the certificate's common name.
pub(crate) fn client_id(name: &str) -> String {
    format!("{name}.{SYSTEM}.atlas")
}

fn client(
    name: &str,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    roots: &Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>, ChoreError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, client_id(name));
    subject.push(DnType::OrganizationalUnitName, name);
    subject.push(DnType::OrganizationName, SYSTEM);
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(key, issuer)
        .map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(vec![certificate.der().clone()], key)
        .map_err(|error| failed(&error))?;
    // As an agent: a resumed session would go on with the certificate that it began with.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn failed(error: &dyn std::error::Error) -> ChoreError {
    ChoreError::Failed(format!("the fleet of the bench: {error}"))
}
