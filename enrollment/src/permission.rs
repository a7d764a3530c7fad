//! Who may upload what.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use protocol::{DeviceId, Role};

use crate::Author;

/// The rule that says whose upload for which device is served. Everybody else is refused.
#[derive(Clone)]
pub struct UploadPermission(Arc<Rule>);

type Rule = dyn Fn(&Author, &DeviceId) -> bool + Send + Sync;

impl UploadPermission {
    /// A rule of the realm's own.
    pub fn new(rule: impl Fn(&Author, &DeviceId) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Whoever can write to the registry may upload for every device of every system, controllers too. Right for a
    /// directory that only the realm's administrator can write.
    pub fn everyone_with_write_access() -> Self {
        Self::new(|_, _| true)
    }

    /// Whoever can write to the registry may upload for targets, and only these users of the machine for controllers.
    pub fn controllers_only_from(uids: BTreeSet<u32>) -> Self {
        Self::new(move |author, id| match (id.role(), author) {
            // Everybody can open an issue.
            (_, Author::GitHub { .. }) => false,
            (Role::Target, Author::LocalUser { .. }) => true,
            (Role::Controller, Author::LocalUser { uid }) => uids.contains(uid),
        })
    }

    /// Whether this author's upload for this device is served.
    pub fn permits(&self, author: &Author, id: &DeviceId) -> bool {
        (self.0)(author, id)
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
