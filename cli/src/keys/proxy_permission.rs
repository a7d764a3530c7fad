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
    let (list, of_keys) = (Arc::clone(&revoked), Arc::clone(&revoked));
    let rule = KeyPermission::new(move |id, uid| {
        !list.current().shuts_out(id) && permission.permits(&Author::LocalUser { uid }, id)
    });
    let rule = rule.with_key_rule(move |id, key| {
        // As where keys are synchronised: whoever can rename a file must not make it another device's.
        if key.comment().to_string() != id.to_string() {
            return Err("it does not say that it is this device's key");
        }
        if of_keys.current().has_ssh_key(id, key) {
            return Err("the key has been revoked");
        }
        Ok(())
    });
    // Each of them only grows, and so does their sum.
    Ok(rule.with_edition(move || trust.edition() + revoked.edition()))
}
