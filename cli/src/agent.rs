//! `tunnel agent`

use std::path::PathBuf;
use std::time::Duration;

use agent::Agent;
use daemon::identity::Identity;
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
    let identity = Identity::load(&dir, &membership)?;
    let place = (dir.clone(), membership.clone());
    let agent =
        Agent::new(&membership, &identity)?.reloading(&membership, &identity, move || {
            Identity::load(&place.0, &place.1)
        })?;
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

/// How long open streams may take to end at a shutdown: a command may finish, and a supervisor is not kept waiting.
const DRAIN: Duration = Duration::from_secs(5);
