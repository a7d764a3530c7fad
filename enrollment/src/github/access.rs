//! The registry on GitHub: whose issues count, and what is done with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::registry_place::GitHubPlace;
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::error::GitHubError;
use super::issue::{self, Issue, content, number};
use super::session::{RECENT, Session};
use super::token::Token;
use crate::permission::Decision;
use crate::{
    Author, Entry, Kind, Misnamed, Refusal, Registry, RegistryError, Revision, Title,
    UploadPermission,
};

/// A repository's issues as a registry.
///
/// Under one title there may be issues of several authors, and several of one. The newest of a permitted author counts; a
/// certificate counts if one of the realm's signers wrote it. [`list`](Registry::list) also hands out what strangers wrote,
/// beside what counts, so that they can be told; certificates of strangers are never handed out.
#[derive(Clone)]
pub struct GitHub {
    pub(super) place: Arc<GitHubPlace>,
    directory: Arc<PathBuf>,
    // What counts for a device is what its own user wrote.
    pub(super) permission: Option<UploadPermission>,
    // Looked for when it is needed.
    token: Option<Token>,
    session: Arc<OnceCell<Session>>,
    // How old what it says may be.
    age: Duration,
}

/// An issue, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its author's login, in lower case.
    pub login: String,
    /// `OPEN`: what is closed is not listed.
    pub state: &'static str,
    /// When it last changed, ISO 8601.
    pub updated_at: String,
}

impl GitHub {
    /// The issues of this repository, with the token that is found for this device's or realm's directory. Nothing is asked
    /// before the first call.
    pub fn new(place: GitHubPlace, directory: impl Into<PathBuf>) -> Self {
        Self {
            place: Arc::new(place),
            directory: Arc::new(directory.into()),
            permission: None,
            token: None,
            session: Arc::default(),
            age: FRESH,
        }
    }

    /// Relies on the looks of the one that it was cloned from, which looks as often as GitHub may be asked, and looks itself
    /// only if there were none.
    #[must_use]
    pub fn looking_on(self) -> Self {
        let age = self.place.poll + self.place.poll / 4;
        Self { age, ..self }
    }

    /// Sees it as the realm's services do: those requests and keys count whose authors this rule permits.
    #[must_use]
    pub fn permitting(self, permission: UploadPermission) -> Self {
        Self {
            permission: Some(permission),
            ..self
        }
    }

    /// Uses this token, wherever others may be.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// Which repository.
    pub fn place(&self) -> &GitHubPlace {
        &self.place
    }

