//! The certificate revocation list.

use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use enrollment::{Revoked, pem_block};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::Authority;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authority could not sign it.
    #[error("cannot sign the revocation list")]
    Sign(#[source] rcgen::Error),
    /// A serial number of what is revoked is none.
    #[error("`{0}` is no serial number")]
    Serial(String),
    /// What is there already is no list, and its number is needed for the next.
    #[error("`{}` is no revocation list", path.display())]
    NotACrl {
        /// The file.
        path: PathBuf,
    },
}

/// What a list that is there already says.
struct Present {
    number: u64,
    this_update: i64,
    serials: Vec<Vec<u8>>,
}

/// Writes a new list in place of the one at this path, with a higher number. Everything that was ever revoked is on it, also
/// what is past its end by now (RFC 5280, section 3.3, demands less): a signer whose clock runs ahead must not let anybody
/// in where the time is right.
pub fn write(
    authority: &Authority,
    revoked: &Revoked,
    path: &Path,
    now: OffsetDateTime,
) -> Result<(), CrlError> {
    let previous = present(path)?.map_or(0, |present| present.number);
    let clock = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    // The seconds since 1970 rise by themselves, also when the last list is lost; a clock that was set back must not
    // make the number fall (RFC 5280, section 5.2.3).
    let number = clock.max(previous.saturating_add(1));
    let mut revoked_certs = Vec::new();
    for certificate in &revoked.certificates {
        let revocation_time = OffsetDateTime::from_unix_timestamp(certificate.since).unwrap_or(now);
        revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from(octets(&certificate.serial)?),
            revocation_time,
            reason_code: None,
            invalidity_date: None,
        });
    }
    let this_update = now - BACKDATED;
    let list = CertificateRevocationListParams {
        this_update,
        next_update: (now + LIFE).min(authority.not_after()).max(now),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: key_identifier(authority),
    };
    let pem = list
        .signed_by(authority.issuer())
        .and_then(|list| list.pem())
        .map_err(CrlError::Sign)?;
    Ok(files::write_public(path, pem.as_bytes())?)
}

/// Writes a new list if there is none, if it is a day old, or if it does not say what is revoked. Returns whether it did.
pub fn refresh(
    authority: &Authority,
    revoked: &Revoked,
    path: &Path,
    now: OffsetDateTime,
) -> Result<bool, CrlError> {
    if let Some(present) = present(path)? {
        let mut expected = revoked
            .certificates
            .iter()
            .map(|certificate| octets(&certificate.serial))
            .collect::<Result<Vec<_>, _>>()?;
        expected.sort_unstable();
        let age = now.unix_timestamp() - present.this_update;
        if expected == present.serials && (0..REFRESH.whole_seconds()).contains(&age) {
            return Ok(false);
        }
    }
    write(authority, revoked, path, now)?;
    Ok(true)
}

fn present(path: &Path) -> Result<Option<Present>, CrlError> {
    let text = match files::read_text(path, MAX_FILE) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let fail = || CrlError::NotACrl {
        path: path.to_owned(),
    };
    let der = pem_block::single(&text, pem_block::REVOCATION_LIST).map_err(|_| fail())?;
    let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| fail())?;
    let mut serials: Vec<_> = list
        .iter_revoked_certificates()
        .map(|revoked| revoked.serial().to_bytes_be())
        .collect();
    serials.sort_unstable();
    let digits = list
        .crl_number()
        .map(x509_parser::num_bigint::BigUint::to_u64_digits)
        .unwrap_or_default();
    // Another number is not one of ours; the clock's has to do.
    let number = match digits.as_slice() {
        [number] => *number,
        [..] => 0,
    };
    Ok(Some(Present {
        number,
        this_update: list.last_update().timestamp(),
        serials,
    }))
}

fn octets(serial: &str) -> Result<Vec<u8>, CrlError> {
    let fail = || CrlError::Serial(serial.chars().take(80).collect());
    if serial.is_empty() || !serial.len().is_multiple_of(2) {
        return Err(fail());
    }
    (0..serial.len())
        .step_by(2)
        .map(|at| {
            let digits = serial.get(at..at + 2).ok_or_else(fail)?;
            u8::from_str_radix(digits, 16).map_err(|_| fail())
        })
        .collect()
}

/// The list names the authority's key as the authority's certificate does, or verifiers would not find the one for the
/// other.
fn key_identifier(authority: &Authority) -> KeyIdMethod {
    let der = pem_block::single(authority.certificate_pem(), pem_block::CERTIFICATE);
    let found = der.ok().and_then(|der| {
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        certificate.iter_extensions().find_map(|extension| {
            if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
                Some(id.0.to_vec())
            } else {
                None
            }
        })
    });
    found.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
}

impl CrlError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(source) => source.hint(),
            Self::NotACrl { path } => Some(format!(
                "remove `{}`; the next one is made of `{}`",
                path.display(),
                enrollment::revoked::REVOKED_FILE
            )),
            Self::Serial(_) => Some(format!(
                "mend `{}`: a serial number has an even number of hexadecimal digits",
                enrollment::revoked::REVOKED_FILE
            )),
            Self::Sign(_) => None,
        }
    }
}

/// How long a list is good. Verifiers such as OpenSSL refuse everybody after its end, and a fleet that nobody can reach
/// any more is worse than a list that is some weeks old on a broker elsewhere: long enough for somebody to notice that
/// the signer does not run.
pub const LIFE: Duration = Duration::days(90);

/// How old a list becomes before a running signer makes the next.
pub const REFRESH: Duration = Duration::days(1);

/// How far a list's start lies in the past, for verifiers whose clock is slow by less; as for certificates.
const BACKDATED: Duration = Duration::hours(1);

/// The largest list, in bytes: 16,000 certificates of 40 bytes each, in PEM.
const MAX_FILE: usize = 1024 * 1024;
