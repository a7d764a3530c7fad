//! What every command needs to begin: its directory, its runtime, and its controller's account.

use std::io;
use std::path::PathBuf;
#[cfg(feature = "controller")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "controller")]
use controller::{Account, OpenError};
use daemon::device_dir::DeviceDir;
#[cfg(feature = "controller")]
use daemon::identity::{self, Identity};
#[cfg(feature = "controller")]
use protocol::Role;
use tokio::runtime::Builder;

use crate::exit;
use crate::failure::Failure;

/// Runs a command. What is still blocked at its end, such as a read from standard input, is not waited for.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    block_on_then_drop(future, Duration::ZERO)
}

/// Runs a command, and gives the tasks that are left at its end so long to be dropped: what they hold may have to hear that it
/// is over, such as the processes of sessions.
pub(crate) fn block_on_then_drop<T>(
    future: impl Future<Output = Result<T, Failure>>,
    within: Duration,
) -> Result<T, Failure> {
    // Two threads: one for the cryptography of an SSH connection, and one for whoever reads and writes on it.
    let mut threads = Builder::new_multi_thread();
    run(threads.worker_threads(2), future, within)
}

/// As [`block_on`], for a single stream of one connection: whose packets are handed on from task to task, and on another
/// thread each of these would have to be woken by the kernel (docs/decisions/0025-packets-of-64-kib.md).
#[cfg(feature = "controller")]
pub(crate) fn block_on_one_thread<T>(
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    run(&mut Builder::new_current_thread(), future, Duration::ZERO)
}

fn run<T>(
    builder: &mut Builder,
    future: impl Future<Output = Result<T, Failure>>,
    within: Duration,
) -> Result<T, Failure> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| cannot("start", error))?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(within);
    result
}

/// The failure of something that the operating system should have let us do.
pub(crate) fn cannot(what: &str, error: io::Error) -> Failure {
    Failure::new(
        Cannot {
            what: what.to_owned(),
            source: error,
        },
        None,
        exit::FAILURE,
    )
}

/// The device's directory: the one that was named, or the usual one.
pub(crate) fn device_dir(named: Option<PathBuf>) -> Result<DeviceDir, Failure> {
    let usual = || {
        if rustix::process::geteuid().is_root() {
            return Some(PathBuf::from("/etc/tunnel"));
        }
        let config = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        config
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
            .map(|config| config.join("tunnel"))
    };
    named.or_else(usual).map(DeviceDir::new).ok_or_else(|| {
        Failure::text(
            "there is no home directory to find the device's files in",
            Some("name the directory with `--dir`"),
            exit::CONFIG,
        )
    })
}

/// The controller's configuration and keys.
#[cfg(feature = "controller")]
pub(crate) fn account(dir: Option<PathBuf>) -> Result<Account, Failure> {
    let dir = device_dir(dir)?;
    let membership = dir.membership()?;
    if membership.id.role() != Role::Controller {
        // A session of this name would throw this computer's own agent out of the broker.
        return Err(OpenError::NotAController { id: membership.id }.into());
    }
    let always_on = membership.realm.ports.is_always_on(membership.id.system());
    let (ssh_key, identity) = if always_on {
        (
            Arc::new(identity::ssh_key(&dir.ssh_key(&membership.id))?),
            None,
        )
    } else {
        let identity = Identity::load(&dir, &membership)?;
        (Arc::clone(&identity.ssh_key), Some(identity))
    };
    Ok(Account {
        dir,
        membership,
        ssh_key,
        identity,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
struct Cannot {
    what: String,
    source: io::Error,
}
