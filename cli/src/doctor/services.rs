//! What this remote computer offers: whether it is there.

use std::time::Duration;

use daemon::device_file::SSH_SERVICE;
use daemon::host_port::HostPort;
use daemon::service::Service;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::builtin;
use super::findings::Findings;
use super::leg::Leg;
use super::own::Own;
use super::ssh_banner;
use crate::exit;

/// Connects to each service, as the agent would.
pub(crate) async fn examine(own: &Own, findings: &mut Findings) {
    for (service, place) in &own.membership.device.services {
        let name = format!("service-{service}");
        let began = findings.look_at(&name);
        let leg = match place {
            Service::At(address) => look(&name, service.as_str() == SSH_SERVICE, address).await,
            Service::Builtin => builtin::look(&name, own).await,
        };
        findings.add(began, leg);
    }
}

async fn look(name: &str, is_ssh: bool, address: &HostPort) -> Leg {
    let connect = TcpStream::connect((address.host(), address.port()));
    let mut stream = match timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let start = if is_ssh {
                "start the SSH server, e.g. `systemctl enable --now ssh`"
            } else {
                "start it"
            };
            let hint = format!(
                "{start}, or put its address right: `{address}` in `[services]` of `device.toml`"
            );
            let found = format!("nobody listens at `{address}`");
            return Leg::caused(name, found, &error, hint, exit::UNAVAILABLE);
        }
        Err(_) => {
            return Leg::wrong(
                name,
                format!("`{address}` does not answer within {} s", CONNECT.as_secs()),
                "what listens there is stuck, or a firewall drops it: restart it",
                exit::UNAVAILABLE,
            );
        }
    };
    if !is_ssh {
        return Leg::ok(name, format!("`{address}` listens"));
    }
    match ssh_banner::read(&mut stream).await {
        Ok(banner) => Leg::ok(name, format!("`{address}` is {banner}")),
        Err(error) => {
            let hint = error.hint().to_owned();
            Leg::error(name, &error, Some(hint), exit::UNAVAILABLE)
        }
    }
}

/// As long as the agent waits.
const CONNECT: Duration = Duration::from_secs(5);
