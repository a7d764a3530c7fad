//! `tunnel proxy sync`

use std::path::PathBuf;

use daemon::realm_dir::RealmDir;
use daemon::realm_file::{RealmFile, RegistryPlace};
use daemon::server_file::ServerFile;
use daemon::shutdown::Shutdown;
use enrollment::authorized_keys::{MAX_PERMITS, Marker};
use enrollment::key_directory::{KeyChanges, KeyDirectory};
use enrollment::{
    AnyRegistry, DeviceKey, PermittedKeys, Registry, Revoked, UploadPermission, permitted_keys,
};
use protocol::{DeviceId, Label, Role};
use tokio::time::sleep;

use crate::arguments::ProxySync;
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::Account;
use crate::keys::left_out::LeftOutLog;
use crate::keys::repeat::repeat;
use crate::keys::write::write_keys;
use crate::realm_access;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &ProxySync) -> Result<u8, Failure> {
    let dir = RealmDir::new(dir.unwrap_or_else(|| PathBuf::from(".")));
    let realm = RealmFile::load(&dir.realm_file())?;
    let registry = AnyRegistry::open(&realm.registry, dir.path())?;
    let sync = Sync::new(dir, realm, registry)?;
    if arguments.openssh {
        return repeat(arguments.every, || sync.openssh());
    }
    let keys = sync.key_directory()?;
    repeat(arguments.every, || sync.to_directory(&keys))
}

/// The way of a realm's keys from the registry to its proxy.
pub(crate) struct Sync {
    dir: RealmDir,
    realm: RealmFile,
    registry: AnyRegistry,
    permission: UploadPermission,
    left_out: LeftOutLog,
}

impl Sync {
    pub(crate) fn new(
        dir: RealmDir,
        realm: RealmFile,
        registry: AnyRegistry,
    ) -> Result<Self, Failure> {
        let permission = realm_access::permission(dir.path())?;
        Ok(Self {
            dir,
            realm,
            registry: registry.permitting(permission.clone()),
            permission,
            left_out: LeftOutLog::default(),
        })
    }

    /// Brings the keys into the directory that the proxy watches.
    pub(crate) async fn to_directory(&self, directory: &KeyDirectory) -> Result<(), Failure> {
        let failed = |error| Failure::new(error, None, exit::FAILURE);
        let present = directory.keys().map_err(failed)?;
        let holds = |key: &DeviceKey| present.get(key.id()) == Some(key);
        let permitted = self.permitted(holds).await?;
        let changes = directory.sync(&permitted).map_err(failed)?;
        let KeyChanges { written, removed } = changes;
        for title in written {
            tracing::info!(%title, "key written");
        }
        for title in removed {
            tracing::info!(%title, "key removed");
        }
        Ok(())
    }

    /// Brings the keys into the directory once. A registry that is away must not keep a proxy from starting with the keys
    /// that it has.
    pub(crate) async fn first(&self, directory: &KeyDirectory) {
        if let Err(failure) = self.to_directory(directory).await {
            tracing::error!("{}", failure.to_string().replace('\n', "; "));
        }
    }

