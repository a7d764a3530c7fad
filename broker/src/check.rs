//! What a configuration would serve, found out without serving it: with the loaders of the real thing, and as a device
//! looks at it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use policies::RoleDocument;
use protocol::Label;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::broker::{BindError, read};
use crate::config::BrokerConfig;
use crate::policy_files;
use crate::store::{Store, StoreError};
use crate::tls::Front;

/// What devices know of the broker before they meet it.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The host in the address that they dial.
    pub host: &'a str,
    /// The authorities whose signature they want to see, PEM.
    pub authorities: &'a str,
}

/// What would be served; its `Display` has a line for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    listen: SocketAddr,
    /// Somebody has the address: most likely the broker that runs.
    taken: bool,
    certificate: String,
    authorities: Vec<String>,
    revoked: Option<usize>,
    policies: Vec<String>,
    store: Option<String>,
}

/// Why a broker of this configuration would not serve, or not be accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It would not start.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Devices dial what is no host.
    #[error("`{host}` is neither a name nor an address")]
    Host {
        /// What they dial.
        host: String,
        /// Why not.
        #[source]
        source: InvalidDnsNameError,
    },
    /// Devices have nobody to trust.
    #[error("the authorities that devices trust cannot be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
    /// Devices would turn away.
    #[error("devices that dial `{host}` would not accept the broker's certificate")]
    Certificate {
        /// What they dial.
        host: String,
        /// What they would say.
        #[source]
        source: rustls::Error,
    },
}

impl CheckError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind(error) => error.hint(),
            Self::Certificate { .. } | Self::Host { .. } | Self::Authorities(_) => Some(
                "`[broker]` in realm.toml has the address that devices dial, and the authorities that they trust"
                    .to_owned(),
            ),
        }
    }
}

/// Checks everything that a start would need, and takes nothing that a running broker holds.
pub fn check(config: &BrokerConfig, expected: Expected<'_>) -> Result<Served, CheckError> {
    let (front, _) = read(config)?;
    accepted(&front, expected)?;
    let mut policies = Vec::new();
    for role in RoleDocument::ALL {
        let directory = config.policies.as_deref();
        let own = directory
            .map(|at| policy_files::own(at, role))
            .transpose()
            .map_err(BindError::Policies)?;
        let from = own.flatten().map_or_else(
            || "the program's own".to_owned(),
            |path| path.display().to_string(),
        );
        policies.push(format!("{} ({from})", role.name()));
    }
    let store = config
        .store
        .as_deref()
        .map(|directory| store(directory, &config.realm))
        .transpose()?;
    Ok(Served {
        listen: config.listen,
        taken: is_taken(config.listen).map_err(|source| BindError::Listen {
            address: config.listen,
            source,
        })?,
        certificate: front
            .identity
            .cert
            .first()
            .map(|one| described(one))
            .unwrap_or_default(),
        authorities: front
            .trust
            .authorities()
            .iter()
            .map(|one| described(one))
            .collect(),
        revoked: front.trust.has_list().then(|| front.trust.revoked()),
        policies,
        store,
    })
}

/// Opens the store as a start would, unless a broker has it.
fn store(directory: &Path, realm: &Label) -> Result<String, BindError> {
    let state = match Store::check(directory, realm) {
        Ok(true) => "",
        Ok(false) => " (new)",
        Err(StoreError::InUse { .. }) => " (in use: is it running?)",
        Err(error) => return Err(error.into()),
    };
    Ok(format!("{}{state}", directory.display()))
}

/// Asks what a device asks in its handshake.
fn accepted(front: &Front, expected: Expected<'_>) -> Result<(), CheckError> {
    let host = || expected.host.to_owned();
    let name = ServerName::try_from(expected.host).map_err(|source| CheckError::Host {
        host: host(),
        source,
    })?;
    let mut roots = RootCertStore::empty();
    // What is no certificate is nobody to trust.
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(expected.authorities.as_bytes()).filter_map(Result::ok),
    );
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(CheckError::Authorities)?;
    let refused = |source| CheckError::Certificate {
        host: host(),
        source,
    };
    let (leaf, others) = front
        .identity
        .cert
        .split_first()
        .ok_or_else(|| refused(rustls::Error::NoCertificatesPresented))?;
    verifier
        .verify_server_cert(leaf, others, &name, &[], UnixTime::now())
        .map_err(refused)?;
    Ok(())
}

fn is_taken(address: SocketAddr) -> io::Result<bool> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error),
    }
}

fn described(der: &[u8]) -> String {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => {
            let end = certificate.validity().not_after.to_datetime().date();
            format!("{}, until {end}", certificate.subject())
        }
        // It has been parsed by another parser already.
        Err(_) => "a certificate that cannot be shown".to_owned(),
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = if self.taken {
            " (in use: is it running?)"
        } else {
            ""
        };
        writeln!(f, "listen       {}{taken}", self.listen)?;
        writeln!(f, "certificate  {}", self.certificate)?;
        for authority in &self.authorities {
            writeln!(f, "authority    {authority}")?;
        }
        match self.revoked {
            Some(count) => writeln!(f, "revoked      {count}")?,
            None => writeln!(f, "revoked      no list yet")?,
        }
        for (place, policy) in self.policies.iter().enumerate() {
            let label = if place == 0 {
                "policies     "
            } else {
                "\n             "
            };
            write!(f, "{label}{policy}")?;
        }
        if let Some(store) = &self.store {
            write!(f, "\nstore        {store}")?;
        }
        Ok(())
    }
}
