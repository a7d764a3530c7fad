//! A session's process: started, signalled, waited for, and never left behind.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use russh::Sig;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};

use crate::environment::{Variables, environment};
use crate::terminal::{Opened, Terminal, Wanted};
use crate::user::User;

/// What a session runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The user's shell, for a login.
    Login,
    /// A command, read by the user's shell.
    Command(OsString),
    /// The file server.
    Sftp,
}

/// What a process is started with.
pub(crate) struct Start<'a> {
    /// [`OURSELVES`], or what tests have in its place.
    pub(crate) executable: &'a Path,
    pub(crate) user: &'a User,
    /// Who it is for.
    pub(crate) who: &'a str,
    pub(crate) program: Program,
    pub(crate) variables: Variables,
    pub(crate) terminal: Option<Wanted>,
}

/// A running process. When it is dropped before it has ended, it and what it has started hear that the session is over.
pub(crate) struct Process {
    child: Child,
    leader: Leader,
}

/// The leader of a session, for whoever signals it. Clones are the same, and none of them reaches anybody once it was waited
/// for: from then on its number may be another's, also while what it has started goes on.
#[derive(Clone, Debug)]
pub(crate) struct Leader(Arc<AtomicI32>);

/// A process's streams.
pub(crate) struct Streams {
    pub(crate) input: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) output: Box<dyn AsyncRead + Send + Unpin>,
    /// With a terminal there is but one output.
    pub(crate) errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) terminal: Option<Terminal>,
}

impl Process {
    /// Starts it, in a session of its own.
    pub(crate) fn start(start: Start<'_>) -> io::Result<(Self, Streams)> {
        let Start {
            executable,
            user,
            who,
            program,
            variables,
            terminal: wanted,
        } = start;
        // Files need no terminal, and a terminal would change what is in them.
        let wanted = wanted.filter(|_| program != Program::Sftp);
        let opened = wanted.as_ref().map(Terminal::open).transpose()?;
        let names = wanted.as_ref().zip(opened.as_ref());
        let names = names.map(|(wanted, opened)| (wanted.name.as_str(), opened.device.as_str()));
        let zone = std::env::var_os("TZ");
        let mut command = Command::new(executable);
        command
            .arg0("tunnel")
            .arg("builtin-ssh")
            .args(arguments(user, &program, opened.is_some()))
            .env_clear()
            .envs(environment(user, who, variables, names, zone))
            .current_dir("/");
        match opened {
            Some(opened) => in_terminal(command, opened),
            None => with_pipes(command),
        }
    }

    /// Whom to signal.
    pub(crate) fn leader(&self) -> Leader {
        self.leader.clone()
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.leader.ended();
        status
    }

    fn of(child: Child) -> Self {
        Self {
            leader: Leader::of(&child),
            child,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.leader.signal(Signal::HUP);
        // What is stopped does not hear it before it goes on.
        self.leader.signal(Signal::CONT);
    }
}

impl Leader {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(Arc::new(AtomicI32::new(id.unwrap_or(NOBODY))))
    }

    /// Sends a signal to the process and what it has started.
    pub(crate) fn signal(&self, signal: Signal) {
        // Whoever waits for the process and whoever signals it are one task, so that nothing comes between the two lines.
        let Some(leader) = Pid::from_raw(self.0.load(Ordering::Relaxed)) else {
            return;
        };
        // In its first moments it does not lead a group yet.
        if kill_process_group(leader, signal).is_err() {
            let _ = kill_process(leader, signal);
        }
    }

    fn ended(&self) {
        self.0.store(NOBODY, Ordering::Relaxed);
    }
}

fn in_terminal(mut command: Command, opened: Opened) -> io::Result<(Process, Streams)> {
    let Opened { near, far, .. } = opened;
    let copy = |fd: &OwnedFd| io::Result::Ok(Stdio::from(fd.try_clone()?));
    command.stdin(copy(&far)?).stdout(copy(&far)?).stderr(far);
    let process = Process::of(command.spawn()?);
    let streams = Streams {
        input: Box::new(near.clone()),
        output: Box::new(near.clone()),
        errors: None,
        terminal: Some(near),
    };
    Ok((process, streams))
}

