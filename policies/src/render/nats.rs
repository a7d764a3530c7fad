//! The documents as accounts and users of nats-server, from 2.9 on.
//!
//! nats-server maps a certificate's subject to a user with permissions of its own (`verify_and_map`), so each device is
//! one, and the file is written anew when a device is signed or revoked. Each system is an account: subjects, retained
//! messages and client ids of one are unknown in all others. A topic's `/` is a subject's `.`.
//!
//! What the file cannot say, it says less:
//!
//! - a `*` across several levels becomes `*`, one level, which is all that the realm's topics need;
//! - a `*` within a level (`controller*`) becomes the known names of the same system that fit;
//! - *receive* apart from *subscribe*: what may be subscribed is heard, so that only the part of a filter is written that
//!   may be received too, level by level;
//! - *deny*: a narrower form of a Deny would deny too little, so a document with one is refused.
//!
//! It says more in three things, which it names itself at its top:
//!
//! - *receive* with a `*` within a level: a filter with `+` there hears every name, as agents subscribe to `+` and not to
//!   each controller;
//! - *retain* apart from *publish*: whoever may publish on a topic may retain there;
//! - *connect*: nothing binds the client id to the certificate. A device whose document does not let it connect under
//!   its common name is no user.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::decide::Rule;
use crate::render::device::{Device, DuplicateDevice, Fleet};
use crate::render::topics::{TopicsError, filters, meet, topics};
use crate::statement::Effect;
use crate::{Action, BoundPolicy, PolicySet};

/// Why there are no accounts for documents and devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// Two devices with one name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateDevice),
    /// A Deny; see above.
    #[error("statement {statement} denies, which cannot be written for NATS")]
    Deny {
        /// Its name.
        statement: String,
    },
    /// A level that NATS would read as something else, or a second one that is partly wildcard.
    #[error("statement {statement} has the level {level:?}, which cannot be written for NATS")]
    Level {
        /// The statement's name.
        statement: String,
        /// The level.
        level: String,
    },
    /// A device whose certificate has no full subject is nobody's.
    #[error("`{client_id}` has no system and device in its certificate")]
    Nameless {
        /// Its client id.
        client_id: String,
    },
}

/// What stands at the top of every file.
const HEADER: &str = "\
# Written from the realm's policy documents; changes here are lost.
#
# To be included by nats-server.conf, whose `mqtt` block makes a client the user that its certificate names:
#   mqtt { tls { verify_and_map: true } }
#
# Weaker here than in the documents: a certificate may be used with any client id, so that a device can end the session
# of another one of its system; whoever may write a topic may also retain there; who may receive only from names with a
# wildcard, as `controller*`, hears whoever may write to him; a refused publish is acknowledged.
# To whom a device may write by such a name is written out for the devices known today: write this file anew when one is
# signed or revoked, and reload (SIGHUP).
";

/// The accounts for these devices: a system each, in the order of their names.
pub fn nats(policies: &PolicySet, devices: &[Device]) -> Result<String, NatsError> {
    let fleet = Fleet::new(devices)?;
    let mut file = format!("{HEADER}\naccounts {{\n");
    let mut users = 0;
    for system in fleet.systems() {
        // Writing into a `String` cannot fail.
        let _ = write!(
            file,
            "  \"{system}\": {{\n    jetstream: enabled\n    users: [\n"
        );
        for (_, device) in fleet.devices() {
            if device.system() == Some(system) && device.may_connect(policies) {
                file.push_str(&user(policies, device, fleet.beside(device))?);
                users += 1;
            }
        }
        file.push_str("    ]\n  }\n");
    }
    if users == 0 {
        file.push_str(NOBODY);
    }
    file.push_str("}\n");
    Ok(file)
}

