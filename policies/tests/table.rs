//! Every question that a client of either role can ask of the bundled documents, with its answer.
//!
//! What is allowed is listed here in full; every other pair of an action and a resource must find no statement.

use std::collections::BTreeSet;

use policies::{Action, Decision, PolicySet, RoleDocument, Subject};
use proptest::prelude::*;

/// Device names: two targets, two controllers, and three that only look like one or the other.
const NAMES: [&str; 7] = [
    "333",
    "444",
    "controller",
    "controller-b",
    "my-controller",
    "control",
    "tunnel",
];
const REALMS: [&str; 3] = ["atlas", "borealis", "REALM"];
const SYSTEMS: [&str; 3] = ["hula", "limbo", "hul"];

/// Topics, filters and ids that nobody may use for anything.
const HOSTILE: [&str; 46] = [
    "",
    "/",
    "//",
    "#",
    "+",
    "*",
    "?",
    "+/#",
    "+/+",
    "+/+/+/+/+",
    "+/+/+/tunnel/+",
    "$SYS/#",
    "$SYS/broker/version",
    "$share/g/atlas/hula/+/tunnel/presence",
    "$share/g/#",
    "$aws/things/333/shadow/update",
    "$aws/#",
    "atlas",
    "atlas/",
    "atlas/#",
    "atlas/+",
    "atlas/hula",
    "atlas/hula/#",
    "atlas/hula/+",
    "atlas/hula/+/#",
    "atlas/hula/333",
    "atlas/hula/333/#",
    "atlas/hula/333/tunnel",
    "atlas/hula/333/tunnel/#",
    "atlas/hula/333/tunnel/+",
    "atlas/hula/+/tunnel/+",
    "atlas/hula/+/tunnel/#",
    "atlas/+/333/tunnel/control",
    "atlas/+/+/tunnel/presence",
    "+/hula/+/tunnel/presence",
    "atlas/hula/333/tunnel/control/",
    "atlas/hula/333/tunnel/control/#",
    "/atlas/hula/333/tunnel/control",
    "atlas//333/tunnel/control",
    "Atlas/hula/333/tunnel/control",
    "atlas/hula/333/tunnel/presence/",
    "atlas/hula/333/tunnel/presence/x",
    "atlas/${iot:Certificate.Subject.Organization}/333/tunnel/control",
    "atlas/*/333/tunnel/control",
    "é/hula/333/tunnel/control",
    "atlas/hula\0/333/tunnel/control",
];

struct Asker {
    name: &'static str,
    system: &'static str,
    role: RoleDocument,
}

impl Asker {
    fn client_id(&self) -> String {
        format!("{}.{}.atlas", self.name, self.system)
    }

    fn subject(&self) -> Subject {
        subject(&self.client_id(), self.system, self.name)
    }

    /// All that this client may do, written out.
    fn allowed(&self) -> BTreeSet<(&'static str, String)> {
        let Self { name, system, role } = self;
        let base = format!("atlas/{system}/{name}/tunnel");
        let mut allowed = BTreeSet::from([("iot:Connect", self.client_id())]);
        match role {
            RoleDocument::Target => {
                allowed.extend([
                    ("iot:Publish", format!("{base}/presence")),
                    ("iot:RetainPublish", format!("{base}/presence")),
                    ("iot:Publish", format!("{base}/state")),
                    (
                        "iot:Publish",
                        format!("atlas/{system}/controller/tunnel/reply/{name}"),
                    ),
                    (
                        "iot:Publish",
                        format!("atlas/{system}/controller-b/tunnel/reply/{name}"),
                    ),
                    ("iot:Subscribe", format!("{base}/control")),
                    ("iot:Subscribe", format!("{base}/control/+")),
                    ("iot:Receive", format!("{base}/control")),
                    ("iot:Receive", format!("{base}/control/controller")),
                    ("iot:Receive", format!("{base}/control/controller-b")),
                ]);
            }
            RoleDocument::Controller => {
                allowed.insert(("iot:Subscribe", format!("{base}/reply/+")));
                allowed.insert(("iot:Subscribe", format!("atlas/{system}/+/tunnel/presence")));
                allowed.insert(("iot:Subscribe", format!("atlas/{system}/+/tunnel/state")));
                for device in NAMES {
                    let other = format!("atlas/{system}/{device}/tunnel");
                    allowed.extend([
                        ("iot:Publish", format!("{other}/control")),
                        ("iot:Publish", format!("{other}/control/{name}")),
                        ("iot:Subscribe", format!("{other}/presence")),
                        ("iot:Subscribe", format!("{other}/state")),
                        ("iot:Receive", format!("{other}/presence")),
                        ("iot:Receive", format!("{other}/state")),
                        ("iot:Receive", format!("{base}/reply/{device}")),
                    ]);
                }
            }
        }
        allowed
    }
}

