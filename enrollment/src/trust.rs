//! Whom a realm trusts: who may upload for which of its systems, and who for controllers.

use std::collections::{BTreeMap, BTreeSet};

use daemon::registry_place;
use protocol::DeviceId;
use serde::Deserialize;
use serde::de::Error;

use crate::permission::Decision;
use crate::trust_rule::Rule;
use crate::{Author, properties};

/// The rules of one realm: those of `trust.toml`, those of the original's `permissions.txt`, and the users of this
/// machine who own the realm. What no rule speaks of is undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    owners: BTreeSet<u32>,
    rules: Vec<Rule>,
    original: BTreeMap<(String, String), bool>,
}

/// Why a text is no `permissions.txt`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionsError {
    /// The key is not `SYSTEM+LOGIN`.
    #[error("the key {0:?} is not `SYSTEM+LOGIN`")]
    Key(String),
    /// The value is neither yes nor no.
    #[error("the value of `{key}` is neither `allow` nor `deny`")]
    Value {
        /// Its key.
        key: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    version: u32,
    #[serde(default)]
    upload: Vec<Rule>,
}

impl Trust {
    /// Nobody but these users of this machine.
    pub fn of_owners(owners: BTreeSet<u32>) -> Self {
        Self {
            owners,
            ..Self::default()
        }
    }

    /// Adds the rules of a `trust.toml`.
    pub fn with_file(mut self, text: &str) -> Result<Self, toml::de::Error> {
        let file: TrustFile = toml::from_str(text)?;
        if file.version != VERSION {
            let text = format!("this program knows version {VERSION}, not {}", file.version);
            return Err(toml::de::Error::custom(text));
        }
        self.rules.extend(file.upload);
        Ok(self)
    }

    /// Adds the rules of an original's `permissions.txt`: `SYSTEM+LOGIN=allow` or `=deny`. As there, they speak of a
    /// system's targets and controllers alike; a rule of `trust.toml` about the same upload stands above them.
    pub fn with_permissions(mut self, text: &str) -> Result<Self, PermissionsError> {
        for (key, value) in properties::parse(text) {
            let pair = key
                .split_once('+')
                .filter(|(system, _)| !system.is_empty())
                .and_then(|(system, login)| {
                    let login = registry_place::login(login).ok()?;
                    Some((system.to_owned(), login))
                })
                .ok_or_else(|| PermissionsError::Key(key.clone()))?;
            let allow = match value.trim() {
                "allow" => true,
                "deny" => false,
                _ => return Err(PermissionsError::Value { key: key.clone() }),
            };
            self.original.insert(pair, allow);
        }
        Ok(self)
    }

    /// Whether this author's uploads for this device are served.
    pub fn decide(&self, author: &Author, id: &DeviceId) -> Decision {
        if let Author::LocalUser { uid } = author
            && self.owners.contains(uid)
        {
            return Decision::Permitted;
        }
        let mut said = self
            .rules
            .iter()
            .filter(|rule| rule.is_about(author, id))
            .map(|rule| rule.allow)
            .peekable();
        if said.peek().is_some() {
            return Decision::of(said.all(|allow| allow));
        }
        let Author::GitHub { login } = author else {
            return Decision::Undecided;
        };
        let pair = (id.system().to_string(), login.to_ascii_lowercase());
        self.original
            .get(&pair)
            .map_or(Decision::Undecided, |allow| Decision::of(*allow))
    }
}

