//! `tunnel agent sync-keys`

use std::path::PathBuf;

use crate::arguments::SyncKeys;
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::Account;
#[cfg(feature = "builtin-ssh")]
use crate::keys::builtin_file;
use crate::keys::controller_keys::ControllerKeys;
use crate::keys::repeat::repeat;
use crate::keys::write::write_keys;
use crate::runtime::device_dir;

/// Lets the permitted controllers of this computer's own system log in as a user of it.
pub(crate) fn run(dir: Option<PathBuf>, arguments: &SyncKeys) -> Result<u8, Failure> {
    let dir = device_dir(dir)?;
    let keys = ControllerKeys::open(&dir, dir.membership()?)?;
    let keys = &keys;
    match &arguments.user {
        Some(user) => repeat(arguments.every, || bring_to(user, keys)),
        #[cfg(feature = "builtin-ssh")]
        None => {
            let file = dir.controllers();
            repeat(arguments.every, || builtin_file::bring(keys, &file))
        }
        #[cfg(not(feature = "builtin-ssh"))]
        None => Ok(exit::USAGE),
    }
}

async fn bring_to(user: &str, keys: &ControllerKeys) -> Result<(), Failure> {
    let Some(account) = Account::find(user).await? else {
        return Err(Failure::text(
            format!("there is no user `{user}` on this computer"),
            None,
            exit::CONFIG,
        ));
    };
    let marker = keys.marker();
    let lines = keys.lines(|key| marker.login_line(key)).await?;
    write_keys(&account, &marker, &lines).await?;
    keys.check_rules()
}
