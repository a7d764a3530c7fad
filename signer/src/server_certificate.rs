//! The certificate of the realm's broker.

use std::net::IpAddr;

use protocol::limits::MAX_NAME;
use protocol::{Label, NameError};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::Authority;
use crate::validity::{self, Serial};

/// A server's certificate and the key to it, both as PEM.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: SecretPem,
    /// The last moment at which it is valid.
    pub not_after: OffsetDateTime,
}

/// A private key as PEM, which is wiped from memory and never printed.
pub struct SecretPem(Zeroizing<String>);

/// Why there is no server certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerCertificateError {
    /// The authority could not sign.
    #[error("cannot make a server certificate")]
    Make(#[source] rcgen::Error),
    /// A server that has no name cannot be known again.
    #[error("a server certificate needs at least one DNS name or IP address")]
    NoName,
    /// Neither an IP address nor a DNS name in lower case.
    #[error("{name:?} is neither an IP address nor a DNS name")]
    Name {
        /// What was given.
        name: String,
        /// Why it is no name.
        #[source]
        source: NameError,
    },
}

impl Authority {
    /// Makes a key and a certificate for a server that is reached by these DNS names and IP addresses. It is good for
    /// TLS servers and nothing else, for [`SERVER_DAYS`] days.
    pub fn server_certificate(
        &self,
        names: &[String],
    ) -> Result<ServerCertificate, ServerCertificateError> {
        if names.is_empty() {
            return Err(ServerCertificateError::NoName);
        }
        names.iter().try_for_each(|name| check_name(name))?;
        let mut params =
            CertificateParams::new(names.to_vec()).map_err(ServerCertificateError::Make)?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{} realm broker", self.realm()));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(Serial::random().into());
        let now = OffsetDateTime::now_utc();
        validity::set(&mut params, SERVER_DAYS, now, Some(self.not_after()));

        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(ServerCertificateError::Make)?;
        let certificate = params
            .signed_by(&key, self.issuer())
            .map_err(ServerCertificateError::Make)?;
        Ok(ServerCertificate {
            certificate_pem: certificate.pem(),
            key_pem: SecretPem(Zeroizing::new(key.serialize_pem())),
            not_after: params.not_after,
        })
    }
}

impl SecretPem {
    /// The key. For a file of mode 0600 or for a TLS stack, not for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretPem(..)")
    }
}

fn check_name(name: &str) -> Result<(), ServerCertificateError> {
    let fail = |source| ServerCertificateError::Name {
        name: name.to_owned(),
        source,
    };
    if name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if name.len() > MAX_NAME {
        return Err(fail(NameError::IdTooLong { length: name.len() }));
    }
    name.split('.')
        .try_for_each(|label| label.parse::<Label>().map(drop))
        .map_err(fail)
}

/// The life of a server certificate, in days: the longest that clients which also guard against private authorities
/// accept (Apple, support article 103769: 825 days).
pub const SERVER_DAYS: u16 = 825;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused() {
        let authority = Authority::create(&"atlas".parse().unwrap()).unwrap();
        assert!(matches!(
            authority.server_certificate(&[]),
            Err(ServerCertificateError::NoName)
        ));
        for name in [
            "",
            "*.example.org",
            "a..b",
            "a b",
            "Example.org",
            "a/b",
            "1.2.3.4:8883",
            &"a.".repeat(200),
        ] {
            let error = authority
                .server_certificate(&[name.to_owned()])
                .unwrap_err();
            assert!(
                matches!(error, ServerCertificateError::Name { .. }),
                "{name}"
            );
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let authority = Authority::create(&"atlas".parse().unwrap()).unwrap();
        let made = authority
            .server_certificate(&["localhost".to_owned()])
            .unwrap();
        assert!(
            made.key_pem
                .expose()
                .starts_with("-----BEGIN PRIVATE KEY-----")
        );
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
