//! Whose keys a proxy admits that reads the registry itself: those of permitted uploaders, and of no device that is revoked.

use std::sync::Arc;

use daemon::realm_dir::RealmDir;
use enrollment::{Author, RevokedStore};
use proxy::KeyPermission;

use crate::exit;
use crate::failure::Failure;
use crate::realm_access;

/// The rule of this realm's directory. What changes in its files counts from the proxy's next look.
pub(crate) fn permission(dir: &RealmDir) -> Result<KeyPermission, Failure> {
    let trust = realm_access::trust(dir.path())?;
    let revoked = RevokedStore::open(dir.path()).map_err(|error| {
        let hint = error.hint();
        Failure::new(error, hint, exit::CONFIG)
    })?;
    let (permission, revoked) = (trust.permission(), Arc::new(revoked));
    let list = Arc::clone(&revoked);
    let rule = KeyPermission::new(move |id, uid| {
        !list.current().shuts_out(id) && permission.permits(&Author::LocalUser { uid }, id)
    });
    // Each of them only grows, and so does their sum.
    Ok(rule.with_edition(move || trust.edition() + revoked.edition()))
}
