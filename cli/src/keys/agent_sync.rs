//! `tunnel agent sync-keys`

use std::path::PathBuf;

use daemon::device_dir::DeviceDir;
use enrollment::authorized_keys::Marker;
use enrollment::trust_store::{PERMISSIONS_FILE, TRUST_FILE};
use enrollment::{AnyRegistry, permitted_keys};
use protocol::Role;

use crate::arguments::SyncKeys;
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::Account;
use crate::keys::left_out::LeftOutLog;
use crate::keys::repeat::repeat;
use crate::keys::write::write_keys;
use crate::realm_access;
use crate::runtime::device_dir;

/// Lets the permitted controllers of this computer's own system log in as a user of it.
pub(crate) fn run(dir: Option<PathBuf>, arguments: &SyncKeys) -> Result<u8, Failure> {
    let dir = device_dir(dir)?;
    let membership = dir.membership()?;
    let registry = AnyRegistry::open(&membership.realm.registry, dir.path())?;
    let permission = realm_access::permission(dir.path())?;
    let registry = registry.permitting(permission.clone());
    let (realm, system) = (membership.id.realm(), membership.id.system());
    let marker = Marker::new(system, realm);
    let left_out = LeftOutLog::default();
    repeat(arguments.every, || async {
        let Some(account) = Account::find(&arguments.user).await? else {
            return Err(Failure::text(
                format!("there is no user `{}` on this computer", arguments.user),
                None,
                exit::CONFIG,
            ));
        };
        let permitted = permitted_keys(&registry, realm, &permission, |_| false).await?;
        left_out.tell(permitted.left_out().iter().filter(|upload| {
            let id = upload.title.id();
            id.system() == system && id.role() == Role::Controller
        }));
        let lines: Vec<String> = permitted
            .of_system(system)
            .filter(|key| key.id().role() == Role::Controller)
            .filter_map(|key| marker.login_line(key))
            .collect();
        write_keys(&account, &marker, &lines).await?;
        check_rules(&dir, &registry)
    })
}

/// On GitHub nobody counts without a rule: whoever has none means something else than to let nobody in.
fn check_rules(dir: &DeviceDir, registry: &AnyRegistry) -> Result<(), Failure> {
    let has_rules = [TRUST_FILE, PERMISSIONS_FILE]
        .iter()
        .any(|name| dir.path().join(name).exists());
    if !registry.is_open_to_all() || has_rules {
        return Ok(());
    }
    Err(Failure::text(
        format!(
            "there is no `{TRUST_FILE}` in `{}`: no controller counts",
            dir.path().display()
        ),
        Some("copy the one of the realm's administrator into it"),
        exit::CONFIG,
    ))
}
