//! The answer to one question about one client.

use crate::action::Action;
use crate::document::{Policy, statement_name};
use crate::pattern::{Fit, Pattern};
use crate::statement::{Effect, Statement};
use crate::subject::Subject;

/// A policy document for one realm, ready to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPolicy {
    rules: Box<[Rule]>,
}

/// One statement of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) effect: Effect,
    pub(crate) actions: Box<[Action]>,
    pub(crate) resources: Box<[Pattern]>,
}

/// What a document says to a question, and which of its statements says so: its `Sid`, or `#` and its place from 1.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'p> {
    /// Allowed, and nowhere denied.
    Allowed {
        /// The first statement that allows it.
        statement: &'p str,
    },
    /// Denied, even if it is allowed elsewhere.
    ExplicitDeny {
        /// The first statement that denies it.
        statement: &'p str,
    },
    /// Nothing is said of it, which means no.
    NoMatch,
}

/// The longest resource that is decided, in bytes; a longer one is answered with [`Decision::NoMatch`]. AWS IoT topics
/// have at most 256. The cost of a decision is bounded by this, times the length of the patterns with a `*`.
pub const MAX_RESOURCE: usize = 1024;

impl BoundPolicy {
    /// `realm` is a checked name.
    pub(crate) fn new(policy: &Policy, realm: &str) -> Self {
        let rule = |(place, statement): (usize, &Statement)| Rule {
            name: statement_name(statement.sid.as_deref(), place).into(),
            effect: statement.effect,
            actions: statement.actions.as_slice().into(),
            resources: statement
                .resources
                .iter()
                .map(|arn| arn.in_realm(realm))
                .collect(),
        };
        Self {
            rules: (1..).zip(policy.statements()).map(rule).collect(),
        }
    }

    /// Whether the subject may do this to the resource: the client id for [`Action::Connect`], the filter as it was
    /// sent for [`Action::Subscribe`], a concrete topic for all others.
    ///
    /// Nothing is allocated, so it can be asked for every packet.
    pub fn decide(&self, subject: &Subject, action: Action, resource: &str) -> Decision<'_> {
        if resource.len() > MAX_RESOURCE {
            return Decision::NoMatch;
        }
        let mut decision = Decision::NoMatch;
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.actions.contains(&action))
        {
            let statement = &*rule.name;
            match (rule.effect, rule.fit(subject, resource)) {
                // An unknown value may be the denied one. Documents with such a Deny are refused when they are read.
                (Effect::Deny, Fit::Matches | Fit::Unknown) => {
                    return Decision::ExplicitDeny { statement };
                }
                (Effect::Allow, Fit::Matches) if decision == Decision::NoMatch => {
                    decision = Decision::Allowed { statement };
                }
                (Effect::Allow, _) | (Effect::Deny, Fit::Differs) => {}
            }
        }
        decision
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first statement that denies something.
    pub(crate) fn first_deny(&self) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.effect == Effect::Deny)
    }
}

impl Rule {
    fn fit(&self, subject: &Subject, resource: &str) -> Fit {
        let mut best = Fit::Differs;
        for pattern in &self.resources {
            best = best.max(pattern.fit(|variable| subject.value(variable), resource));
            if best == Fit::Matches {
                break;
            }
        }
        best
    }
}

impl Decision<'_> {
    /// Whether it may happen.
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::Allowed { .. } => true,
            Self::ExplicitDeny { .. } | Self::NoMatch => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(statements: &str) -> BoundPolicy {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        Policy::parse(document.as_bytes())
            .unwrap()
            .bind("atlas")
            .unwrap()
    }

    fn statement(effect: &str, action: &str, resource: &str) -> String {
        format!(
            r#"{{"Effect":"{effect}","Action":"iot:{action}","Resource":"arn:aws:iot:REGION:ACCOUNT:{resource}"}}"#
        )
    }

    #[test]
    fn a_deny_wins_wherever_it_stands() {
        let allow = statement("Allow", "Publish", "topic/REALM/*");
        let deny = statement("Deny", "Publish", "topic/REALM/*/secret");
        let subject = Subject::new("333.hula.atlas").unwrap();
        for (document, place) in [
            (format!("{allow},{deny}"), "#2"),
            (format!("{deny},{allow}"), "#1"),
        ] {
            let policy = bound(&document);
            let decision = policy.decide(&subject, Action::Publish, "atlas/a/b/secret");
            assert_eq!(decision, Decision::ExplicitDeny { statement: place });
            assert!(
                policy
                    .decide(&subject, Action::Publish, "atlas/a/b")
                    .is_allowed()
            );
        }
    }

    #[test]
    fn the_first_statement_that_allows_is_named() {
        let policy = bound(
            &[
                statement("Allow", "Publish", "topic/REALM/b"),
                statement("Allow", "Publish", "topic/REALM/a"),
                statement("Allow", "Publish", "topic/REALM/*"),
            ]
            .join(","),
        );
        let subject = Subject::new("id").unwrap();
        let decision = policy.decide(&subject, Action::Publish, "atlas/a");
        assert_eq!(decision, Decision::Allowed { statement: "#2" });
    }

    #[test]
    fn an_allow_without_its_value_says_nothing() {
        let policy = bound(&statement(
            "Allow",
            "Publish",
            "topic/REALM/${iot:Certificate.Subject.Organization}*",
        ));
        let nobody = Subject::new("id").unwrap();
        assert_eq!(
            policy.decide(&nobody, Action::Publish, "atlas/hula"),
            Decision::NoMatch
        );
        let somebody = nobody.with_organization("hula").unwrap();
        assert!(
            policy
                .decide(&somebody, Action::Publish, "atlas/hula")
                .is_allowed()
        );
    }

    #[test]
    fn a_deny_without_its_value_denies() {
        let mut policy = bound(&statement("Allow", "Publish", "topic/REALM/*"));
        let deny = Rule {
            name: "Lost".into(),
            effect: Effect::Deny,
            actions: [Action::Publish].into(),
            resources: [Pattern::parse("${iot:Certificate.Subject.CommonName}").unwrap()].into(),
        };
        policy.rules = policy.rules.iter().cloned().chain([deny]).collect();
        let decision = policy.decide(&Subject::new("id").unwrap(), Action::Publish, "atlas/a");
        assert_eq!(decision, Decision::ExplicitDeny { statement: "Lost" });
    }

    #[test]
    fn longer_resources_than_any_are_not_looked_at() {
        let policy = bound(&statement("Allow", "Publish", "topic/REALM/*"));
        let subject = Subject::new("id").unwrap();
        let topic = |length: usize| format!("atlas/{}", "a".repeat(length - 6));
        assert!(
            policy
                .decide(&subject, Action::Publish, &topic(MAX_RESOURCE))
                .is_allowed()
        );
        assert_eq!(
            policy.decide(&subject, Action::Publish, &topic(MAX_RESOURCE + 1)),
            Decision::NoMatch
        );
    }
}
