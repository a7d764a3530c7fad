//! The device's side of enrollment: make what is missing, hand it in, wait for the certificate, install it.

mod error;
mod exchange;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use daemon::device_dir::DeviceDir;
use daemon::files::{self, FileError};
use protocol::{ClientIdSuffix, DeviceId};
use rcgen::{KeyPair, PublicKeyData};

use crate::certificate_check::{CertificateError, Expected};
use crate::ssh_key;
use crate::x509_key::{self, X509KeyError};
use crate::{CheckedCertificate, Kind, Registry, Title};

pub use self::error::EnrollError;
use self::exchange::{Awaited, HandedIn};

/// One device's enrollment. It can be run again at any time, and after any interruption: what is there and good is
/// kept, what is missing is made.
#[derive(Clone, Debug)]
pub struct Enrollment {
    directory: DeviceDir,
    id: DeviceId,
    suffix: ClientIdSuffix,
    authority: Option<String>,
    deadline: Duration,
    replace: bool,
    renew: bool,
}

/// What has happened so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both private keys are there.
    KeysReady {
        /// Whether one of them had to be made.
        made: bool,
    },
    /// An entry is in the registry.
    Uploaded {
        /// Its title.
        title: Title,
        /// Whether it was put there now; `false` if it was there already.
        now: bool,
    },
    /// The signer has not answered yet. Comes with every look into the registry.
    Waiting {
        /// Since the wait began: nothing at the first look.
        so_far: Duration,
    },
    /// The signer has taken up the request. Comes before its answer, and long before when that takes a while.
    Seen,
    /// The signer's certificate has been found and passed its check.
    Signed,
    /// The certificate is in its file.
    Installed,
}

/// A device that can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The last moment at which its certificate is valid.
    pub not_after: SystemTime,
    /// Whether the certificate was installed now; `false` if it was there already.
    pub now: bool,
}

/// A certificate that passed its check, and the file of the key that it is for.
#[derive(Clone, Debug)]
pub struct Obtained {
    certificate: CheckedCertificate,
    key_file: PathBuf,
    now: bool,
}

impl Obtained {
    /// The certificate.
    pub fn certificate(&self) -> &CheckedCertificate {
        &self.certificate
    }

    /// The file of its key.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Whether it is new; `false` if it was installed already.
    pub fn is_new(&self) -> bool {
        self.now
    }
}

impl Enrollment {
    /// An enrollment of this device, whose identity lies in this directory, in the realm whose authority has this
    /// certificate (PEM).
    pub fn new(
        directory: DeviceDir,
        id: DeviceId,
        suffix: ClientIdSuffix,
        authority: impl Into<String>,
    ) -> Self {
        Self {
            directory,
            id,
            suffix,
            authority: Some(authority.into()),
            deadline: DEADLINE,
            replace: false,
            renew: false,
        }
    }

    /// In a realm whose authority shows its certificate to nobody, as AWS IoT Core does.
    #[must_use]
    pub fn without_authority(self) -> Self {
        Self {
            authority: None,
            ..self
        }
    }

    /// Waits this long for the signer, instead of [`DEADLINE`].
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Takes the name over from a computer that has enrolled under it before.
    #[must_use]
    pub fn replacing(self) -> Self {
        Self {
            replace: true,
            ..self
        }
    }

    /// Gets a new key and a certificate for it, while the old ones stay in use until [`install`](Self::install). A renewal
    /// that was interrupted goes on where it was.
    #[must_use]
    pub fn renewing(self) -> Self {
        Self {
            renew: true,
            ..self
        }
    }

    /// Runs the enrollment; `on_event` is told of each step.
    pub async fn run(
        &self,
        registry: &impl Registry,
        mut on_event: impl FnMut(Event) + Send,
    ) -> Result<Enrolled, EnrollError> {
        let obtained = self.obtain(registry, &mut on_event).await?;
        self.install(obtained, on_event)
    }