/// One device.
fn user(policies: &PolicySet, device: &Device, known: &[&str]) -> Result<String, NatsError> {
    let policy = policies.get(device.role);
    if let Some(rule) = denying(policy) {
        return Err(NatsError::Deny {
            statement: rule.name.to_string(),
        });
    }
    let client_id = device.subject.client_id();
    let (Some(system), Some(name)) = (device.system(), device.name()) else {
        return Err(NatsError::Nameless {
            client_id: client_id.to_owned(),
        });
    };
    let mut publish = BTreeSet::new();
    let mut subscribe = BTreeSet::from([DELIVERIES.to_owned()]);
    for rule in policy.rules() {
        if rule.actions.contains(&Action::Publish) {
            for pattern in &rule.resources {
                let found = listed(rule, topics(pattern, &device.subject, known))?;
                publish.extend(subjects(rule, &found)?);
            }
        }
        if rule.actions.contains(&Action::Subscribe) {
            for pattern in &rule.resources {
                let asked = listed(rule, filters(pattern, &device.subject, known))?;
                let heard = heard(policy, device, &asked)?;
                subscribe.extend(subjects(rule, &heard)?);
            }
        }
    }
    Ok(format!(
        "      {{\n        user: \"CN={client_id},OU={name},O={system}\"\n        \
         allowed_connection_types: [\"MQTT\"]\n        permissions: {{\n{}{}        }}\n      }}\n",
        permission("publish", &publish),
        permission("subscribe", &subscribe),
    ))
}

fn denying(policy: &BoundPolicy) -> Option<&Rule> {
    policy
        .rules()
        .iter()
        .find(|rule| rule.effect == Effect::Deny)
}

/// What of these filters the device may receive.
fn heard(
    policy: &BoundPolicy,
    device: &Device,
    filters: &[String],
) -> Result<Vec<String>, NatsError> {
    let receiving = policy
        .rules()
        .iter()
        .filter(|rule| rule.actions.contains(&Action::Receive));
    let mut heard = Vec::new();
    for rule in receiving {
        for pattern in &rule.resources {
            for filter in filters {
                let met = meet(filter, pattern, &device.subject);
                heard.extend(listed(rule, met.map(Vec::from_iter))?);
            }
        }
    }
    Ok(heard)
}

/// NATS takes a user without an `allow` for one who may do everything.
fn permission(what: &str, subjects: &BTreeSet<String>) -> String {
    if subjects.is_empty() {
        return format!("          {what}: {{ deny: \">\" }}\n");
    }
    let mut text = format!("          {what}: {{ allow: [\n");
    for subject in subjects {
        let _ = writeln!(text, "            \"{subject}\"");
    }
    text.push_str("          ] }\n");
    text
}

/// What a pattern has become.
fn listed(rule: &Rule, topics: Result<Vec<String>, TopicsError>) -> Result<Vec<String>, NatsError> {
    match topics {
        Ok(topics) => Ok(topics),
        // An Allow without its value says nothing.
        Err(TopicsError::Missing) => Ok(Vec::new()),
        Err(TopicsError::Level(level)) => Err(unfit(rule, level)),
    }
}

fn subjects(rule: &Rule, topics: &[String]) -> Result<Vec<String>, NatsError> {
    topics
        .iter()
        .map(|topic| subject(topic).map_err(|level| unfit(rule, level)))
        .collect()
}

fn unfit(rule: &Rule, level: String) -> NatsError {
    NatsError::Level {
        statement: rule.name.to_string(),
        level,
    }
}

/// A topic, or a filter without `#`, as NATS names it; or the level that would become something else there: `.` parts
/// levels, `*` and `>` are wildcards, `$` begins what belongs to the server, and an empty level has a form of its own.
fn subject(topic: &str) -> Result<String, String> {
    let level = |level: &str| match level {
        "+" => Ok("*".to_owned()),
        plain if !plain.is_empty() && plain.chars().all(is_plain) => Ok(plain.to_owned()),
        other => Err(other.to_owned()),
    };
    let levels = topic.split('/').map(level);
    Ok(levels.collect::<Result<Vec<_>, _>>()?.join("."))
}

/// Known characters are let in rather than dangerous ones kept out.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Where the server delivers what a `QoS` 1 subscription matches; an MQTT client cannot subscribe here by itself.
const DELIVERIES: &str = "$MQTT.sub.>";

/// Without a single user nats-server asks nobody who he is, and lets him do everything. No certificate names this one, and
/// no system is called like its account.
const NOBODY: &str = "  \
  # There is nobody to let in. Without any user the server would let in everybody.
  NOBODY: {
    users: [
      {
        user: \"nobody of this realm\"
        allowed_connection_types: [\"MQTT\"]
        permissions: { publish: { deny: \">\" }, subscribe: { deny: \">\" } }
      }
    ]
  }
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, RoleDocument};

    fn device(name: &str, system: &str) -> Device {
        let role = if name.starts_with("controller") {
            RoleDocument::Controller
        } else {
            RoleDocument::Target
        };
        Device::new(&format!("{name}.{system}.atlas"), name, system, role).unwrap()
    }

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
}
