//! Issuing a device's certificate.

use enrollment::subject;
use protocol::DeviceId;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use time::OffsetDateTime;

use crate::validity::{self, Serial};
use crate::{AcceptedRequest, Authority};

/// A certificate that has been issued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// Its serial number in hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
    /// The last moment at which it is valid.
    pub not_after: OffsetDateTime,
}

/// The authority could not sign.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a certificate for `{id}`")]
pub struct IssueError {
    id: DeviceId,
    #[source]
    source: rcgen::Error,
}

impl Authority {
    /// Issues a certificate for TLS clients and nothing else. Of the request only the key goes into it.
    pub fn issue(
        &self,
        request: &AcceptedRequest,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<Issued, IssueError> {
        let serial = Serial::random();
        let mut params = CertificateParams::default();
        params.distinguished_name = subject::distinguished_name(request.id(), request.suffix());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial.into());
        validity::set(&mut params, days, now, Some(self.not_after()));
        let certificate = params
            .signed_by(request.public_key(), self.issuer())
            .map_err(|source| IssueError {
                id: request.id().clone(),
                source,
            })?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            serial: serial.to_string(),
            not_after: params.not_after,
        })
    }
}

/// The life of a device's certificate, in days, unless told otherwise: thirteen months, so that a yearly visit is
/// enough, and the most that the CA/Browser Forum allowed from 2020 to 2026 (Baseline Requirements, section 6.3.2).
pub const CLIENT_DAYS: u16 = 397;
