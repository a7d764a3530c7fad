//! An issue as GitHub describes it, and as an entry.

use serde::Deserialize;

use crate::{Author, BodyFault, Kind, Misnamed, Revision, Title};

/// What is read of an issue.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawIssue {
    pub(super) number: u64,
    pub(super) node_id: String,
    pub(super) title: String,
    pub(super) body: Option<String>,
    pub(super) state: String,
    pub(super) user: Option<RawUser>,
    pub(super) comments: u64,
    pub(super) updated_at: String,
    pub(super) pull_request: Option<serde::de::IgnoredAny>,
    pub(super) reactions: Option<RawReactions>,
}

/// What is read of a user.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawUser {
    pub(super) login: String,
}

/// What is read of a comment.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawComment {
    pub(super) body: Option<String>,
    pub(super) user: Option<RawUser>,
}

/// How often there is a reaction.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct RawReactions {
    pub(super) eyes: u64,
}

/// What is read of one reaction.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawReaction {
    pub(super) user: Option<RawUser>,
}

/// What is read of a repository.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RawRepository {
    pub(super) open_issues_count: u64,
}

/// An open issue that has a title of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) number: u64,
    pub(super) node_id: String,
    pub(super) title: Title,
    /// In lower case.
    pub(super) author: String,
    pub(super) updated_at: String,
    pub(super) comments: u64,
    pub(super) body: Result<String, BodyFault>,
}

impl RawIssue {
    /// The entry that this issue is, unless it is closed, or another thing.
    pub(super) fn entry(&self) -> Option<Issue> {
        let title: Title = self.title.parse().ok().filter(|_| self.is_open())?;
        // What has no author was written by an account that is gone.
        let author = self.user.as_ref()?.login.to_ascii_lowercase();
        if self.pull_request.is_some() {
            return None;
        }
        let body = content(self.body.as_deref().unwrap_or_default(), title.kind());
        Some(Issue {
            number: self.number,
            node_id: self.node_id.clone(),
            title,
            author,
            updated_at: self.updated_at.clone(),
            comments: self.comments,
            body,
        })
    }

    /// What its author is to be told if its title was meant as one of ours and is none.
    pub(super) fn misnamed(&self) -> Option<Misnamed> {
        if !self.is_open() || self.pull_request.is_some() {
            return None;
        }
        let login = self.user.as_ref()?.login.to_ascii_lowercase();
        // Its text is looked at by nobody: it is the name that may change.
        let revision = revision(self.number, &self.title);
        Misnamed::of(&self.title, Author::GitHub { login }, revision)
    }

    /// How many have reacted with eyes.
    pub(super) fn eyes(&self) -> u64 {
        self.reactions.map_or(0, |reactions| reactions.eyes)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == "open"
    }
}

/// An issue's number, and the digest of its text: it changes when the body does, and tells which of several issues with the
/// same text is meant.
pub(super) fn revision(number: u64, body: &str) -> Revision {
    Revision::named(format!("{number}:{}", Revision::of_body(body)))
}

/// The number in such a revision.
pub(super) fn number(revision: &Revision) -> Option<u64> {
    revision.as_str().split_once(':')?.0.parse().ok()
}

/// The text that a body stands for: without a code fence around it, with line ends as in files, and with exactly one at the
/// end, which GitHub does not promise to keep.
pub(super) fn content(body: &str, kind: Kind) -> Result<String, BodyFault> {
    let limit = kind.max_body();
    // The fence and its line ends are no part of the content.
    if body.len() > limit + MAX_FENCE {
        return Err(BodyFault::TooLarge { limit });
    }
    let body = body.replace("\r\n", "\n");
    let text = unfenced(body.trim_matches('\n')).trim_end();
    if text.len() >= limit {
        return Err(BodyFault::TooLarge { limit });
    }
    Ok(format!("{text}\n"))
}

/// A body which is one code block, without its fence (`CommonMark` 0.31, section 4.5).
fn unfenced(text: &str) -> &str {
    let mark = text.trim_end();
    let fence: &str = mark
        .find(|c| c != '`' && c != '~')
        .and_then(|end| mark.get(..end))
        .unwrap_or_default();
    if fence.len() < 3 {
        return text;
    }
    let inner = || {
        let (_, rest) = mark.split_once('\n')?;
        let (inner, last) = rest.rsplit_once('\n')?;
        (last.trim() == fence).then_some(inner)
    };
    inner().unwrap_or(text)
}

/// Room for a fence with the name of a language, and for the line ends of Windows.
const MAX_FENCE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> String {
        content(body, Kind::SshPublicKey).unwrap()
    }

    #[test]
    fn a_body_is_what_the_file_was() {
        let line = "ssh-ed25519 AAAA 333.hula.atlas\n";
        let forms = [
            "ssh-ed25519 AAAA 333.hula.atlas",
            "ssh-ed25519 AAAA 333.hula.atlas\r\n",
            "```\nssh-ed25519 AAAA 333.hula.atlas\n```",
            "```text\r\nssh-ed25519 AAAA 333.hula.atlas\r\n```\r\n",
            "\n~~~~\nssh-ed25519 AAAA 333.hula.atlas\n\n~~~~\n",
        ];
        for form in forms {
            assert_eq!(read(form), line, "{form:?}");
        }
        // What is not one block stays as it is, for its reader to refuse.
        for other in ["```\nkey", "``\nkey\n``", "text\n```\nkey\n```"] {
            assert_eq!(read(other), format!("{other}\n"));
        }
    }

    #[test]
    fn a_body_has_a_limit() {
        let limit = Kind::SshPublicKey.max_body();
        for length in [limit, limit + 400, 1 << 20] {
            assert_eq!(
                content(&"x".repeat(length), Kind::SshPublicKey),
                Err(BodyFault::TooLarge { limit })
            );
        }
        assert!(content(&"x".repeat(limit - 1), Kind::SshPublicKey).is_ok());
    }

    #[test]
    fn pull_requests_closed_issues_and_other_titles_are_no_entries() {
        let issue = |extra: &str| -> RawIssue {
            let text = format!(
                r#"{{"number":1,"node_id":"I_1","title":"333.hula.atlas.x509.csr","body":null,"state":"open",
                "user":{{"login":"Octo"}},"comments":0,"updated_at":"2026-01-01T00:00:00Z"{extra}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(issue("").entry().unwrap().author, "octo");
        assert_eq!(issue(r#","pull_request":{}"#).entry(), None);
        let mut closed = issue("");
        closed.state = "closed".to_owned();
        assert_eq!(closed.entry(), None);
        let mut other = issue("");
        other.title = "Where is my tunnel?".to_owned();
        assert_eq!(other.entry(), None);
    }
}
