//! No client of the bundled policies gets beyond its own system, whatever it is called and whatever it asks for.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use policies::{Action, PolicySet, RoleDocument, Subject};

fuzz_target!(|question: &str| {
    let mut lines = question.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (client_id, system, device, resource) = (line(), line(), line(), line());
    let Ok(subject) = Subject::new(client_id)
        .and_then(|subject| subject.with_common_name(client_id))
        .and_then(|subject| subject.with_organization(system))
        .and_then(|subject| subject.with_organizational_unit(device))
    else {
        return;
    };
    for role in RoleDocument::ALL {
        let policy = BUNDLED.get(role);
        let own = format!("atlas/{system}/");
        for action in [
            Action::Publish,
            Action::RetainPublish,
            Action::Subscribe,
            Action::Receive,
        ] {
            let allowed = policy.decide(&subject, action, resource).is_allowed();
            assert!(
                !allowed || resource.starts_with(&own),
                "{role:?} {action:?} {resource:?}"
            );
        }
        let connects = policy
            .decide(&subject, Action::Connect, resource)
            .is_allowed();
        assert!(
            !connects || resource == client_id,
            "{role:?} connects as {resource:?}"
        );
    }
});

static BUNDLED: LazyLock<PolicySet> =
    LazyLock::new(|| PolicySet::for_realm("atlas").expect("the bundled policies"));
