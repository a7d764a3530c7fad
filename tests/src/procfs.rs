//! What the kernel says about processes and sockets.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpgid, getpgrp, getpid, getrlimit, kill_process, setrlimit,
};

use crate::MARK;

/// Processes that a test with this folder started, directly or not: `PID COMMAND LINE`. They are known by an environment
/// variable that children inherit, or by a path on their command line.
pub fn processes_marked(folder: &Path) -> Vec<String> {
    marked(folder)
        .map(|(pid, command)| format!("{} {command}", pid.as_raw_nonzero()))
        .collect()
}

/// Kills what a test with this folder started and left behind, process by process: the children of a daemon that was
/// killed before it could end them. Only members of the test's own process group can be such children.
pub fn end_marked(folder: &Path) {
    let own = getpgrp();
    for (pid, _) in marked(folder).filter(|(pid, _)| getpgid(Some(*pid)) == Ok(own)) {
        // It fails only when the process has ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn marked(folder: &Path) -> impl Iterator<Item = (Pid, String)> {
    let folder = folder.to_string_lossy().into_owned();
    let mark = format!("{MARK}={folder}");
    let processes = fs::read_dir("/proc").into_iter().flatten();
    processes.filter_map(move |entry| {
        let entry = entry.ok()?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let read = |file: &str| {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command = read("cmdline");
        let ours = command.contains(&folder) || read("environ").contains(&mark);
        // A zombie has neither, which is right: it holds nothing but its exit code.
        (ours && pid != getpid()).then_some((pid, command))
    })
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The most memory that it had at one time, in KiB.
    pub peak_kib: u64,
    /// Processor time of all its threads, in the kernel too.
    pub cpu: Duration,
}

/// What a running process has used so far; nothing when it has ended.
pub fn usage(pid: u32) -> Option<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let status = read("status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    let stat = read("stat")?;
    // The name in parentheses may hold anything; user and system time are the 14th and 15th field (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some(Usage {
        peak_kib: peak.parse().ok()?,
        cpu: Duration::from_millis((user + system) * 1000 / TICKS),
    })
}

/// Ticks of processor time in a second, as programs are told them on every machine that this runs on (`USER_HZ`).
const TICKS: u64 = 100;

/// Whether somebody listens on this port of an IPv4 address.
pub fn is_listening(port: u16) -> bool {
    sockets(port).any(|state| state == LISTEN)
}

/// How many TCP connections have this port at their server's end.
pub fn established(port: u16) -> usize {
    sockets(port).filter(|state| state == ESTABLISHED).count()
}

/// Unix sockets with a path in this folder.
pub fn unix_sockets_under(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    fs::read_to_string("/proc/net/unix")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|path| path.contains(&*folder))
        .map(str::to_owned)
        .collect()
}

/// A process's memory in bytes, without what is swapped out; 0 when it is gone. For benchmarks: it is what others publish.
pub fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The part of it that the process has allocated. Tests compare this: how many pages of a program's file are resident follows
/// from what the computer has cached.
pub fn allocated(pid: u32) -> u64 {
    memory(pid, "RssAnon:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let size = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    size.unwrap_or(0) * 1024
}

/// The processor time that a process has used so far; none when it has ended.
pub fn cpu_time(pid: u32) -> Duration {
    usage(pid).unwrap_or_default().cpu
}

/// How many files, sockets among them, a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .count()
}

/// How many threads a process has.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .count()
}

/// The processes that a process has started itself, and that live.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Lets this process open as many files as it may.
pub fn raise_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limits.maximum,
        ..limits
    };
    // Whoever needs more than there are says so.
    let _ = setrlimit(Resource::Nofile, wanted);
}

/// The kernel's names of TCP states in /proc/net/tcp (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// The states of the TCP sockets with this local port.
fn sockets(port: u16) -> impl Iterator<Item = String> {
    let suffix = format!(":{port:04X}");
    fs::read_to_string("/proc/net/tcp")
        .unwrap_or_default()
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next()?;
            let state = fields.nth(1)?;
            local.ends_with(&suffix).then(|| state.to_owned())
        })
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;
    use crate::Daemon;

    #[test]
    fn sees_what_a_process_uses() {
        let used = usage(std::process::id()).unwrap();
        assert!(used.peak_kib > 100, "{used:?}");
        let mut turns = 0_u64;
        crate::wait_until("some processor time", crate::CEILING, || {
            turns = std::hint::black_box((0..100_000).fold(turns, |sum, turn| sum ^ turn));
            let now = usage(std::process::id()).unwrap();
            (now.cpu > used.cpu).then_some(()).ok_or(format!("{now:?}"))
        });
        assert_eq!(usage(u32::MAX), None);
    }

    #[test]
    fn sees_listeners_and_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port));
        assert_eq!(established(port), 0);
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _server = listener.accept().unwrap();
        drop(listener);
        assert_eq!(established(port), 1);
        assert!(!is_listening(port));
    }

    #[test]
    fn sees_marked_processes_until_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60").env(MARK, folder.path());
        let sleeper = Daemon::start("sleeper", &mut command, folder.path());
        crate::wait_until("the sleeper to be seen", crate::CEILING, || {
            let seen = processes_marked(folder.path());
            if seen.len() == 1 {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
        sleeper.kill();
        assert_eq!(processes_marked(folder.path()), Vec::<String>::new());
    }
}
