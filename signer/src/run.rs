//! The signer at work: looks into the registry, signs or refuses, and looks again.

use std::sync::Arc;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::realm_dir::RealmDir;
use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use enrollment::registry::{within, within_limit};
use enrollment::{Entry, Kind, Refusal, Registry, RegistryError, Title, UploadPermission};
use protocol::ClientIdSuffix;
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::journal::{Journal, Record};
use crate::turn::{Courtesy, Turn, in_turn};
use crate::vitals::Vitals;
use crate::{
    AcceptedRequest, CLIENT_DAYS, IssueError, JournalError, RequestRefusal, RevocationError,
    Revocations, Rules, Signatory,
};
use crate::{misnamed, unusable_keys, waiting, withdrawal};

/// A realm's signer.
#[derive(Clone, Debug)]
pub struct Signer {
    bench: Arc<Bench>,
    rules: Arc<Rules>,
    days: u16,
    every: Option<Duration>,
    vitals: Vitals,
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate was issued and handed out.
    Signed {
        /// Its serial number, hexadecimal.
        serial: String,
    },
    /// A certificate that had been issued before was handed out, after an interruption.
    HandedOut {
        /// Its serial number, hexadecimal.
        serial: String,
    },
    /// It was refused now.
    Refused(Refusal),
    /// It was refused before, and nothing has changed.
    StillRefused,
    /// Nobody has decided yet whether its author may. It will be asked again.
    Undecided,
    /// It could not be dealt with, for a reason that lies on our side; the log says which. It will be tried again.
    Failed,
}

/// Why a request could not be dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// AWS IoT Core could not sign.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Aws(#[from] crate::AwsError),
    /// The signing was given up because its task died.
    #[error("the signing was cut short")]
    Cut,
    /// The authority could not sign.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The registry could not be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is not known what is revoked, or the revocation list cannot be made.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
}

impl SignError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(source) => source.hint(),
            Self::Journal(source) => source.hint(),
            Self::Registry(source) => source.hint(),
            Self::Revocation(source) => source.hint(),
            Self::Cut | Self::Issue(_) => None,
        }
    }
}

/// What signs and remembers; its work blocks.
#[derive(Debug)]
pub(crate) struct Bench {
    signatory: Signatory,
    pub(crate) journal: Journal,
    pub(crate) revocations: Revocations,
}

/// What the bench has for a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A record, and whether it is new.
    Record(Record, bool),
    Refuse(RequestRefusal),
}

impl Signer {
    /// A signer with this authority, for this authority's realm, whose journal and revocations are in this directory.
    pub fn new(
        signatory: impl Into<Signatory>,
        suffix: ClientIdSuffix,
        permission: UploadPermission,
        directory: &RealmDir,
    ) -> Result<Self, JournalError> {
        let signatory = signatory.into();
        let realm = signatory.realm().clone();
        Ok(Self {
            bench: Arc::new(Bench {
                signatory,
                journal: Journal::open(&directory.signer())?,
                revocations: Revocations::new(directory.clone()),
            }),
            rules: Arc::new(Rules {
                realm,
                suffix,
                permission,
            }),
            days: CLIENT_DAYS,
            every: None,
            vitals: Vitals::default(),
        })
    }

    /// Looks this often, instead of as often as the registry may be asked.
    #[must_use]
    pub fn with_interval(self, every: Option<Duration>) -> Self {
        Self { every, ..self }
    }

    /// Gives certificates this life, instead of [`CLIENT_DAYS`].
    #[must_use]
    pub fn with_days(self, days: u16) -> Self {
        Self { days, ..self }
    }

    /// What it says of itself to a monitor.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// Looks whether it can sign, as far as that can be seen without a request.
    pub async fn ready(&self) -> Result<(), SignError> {
        self.bench.signatory.ready().await
    }