fn with_pipes(mut command: Command) -> io::Result<(Process, Streams)> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let streams = Streams {
        input: Box::new(child.stdin.take().ok_or_else(missing)?),
        output: Box::new(child.stdout.take().ok_or_else(missing)?),
        errors: Some(Box::new(child.stderr.take().ok_or_else(missing)?)),
        terminal: None,
    };
    Ok((Process::of(child), streams))
}

/// The signal that a client means (RFC 4254, section 6.10); those that OpenSSH passes on.
pub(crate) fn signal_of(asked: &Sig) -> Option<Signal> {
    let signal = match asked {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) if name == "USR2" => Signal::USR2,
        Sig::Custom(_) => return None,
    };
    Some(signal)
}

/// The name of the signal that ended a process.
pub(crate) fn name_of(signal: i32) -> Sig {
    match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => Sig::ABRT,
        Some(Signal::ALARM) => Sig::ALRM,
        Some(Signal::FPE) => Sig::FPE,
        Some(Signal::HUP) => Sig::HUP,
        Some(Signal::ILL) => Sig::ILL,
        Some(Signal::INT) => Sig::INT,
        Some(Signal::KILL) => Sig::KILL,
        Some(Signal::PIPE) => Sig::PIPE,
        Some(Signal::QUIT) => Sig::QUIT,
        Some(Signal::SEGV) => Sig::SEGV,
        Some(Signal::TERM) => Sig::TERM,
        Some(Signal::USR1) => Sig::USR1,
        Some(Signal::USR2) => Sig::Custom("USR2".to_owned()),
        // Other systems have other numbers: RFC 4254 wants a name of one's own to say whose it is.
        Some(_) | None => Sig::Custom(format!("{signal}@linux")),
    }
}

fn arguments(user: &User, program: &Program, terminal: bool) -> Vec<OsString> {
    let command = match program {
        Program::Sftp => return vec!["sftp".into()],
        Program::Login => None,
        Program::Command(command) => Some(command),
    };
    let mut all: Vec<OsString> = vec!["session".into()];
    if terminal {
        all.push("--terminal".into());
    }
    if let Some(command) = command {
        // One word, so that it cannot be taken for an option.
        let mut word = OsString::from("--command=");
        word.push(command);
        all.push(word);
    }
    all.push("--".into());
    all.extend([user.program().into(), user.home.clone().into()]);
    all
}

/// This program, wherever it lies, and also after it was replaced by a newer one.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// The number that no process has.
const NOBODY: i32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_word_and_never_an_option() {
        let user = User {
            name: "atlas".to_owned(),
            uid: 1000,
            home: "/home/atlas".into(),
            shell: "/bin/bash".into(),
        };
        let words = |program, terminal| {
            let words = arguments(&user, &program, terminal);
            let words = words.iter().map(|word| word.to_str().unwrap().to_owned());
            words.collect::<Vec<_>>()
        };
        let command = Program::Command("--terminal; rm -rf x".into());
        assert_eq!(
            words(command, false),
            [
                "session",
                "--command=--terminal; rm -rf x",
                "--",
                "/bin/bash",
                "/home/atlas"
            ]
        );
        let login = words(Program::Login, true);
        assert_eq!(
            login,
            ["session", "--terminal", "--", "/bin/bash", "/home/atlas"]
        );
        assert_eq!(words(Program::Sftp, false), ["sftp"]);
    }

    #[test]
    fn signals_have_the_same_name_both_ways() {
        for sig in [Sig::HUP, Sig::INT, Sig::KILL, Sig::TERM, Sig::USR1] {
            let signal = signal_of(&sig).unwrap();
            assert_eq!(
                format!("{:?}", name_of(signal.as_raw())),
                format!("{sig:?}")
            );
        }
        let usr2 = Sig::Custom("USR2".to_owned());
        let name = name_of(signal_of(&usr2).unwrap().as_raw());
        assert!(matches!(name, Sig::Custom(name) if name == "USR2"));
        assert_eq!(signal_of(&Sig::Custom("STOP".to_owned())), None);
        assert!(matches!(name_of(64), Sig::Custom(name) if name == "64@linux"));
    }
}
