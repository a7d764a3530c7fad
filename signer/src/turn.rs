//! Whose request is served first, and how many strangers are answered.

use std::time::Duration;

use enrollment::{Decision, Entry};
use tokio::time::Instant;

use crate::Rules;

/// A request, and what is known of its author's permission before it is looked at.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) entry: Entry,
    pub(crate) is_strangers: bool,
}

/// The realm's requests in the order in which they are served: those that are known to be permitted first, those of strangers
/// last, who can hand in as many as they like. What is for another realm is that one's signer's business, who may use the same
/// place: to refuse it would be to speak for the other. Blocks for as long as a rule does; nobody is asked.
pub(crate) fn in_turn(rules: &Rules, entries: Vec<Entry>) -> Vec<Turn> {
    let mut turns: Vec<(u8, Turn)> = entries
        .into_iter()
        .filter(|entry| *entry.title.id().realm() == rules.realm)
        .map(|entry| {
            let decided = rules.permission.decided(&entry.author, entry.title.id());
            let (rank, is_strangers) = match decided {
                Decision::Permitted => (0, false),
                Decision::Undecided => (1, false),
                Decision::Refused => (2, true),
            };
            let turn = Turn {
                entry,
                is_strangers,
            };
            (rank, turn)
        })
        .collect();
    turns.sort_by_key(|(rank, _)| *rank);
    turns.into_iter().map(|(_, turn)| turn).collect()
}

/// How many strangers may still be answered within this minute. The others are later.
#[derive(Debug)]
pub(crate) struct Courtesy {
    left: usize,
    since: Instant,
}

impl Courtesy {
    pub(crate) fn new() -> Self {
        Self {
            left: STRANGERS,
            since: Instant::now(),
        }
    }

    /// A look begins.
    pub(crate) fn renew(&mut self) {
        if self.since.elapsed() >= MINUTE {
            *self = Self::new();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// One has been answered.
    pub(crate) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

const MINUTE: Duration = Duration::from_mins(1);

/// How many strangers are answered within a minute. GitHub lets a user write 500 times an hour
/// (<https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>, "secondary rate limits"): 200 of
/// them stay for certificates.
const STRANGERS: usize = 5;

#[cfg(test)]
mod tests {
    use enrollment::{Author, Revision, UploadPermission};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_are_answered_a_few_a_minute() {
        let mut courtesy = Courtesy::new();
        for _ in 0..STRANGERS {
            courtesy.renew();
            assert!(!courtesy.is_over());
            courtesy.spend();
        }
        courtesy.renew();
        assert!(courtesy.is_over());
        tokio::time::advance(MINUTE).await;
        courtesy.renew();
        assert!(!courtesy.is_over());
    }

    #[test]
    fn strangers_come_last_and_other_realms_never() {
        let rules = Rules {
            realm: "atlas".parse().unwrap(),
            suffix: "".parse().unwrap(),
            permission: UploadPermission::asking(
                |_, _| panic!("nobody is asked here"),
                |author, _| {
                    if *author == (Author::LocalUser { uid: 1 }) {
                        Decision::Permitted
                    } else if *author == (Author::LocalUser { uid: 2 }) {
                        Decision::Undecided
                    } else {
                        Decision::Refused
                    }
                },
            ),
        };
        let entry = |name: &str, uid| Entry {
            title: format!("{name}.x509.csr").parse().unwrap(),
            author: Author::LocalUser { uid },
            revision: Revision::of_body(""),
            body: Ok(String::new()),
            arrived: 1,
        };
        let entries = vec![
            entry("a.hula.atlas", 3),
            entry("b.hula.atlas", 2),
            entry("c.hula.other", 1),
            entry("d.hula.atlas", 1),
        ];
        let turns = in_turn(&rules, entries);
        let order: Vec<(String, bool)> = turns
            .iter()
            .map(|turn| (turn.entry.title.id().to_string(), turn.is_strangers))
            .collect();
        let expected = [
            ("d.hula.atlas", false),
            ("b.hula.atlas", false),
            ("a.hula.atlas", true),
        ];
        assert_eq!(order, expected.map(|(id, last)| (id.to_owned(), last)));
    }
}
