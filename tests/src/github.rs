//! A stand-in for GitHub: one repository with its issues, behind the interface that GitHub describes.
//!
//! Every request and every answer is held against GitHub's own description (`schema`), so that neither the program nor this
//! stand-in can live by an idea of GitHub that is only ours. What does not agree is kept, and fails the test when the stand-in
//! is dropped.

mod answers;
mod faults;
mod graphql;
mod repository;
mod routes;
mod schema;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

pub use faults::{Fault, Trouble};
pub use repository::{Comment, Issue};

use faults::Faults;
use repository::Repository;
use schema::Schema;

/// A GitHub with one repository, [`REPOSITORY`], which belongs to `octo`. Everybody may open issues; collaborators may
/// close and edit those of others.
#[derive(Debug)]
pub struct GitHub {
    shared: Arc<Shared>,
    port: u16,
}

/// One call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `POST` or `PATCH`.
    pub method: String,
    /// The path, without that of the interface.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// The status of the answer.
    pub status: u16,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    schema: Schema,
}

#[derive(Debug, Default)]
struct State {
    repository: Repository,
    faults: Faults,
    calls: Vec<Call>,
    violations: Vec<String>,
}

impl GitHub {
    /// Starts it on a free port of 127.0.0.1; it runs until the test process ends.
    ///
    /// # Panics
    /// When no port can be had, or GitHub's description cannot be read.
    #[track_caller]
    pub fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port of loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            schema: Schema::load(),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                thread::spawn(move || {
                    crate::http::serve(&stream, |request| routes::answer(&shared, request));
                });
            }
        });
        Self { shared, port }
    }

    /// Where its REST interface is. As on a GitHub Enterprise server, it has a path.
    pub fn base_uri(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, routes::ROOT)
    }

    /// The host and the port of that, as a token is kept for it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `[registry]` of a realm's file that uses it; these users sign, and news are looked for each second.
    pub fn registry_table(&self, signers: &[&str]) -> String {
        format!(
            "[registry]\ngithub = \"{REPOSITORY}\"\nbase_uri = \"{}\"\nsigners = {signers:?}\npoll = \"1s\"\n",
            self.base_uri()
        )
    }

    /// Makes a token for a user. One who may close and edit others' issues is a collaborator.
    pub fn token(&self, login: &str, collaborator: bool) -> String {
        self.state().repository.add_token(login, collaborator)
    }

    /// Makes a token invalid.
    pub fn revoke(&self, token: &str) {
        self.state().repository.remove_token(token);
    }

    /// Opens an issue, as a person does on the web page. Returns its number.
    pub fn open(&self, login: &str, title: &str, body: &str) -> u64 {
        self.state().repository.open(login, title, body)
    }

    /// Opens a pull request. Returns its number.
    pub fn open_pull_request(&self, login: &str, title: &str) -> u64 {
        self.state().repository.open_pull_request(login, title)
    }

    /// Edits an issue's body, as a person does on the web page.
    pub fn edit(&self, number: u64, editor: &str, body: &str) {
        self.state().repository.edit(number, editor, body);
    }

    /// Renames an issue, as its author does on the web page.
    pub fn rename(&self, number: u64, title: &str) {
        self.state().repository.rename(number, title);
    }

    /// Writes a comment, as a person does on the web page.
    pub fn comment(&self, number: u64, login: &str, body: &str) {
        self.state().repository.comment(number, login, body);
    }

    /// Reacts to an issue, as a person does on the web page.
    pub fn react(&self, number: u64, login: &str, content: &str) {
        self.state().repository.react(number, login, content);
    }

    /// Takes back all comments under an issue.
    pub fn remove_comments(&self, number: u64) {
        self.state().repository.remove_comments(number);
    }

    /// Deletes an issue without a trace, as an owner can.
    pub fn delete(&self, number: u64) {
        self.state().repository.delete(number);
    }

    /// All issues with this title, oldest first.
    pub fn issues(&self, title: &str) -> Vec<Issue> {
        let state = self.state();
        let issues = state.repository.issues();
        issues
            .filter(|issue| issue.title == title)
            .cloned()
            .collect()
    }

    /// The issue with this number.
    pub fn issue(&self, number: u64) -> Option<Issue> {
        self.state().repository.issue(number).cloned()
    }

    /// Makes calls fail that are made from now on.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Takes back all faults that have not happened yet.
    pub fn forgive(&self) {
        self.state().faults = Faults::default();
    }

    /// Whether all faults that were asked for have happened.
    pub fn has_failed(&self) -> bool {
        self.state().faults.are_used_up()
    }

    /// The calls since this was last asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// What has not agreed with GitHub's description since this was last asked. A test that takes it answers for it.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.state().violations)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        let violations = self.take_violations();
        if !thread::panicking() {
            assert!(
                violations.is_empty(),
                "not as GitHub describes itself:\n{}",
                violations.join("\n")
            );
        }
    }
}

/// The repository that there is.
pub const REPOSITORY: &str = "octo/tunnels";
