//! A realm's rules of trust, as unattended commands use them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use enrollment::{TrustStore, UploadPermission};

use crate::exit;
use crate::failure::Failure;

/// Who may upload what, by the files in this directory. Root and the user who runs this may upload everything.
pub(crate) fn permission(dir: &Path) -> Result<UploadPermission, Failure> {
    Ok(trust(dir)?.permission())
}

/// The rules of the files in this directory, read again when they change.
pub(crate) fn trust(dir: &Path) -> Result<Arc<TrustStore>, Failure> {
    let owners = BTreeSet::from([0, rustix::process::geteuid().as_raw()]);
    let store =
        TrustStore::open(dir, owners).map_err(|error| Failure::new(error, None, exit::CONFIG))?;
    Ok(Arc::new(store))
}
