//! The two documents that come with the program.

use crate::{BoundPolicy, ParseError, Policy, RealmError};

/// One of the realm's two documents. Which one a client is under is decided by its device's name, not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleDocument {
    /// `tunnel.target.json`: a remote computer, which only serves.
    Target,
    /// `tunnel.controller.json`: a controller, which orders.
    Controller,
}

/// Both documents for one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    target: BoundPolicy,
    controller: BoundPolicy,
}

/// Why there is no set of documents for a realm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySetError {
    /// A document that comes with the program is refused.
    #[error("policy `{name}` is refused")]
    Document {
        /// The policy's name.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// The realm has no usable name.
    #[error(transparent)]
    Realm(#[from] RealmError),
}

impl RoleDocument {
    /// Both documents.
    pub const ALL: [Self; 2] = [Self::Target, Self::Controller];

    /// The policy's name in AWS IoT, which is its file's without `.json`. The original's deployments use the same.
    pub fn name(self) -> &'static str {
        match self {
            Self::Target => "tunnel.target",
            Self::Controller => "tunnel.controller",
        }
    }

    /// The document as it lies beside this crate, with its placeholders.
    pub fn json(self) -> &'static str {
        match self {
            Self::Target => include_str!("../tunnel.target.json"),
            Self::Controller => include_str!("../tunnel.controller.json"),
        }
    }

    /// The parsed document.
    pub fn policy(self) -> Result<Policy, ParseError> {
        Policy::parse(self.json().as_bytes())
    }
}

impl PolicySet {
    /// The documents that come with the program, for this realm.
    pub fn for_realm(realm: &str) -> Result<Self, PolicySetError> {
        let policy = |document: RoleDocument| {
            document
                .policy()
                .map_err(|source| PolicySetError::Document {
                    name: document.name(),
                    source,
                })
        };
        Ok(Self::new(
            &policy(RoleDocument::Target)?,
            &policy(RoleDocument::Controller)?,
            realm,
        )?)
    }

    /// Documents of the realm's own.
    pub fn new(target: &Policy, controller: &Policy, realm: &str) -> Result<Self, RealmError> {
        Ok(Self {
            target: target.bind(realm)?,
            controller: controller.bind(realm)?,
        })
    }

    /// The document that decides for clients of this role.
    pub fn get(&self, role: RoleDocument) -> &BoundPolicy {
        match role {
            RoleDocument::Target => &self.target,
            RoleDocument::Controller => &self.controller,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_documents_are_good() {
        assert!(PolicySet::for_realm("atlas").is_ok());
        assert!(matches!(
            PolicySet::for_realm("a/b"),
            Err(PolicySetError::Realm(_))
        ));
        assert!(matches!(
            PolicySet::for_realm("*"),
            Err(PolicySetError::Realm(_))
        ));
    }
}
