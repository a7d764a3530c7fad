//! A computer of its own for accounts: the same one, with another `/etc` and `/home` in a mount namespace, so that a user
//! can be made without making one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{CEILING, Daemon, Outcome, ReservedPort, World, is_listening, run, tool, wait_until};

/// The namespace, and an sshd in it with the settings of every day.
pub(crate) struct House {
    sshd: Option<Daemon>,
    holder: Daemon,
    port: ReservedPort,
    homes: PathBuf,
    host_key: PathBuf,
}

impl House {
    #[track_caller]
    pub(crate) fn new(world: &World) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "accounts and namespaces need root: run these tests as root"
        );
        let (etc, homes) = (world.path("etc"), world.path("homes"));
        run(
            Command::new(tool("cp")).arg("-a").arg("/etc").arg(&etc),
            CEILING,
        )
        .success();
        fs::create_dir(&homes).unwrap();
        let script = format!(
            "mount --bind {} /etc && mount --bind {} /home && echo furnished && exec sleep 3600",
            etc.display(),
            homes.display()
        );
        let mut unshare = Command::new(tool("unshare"));
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut holder = world.daemon("house", &mut unshare);
        holder.wait_for_line("furnished");
        let host_key = world.path("house-hostkey");
        let mut keygen = Command::new(tool("ssh-keygen"));
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&host_key);
        run(&mut keygen, CEILING).success();
        Self {
            sshd: None,
            holder,
            port: ReservedPort::take(),
            homes,
            host_key,
        }
    }

    /// A command in the house.
    pub(crate) fn inside(&self, world: &World, program: &Path) -> Command {
        let mut command = Command::new(tool("nsenter"));
        world.mark(&mut command);
        command
            .args(["--target", &self.holder.pid().to_string(), "--mount", "--"])
            .arg(program);
        command
    }

    /// `tunnel` in the house, run to its end.
    #[track_caller]
    pub(crate) fn tunnel(&self, world: &World, dir: &Path, arguments: &[&str]) -> Outcome {
        let mut command = self.inside(world, e2e::tunnel_binary());
        command.args(arguments).env("TUNNEL_DIR", dir);
        run(&mut command, CEILING)
    }

    /// `127.0.0.1:PORT` of its sshd.
    pub(crate) fn address(&self) -> String {
        self.port.address()
    }

    /// The public half of its sshd's host key.
    pub(crate) fn host_key(&self) -> String {
        fs::read_to_string(self.host_key.with_extension("pub")).unwrap()
    }

    /// A home directory, as it is seen from outside.
    pub(crate) fn home(&self, user: &str) -> PathBuf {
        self.homes.join(user)
    }

    /// Starts a stock sshd which reads `~/.ssh/authorized_keys` and is strict about it.
    #[track_caller]
    pub(crate) fn start_sshd(&mut self, world: &World) {
        // One at a time, on the one port.
        self.sshd = None;
        fs::create_dir_all("/run/sshd").unwrap();
        let config = world.path("house-sshd");
        let settings = format!(
            "Include /etc/ssh/sshd_config.d/*.conf\nPort {}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n\
             Subsystem sftp internal-sftp\nPrintMotd no\nPrintLastLog no\nLogLevel VERBOSE\n",
            self.port.number(),
            self.host_key.display()
        );
        fs::write(&config, settings).unwrap();
        let mut command = self.inside(world, &tool("sshd"));
        command.args(["-D", "-e", "-f"]).arg(&config);
        let sshd = world.daemon("house-sshd", &mut command);
        let port = self.port.number();
        wait_until("sshd to listen", CEILING, || {
            is_listening(port)
                .then_some(())
                .ok_or_else(|| sshd.stderr())
        });
        self.sshd = Some(sshd);
    }

    /// Stock `ssh` or `sftp` to the house with this private key and nothing else.
    pub(crate) fn stock(&self, world: &World, program: &str, key: &Path) -> Command {
        let mut command = Command::new(tool(program));
        world.mark(&mut command);
        command
            .stdin(Stdio::null())
            .args([
                "-F",
                "none",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "BatchMode=yes",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "ExitOnForwardFailure=yes"])
            .arg("-o")
            .arg(format!("Port={}", self.port.number()))
            .arg("-o")
            .arg(format!("IdentityFile={}", key.display()));
        command
    }
}
