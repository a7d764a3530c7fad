//! The agent's own ssh, with stock OpenSSH and what runs over it at the other end.

mod files;
mod forwards;
mod hostile;
mod keys;
mod screen;
mod sessions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{CEILING, Daemon, Device, World, current_user, run, tunnel_binary};

/// A realm with a remote computer that has no sshd, and a controller that may log in to it.
struct House {
    // Fields are dropped in this order.
    agent: Daemon,
    _serve: Daemon,
    device: Device,
    controller: Device,
    world: World,
}

impl House {
    #[track_caller]
    fn start() -> Self {
        Self::with("")
    }

    /// With more settings below `[builtin]`.
    #[track_caller]
    fn with(settings: &str) -> Self {
        let world = World::new();
        let serve = world.serve();
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-x");
        configure(&device, settings);
        world
            .run_as(&device, &["agent", "sync-keys", "--builtin"])
            .success();
        let agent = world.agent(&device);
        world.wait_for_presence(&controller, &device, true);
        Self {
            agent,
            _serve: serve,
            device,
            controller,
            world,
        }
    }

    /// Stock `ssh`, `scp` or `sftp` to the remote computer, as a person's configuration would make it.
    #[track_caller]
    fn stock(&self, program: &str) -> Command {
        self.stock_as(program, &current_user())
    }

    #[track_caller]
    fn stock_as(&self, program: &str, user: &str) -> Command {
        let host_key = self.device.dir().join("builtin-ssh.hostkey.pub");
        let known = [("333.hula.atlas", host_key.as_path())];
        let mut command = self.world.stock(program, &self.controller, &known);
        let fetch = format!(
            "ProxyCommand={} --dir {} stdio 333",
            tunnel_binary().display(),
            self.controller.dir().display()
        );
        command
            .args(["-o", &fetch, "-o", "HostKeyAlias=333.hula.atlas"])
            .args(["-o", &format!("User={user}")]);
        command
    }

    /// Stock `ssh` that runs this there.
    #[track_caller]
    fn ssh(&self, command: &str) -> Command {
        let mut ssh = self.stock("ssh");
        ssh.args(["333", "--", command]);
        ssh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// What other programs are to run in place of `ssh`: one line, whose words need no quoting.
    #[track_caller]
    fn ssh_script(&self) -> PathBuf {
        let ssh = self.stock("ssh");
        let words = std::iter::once(ssh.get_program()).chain(ssh.get_args());
        let words = words.map(|word| format!("'{}'", word.to_str().unwrap()));
        let script = self.path("ssh-to-333");
        let line = words.collect::<Vec<_>>().join(" ");
        fs::write(&script, format!("#!/bin/sh\nexec {line} \"$@\"\n")).unwrap();
        run(Command::new("chmod").arg("700").arg(&script), CEILING).success();
        script
    }
}

/// The settings of a remote computer without sshd.
#[track_caller]
fn configure(device: &Device, settings: &str) {
    let text = format!(
        "system = \"{}\"\ndevice = \"{}\"\ngrace_period = \"30s\"\n\n[services]\nssh = \"builtin\"\n\n\
         [builtin]\nas_root = {}\n{settings}\n",
        device.system(),
        device.device(),
        rustix::process::geteuid().is_root(),
    );
    fs::write(device.dir().join("device.toml"), text).unwrap();
}

/// The processes whose command line holds this, which the test has made its own.
fn running(word: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(Path::new("/proc").join(id.to_string()).join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let is_here = line.contains(word) && id != std::process::id();
            is_here.then(|| format!("{id} {line}"))
        })
        .collect()
}
