//! The way to the proxy: name, TCP, its host key, our login.

use std::sync::Arc;
use std::time::Duration;

use daemon::ssh_client::{self, DialError, Dialed};
use protocol::Role;

use super::findings::Findings;
use super::leg::Leg;
use super::own::Own;
use super::way;
use crate::exit;

/// Whether the proxy lets this computer in.
pub(crate) async fn examine(own: &Own, findings: &mut Findings) -> bool {
    // `realm.toml` was refused without one.
    let Some(proxy) = own.membership.realm.proxy() else {
        return false;
    };
    let place = &proxy.address;
    let Some(stream) = way::to(place, [DNS, TCP], false, findings).await else {
        for leg in [SSH, LOGIN] {
            findings.skip(leg, "the proxy was not reached");
        }
        return false;
    };
    drop(stream);
    let Some(key) = &own.ssh_key else {
        for leg in [SSH, LOGIN] {
            findings.skip(leg, "without the SSH key");
        }
        return false;
    };
    let began = findings.look_at(SSH);
    let keys = match proxy.public_keys() {
        Ok(keys) => keys,
        Err(error) => {
            let hint = "a host key of the proxy in `realm.toml` is none: ask the realm's admin for the present one";
            findings.add(
                began,
                Leg::error(SSH, &error, Some(hint.to_owned()), exit::CONFIG),
            );
            findings.skip(LOGIN, "without a host key");
            return false;
        }
    };
    let user = own.membership.id.system().as_str();
    let dialed = ssh_client::dial(&place.to_string(), user, Arc::clone(key), &keys, LIMIT).await;
    match dialed {
        Ok(dialed) => {
            findings.add(began, Leg::ok(SSH, "its host key is one of `realm.toml`"));
            findings.note(Leg::ok(
                LOGIN,
                format!("it lets this computer in as `{user}`"),
            ));
            if own.membership.id.role() == Role::Target {
                forward(&dialed, own, findings).await;
            }
            dialed.disconnect("that was all").await;
            true
        }
        Err(error @ DialError::Refused { .. }) => {
            findings.note(Leg::ok(SSH, "its host key is one of `realm.toml`"));
            let hint = "the proxy does not know this computer's key yet, or any more: it takes keys from the registry within a minute or two, so wait, then ask the realm's admin (`tunnel proxy sync`, `trust.toml`)";
            findings.add(
                began,
                Leg::error(LOGIN, &error, Some(hint.to_owned()), exit::REFUSED),
            );
            false
        }
        Err(error) => {
            let code = if matches!(error, DialError::HostKey { .. }) {
                exit::DATA
            } else {
                exit::UNAVAILABLE
            };
            let hint = error.hint().map(str::to_owned);
            findings.add(began, Leg::error(SSH, &error, hint, code));
            findings.skip(LOGIN, "without an SSH connection");
            false
        }
    }
}

/// What an agent needs of the proxy. Where a port is this computer's own, a running agent may have it already.
async fn forward(dialed: &Dialed, own: &Own, findings: &mut Findings) {
    let began = findings.look_at(FORWARD);
    let fixed = own.membership.device.port.map(std::num::NonZeroU16::get);
    let fixed = fixed.or_else(|| own.membership.realm.ports.of(&own.membership.id));
    if fixed.is_some() {
        findings.skip(
            FORWARD,
            "its port is fixed, and may be its agent's at present",
        );
        return;
    }
    match dialed.request_forward("localhost", 0, LIMIT).await {
        Ok(_) => findings.add(began, Leg::ok(FORWARD, "the proxy grants remote forwards")),
        Err(error) => {
            let hint = "the proxy's log says more; a stock sshd needs `permitlisten`, which `tunnel proxy sync --openssh` writes";
            findings.add(
                began,
                Leg::error(FORWARD, &error, Some(hint.to_owned()), exit::REFUSED),
            );
        }
    }
}

const DNS: &str = "proxy-dns";
const TCP: &str = "proxy-tcp";
const SSH: &str = "proxy-ssh";
const LOGIN: &str = "proxy-login";
pub(super) const FORWARD: &str = "forward";

/// The deadline of the login, and then of a forward: the same as the agent's.
const LIMIT: Duration = Duration::from_secs(10);