    /// Runs the enrollment up to a certificate, which is not installed yet.
    pub async fn obtain(
        &self,
        registry: &impl Registry,
        mut on_event: impl FnMut(Event) + Send,
    ) -> Result<Obtained, EnrollError> {
        self.finish_renewal()?;
        let ssh_file = self.directory.ssh_key(&self.id);
        let key_file = if self.renew {
            self.directory.next_x509_key(&self.id)
        } else {
            self.directory.x509_key(&self.id)
        };
        let made = !(ssh_file.exists() && key_file.exists());
        let private = ssh_key::load_or_create(&ssh_file, &self.id.to_string())?;
        let key = x509_key::load_or_create(&key_file)?;
        on_event(Event::KeysReady { made });

        let line = ssh_key::public_line(&private)?;
        let (ssh_key, now) = self.upload_ssh_key(registry, &line).await?;
        on_event(Event::Uploaded {
            title: self.title(Kind::SshPublicKey),
            now,
        });

        if !self.renew
            && let Some(certificate) = self.installed(&key)?
        {
            return Ok(Obtained {
                certificate,
                key_file,
                now: false,
            });
        }
        let certificate = match self.handed_in(registry, &key).await? {
            HandedIn::Signed(certificate) => certificate,
            HandedIn::Requested {
                revision,
                now,
                stale,
            } => {
                on_event(Event::Uploaded {
                    title: self.title(Kind::CertificateRequest),
                    now,
                });
                let awaited = Awaited {
                    request: &revision,
                    ssh_key: &ssh_key,
                    stale: stale.as_deref(),
                };
                self.signed(registry, &key, awaited, &mut on_event).await?
            }
        };
        on_event(Event::Signed);
        Ok(Obtained {
            certificate,
            key_file,
            now: true,
        })
    }

    /// Puts a certificate that was obtained into its place. For a renewal this is the moment from which the new one is in
    /// use: whoever reads the certificate finds its key under one of two names (see [`daemon::identity`]).
    pub fn install(
        &self,
        obtained: Obtained,
        mut on_event: impl FnMut(Event) + Send,
    ) -> Result<Enrolled, EnrollError> {
        let Obtained {
            certificate, now, ..
        } = obtained;
        if now {
            files::write_public(
                &self.directory.x509_certificate(&self.id),
                certificate.pem().as_bytes(),
            )?;
            self.finish_renewal()?;
            on_event(Event::Installed);
        }
        Ok(Enrolled {
            not_after: certificate.not_after(),
            now,
        })
    }

    /// Gives the key of a renewal its final name, if its certificate is installed: a renewal may have been cut between the
    /// two.
    fn finish_renewal(&self) -> Result<(), EnrollError> {
        let next = self.directory.next_x509_key(&self.id);
        let key = match x509_key::load(&next) {
            Ok(key) => key,
            Err(X509KeyError::File(error)) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let certificate = self.directory.x509_certificate(&self.id);
        let installed = match files::read_text(&certificate, Kind::Certificate.max_body()) {
            Ok(pem) => pem,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Faults that are looked for after the key are beside the point.
        if matches!(
            self.check(&installed, &key),
            Err(CertificateError::Key
                | CertificateError::TooLong
                | CertificateError::Pem(_)
                | CertificateError::Malformed)
        ) {
            return Ok(());
        }
        let path = self.directory.x509_key(&self.id);
        std::fs::rename(&next, &path).map_err(|source| FileError::Write { path, source }.into())
    }

    /// The certificate in its file, if it is good for some time to come.
    fn installed(&self, key: &KeyPair) -> Result<Option<CheckedCertificate>, EnrollError> {
        match files::read_text(
            &self.directory.x509_certificate(&self.id),
            Kind::Certificate.max_body(),
        ) {
            // One that is not good is replaced; there is nothing in it to lose.
            Ok(pem) => Ok(self.check(&pem, key).ok().filter(is_lasting)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn check(&self, pem: &str, key: &KeyPair) -> Result<CheckedCertificate, CertificateError> {
        let expected = Expected {
            id: &self.id,
            suffix: &self.suffix,
            public_key: &key.subject_public_key_info(),
            authority: self.authority.as_deref(),
        };
        CheckedCertificate::check(pem, &expected, SystemTime::now())
    }

    fn title(&self, kind: Kind) -> Title {
        Title::new(self.id.clone(), kind)
    }
}

fn is_lasting(certificate: &CheckedCertificate) -> bool {
    !certificate.is_nearly_over(SystemTime::now())
}

/// How long to wait for the signer unless told otherwise: it looks every second at a directory and every minute at a
/// repository, and a person who has to approve may be at lunch.
pub const DEADLINE: Duration = Duration::from_hours(1);
