use super::*;
use crate::render::device::tests::device;
use crate::{Policy, RoleDocument};

fn written(statements: &str) -> Result<String, NatsError> {
    let connect = r#"{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:REGION:ACCOUNT:client/*"}"#;
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{connect},{statements}]}}"#);
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let set = PolicySet::new(&policy, &policy, "atlas").unwrap();
    nats(&set, &[device("333", "hula")])
}

fn statement(effect: &str, action: &str, resource: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Action":"iot:{action}","Resource":"arn:aws:iot:REGION:ACCOUNT:{resource}"}}"#
    )
}

#[test]
fn the_file_for_two_systems() {
    let devices = [
        device("controller-a", "hula"),
        device("333", "hula"),
        device("333", "limbo"),
    ];
    let file = nats(&PolicySet::for_realm("atlas").unwrap(), &devices).unwrap();
    let accounts = r#"
accounts {
  "hula": {
    jetstream: enabled
    users: [
      {
        user: "CN=333.hula.atlas,OU=333,O=hula"
        allowed_connection_types: ["MQTT"]
        permissions: {
          publish: { allow: [
            "atlas.hula.333.tunnel.presence"
            "atlas.hula.333.tunnel.state"
            "atlas.hula.controller-a.tunnel.reply.333"
          ] }
          subscribe: { allow: [
            "$MQTT.sub.>"
            "atlas.hula.333.tunnel.control"
            "atlas.hula.333.tunnel.control.*"
          ] }
        }
      }
      {
        user: "CN=controller-a.hula.atlas,OU=controller-a,O=hula"
        allowed_connection_types: ["MQTT"]
        permissions: {
          publish: { allow: [
            "atlas.hula.*.tunnel.control"
            "atlas.hula.*.tunnel.control.controller-a"
          ] }
          subscribe: { allow: [
            "$MQTT.sub.>"
            "atlas.hula.*.tunnel.presence"
            "atlas.hula.*.tunnel.state"
            "atlas.hula.controller-a.tunnel.reply.*"
          ] }
        }
      }
    ]
  }
  "limbo": {
    jetstream: enabled
    users: [
      {
        user: "CN=333.limbo.atlas,OU=333,O=limbo"
        allowed_connection_types: ["MQTT"]
        permissions: {
          publish: { allow: [
            "atlas.limbo.333.tunnel.presence"
            "atlas.limbo.333.tunnel.state"
          ] }
          subscribe: { allow: [
            "$MQTT.sub.>"
            "atlas.limbo.333.tunnel.control"
            "atlas.limbo.333.tunnel.control.*"
          ] }
        }
      }
    ]
  }
}
"#;
    assert_eq!(file, format!("{HEADER}{accounts}"));
}

#[test]
fn what_means_something_to_nats_is_refused() {
    for level in [
        "a.b", ">", "a>", "$SYS", "#", "a b", "a\\\"b", "a\\nb", "{", "a,b", "",
    ] {
        let refused = written(&statement(
            "Allow",
            "Publish",
            &format!("topic/REALM/{level}"),
        ));
        assert!(
            matches!(refused, Err(NatsError::Level { .. })),
            "{level:?}: {refused:?}"
        );
    }
    let hash = written(&statement("Allow", "Subscribe", "topicfilter/REALM/#"));
    assert!(matches!(hash, Err(NatsError::Level { .. })), "{hash:?}");
    assert_eq!(
        written(&statement("Deny", "Publish", "topic/REALM/a")),
        Err(NatsError::Deny {
            statement: "#2".to_owned()
        })
    );
}

#[test]
fn no_name_can_leave_its_place() {
    for hostile in [
        "333\"\n      }",
        "a.b,O=other",
        "*",
        ">",
        "$G",
        "a b",
        "a/b",
        "a{",
        "é",
        "#",
    ] {
        let device = Device::new(hostile, "333", "hula", RoleDocument::Target);
        assert!(device.is_err(), "{hostile:?}");
    }
    // A dot is part of a client id, and would be two levels in a subject.
    let dotted = Device::new("a.b", "a.b", "hula", RoleDocument::Target).unwrap();
    let refused = nats(&PolicySet::for_realm("atlas").unwrap(), &[dotted]);
    assert!(
        matches!(refused, Err(NatsError::Level { .. })),
        "{refused:?}"
    );
}

