//! `tunnel agent`

use std::path::PathBuf;
use std::time::Duration;

use std::sync::Arc;

use agent::{Agent, AlwaysOn, Builtin};
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
    let builtin = runtime::block_on(builtin(&dir, &membership))?;
    let agent = Either::new(&dir, &membership, builtin)?;
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
        #[cfg(feature = "builtin-ssh")]
        crate::builtin_ssh::keep_keys(&dir, membership, &shutdown)?;
        agent.run(&shutdown).await;
        shutdown.request();
        if !shutdown.drained().await {
            tracing::warn!("streams were cut: they did not end within {DRAIN:?}");
        }
        Ok(exit::OK)
    })
}

/// The agent that the realm's file asks for.
enum Either {
    Ordered(Box<Agent>),
    AlwaysOn(Box<AlwaysOn>),
}

impl Either {
    fn new(
        dir: &DeviceDir,
        membership: &Membership,
        builtin: Option<Arc<dyn Builtin>>,
    ) -> Result<Self, Failure> {
        let id = &membership.id;
        if membership.realm.ports.is_always_on(id.system()) {
            let key = identity::ssh_key(&dir.ssh_key(id))?;
            return Ok(Self::AlwaysOn(Box::new(AlwaysOn::new(
                membership, key, builtin,
            )?)));
        }
        let identity = Identity::load(dir, membership)?;
        let place = (dir.clone(), membership.clone());
        let load = move || Identity::load(&place.0, &place.1);
        let agent = Agent::new(membership, &identity, builtin)?;
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

/// The ssh server in this process, if one is configured and this build has it.
#[cfg(feature = "builtin-ssh")]
async fn builtin(
    dir: &DeviceDir,
    membership: &Membership,
) -> Result<Option<Arc<dyn Builtin>>, Failure> {
    crate::builtin_ssh::prepare(dir, membership).await
}

#[cfg(not(feature = "builtin-ssh"))]
async fn builtin(_: &DeviceDir, _: &Membership) -> Result<Option<Arc<dyn Builtin>>, Failure> {
    Ok(None)
}

/// How long open streams may take to end at a shutdown: a command may finish, and a supervisor is not kept waiting.
const DRAIN: Duration = Duration::from_secs(5);
