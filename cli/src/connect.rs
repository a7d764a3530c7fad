//! `tunnel connect`

mod own;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use controller::{
    Account, OpenError, SshCommand, SshEnded, Step, Stream, Timing, Tunnel, Unrepeatable, Wanted,
    has_ssh, learn,
};
use daemon::backoff::Backoff;
use tokio::time::sleep;

use crate::arguments::Connect;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::output;
use crate::runtime::{self, account, cannot};
use crate::seen_devices::SeenDevices;
use crate::target::{self, Target};
use crate::waiting::Waiting;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Connect) -> Result<u8, Failure> {
    let timing = Timing::start();
    let account = Arc::new(account(dir)?);
    let target = target::parse(&arguments.target, account.id())?;
    timing.record(Step::Config, timing.began());
    if !has_ssh() {
        own::can(arguments)?;
    }
    let connect = Connecting {
        account,
        target,
        arguments,
    };
    runtime::block_on(async {
        let interruption = Interruption::watch()?;
        let opened = connect.open(&timing, &interruption).await?;
        match connect.attend(opened, &timing, &interruption).await? {
            Ended::For(code) => Ok(code),
            Ended::Fell => connect.again(&interruption).await,
        }
    })
}

struct Connecting<'a> {
    account: Arc<Account>,
    target: Target,
    arguments: &'a Connect,
}

/// What comes after a session.
enum Ended {
    /// Nothing: this is the exit code.
    For(u8),
    /// The tunnel fell under somebody who looks on, and who is to have it again.
    Fell,
}

impl Connecting<'_> {
    async fn open(
        &self,
        timing: &Timing,
        interruption: &Interruption,
    ) -> Result<(Tunnel, Stream), Failure> {
        let opening = &self.arguments.opening;
        let wanted = Wanted {
            device: self.target.device.clone(),
            service: ssh_service()?,
            plain: opening.plain,
            port: opening.port,
        };
        open(&self.account, wanted, timing, interruption).await
    }

    /// Has the person work there, and closes the tunnel behind him.
    async fn attend(
        &self,
        (tunnel, stream): (Tunnel, Stream),
        timing: &Timing,
        interruption: &Interruption,
    ) -> Result<Ended, Failure> {
        let waiting = Waiting::begin();
        waiting.is_for("ssh at the device");
        let result = if has_ssh() {
            self.by_ssh(&tunnel, stream, timing, interruption, waiting)
                .await
        } else {
            let code = own::session(self, &tunnel, stream, interruption, waiting).await;
            // What was typed when it ended is lost: connecting again is for ssh, which reads no further than its end.
            code.map(Ended::For)
        };
        tunnel.close().await;
        if self.arguments.opening.timing {
            output::note(timing.to_json());
        }
        result
    }

    async fn by_ssh(
        &self,
        tunnel: &Tunnel,
        stream: Stream,
        timing: &Timing,
        interruption: &Interruption,
        waiting: Waiting,
    ) -> Result<Ended, Failure> {
        let (dir, device) = (&self.account.dir, tunnel.device());
        let ssh = SshCommand {
            program: std::env::current_exe()
                .map_err(|error| cannot("find this program itself", error))?,
            device: device.clone(),
            user: self.target.user.clone(),
            key: dir.ssh_key(self.account.id()),
            is_known: learn(&dir.known_hosts(), device, tunnel.host_keys()).await?,
            known_hosts: dir.known_hosts(),
            options: self.arguments.ssh.words(),
            command: self.arguments.command.clone(),
        };
        if let Some(code) = interruption.code() {
            return Ok(Ended::For(code));
        }
        let on_background = || {
            output::note(format_args!(
                "ssh is in the background; its tunnel to `{device}` is here, until it ends or Ctrl-C"
            ));
        };
        let ended = ssh
            .run(stream, timing, || drop(waiting), on_background)
            .await?;
        if !ended.fell || interruption.code().is_some() {
            return Ok(Ended::For(ended.code));
        }
        let why = tokio::select! {
            why = self.stays_away(&ssh, ended) => why,
            code = interruption.requested() => return Ok(Ended::For(code)),
        };
        let Some(why) = why else {
            return Ok(Ended::Fell);
        };
        output::note(format_args!("the tunnel to `{device}` fell; {why}"));
        Ok(Ended::For(ended.code))
    }

    /// Why it is not connected again after the tunnel has fallen. ssh is asked last: that costs a process.
    async fn stays_away(&self, ssh: &SshCommand, ended: SshEnded) -> Option<&'static str> {
        if self.arguments.has_command() {
            return Some("its command is not run again");
        }
        if ended.in_background {
            return Some("ssh was in the background, and is not started again");
        }
        if !std::io::stdin().is_terminal() {
            // Where nobody looks on, somebody else decides what comes next.
            return Some("it is not connected again, since nobody is at a terminal");
        }
        match ssh.unrepeatable().await? {
            Unrepeatable::Command => {
                Some("the command that ssh's configuration names is not run again")
            }
            Unrepeatable::Background => {
                Some("ssh would go into the background, and is not started again")
            }
            Unrepeatable::Unknown => {
                Some("it is not connected again, since `ssh -G` does not tell what ssh would run")
            }
        }
    }

    /// Connects after the tunnel has fallen, each time that it falls, until the person has had enough.
    async fn again(&self, interruption: &Interruption) -> Result<u8, Failure> {
        let device = &self.target.device;
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut told = String::new();
        output::note(format_args!(
            "the tunnel to `{device}` fell; connecting again, until Ctrl-C"
        ));
        loop {
            tokio::select! {
                () = sleep(FIRST_RETRY + backoff.next_delay()) => {}
                code = interruption.requested() => return Ok(code),
            }
            let timing = Timing::start();
            let opened = match self.open(&timing, interruption).await {
                Ok(opened) => opened,
                Err(failure) => match interruption.code() {
                    Some(code) => return Ok(code),
                    None if may_pass(&failure) => {
                        let why = failure.cause();
                        if why != told {
                            output::note(format_args!("not yet: {why}"));
                            told = why;
                        }
                        continue;
                    }
                    None => return Err(failure),
                },
            };
            output::note(format_args!("the tunnel to `{device}` is there again"));
            backoff.reset();
            told.clear();
            if let Ended::For(code) = self.attend(opened, &timing, interruption).await? {
                return Ok(code);
            }
            output::note(format_args!(
                "the tunnel to `{device}` fell again; connecting again, until Ctrl-C"
            ));
        }
    }
}

/// Whether it may be otherwise in a moment: a device whose agent or broker is just coming back is offline, or not known yet.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.code(), exit::UNAVAILABLE | exit::REFUSED)
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
        (Ok(opened), _) => {
            SeenDevices::keep_one(&account.dir, opened.0.device());
            Ok(opened)
        }
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

/// The least time to the next try, and the bound of what chance adds to the first.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The bound of what chance adds later: somebody sits before it.
const LAST_RETRY: Duration = Duration::from_secs(15);
