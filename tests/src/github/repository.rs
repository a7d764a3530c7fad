//! What is in the repository.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

/// The repository, its users and their tokens.
#[derive(Debug, Default)]
pub(super) struct Repository {
    issues: BTreeMap<u64, Issue>,
    last: u64,
    last_comment: u64,
    clock: u64,
    tokens: BTreeMap<String, String>,
    collaborators: BTreeSet<String>,
}

/// An issue or a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text.
    pub body: String,
    /// Who opened it.
    pub author: String,
    /// Who edited it last, and when.
    pub edited: Option<(String, String)>,
    /// Whether it is open.
    pub open: bool,
    /// What stands below it, oldest first.
    pub comments: Vec<Comment>,
    /// Who has reacted to it, and with what, e.g. `eyes`; each of them once.
    pub reactions: Vec<(String, String)>,
    pub(super) pull_request: bool,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    /// Orders changes within a second.
    pub(super) changed: u64,
}

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Who wrote it.
    pub author: String,
    /// Its text.
    pub body: String,
    pub(super) id: u64,
    pub(super) created_at: String,
}

impl Issue {
    /// By which GraphQL knows it.
    pub(super) fn node_id(&self) -> String {
        format!("I_{}", self.number)
    }
}

impl Repository {
    pub(super) fn add_token(&mut self, login: &str, collaborator: bool) -> String {
        if collaborator {
            self.collaborators.insert(login.to_owned());
        }
        let token = format!("ghp_{login}{:026}", self.tokens.len());
        self.tokens.insert(token.clone(), login.to_owned());
        token
    }

    pub(super) fn remove_token(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// Whose token this is.
    pub(super) fn login(&self, token: &str) -> Option<&str> {
        self.tokens.get(token).map(String::as_str)
    }

    /// Whether this user may close and edit an issue.
    pub(super) fn may_change(&self, login: &str, issue: &Issue) -> bool {
        issue.author == login || self.collaborators.contains(login)
    }

    pub(super) fn open(&mut self, login: &str, title: &str, body: &str) -> u64 {
        self.last += 1;
        let (number, now) = (self.last, now());
        let issue = Issue {
            number,
            title: title.to_owned(),
            body: body.to_owned(),
            author: login.to_owned(),
            edited: None,
            open: true,
            comments: Vec::new(),
            reactions: Vec::new(),
            pull_request: false,
            created_at: now.clone(),
            updated_at: now,
            changed: self.tick(),
        };
        self.issues.insert(number, issue);
        number
    }

    pub(super) fn open_pull_request(&mut self, login: &str, title: &str) -> u64 {
        let number = self.open(login, title, "");
        self.change(number, |issue| issue.pull_request = true);
        number
    }

    pub(super) fn edit(&mut self, number: u64, editor: &str, body: &str) {
        let edited = Some((editor.to_owned(), now()));
        self.change(number, |issue| {
            body.clone_into(&mut issue.body);
            issue.edited = edited;
        });
    }

    pub(super) fn comment(&mut self, number: u64, login: &str, body: &str) -> Option<Comment> {
        self.last_comment += 1;
        let comment = Comment {
            author: login.to_owned(),
            body: body.to_owned(),
            id: self.last_comment,
            created_at: now(),
        };
        let kept = comment.clone();
        self.change(number, |issue| issue.comments.push(kept))
            .then_some(comment)
    }

    pub(super) fn remove_comments(&mut self, number: u64) {
        self.change(number, |issue| issue.comments.clear());
    }

    /// Whether this reaction is new. No reaction changes when an issue was last updated.
    pub(super) fn react(&mut self, number: u64, login: &str, content: &str) -> bool {
        let reaction = (login.to_owned(), content.to_owned());
        let Some(issue) = self.issues.get_mut(&number) else {
            return false;
        };
        let new = !issue.reactions.contains(&reaction);
        if new {
            issue.reactions.push(reaction);
        }
        new
    }

    pub(super) fn set_open(&mut self, number: u64, open: bool) {
        self.change(number, |issue| issue.open = open);
    }

    pub(super) fn rename(&mut self, number: u64, title: &str) {
        self.change(number, |issue| title.clone_into(&mut issue.title));
    }

    pub(super) fn delete(&mut self, number: u64) {
        self.issues.remove(&number);
    }

    pub(super) fn issue(&self, number: u64) -> Option<&Issue> {
        self.issues.get(&number)
    }

    /// All issues and pull requests, oldest first.
    pub(super) fn issues(&self) -> impl Iterator<Item = &Issue> {
        self.issues.values()
    }

    fn change(&mut self, number: u64, work: impl FnOnce(&mut Issue)) -> bool {
        let changed = self.tick();
        let Some(issue) = self.issues.get_mut(&number) else {
            return false;
        };
        work(issue);
        issue.updated_at = now();
        issue.changed = changed;
        true
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// The time as GitHub writes it: to the second, in UTC.
pub(super) fn now() -> String {
    OffsetDateTime::now_utc()
        .format(&Iso8601::<SECONDS>)
        .expect("the present can be written")
}

const SECONDS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: None,
    })
    .encode();
