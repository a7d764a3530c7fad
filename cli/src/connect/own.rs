//! A session with our own client, for a computer that has no ssh.

use std::sync::Arc;

use controller::{OwnSsh, Stream, Tunnel, known_keys, learn};
use daemon::identity;

use super::Connecting;
use crate::arguments::Connect;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::waiting::Waiting;

/// Refuses what only ssh can do.
pub(super) fn can(arguments: &Connect) -> Result<(), Failure> {
    let options = arguments.ssh.words();
    let Some(option) = options.first() else {
        return Ok(());
    };
    let text = format!(
        "there is no `ssh` to pass `{}` on to",
        option.to_string_lossy()
    );
    let hint =
        "install OpenSSH's client: the package is called `openssh-client` on Debian and Ubuntu";
    Err(Failure::text(text, Some(hint), exit::FAILURE))
}

/// Returns the exit code. It asks nobody: a device whose host key is not known is refused.
pub(super) async fn session(
    connect: &Connecting<'_>,
    tunnel: &Tunnel,
    stream: Stream,
    interruption: &Interruption,
    waiting: Waiting,
) -> Result<u8, Failure> {
    let (account, device) = (&connect.account, tunnel.device().clone());
    let known_hosts = account.dir.known_hosts();
    learn(&known_hosts, &device, tunnel.host_keys()).await?;
    let known = known_keys(&known_hosts, &device)?;
    let present = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = connect.target.user.clone().or_else(|| present().ok());
    let user = user.ok_or_else(|| {
        let hint = format!("say it: `tunnel connect USER@{}`", device.device());
        Failure::text(
            "nobody said which user to log in as",
            Some(&hint),
            exit::USAGE,
        )
    })?;
    let ssh = OwnSsh {
        device,
        user,
        key: Arc::new(identity::ssh_key(&account.dir.ssh_key(account.id()))?),
        known,
        command: connect.arguments.command.clone(),
    };
    tokio::select! {
        code = ssh.run(stream, || drop(waiting)) => Ok(code?),
        // Dropping the session ends it, and gives the terminal back.
        code = interruption.requested() => Ok(code),
    }
}
