//! The files of a realm's trust: read when they change, and added to when a person has answered.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use daemon::files::{self, FileError};
use daemon::report::one_line;
use protocol::DeviceId;

use crate::Author;
use crate::file_stamp::FileStamp;
use crate::permission::{Decision, UploadPermission};
use crate::trust::{PermissionsError, Trust};
use crate::trust_rule::Rule;

/// `trust.toml` and `permissions.txt` of one directory; neither need be there. They are looked at again whenever
/// something is decided, so that a running signer knows a new rule at once.
#[derive(Debug)]
pub struct TrustStore {
    directory: PathBuf,
    owners: BTreeSet<u32>,
    known: Mutex<Known>,
}

/// A question for a person, asked once for each author, system and role.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who has uploaded.
    pub author: &'a Author,
    /// For which device.
    pub id: &'a DeviceId,
}

/// Why a realm's trust cannot be read, or an answer not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others than its owner may write a file, and so make rules.
    #[error("`{}` can be written by others (mode {mode:04o})", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// `permissions.txt` is wrong.
    #[error("`{}` is no file of permissions", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PermissionsError,
    },
    /// `trust.toml` is wrong.
    #[error("`{}` is no file of trust", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: toml::de::Error,
    },
    /// A rule cannot be written down.
    #[error("cannot write a rule for `{}`", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::ser::Error,
    },
}

/// What stood in the files when they were last read, and by what to see that they have changed.
#[derive(Debug)]
struct Known {
    stamps: [Option<FileStamp>; 2],
    trust: Arc<Trust>,
    edition: u64,
}

impl TrustStore {
    /// Reads the files of a realm's directory. Its owners, by numeric user id, may upload everything.
    pub fn open(directory: impl Into<PathBuf>, owners: BTreeSet<u32>) -> Result<Self, TrustError> {
        let directory = directory.into();
        let known = Known::read(&directory, &owners)?;
        Ok(Self {
            directory,
            owners,
            known: Mutex::new(known),
        })
    }

    /// The rules as they stand in the files now. While these cannot be read the last ones stay.
    pub fn current(&self) -> Arc<Trust> {
        self.looked().0
    }

    /// Another number than before whenever the rules are others.
    pub fn edition(&self) -> u64 {
        self.looked().1
    }

    fn looked(&self) -> (Arc<Trust>, u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stamps != stamps(&self.directory) {
            match Known::read(&self.directory, &self.owners) {
                Ok(read) => {
                    let edition = known.edition + 1;
                    *known = Known { edition, ..read };
                }
                Err(error) => {
                    let error = one_line(&error);
                    tracing::error!(error, "the rules of trust stay as they were");
                    // Said once for every change.
                    known.stamps = stamps(&self.directory);
                }
            }
        }
        (Arc::clone(&known.trust), known.edition)
    }

    /// The rule for unattended runs: what is undecided is refused.
    pub fn permission(self: &Arc<Self>) -> UploadPermission {
        let store = Arc::clone(self);
        UploadPermission::new(move |author, id| match store.current().decide(author, id) {
            Decision::Undecided => Decision::Refused,
            decided @ (Decision::Permitted | Decision::Refused) => decided,
        })
    }

    /// The rule for runs that a person attends: what is undecided is asked, and the answer remembered. Without an
    /// answer, or when it cannot be kept, the upload stays undecided. One question at a time: while one waits for its answer,
    /// which may be for ever, all others are undecided too.
    pub fn permission_asking(
        self: &Arc<Self>,
        ask: impl Fn(Question<'_>) -> Option<bool> + Send + Sync + 'static,
    ) -> UploadPermission {
        let (store, known) = (Arc::clone(self), Arc::clone(self));
        let turn = Mutex::new(());
        let rule = move |author: &Author, id: &DeviceId| {
            let decided = store.current().decide(author, id);
            if decided != Decision::Undecided {
                return decided;
            }
            let _turn = match turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
                Err(TryLockError::WouldBlock) => return Decision::Undecided,
            };
            let Some(allow) = ask(Question { author, id }) else {
                return Decision::Undecided;
            };
            match store.remember(&Rule::answer(author, id, allow)) {
                Ok(()) => Decision::of(allow),
                Err(error) => {
                    tracing::error!(error = one_line(&error), "an answer cannot be kept");
                    Decision::Undecided
                }
            }
        };
        UploadPermission::asking(rule, move |author, id| known.current().decide(author, id))
    }