    /// The host that is asked, with its port if it names one; `github.com` for GitHub's own.
    pub fn host(&self) -> &str {
        let place = self.place.base_uri.split_once("://");
        let host = place.map_or("", |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        host.strip_prefix("api.").unwrap_or(host)
    }

    /// Our login, in lower case. Asks GitHub, and so proves the token.
    pub async fn login(&self) -> Result<String, RegistryError> {
        Ok(self.session().await?.login().to_owned())
    }

    /// Whether the token is that of one of the realm's signers: nobody takes the certificates of others.
    pub async fn check_signer(&self) -> Result<(), RegistryError> {
        let login = self.login().await?;
        if self.place.signers.contains(&login) {
            return Ok(());
        }
        let signers: Vec<&str> = self.place.signers.iter().map(String::as_str).collect();
        Err(RegistryError::NotASigner {
            login,
            signers: signers.join(", "),
        })
    }

    /// All open issues that have a title of ours, newest first, whoever wrote them.
    pub async fn all(&self) -> Result<Vec<Listed>, RegistryError> {
        let session = self.session().await?;
        let issues = session.look(FRESH, |mirror| mirror.all().map(listed).collect());
        issues.await.map_err(self.failed("list"))
    }

    /// Closes the issue with this number, if it is open and has a title of ours.
    pub async fn withdraw(&self, number: u64) -> Result<Option<Listed>, RegistryError> {
        let session = self.session().await?;
        let found = session
            .look(FRESH, |mirror| {
                mirror.known(number).map(|known| listed(&known.issue))
            })
            .await
            .map_err(self.failed("list"))?;
        if found.is_some() {
            session.close(number).await.map_err(self.failed("close"))?;
        }
        Ok(found)
    }

    pub(super) async fn session(&self) -> Result<&Session, RegistryError> {
        self.session
            .get_or_try_init(|| async {
                let token = match &self.token {
                    Some(token) => token.clone(),
                    None => Token::find(&self.directory, self.host()).await?,
                };
                Session::open(&self.place, &token)
                    .await
                    .map_err(self.failed("log in for"))
            })
            .await
    }

    pub(super) fn failed(
        &self,
        action: &'static str,
    ) -> impl Fn(GitHubError) -> RegistryError + use<> {
        let repository = self.place.repository.to_string();
        move |source| RegistryError::GitHub {
            action,
            repository: repository.clone(),
            source,
        }
    }

    /// Which of these issues count, by number. A rule may read a file; a person is asked by nobody but the signer.
    async fn counting(&self, issues: &[Issue]) -> Result<BTreeMap<u64, bool>, RegistryError> {
        let own = self.session().await?.login().to_owned();
        let (issues, place) = (issues.to_vec(), Arc::clone(&self.place));
        let permission = self.permission.clone();
        spawn_blocking(move || {
            issues
                .into_iter()
                .map(|issue| {
                    let author = Author::GitHub {
                        login: issue.author.clone(),
                    };
                    let counts = match (issue.title.kind(), &permission) {
                        (Kind::Certificate, _) => place.signers.contains(&issue.author),
                        (Kind::CertificateRequest | Kind::SshPublicKey, Some(rule)) => {
                            rule.decided(&author, issue.title.id()) == Decision::Permitted
                        }
                        (Kind::CertificateRequest | Kind::SshPublicKey, None) => {
                            issue.author == own
                        }
                    };
                    (issue.number, counts)
                })
                .collect()
        })
        .await
        .map_err(|_| RegistryError::Cut)
    }

    async fn entries(&self, issues: &[Issue]) -> Result<Vec<Entry>, RegistryError> {
        let session = self.session().await?;
        let bodies = session
            .checked(issues)
            .await
            .map_err(self.failed("read the history of"))?;
        let entry = |(issue, body): (&Issue, Result<String, crate::BodyFault>)| Entry {
            title: issue.title.clone(),
            author: Author::GitHub {
                login: issue.author.clone(),
            },
            revision: issue::revision(issue.number, body.as_deref().unwrap_or(NO_BODY)),
            body,
            arrived: issue.number,
        };
        Ok(issues.iter().zip(bodies).map(entry).collect())
    }
}

impl Registry for GitHub {
    async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        let session = self.session().await?;
        let issues = session
            .look(self.age, |mirror| mirror.of_kind(kind))
            .await
            .map_err(self.failed("list"))?;
        // They come by title, newest first: of one author's issues the first is the one.
        let mut seen = BTreeSet::new();
        let newest: Vec<Issue> = issues
            .into_iter()
            .filter(|issue| seen.insert((issue.title.clone(), issue.author.clone())))
            .collect();
        let mut chosen = Vec::with_capacity(newest.len());
        for rivals in newest.chunk_by(|a, b| a.title == b.title) {
            if rivals.len() == 1 && kind != Kind::Certificate {
                // Whoever reads it decides.
                chosen.extend_from_slice(rivals);
                continue;
            }
            let counting = self.counting(rivals).await?;
            let mut served = false;
            for issue in rivals {
                let counts = counting.get(&issue.number) == Some(&true);
                if counts && !served || !counts && kind != Kind::Certificate {
                    chosen.push(issue.clone());
                }
                served |= counts;
            }
        }
        self.entries(&chosen).await
    }

    async fn get(&self, title: &Title) -> Result<Option<Entry>, RegistryError> {
        let session = self.session().await?;
        let issues = session
            .look(self.age, |mirror| mirror.titled(title))
            .await
            .map_err(self.failed("list"))?;
        let counting = self.counting(&issues).await?;
        let counts = |issue: &&Issue| counting.get(&issue.number) == Some(&true);
        let newest = issues.first().filter(|_| title.kind() != Kind::Certificate);
        if title.kind() == Kind::Certificate
            && let Some(stranger) = issues.iter().find(|issue| !counts(issue))
        {
            tracing::warn!(
                %title,
                author = stranger.author,
                "a certificate is ignored: its author is none of the realm's signers"
            );
        }
        let Some(issue) = issues.iter().find(counts).or(newest) else {
            return Ok(None);
        };
        let entries = self.entries(std::slice::from_ref(issue)).await?;
        Ok(entries.into_iter().next())
    }

