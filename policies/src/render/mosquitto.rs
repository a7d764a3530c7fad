//! The documents as an access file (`acl_file`) of mosquitto 2.0.
//!
//! mosquitto knows a client's common name, but not its organization, so the file has a section for each device with
//! concrete topics, and is written anew when a device is signed or revoked. What the file cannot say, it says less, never
//! more:
//!
//! - a `*` across several levels: it becomes `+`, one level, which is all that the realm's topics need;
//! - a `*` within a level (`controller*`): it becomes the known names of the same system that fit;
//! - *subscribe* apart from *receive*: mosquitto grants every subscription and decides at delivery, so `topic read` is
//!   what a document lets a client receive;
//! - *retain* apart from *publish*: whoever may publish on a topic may retain there;
//! - *connect*: `use_username_as_clientid` binds the client id to the certificate. A device whose document does not let
//!   it connect under its common name gets no topic;
//! - *deny*: a narrower form of a Deny would deny too little, so a document with one is refused.

use std::fmt::Write;

use crate::decide::Rule;
use crate::render::device::{Device, DuplicateDevice, Fleet};
use crate::render::topics::{UnfitLevel, topics};
use crate::{Action, PolicySet};

/// Why there is no access file for documents and devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MosquittoError {
    /// Two devices with one name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateDevice),
    /// A Deny; see above.
    #[error("statement {statement} denies, which cannot be written for mosquitto")]
    Deny {
        /// Its name.
        statement: String,
    },
    /// A level that mosquitto would read as something else, or a second one that is partly wildcard.
    #[error("statement {statement} has the level {level:?}, which cannot be written for mosquitto")]
    Level {
        /// The statement's name.
        statement: String,
        /// The level.
        level: String,
    },
}

/// What stands at the top of every file.
const HEADER: &str = "\
# Written from the realm's policy documents; changes here are lost.
#
# The listener must be set up so that a client's name is its certificate's:
#   require_certificate true
#   use_identity_as_username true
#   use_username_as_clientid true
#   allow_anonymous false
#
# Weaker here than in the documents: every subscription is granted, though nothing is delivered that is not readable
# below; whoever may write a topic may also retain there; a refused publish is acknowledged.
# A name with a wildcard, as `controller*`, is written out for the devices known today: write this file anew when one is
# signed or revoked.
";

/// The access file for these devices, in the order of their client ids.
pub fn mosquitto(policies: &PolicySet, devices: &[Device]) -> Result<String, MosquittoError> {
    let fleet = Fleet::new(devices)?;
    let mut file = HEADER.to_owned();
    for (client_id, device) in fleet.devices() {
        // Writing into a `String` cannot fail.
        let _ = write!(
            file,
            "\nuser {client_id}\n{}",
            section(policies, device, fleet.beside(device))?
        );
    }
    Ok(file)
}

/// The lines of one device.
fn section(
    policies: &PolicySet,
    device: &Device,
    known: &[&str],
) -> Result<String, MosquittoError> {
    let policy = policies.get(device.role);
    if let Some(rule) = policy.first_deny() {
        return Err(MosquittoError::Deny {
            statement: rule.name.to_string(),
        });
    }
    let mut lines = String::new();
    if !device.may_connect(policies) {
        return Ok(lines);
    }
    for rule in policy.rules() {
        for access in rule.actions.iter().filter_map(|action| access(*action)) {
            for topic in rule_topics(rule, device, known)? {
                let _ = writeln!(lines, "topic {access} {topic}");
            }
        }
    }
    Ok(lines)
}

fn rule_topics(
    rule: &Rule,
    device: &Device,
    known: &[&str],
) -> Result<Vec<String>, MosquittoError> {
    let mut all = Vec::new();
    for pattern in &rule.resources {
        let topics = topics(pattern, &device.subject, known);
        all.extend(topics.map_err(|UnfitLevel(level)| MosquittoError::Level {
            statement: rule.name.to_string(),
            level,
        })?);
    }
    Ok(all)
}