    /// Adds a rule at the end of `trust.toml`; what stands there already stays as it is, comments too.
    pub fn remember(&self, rule: &Rule) -> Result<(), TrustError> {
        let path = self.directory.join(TRUST_FILE);
        let mut text = read(&path)?.unwrap_or_else(|| HEAD.to_owned());
        let rule = toml::to_string(rule).map_err(|source| TrustError::Rule {
            path: path.clone(),
            source,
        })?;
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[[upload]]\n{rule}");
        files::write_public(&path, text.as_bytes())?;
        self.current();
        Ok(())
    }
}

impl Known {
    fn read(directory: &Path, owners: &BTreeSet<u32>) -> Result<Self, TrustError> {
        // Before the reading: a change meanwhile is then seen by the next look.
        let stamps = stamps(directory);
        let mut trust = Trust::of_owners(owners.clone());
        let path = directory.join(TRUST_FILE);
        if let Some(text) = read(&path)? {
            trust = trust
                .with_file(&text)
                .map_err(|source| TrustError::Trust { path, source })?;
        }
        let path = directory.join(PERMISSIONS_FILE);
        if let Some(text) = read(&path)? {
            trust = trust
                .with_permissions(&text)
                .map_err(|source| TrustError::Permissions { path, source })?;
        }
        Ok(Self {
            stamps,
            trust: Arc::new(trust),
            edition: 0,
        })
    }
}

