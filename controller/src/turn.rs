//! One MQTT session at a time for one certificate.
//!
//! The client id is the certificate's common name, and a broker ends the older of two sessions of one client id. So the
//! commands of one directory take turns: a session lasts for an order and its answer, not for as long as somebody works.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use daemon::device_dir::DeviceDir;
use daemon::files::FileError;
use daemon::lock::FileLock;
use tokio::time::{Instant, sleep};

/// The right to have a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    lock: FileLock,
}

/// How the wait for a turn has ended.
pub(crate) enum Taken<T> {
    /// It is our turn.
    Turn(Turn),
    /// It is not needed any more.
    Needless(T),
}

/// Why it is not our turn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// The lock's file cannot be made or locked.
    #[error(transparent)]
    Lock(#[from] FileError),
    /// Another command of this controller has had its session for too long.
    #[error("another command of this controller has been talking to the broker for {} s", PATIENCE.as_secs())]
    Busy,
}

impl Turn {
    /// Waits until no other command of this directory has a session.
    pub(crate) async fn take(dir: &DeviceDir) -> Result<Self, TurnError> {
        Self::take_after(dir, Duration::ZERO).await
    }

    /// The same, for whoever would hold it for ever and so gives way to the others: who holds it hears of him only after a
    /// while. Two such would throw each other out all the time.
    pub(crate) async fn take_patiently(dir: &DeviceDir) -> Result<Self, TurnError> {
        Self::take_after(dir, UNHEARD).await
    }

    async fn take_after(dir: &DeviceDir, unheard: Duration) -> Result<Self, TurnError> {
        match Self::wait(dir, unheard, || None::<Infallible>).await? {
            Taken::Turn(turn) => Ok(turn),
            Taken::Needless(never) => match never {},
        }
    }

    /// The same, or until there is what it was wanted for.
    pub(crate) async fn take_unless<T>(
        dir: &DeviceDir,
        needless: impl Fn() -> Option<T>,
    ) -> Result<Taken<T>, TurnError> {
        Self::wait(dir, Duration::ZERO, needless).await
    }

    async fn wait<T>(
        dir: &DeviceDir,
        unheard: Duration,
        needless: impl Fn() -> Option<T>,
    ) -> Result<Taken<T>, TurnError> {
        let path = Self::file(dir);
        let began = Instant::now();
        let latest = began + PATIENCE;
        let mut waiting = None;
        loop {
            if let Some(there) = needless() {
                return Ok(Taken::Needless(there));
            }
            if let Some(lock) = FileLock::try_take(&path)? {
                return Ok(Taken::Turn(Self { lock }));
            }
            if waiting.is_none() && began.elapsed() >= unheard {
                // Several may wait; one of them tells it.
                waiting = FileLock::try_take(&waiting_path(dir))?;
            }
            if Instant::now() >= latest {
                return Err(TurnError::Busy);
            }
            sleep(POLL).await;
        }
    }

    /// The file that the holder of the turn locks.
    pub(crate) fn file(dir: &DeviceDir) -> PathBuf {
        dir.path().join(".session.lock")
    }

    /// Leaves a note for those who wait.
    pub(crate) fn say(&self, note: &[u8]) {
        if let Err(error) = self.lock.say(note) {
            tracing::debug!(%error, "the others will have to ask for themselves");
        }
    }
}

/// Whether another command waits for its turn.
pub(crate) fn is_wanted(dir: &DeviceDir) -> bool {
    matches!(FileLock::try_take(&waiting_path(dir)), Ok(None))
}

fn waiting_path(dir: &DeviceDir) -> PathBuf {
    dir.path().join(".session.waiting")
}

/// How long a session may be held before an order is sent again, when others get their turn first.
pub(crate) const HOLD: Duration = Duration::from_secs(3);

/// How long the next one waits who gives way: others look every [`POLL`].
pub(crate) const GIVE_WAY: Duration = Duration::from_millis(100);

/// How long others may take. Nobody holds a session much longer than [`HOLD`]: whoever does has been stopped.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a watcher waits for another before it makes itself heard. What it shows is as old as that at most.
const UNHEARD: Duration = Duration::from_secs(5);

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
        let mut second = std::pin::pin!(Turn::take(&dir));
        assert!(!is_wanted(&dir));
        assert!(
            timeout(Duration::from_millis(100), &mut second)
                .await
                .is_err()
        );
        assert!(is_wanted(&dir));
        drop(first);
        timeout(Duration::from_secs(10), &mut second)
            .await
            .unwrap()
            .unwrap();
    }
}
