//! What ssh would do with a session, asked of ssh itself: its configuration may name a command, or send it into the background.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use crate::ssh::SshCommand;

/// Why a session is not begun again when its tunnel has fallen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepeatable {
    /// ssh's settings name a command, which would be run a second time.
    Command,
    /// They send ssh into the background, where nobody looks on.
    Background,
    /// ssh does not say what it would do.
    Unknown,
}

impl SshCommand {
    /// Whether a session would be more than a shell or a forwarding, as ssh's own settings have it (`ssh -G`). It costs a
    /// process, and runs what `Match exec` names.
    pub async fn unrepeatable(&self) -> Option<Unrepeatable> {
        match self.settings().await {
            Ok(settings) => unrepeatable(&settings),
            Err(error) => {
                tracing::debug!(%error, "ssh does not tell its settings");
                Some(Unrepeatable::Unknown)
            }
        }
    }

    async fn settings(&self) -> io::Result<String> {
        let mut ssh = Command::new("ssh");
        // Nothing is connected to: any path will do for the socket.
        ssh.arg("-G").args(self.arguments(Path::new("/dev/null")));
        // What `Match exec` leaves behind may hold what it was given as standard error.
        ssh.stdin(Stdio::null()).stderr(Stdio::null());
        ssh.stdout(Stdio::piped()).kill_on_drop(true);
        let child = ssh.process_group(0).spawn()?;
        let group = Group(child.id());
        let told = timeout(ANSWER, child.wait_with_output()).await??;
        group.has_ended();
        if !told.status.success() {
            return Err(io::Error::other(told.status.to_string()));
        }
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    }
}

/// A process, whose number is its group's, and what it has started: all are ended with this, unless it has ended by itself.
struct Group(Option<u32>);

impl Group {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            // There may be nobody left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Each line is a name in small letters, a blank, and the value. An ssh that does not know a setting does not name it.
fn unrepeatable(settings: &str) -> Option<Unrepeatable> {
    let of = |name: &str| {
        settings
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    if of("hostname").is_none() {
        // Whatever that is, it is no list of settings.
        return Some(Unrepeatable::Unknown);
    }
    if of("forkafterauthentication") == Some("yes") {
        return Some(Unrepeatable::Background);
    }
    match of("sessiontype") {
        // `-N`: a command may be named, and is not run.
        Some("none") => None,
        Some("subsystem") => Some(Unrepeatable::Command),
        Some(_) | None => of("remotecommand").map(|_| Unrepeatable::Command),
    }
}

/// How long ssh may take: it reads two files, and runs what `Match exec` names there.
const ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[test]
    fn a_shell_and_a_forwarding_may_be_begun_again() {
        let told = |lines: &str| unrepeatable(&format!("user x\nhostname y\n{lines}"));
        assert_eq!(told(""), None);
        assert_eq!(
            told("sessiontype default\nforkafterauthentication no\n"),
            None
        );
        assert_eq!(told("sessiontype none\nremotecommand reboot\n"), None);
        assert_eq!(
            told("sessiontype default\nremotecommand reboot\n"),
            Some(Unrepeatable::Command)
        );
        // Before OpenSSH 8.7 there is no such setting.
        assert_eq!(
            told("remotecommand echo none\n"),
            Some(Unrepeatable::Command)
        );
        assert_eq!(told("sessiontype subsystem\n"), Some(Unrepeatable::Command));
        assert_eq!(
            told("sessiontype none\nforkafterauthentication yes\n"),
            Some(Unrepeatable::Background)
        );
        assert_eq!(unrepeatable(""), Some(Unrepeatable::Unknown));
    }

    /// An ssh with these settings, in a file there, and options.
    fn command(home: &Path, settings: &str, options: &[&str]) -> SshCommand {
        let config = home.join("config");
        std::fs::write(&config, settings).unwrap();
        let file = ["-F", config.to_str().unwrap()];
        SshCommand {
            program: "/usr/bin/tunnel".into(),
            device: "333.hula.atlas".parse().unwrap(),
            user: Some("atlas".into()),
            key: home.join("key"),
            known_hosts: home.join("known_hosts"),
            is_known: true,
            options: file.iter().chain(options).map(Into::into).collect(),
            command: Vec::new(),
        }
    }

    #[tokio::test]
    async fn who_does_not_wait_any_longer_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("pid");
        let file = file.display();
        let settings = format!(
            "Match exec \"echo $$ > {file}.new; mv {file}.new {file}; sleep 4711; true\"\n"
        );
        let ssh = command(home.path(), &settings, &[]);
        let began = async {
            loop {
                if let Ok(pid) = std::fs::read_to_string(home.path().join("pid")) {
                    break pid;
                }
                sleep(POLL).await;
            }
        };
        let pid = tokio::select! {
            pid = began => pid,
            told = ssh.unrepeatable() => panic!("{told:?}"),
        };
        // Its command line is empty once it has ended, whether or not somebody has looked at how.
        let line = format!("/proc/{}/cmdline", pid.trim());
        while std::fs::read(&line).is_ok_and(|line| !line.is_empty()) {
            sleep(POLL).await;
        }
    }

    const POLL: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn ssh_itself_is_asked() {
        let home = tempfile::tempdir().unwrap();
        for (settings, options, expected) in [
            ("", &[][..], None),
            ("RemoteCommand none\n", &[], None),
            (
                "Host *.atlas\nRemoteCommand reboot\n",
                &[],
                Some(Unrepeatable::Command),
            ),
            ("Host *.elsewhere\nRemoteCommand reboot\n", &[], None),
            ("RemoteCommand reboot\n", &["-N"], None),
            (
                "",
                &["-N", "-o", "ForkAfterAuthentication=yes"],
                Some(Unrepeatable::Background),
            ),
            ("no setting of ssh\n", &[], Some(Unrepeatable::Unknown)),
        ] {
            let ssh = command(home.path(), settings, options);
            let found = ssh.unrepeatable().await;
            assert_eq!(found, expected, "{settings:?} {options:?}");
        }
    }
}
