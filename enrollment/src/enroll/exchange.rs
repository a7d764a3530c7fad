//! What an enrolling device puts into the registry, and what it waits for there.

use std::time::Duration;

use daemon::report::one_line;
use rcgen::KeyPair;
use tokio::time::{Instant, sleep};

use super::{EnrollError, Enrollment, Event, is_lasting};
use crate::certificate_check::CertificateError;
use crate::registry::{within, within_limit};
use crate::{
    BodyFault, CheckedCertificate, DeviceKey, Kind, Registry, RegistryError, Revision, csr,
};

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

/// What was handed in and waits for its answer, and what lies under the certificate's title until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited<'a> {
    pub(super) request: &'a Revision,
    pub(super) ssh_key: &'a Revision,
    pub(super) stale: Option<&'a str>,
}

impl Enrollment {
    /// Puts our key into the registry. Returns which entry it is, and whether it was not there before.
    pub(super) async fn upload_ssh_key(
        &self,
        registry: &impl Registry,
        line: &str,
    ) -> Result<(Revision, bool), EnrollError> {
        let title = self.title(Kind::SshPublicKey);
        let parsed = |body: &str| DeviceKey::parse(&self.id, body).ok();
        // The first look, which may have to read all there is.
        if let Some(entry) = within(self.deadline, || registry.get(&title)).await?
            && let Some(key) = entry.body.as_deref().ok().and_then(parsed)
        {
            let is_ours = within_limit(registry.replaces(&entry)).await?;
            if Some(key) != parsed(line) {
                // Anybody can open an issue under any name, and takes nothing by it as long as nobody has signed for them.
                if !self.replace && (is_ours || self.certificate(registry).await?.is_some()) {
                    return Err(EnrollError::NameTaken { title });
                }
                if !is_ours {
                    let author = &entry.author;
                    tracing::warn!(%title, %author, "somebody else's key lies under this name too, and no certificate for it");
                }
            } else if is_ours
                && within_limit(registry.refusal(&title, &entry.revision))
                    .await?
                    .is_none()
            {
                return Ok((entry.revision, false));
            }
            // What was refused is handed in again: the reason may have been mended.
        }
        let revision = within_limit(registry.put(&title, line)).await?;
        Ok((revision, true))
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
        let stale = self.certificate(registry).await?.and_then(Result::ok);
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

    /// Waits for the signer's answer to what was handed in.
    pub(super) async fn signed(
        &self,
        registry: &impl Registry,
        key: &KeyPair,
        awaited: Awaited<'_>,
        on_event: &mut (impl FnMut(Event) + Send),
    ) -> Result<CheckedCertificate, EnrollError> {
        let Awaited {
            request: revision,
            ssh_key,
            stale,
        } = awaited;
        let title = self.title(Kind::CertificateRequest);
        let mut start: Option<Instant> = None;
        let (mut seen, mut useless, mut forged) = (false, None, None);
        loop {
            let found = patiently(self.certificate(registry).await)?;
            if let Some(Err(fault)) = &found {
                self.tell_useless(&mut useless, &fault.to_string());
            }
            if let Some(Ok(pem)) = found
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
                    // Anybody who can write to a directory can put one there.
                    Err(error) if error.is_nobodys() => {
                        self.tell_useless(&mut useless, &one_line(&error));
                        forged = Some(error);
                    }
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
            let key_title = self.title(Kind::SshPublicKey);
            let refusal = within_limit(registry.refusal(&key_title, ssh_key)).await;
            if let Some(refusal) = patiently(refusal)? {
                let title = key_title;
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
                // It may be our copy of the realm's file that is wrong.
                if let Some(source) = forged {
                    let title = self.title(Kind::Certificate);
                    return Err(EnrollError::Certificate { title, source });
                }
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

    async fn certificate(
        &self,
        registry: &impl Registry,
    ) -> Result<Option<Result<String, BodyFault>>, RegistryError> {
        let found = within_limit(registry.get(&self.title(Kind::Certificate))).await?;
        Ok(found.map(|entry| entry.body))
    }

    /// Says once why what lies under the certificate's title is not the one that is waited for.
    fn tell_useless(&self, told: &mut Option<String>, reason: &str) {
        if told.as_deref() != Some(reason) {
            let title = self.title(Kind::Certificate);
            tracing::warn!(%title, reason, "a certificate is ignored");
            *told = Some(reason.to_owned());
        }
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
