//! What ssh would do with a session, asked of ssh itself: its configuration may name a command, or send it into the background.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

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
        ssh.stdin(Stdio::null()).kill_on_drop(true);
        let told = timeout(ANSWER, ssh.output()).await??;
        if !told.status.success() {
            return Err(io::Error::other(told.status.to_string()));
        }
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
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

    #[tokio::test]
    async fn ssh_itself_is_asked() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config");
        let command = |settings: &str, options: &[&str]| {
            std::fs::write(&config, settings).unwrap();
            let file = ["-F", config.to_str().unwrap()];
            SshCommand {
                program: "/usr/bin/tunnel".into(),
                device: "333.hula.atlas".parse().unwrap(),
                user: Some("atlas".into()),
                key: home.path().join("key"),
                known_hosts: home.path().join("known_hosts"),
                is_known: true,
                options: file.iter().chain(options).map(Into::into).collect(),
                command: Vec::new(),
            }
        };
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
            let found = command(settings, options).unrepeatable().await;
            assert_eq!(found, expected, "{settings:?} {options:?}");
        }
    }
}
