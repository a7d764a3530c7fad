//! One MQTT session at a time for one certificate.
//!
//! The client id is the certificate's common name, and a broker ends the older of two sessions of one client id. So the
//! commands of one directory take turns: a session lasts for an order and its answer, not for as long as somebody works.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use daemon::device_dir::DeviceDir;
use tokio::time::{Instant, sleep};

/// The right to have a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    // Closing the file gives the lock back, whatever happens to the process.
    _lock: File,
}

/// Why it is not our turn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// The lock's file cannot be made or locked.
    #[error("cannot lock `{}`", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another command of this controller has had its session for too long.
    #[error("another command of this controller has been talking to the broker for {} s", PATIENCE.as_secs())]
    Busy,
}

impl Turn {
    /// Waits until no other command of this directory has a session.
    pub(crate) async fn take(dir: &DeviceDir) -> Result<Self, TurnError> {
        let path = dir.path().join(".session.lock");
        let fail = |source| TurnError::Lock {
            path: path.clone(),
            source,
        };
        // Its content is nothing and its mode does not matter: the directory is private.
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        let latest = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < latest => sleep(POLL).await,
                Err(TryLockError::WouldBlock) => return Err(TurnError::Busy),
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
        }
    }
}

/// How long others may take: longer than one order may, so that a single device that does not answer stops nobody.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often the lock is tried: an order takes some 10 ms on a local network.
const POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_one_after_the_other() {
        let home = tempfile::tempdir().unwrap();
        let dir = DeviceDir::new(home.path());
        let first = Turn::take(&dir).await.unwrap();
        assert!(
            timeout(Duration::from_millis(100), Turn::take(&dir))
                .await
                .is_err()
        );
        drop(first);
        timeout(Duration::from_secs(10), Turn::take(&dir))
            .await
            .unwrap()
            .unwrap();
    }
}
