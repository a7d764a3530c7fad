//! One repository, as one user sees it: looks that cost little, and writes that happen once.

use std::time::Duration;

use daemon::registry_place::GitHubPlace;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::api::{Api, News};
use super::edits;
use super::error::GitHubError;
use super::issue::{Issue, RawComment, RawIssue, RawReaction, RawRepository, RawUser};
use super::mirror::Mirror;
use super::token::Token;
use crate::{BodyFault, Title};

/// A logged-in user of a repository.
#[derive(Debug)]
pub(super) struct Session {
    api: Api,
    /// Our login, in lower case.
    login: String,
    /// The repository's path in the interface.
    path: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mirror: Mirror,
    /// When the mirror was last known to be true; `None`: what it says is not to be relied upon.
    looked: Option<Instant>,
    loaded: bool,
    /// A load that is under way. It goes on where it was, even when whoever waited for it has given up.
    loading: Option<Loading>,
    /// All changes up to here are in the mirror.
    seen_until: String,
    changes: Option<String>,
    repository: Option<String>,
    /// How many issues and pull requests are open, as GitHub counts.
    open: u64,
    /// The last count that differed from ours, with ours, and whether that has been looked into.
    difference: Option<((u64, u64), bool)>,
}

#[derive(Debug)]
struct Loading {
    mirror: Mirror,
    seen_until: String,
    next: Option<String>,
    pages: usize,
}

impl Session {
    /// Logs in.
    pub(super) async fn open(place: &GitHubPlace, token: &Token) -> Result<Self, GitHubError> {
        let api = Api::new(place, token)?;
        let user = api.page::<RawUser>("/user").await?.content;
        Ok(Self {
            api,
            login: user.login.to_ascii_lowercase(),
            path: format!("/repos/{}", place.repository),
            state: Mutex::default(),
        })
    }

    /// Our login, in lower case.
    pub(super) fn login(&self) -> &str {
        &self.login
    }

