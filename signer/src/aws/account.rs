//! What an account has: all its certificates, and whose they are.

use std::collections::HashMap;

use enrollment::{Revision, pem_block, subject};
use protocol::{ClientIdSuffix, DeviceId, Label};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::calls::{Listed, Status, hex};
use super::{Aws, AwsError};
use crate::journal::Record;

/// A certificate of a device of this realm.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) arn: String,
    pub(super) certificate_id: String,
    pub(super) status: Status,
    pub(super) certificate_pem: String,
    pub(super) content: Content,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) id: DeviceId,
    /// Hexadecimal.
    pub(super) serial: String,
    pub(super) not_after: OffsetDateTime,
    /// The SHA-256 of the public key, as the list of what is revoked has it.
    pub(super) key: String,
}

impl Aws {
    /// Every certificate of the account, or those made since a moment, over all pages.
    pub(super) async fn listed(&self, since: Option<f64>) -> Result<Vec<Listed>, AwsError> {
        let mut all: Vec<Listed> = Vec::new();
        let mut marker = None;
        loop {
            let (mut page, next) = self.page(marker.as_deref()).await?;
            if let Some(since) = since {
                page.retain(|listed| listed.creation_date >= since);
                // The newest come first: behind a page of old ones there are only older ones.
                if page.is_empty() {
                    return Ok(all);
                }
            }
            all.append(&mut page);
            if all.len() > MAX_CERTIFICATES {
                return Err(AwsError::TooMany {
                    limit: MAX_CERTIFICATES,
                });
            }
            match next {
                Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
                Some(_) | None => return Ok(all),
            }
        }
    }

    /// The certificates of this realm's devices, those of other programs too. The text of those in the journal is known;
    /// AWS is asked for that of the others, one by one.
    pub(super) async fn of_this_realm(&self, records: &[Record]) -> Result<Vec<Held>, AwsError> {
        let known: HashMap<&str, &str> = records
            .iter()
            .filter_map(|record| {
                Some((
                    record.aws.as_ref()?.id.as_str(),
                    record.certificate.as_str(),
                ))
            })
            .collect();
        let mut held = Vec::new();
        for listed in self.listed(None).await? {
            let certificate_pem = match known.get(listed.certificate_id.as_str()) {
                Some(text) => (*text).to_owned(),
                None => self.describe(&listed.certificate_id).await?,
            };
            if let Some(content) = content(&certificate_pem, self.realm(), &self.suffix) {
                held.push(Held {
                    arn: listed.certificate_arn,
                    certificate_id: listed.certificate_id,
                    status: listed.status,
                    certificate_pem,
                    content,
                });
            }
        }
        Ok(held)
    }
}

/// What a certificate says, if it is one of a device of this realm: an account has certificates of other things too.
pub(super) fn content(pem: &str, realm: &Label, suffix: &ClientIdSuffix) -> Option<Content> {
    let der = pem_block::single(pem, pem_block::CERTIFICATE).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    let id = suffix.device_id(name).ok()?;
    if id.realm() != realm || !subject::is_of(certificate.subject(), &id, suffix) {
        return None;
    }
    let serial = certificate.raw_serial();
    // The sign octet is no part of the number, as `openssl x509 -serial` shows it.
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    Some(Content {
        id,
        serial: serial.iter().flat_map(|octet| hex(*octet)).collect(),
        not_after: certificate.validity().not_after.to_datetime(),
        key: Revision::of_bytes(certificate.public_key().raw).to_string(),
    })
}

/// The most certificates that are looked at: each one that is not ours costs a call, of which AWS permits ten a second.
const MAX_CERTIFICATES: usize = 20_000;
