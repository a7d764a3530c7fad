//! A real OpenSSH server, as the current user, on a port of its own.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::procfs::children;
use crate::{CEILING, Daemon, Device, Link, ReservedPort, run, tool};

/// A running sshd. Its sessions end with their connections.
#[derive(Debug)]
pub struct Sshd {
    daemon: Daemon,
    folder: PathBuf,
    port: ReservedPort,
}

impl Sshd {
    /// Starts an sshd with everything under `FOLDER/NAME` and its log in `logs`. Nobody may log in yet.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(name: &str, folder: &Path, logs: &Path) -> Self {
        Self::start_as(name, folder, logs, |command| command)
    }

    /// Like [`start`](Self::start), on the computer behind this link.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_behind(link: &Link, name: &str, folder: &Path, logs: &Path) -> Self {
        Self::start_as(name, folder, logs, |command| link.inside(&command))
    }

    #[track_caller]
    fn start_as(
        name: &str,
        folder: &Path,
        logs: &Path,
        place: impl FnOnce(Command) -> Command,
    ) -> Self {
        let sshd = tool("sshd");
        // Where sshd, run by root, separates privileges; Debian makes it when the service starts.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("root may write to /run");
        }
        let folder = folder.join(name);
        fs::create_dir_all(&folder).expect("the world's folder is writable");
        let mut keygen = Command::new(tool("ssh-keygen"));
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(folder.join("hostkey"));
        run(&mut keygen, CEILING).success();
        fs::write(folder.join("authorized_keys"), "").expect("the world's folder is writable");
        let port = ReservedPort::take();
        let config = folder.join("config");
        fs::write(&config, settings(&folder, port.number()))
            .expect("the world's folder is writable");
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f"]).arg(config);
        let mut daemon = Daemon::start(name, &mut place(command), logs);
        daemon.wait_for_line("Server listening on");
        Self {
            daemon,
            folder,
            port,
        }
    }

    /// Lets a device's SSH key log in.
    ///
    /// # Panics
    /// When the files cannot be read or written.
    #[track_caller]
    pub fn authorize(&self, device: &Device) {
        let key =
            fs::read_to_string(device.ssh_public_key()).expect("an enrolled device has a key");
        OpenOptions::new()
            .append(true)
            .open(self.folder.join("authorized_keys"))
            .and_then(|mut file| writeln!(file, "{}", key.trim()))
            .expect("the world's folder is writable");
    }

    /// The public half of the host key.
    pub fn host_key(&self) -> PathBuf {
        self.folder.join("hostkey.pub")
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many of its sessions live.
    pub fn sessions(&self) -> usize {
        children(self.daemon.pid()).len()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.stderr()
    }
}

/// The name of the user who runs the tests, whom sshd lets in.
///
/// # Panics
/// When `id` does not know.
#[track_caller]
pub fn current_user() -> String {
    let outcome = run(Command::new(tool("id")).arg("-un"), CEILING).success();
    outcome.stdout.trim().to_owned()
}

fn settings(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    // StrictModes looks at the parents too, and a temporary directory is writable by everybody.
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/hostkey\nPidFile none\n\
         AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nUseDNS no\n\
         MaxStartups 100\nPrintMotd no\nPrintLastLog no\nLogLevel VERBOSE\n"
    )
}
