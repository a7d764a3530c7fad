//! `tunnel agent`

use std::error::Error;
#[cfg(not(feature = "builtin-ssh"))]
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentError, AlwaysOn, Builtin, Vitals};
use daemon::device_dir::{DeviceDir, Membership};
use daemon::identity::{self, Identity, IdentityError};
use daemon::monitor::Pulse;
use daemon::shutdown::Shutdown;

use crate::agent_lock::{self, Holder};
use crate::arguments;
use crate::exit;
use crate::failure::Failure;
use crate::monitor;
use crate::output;
use crate::runtime::{self, device_dir};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &arguments::Agent) -> Result<u8, Failure> {
    let dir = device_dir(dir)?;
    let membership = dir.membership()?;
    let builtin = runtime::block_on(builtin(&dir, &membership, arguments.check))?;
    let agent = Either::new(&dir, &membership, builtin)?;
    let place = monitor::place(membership.device.metrics, membership.device.metrics_public)?;
    if arguments.check {
        output::line(format_args!(
            "`{}` can serve as `{}`",
            dir.path().display(),
            membership.id
        ));
        return Ok(exit::OK);
    }
    // Before anything else: two agents would also listen in one place.
    let taken = match runtime::block_on(async { Ok(agent_lock::take(&dir).await?) })? {
        Err(Holder::Agent) => return Err(busy(&dir, Holder::Agent)),
        taken => taken.ok(),
    };
    let serving = async {
        let shutdown = Shutdown::on_signals(DRAIN)
            .map_err(|error| runtime::cannot("watch for signals", error))?;
        let pulse = Pulse::new();
        let monitor = monitor::bind(place, &pulse, &shutdown).await?;
        let lock = if let Some(lock) = taken {
            lock
        } else {
            tokio::select! {
                waited = agent_lock::take_after_doctor(&dir) => {
                    waited?.map_err(|holder| busy(&dir, holder))?
                }
                () = shutdown.requested() => return Ok(None),
            }
        };
        #[cfg(feature = "builtin-ssh")]
        crate::builtin_ssh::keep_keys(&dir, membership, &shutdown)?;
        if let Some(monitor) = &monitor {
            monitor.watch(agent.vitals());
            monitor.begun();
        }
        agent.run(&shutdown, &pulse).await;
        shutdown.request();
        if !shutdown.drained().await {
            tracing::warn!("streams were cut: they did not end within {DRAIN:?}");
        }
        Ok(Some(lock))
    };
    // It is kept until nothing of this agent runs any more.
    let _lock = runtime::block_on_then_drop(serving, DROP)?;
    Ok(exit::OK)
}

/// Somebody else has the device's session with the broker.
fn busy(dir: &DeviceDir, holder: Holder) -> Failure {
    let dir = dir.path().display();
    match holder {
        Holder::Agent => Failure::text(
            format!("another agent is running for `{dir}`"),
            Some(
                "two agents of one name would throw each other out of the broker: end the other one first",
            ),
            exit::CONFIG,
        ),
        Holder::Doctor => Failure::text(
            format!("`tunnel doctor` does not give back the session of `{dir}` with the broker"),
            Some("it takes seconds: end the one that hangs, and start the agent again"),
            exit::UNAVAILABLE,
        ),
    }
}

