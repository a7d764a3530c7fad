//! What GitHub has said so far: the open issues, kept up to date by what has changed since.

use std::collections::BTreeMap;

use super::issue::{Issue, RawIssue};
use crate::{BodyFault, Kind, Misnamed, Refusal, Title};

/// The open issues of a repository as of the last look.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    entries: BTreeMap<u64, Known>,
    /// Open issues and pull requests that are no entries; they are counted, and that is all, unless they were meant as one.
    others: BTreeMap<u64, Option<Stray>>,
}

/// An issue, and what has been asked about it since it changed.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) issue: Issue,
    /// Its body, once it is known who edited it.
    pub(super) checked: Option<Result<String, BodyFault>>,
    /// What its author was told.
    pub(super) told: Told,
    /// How many have reacted with eyes. No reaction changes when an issue was last updated.
    pub(super) eyes: u64,
    /// Whether one of them speaks for the realm, once that is known.
    pub(super) seen: Option<bool>,
}

/// An issue that ends like a title and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stray {
    pub(super) misnamed: Misnamed,
    pub(super) comments: u64,
    /// Whether its author has been told.
    pub(super) told: bool,
}

/// What is known of the answer to an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its comments have not been read.
    Unread,
    /// They have been read, and say this or nothing.
    Read(Option<Refusal>),
}

impl Mirror {
    /// Takes in what GitHub says about one issue.
    pub(super) fn take(&mut self, raw: &RawIssue) {
        let known = self.entries.get(&raw.number);
        // A page can be older than our own latest change. Times are ISO 8601 in UTC, so they compare as text.
        if known.is_some_and(|known| raw.updated_at < known.issue.updated_at) {
            return;
        }
        if let Some(issue) = raw.entry() {
            self.others.remove(&raw.number);
            let eyes = raw.eyes();
            match self.entries.get_mut(&raw.number) {
                Some(known) if known.issue == issue => {
                    if known.eyes != eyes {
                        known.eyes = eyes;
                        known.seen = None;
                    }
                }
                Some(_) | None => {
                    let known = Known {
                        issue,
                        checked: None,
                        told: Told::Unread,
                        eyes,
                        seen: None,
                    };
                    self.entries.insert(raw.number, known);
                }
            }
        } else {
            self.entries.remove(&raw.number);
            if raw.is_open() {
                self.take_other(raw);
            } else {
                self.others.remove(&raw.number);
            }
        }
    }

    fn take_other(&mut self, raw: &RawIssue) {
        let before = self.others.remove(&raw.number).flatten();
        let stray = raw.misnamed().map(|misnamed| Stray {
            // Its author was told of this name, whatever has happened since.
            told: before.is_some_and(|before| before.told && before.misnamed == misnamed),
            misnamed,
            comments: raw.comments,
        });
        self.others.insert(raw.number, stray);
    }

    /// The issues that were meant as entries, by number.
    pub(super) fn strays(&self) -> impl Iterator<Item = (u64, &Stray)> {
        let strays = self.others.iter();
        strays.filter_map(|(number, stray)| Some((*number, stray.as_ref()?)))
    }

    /// Notes that the author of such an issue has been told.
    pub(super) fn note_told(&mut self, number: u64) {
        if let Some(Some(stray)) = self.others.get_mut(&number) {
            stray.told = true;
        }
    }

    /// How many issues and pull requests are open.
    pub(super) fn open(&self) -> u64 {
        (self.entries.len() + self.others.len()) as u64
    }

    /// What has been seen of an issue.
    pub(super) fn known(&self, number: u64) -> Option<&Known> {
        self.entries.get(&number)
    }

    /// What has been seen of an issue, to note something about it.
    pub(super) fn known_mut(&mut self, number: u64) -> Option<&mut Known> {
        self.entries.get_mut(&number)
    }

    /// Forgets an issue that is closed or deleted.
    pub(super) fn forget(&mut self, number: u64) {
        self.entries.remove(&number);
    }

