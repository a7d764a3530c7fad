//! The normative statements of MQTT 3.1.1, as its appendix B numbers them, and where each is shown.

use std::collections::{BTreeMap, BTreeSet};

use super::cases::SUBJECTS;

/// The sections with statements, and how many each has. Theirs are numbered from 1 without gaps.
pub(super) const SECTIONS: &[(&str, u32)] = &[
    ("1.5.3", 3),
    ("2.2.2", 2),
    ("2.3.1", 7),
    ("3.1.0", 2),
    ("3.1.2", 24),
    ("3.1.3", 11),
    ("3.1.4", 5),
    ("3.2.0", 1),
    ("3.2.2", 6),
    ("3.3.1", 12),
    ("3.3.2", 3),
    ("3.3.4", 1),
    ("3.3.5", 2),
    ("3.6.1", 1),
    ("3.8.1", 1),
    // The fourth is written 3-8.3-4 in the standard.
    ("3.8.3", 4),
    ("3.8.4", 6),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.12.4", 1),
    ("3.14.1", 1),
    ("3.14.4", 3),
    ("4.1.0", 2),
    ("4.3.1", 1),
    ("4.3.2", 2),
    ("4.3.3", 2),
    ("4.4.0", 1),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.1", 3),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.0", 2),
    ("6.0.0", 4),
    ("7.0.0", 2),
    ("7.1.1", 1),
    ("7.1.2", 1),
];

/// Statements without a case, and why.
pub(super) const WITHOUT_CASE: &[(&str, &str)] = &[
    ("2.3.1-2", "binds clients; the same for a server is 2.3.1-4"),
    ("2.3.1-3", "binds clients; the same for a server is 2.3.1-4"),
    ("3.1.2-23", "binds clients"),
    (
        "3.1.3-7",
        "binds clients; what a server answers to others is 3.1.3-8",
    ),
    (
        "3.14.4-1",
        "binds clients; a client that only says DISCONNECT is closed in the case of 3.14.4-3",
    ),
    ("3.14.4-2", "binds clients"),
    ("4.5.0-2", "binds clients"),
    (
        "4.6.0-2",
        "binds clients; acknowledgements out of order are taken in the case of 4.4.0-1",
    ),
    ("4.6.0-3", "binds clients"),
    ("4.6.0-4", "binds clients"),
    (
        "4.8.0-2",
        "no client can bring it about for certain; `broker::slow::a_slow_subscriber_costs_only_itself` shows it with a small queue",
    ),
    ("6.0.0-1", "no WebSocket is offered"),
    ("6.0.0-2", "no WebSocket is offered"),
    ("6.0.0-3", "no WebSocket is offered"),
    ("6.0.0-4", "no WebSocket is offered"),
    ("7.0.0-1", "the broker connects to no other broker"),
    ("7.1.2-1", "binds clients"),
];

/// Every statement, in the standard's order, as it is written there.
pub(super) fn all() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|(section, count)| {
        (1..=*count).map(move |number| match (*section, number) {
            ("3.8.3", 4) => "3-8.3-4".to_owned(),
            _ => format!("{section}-{number}"),
        })
    })
}

/// The cases of each statement, as subject and name.
pub(super) fn covered() -> BTreeMap<&'static str, Vec<(&'static str, &'static str)>> {
    let mut covered: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (subject, cases) in SUBJECTS {
        for case in *cases {
            for statement in case.covers {
                covered
                    .entry(*statement)
                    .or_default()
                    .push((*subject, case.name));
            }
        }
    }
    covered
}

#[test]
fn every_statement_has_a_case_or_a_reason_and_no_case_is_for_none() {
    let all: BTreeSet<String> = all().collect();
    let covered = covered();
    let excused: BTreeMap<_, _> = WITHOUT_CASE.iter().copied().collect();
    for statement in &all {
        let (has_case, has_reason) = (
            covered.contains_key(&**statement),
            excused.contains_key(&**statement),
        );
        assert!(
            has_case || has_reason,
            "MQTT-{statement} has no case and no reason"
        );
        assert!(
            !(has_case && has_reason),
            "MQTT-{statement} has a case and a reason against it"
        );
    }
    for statement in covered.keys().chain(excused.keys()) {
        assert!(all.contains(*statement), "there is no MQTT-{statement}");
    }
}

#[test]
fn names_of_cases_are_used_once() {
    let names: Vec<_> = SUBJECTS
        .iter()
        .flat_map(|(_, cases)| cases.iter().map(|case| case.name))
        .collect();
    let different: BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len());
    assert!(names.len() > 100, "{}", names.len());
}
