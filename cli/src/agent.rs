//! `tunnel agent`

use std::path::PathBuf;
use std::time::Duration;

use agent::{Agent, AlwaysOn};
use daemon::device_dir::{DeviceDir, Membership};
use daemon::identity::{self, Identity};
use daemon::lock::FileLock;
use daemon::shutdown::Shutdown;

use crate::arguments;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{self, device_dir};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &arguments::Agent) -> Result<u8, Failure> {
    let dir = device_dir(dir)?;
    let membership = dir.membership()?;
    let agent = Either::new(&dir, &membership)?;
    if arguments.check {
        output::line(format_args!(
            "`{}` can serve as `{}`",
            dir.path().display(),
            membership.id
        ));
        return Ok(exit::OK);
    }
    let lock = dir.path().join(".agent.lock");
    let Some(_lock) = FileLock::try_take(&lock)? else {
        return Err(Failure::text(
            format!("another agent is running for `{}`", dir.path().display()),
            Some(
                "two agents of one name would throw each other out of the broker: end the other one first",
            ),
            exit::CONFIG,
        ));
    };
    runtime::block_on(async {
        let shutdown = Shutdown::on_signals(DRAIN)
            .map_err(|error| runtime::cannot("watch for signals", error))?;
        agent.run(&shutdown).await;
        shutdown.request();
        if !shutdown.drained().await {
            tracing::warn!("streams were cut: they did not end within {DRAIN:?}");
        }
        Ok(exit::OK)
    })
}

/// Whether what an agent needs is there.
pub(crate) fn can_serve(dir: &DeviceDir) -> Result<(), Failure> {
    Either::new(dir, &dir.membership()?).map(drop)
}

/// The agent that the realm's file asks for.
enum Either {
    Ordered(Box<Agent>),
    AlwaysOn(Box<AlwaysOn>),
}

impl Either {
    fn new(dir: &DeviceDir, membership: &Membership) -> Result<Self, Failure> {
        let id = &membership.id;
        if membership.realm.ports.is_always_on(id.system()) {
            let key = identity::ssh_key(&dir.ssh_key(id))?;
            return Ok(Self::AlwaysOn(Box::new(AlwaysOn::new(membership, key)?)));
        }
        let identity = Identity::load(dir, membership)?;
        let place = (dir.clone(), membership.clone());
        let load = move || Identity::load(&place.0, &place.1);
        let agent = Agent::new(membership, &identity)?;
        let agent = agent.reloading(membership, &identity, load)?;
        Ok(Self::Ordered(Box::new(agent)))
    }

    async fn run(self, shutdown: &Shutdown) {
        match self {
            Self::Ordered(agent) => agent.run(shutdown).await,
            Self::AlwaysOn(agent) => agent.run(shutdown).await,
        }
    }
}

/// How long open streams may take to end at a shutdown: a command may finish, and a supervisor is not kept waiting.
const DRAIN: Duration = Duration::from_secs(5);
