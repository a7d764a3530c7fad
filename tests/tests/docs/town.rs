//! The computers of a page: namespaces with a network that they share and files of their own each.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use e2e::{CEILING, Daemon, World, run, tool, tunnel_binary};

/// The computers. They have the ports of the whole machine, the names of the pages, and no Internet.
pub(super) struct Town {
    // Dropped first.
    sshd: Option<Daemon>,
    computers: BTreeMap<String, Computer>,
    network: Daemon,
    pub(super) world: World,
}

struct Computer {
    holder: Daemon,
    home: PathBuf,
}

impl Town {
    #[track_caller]
    pub(super) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "computers in namespaces need root: run these tests as root"
        );
        let world = World::new();
        let mut unshare = Command::new(tool("unshare"));
        let script = format!(
            "{} link set lo up && echo connected && exec sleep 3600",
            tool("ip").display()
        );
        unshare.args(["--net", "sh", "-c", &script]);
        let mut network = world.daemon("network", &mut unshare);
        network.wait_for_line("connected");
        Self {
            sshd: None,
            computers: BTreeMap::new(),
            network,
            world,
        }
    }

    /// A command line on a computer, in its home directory, where the realm's file is brought as soon as there is one.
    #[track_caller]
    pub(super) fn shell(&mut self, computer: &str, line: &str) -> Command {
        let name = if computer.is_empty() {
            "here"
        } else {
            computer
        };
        if !self.computers.contains_key(name) {
            let made = self.furnish(name);
            self.computers.insert(name.to_owned(), made);
            if name == "remote" {
                self.open_remote();
            }
        }
        self.bring_realm_file(name);
        let home = &self.computers[name].home;
        let mut shell = self.inside(name);
        let path = std::env::var("PATH").unwrap();
        shell
            .args(["bash", "-ec", &format!("cd {}\n{line}", home.display())])
            .env("HOME", home)
            .env("PATH", format!("/usr/local/bin:{path}:/usr/sbin"));
        shell
    }

    fn inside(&self, name: &str) -> Command {
        let mut command = Command::new(tool("nsenter"));
        self.world.mark(&mut command);
        let pid = self.computers[name].holder.pid().to_string();
        command.args(["--target", &pid, "--mount", "--net", "--"]);
        command
    }

    #[track_caller]
    fn furnish(&self, name: &str) -> Computer {
        let folder = self.world.path(&format!("computer-{name}"));
        let place = |part: &str| folder.join(part);
        for part in ["home", "homes", "bin"] {
            fs::create_dir_all(place(part)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut copy = Command::new(tool("cp"));
        run(copy.args(["-a", "/etc"]).arg(place("etc")), CEILING).success();
        let hosts = "127.0.0.1 localhost proxy.example.org broker.example.org\n";
        fs::write(place("etc/hosts"), hosts).unwrap();
        // OpenSSH goes by the account's home.
        let passwd = fs::read_to_string(place("etc/passwd")).unwrap();
        let home = place("home");
        let moved = passwd.replace(":/root:", &format!(":{}:", home.display()));
        fs::write(place("etc/passwd"), moved).unwrap();
        let _ = fs::remove_dir_all(place("etc/tunnel"));
        symlink(tunnel_binary(), place("bin/tunnel")).unwrap();
        for (name, script) in [("sudo", SUDO), ("systemctl", SYSTEMCTL)] {
            fs::write(place("bin").join(name), script).unwrap();
            fs::set_permissions(place("bin").join(name), fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        let binds = [
            ("etc", "/etc"),
            ("homes", "/home"),
            ("bin", "/usr/local/bin"),
        ];
        let binds: String = binds
            .map(|(from, to)| format!("mount --bind {} {to} && ", place(from).display()))
            .concat();
        let mut hold = Command::new(tool("nsenter"));
        self.world.mark(&mut hold);
        hold.args(["--target", &self.network.pid().to_string(), "--net", "--"])
            .arg(tool("unshare"))
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("{binds} echo furnished && exec sleep 3600"));
        let mut holder = self.world.daemon(&format!("computer-{name}"), &mut hold);
        holder.wait_for_line("furnished");
        Computer { holder, home }
    }

    /// The remote computer has a user, `atlas`, and a stock sshd.
    #[track_caller]
    fn open_remote(&mut self) {
        fs::create_dir_all("/run/sshd").unwrap();
        let mut prepare = self.inside("remote");
        prepare.args(["bash", "-ec", "PATH=$PATH:/usr/sbin; useradd --create-home --shell /bin/bash --password '*' atlas; ssh-keygen -A"]);
        run(&mut prepare, CEILING).success();
        let config = self.world.path("remote-sshd");
        let settings = "Port 22\nListenAddress 127.0.0.1\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPrintMotd no\n\
                        KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n";
        fs::write(&config, settings).unwrap();
        let mut sshd = self.inside("remote");
        sshd.arg(tool("sshd")).args(["-D", "-e", "-f"]).arg(&config);
        let mut sshd = self.world.daemon("remote-sshd", &mut sshd);
        sshd.wait_for_line("Server listening");
        self.sshd = Some(sshd);
    }

    /// People bring it to each other; the pages say that they have to, and not how.
    fn bring_realm_file(&self, name: &str) {
        let Some(server) = self.computers.get("server") else {
            return;
        };
        let made = server.home.join("atlas/realm.toml");
        let brought = self.computers[name].home.join("realm.toml");
        if name != "server" && made.exists() && !brought.exists() {
            fs::copy(made, brought).unwrap();
        }
    }

    /// Notes a daemon's process as that of a unit, for whoever reloads it.
    pub(super) fn note_unit(&self, computer: &str, unit: &str, pid: u32) {
        let home = &self.computers[computer].home;
        fs::write(home.join(format!(".unit-{unit}")), pid.to_string()).unwrap();
    }
}

/// Whoever runs the tests is root already.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";

/// Of systemd only this: it reloads a unit whose process was noted.
const SYSTEMCTL: &str =
    "#!/bin/sh\n[ \"$1\" = reload ] && exec kill -HUP \"$(cat \"$HOME/.unit-${2#tunnel-}\")\"\n";