    async fn put(&self, title: &Title, body: &str) -> Result<Revision, RegistryError> {
        let limit = title.kind().max_body();
        if body.len() > limit {
            return Err(RegistryError::BodyTooLarge {
                title: title.clone(),
                limit,
            });
        }
        // As it will be read.
        let body = &content(body, title.kind()).map_err(|_| RegistryError::BodyTooLarge {
            title: title.clone(),
            limit,
        })?;
        let session = self.session().await?;
        // Looked up first: what an interrupted run has put there is not put again.
        let ours = session
            .look(RECENT, |mirror| {
                let mut issues = mirror.titled(title);
                issues.retain(|issue| issue.author == session.login());
                issues
            })
            .await
            .map_err(self.failed("list"))?;
        let mut there = None;
        if let Some(issue) = ours.first().filter(|issue| issue.body.as_ref() == Ok(body)) {
            let entries = self.entries(std::slice::from_ref(issue)).await?;
            let revision = issue::revision(issue.number, body);
            // One that was edited or refused is handed in anew.
            if entries.iter().any(|entry| entry.body.as_ref() == Ok(body))
                && self.refusal(title, &revision).await?.is_none()
            {
                there = Some(issue.number);
            }
        }
        let number = match there {
            Some(number) => number,
            None => session
                .create(title, body)
                .await
                .map_err(self.failed("add to"))?,
        };
        session
            .close_older(title, session.login(), number)
            .await
            .map_err(self.failed("close"))?;
        Ok(issue::revision(number, body))
    }

    async fn close(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        let Some(number) = number(revision) else {
            return Ok(());
        };
        let session = self.session().await?;
        let known = session
            .look(RECENT, |mirror| mirror.known(number).cloned())
            .await
            .map_err(self.failed("list"))?;
        let Some(known) = known.filter(|known| known.issue.title == *title) else {
            return Ok(());
        };
        let body = known.checked.as_ref().unwrap_or(&known.issue.body);
        if issue::revision(number, body.as_deref().unwrap_or(NO_BODY)) != *revision {
            return Ok(());
        }
        session.close(number).await.map_err(self.failed("close"))?;
        session
            .close_older(title, &known.issue.author, number)
            .await
            .map_err(self.failed("close"))
    }

    async fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        self.tell(title, revision, refusal).await
    }

    async fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        self.told(title, revision).await
    }

    async fn mark_seen(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        self.show_eyes(title, revision).await
    }

    async fn is_seen(&self, title: &Title, revision: &Revision) -> Result<bool, RegistryError> {
        self.has_eyes(title, revision).await
    }

    async fn misnamed(&self) -> Result<Vec<Misnamed>, RegistryError> {
        self.strays().await
    }

    async fn refuse_misnamed(&self, misnamed: &Misnamed) -> Result<bool, RegistryError> {
        self.tell_stray(misnamed).await
    }

    /// Everybody's issues stand beside each other; of our own the newest counts.
    async fn replaces(&self, entry: &Entry) -> Result<bool, RegistryError> {
        let own = self.session().await?.login();
        Ok(matches!(&entry.author, Author::GitHub { login } if login == own))
    }

    fn poll_interval(&self) -> Duration {
        let wait = self.session.get().and_then(Session::closed_for);
        self.place.poll.max(wait.unwrap_or_default())
    }
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitHub({})", self.place.repository)
    }
}

fn listed(issue: &Issue) -> Listed {
    Listed {
        number: issue.number,
        title: issue.title.to_string(),
        login: issue.author.clone(),
        state: "OPEN",
        updated_at: issue.updated_at.clone(),
    }
}

/// Stands for a body that cannot be used in its revision. No body is empty: each ends with a line end.
const NO_BODY: &str = "";

/// How old the mirror may be for a reader: the reads of one step are one look.
pub(super) const FRESH: Duration = Duration::from_millis(500);
