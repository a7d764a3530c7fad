//! `tunnel serve`, and its parts alone: `tunnel broker`, `tunnel proxy` and `tunnel signer run`.

use std::path::PathBuf;
use std::time::Duration;

use broker::{Broker, BrokerConfig, Pem};
use daemon::descriptors::raise_limit;
use daemon::monitor::{Monitor, Pulse};
use daemon::realm_dir::RealmDir;
use daemon::realm_file::RealmFile;
use daemon::server_file::ServerFile;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use enrollment::key_directory::KeyDirectory;
use enrollment::{AnyRegistry, RegistryError, UploadPermission};
use proxy::{KeyPermission, Proxy, ProxyConfig};
use signer::{Revocations, Signer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::arguments::{Serve, SignerRun};
use crate::asking;
use crate::exit;
use crate::failure::Failure;
use crate::host_key;
use crate::keys::proxy_permission;
use crate::keys::proxy_sync::{Sync, key_path, own_directory};
use crate::monitor;
use crate::output;
use crate::realm_access;
use crate::runtime;
use crate::signatory;

mod reread;
mod running;

use reread::Reread;
use running::Running;

/// Which parts of a realm a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    broker: bool,
    proxy: bool,
    signer: bool,
}

impl Parts {
    /// `tunnel serve`
    pub(crate) const ALL: Self = Self {
        broker: true,
        proxy: true,
        signer: true,
    };
    /// `tunnel broker`
    pub(crate) const BROKER: Self = Self {
        broker: true,
        proxy: false,
        signer: false,
    };
    /// `tunnel proxy`
    pub(crate) const PROXY: Self = Self {
        broker: false,
        proxy: true,
        signer: false,
    };
    /// `tunnel signer run`
    pub(crate) const SIGNER: Self = Self {
        broker: false,
        proxy: false,
        signer: true,
    };
}

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Serve, parts: Parts) -> Result<u8, Failure> {
    serve(&Realm::load(dir)?, arguments, parts)
}

/// `tunnel signer run`
pub(crate) fn run_signer(dir: Option<PathBuf>, arguments: &SignerRun) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?.attended(arguments)?;
    serve(&realm, &arguments.serve, Parts::SIGNER)
}

fn serve(realm: &Realm, arguments: &Serve, parts: Parts) -> Result<u8, Failure> {
    let address = arguments.metrics.or(realm.server.metrics);
    let place = monitor::place(address, realm.server.metrics_public)?;
    if arguments.check {
        realm.check(parts)?;
        output::line(format_args!(
            "realm `{}` in `{}` can be served",
            realm.file.realm,
            realm.dir.path().display()
        ));
        return Ok(exit::OK);
    }
    raise_limit(
        proxy::Limits::default()
            .connections
            .try_into()
            .unwrap_or(u64::MAX),
    );
    runtime::block_on(async {
        let shutdown = Shutdown::on_signals(realm.server.grace_period)
            .map_err(|error| runtime::cannot("watch for signals", error))?;
        let pulse = Pulse::new();
        let monitor = monitor::bind(place, &pulse, &shutdown).await?;
        let running = realm.start(parts, &shutdown, monitor.as_ref()).await?;
        if let Some(monitor) = &monitor {
            monitor.begun();
        }
        output::line("ready");
        // No loop has turned while it started.
        pulse.beat();
        systemd::feed_watchdog(&shutdown, &pulse);
        systemd::ready();
        running.wait(&shutdown, &pulse).await
    })
}

/// A realm's directory, read.
pub(crate) struct Realm {
    dir: RealmDir,
    file: RealmFile,
    server: ServerFile,
    days: u16,
    every: Option<Duration>,
    attended: bool,
}

impl Realm {
    /// Reads the directory's two files.
    pub(crate) fn load(dir: Option<PathBuf>) -> Result<Self, Failure> {
        let dir = RealmDir::new(dir.unwrap_or_else(|| PathBuf::from(".")));
        let file = RealmFile::load(&dir.realm_file())?;
        let server = ServerFile::load(&dir.server_file())?;
        Ok(Self {
            dir,
            file,
            server,
            days: signer::CLIENT_DAYS,
            every: None,
            attended: false,
        })
    }

    /// With the settings of a signer that runs alone: somebody may sit at its terminal.
    pub(crate) fn attended(self, arguments: &SignerRun) -> Result<Self, Failure> {
        if arguments.days.is_some() && signatory::aws_rules(&self).is_some() {
            return Err(Failure::text(
                "AWS IoT Core decides how long its certificates are good",
                Some("leave `--days` out"),
                exit::USAGE,
            ));
        }
        Ok(Self {
            days: arguments.days.unwrap_or(signer::CLIENT_DAYS),
            every: arguments.every.map(Into::into),
            attended: true,
            ..self
        })
    }

