//! Who may upload what.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use protocol::{DeviceId, Role};

use crate::Author;

/// The rule that says whose upload for which device is served. Everybody else is refused.
#[derive(Clone)]
pub struct UploadPermission {
    rule: Arc<Rule>,
    /// What is decided already, where the rule itself may ask a person.
    known: Option<Arc<Rule>>,
}

/// What a rule says about one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is served.
    Permitted,
    /// It is refused, and the author is told so.
    Refused,
    /// Nobody has decided, and whoever was asked gave no answer: it waits, and nobody is told anything.
    Undecided,
}

type Rule = dyn Fn(&Author, &DeviceId) -> Decision + Send + Sync;

impl UploadPermission {
    /// A rule of the realm's own. It may block, to read a file or to ask a person.
    pub fn new(rule: impl Fn(&Author, &DeviceId) -> Decision + Send + Sync + 'static) -> Self {
        Self {
            rule: Arc::new(rule),
            known: None,
        }
    }

    /// A rule that may ask a person, beside the one that says only what has been decided.
    pub fn asking(
        rule: impl Fn(&Author, &DeviceId) -> Decision + Send + Sync + 'static,
        known: impl Fn(&Author, &DeviceId) -> Decision + Send + Sync + 'static,
    ) -> Self {
        Self {
            rule: Arc::new(rule),
            known: Some(Arc::new(known)),
        }
    }

    /// Whoever can write to the registry may upload for every device of every system, controllers too. Right for a
    /// directory that only the realm's administrator can write.
    pub fn everyone_with_write_access() -> Self {
        Self::new(|_, _| Decision::Permitted)
    }

    /// Whoever can write to the registry may upload for targets, and only these users of the machine for controllers.
    pub fn controllers_only_from(uids: BTreeSet<u32>) -> Self {
        Self::new(move |author, id| {
            let permitted = match (id.role(), author) {
                // Everybody can open an issue.
                (_, Author::GitHub { .. }) => false,
                (Role::Target, Author::LocalUser { .. }) => true,
                (Role::Controller, Author::LocalUser { uid }) => uids.contains(uid),
            };
            Decision::of(permitted)
        })
    }

    /// What is to become of this author's upload for this device.
    pub fn decide(&self, author: &Author, id: &DeviceId) -> Decision {
        (self.rule)(author, id)
    }

    /// What has been decided about this author's upload for this device. Nobody is asked.
    pub fn decided(&self, author: &Author, id: &DeviceId) -> Decision {
        self.known.as_ref().unwrap_or(&self.rule)(author, id)
    }

    /// Whether this author's upload for this device is served.
    pub fn permits(&self, author: &Author, id: &DeviceId) -> bool {
        self.decide(author, id) == Decision::Permitted
    }
}

impl Decision {
    /// Yes or no.
    pub fn of(permitted: bool) -> Self {
        if permitted {
            Self::Permitted
        } else {
            Self::Refused
        }
    }
}

impl fmt::Debug for UploadPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadPermission(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_can_be_kept_to_some_users() {
        let rule = UploadPermission::controllers_only_from(BTreeSet::from([1000]));
        let may = |uid, id: &str| rule.permits(&Author::LocalUser { uid }, &id.parse().unwrap());
        assert!(may(1000, "controller-a.hula.atlas"));
        assert!(!may(1001, "controller-a.hula.atlas"));
        assert!(may(1001, "333.hula.atlas"));
    }
}
