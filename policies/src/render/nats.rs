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
use crate::render::topics::{UnfitLevel, filters, meet, topics};
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
    if let Some(rule) = policy.first_deny() {
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
                let found = topics(pattern, &device.subject, known);
                publish.extend(subjects(rule, &fit(rule, found)?)?);
            }
        }
        if rule.actions.contains(&Action::Subscribe) {
            for pattern in &rule.resources {
                let asked = filters(pattern, &device.subject, known);
                let heard = heard(policy, device, &fit(rule, asked)?)?;
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
                heard.extend(fit(rule, meet(filter, pattern, &device.subject))?);
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

fn subjects(rule: &Rule, topics: &[String]) -> Result<Vec<String>, NatsError> {
    topics
        .iter()
        .map(|topic| fit(rule, subject(topic)))
        .collect()
}

/// What a part of this statement has become.
fn fit<T>(rule: &Rule, written: Result<T, UnfitLevel>) -> Result<T, NatsError> {
    written.map_err(|UnfitLevel(level)| NatsError::Level {
        statement: rule.name.to_string(),
        level,
    })
}

/// A topic, or a filter without `#`, as NATS names it; or the level that would become something else there: `.` parts
/// levels, `*` and `>` are wildcards, `$` begins what belongs to the server, and an empty level has a form of its own.
fn subject(topic: &str) -> Result<String, UnfitLevel> {
    let level = |level: &str| match level {
        "+" => Ok("*".to_owned()),
        plain if !plain.is_empty() && plain.chars().all(is_plain) => Ok(plain.to_owned()),
        other => Err(UnfitLevel(other.to_owned())),
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
mod tests;
