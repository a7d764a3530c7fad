//! The system's ssh, run over a stream of ours.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::hangup::HangUp;
use daemon::splice::{self, ChannelEnd, Side, SpliceLimits, Why};
use protocol::DeviceId;
use russh::client::Msg;
use rustix::fs::{Access, access};
use rustix::net::{SendFlags, send};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};

use crate::fdpass::{FdPassError, StreamSocket};
use crate::ssh_background::BackgroundSsh;
use crate::ssh_words::{option_word, shell_word};
use crate::stdio::FirstByte;
use crate::timing::{Step, Timing};

/// What ssh is to be run with.
#[derive(Clone, Debug)]
pub struct SshCommand {
    /// This program, which ssh runs to fetch its stream.
    pub program: PathBuf,
    /// The device, under whose name its host keys are known.
    pub device: DeviceId,
    /// The user there; `None` leaves it to ssh's own configuration.
    pub user: Option<String>,
    /// The key to log in with.
    pub key: PathBuf,
    /// Our file of host keys.
    pub known_hosts: PathBuf,
    /// Whether a host key of the device is known, so that no other is accepted.
    pub is_known: bool,
    /// Options of the person's own, as ssh takes them. They come after ours, and ssh goes by what it reads first.
    pub options: Vec<OsString>,
    /// What to run there, as ssh would get it; nothing for a shell.
    pub command: Vec<OsString>,
}

/// How a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshEnded {
    /// The remote command's exit code, 255 for ssh's own failure, 128 + N when signal N ended it.
    pub code: u8,
    /// Whether the tunnel broke under it, rather than that one of the two ends has ended it. In the background, where ssh tells
    /// nobody of its end, so does whatever else ends the stream.
    pub fell: bool,
    /// Whether ssh had gone into the background: the terminal was given back before the end.
    pub in_background: bool,
}

/// Why ssh could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The stream cannot be handed over.
    #[error(transparent)]
    Socket(#[from] FdPassError),
    /// There is no ssh.
    #[error("cannot run `ssh`")]
    Spawn(#[source] io::Error),
    /// ssh runs, but cannot be watched.
    #[error("cannot wait for `ssh`")]
    Wait(#[source] io::Error),
}

impl SshError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spawn(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("install OpenSSH's client: the package is called `openssh-client` on Debian and Ubuntu".to_owned())
            }
            Self::Socket(error) => error.hint().map(str::to_owned),
            Self::Spawn(_) => Some("`command -v ssh` shows which one is meant: may this user run it?".to_owned()),
            Self::Wait(_) => None,
        }
    }
}