    /// What its server listens on, and who signs.
    pub(crate) fn server(&self) -> &ServerFile {
        &self.server
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &RealmDir {
        &self.dir
    }

    /// Who may upload what, for services that nobody attends.
    pub(crate) fn permission(&self) -> Result<UploadPermission, Failure> {
        realm_access::permission(self.dir.path())
    }

    /// The realm's own files.
    pub(crate) fn file(&self) -> &RealmFile {
        &self.file
    }

    /// The signer, and the registry that it reads.
    pub(crate) fn signer(&self) -> Result<(Signer, AnyRegistry), Failure> {
        let signatory = signatory::signatory(self)?;
        let permission = if self.attended {
            asking::permission(self.dir.path())?
        } else {
            self.permission()?
        };
        let suffix = self.file.client_id_suffix.clone();
        let signer = Signer::new(signatory, suffix, permission.clone(), &self.dir)?
            .with_days(self.days)
            .with_interval(self.every);
        Ok((signer, self.registry()?.permitting(permission)))
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Result<AnyRegistry, Failure> {
        Ok(AnyRegistry::open(&self.file.registry, self.dir.path())?)
    }

    /// Looks at what the parts need, and takes nothing that a running one holds.
    fn check(&self, parts: Parts) -> Result<(), Failure> {
        if parts.broker {
            if !parts.signer {
                self.check_list()?;
            }
            output::line(self.broker_check()?);
        }
        if parts.proxy {
            host_key::load(&self.dir)?;
            proxy_permission::permission(&self.dir)?;
            // Opened if it is there; to check makes nothing.
            if key_path(&self.dir, &self.file)?.exists() {
                own_directory(&self.dir, &self.file)?;
            }
        }
        if parts.signer {
            signatory::signatory(self)?;
            self.registry()?;
            self.permission()?;
            Revocations::new(self.dir.clone()).current()?;
        }
        Ok(())
    }

    /// Binds everything before anything runs: a part that cannot start stops the rest from pretending.
    async fn start(
        &self,
        parts: Parts,
        shutdown: &Shutdown,
        monitor: Option<&Monitor>,
    ) -> Result<Running, Failure> {
        // First: its look at the revocation list mends what an interruption may have left, and the broker needs it.
        let signer = parts.signer.then(|| self.signer()).transpose()?;
        if let Some((signer, registry)) = &signer {
            signer.ready().await?;
            check_signer(registry).await?;
            signer.refresh_list_or_warn().await;
        }
        let broker = parts.broker.then(|| self.broker()).transpose()?;
        let sync = if parts == Parts::ALL {
            let looks = signer.as_ref().map(|(_, registry)| registry.clone());
            self.key_sync(looks).await?
        } else {
            None
        };
        let proxy = if parts.proxy {
            Some(self.proxy().await?)
        } else {
            None
        };
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| runtime::cannot("watch for SIGHUP", error))?;
        let mut running = Running {
            parts: JoinSet::new(),
            reload: broker::ReloadBell::default(),
            hangup,
            online: None,
            tunnels: None,
            reread: Reread::new(
                self.dir.clone(),
                self.file.clone(),
                self.server.clone(),
                proxy.as_ref().map(Proxy::settings),
            ),
        };
        if let Some(broker) = broker {
            output::line(format_args!("broker  listening on {}", broker.local_addr()));
            running.online = Some(broker.roster());
            if let Some(monitor) = monitor {
                monitor.watch(broker.vitals());
            }
            running.reload = broker.reload_bell();
            let until = shutdown.clone();
            running.parts.spawn(async move {
                broker.run(until).await;
                "broker"
            });
        }
        if let Some(proxy) = proxy {
            output::line(format_args!("proxy   listening on {}", proxy.local_addr()));
            running.tunnels = Some(proxy.stats());
            if let Some(monitor) = monitor {
                monitor.watch(proxy.vitals());
            }
            let until = shutdown.clone();
            running.parts.spawn(async move {
                proxy.run(until).await;
                "proxy"
            });
        }
        if let Some((sync, keys)) = sync {
            let until = shutdown.clone();
            running.parts.spawn(async move {
                sync.keep(&keys, &until).await;
                "key sync"
            });
        }
        if let Some((signer, registry)) = signer {
            output::line(format_args!("signer  watching {}", self.file.registry));
            if let Some(monitor) = monitor {
                monitor.watch(signer.vitals());
            }
            let until = shutdown.clone();
            running.parts.spawn(async move {
                Box::pin(signer.run(&registry, &until)).await;
                "signer"
            });
        }
        Ok(running)
    }

    /// What the broker would serve, looked at as a device does.
    fn broker_check(&self) -> Result<broker::Served, Failure> {
        let expected = broker::Expected {
            host: self.file.broker.address.host(),
            authorities: self.file.broker_ca(),
        };
        broker::check(&self.broker_config(), expected).map_err(|error| {
            let hint = error.hint();
            Failure::new(error, hint, exit::CONFIG)
        })
    }

    fn broker(&self) -> Result<Broker, Failure> {
        self.check_list()?;
        Broker::bind(self.broker_config()).map_err(|error| {
            let hint = error.hint();
            Failure::new(error, hint, exit::CONFIG)
        })
    }

    fn broker_config(&self) -> BrokerConfig {
        let rules = &self.server.broker;
        let store = rules.store.as_ref();
        let limits = broker::Limits::default();
        BrokerConfig {
            listen: rules.listen,
            realm: self.file.realm.clone(),
            client_id_suffix: self.file.client_id_suffix.clone(),
            certificates: Pem::File(self.dir.broker_certificate()),
            key: Pem::File(self.dir.broker_key()),
            client_authorities: Pem::RealmFile(self.dir.realm_file()),
            revocations: Some(self.dir.crl()),
            policies: Some(self.dir.policies()),
            store: Some(store.map_or_else(
                || self.dir.broker_store(),
                |store| self.dir.path().join(store),
            )),
            limits: broker::Limits {
                reconnect_window: rules.reconnect_window.unwrap_or(limits.reconnect_window),
                ..limits
            },
        }
    }

    /// A broker without a list lets everybody in. So it may be missing only where nobody has been revoked.
    fn check_list(&self) -> Result<(), Failure> {
        let revoked = Revocations::new(self.dir.clone())
            .current()
            .map_err(|error| {
                let hint = error.hint();
                Failure::new(error, hint, exit::CONFIG)
            })?;
        let list = self.dir.crl();
        // Those of AWS stand on no list.
        let is_ours = signatory::aws_rules(self).is_none();
        if revoked.certificates.is_empty() || !is_ours || list.exists() {
            return Ok(());
        }
        Err(Failure::text(
            format!(
                "certificates have been revoked, and there is no revocation list `{}`",
                list.display()
            ),
            Some(
                "`tunnel signer run --once` makes it, where the authority's key is; copy it from there",
            ),
            exit::CONFIG,
        ))
    }

    /// The way of the keys to the proxy, unless it reads them in the registry itself. They are brought there for the first
    /// time: a proxy that starts without would turn every device away.
    async fn key_sync(
        &self,
        signers: Option<AnyRegistry>,
    ) -> Result<Option<(Sync, KeyDirectory)>, Failure> {
        let Some(keys) = own_directory(&self.dir, &self.file)? else {
            return Ok(None);
        };
        // The signer looks into the same registry as often as it may be asked: once is enough for both.
        let registry = match signers {
            Some(registry) => registry.looking_on(),
            None => self.registry()?,
        };
        let sync = Sync::new(self.dir.clone(), self.file.clone(), registry)?;
        sync.first(&keys).await;
        Ok(Some((sync, keys)))
    }

    async fn proxy(&self) -> Result<Proxy, Failure> {
        // It starts without keys too: they come with the first synchronisation.
        let permits = if own_directory(&self.dir, &self.file)?.is_some() {
            // Nobody but the synchronisation writes there, which has asked already.
            KeyPermission::everyone_with_write_access()
        } else {
            proxy_permission::permission(&self.dir)?
        };
        let config = ProxyConfig {
            listen: self.server.proxy.listen,
            realm: self.file.realm.clone(),
            host_keys: host_key::load(&self.dir)?,
            keys: key_path(&self.dir, &self.file)?,
            permits,
            reload: proxy::RELOAD,
            limits: proxy::Limits::default(),
            bandwidth: self.server.proxy.bandwidth.clone(),
        };
        Proxy::bind(config).await.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            Failure::new(error, hint, exit::CONFIG)
        })
    }
}

/// A registry that cannot be asked now keeps nobody from starting; the signer's own log says what is wrong with it.
async fn check_signer(registry: &AnyRegistry) -> Result<(), Failure> {
    match registry.check_signer().await {
        Err(error @ RegistryError::NotASigner { .. }) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
