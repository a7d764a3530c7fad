//! A broker as the kernel sees it: its memory and its processor time.

use std::fs;
use std::process::Command;

use e2e::{CEILING, Daemon, World, is_listening, tool, wait_until};

use crate::step::ChoreError;

/// A broker under measurement.
pub(crate) struct Process {
    daemon: Daemon,
    port: u16,
}

impl Process {
    /// Ours, alone, with what the world's realm says.
    pub(crate) fn ours(world: &World) -> Self {
        Self {
            daemon: world.broker(),
            port: world.broker_port(),
        }
    }

    /// mosquitto in the same realm at another port: mutual TLS and no access rules, which spares it their cost; without
    /// bounds where it would drop what is measured.
    pub(crate) fn mosquitto(world: &World, port: u16) -> Result<Self, ChoreError> {
        let realm = world.realm();
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nallow_anonymous false\npersistence false\nlog_type none\n\
             set_tcp_nodelay true\nmax_connections -1\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n",
            realm.join("ca/ca.cert").display(),
            realm.join("broker/server.cert").display(),
            realm.join("broker/server.key").display(),
        );
        let config = world.path("mosquitto.conf");
        fs::write(&config, text)
            .map_err(|error| ChoreError::Failed(format!("{}: {error}", config.display())))?;
        let mut command = Command::new(tool("mosquitto"));
        world.mark(&mut command);
        command.arg("-c").arg(&config);
        let daemon = world.daemon("mosquitto", &mut command);
        wait_until("mosquitto to listen", CEILING, || {
            if is_listening(port) {
                Ok(())
            } else {
                Err(daemon.stderr())
            }
        });
        Ok(Self { daemon, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Processor time of all its threads so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.daemon.pid()));
        threads
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let stat = fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
                stat.split_whitespace().next()?.parse::<f64>().ok()
            })
            .sum::<f64>()
            / 1e3
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), in KiB.
    pub(crate) fn peak(&self) -> f64 {
        self.status("VmHWM:")
    }

    /// Begins to look for a new peak.
    pub(crate) fn forget_peak(&self) {
        // It fails only when the process has ended, which every later figure shows. 5 resets the peak (proc(5)).
        let _ = fs::write(format!("/proc/{}/clear_refs", self.daemon.pid()), "5");
    }

    fn status(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid()));
        status
            .unwrap_or_default()
            .lines()
            .find_map(|line| {
                line.strip_prefix(field)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(f64::NAN)
    }
}
