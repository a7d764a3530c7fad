//! The peer of the proxy's bench: `ssh -L` → stock sshd → `ssh -R`, one connection each, all streams multiplexed.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{
    CEILING, Daemon, Device, ReservedPort, Sshd, World, cpu_time, current_user, is_listening,
    processes_marked, wait_until,
};

/// Both hops, up.
#[derive(Debug)]
pub(crate) struct DoubleHop {
    near: Daemon,
    far: Daemon,
    local: ReservedPort,
    _remote: ReservedPort,
    proxy: u32,
}

impl DoubleHop {
    /// Leads from a local port through this sshd to the service at this address.
    pub(crate) fn start(
        world: &World,
        sshd: &Sshd,
        (device, controller): (&Device, &Device),
        service: &str,
    ) -> Result<Self, String> {
        let (local, remote) = (ReservedPort::take(), ReservedPort::take());
        let mut far = ssh(world, sshd, device);
        far.arg("-R")
            .arg(format!("127.0.0.1:{}:{service}", remote.number()));
        let far = start(world, "ssh-R", &mut far);
        wait_for("the remote forward", &remote);
        let mut near = ssh(world, sshd, controller);
        near.arg("-L")
            .arg(format!("{}:127.0.0.1:{}", local.address(), remote.number()));
        let near = start(world, "ssh-L", &mut near);
        wait_for("the local forward", &local);
        Ok(Self {
            near,
            far,
            local,
            _remote: remote,
            proxy: listener(world)?,
        })
    }

    /// The port at which a stream is taken.
    pub(crate) fn port(&self) -> u16 {
        self.local.number()
    }

    /// The processor time of both clients and of all of the server's processes so far.
    pub(crate) fn cpu(&self) -> Duration {
        let server = descendants(self.proxy);
        let clients = [self.near.pid(), self.far.pid()];
        server.into_iter().chain(clients).map(cpu_time).sum()
    }
}

fn ssh(world: &World, sshd: &Sshd, device: &Device) -> Command {
    let mut ssh = Command::new(e2e::tool("ssh"));
    world.mark(&mut ssh);
    ssh.args(["-F", "none", "-N", "-T", "-c", CIPHER])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
        .args(["-o", "ExitOnForwardFailure=yes", "-i"])
        .arg(device.ssh_key())
        .args(["-p", &sshd.port().to_string()])
        .stdin(Stdio::null());
    ssh
}

fn start(world: &World, name: &str, ssh: &mut Command) -> Daemon {
    ssh.arg(format!("{}@127.0.0.1", current_user()));
    world.daemon(name, ssh)
}

fn wait_for(what: &str, port: &ReservedPort) {
    wait_until(what, CEILING, || {
        if is_listening(port.number()) {
            Ok(())
        } else {
            Err("not listening".to_owned())
        }
    });
}

/// The sshd that was started in this world under [`SSHD`].
fn listener(world: &World) -> Result<u32, String> {
    let config = format!("/{SSHD}/config");
    processes_marked(world.folder())
        .iter()
        .find(|line| line.contains(&config))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| "the sshd of the double hop is not there".to_owned())
}

/// A process and all below it: sshd has two for each connection.
fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().parse::<u32>();
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may have spaces: the state, then the parent (proc(5)).
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let (Ok(pid), Some(parent)) = (pid, parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut all, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        all.push(pid);
        next.extend(children.remove(&pid).unwrap_or_default());
    }
    all
}

/// The name of the sshd through which both hops go.
pub(crate) const SSHD: &str = "proxy-sshd";

/// What our own connections use. OpenSSH's first choice, ChaCha20, costs it more.
const CIPHER: &str = "aes128-gcm@openssh.com";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_among_its_parents_descendants() {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