impl SshCommand {
    /// Runs ssh with our standard input, output and error over the stream. `on_banner` is called before the first byte comes
    /// to it: from then on it speaks for itself. ssh may go into the background (`ForkAfterAuthentication`), which
    /// `on_background` is told: then its parent has ended with 0, and the stream goes on until it or ssh ends, or a signal comes.
    pub async fn run(
        &self,
        stream: ChannelEnd<Msg>,
        timing: &Timing,
        on_banner: impl FnOnce() + Send + Unpin,
        on_background: impl FnOnce(),
    ) -> Result<SshEnded, SshError> {
        let socket = StreamSocket::bind()?;
        let held = Held::default();
        // Before ssh runs, so that no signal is lost. We must not end before ssh does.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(SshError::Wait)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(SshError::Wait)?;
        let mut hang_up = HangUp::watch().map_err(SshError::Wait)?;
        let mut child = Command::new("ssh")
            .args(self.arguments(&socket.path()))
            .spawn()
            .map_err(SshError::Spawn)?;
        let began = Instant::now();
        let serve = serve(&socket, &held, stream, || {
            timing.record(Step::Banner, began);
            on_banner();
        });
        let mut serve = std::pin::pin!(serve);
        let mut served = None;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(SshError::Wait)?,
                end = &mut serve, if served.is_none() => served = Some(end),
                signal = next_signal(&mut interrupt, &mut terminate, &mut hang_up) => pass_on(&child, signal),
            }
        };
        let code = exit_code(status);
        let end = match served {
            Some(end) => Some(end),
            // ssh may have seen the end sooner than we.
            None => timeout(SETTLE, &mut serve).await.ok(),
        };
        let may_live = end.is_none() && code == 0 && held.is_held();
        let Some(ssh) = may_live
            .then(|| BackgroundSsh::find(&socket.path()))
            .flatten()
        else {
            return Ok(SshEnded {
                code,
                fell: code == SSH_FAILED && end == Some(End::Fell),
                in_background: false,
            });
        };
        on_background();
        // How ssh ends is told to nobody any more.
        let end = tokio::select! {
            end = &mut serve => Ok(end),
            () = ssh.ended() => Ok(timeout(SETTLE, &mut serve).await.unwrap_or(End::Through)),
            signal = next_signal(&mut interrupt, &mut terminate, &mut hang_up) => Err(signal.code()),
        };
        let (code, fell) = match end {
            Ok(End::Through) => (code, false),
            Ok(End::Fell | End::Broke) => (SSH_FAILED, true),
            Err(code) => (code, false),
        };
        Ok(SshEnded {
            code,
            fell,
            in_background: true,
        })
    }

    /// What ssh is given, with its stream at this socket.
    pub(crate) fn arguments(&self, socket: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: &OsStr| {
            let mut text = OsString::from(name);
            text.push("=");
            text.push(value);
            arguments.extend(["-o".into(), text]);
        };
        // ssh runs it with `exec`, so that no shell stays between the two.
        let (program, socket) = (self.program.to_string_lossy(), socket.to_string_lossy());
        let fetch = format!("{} fdpass {}", shell_word(&program), shell_word(&socket));
        option("ProxyCommand", fetch.as_ref());
        option("ProxyUseFdpass", "yes".as_ref());
        // Names that are no secret, in a file of our own.
        option("HashKnownHosts", "no".as_ref());
        option("HostKeyAlias", self.device.to_string().as_ref());
        let known_hosts = option_word(&self.known_hosts.to_string_lossy());
        option("UserKnownHostsFile", known_hosts.as_ref());
        // Not by `-i`, which looks for the file before it reads a `%`.
        let key = option_word(&self.key.to_string_lossy());
        option("IdentityFile", key.as_ref());
        if self.is_known {
            // There is a true answer, so that nobody has to be asked. Without one, ssh's own rule holds.
            option("StrictHostKeyChecking", "yes".as_ref());
            // Nor does it help to name another file.
            option("GlobalKnownHostsFile", "/dev/null".as_ref());
        }
        // A master of an earlier tunnel would outlive it, and take this session where nothing is any more.
        option("ControlPath", "none".as_ref());
        if let Some(user) = &self.user {
            arguments.extend(["-l".into(), user.into()]);
        }
        arguments.extend(self.options.iter().cloned());
        arguments.push("--".into());
        arguments.push(self.device.to_string().into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }
}

/// How the stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// One of its two ends has ended it.
    Through,
    /// The tunnel's side of it was lost, or takes nothing any more.
    Fell,
    /// It was cut at ssh's side, or never fetched.
    Broke,
}

impl End {
    /// The first side is the tunnel's.
    fn of(why: &Why) -> Self {
        match why {
            Why::Finished
            | Why::Closed {
                after_eof: true, ..
            }
            | Why::Closed {
                side: Side::Second, ..
            }
            | Why::Lost(Side::Second)
            | Why::Cancelled => Self::Through,
            Why::Closed {
                side: Side::First,
                after_eof: false,
            }
            | Why::Lost(Side::First)
            | Why::Stalled(Side::First)
            | Why::Failed(Side::First, _) => Self::Fell,
            Why::Stalled(Side::Second) | Why::Failed(Side::Second, _) => Self::Broke,
        }
    }
}

/// Joins the stream with the first connection that ssh makes, and tells how that ended.
async fn serve(
    socket: &StreamSocket,
    held: &Held,
    stream: ChannelEnd<Msg>,
    on_banner: impl FnOnce() + Send + Unpin,
) -> End {
    match socket.fetched().await {
        Ok(mut local) => {
            held.by(&local);
            let (mut reader, writer) = local.split();
            let mut writer = FirstByte::new(writer, on_banner);
            let ended =
                splice::local(stream, &mut reader, &mut writer, SpliceLimits::default()).await;
            held.let_go();
            tracing::debug!(up = ended.up, down = ended.down, why = %ended.why, "the stream has ended");
            End::of(&ended.why)
        }
        Err(error) => {
            tracing::warn!(%error, "ssh did not fetch its stream");
            End::Broke
        }
    }
}

/// Whether anybody holds ssh's end of the stream: where nobody does, no ssh is left.
#[derive(Default)]
struct Held(Mutex<Option<OwnedFd>>);

impl Held {
    fn by(&self, local: &UnixStream) {
        *self.lock() = local.as_fd().try_clone_to_owned().ok();
    }

    /// A second descriptor of our end would keep it open for ssh.
    fn let_go(&self) {
        *self.lock() = None;
    }