const ASKERS: [Asker; 6] = [
    Asker {
        name: "333",
        system: "hula",
        role: RoleDocument::Target,
    },
    Asker {
        name: "444",
        system: "hula",
        role: RoleDocument::Target,
    },
    Asker {
        name: "333",
        system: "limbo",
        role: RoleDocument::Target,
    },
    Asker {
        name: "controller",
        system: "hula",
        role: RoleDocument::Controller,
    },
    Asker {
        name: "controller-b",
        system: "hula",
        role: RoleDocument::Controller,
    },
    Asker {
        name: "controller",
        system: "limbo",
        role: RoleDocument::Controller,
    },
];

#[expect(clippy::unwrap_used, reason = "a test's own names are good")]
fn subject(client_id: &str, system: &str, name: &str) -> Subject {
    Subject::new(client_id)
        .and_then(|subject| subject.with_common_name(client_id))
        .and_then(|subject| subject.with_organization(system))
        .and_then(|subject| subject.with_organizational_unit(name))
        .unwrap()
}

/// Every topic of every realm, system and device, or with `+` also every filter of that form.
fn tree(plus: &[&'static str]) -> BTreeSet<String> {
    let with = |names: &[&'static str]| names.iter().chain(plus).copied().collect::<Vec<_>>();
    let mut tree = BTreeSet::new();
    for realm in with(&REALMS) {
        for system in with(&SYSTEMS) {
            for device in with(&NAMES) {
                let base = format!("{realm}/{system}/{device}/tunnel");
                tree.extend(
                    ["presence", "control", "state", "reply", "other"]
                        .map(|word| format!("{base}/{word}")),
                );
                for peer in with(&NAMES) {
                    tree.insert(format!("{base}/control/{peer}"));
                    tree.insert(format!("{base}/reply/{peer}"));
                    tree.insert(format!("{base}/state/{peer}"));
                }
            }
        }
    }
    tree
}

fn client_ids() -> BTreeSet<String> {
    let ids = REALMS.iter().flat_map(|realm| {
        SYSTEMS
            .iter()
            .flat_map(move |system| NAMES.map(|name| format!("{name}.{system}.{realm}")))
    });
    ids.chain(NAMES.map(str::to_owned)).collect()
}

#[test]
fn all_that_is_allowed_is_listed_and_nothing_else_is() {
    let policies = PolicySet::for_realm("atlas").unwrap();
    // A topic with `+` in it cannot be published on; as a filter it is one more question.
    let topics: BTreeSet<String> = tree(&[])
        .into_iter()
        .chain(HOSTILE.map(str::to_owned))
        .chain(client_ids())
        .collect();
    let filters: BTreeSet<String> = tree(&["+"]).union(&topics).cloned().collect();
    let (mut asked, mut granted) = (0, 0);
    for asker in ASKERS {
        let allowed = asker.allowed();
        let subject = asker.subject();
        for action in Action::ALL {
            for resource in if action == Action::Subscribe {
                &filters
            } else {
                &topics
            } {
                let decision = policies.get(asker.role).decide(&subject, action, resource);
                let wanted = allowed.contains(&(action.name(), resource.clone()));
                match decision {
                    Decision::Allowed { .. } => granted += 1,
                    Decision::NoMatch => {}
                    Decision::ExplicitDeny { statement } => panic!("{statement} denies"),
                }
                assert_eq!(
                    decision.is_allowed(),
                    wanted,
                    "{} {action} {resource:?}",
                    asker.client_id()
                );
                asked += 1;
            }
        }
        // Each listed line was among the questions, or the list proves nothing.
        let questions = |line: &(&str, String)| {
            let of = if line.0 == "iot:Subscribe" {
                &filters
            } else {
                &topics
            };
            of.contains(&line.1)
        };
        assert!(allowed.iter().all(questions), "{}", asker.client_id());
    }
    assert_eq!(granted, 3 * 11 + 3 * (4 + 7 * NAMES.len()));
    assert!(asked > 50_000, "{asked}");
}

#[test]
fn the_statement_that_allows_is_named() {
    let policies = PolicySet::for_realm("atlas").unwrap();
    let [target, _, _, controller, _, _] = ASKERS;
    let cases = [
        (&target, Action::Connect, "333.hula.atlas", "Connect"),
        (
            &target,
            Action::Publish,
            "atlas/hula/333/tunnel/presence",
            "Presence",
        ),
        (
            &target,
            Action::Publish,
            "atlas/hula/333/tunnel/state",
            "Answer",
        ),
        (
            &target,
            Action::Subscribe,
            "atlas/hula/333/tunnel/control/+",
            "Listen",
        ),
        (
            &target,
            Action::Receive,
            "atlas/hula/333/tunnel/control/controller",
            "Hear",
        ),
        (
            &controller,
            Action::Publish,
            "atlas/hula/333/tunnel/control/controller",
            "Order",
        ),
    ];
    for (asker, action, resource, statement) in cases {
        let decision = policies
            .get(asker.role)
            .decide(&asker.subject(), action, resource);
        assert_eq!(
            decision,
            Decision::Allowed { statement },
            "{action} {resource}"
        );
    }
}

#[test]
fn a_will_is_a_publish_and_only_ones_own_presence_may_be_retained() {
    let policies = PolicySet::for_realm("atlas").unwrap();
    let [target, _, _, controller, _, _] = ASKERS;
    let may_leave = |asker: &Asker, topic: &str, retain: bool| {
        let may = |action| {
            policies
                .get(asker.role)
                .decide(&asker.subject(), action, topic)
                .is_allowed()
        };
        may(Action::Publish) && (!retain || may(Action::RetainPublish))
    };
    for retain in [false, true] {
        assert!(may_leave(&target, "atlas/hula/333/tunnel/presence", retain));
        for foreign in [
            "atlas/hula/444/tunnel/presence",
            "atlas/limbo/333/tunnel/presence",
            "borealis/hula/333/tunnel/presence",
            "atlas/hula/controller/tunnel/presence",
            "atlas/hula/444/tunnel/control",
            "atlas/hula/444/tunnel/control/333",
            "atlas/hula/controller/tunnel/reply/444",
        ] {
            assert!(!may_leave(&target, foreign, retain), "{foreign}");
        }
        for role in [&target, &controller] {
            assert!(!may_leave(
                role,
                "atlas/limbo/444/tunnel/control/controller",
                retain
            ));
        }
    }
    assert!(!may_leave(&target, "atlas/hula/333/tunnel/state", true));
    assert!(!may_leave(
        &controller,
        "atlas/hula/333/tunnel/control/controller",
        true
    ));
}

#[test]
fn a_certificate_without_its_names_may_do_nothing() {
    let policies = PolicySet::for_realm("atlas").unwrap();
    let bare = Subject::new("333.hula.atlas").unwrap();
    let half = bare
        .clone()
        .with_common_name("333.hula.atlas")
        .unwrap()
        .with_organizational_unit("333")
        .unwrap();
    for role in RoleDocument::ALL {
        for action in Action::ALL {
            for resource in tree(&["+"]).iter().chain(&client_ids()) {
                assert_eq!(
                    policies.get(role).decide(&bare, action, resource),
                    Decision::NoMatch,
                    "{resource}"
                );
                let connects = action == Action::Connect && resource == "333.hula.atlas";
                assert_eq!(
                    policies
                        .get(role)
                        .decide(&half, action, resource)
                        .is_allowed(),
                    connects,
                    "{resource}"
                );
            }
        }
    }
}

/// Text that is likely to come close to a topic of the realm.
fn near_topics() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => proptest::sample::select(vec![
            "atlas", "hula", "limbo", "333", "444", "controller", "tunnel", "control", "reply", "presence", "state",
            "+", "#", "*", "", "atlas/hula/333/tunnel", "atlas/hula/controller/tunnel",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    proptest::collection::vec(word, 0..8).prop_map(|words| words.join("/"))
}

proptest! {
    #[test]
    fn nothing_outside_the_own_system_is_ever_allowed(topic in near_topics()) {
        let policies = PolicySet::for_realm("atlas").unwrap();
        for asker in ASKERS {
            for action in Action::ALL {
                if policies.get(asker.role).decide(&asker.subject(), action, &topic).is_allowed() {
                    let own = format!("atlas/{}/", asker.system);
                    prop_assert!(topic == asker.client_id() || topic.starts_with(&own), "{action} {topic}");
                    let named = topic.split('/').any(|level| level == asker.name);
                    prop_assert!(named || asker.role == RoleDocument::Controller || action == Action::Connect);
                }
            }
        }
    }

    #[test]
    fn any_name_a_subject_may_have_stays_in_its_place(
        system in "[a-zA-Z0-9._-]{1,12}",
        other in "[a-zA-Z0-9._-]{1,12}",
        name in "[a-zA-Z0-9._-]{1,12}",
        peer in "[a-zA-Z0-9._-]{1,12}",
    ) {
        let policies = PolicySet::for_realm("atlas").unwrap();
        let id = format!("{name}.{system}.atlas");
        let subject = subject(&id, &system, &name);
        let target = policies.get(RoleDocument::Target);
        let presence = |system: &str, name: &str| format!("atlas/{system}/{name}/tunnel/presence");
        prop_assert!(target.decide(&subject, Action::Publish, &presence(&system, &name)).is_allowed());
        let foreign = target.decide(&subject, Action::Publish, &presence(&system, &peer));
        prop_assert_eq!(foreign.is_allowed(), peer == name);
        let controller = policies.get(RoleDocument::Controller);
        let seen = controller.decide(&subject, Action::Receive, &presence(&other, &peer));
        prop_assert_eq!(seen.is_allowed(), other == system);
    }

    #[test]
    fn no_question_panics(id in "[a-z.]{1,9}", resource in any::<String>()) {
        let policies = PolicySet::for_realm("atlas").unwrap();
        for role in RoleDocument::ALL {
            for action in Action::ALL {
                let _ = policies.get(role).decide(&Subject::new(&id).unwrap(), action, &resource);
            }
        }
    }
}