    /// How long GitHub wants to be left alone.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        self.api.closed_for()
    }

    /// What the mirror says, which is at most this old.
    pub(super) async fn look<T>(
        &self,
        max_age: Duration,
        read: impl FnOnce(&mut Mirror) -> T + Send,
    ) -> Result<T, GitHubError> {
        let mut state = self.state.lock().await;
        let fresh = state.looked.is_some_and(|at| at.elapsed() < max_age);
        if !fresh {
            self.refresh(&mut state).await?;
        }
        Ok(read(&mut state.mirror))
    }

    /// Makes an issue, unless the call that seemed to fail has made it.
    pub(super) async fn create(&self, title: &Title, body: &str) -> Result<u64, GitHubError> {
        let text = title.to_string();
        let before = self.look(RECENT, |mirror| newest(mirror, title)).await?;
        let request = json!({ "title": text, "body": body });
        let path = format!("{}/issues", self.path);
        match self.api.post::<RawIssue>(&path, &request).await {
            Ok(raw) => {
                self.state.lock().await.mirror.take(&raw);
                Ok(raw.number)
            }
            Err(error) if error.leaves_doubt() => {
                self.distrust().await;
                // The call may have been carried out, and what it made may take a moment to be seen.
                for pause in DOUBT {
                    sleep(pause).await;
                    let made = self
                        .look(Duration::ZERO, |mirror| {
                            let ours = mirror.titled(title).into_iter().find(|issue| {
                                issue.number > before
                                    && issue.author == self.login
                                    && issue.body.as_deref() == Ok(body)
                            });
                            ours.map(|issue| issue.number)
                        })
                        .await;
                    if let Ok(Some(number)) = made {
                        return Ok(number);
                    }
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Closes an issue. One that is gone is closed.
    pub(super) async fn close(&self, number: u64) -> Result<(), GitHubError> {
        let path = format!("{}/issues/{number}", self.path);
        let closed = self
            .api
            .patch::<RawIssue>(&path, &json!({ "state": "closed" }))
            .await;
        let mut state = self.state.lock().await;
        match closed {
            Ok(raw) => state.mirror.take(&raw),
            Err(GitHubError::Gone | GitHubError::NotFound) => state.mirror.forget(number),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Closes our own issues with this title that are older than this one.
    pub(super) async fn close_older(
        &self,
        title: &Title,
        author: &str,
        than: u64,
    ) -> Result<(), GitHubError> {
        let older = self
            .look(RECENT, |mirror| {
                let mut issues = mirror.titled(title);
                issues.retain(|issue| issue.number < than && issue.author == author);
                issues
            })
            .await?;
        for issue in older {
            self.close(issue.number).await?;
        }
        Ok(())
    }

    /// Writes a comment. The issue has changed by it, so that what is known of it is asked anew.
    pub(super) async fn comment(&self, number: u64, text: &str) -> Result<(), GitHubError> {
        let path = format!("{}/issues/{number}/comments", self.path);
        let written = self
            .api
            .post::<RawComment>(&path, &json!({ "body": text }))
            .await;
        self.distrust().await;
        written.map(|_| ())
    }

    /// The comments under an issue, oldest first; no more than [`MAX_COMMENTS`] pages of them.
    pub(super) async fn comments(&self, number: u64) -> Result<Vec<RawComment>, GitHubError> {
        let path = format!("{}/issues/{number}/comments", self.path);
        let mut comments = Vec::new();
        let mut query = Some("per_page=100".to_owned());
        for _ in 0..MAX_COMMENTS {
            let Some(next) = query else { break };
            let page = self
                .api
                .page::<Vec<RawComment>>(&format!("{path}?{next}"))
                .await?;
            comments.extend(page.content);
            query = page.next;
        }
        Ok(comments)
    }

    /// Reacts to an issue with eyes. To do it twice is to do it once.
    pub(super) async fn mark(&self, number: u64) -> Result<(), GitHubError> {
        let path = format!("{}/issues/{number}/reactions", self.path);
        let reaction = json!({ "content": "eyes" });
        self.api.post::<RawReaction>(&path, &reaction).await?;
        Ok(())
    }

    /// Who has reacted to an issue with eyes: the first hundred.
    pub(super) async fn markers(&self, number: u64) -> Result<Vec<RawUser>, GitHubError> {
        let path = format!(
            "{}/issues/{number}/reactions?content=eyes&per_page=100",
            self.path
        );
        let page = self.api.page::<Vec<RawReaction>>(&path).await?;
        let users = page.content.into_iter();
        Ok(users.filter_map(|reaction| reaction.user).collect())
    }

    /// The bodies of these issues as far as nobody but their authors has had a hand in them, in their order.
    pub(super) async fn checked(
        &self,
        issues: &[Issue],
    ) -> Result<Vec<Result<String, BodyFault>>, GitHubError> {
        let mut state = self.state.lock().await;
        let unknown: Vec<&Issue> = issues
            .iter()
            .filter(|issue| {
                let known = state.mirror.known(issue.number);
                known.is_none_or(|known| known.checked.is_none())
            })
            .collect();
        for some in unknown.chunks(edits::AT_ONCE) {
            let ids: Vec<String> = some.iter().map(|issue| issue.node_id.clone()).collect();
            let answer: edits::Answer = self.api.graphql(&edits::question(&ids)).await?;
            let mut bodies = answer.bodies()?;
            for issue in some {
                let body = bodies
                    .remove(&issue.node_id)
                    .map(|body| body.content(issue.title.kind()));
                match (body, state.mirror.known_mut(issue.number)) {
                    (Some(body), Some(known)) => known.checked = Some(body),
                    // Deleted since.
                    (None, _) => state.mirror.forget(issue.number),
                    (Some(_), None) => {}
                }
            }
        }
        let body = |issue: &Issue| {
            let known = state.mirror.known(issue.number)?;
            known.checked.clone()
        };
        Ok(issues
            .iter()
            .map(|issue| body(issue).unwrap_or(Err(BodyFault::NotReadable)))
            .collect())
    }

    async fn distrust(&self) {
        self.state.lock().await.looked = None;
    }

    /// Brings the mirror up to date: two calls, which are answered with 304 when nothing has happened.
    async fn refresh(&self, state: &mut State) -> Result<(), GitHubError> {
        if !state.loaded {
            self.load(state).await?;
        }
        self.take_changes(state).await?;
        let repository = self
            .api
            .get::<RawRepository>(&self.path, state.repository.as_deref())
            .await?;
        if let News::New(page) = repository {
            state.open = page.content.open_issues_count;
            state.repository = page.etag;
        }
        // A deleted issue is in no list of changes: only the count tells. What has happened between two calls is gone at the
        // next look; a difference that is still there is looked into, once.
        let difference = (state.open, state.mirror.open());
        if difference.0 == difference.1 {
            state.difference = None;
        } else if state.difference != Some((difference, true)) {
            let lasting = state.difference == Some((difference, false));
            if lasting {
                let (counted, known) = difference;
                tracing::debug!(counted, known, "issues have gone without a trace");
                self.load(state).await?;
                self.take_changes(state).await?;
            }
            state.difference = Some(((state.open, state.mirror.open()), lasting));
        }
        state.looked = Some(Instant::now());
        Ok(())
    }

    /// Reads all open issues.
    async fn load(&self, state: &mut State) -> Result<(), GitHubError> {
        if state.loading.is_none() {
            let mut seen_until = state.seen_until.clone();
            if !state.loaded {
                // What changes from here on is found by the next look for changes.
                let last = "state=all&sort=updated&direction=desc&per_page=1";
                let page = self.issues(last).await?;
                let newest = page.content.into_iter().next();
                seen_until = newest.map(|raw| raw.updated_at).unwrap_or_default();
            }
            state.loading = Some(Loading {
                mirror: Mirror::default(),
                seen_until,
                next: Some("state=open&sort=created&direction=asc&per_page=100".to_owned()),
                pages: 0,
            });
        }
        while let Some(loading) = &mut state.loading
            && let Some(next) = loading.next.clone()
        {
            if loading.pages == MAX_PAGES {
                state.loading = None;
                return Err(GitHubError::Rejected {
                    message: format!("there are more than {} open issues", MAX_PAGES * 100),
                });
            }
            let page = self.issues(&next).await?;
            for raw in &page.content {
                loading.mirror.take(raw);
            }
            loading.next = page.next;
            loading.pages += 1;
        }
        if let Some(loaded) = state.loading.take() {
            state.mirror = loaded.mirror;
            state.seen_until = loaded.seen_until;
        }
        state.changes = None;
        state.loaded = true;
        Ok(())
    }

    /// Takes in what has changed since the last look.
    async fn take_changes(&self, state: &mut State) -> Result<(), GitHubError> {
        let first = "state=all&sort=updated&direction=desc&per_page=100";
        let path = format!("{}/issues?{first}", self.path);
        let etag = state.changes.as_deref();
        let News::New(mut page) = self.api.get::<Vec<RawIssue>>(&path, etag).await? else {
            return Ok(());
        };
        let etag = page.etag.take();
        let newest = page.content.first().map(|raw| raw.updated_at.clone());
        for _ in 0..MAX_PAGES {
            for raw in &page.content {
                state.mirror.take(raw);
            }
            let known = page
                .content
                .iter()
                .any(|raw| raw.updated_at < state.seen_until);
            let Some(next) = page.next.take().filter(|_| !known) else {
                break;
            };
            page = self.issues(&next).await?;
        }
        // Not before all pages are in: who is interrupted reads them again.
        state.changes = etag;
        if let Some(newest) = newest {
            state.seen_until = newest;
        }
        Ok(())
    }

    async fn issues(&self, query: &str) -> Result<super::api::Page<Vec<RawIssue>>, GitHubError> {
        let path = format!("{}/issues?{query}", self.path);
        self.api.page(&path).await
    }
}

fn newest(mirror: &Mirror, title: &Title) -> u64 {
    mirror.titled(title).first().map_or(0, |issue| issue.number)
}

/// How old the mirror may be for a write: whoever else writes under our name at the same moment makes a duplicate, of which
/// readers take the newest.
pub(super) const RECENT: Duration = Duration::from_secs(30);

/// When to look whether a call that seemed to fail has been carried out.
const DOUBT: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// The most pages of a hundred issues: a realm of 6,000 devices has two open issues each, and some requests.
const MAX_PAGES: usize = 200;

/// The most pages of comments that are looked through for ours.
const MAX_COMMENTS: usize = 10;