/// The version of `trust.toml` that this program reads and writes.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn octo() -> Author {
        Author::GitHub {
            login: "octo".to_owned(),
        }
    }

    fn local(uid: u32) -> Author {
        Author::LocalUser { uid }
    }

    fn decide(trust: &Trust, author: &Author, id: &str) -> Decision {
        trust.decide(author, &id.parse().unwrap())
    }

    fn trust(text: &str) -> Trust {
        Trust::of_owners([0].into())
            .with_file(&format!("version = 1\n{text}"))
            .unwrap()
    }

    #[test]
    fn a_no_that_does_not_say_what_is_one_for_everything() {
        let no = "[[upload]]\nwho = \"uid:54321\"\nsystems = [\"*\"]\nallow = false\n";
        let yes = "[[upload]]\nwho = \"uid:*\"\nsystems = [\"*\"]\nwhat = \"all\"\n";
        let trust_of = trust(&format!("{no}{yes}"));
        for id in ["333.hula.atlas", "controller-a.hula.atlas"] {
            assert_eq!(decide(&trust_of, &local(54_321), id), Decision::Refused);
            assert_eq!(decide(&trust_of, &local(1000), id), Decision::Permitted);
        }
        let octo_no = "[[upload]]\nwho = \"github:octo\"\nsystems = [\"hula\"]\nallow = false\n";
        let trust_of = trust(octo_no).with_permissions("hula+octo=allow").unwrap();
        let refused = decide(&trust_of, &octo(), "controller-a.hula.atlas");
        assert_eq!(refused, Decision::Refused);
        // Named, it is what is named.
        let trust_of = trust(&format!("{no}what = \"targets\"\n{yes}"));
        let controller = decide(&trust_of, &local(54_321), "controller-a.hula.atlas");
        assert_eq!(controller, Decision::Permitted);
    }

    #[test]
    fn without_a_rule_only_the_owners_may() {
        let trust = trust("");
        assert_eq!(
            decide(&trust, &local(0), "controller-a.hula.atlas"),
            Decision::Permitted
        );
        for author in [local(1000), octo()] {
            assert_eq!(
                decide(&trust, &author, "333.hula.atlas"),
                Decision::Undecided
            );
        }
    }

    #[test]
    fn a_rule_is_for_its_user_its_systems_and_its_devices() {
        let trust = trust("[[upload]]\nwho = \"github:Octo\"\nsystems = [\"hula\"]");
        let upper = Author::GitHub {
            login: "OCTO".to_owned(),
        };
        let other = Author::GitHub {
            login: "octo2".to_owned(),
        };
        assert_eq!(
            decide(&trust, &octo(), "333.hula.atlas"),
            Decision::Permitted
        );
        assert_eq!(
            decide(&trust, &upper, "333.hula.atlas"),
            Decision::Permitted
        );
        for (author, id) in [
            (octo(), "333.kiwi.atlas"),
            (octo(), "controller-a.hula.atlas"),
            (other, "333.hula.atlas"),
            (local(1), "333.hula.atlas"),
        ] {
            assert_eq!(
                decide(&trust, &author, id),
                Decision::Undecided,
                "{author} {id}"
            );
        }
    }

    #[test]
    fn a_no_stands_above_every_yes_but_the_owners() {
        let trust = trust(
            "[[upload]]\nwho = \"uid:*\"\nsystems = [\"*\"]\nwhat = \"all\"\n\
             [[upload]]\nwho = \"uid:7\"\nsystems = [\"hula\"]\nwhat = \"controllers\"\nallow = false\n\
             [[upload]]\nwho = \"uid:0\"\nsystems = [\"*\"]\nwhat = \"all\"\nallow = false",
        );
        let id = "controller-a.hula.atlas";
        assert_eq!(decide(&trust, &local(6), id), Decision::Permitted);
        assert_eq!(decide(&trust, &local(7), id), Decision::Refused);
        assert_eq!(
            decide(&trust, &local(7), "333.hula.atlas"),
            Decision::Permitted
        );
        assert_eq!(decide(&trust, &local(0), id), Decision::Permitted);
        assert_eq!(decide(&trust, &octo(), id), Decision::Undecided);
    }

    #[test]
    fn the_originals_permissions_count_where_no_rule_speaks() {
        let trust = trust(
            "[[upload]]\nwho = \"github:octo\"\nsystems = [\"kiwi\"]\nwhat = \"all\"\nallow = false",
        )
        .with_permissions("#modified\nhula+Octo=allow\nkiwi+octo=allow\nhula+mallory=deny\n")
        .unwrap();
        let mallory = Author::GitHub {
            login: "mallory".to_owned(),
        };
        assert_eq!(
            decide(&trust, &octo(), "controller-a.hula.atlas"),
            Decision::Permitted
        );
        assert_eq!(decide(&trust, &octo(), "333.kiwi.atlas"), Decision::Refused);
        assert_eq!(
            decide(&trust, &mallory, "333.hula.atlas"),
            Decision::Refused
        );
        assert_eq!(
            decide(&trust, &mallory, "333.kiwi.atlas"),
            Decision::Undecided
        );
        for wrong in [
            "hula=allow",
            "hula+octo=yes",
            "+octo=allow",
            "hula+a/b=allow",
        ] {
            assert!(Trust::default().with_permissions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_typing_error_is_an_error_and_no_rule() {
        for wrong in [
            "version = 2",
            "version = 1\n[[uploads]]\nwho = \"uid:1\"",
            "version = 1\n[[upload]]\nwho = \"uid:1\"",
            "version = 1\n[[upload]]\nwho = \"github:*\"\nsystems = [\"*\"]",
            "version = 1\n[[upload]]\nwho = \"octo\"\nsystems = [\"*\"]",
            "version = 1\n[[upload]]\nwho = \"uid:1\"\nsystems = [\"hu*\"]",
            "version = 1\n[[upload]]\nwho = \"uid:1\"\nsystems = [\"hula\"]\nallow = \"no\"",
        ] {
            assert!(Trust::default().with_file(wrong).is_err(), "{wrong}");
        }
    }
}