/// mosquitto's word for an action, if it has one of its own.
fn access(action: Action) -> Option<&'static str> {
    match action {
        Action::Publish => Some("write"),
        Action::Receive => Some("read"),
        Action::Connect | Action::RetainPublish | Action::Subscribe => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::device::tests::device;
    use crate::{Policy, RoleDocument};

    fn allow(resource: &str) -> Policy {
        policy("Allow", resource)
    }

    fn policy(effect: &str, resource: &str) -> Policy {
        let connect = r#"{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:REGION:ACCOUNT:client/*"}"#;
        Policy::parse(
            format!(
                r#"{{"Version":"2012-10-17","Statement":[{connect},{{"Effect":"{effect}","Action":"iot:Publish",
                "Resource":"arn:aws:iot:REGION:ACCOUNT:topic/{resource}"}}]}}"#
            )
            .as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn the_file_for_two_systems() {
        let devices = [
            device("controller-a", "hula"),
            device("333", "hula"),
            device("controller", "hula"),
            device("333", "limbo"),
        ];
        let file = mosquitto(&PolicySet::for_realm("atlas").unwrap(), &devices).unwrap();
        let lines = "
user 333.hula.atlas
topic write atlas/hula/333/tunnel/presence
topic write atlas/hula/controller/tunnel/reply/333
topic write atlas/hula/controller-a/tunnel/reply/333
topic write atlas/hula/333/tunnel/state
topic read atlas/hula/333/tunnel/control/controller
topic read atlas/hula/333/tunnel/control/controller-a
topic read atlas/hula/333/tunnel/control

user 333.limbo.atlas
topic write atlas/limbo/333/tunnel/presence
topic write atlas/limbo/333/tunnel/state
topic read atlas/limbo/333/tunnel/control

user controller-a.hula.atlas
topic write atlas/hula/+/tunnel/control/controller-a
topic write atlas/hula/+/tunnel/control
topic read atlas/hula/controller-a/tunnel/reply/+
topic read atlas/hula/+/tunnel/presence
topic read atlas/hula/+/tunnel/state

user controller.hula.atlas
topic write atlas/hula/+/tunnel/control/controller
topic write atlas/hula/+/tunnel/control
topic read atlas/hula/controller/tunnel/reply/+
topic read atlas/hula/+/tunnel/presence
topic read atlas/hula/+/tunnel/state
";
        assert_eq!(file, format!("{HEADER}{lines}"));
    }

    #[test]
    fn every_line_is_allowed_by_the_document() {
        let policies = PolicySet::for_realm("atlas").unwrap();
        let devices = [
            device("333", "hula"),
            device("444", "hula"),
            device("controller", "hula"),
        ];
        let file = mosquitto(&policies, &devices).unwrap();
        let mut user = None;
        let mut checked = 0;
        for line in file
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            if let Some(name) = line.strip_prefix("user ") {
                user = devices
                    .iter()
                    .find(|device| device.subject.client_id() == name);
                continue;
            }
            let (access, topic) = line
                .strip_prefix("topic ")
                .unwrap()
                .split_once(' ')
                .unwrap();
            let action = if access == "write" {
                Action::Publish
            } else {
                Action::Receive
            };
            let device = user.unwrap();
            for name in ["333", "controller-z", "+", "a.b"] {
                let decision = policies.get(device.role).decide(
                    &device.subject,
                    action,
                    &topic.replace('+', name),
                );
                assert!(decision.is_allowed(), "{line}");
                checked += 1;
            }
        }
        assert_eq!(checked, 4 * (5 + 5 + 5));
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let target = RoleDocument::Target.policy().unwrap();
        let write = |policy: Policy| {
            let set = PolicySet::new(&policy, &target, "atlas").unwrap();
            mosquitto(&set, &[device("333", "hula")])
        };
        assert!(
            write(allow("REALM/a"))
                .unwrap()
                .ends_with("\ntopic write atlas/a\n")
        );
        assert_eq!(
            write(policy("Deny", "REALM/a")),
            Err(MosquittoError::Deny {
                statement: "#2".to_owned()
            })
        );
        let level = |level: &str| MosquittoError::Level {
            statement: "#2".to_owned(),
            level: level.to_owned(),
        };
        assert_eq!(write(allow("REALM/#")), Err(level("#")));
        assert_eq!(write(allow("REALM/a b")), Err(level("a b")));
    }

    #[test]
    fn a_device_that_may_not_connect_gets_nothing() {
        let stranger = Device::new("other", "333", "hula", RoleDocument::Target).unwrap();
        let connect = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:REGION:ACCOUNT:client/*.atlas"},
            {"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:REGION:ACCOUNT:topic/REALM/a"}]}"#;
        let policy = Policy::parse(connect.as_bytes()).unwrap();
        let set = PolicySet::new(&policy, &policy, "atlas").unwrap();
        let file = mosquitto(&set, &[stranger]).unwrap();
        assert!(file.ends_with("\nuser other\n"), "{file}");
    }

    #[test]
    fn two_devices_of_one_name_are_refused() {
        let twice = [device("333", "hula"), device("333", "hula")];
        let client_id = "333.hula.atlas".to_owned();
        let result = mosquitto(&PolicySet::for_realm("atlas").unwrap(), &twice);
        assert_eq!(result, Err(DuplicateDevice { client_id }.into()));
    }
}
