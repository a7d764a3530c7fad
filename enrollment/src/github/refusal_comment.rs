//! A refusal as a comment under the issue.

use crate::{Refusal, Revision};

/// The comment that tells a refusal of this revision. The words stand in a code block: they may hold what a stranger wrote,
/// and must neither become markup nor call people by their names.
pub(super) fn write(revision: &Revision, refusal: &Refusal) -> String {
    format!(
        "This is not served.\n\n```text\n{REASON}{}\n{REMEDY}{}\n```\n\n{}",
        refusal.reason(),
        refusal.remedy(),
        marker(revision)
    )
}

/// The refusal of this revision that a comment tells, if it does.
pub(super) fn read(revision: &Revision, comment: &str) -> Option<Refusal> {
    if comment.len() > MAX_COMMENT || !comment.contains(&marker(revision)) {
        return None;
    }
    let line = |start: &str| comment.lines().find_map(|line| line.strip_prefix(start));
    Some(Refusal::new(
        line(REASON)?.trim_end(),
        line(REMEDY)?.trim_end(),
    ))
}

/// Not seen on the page, and found again by [`read`].
fn marker(revision: &Revision) -> String {
    format!("<!-- tunnel: refused {revision} -->")
}

const REASON: &str = "reason: ";
const REMEDY: &str = "what to do: ";

/// The longest comment that can be ours, in bytes: two texts of [`crate::registry::MAX_TEXT`] characters of four bytes, and
/// the words around.
const MAX_COMMENT: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_for_its_revision_only() {
        let (one, two) = (Revision::named("1:ab"), Revision::named("1:cd"));
        let refusal = Refusal::new("`@octo` may <!-- not -->\n```\nupload", "ask");
        let comment = write(&one, &refusal);
        assert_eq!(read(&one, &comment), Some(refusal.clone()));
        assert_eq!(read(&one, &comment.replace('\n', "\r\n")), Some(refusal));
        assert_eq!(read(&two, &comment), None);
        assert_eq!(read(&one, "thank you"), None);
        // The reason is one line, so it cannot end the block.
        assert_eq!(comment.matches("\n```").count(), 2);
    }
}