impl TrustError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(source) => source.hint(),
            Self::Writable { path, .. } => Some(format!("run `chmod go-w {}`", path.display())),
            Self::Permissions { path, .. } | Self::Trust { path, .. } => Some(format!(
                "mend `{}`; until then nobody knows whom to trust, and nothing is served",
                path.display()
            )),
            Self::Rule { .. } => None,
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, TrustError> {
    let text = match files::read_text(path, MAX_FILE) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let status = fs::metadata(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = status.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(TrustError::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(Some(text))
}

fn stamps(directory: &Path) -> [Option<FileStamp>; 2] {
    [TRUST_FILE, PERMISSIONS_FILE].map(|name| FileStamp::of(&directory.join(name)))
}

/// The file's name in a realm's directory.
pub const TRUST_FILE: &str = "trust.toml";

/// The original's file, read where it lies beside ours.
pub const PERMISSIONS_FILE: &str = "permissions.txt";

/// What a new `trust.toml` begins with.
pub const HEAD: &str = "\
# Who may upload keys and certificate requests for which system. The realm's own user and root always may.
#
#   [[upload]]
#   who = \"github:LOGIN\"      # or \"uid:1000\", or \"uid:*\": every user of this machine who can write to the registry
#   systems = [\"hula\"]        # or [\"*\"]: all
#   what = \"targets\"          # or \"controllers\", which may log in to the system's computers, or \"all\"
#   allow = true              # false: never, and do not ask; where `what` is not named, it is \"all\" then
version = 1
";

/// The largest of the two files, in bytes: a thousand rules have less than 100 KiB.
const MAX_FILE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn octo() -> Author {
        Author::GitHub {
            login: "octo".to_owned(),
        }
    }

    fn store() -> (tempfile::TempDir, Arc<TrustStore>) {
        let home = tempfile::tempdir().unwrap();
        let store = Arc::new(TrustStore::open(home.path(), BTreeSet::new()).unwrap());
        (home, store)
    }

    fn id(text: &str) -> DeviceId {
        text.parse().unwrap()
    }

    #[test]
    fn an_unattended_run_refuses_and_knows_a_new_rule_at_once() {
        let (home, store) = store();
        let rule = store.permission();
        assert_eq!(
            rule.decide(&octo(), &id("333.hula.atlas")),
            Decision::Refused
        );
        let text = format!("{HEAD}[[upload]]\nwho = \"github:octo\"\nsystems = [\"hula\"]\n");
        fs::write(home.path().join(TRUST_FILE), text).unwrap();
        assert_eq!(
            rule.decide(&octo(), &id("333.hula.atlas")),
            Decision::Permitted
        );
        fs::write(home.path().join(TRUST_FILE), "rubbish").unwrap();
        assert_eq!(
            rule.decide(&octo(), &id("333.hula.atlas")),
            Decision::Permitted,
            "a damaged file changes nothing"
        );
        fs::write(home.path().join(TRUST_FILE), HEAD).unwrap();
        fs::write(home.path().join(PERMISSIONS_FILE), "hula+octo=allow").unwrap();
        assert_eq!(
            rule.decide(&octo(), &id("controller-a.hula.atlas")),
            Decision::Permitted
        );
    }

    #[test]
    fn a_person_is_asked_once_and_the_answer_is_kept() {
        let (home, store) = store();
        fs::write(
            home.path().join(TRUST_FILE),
            format!("{HEAD}# a comment of mine\n"),
        )
        .unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let rule = store.permission_asking(move |question| {
            count.fetch_add(1, Ordering::SeqCst);
            Some(question.id.role() == protocol::Role::Target)
        });
        for _ in 0..2 {
            assert_eq!(
                rule.decide(&octo(), &id("333.hula.atlas")),
                Decision::Permitted
            );
            assert_eq!(
                rule.decide(&octo(), &id("334.hula.atlas")),
                Decision::Permitted
            );
            let controller = id("controller-a.hula.atlas");
            assert_eq!(rule.decide(&octo(), &controller), Decision::Refused);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let text = fs::read_to_string(home.path().join(TRUST_FILE)).unwrap();
        assert!(text.contains("# a comment of mine\n"), "{text}");
        let unattended = Arc::new(TrustStore::open(home.path(), BTreeSet::new()).unwrap());
        assert!(
            unattended
                .permission()
                .permits(&octo(), &id("335.hula.atlas"))
        );
    }

    #[test]
    fn while_one_question_waits_nobody_else_is_asked() {
        let (_home, store) = store();
        let (asks, asked) = std::sync::mpsc::channel();
        let (answer, answers) = std::sync::mpsc::channel();
        let answers = Mutex::new(answers);
        let rule = store.permission_asking(move |_| {
            asks.send(()).unwrap();
            answers.lock().unwrap().recv().ok()
        });
        let first = id("333.hula.atlas");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| rule.decide(&octo(), &first));
            asked.recv().unwrap();
            let undecided = Decision::Undecided;
            // Neither about another system nor, by the next look, about the same.
            for other in ["1.kiwi.atlas", "333.hula.atlas"] {
                assert_eq!(rule.decide(&octo(), &id(other)), undecided);
            }
            assert_eq!(rule.decided(&octo(), &first), undecided);
            answer.send(true).unwrap();
            assert_eq!(waits.join().unwrap(), Decision::Permitted);
        });
        assert_eq!(rule.decided(&octo(), &first), Decision::Permitted);
        assert!(asked.try_recv().is_err(), "asked once");
    }

    #[test]
    fn without_an_answer_nothing_is_decided() {
        let (_home, store) = store();
        let rule = store.permission_asking(|_| None);
        assert_eq!(
            rule.decide(&octo(), &id("333.hula.atlas")),
            Decision::Undecided
        );
    }

    #[test]
    fn a_file_that_others_may_write_makes_no_rules() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(TRUST_FILE);
        fs::write(&path, HEAD).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let error = TrustStore::open(home.path(), BTreeSet::new()).unwrap_err();
        assert!(
            error.hint().unwrap().starts_with("run `chmod go-w "),
            "{error}"
        );
    }
}
