//! From a request to an active certificate, so that an interruption anywhere never makes two.

use std::sync::Arc;
use std::time::Duration;

use enrollment::{Revision, Title};
use rcgen::PublicKeyData;
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::account::{Content, content};
use super::calls::{Made, Status};
use super::{Aws, AwsError, intent};
use crate::journal::{AwsCertificate, Record};
use crate::run::{Answer, Bench};
use crate::{AcceptedRequest, Issued, SignError};

/// What the journal has for a request, or a new certificate.
pub(crate) async fn record(
    aws: &Aws,
    bench: &Arc<Bench>,
    request: AcceptedRequest,
    title: Title,
    body: String,
) -> Result<Answer, SignError> {
    let work = Work {
        aws,
        bench,
        title,
        body,
    };
    timeout(ISSUE_LIMIT, work.record(request))
        .await
        .unwrap_or_else(|_| {
            Err(SignError::Aws(AwsError::TimedOut {
                action: "CreateCertificateFromCsr",
                limit: ISSUE_LIMIT,
            }))
        })
}

struct Work<'a> {
    aws: &'a Aws,
    bench: &'a Arc<Bench>,
    title: Title,
    body: String,
}

impl Work<'_> {
    async fn record(&self, request: AcceptedRequest) -> Result<Answer, SignError> {
        // Nothing is revoked until it is dropped; the limit of the whole is that of whoever waits for it.
        let held = self
            .blocking(|bench, _, _| Ok(bench.revocations.hold_shared()?))
            .await?;
        let request = match request.unless_revoked(&held.revoked) {
            Ok(request) => request,
            Err(refusal) => return Ok(Answer::Refuse(refusal)),
        };
        let found = self
            .blocking(|bench, title, body| Ok(bench.journal.find(title, body)?))
            .await?;
        let (record, new) = match found {
            Some(record) => (record, false),
            None => (self.make(&request).await?, true),
        };
        let Some(certificate) = record.aws.clone().filter(|certificate| !certificate.active) else {
            return Ok(Answer::Record(record, new));
        };
        let policy = self.aws.policy(request.id());
        self.aws.attach_policy(policy, &certificate.arn).await?;
        self.aws.update(&certificate.id, "ACTIVE").await?;
        let record = self
            .blocking(move |bench, title, body| {
                Ok(bench.journal.activated(title, body, &record)?)
            })
            .await?;
        Ok(Answer::Record(record, new))
    }

    /// A certificate that is in the journal and not active yet.
    async fn make(&self, request: &AcceptedRequest) -> Result<Record, SignError> {
        let left = self
            .blocking(|bench, title, body| Ok(intent::left(&bench.journal, title, body)?))
            .await?;
        let adopted = if let Some(left) = left {
            self.adopted(request, left.since).await?
        } else {
            self.blocking(|bench, title, body| {
                let now = OffsetDateTime::now_utc();
                Ok(intent::write(&bench.journal, title, body, now)?)
            })
            .await?;
            None
        };
        let (made, content) = match adopted {
            Some(adopted) => adopted,
            None => self.created(request).await?,
        };
        self.blocking(move |bench, title, body| {
            let issued = Issued {
                certificate_pem: made.certificate_pem,
                serial: content.serial,
                not_after: content.not_after,
            };
            let certificate = AwsCertificate {
                id: made.certificate_id,
                arn: made.certificate_arn,
                active: false,
            };
            let record = bench
                .journal
                .record_aws(title, body, &issued, certificate)?;
            intent::forget(&bench.journal, title, body)?;
            Ok(record)
        })
        .await
    }

    async fn created(&self, request: &AcceptedRequest) -> Result<(Made, Content), SignError> {
        let made = self.aws.create(self.body.trim()).await?;
        match self.content_for(request, &made.certificate_pem) {
            Some(content) => Ok((made, content)),
            None => Err(AwsError::Certificate {
                id: made.certificate_id,
            }
            .into()),
        }
    }

    /// The certificate that an earlier run has made for this request and not written down. If it was repeated, there are
    /// several: the newest is taken, and the others are revoked, which never were active.
    async fn adopted(
        &self,
        request: &AcceptedRequest,
        since: i64,
    ) -> Result<Option<(Made, Content)>, SignError> {
        // A moment before 1970 or after 2106 is none: then all are looked at.
        let since = u32::try_from(since.saturating_sub(CLOCK_SKEW)).map_or(0.0, f64::from);
        let known = self
            .blocking(|bench, _, _| Ok(bench.journal.aws_certificates()?))
            .await?;
        let mut adopted = None;
        for listed in self.aws.listed(Some(since)).await? {
            if listed.status != Status::Inactive || known.contains(&listed.certificate_id) {
                continue;
            }
            let certificate_pem = self.aws.describe(&listed.certificate_id).await?;
            let Some(content) = self.content_for(request, &certificate_pem) else {
                continue;
            };
            let (device, certificate) = (request.id(), listed.certificate_id);
            if adopted.is_some() {
                tracing::warn!(%device, certificate, "a certificate that was made twice is revoked");
                self.aws.update(&certificate, "REVOKED").await?;
                continue;
            }
            tracing::warn!(%device, certificate, "goes on with a certificate that was made before an interruption");
            let made = Made {
                certificate_arn: listed.certificate_arn,
                certificate_id: certificate,
                certificate_pem,
            };
            adopted = Some((made, content));
        }
        Ok(adopted)
    }

    /// What a certificate says, if it is for this request's key and name.
    fn content_for(&self, request: &AcceptedRequest, pem: &str) -> Option<Content> {
        let key = Revision::of_bytes(&request.public_key().subject_public_key_info()).to_string();
        content(pem, self.aws.realm(), &self.aws.suffix)
            .filter(|content| content.id == *request.id() && content.key == key)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Bench, &Title, &str) -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, SignError> {
        let (bench, title, body) = (
            Arc::clone(self.bench),
            self.title.clone(),
            self.body.clone(),
        );
        spawn_blocking(move || work(&bench, &title, &body))
            .await
            .map_err(|_| SignError::Cut)?
    }
}

/// How long all calls for one request may take together, and so how long a revocation may have to wait.
const ISSUE_LIMIT: Duration = Duration::from_mins(2);

/// How far the clock of this computer may be from that of AWS, in seconds: calls that are five minutes off are refused.
const CLOCK_SKEW: i64 = 10 * 60;