    /// Does so as often as the registry may be asked, until the shutdown.
    pub(crate) async fn keep(&self, directory: &KeyDirectory, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = sleep(self.registry.poll_interval()) => self.first(directory).await,
            }
        }
    }

    /// The directory that the proxy watches, which must not be the registry itself.
    pub(crate) fn key_directory(&self) -> Result<KeyDirectory, Failure> {
        own_directory(&self.dir, &self.realm)?.ok_or_else(|| {
            Failure::text(
                "the proxy reads the registry's directory itself: there is nothing to synchronise",
                Some(
                    "to keep keys apart from the registry, name a directory for them in `server.toml`: `keys = \"DIR\"` in `[proxy]`",
                ),
                exit::CONFIG,
            )
        })
    }

    async fn openssh(&self) -> Result<(), Failure> {
        let permitted = self.permitted(|_| false).await?;
        let mut failed = Vec::new();
        let mut systems = permitted.systems();
        // A system without keys or without ports may still have an account with lines that have to go.
        systems.extend(self.realm.ports.systems().cloned());
        systems.extend(Account::systems().await?);
        for system in systems {
            if let Err(failure) = self.openssh_system(&system, &permitted).await {
                tracing::error!(%system, "{}", failure.to_string().replace('\n', "; "));
                failed.push(system.to_string());
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::text(
            format!("the keys of {} were not written", failed.join(", ")),
            Some("the log says why, for each"),
            exit::FAILURE,
        ))
    }

    async fn openssh_system(
        &self,
        system: &Label,
        permitted: &PermittedKeys,
    ) -> Result<(), Failure> {
        let account = Account::find(system.as_str()).await?;
        if account.is_none() && permitted.of_system(system).next().is_none() {
            // Another proxy's.
            return Ok(());
        }
        let Some(account) = account.filter(|account| account.is_for(system)) else {
            // Anybody may call a system `root`; only what the administrator has made is ever written to.
            return Err(Failure::text(
                format!("there is no account of the system `{system}`"),
                Some("make it with `tunnel proxy add-system`"),
                exit::CONFIG,
            ));
        };
        let marker = Marker::new(system, &self.realm.realm);
        if !self.realm.ports.has(system) {
            // Whoever takes a system's ports away shuts it out: what is not permitted any more must not stay.
            write_keys(&account, &marker, &[]).await?;
            if permitted.of_system(system).next().is_none() {
                // Another realm's.
                return Ok(());
            }
            return Err(Failure::text(
                format!(
                    "`realm.toml` has no ports for the system `{system}`: its keys admit nobody"
                ),
                Some("add them, for everybody: `[ports]`, `hula = { start = 61000, end = 61999 }`"),
                exit::CONFIG,
            ));
        }
        let targets: Vec<DeviceId> = permitted
            .of_system(system)
            .map(|key| key.id().clone())
            .filter(|id| id.role() == Role::Target && self.realm.ports.of(id).is_some())
            .collect();
        if targets.len() > MAX_PERMITS {
            tracing::warn!(%system, "sshd lets a controller open {MAX_PERMITS} ports: others are left out");
        }
        let port_of = |id: &DeviceId| self.realm.ports.of(id);
        let mut lines = Vec::new();
        for key in permitted.of_system(system) {
            if let Some(line) = marker.proxy_line(key, port_of, &targets) {
                lines.push(line);
            } else {
                tracing::warn!(
                    device = %key.id(),
                    "it has no port: its name is no number within the ports of its system"
                );
            }
        }
        write_keys(&account, &marker, &lines).await
    }

    async fn permitted(
        &self,
        holds: impl Fn(&DeviceKey) -> bool,
    ) -> Result<PermittedKeys, Failure> {
        let revoked = Revoked::load(self.dir.path()).map_err(|error| {
            let hint = error.hint();
            Failure::new(error, hint, exit::CONFIG)
        })?;
        let mut permitted =
            permitted_keys(&self.registry, &self.realm.realm, &self.permission, holds).await?;
        permitted.retain(|key| revoked.admits(key));
        self.left_out.tell(permitted.left_out().iter());
        Ok(permitted)
    }
}

/// The directory of the proxy's own, made if it is missing; `None` if the proxy reads its keys in the registry.
pub(crate) fn own_directory(
    dir: &RealmDir,
    realm: &RealmFile,
) -> Result<Option<KeyDirectory>, Failure> {
    let path = key_path(dir, realm)?;
    let failed = |error| Failure::new(error, None, exit::CONFIG);
    let RegistryPlace::Directory(registry) = &realm.registry else {
        return KeyDirectory::create(&path).map(Some).map_err(failed);
    };
    if path == *registry {
        return Ok(None);
    }
    // There are many names for one place, and to take the registry for our own would be to remove what others have put there.
    let directory = KeyDirectory::create(&path).map_err(failed)?;
    let is_registry = directory.is_at(registry).map_err(failed)?;
    Ok((!is_registry).then_some(directory))
}

/// Where the proxy of this realm finds its keys: where `server.toml` says, or in the registry if that is a directory, or in a
/// directory of its own.
pub(crate) fn key_path(dir: &RealmDir, realm: &RealmFile) -> Result<PathBuf, Failure> {
    let named = if dir.server_file().exists() {
        ServerFile::load(&dir.server_file())?.proxy.keys
    } else {
        None
    };
    Ok(match (named, &realm.registry) {
        (Some(named), _) => dir.path().join(named),
        (None, RegistryPlace::Directory(registry)) => registry.clone(),
        (None, RegistryPlace::GitHub(_)) => dir.proxy_keys(),
    })
}