    /// Deals with requests until the shutdown is requested. A request in work is finished first.
    pub async fn run(&self, registry: &impl Registry, shutdown: &Shutdown) {
        let interval = self.every.unwrap_or_else(|| registry.poll_interval());
        let mut backoff = Backoff::new(interval, MAX_PAUSE.max(interval));
        let mut look_at_list = Instant::now();
        let mut look_at_others = Instant::now();
        let mut courtesy = Courtesy::new();
        loop {
            if look_at_list <= Instant::now() {
                self.refresh_list_or_warn().await;
                look_at_list = Instant::now() + LIST_INTERVAL;
            }
            let others = look_at_others <= Instant::now();
            if others {
                look_at_others = Instant::now() + OTHERS_INTERVAL;
            }
            courtesy.renew();
            let pass = self.pass(registry, Some(shutdown), others, &mut courtesy);
            let well = match pass.await {
                Ok(outcomes) => {
                    self.vitals
                        .looked(outcomes.iter().map(|(_, outcome)| outcome));
                    !outcomes
                        .iter()
                        .any(|(_, outcome)| *outcome == Outcome::Failed)
                }
                Err(error) => {
                    let error = one_line(&error);
                    tracing::warn!(error, "cannot read the registry");
                    self.vitals.failed(error);
                    false
                }
            };
            let pause = if well {
                backoff.reset();
                interval
            } else {
                interval + backoff.next_delay()
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Deals with the requests that are there now. An error is one of the registry as a whole: what is wrong with one
    /// request never stops the others.
    pub async fn once(
        &self,
        registry: &impl Registry,
    ) -> Result<Vec<(Title, Outcome)>, RegistryError> {
        self.refresh_list_or_warn().await;
        self.pass(registry, None, true, &mut Courtesy::new()).await
    }

    /// Makes a new revocation list when it is time for one. Requests are served without it too: those who verify with the old
    /// list do so as before.
    pub async fn refresh_list_or_warn(&self) {
        let authority = match &self.bench.signatory {
            Signatory::Realm(authority) => Arc::clone(authority),
            // Its broker knows what is revoked, and there is no list.
            #[cfg(feature = "aws")]
            Signatory::Aws(_) => return,
        };
        let bench = Arc::clone(&self.bench);
        let work = spawn_blocking(move || {
            let now = OffsetDateTime::now_utc();
            bench.revocations.refresh(&authority, now)
        });
        let refreshed = match work.await {
            Ok(refreshed) => refreshed.map_err(SignError::from),
            Err(_) => Err(SignError::Cut),
        };
        match refreshed {
            Ok(true) => tracing::info!("a new revocation list has been written"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = one_line(&error), "cannot write the revocation list");
            }
        }
    }

    async fn pass(
        &self,
        registry: &impl Registry,
        shutdown: Option<&Shutdown>,
        others: bool,
        courtesy: &mut Courtesy,
    ) -> Result<Vec<(Title, Outcome)>, RegistryError> {
        // A service that is asked to end must not be held up; it goes on at its next look.
        let patience = shutdown.map_or(FIRST_LOOK, |_| Duration::ZERO);
        let entries = within(patience, || registry.list(Kind::CertificateRequest)).await?;
        let rules = Arc::clone(&self.rules);
        let turns = spawn_blocking(move || in_turn(&rules, entries))
            .await
            .map_err(|_| RegistryError::Cut)?;
        let mut outcomes = Vec::with_capacity(turns.len());
        for Turn {
            entry,
            is_strangers,
        } in turns
        {
            let enough = is_strangers && courtesy.is_over();
            if enough || shutdown.is_some_and(Shutdown::is_requested) {
                break;
            }
            let outcome = self.answer(registry, &entry, shutdown).await;
            // The others would fail in the same way.
            let limited = matches!(&outcome, Err(SignError::Registry(error)) if error.is_limit());
            let outcome = outcome.unwrap_or_else(|error| {
                let (error, hint) = (one_line(&error), error.hint());
                let hint = hint.as_deref();
                tracing::warn!(device = %entry.title.id(), error, hint, "cannot answer a request");
                Outcome::Failed
            });
            let waits = matches!(outcome, Outcome::Failed | Outcome::Undecided);
            if waits && !limited && !shutdown.is_some_and(Shutdown::is_requested) {
                waiting::mark(registry, &entry).await;
            }
            if is_strangers && outcome != Outcome::StillRefused {
                courtesy.spend();
            }
            outcomes.push((entry.title, outcome));
            if limited {
                return Ok(outcomes);
            }
        }
        self.sweep(registry, courtesy).await;
        if others {
            unusable_keys::refuse(registry, &self.rules, courtesy, shutdown).await;
            misnamed::refuse(registry, courtesy, shutdown).await;
        }
        Ok(outcomes)
    }

    /// While it cannot be read what is revoked nothing is taken out, and nothing is signed either.
    async fn sweep(&self, registry: &impl Registry, courtesy: &mut Courtesy) {
        let bench = Arc::clone(&self.bench);
        match spawn_blocking(move || bench.revocations.current()).await {
            Ok(Ok(revoked)) => withdrawal::sweep(registry, &self.rules, &revoked, courtesy).await,
            Ok(Err(error)) => {
                tracing::warn!(error = one_line(&error), "it is not known what is revoked");
            }
            Err(_) => {}
        }
    }

    async fn answer(
        &self,
        registry: &impl Registry,
        entry: &Entry,
        shutdown: Option<&Shutdown>,
    ) -> Result<Outcome, SignError> {
        if within_limit(registry.refusal(&entry.title, &entry.revision))
            .await?
            .is_some()
        {
            return Ok(Outcome::StillRefused);
        }
        let (rules, checked) = (Arc::clone(&self.rules), entry.clone());
        let check = spawn_blocking(move || rules.check(&checked));
        // The check may have to ask a person, who need not answer before they end the program.
        let checked = tokio::select! {
            checked = waiting::marked(registry, entry, check) => checked.map_err(|_| SignError::Cut)?,
            () = stopped(shutdown) => return Ok(Outcome::Undecided),
            () = too_long(shutdown) => {
                let device = entry.title.id();
                tracing::warn!(%device, author = %entry.author, "nobody has answered yet: the other requests are served");
                return Ok(Outcome::Undecided);
            }
        };
        let (request, body) = match (checked, &entry.body) {
            (Ok(request), Ok(body)) => (request, body.clone()),
            (Err(undecided @ RequestRefusal::Undecided { .. }), _) => {
                tracing::info!("{undecided}");
                return Ok(Outcome::Undecided);
            }
            (Err(refusal), _) => return Self::refuse(registry, entry, &refusal).await,
            // A body with a fault has been refused for it.
            (Ok(_), Err(fault)) => {
                let refusal = RequestRefusal::Body(fault.clone());
                return Self::refuse(registry, entry, &refusal).await;
            }
        };
        let (record, new) = match self.record(request, &entry.title, &body).await? {
            Answer::Record(record, new) => (record, new),
            Answer::Refuse(refusal) => return Self::refuse(registry, entry, &refusal).await,
        };
        let title = Title::new(entry.title.id().clone(), Kind::Certificate);
        if record.delivered {
            let current = within_limit(registry.get(&title)).await?;
            if current.is_none_or(|current| current.body.as_ref() != Ok(&record.certificate)) {
                return Self::refuse(registry, entry, &RequestRefusal::Replayed).await;
            }
        } else {
            within_limit(registry.put(&title, &record.certificate)).await?;
            let (bench, title, record) =
                (Arc::clone(&self.bench), entry.title.clone(), record.clone());
            spawn_blocking(move || bench.journal.delivered(&title, &body, &record))
                .await
                .map_err(|_| SignError::Cut)??;
        }
        within_limit(registry.close(&entry.title, &entry.revision)).await?;
        let (device, serial) = (entry.title.id(), record.serial);
        tracing::info!(%device, serial, author = %entry.author, "certificate handed out");
        Ok(if new {
            Outcome::Signed { serial }
        } else {
            Outcome::HandedOut { serial }
        })
    }

    /// What the journal has for this request, or a new certificate.
    async fn record(
        &self,
        request: AcceptedRequest,
        title: &Title,
        body: &str,
    ) -> Result<Answer, SignError> {
        let (bench, days) = (Arc::clone(&self.bench), self.days);
        let (title, body) = (title.clone(), body.to_owned());
        let authority = match &self.bench.signatory {
            Signatory::Realm(authority) => Arc::clone(authority),
            #[cfg(feature = "aws")]
            Signatory::Aws(aws) => {
                return crate::aws::record(aws, &bench, request, title, body).await;
            }
        };
        let work = spawn_blocking(move || {
            let held = bench.revocations.hold_shared()?;
            let request = match request.unless_revoked(&held.revoked) {
                Ok(request) => request,
                Err(refusal) => return Ok(Answer::Refuse(refusal)),
            };
            if let Some(record) = bench.journal.find(&title, &body)? {
                return Ok(Answer::Record(record, false));
            }
            let issued = authority.issue(&request, days, OffsetDateTime::now_utc())?;
            let record = bench.journal.record(&title, &body, &issued)?;
            Ok(Answer::Record(record, true))
        });
        work.await.map_err(|_| SignError::Cut)?
    }

    async fn refuse(
        registry: &impl Registry,
        entry: &Entry,
        refusal: &RequestRefusal,
    ) -> Result<Outcome, SignError> {
        let device = entry.title.id();
        tracing::warn!(%device, author = %entry.author, reason = one_line(refusal), "request refused");
        let refusal = refusal.refusal();
        within_limit(registry.refuse(&entry.title, &entry.revision, &refusal)).await?;
        Ok(Outcome::Refused(refusal))
    }
}

/// Never completes without a shutdown.
async fn stopped(shutdown: Option<&Shutdown>) {
    match shutdown {
        Some(shutdown) => shutdown.requested().await,
        None => std::future::pending().await,
    }
}

/// Never completes without a shutdown: who runs once is there to answer.
async fn too_long(shutdown: Option<&Shutdown>) {
    match shutdown {
        Some(_) => tokio::time::sleep(ATTENTION).await,
        None => std::future::pending().await,
    }
}

/// How long a run that looks once gives the registry to be read, which of a large repository are many pages.
const FIRST_LOOK: Duration = Duration::from_mins(10);

/// How long all others wait for a person's answer about one. The question stays.
const ATTENTION: Duration = Duration::from_mins(1);

/// How often it is looked for what is no request and does not count, keys and wrong names: in a directory each look reads them
/// all.
const OTHERS_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether the revocation list is still the right one.
const LIST_INTERVAL: Duration = Duration::from_mins(1);

/// The longest pause after failures: an administrator who has mended the disk does not wait longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(30);