/// Whether a device is enrolled: its keys and its certificate are there and good.
pub(crate) fn is_enrolled(dir: &DeviceDir) -> bool {
    let Ok(membership) = dir.membership() else {
        return false;
    };
    let id = &membership.id;
    if membership.realm.ports.is_always_on(id.system()) {
        return identity::ssh_key(&dir.ssh_key(id)).is_ok();
    }
    Identity::load(dir, &membership).is_ok()
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
            let (agent, dir) = (always_on(dir, membership, builtin.clone())?, dir.clone());
            let agent = agent.rereading(move || match reread(&dir, builtin.as_deref())? {
                (now, true) => Ok(always_on(&dir, &now, builtin.clone())?),
                (_, false) => Err(OTHER_KIND.into()),
            });
            return Ok(Self::AlwaysOn(Box::new(agent)));
        }
        let (agent, dir) = (ordered(dir, membership, builtin.clone())?, dir.clone());
        let agent = agent.rereading(move || match reread(&dir, builtin.as_deref())? {
            (now, false) => Ok(ordered(&dir, &now, builtin.clone())?),
            (_, true) => Err(OTHER_KIND.into()),
        });
        Ok(Self::Ordered(Box::new(agent)))
    }

    fn vitals(&self) -> Vitals {
        match self {
            Self::Ordered(agent) => agent.vitals(),
            Self::AlwaysOn(agent) => agent.vitals(),
        }
    }

    async fn run(self, shutdown: &Shutdown, pulse: &Pulse) {
        match self {
            Self::Ordered(agent) => agent.run(shutdown, pulse).await,
            Self::AlwaysOn(agent) => agent.run(shutdown, pulse).await,
        }
    }
}

/// An agent that waits for orders, whose certificate is read again for each session.
fn ordered(
    dir: &DeviceDir,
    membership: &Membership,
    builtin: Option<Arc<dyn Builtin>>,
) -> Result<Agent, StartError> {
    let identity = Identity::load(dir, membership)?;
    let place = (dir.clone(), membership.clone());
    let load = move || Identity::load(&place.0, &place.1);
    let agent = Agent::new(membership, &identity, builtin)?;
    Ok(agent.reloading(membership, &identity, load)?)
}

fn always_on(
    dir: &DeviceDir,
    membership: &Membership,
    builtin: Option<Arc<dyn Builtin>>,
) -> Result<AlwaysOn, StartError> {
    let key = identity::ssh_key(&dir.ssh_key(&membership.id))?;
    Ok(AlwaysOn::new(membership, key, builtin)?)
}

/// The directory's files as they are now, and whether their system is always on.
fn reread(
    dir: &DeviceDir,
    builtin: Option<&dyn Builtin>,
) -> Result<(Membership, bool), Box<dyn Error + Send + Sync>> {
    let now = dir.membership()?;
    if now.device.serves_ssh() && builtin.is_none() {
        return Err(NO_SERVER_YET.into());
    }
    let always_on = now.realm.ports.is_always_on(now.id.system());
    Ok((now, always_on))
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Identity(error) => error.into(),
            StartError::Agent(error) => error.into(),
        }
    }
}

/// Why files that could be used are not.
const OTHER_KIND: &str =
    "whether the tunnels of the system are always on has changed; that takes a restart";

const NO_SERVER_YET: &str = "an ssh of the agent's own takes a restart";

/// The ssh server in this process, if one is configured and this build has it.
#[cfg(feature = "builtin-ssh")]
async fn builtin(
    dir: &DeviceDir,
    membership: &Membership,
    check: bool,
) -> Result<Option<Arc<dyn Builtin>>, Failure> {
    crate::builtin_ssh::prepare(dir, membership, check).await
}

#[cfg(not(feature = "builtin-ssh"))]
fn builtin(
    _: &DeviceDir,
    _: &Membership,
    _: bool,
) -> Ready<Result<Option<Arc<dyn Builtin>>, Failure>> {
    ready(Ok(None))
}

/// How long open streams may take to end at a shutdown: a command may finish, and a supervisor is not kept waiting.
const DRAIN: Duration = Duration::from_secs(5);

/// How long streams that were cut may take to tell whoever is behind them, such as a session's process. What is still blocked then,
/// such as a look-up of a name, is not waited for.
const DROP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_somebody_else_has_is_not_taken() {
        let dir = DeviceDir::new("/etc/tunnel");
        insta::assert_snapshot!(busy(&dir, Holder::Agent), @r"
        error: another agent is running for `/etc/tunnel`
        hint: two agents of one name would throw each other out of the broker: end the other one first
        ");
        insta::assert_snapshot!(busy(&dir, Holder::Doctor), @r"
        error: `tunnel doctor` does not give back the session of `/etc/tunnel` with the broker
        hint: it takes seconds: end the one that hangs, and start the agent again
        ");
    }
}
