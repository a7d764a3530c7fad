//! One session with the broker for one device: its agent's, or for some seconds the doctor's. Two at a time would throw each other
//! out, so that who has it holds a lock, whose file says who that is.

use std::path::PathBuf;

use daemon::device_dir::DeviceDir;
use daemon::files::FileError;
use daemon::lock::FileLock;
#[cfg(feature = "agent")]
pub(crate) use of_the_agent::{Holder, take, take_after_doctor};

/// No agent begins until this is dropped; none has ever run where there is no lock.
pub(crate) struct Held {
    _lock: Option<FileLock>,
}

/// Takes the lock for the doctor; `None` if an agent has it. Where no agent has ever run, none is made: it would be this
/// user's, and perhaps not the agent's to take.
pub(crate) fn look(dir: &DeviceDir) -> Result<Option<Held>, FileError> {
    let path = path(dir);
    if !path.exists() {
        return Ok(Some(Held { _lock: None }));
    }
    let Some(lock) = FileLock::try_take(&path)? else {
        return Ok(None);
    };
    // Without it an agent that begins now gives up instead of waiting.
    if let Err(error) = lock.say(DOCTOR) {
        tracing::debug!(%error, "the lock does not say whose it is");
    }
    Ok(Some(Held { _lock: Some(lock) }))
}

fn path(dir: &DeviceDir) -> PathBuf {
    dir.path().join(".agent.lock")
}

/// What the file says while the doctor has it.
const DOCTOR: &[u8] = b"doctor";

#[cfg(feature = "agent")]
mod of_the_agent {
    use std::time::Duration;

    use daemon::device_dir::DeviceDir;
    use daemon::files::{self, FileError};
    use daemon::lock::FileLock;
    use tokio::time::{Instant, sleep};

    use super::{DOCTOR, path};

    /// Who has the lock.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Holder {
        /// Another agent.
        Agent,
        /// The doctor.
        Doctor,
    }

    /// Takes the lock for an agent, or says who has it.
    pub(crate) async fn take(dir: &DeviceDir) -> Result<Result<FileLock, Holder>, FileError> {
        take_within(dir, Duration::ZERO).await
    }

    /// The same, and waits for a doctor: it has a deadline.
    pub(crate) async fn take_after_doctor(
        dir: &DeviceDir,
    ) -> Result<Result<FileLock, Holder>, FileError> {
        tracing::info!(
            "`tunnel doctor` has this device's session with the broker; waiting until it is through"
        );
        take_within(dir, DOCTORS).await
    }

    async fn take_within(
        dir: &DeviceDir,
        doctors: Duration,
    ) -> Result<Result<FileLock, Holder>, FileError> {
        let path = path(dir);
        let began = Instant::now();
        loop {
            if let Some(lock) = FileLock::try_take(&path)? {
                if let Err(error) = lock.say(b"agent") {
                    tracing::debug!(%error, "the lock does not say whose it is");
                }
                return Ok(Ok(lock));
            }
            let is_doctor = files::read_bounded(&path, MAX_NAME).is_ok_and(|name| name == DOCTOR);
            let (holder, patience) = if is_doctor {
                (Holder::Doctor, doctors)
            } else {
                (Holder::Agent, NAMING)
            };
            if began.elapsed() >= patience {
                return Ok(Err(holder));
            }
            sleep(POLL).await;
        }
    }

    /// How long a doctor may take: ten seconds to be let in, as long again to be subscribed, and two for its goodbye; and some more
    /// for a cluster's other addresses.
    const DOCTORS: Duration = Duration::from_secs(40);

    /// How long whoever took the lock may take to say who it is.
    const NAMING: Duration = Duration::from_millis(300);

    /// How often it is looked.
    const POLL: Duration = Duration::from_millis(50);

    /// The longest name in the file.
    const MAX_NAME: usize = 16;

    #[cfg(test)]
    mod tests {
        use tokio::time::timeout;

        use super::super::look;
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn an_agent_waits_for_the_doctor_and_not_for_another_agent() {
            let home = tempfile::tempdir().unwrap();
            let dir = DeviceDir::new(home.path());
            assert!(look(&dir).unwrap().is_some());
            assert!(!path(&dir).exists());
            let first = take(&dir).await.unwrap().unwrap();
            assert!(look(&dir).unwrap().is_none());
            let began = Instant::now();
            for taken in [take(&dir).await, take_after_doctor(&dir).await] {
                assert_eq!(taken.unwrap().unwrap_err(), Holder::Agent);
            }
            assert!(began.elapsed() < Duration::from_secs(1), "at once");
            drop(first);
            let doctors = look(&dir).unwrap().unwrap();
            assert_eq!(take(&dir).await.unwrap().unwrap_err(), Holder::Doctor);
            let late = take_after_doctor(&dir).await.unwrap();
            assert_eq!(late.unwrap_err(), Holder::Doctor);
            let mut agent = std::pin::pin!(take_after_doctor(&dir));
            let most = timeout(DOCTORS / 2, &mut agent).await;
            assert!(most.is_err(), "it waits");
            drop(doctors);
            drop(agent.await.unwrap().unwrap());
            // What the doctor has left there is not taken for his presence.
            let _agent = take(&dir).await.unwrap().unwrap();
            let began = Instant::now();
            assert_eq!(take(&dir).await.unwrap().unwrap_err(), Holder::Agent);
            assert!(began.elapsed() < Duration::from_secs(1), "at once");
        }
    }
}
