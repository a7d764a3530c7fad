//! `tunnel connect`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use controller::{Account, SshCommand, Step, Stream, Timing, Tunnel, Wanted};
use daemon::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

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
        let (tunnel, stream) = open(&account, wanted, &timing).await?;
        let device = tunnel.device().clone();
        let known_hosts = account.dir.known_hosts();
        let run = async {
            let ssh = SshCommand {
                program: std::env::current_exe()
                    .map_err(|error| cannot("find this program itself", error))?,
                device: device.clone(),
                user: target.user.clone(),
                key: account.dir.ssh_key(account.id()),
                is_known: controller::learn(&known_hosts, &device, tunnel.host_keys())?,
                known_hosts: known_hosts.clone(),
                command: arguments.command.clone(),
            };
            Ok::<u8, Failure>(ssh.run(stream, &timing).await?)
        };
        let result = run.await;
        tunnel.close().await;
        if arguments.timing {
            output::note(timing.to_json());
        }
        result
    })
}

/// Opens a tunnel. Ctrl-C or SIGTERM meanwhile takes the order back.
pub(crate) async fn open(
    account: &Arc<Account>,
    wanted: Wanted,
    timing: &Timing,
) -> Result<(Tunnel, Stream), Failure> {
    let waiting = Waiting::begin();
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| cannot("watch for signals", error))?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| cannot("watch for signals", error))?;
    let cancel = Shutdown::new(Duration::ZERO);
    let opening = Tunnel::open(
        Arc::clone(account),
        wanted,
        timing,
        |what| waiting.is_for(what),
        &cancel,
    );
    let mut opening = std::pin::pin!(opening);
    // As a shell reports a command that a signal ended.
    let code = tokio::select! {
        opened = &mut opening => return Ok(opened?),
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    };
    cancel.request();
    match opening.await {
        // It had just been opened, and ends with its last handle.
        Ok(_) => Err(Failure::text("interrupted", None, code)),
        Err(error) => Err(Failure::new(error, None, code)),
    }
}

pub(crate) fn ssh_service() -> Result<protocol::Label, Failure> {
    daemon::device_file::SSH_SERVICE
        .parse()
        .map_err(|error: protocol::NameError| Failure::new(error, None, crate::exit::FAILURE))
}
