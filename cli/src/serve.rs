//! `tunnel serve`, and its parts alone: `tunnel broker`, `tunnel proxy` and `tunnel signer run`.

use std::path::PathBuf;
use std::time::Duration;

use broker::{Broker, BrokerConfig, Pem};
use daemon::descriptors::raise_limit;
use daemon::identity;
use daemon::realm_dir::RealmDir;
use daemon::realm_file::RealmFile;
use daemon::server_file::ServerFile;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use enrollment::key_directory::KeyDirectory;
use enrollment::{AnyRegistry, Author, UploadPermission};
use proxy::{KeyPermission, Proxy, ProxyConfig};
use signer::Signer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::{Serve, SignerRun};
use crate::asking;
use crate::exit;
use crate::failure::Failure;
use crate::host_key;
use crate::keys::proxy_sync::{Sync, key_path, own_directory};
use crate::output;
use crate::realm_access;
use crate::runtime;
use crate::signing;

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
    let realm = Realm::load(dir)?.attended(arguments);
    serve(&realm, &arguments.serve, Parts::SIGNER)
}

fn serve(realm: &Realm, arguments: &Serve, parts: Parts) -> Result<u8, Failure> {
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
        let running = realm.start(parts, &shutdown).await?;
        output::line("ready");
        systemd::feed_watchdog(&shutdown);
        systemd::ready();
        running.wait(&shutdown).await
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
    pub(crate) fn attended(self, arguments: &SignerRun) -> Self {
        Self {
            days: arguments.days,
            every: arguments.every.map(Into::into),
            attended: true,
            ..self
        }
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
        let authority = signing::authority(&self.dir)?;
        let permission = if self.attended {
            asking::permission(self.dir.path())?
        } else {
            self.permission()?
        };
        let suffix = self.file.client_id_suffix.clone();
        let signer = Signer::new(authority, suffix, permission.clone(), &self.dir)?
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
            identity::certificates(&self.dir.broker_certificate())?;
            identity::private_key(&self.dir.broker_key())?;
        }
        if parts.proxy {
            host_key::load(&self.dir)?;
        }
        if parts.signer {
            signing::authority(&self.dir)?;
            self.registry()?;
        }
        Ok(())
    }

    /// Binds everything before anything runs: a part that cannot start stops the rest from pretending.
    async fn start(&self, parts: Parts, shutdown: &Shutdown) -> Result<Running, Failure> {
        let broker = parts.broker.then(|| self.broker()).transpose()?;
        let sync = if parts == Parts::ALL {
            self.key_sync().await?
        } else {
            None
        };
        let proxy = if parts.proxy {
            Some(self.proxy().await?)
        } else {
            None
        };
        let signer = parts.signer.then(|| self.signer()).transpose()?;
        let mut running = Running {
            parts: JoinSet::new(),
            online: None,
            tunnels: None,
        };
        if let Some(broker) = broker {
            output::line(format_args!("broker  listening on {}", broker.local_addr()));
            running.online = Some(broker.roster());
            let until = shutdown.clone();
            running.parts.spawn(async move {
                broker.run(until).await;
                "broker"
            });
        }
        if let Some(proxy) = proxy {
            output::line(format_args!("proxy   listening on {}", proxy.local_addr()));
            running.tunnels = Some(proxy.stats());
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
            let until = shutdown.clone();
            running.parts.spawn(async move {
                signer.run(&registry, &until).await;
                "signer"
            });
        }
        Ok(running)
    }

    fn broker(&self) -> Result<Broker, Failure> {
        let config = BrokerConfig {
            listen: self.server.broker.listen,
            realm: self.file.realm.clone(),
            client_id_suffix: self.file.client_id_suffix.clone(),
            certificates: Pem::File(self.dir.broker_certificate()),
            key: Pem::File(self.dir.broker_key()),
            client_authorities: Pem::Text(self.file.ca.clone().into_bytes()),
            revocations: Some(self.dir.crl()),
            limits: broker::Limits::default(),
        };
        Broker::bind(config).map_err(|error| {
            let hint = error.hint();
            Failure::new(error, hint, exit::CONFIG)
        })
    }

    /// The way of the keys to the proxy, unless it reads them in the registry itself. They are brought there for the first
    /// time: a proxy that starts without would turn every device away.
    async fn key_sync(&self) -> Result<Option<(Sync, KeyDirectory)>, Failure> {
        let Some(keys) = own_directory(&self.dir, &self.file)? else {
            return Ok(None);
        };
        let sync = Sync::new(self.dir.clone(), self.file.clone(), self.registry()?)?;
        sync.first(&keys).await;
        Ok(Some((sync, keys)))
    }

    async fn proxy(&self) -> Result<Proxy, Failure> {
        // It starts without keys too: they come with the first synchronisation.
        let permits = if own_directory(&self.dir, &self.file)?.is_some() {
            // Nobody but the synchronisation writes there, which has asked already.
            KeyPermission::everyone_with_write_access()
        } else {
            let permission = self.permission()?;
            KeyPermission::new(move |id, uid| permission.permits(&Author::LocalUser { uid }, id))
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
        Proxy::bind(config)
            .await
            .map_err(|error| Failure::new(error, None, exit::CONFIG))
    }
}

struct Running {
    parts: JoinSet<&'static str>,
    online: Option<watch::Receiver<usize>>,
    tunnels: Option<proxy::StatsReader>,
}

impl Running {
    /// Runs until the shutdown, and then until all parts have drained.
    async fn wait(mut self, shutdown: &Shutdown) -> Result<u8, Failure> {
        let mut ticks = interval(STATUS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => break None,
                ended = self.parts.join_next() => break ended,
                _ = ticks.tick() => self.tell_status(),
            }
        };
        systemd::stopping();
        // A listener that died must not look like a service that runs: the supervisor starts it anew.
        let died = ended.map(|ended| ended.unwrap_or("part"));
        shutdown.request();
        while self.parts.join_next().await.is_some() {}
        if !shutdown.drained().await {
            tracing::warn!(
                "connections were cut: they did not end within {:?}",
                shutdown.grace()
            );
        }
        match died {
            None => Ok(exit::OK),
            Some(part) => Err(Failure::text(
                format!("the {part} has ended by itself"),
                Some("its log says why"),
                exit::FAILURE,
            )),
        }
    }

    fn tell_status(&self) {
        let online = self
            .online
            .as_ref()
            .map(|online| format!("{} devices online", *online.borrow()));
        let tunnels = self.tunnels.as_ref().map(|stats| {
            let stats = stats.now();
            format!("{} tunnels, {} streams", stats.tunnels, stats.streams)
        });
        let told: Vec<String> = online.into_iter().chain(tunnels).collect();
        if !told.is_empty() {
            systemd::status(&told.join("; "));
        }
    }
}

/// How often `systemctl status` is told anew.
const STATUS: Duration = Duration::from_secs(5);