    fn is_held(&self) -> bool {
        let ours = self.lock();
        let Some(ours) = ours.as_ref() else {
            return false;
        };
        // Nothing is sent, which fails all the same once the other end is closed, whatever is still unread.
        send(ours, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is an `ssh` where programs are looked for.
pub fn has_ssh() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("ssh"))
        .any(|file| file.is_file() && access(&file, Access::EXEC_OK).is_ok())
}

#[derive(Clone, Copy, Debug)]
enum Received {
    Interrupt,
    Terminate,
    HangUp,
}

impl Received {
    /// As a shell reports a command that it ended.
    fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::HangUp => 129,
        }
    }
}

async fn next_signal(
    interrupt: &mut Signal,
    terminate: &mut Signal,
    hang_up: &mut HangUp,
) -> Received {
    tokio::select! {
        _ = interrupt.recv() => Received::Interrupt,
        _ = terminate.recv() => Received::Terminate,
        () = hang_up.received() => Received::HangUp,
    }
}

/// Whoever ends us means the session: ssh gets the same signal, and we end with it.
fn pass_on(child: &Child, signal: Received) {
    let signal = match signal {
        // From a terminal ssh has it already, and a second one does no harm.
        Received::Interrupt => rustix::process::Signal::INT,
        Received::Terminate => rustix::process::Signal::TERM,
        Received::HangUp => rustix::process::Signal::HUP,
    };
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended this instant; then there is nobody to tell.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(SSH_FAILED)
}

/// How much later than ssh we may see that the tunnel has broken.
const SETTLE: Duration = Duration::from_millis(200);

/// What ssh ends with when it is not the remote command that has ended.
const SSH_FAILED: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_held_until_its_last_holder_is_gone() {
        let held = Held::default();
        assert!(!held.is_held(), "nobody has fetched it");
        let (ours, theirs) = UnixStream::pair().unwrap();
        held.by(&ours);
        let another = theirs.as_fd().try_clone_to_owned().unwrap();
        drop(theirs);
        assert!(held.is_held());
        // What was said before the end does not hide it.
        rustix::io::write(&another, b"unread").unwrap();
        assert!(held.is_held());
        drop(another);
        assert!(!held.is_held());
    }

    #[test]
    fn only_an_end_that_somebody_wanted_is_none_of_the_tunnels() {
        let closed = |side, after_eof| Why::Closed { side, after_eof };
        for why in [
            Why::Finished,
            closed(Side::First, true),
            closed(Side::Second, true),
            closed(Side::Second, false),
            Why::Lost(Side::Second),
        ] {
            assert_eq!(End::of(&why), End::Through, "{why:?}");
        }
        let failed = |side| Why::Failed(side, io::ErrorKind::TimedOut.into());
        for (why, expected) in [
            (closed(Side::First, false), End::Fell),
            (Why::Lost(Side::First), End::Fell),
            (Why::Stalled(Side::First), End::Fell),
            (failed(Side::First), End::Fell),
            (Why::Stalled(Side::Second), End::Broke),
            (failed(Side::Second), End::Broke),
        ] {
            assert_eq!(End::of(&why), expected, "{why:?}");
        }
    }

    #[test]
    fn paths_reach_ssh_whole_and_nothing_becomes_an_option() {
        let command = SshCommand {
            program: "/opt/it's 100%/tunnel".into(),
            device: "333.hula.atlas".parse().unwrap(),
            user: Some("-oProxyCommand=x".into()),
            key: "/home/a b/100%.sshkey".into(),
            known_hosts: "/home/a b/known_hosts".into(),
            is_known: true,
            options: vec!["-L".into(), "8080:localhost:80".into()],
            command: vec!["uname".into(), "-a".into()],
        };
        let arguments = command.arguments("/run/x/stream".as_ref());
        let arguments: Vec<&str> = arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        assert_eq!(
            arguments,
            [
                "-o",
                r"ProxyCommand='/opt/it'\''s 100%%/tunnel' fdpass '/run/x/stream'",
                "-o",
                "ProxyUseFdpass=yes",
                "-o",
                "HashKnownHosts=no",
                "-o",
                "HostKeyAlias=333.hula.atlas",
                "-o",
                "UserKnownHostsFile=\"/home/a b/known_hosts\"",
                "-o",
                "IdentityFile=\"/home/a b/100%%.sshkey\"",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "GlobalKnownHostsFile=/dev/null",
                "-o",
                "ControlPath=none",
                "-l",
                "-oProxyCommand=x",
                "-L",
                "8080:localhost:80",
                "--",
                "333.hula.atlas",
                "uname",
                "-a",
            ]
        );
    }
}
