//! The ssh that has gone into the background: its parent has ended, and is no child of ours.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

/// A process that goes on with what ssh was given.
pub(crate) struct BackgroundSsh {
    process: u32,
    folder: OsString,
}

impl BackgroundSsh {
    /// Finds the process that was given this socket to fetch its stream from, which nobody else knows. Others may hold the
    /// stream too: what `LocalCommand` leaves behind has every descriptor of ssh's.
    pub(crate) fn find(socket: &Path) -> Option<Self> {
        let folder = socket.parent()?.file_name()?;
        fs::read_dir("/proc").ok()?.find_map(|entry| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let found = Self {
                process,
                folder: folder.to_owned(),
            };
            found.lives().then_some(found)
        })
    }

    /// Completes when it has ended. Cancel-safe.
    pub(crate) async fn ended(&self) {
        while self.lives() {
            sleep(LOOK).await;
        }
    }

    /// Its command line is empty once it has ended, and another process's, if its number has gone to one.
    fn lives(&self) -> bool {
        let folder = self.folder.as_encoded_bytes();
        fs::read(format!("/proc/{}/cmdline", self.process))
            .is_ok_and(|line| line.windows(folder.len()).any(|part| part == folder))
    }
}

/// How often it is looked after: a file of the kernel's is read, and the stream tells of an end sooner where ssh alone holds it.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process_group};
    use tokio::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_process_is_found_by_its_socket_while_it_lives() {
        let socket =
            std::env::temp_dir().join(format!("tunnel-test-{:016x}/stream", rand::random::<u64>()));
        assert!(BackgroundSsh::find(&socket).is_none());
        let mut child = Command::new("sh");
        child.args(["-c", "sleep 4711; true"]).arg(&socket);
        let mut child = child.kill_on_drop(true).process_group(0).spawn().unwrap();
        // A program that has just begun has no command line yet.
        let found = loop {
            match BackgroundSsh::find(&socket) {
                Some(found) => break found,
                None => sleep(LOOK / 50).await,
            }
        };
        tokio::select! {
            biased;
            () = found.ended() => panic!("it lives"),
            () = std::future::ready(()) => {}
        }
        let group = i32::try_from(child.id().unwrap()).unwrap();
        kill_process_group(Pid::from_raw(group).unwrap(), Signal::KILL).unwrap();
        found.ended().await;
        child.wait().await.unwrap();
        // What the shell has forked may still have its command line, and ends by itself.
        while let Some(fork) = BackgroundSsh::find(&socket) {
            fork.ended().await;
        }
    }
}