#[test]
fn who_may_do_nothing_is_not_taken_for_one_who_may_do_everything() {
    let nothing = written(&statement("Allow", "Receive", "topic/REALM/a")).unwrap();
    assert!(nothing.contains("publish: { deny: \">\" }"), "{nothing}");
    assert!(
        nothing.contains("subscribe: { allow: [\n            \"$MQTT.sub.>\"\n          ] }"),
        "{nothing}"
    );
}

#[test]
fn a_filter_is_written_as_far_as_it_may_be_received() {
    let subscribe = statement("Allow", "Subscribe", "topicfilter/REALM/+/x");
    for (receive, heard) in [
        ("topic/REALM/*/x", Some("*")),
        ("topic/REALM/a*/x", Some("*")),
        ("topic/REALM/a/x", Some("a")),
        ("topic/REALM/a/y", None),
        ("topic/REALM/a/x/z", None),
        ("topic/REALM/a", None),
    ] {
        let receive_statement = statement("Allow", "Receive", receive);
        let file = written(&format!("{subscribe},{receive_statement}")).unwrap();
        let found: Vec<_> = file.matches("\"atlas.").collect();
        assert_eq!(
            found.len(),
            usize::from(heard.is_some()),
            "{receive}: {file}"
        );
        let heard = heard.map(|name| format!("\"atlas.{name}.x\""));
        assert!(
            heard.is_none_or(|heard| file.contains(&heard)),
            "{receive}: {file}"
        );
    }
}

#[test]
fn every_subject_is_allowed_by_the_document() {
    let policies = PolicySet::for_realm("atlas").unwrap();
    let devices = [device("333", "hula"), device("controller", "hula")];
    let file = nats(&policies, &devices).unwrap();
    let (mut user, mut action, mut checked) = (None, Action::Publish, 0);
    for line in file.lines().map(str::trim) {
        if line.starts_with("user: ") {
            user = devices
                .iter()
                .find(|device| line.contains(&format!("CN={},", device.subject.client_id())));
        } else if line.starts_with("subscribe: ") {
            action = Action::Subscribe;
        } else if line.starts_with("publish: ") {
            action = Action::Publish;
        } else if let Some(subject) = line.strip_prefix("\"atlas.")
            && let Some(subject) = subject.strip_suffix('"')
        {
            let device = user.unwrap();
            for name in ["333", "controller-z", "+"] {
                let topic = format!("atlas/{}", subject.replace('.', "/").replace('*', name));
                let policy = policies.get(device.role);
                // What a client asks for is the filter itself, with its wildcard.
                if action == Action::Publish || name == "+" {
                    let decision = policy.decide(&device.subject, action, &topic);
                    assert!(decision.is_allowed(), "{line}: {topic}");
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, (3 * 3 + 2) + (2 * 3 + 3));
}

#[test]
fn a_device_that_may_not_connect_is_no_user() {
    let stranger = Device::new("other", "333", "hula", RoleDocument::Target).unwrap();
    let text = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:REGION:ACCOUNT:client/*.atlas"}]}"#;
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let set = PolicySet::new(&policy, &policy, "atlas").unwrap();
    let file = nats(&set, &[stranger]).unwrap();
    assert!(!file.contains("CN="), "{file}");
    assert!(file.contains(NOBODY), "{file}");
}

#[test]
fn a_file_for_nobody_lets_nobody_in() {
    let policies = PolicySet::for_realm("atlas").unwrap();
    let file = nats(&policies, &[]).unwrap();
    assert_eq!(file, format!("{HEADER}\naccounts {{\n{NOBODY}}}\n"));
    let file = nats(&policies, &[device("333", "hula")]).unwrap();
    assert!(!file.contains("NOBODY"), "{file}");
}

#[test]
fn two_devices_of_one_name_are_refused() {
    let twice = [device("333", "hula"), device("333", "hula")];
    let client_id = "333.hula.atlas".to_owned();
    let result = nats(&PolicySet::for_realm("atlas").unwrap(), &twice);
    assert_eq!(result, Err(DuplicateDevice { client_id }.into()));
}
