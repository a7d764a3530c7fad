//! What an enrolling device puts into the registry, and what it waits for there.

use std::time::Duration;

use daemon::report::one_line;
use rcgen::KeyPair;
use tokio::time::{Instant, sleep};

use super::{EnrollError, Enrollment, Event, is_lasting};
use crate::certificate_check::CertificateError;
use crate::registry::within_limit;
use crate::{CheckedCertificate, DeviceKey, Kind, Registry, RegistryError, Revision, csr};

/// What the registry holds for us.
#[derive(Debug)]
pub(super) enum HandedIn {
    /// A certificate that is good for some time to come.
    Signed(CheckedCertificate),
    /// A request, and what lies under the certificate's title until the answer to it comes.
    Requested {
        revision: Revision,
        now: bool,
        stale: Option<String>,
    },
}

impl Enrollment {
    /// Puts our key into the registry. Returns whether it was not there before.
    pub(super) async fn upload_ssh_key(
        &self,
        registry: &impl Registry,
        line: &str,
    ) -> Result<bool, EnrollError> {
        let title = self.title(Kind::SshPublicKey);
        let parsed = |body: &str| DeviceKey::parse(&self.id, body).ok();
        let found = within_limit(registry.get(&title)).await?;
        // What nobody can use as a key takes no name.
        let found = found.and_then(|entry| parsed(&entry.body.ok()?));
        if found.is_some() && found == parsed(line) {
            return Ok(false);
        }
        if found.is_some() && !self.replace {
            return Err(EnrollError::NameTaken { title });
        }
        within_limit(registry.put(&title, line)).await?;
        Ok(true)
    }

    /// Finds our certificate in the registry, or our request, or puts a request there.
    pub(super) async fn handed_in(
        &self,
        registry: &impl Registry,
        key: &KeyPair,
    ) -> Result<HandedIn, EnrollError> {
        let title = self.title(Kind::CertificateRequest);
        // The request before the certificate: if the signer turns one into the other meanwhile, one of them is seen.
        let request = within_limit(registry.get(&title)).await?;
        let stale = self.certificate(registry).await?;
        if let Some(pem) = &stale
            && let Some(certificate) = self.check(pem, key).ok().filter(is_lasting)
        {
            return Ok(HandedIn::Signed(certificate));
        }
        if let Some(entry) = request {
            let ours = entry
                .body
                .is_ok_and(|body| csr::is_ours(&body, key, &self.id, &self.suffix));
            let revision = entry.revision;
            // A refused request is made again: what it was refused for may have been mended by the administrator.
            if ours
                && within_limit(registry.refusal(&title, &revision))
                    .await?
                    .is_none()
            {
                return Ok(HandedIn::Requested {
                    revision,
                    now: false,
                    stale,
                });
            }
        }
        let request = csr::create(key, &self.id, &self.suffix)?;
        let revision = within_limit(registry.put(&title, &request)).await?;
        Ok(HandedIn::Requested {
            revision,
            now: true,
            stale,
        })
    }

    /// Waits for the signer's answer to this request.
    pub(super) async fn signed(
        &self,
        registry: &impl Registry,
        key: &KeyPair,
        revision: &Revision,
        stale: Option<&str>,
        on_event: &mut (impl FnMut(Event) + Send),
    ) -> Result<CheckedCertificate, EnrollError> {
        let title = self.title(Kind::CertificateRequest);
        let mut start: Option<Instant> = None;
        let mut seen = false;
        loop {
            if let Some(pem) = patiently(self.certificate(registry).await)?
                && stale != Some(pem.as_str())
            {
                match self.check(&pem, key) {
                    Ok(certificate) => {
                        // What is answered has been seen.
                        if !seen {
                            on_event(Event::Seen);
                        }
                        return Ok(certificate);
                    }
                    // One for a key that we had before, put there by somebody slower than we.
                    Err(CertificateError::Key) => {}
                    Err(source) => {
                        let title = self.title(Kind::Certificate);
                        return Err(EnrollError::Certificate { title, source });
                    }
                }
            }
            let refusal = within_limit(registry.refusal(&title, revision)).await;
            if let Some(refusal) = patiently(refusal)? {
                if !seen {
                    on_event(Event::Seen);
                }
                return Err(EnrollError::Refused { title, refusal });
            }
            if !seen && self.is_seen(registry, revision).await {
                seen = true;
                on_event(Event::Seen);
            }
            // Nothing at the first look.
            let so_far = start.map_or(Duration::ZERO, |start| start.elapsed());
            start.get_or_insert_with(Instant::now);
            if so_far >= self.deadline {
                return Err(EnrollError::TimedOut {
                    title,
                    limit: self.deadline,
                });
            }
            on_event(Event::Waiting { so_far });
            sleep(
                registry
                    .poll_interval()
                    .min(self.deadline.saturating_sub(so_far)),
            )
            .await;
        }
    }

    /// A look that fails shows nothing: the answer itself is what is waited for.
    async fn is_seen(&self, registry: &impl Registry, revision: &Revision) -> bool {
        let title = self.title(Kind::CertificateRequest);
        let seen = within_limit(registry.is_seen(&title, revision)).await;
        seen.unwrap_or_else(|error| {
            let error = one_line(&error);
            tracing::debug!(error, "cannot look whether the request has been seen");
            false
        })
    }

    async fn certificate(&self, registry: &impl Registry) -> Result<Option<String>, RegistryError> {
        let found = within_limit(registry.get(&self.title(Kind::Certificate))).await?;
        Ok(found.and_then(|entry| entry.body.ok()))
    }
}

/// What a look brought; nothing if it failed for a reason that passes: who waits for an answer can wait for that too.
fn patiently<T>(found: Result<Option<T>, RegistryError>) -> Result<Option<T>, RegistryError> {
    match found {
        Err(error) if error.is_passing() => {
            tracing::warn!(error = one_line(&error), "cannot look into the registry");
            Ok(None)
        }
        found => found,
    }
}
