//! `tunnel connect`

use std::path::PathBuf;
use std::sync::Arc;

use controller::{
    Account, OpenError, OwnSsh, SshCommand, Step, Stream, Timing, Tunnel, Wanted, has_ssh,
};
use daemon::identity;

use crate::arguments::Connect;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::output;
use crate::runtime::{self, account, cannot};
use crate::target;
use crate::waiting::Waiting;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Connect) -> Result<u8, Failure> {
    let timing = Timing::start();
    let account = Arc::new(account(dir)?);
    let target = target::parse(&arguments.target, account.id())?;
    timing.record(Step::Config, timing.began());
    let wanted = Wanted {
        device: target.device,
        service: ssh_service()?,
        plain: arguments.opening.plain,
        port: arguments.opening.port,
    };
    runtime::block_on(async {
        let interruption = Interruption::watch()?;
        let (tunnel, stream) = open(&account, wanted, &timing, &interruption).await?;
        let device = tunnel.device().clone();
        let known_hosts = account.dir.known_hosts();
        let run = async {
            if !has_ssh() {
                return without_ssh(&account, &tunnel, stream, arguments, target.user).await;
            }
            let ssh = SshCommand {
                program: std::env::current_exe()
                    .map_err(|error| cannot("find this program itself", error))?,
                device: device.clone(),
                user: target.user.clone(),
                key: account.dir.ssh_key(account.id()),
                is_known: controller::learn(&known_hosts, &device, tunnel.host_keys()).await?,
                known_hosts: known_hosts.clone(),
                command: arguments.command.clone(),
            };
            Ok::<u8, Failure>(ssh.run(stream, &timing).await?)
        };
        let result = run.await;
        tunnel.close().await;
        if arguments.opening.timing {
            output::note(timing.to_json());
        }
        result
    })
}

/// Runs the session with our own client, for a computer that has no ssh. It asks nobody: a device whose host key is not
/// known is refused.
async fn without_ssh(
    account: &Account,
    tunnel: &Tunnel,
    stream: Stream,
    arguments: &Connect,
    user: Option<String>,
) -> Result<u8, Failure> {
    let device = tunnel.device().clone();
    let known_hosts = account.dir.known_hosts();
    controller::learn(&known_hosts, &device, tunnel.host_keys()).await?;
    let known = controller::known_keys(&known_hosts, &device)?;
    let present = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.or_else(|| present().ok()).ok_or_else(|| {
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
        command: arguments.command.clone(),
    };
    Ok(ssh.run(stream).await?)
}

/// Opens a tunnel. A signal meanwhile takes the order back.
pub(crate) async fn open(
    account: &Arc<Account>,
    wanted: Wanted,
    timing: &Timing,
    interruption: &Interruption,
) -> Result<(Tunnel, Stream), Failure> {
    let waiting = Waiting::begin();
    let on_wait = |what| waiting.is_for(what);
    let opened = Tunnel::open(
        Arc::clone(account),
        wanted,
        timing,
        on_wait,
        interruption.cancel(),
    )
    .await;
    match (opened, interruption.code()) {
        (Ok(opened), _) => Ok(opened),
        (Err(error @ OpenError::Interrupted { .. }), Some(code)) => {
            Err(Failure::new(error, None, code))
        }
        (Err(error), _) => Err(error.into()),
    }
}

pub(crate) fn ssh_service() -> Result<protocol::Label, Failure> {
    daemon::device_file::SSH_SERVICE
        .parse()
        .map_err(|error: protocol::NameError| Failure::new(error, None, exit::FAILURE))
}
