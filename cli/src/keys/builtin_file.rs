//! The keys of controllers in the file of the agent's own ssh.

use std::path::Path;
use std::time::Duration;

use daemon::files::{self, FileError};
use daemon::shutdown::Shutdown;
use enrollment::DeviceKey;
use enrollment::authorized_file::MAX_FILE;
use tokio::time::{MissedTickBehavior, interval};

use crate::failure::Failure;
use crate::keys::controller_keys::ControllerKeys;

/// Makes our lines in the file those of the keys that count now. Lines that somebody else wrote stay.
pub(crate) async fn bring(keys: &ControllerKeys, file: &Path) -> Result<(), Failure> {
    let marker = keys.marker();
    let lines = keys
        .lines(|key| Some(format!("{} {marker}", line(key)?)))
        .await?;
    let present = match files::read_bounded(file, MAX_FILE) {
        Ok(present) => present,
        Err(FileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let merged = marker.merge(&present, &lines);
    if merged.content != present || !file.exists() {
        files::write_private(file, &merged.content)?;
        let (added, removed) = (merged.added, merged.removed);
        tracing::info!(file = %file.display(), added, removed, "keys written");
    }
    keys.check_rules()
}

/// Brings them again and again until the shutdown. A registry that is away is asked again the next time.
pub(crate) async fn keep(keys: ControllerKeys, file: &Path, every: Duration, shutdown: &Shutdown) {
    let mut ticks = interval(every.max(SHORTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = async {
            ticks.tick().await;
            bring(&keys, file).await
        };
        let brought = tokio::select! {
            biased;
            () = shutdown.requested() => return,
            brought = round => brought,
        };
        if let Err(failure) = brought {
            tracing::error!("{}", failure.to_string().replace('\n', "; "));
        }
    }
}

/// The key, and whose it is.
fn line(key: &DeviceKey) -> Option<String> {
    let line = key.key().to_openssh().ok()?;
    let words: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
    Some(format!("{} {}", words.join(" "), key.id()))
}

/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);
