//! `tunnel connect`

use std::path::PathBuf;
use std::sync::Arc;

use controller::{SshCommand, Step, Timing, Tunnel, Wanted};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::arguments::Connect;
use crate::failure::Failure;
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
        plain: arguments.plain,
    };
    runtime::block_on(async {
        let tunnel = open(&account, wanted, &timing).await?;
        let device = tunnel.device().clone();
        let known_hosts = account.dir.known_hosts();
        let opened = async {
            let is_known = controller::learn(&known_hosts, &device, tunnel.host_keys())?;
            let stream = tunnel.stream(&timing).await?;
            let ssh = SshCommand {
                program: std::env::current_exe()
                    .map_err(|error| cannot("find this program itself", error))?,
                device: device.clone(),
                user: target.user.clone(),
                key: account.dir.ssh_key(account.id()),
                known_hosts: known_hosts.clone(),
                is_known,
                command: arguments.command.clone(),
            };
            let code = ssh.run(stream, &timing).await?;
            Ok::<u8, Failure>(code)
        };
        let result = opened.await;
        tunnel.close().await;
        if arguments.timing {
            output::note(timing.to_json());
        }
        result
    })
}

/// Opens a tunnel; Ctrl-C or SIGTERM meanwhile leaves nothing behind but a lease that expires.
pub(crate) async fn open(
    account: &Arc<controller::Account>,
    wanted: Wanted,
    timing: &Timing,
) -> Result<Tunnel, Failure> {
    let waiting = Waiting::begin();
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| cannot("watch for signals", error))?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| cannot("watch for signals", error))?;
    let began = Instant::now();
    tokio::select! {
        tunnel = Tunnel::open(Arc::clone(account), wanted, timing, |what| waiting.is_for(what)) => Ok(tunnel?),
        _ = interrupt.recv() => Err(interrupted(began, 130)),
        _ = terminate.recv() => Err(interrupted(began, 143)),
    }
}

pub(crate) fn ssh_service() -> Result<protocol::Label, Failure> {
    daemon::device_file::SSH_SERVICE
        .parse()
        .map_err(|error: protocol::NameError| Failure::new(error, None, crate::exit::FAILURE))
}

/// As a shell reports a command that a signal ended.
fn interrupted(began: Instant, code: u8) -> Failure {
    Failure::text(
        format!("interrupted after {:.1} s", began.elapsed().as_secs_f64()),
        None,
        code,
    )
}
