//! The check of a received certificate, before it is installed.

use std::time::{Duration, SystemTime};

use protocol::{ClientIdSuffix, DeviceId};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::pem_block::{self, PemBlockError};
use crate::{Kind, subject};

/// A certificate that is for our key and our name, valid now, and issued by the realm's authority if that is known. Only
/// [`CheckedCertificate::check`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCertificate {
    pem: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// What a certificate has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Whose it has to be.
    pub id: &'a DeviceId,
    /// The end of the realm's client ids.
    pub suffix: &'a ClientIdSuffix,
    /// Our public key, as a DER `SubjectPublicKeyInfo`.
    pub public_key: &'a [u8],
    /// The certificate of the realm's authority, as PEM. `None` where it is kept secret, as by AWS IoT Core: then a
    /// certificate that somebody else has signed is seen by the broker only.
    pub authority: Option<&'a str>,
}

/// Why a certificate is not ours to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The authority's certificate cannot be used; the fault is in the realm's file, not in the certificate.
    #[error("the certificate of the realm's authority cannot be used")]
    Authority,
    /// It is longer than a certificate can be.
    #[error("the certificate is longer than {limit} bytes", limit = Kind::Certificate.max_body())]
    TooLong,
    /// It is not one PEM block.
    #[error("the certificate is not one PEM block")]
    Pem(#[source] PemBlockError),
    /// It is not X.509.
    #[error("the certificate cannot be parsed")]
    Malformed,
    /// It was made for another key, perhaps one that has been replaced since.
    #[error("the certificate is for another key")]
    Key,
    /// It names another device.
    #[error("the certificate is for {found:?} where {expected:?} is expected")]
    Subject {
        /// Whom it names.
        found: String,
        /// Whom it should name.
        expected: String,
    },
    /// Another authority issued it.
    #[error("the certificate was not issued by the realm's authority")]
    Issuer,
    /// Its signature is false.
    #[error("the certificate's signature does not verify")]
    Signature(#[source] X509Error),
    /// It may not be used by a client of TLS.
    #[error("the certificate is not for client authentication")]
    Usage,
    /// Its time has not come.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(String),
    /// Its time is over.
    #[error("the certificate expired on {0}")]
    Expired(String),
}

impl CheckedCertificate {
    /// Checks a certificate at this time of the device's clock.
    pub fn check(
        pem: &str,
        expected: &Expected<'_>,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        if pem.len() > Kind::Certificate.max_body() {
            return Err(CertificateError::TooLong);
        }
        let der = pem_block::single(pem, pem_block::CERTIFICATE).map_err(CertificateError::Pem)?;
        let certificate = whole(&der).ok_or(CertificateError::Malformed)?;
        // The key first: a certificate for another is none of our business, whatever else it is. Then who speaks: what anybody
        // can write is no word of the realm's.
        if certificate.public_key().raw != expected.public_key {
            return Err(CertificateError::Key);
        }
        if let Some(authority) = expected.authority {
            check_chain(&certificate, authority, now)?;
        }
        if !subject::is_of(certificate.subject(), expected.id, expected.suffix) {
            return Err(CertificateError::Subject {
                found: certificate.subject().to_string(),
                expected: subject::text(expected.id, expected.suffix),
            });
        }
        // The certificates of AWS IoT Core name no extended usage, which permits every one (RFC 5280, section 4.2.1.12).
        if !is_for_clients(&certificate, expected.authority.is_none()) {
            return Err(CertificateError::Usage);
        }
        let validity = certificate.validity();
        if seconds(now) < validity.not_before.timestamp() {
            return Err(CertificateError::NotYetValid(
                validity.not_before.to_string(),
            ));
        }
        if seconds(now) > validity.not_after.timestamp() {
            return Err(CertificateError::Expired(validity.not_after.to_string()));
        }
        Ok(Self {
            pem: pem.trim().to_owned() + "\n",
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
        })
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The last moment at which it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether so little of its life is left that a new one should be asked for: a twelfth, which is a month of the
    /// signer's 397 days.
    pub fn is_nearly_over(&self, now: SystemTime) -> bool {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        let left = self.not_after.duration_since(now).unwrap_or_default();
        left < life / 12
    }
}

impl CertificateError {
    /// Whether anybody could have put such a one there: it does not come from the realm's authority.
    pub fn is_nobodys(&self) -> bool {
        match self {
            Self::TooLong | Self::Pem(_) | Self::Malformed | Self::Issuer | Self::Signature(_) => {
                true
            }
            Self::Authority
            | Self::Key
            | Self::Subject { .. }
            | Self::Usage
            | Self::NotYetValid(_)
            | Self::Expired(_) => false,
        }
    }

    /// What the person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Expired(_) => {
                "`tunnel enroll --renew` gets a new one; if that date is to come, set this computer's clock"
            }
            Self::NotYetValid(_) => {
                "set this computer's clock, e.g. with `timedatectl set-ntp true`"
            }
            Self::Authority => {
                "set this computer's clock if it is wrong; otherwise ask the realm's admin for the present `realm.toml`"
            }
            Self::Issuer | Self::Signature(_) => {
                "certificate and `realm.toml` are of two realms: ask the realm's admin for the present `realm.toml`, or enroll again with `tunnel enroll`"
            }
            Self::Subject { .. } => {
                "`device.toml` names another computer than the certificate: put its `system` and `device` right, or enroll under that name with `tunnel enroll`"
            }
            Self::Key => {
                "the certificate was made for a key that was replaced since: `tunnel enroll --renew` gets a new one"
            }
            Self::TooLong | Self::Pem(_) | Self::Malformed | Self::Usage => {
                "`tunnel enroll --renew` gets a new one"
            }
        }
    }
}

/// A realm has one authority, which signs devices itself: there are no intermediates to walk.
fn check_chain(
    certificate: &X509Certificate<'_>,
    authority: &str,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let der = pem_block::single(authority, pem_block::CERTIFICATE)
        .map_err(|_| CertificateError::Authority)?;
    let authority = whole(&der).ok_or(CertificateError::Authority)?;
    let may_sign = authority
        .key_usage()
        .is_ok_and(|usage| usage.is_some_and(|usage| usage.value.key_cert_sign()));
    let valid =
        authority.validity().not_before.timestamp()..=authority.validity().not_after.timestamp();
    if !authority.is_ca() || !may_sign || !valid.contains(&seconds(now)) {
        return Err(CertificateError::Authority);
    }
    if certificate.issuer().as_raw() != authority.subject().as_raw() {
        return Err(CertificateError::Issuer);
    }
    certificate
        .verify_signature(Some(authority.public_key()))
        .map_err(CertificateError::Signature)
}

fn is_for_clients(certificate: &X509Certificate<'_>, unnamed: bool) -> bool {
    let extended = certificate
        .extended_key_usage()
        .is_ok_and(|usage| usage.map_or(unnamed, |usage| usage.value.client_auth));
    let signs = certificate
        .key_usage()
        .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.digital_signature()));
    extended && signs && !certificate.is_ca()
}

fn whole(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    }
}

/// Seconds of a clock since the epoch. A clock before it shows zero, where nothing is valid.
fn seconds(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
