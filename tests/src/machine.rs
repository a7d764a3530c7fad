//! A machine of its own for what changes one: this one's files, copied when they are written, and a systemd that runs them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{CEILING, Outcome, run, tool, wait_until};

/// Namespaces in which an own systemd is process 1. The network is this machine's. Everything in it ends with the value.
#[derive(Debug)]
pub struct Machine {
    outer: Child,
    init: Pid,
    group: PathBuf,
    // Unmounted with the namespaces; what is left is an empty folder and the log.
    folder: TempDir,
}

impl Machine {
    /// Boots one that has this folder too, at the same path.
    ///
    /// # Panics
    /// When it does not come up; it needs root.
    #[track_caller]
    pub fn boot(shared: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("machine-")
            .tempdir()
            .expect("the temporary directory is writable");
        let group = group_root().join(folder.path().file_name().unwrap_or_default());
        fs::create_dir(&group).expect("only root can make a machine");
        let script = folder.path().join("boot.sh");
        fs::write(&script, BOOT).expect("a new folder is writable");
        let log = fs::File::create(folder.path().join("log")).expect("a new folder is writable");
        let outer = Command::new(tool("sh"))
            // Everything of the machine is in one group, which is the root of what its systemd sees.
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&group)
            .arg(tool("unshare"))
            .args(["--cgroup", "--mount", "--pid", "--uts", "--ipc", "--fork"])
            .arg("--kill-child")
            .arg(tool("sh"))
            .arg(&script)
            .arg(folder.path())
            .arg(shared)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file has two handles"))
            .stderr(log)
            .spawn()
            .expect("`sh` can be started");
        let id = outer.id();
        let what = folder.path().join("log");
        let init = wait_until("a machine's first process", CEILING, || {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            let child = children.unwrap_or_default();
            let child = child
                .split_whitespace()
                .next()
                .and_then(|pid| pid.parse().ok());
            child
                .and_then(Pid::from_raw)
                .ok_or_else(|| fs::read_to_string(&what).unwrap_or_default())
        });
        let machine = Self {
            outer,
            init,
            group,
            folder,
        };
        wait_until("a machine that runs", CEILING, || {
            let state = machine.run(["systemctl", "is-system-running"]);
            match state.stdout.trim() {
                // A service of the system that is looked through may not work without its hardware.
                "running" | "degraded" => Ok(()),
                _ => Err(format!("{}\n{}", state.report(), machine.log())),
            }
        });
        machine
    }

    /// Runs a command in it as root, from an environment of its own.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Outcome {
        self.run_within(CEILING, words)
    }

    /// The same, for a command that may take longer.
    #[track_caller]
    pub fn run_within<S: AsRef<OsStr>>(
        &self,
        limit: Duration,
        words: impl IntoIterator<Item = S>,
    ) -> Outcome {
        let mut command = Command::new(tool("nsenter"));
        command
            .arg(format!("--target={}", self.init.as_raw_nonzero()))
            .args(["--all", "--root", "--wd=/", "env", "-i"])
            .args([
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
            ])
            .args(["LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"])
            .args(words);
        run(&mut command, limit)
    }

    /// What a command that has to succeed prints.
    #[track_caller]
    pub fn said<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        self.run(words).success().stdout.trim().to_owned()
    }

    /// A property of one of its units.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let option = format!("--property={name}");
        self.said(["systemctl", "show", "--value", &option, unit])
    }

    /// Waits until a unit says this of itself.
    #[track_caller]
    pub fn wait_for_status(&self, unit: &str, beginning: &str) {
        wait_until("a service's words for its supervisor", CEILING, || {
            let status = self.property(unit, "StatusText");
            if status.starts_with(beginning) {
                return Ok(());
            }
            let journal = self.run(["journalctl", "--no-pager", "--lines=20", "-u", unit]);
            Err(format!("{unit}: `{status}`\n{}", journal.stdout))
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process all others of the machine end.
        let _ = kill_process(self.init, Signal::KILL);
        let _ = self.outer.wait();
        remove_groups(&self.group);
        // Otherwise what its systemd made unreadable could not be removed by the folder's own drop.
        let _ = fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o700));
    }
}

/// Where the second version of control groups is.
fn group_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields
        .find_map(|mut fields| {
            let (place, kind) = (fields.nth(1)?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        })
        .expect("control groups are mounted")
}

/// A group is removed when it is empty, from the innermost.
fn remove_groups(group: &Path) {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.path().is_dir()) {
        remove_groups(&entry.path());
    }
    let _ = fs::remove_dir(group);
}

/// `$1` is the machine's folder, `$2` the one that it shares. What could reach the kernel of this machine is read-only: the
/// settings below /proc/sys, and /sys.
const BOOT: &str = r#"set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/written" "$1/work" "$1/root" "$1/shared"
mount --bind "$2" "$1/shared"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/written,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p "$1/root$2"
mount --bind "$1/shared" "$1/root$2"
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
exec chroot . env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=0
"#;
