//! A realm's rules of trust, as unattended commands use them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use enrollment::{TrustStore, UploadPermission};

use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// Who may upload what, by the files in this directory. Its [`owners`] may upload everything.
pub(crate) fn permission(dir: &Path) -> Result<UploadPermission, Failure> {
    Ok(trust(dir)?.permission())
}

/// The rules of the files in this directory, read again when they change.
pub(crate) fn trust(dir: &Path) -> Result<Arc<TrustStore>, Failure> {
    let store = TrustStore::open(dir, owners(dir)?).map_err(|error| {
        let hint = error.hint();
        Failure::new(error, hint, exit::CONFIG)
    })?;
    Ok(Arc::new(store))
}

/// Who may upload everything: root, the user who runs this, and the one whose directory it is. With `sudo` these are not the
/// same, and what counts must not depend on who looks.
pub(crate) fn owners(dir: &Path) -> Result<BTreeSet<u32>, Failure> {
    // Without a name the directory is the present one.
    let place = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let owner = fs::metadata(place)
        .map_err(|error| cannot(&format!("look at `{}`", place.display()), error))?
        .uid();
    let own = rustix::process::geteuid().as_raw();
    Ok(BTreeSet::from([0, own, owner]))
}
