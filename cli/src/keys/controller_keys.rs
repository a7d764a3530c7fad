//! The keys of the controllers that may log in to a computer, as its registry has them now.

use daemon::device_dir::{DeviceDir, Membership};
use enrollment::authorized_keys::Marker;
use enrollment::trust_store::{PERMISSIONS_FILE, TRUST_FILE};
use enrollment::{AnyRegistry, DeviceKey, PermittedKeys, UploadPermission, permitted_keys};
use protocol::Role;

use crate::exit;
use crate::failure::Failure;
use crate::keys::left_out::LeftOutLog;
use crate::realm_access;

/// Where a computer's keys of controllers come from, and whose they are.
pub(crate) struct ControllerKeys {
    dir: DeviceDir,
    membership: Membership,
    registry: AnyRegistry,
    permission: UploadPermission,
    left_out: LeftOutLog,
}

impl ControllerKeys {
    /// Those of this computer's own system.
    pub(crate) fn open(dir: &DeviceDir, membership: Membership) -> Result<Self, Failure> {
        let registry = AnyRegistry::open(&membership.realm.registry, dir.path())?;
        let permission = realm_access::permission(dir.path())?;
        Ok(Self {
            dir: dir.clone(),
            registry: registry.permitting(permission.clone()),
            membership,
            permission,
            left_out: LeftOutLog::default(),
        })
    }

    /// The word by which lines of ours are known.
    pub(crate) fn marker(&self) -> Marker {
        Marker::new(self.membership.id.system(), self.membership.id.realm())
    }

    /// The keys that count now, each made into a line.
    pub(crate) async fn lines(
        &self,
        line: impl Fn(&DeviceKey) -> Option<String>,
    ) -> Result<Vec<String>, Failure> {
        let permitted = self.permitted().await?;
        let keys = permitted.of_system(self.membership.id.system());
        Ok(keys
            .filter(|key| key.id().role() == Role::Controller)
            .filter_map(line)
            .collect())
    }

    /// On GitHub nobody counts without a rule: whoever has none means something else than to let nobody in.
    pub(crate) fn check_rules(&self) -> Result<(), Failure> {
        let path = self.dir.path();
        let has_rules = [TRUST_FILE, PERMISSIONS_FILE]
            .iter()
            .any(|name| path.join(name).exists());
        if !self.registry.is_open_to_all() || has_rules {
            return Ok(());
        }
        Err(Failure::text(
            format!(
                "there is no `{TRUST_FILE}` in `{}`: no controller counts",
                path.display()
            ),
            Some("copy the one of the realm's administrator into it"),
            exit::CONFIG,
        ))
    }

    async fn permitted(&self) -> Result<PermittedKeys, Failure> {
        let (realm, system) = (self.membership.id.realm(), self.membership.id.system());
        let permitted = permitted_keys(&self.registry, realm, &self.permission, |_| false).await?;
        self.left_out
            .tell(permitted.left_out().iter().filter(|upload| {
                let id = upload.title.id();
                id.system() == system && id.role() == Role::Controller
            }));
        Ok(permitted)
    }
}