    /// All issues, newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Issue> {
        self.entries.values().rev().map(|known| &known.issue)
    }

    /// The issues with a title, newest first.
    pub(super) fn titled(&self, title: &Title) -> Vec<Issue> {
        self.all()
            .filter(|issue| issue.title == *title)
            .cloned()
            .collect()
    }

    /// The issues of a kind: by title, newest first.
    pub(super) fn of_kind(&self, kind: Kind) -> Vec<Issue> {
        let mut issues: Vec<Issue> = self
            .all()
            .filter(|issue| issue.title.kind() == kind)
            .cloned()
            .collect();
        issues.sort_by(|a, b| a.title.cmp(&b.title));
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::issue::RawReactions;

    fn raw(number: u64, title: &str, state: &str, minute: u32) -> RawIssue {
        let text = format!(
            r#"{{"number":{number},"node_id":"I_{number}","title":"{title}","body":"x","state":"{state}",
            "user":{{"login":"octo"}},"comments":0,"updated_at":"2026-01-01T00:{minute:02}:00Z"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const TITLE: &str = "333.hula.atlas.x509.csr";

    #[test]
    fn changes_are_taken_in() {
        let mut mirror = Mirror::default();
        mirror.take(&raw(1, TITLE, "open", 1));
        mirror.take(&raw(2, "hello", "open", 2));
        mirror.take(&raw(3, TITLE, "open", 3));
        let numbers = |mirror: &Mirror| -> Vec<u64> {
            let title = TITLE.parse().unwrap();
            mirror
                .titled(&title)
                .iter()
                .map(|issue| issue.number)
                .collect()
        };
        assert_eq!((numbers(&mirror), mirror.open()), (vec![3, 1], 3));
        mirror.take(&raw(3, TITLE, "closed", 4));
        mirror.take(&raw(2, "hello", "closed", 4));
        assert_eq!((numbers(&mirror), mirror.open()), (vec![1], 1));
        mirror.take(&raw(1, "renamed", "open", 5));
        assert_eq!((numbers(&mirror), mirror.open()), (vec![], 1));
    }

    #[test]
    fn a_reaction_is_no_change_of_the_issue() {
        let mut mirror = Mirror::default();
        let mut one = raw(1, TITLE, "open", 1);
        mirror.take(&one);
        let known = mirror.known_mut(1).unwrap();
        (known.checked, known.seen) = (Some(Ok("x\n".to_owned())), Some(false));
        one.reactions = Some(RawReactions { eyes: 1 });
        mirror.take(&one);
        let known = mirror.known(1).unwrap();
        assert!(known.checked.is_some());
        assert_eq!((known.eyes, known.seen), (1, None));
    }

    #[test]
    fn what_was_meant_as_an_entry_is_told_once() {
        let mut mirror = Mirror::default();
        let stray = |mirror: &Mirror| mirror.strays().next().map(|(_, stray)| stray.told);
        mirror.take(&raw(1, "hello", "open", 1));
        assert_eq!(stray(&mirror), None);
        mirror.take(&raw(2, "x.333.hula.atlas.x509.csr", "open", 1));
        assert_eq!((stray(&mirror), mirror.open()), (Some(false), 2));
        mirror.note_told(2);
        mirror.take(&raw(2, "x.333.hula.atlas.x509.csr", "open", 2));
        assert_eq!(stray(&mirror), Some(true));
        mirror.take(&raw(2, "y.333.hula.atlas.x509.csr", "open", 3));
        assert_eq!(stray(&mirror), Some(false));
        mirror.take(&raw(2, TITLE, "open", 4));
        assert_eq!((stray(&mirror), mirror.open()), (None, 2));
    }

    #[test]
    fn an_old_page_does_not_undo_a_change() {
        let mut mirror = Mirror::default();
        mirror.take(&raw(1, TITLE, "open", 5));
        mirror.known_mut(1).unwrap().checked = Some(Ok("x\n".to_owned()));
        mirror.take(&raw(1, TITLE, "closed", 4));
        assert!(mirror.known(1).unwrap().checked.is_some());
        // The same again keeps what was asked about it, a change does not.
        mirror.take(&raw(1, TITLE, "open", 5));
        assert!(mirror.known(1).unwrap().checked.is_some());
        mirror.take(&raw(1, TITLE, "open", 6));
        assert!(mirror.known(1).unwrap().checked.is_none());
    }
}
