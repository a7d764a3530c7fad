//! A device, from its presence to the banner of its SSH server.

use std::sync::Arc;

use controller::{Account, Acquaintance, Listed, OpenError, Stream, Timing, Tunnel, Wanted};
use daemon::splice::{self, SpliceLimits};
use protocol::{DeviceId, RefusalCode};
use tokio::time::Instant;

use super::broker::Met;
use super::findings::Findings;
use super::leg::Leg;
use super::mqtt;
use super::own::Own;
use super::proxy::FORWARD;
use super::ssh_banner::{self, BannerError};
use crate::connect::ssh_service;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;

/// Connects to it as `tunnel connect` does, up to the login. A signal meanwhile takes the order back.
pub(crate) async fn examine(
    own: Own,
    met: &Met,
    is_let_in: bool,
    device: DeviceId,
    interruption: &Interruption,
    findings: &mut Findings,
) {
    let ordered = !own.is_always_on();
    let mut untold = false;
    if ordered {
        match look_for(met, &device, findings) {
            Seen::Online => {}
            Seen::Untold => untold = true,
            Seen::Away => return skip(BEHIND_IT, NOT_SEEN, findings),
        }
    } else {
        let why = "the tunnels of this system are always on: nobody orders them";
        skip(&[DEVICE, ORDER, FORWARD], why, findings);
    }
    let left: &[&str] = if ordered {
        &[ORDER, FORWARD, SSHD, HOST_KEY]
    } else {
        &[SSHD, HOST_KEY]
    };
    let account = mqtt::account(&own).filter(|_| is_let_in);
    let (Some(account), Ok(service)) = (account, ssh_service()) else {
        skip(left, "the proxy does not let this computer in", findings);
        return;
    };
    let account = Arc::new(account);
    let wanted = Wanted {
        device: device.clone(),
        service,
        plain: false,
        port: None,
    };
    let began = findings.look_at(if ordered { ORDER } else { SSHD });
    let timing = Timing::start();
    let (who, cancel) = (Arc::clone(&account), interruption.cancel());
    let opened = Tunnel::open(who, wanted, &timing, |_| {}, cancel).await;
    if untold && !matches!(opened, Err(OpenError::Unknown { .. })) {
        findings.skip(
            DEVICE,
            "it tells no presence, as an original's agent does not",
        );
    }
    let (tunnel, stream) = match opened {
        Ok(opened) => opened,
        Err(error) => return refused(error, ordered, began, findings),
    };
    if ordered {
        findings.add(began, Leg::ok(ORDER, "the device answers"));
        findings.note(Leg::ok(FORWARD, GRANTED));
    }
    let began = findings.look_at(SSHD);
    let said = tokio::select! {
        said = banner(stream) => Some(said),
        _ = interruption.requested() => None,
    };
    if let Some(said) = said {
        let leg = match said {
            Ok(banner) => Leg::ok(SSHD, format!("`{device}` is {banner}")),
            Err(error) => {
                let hint = error.hint().to_owned();
                Leg::error(SSHD, &error, Some(hint), exit::UNAVAILABLE)
            }
        };
        findings.add(began, leg);
        host_keys(&account, &tunnel, findings);
    }
    tunnel.close().await;
}

/// What the broker keeps of a device.
enum Seen {
    Online,
    Away,
    /// Nothing: there is no such device, or it is an original's.
    Untold,
}

fn look_for(met: &Met, device: &DeviceId, findings: &mut Findings) -> Seen {
    let Some(devices) = &met.devices else {
        findings.skip(DEVICE, "the broker could not be asked");
        return Seen::Away;
    };
    let found = devices.iter().find(|listed| listed.device == *device);
    match found {
        Some(Listed {
            online: true,
            version,
            ..
        }) => {
            let found = format!("`{device}` is online, version {version}");
            findings.note(Leg::ok(DEVICE, found));
            Seen::Online
        }
        Some(Listed { since, lost, .. }) => {
            let error = OpenError::Offline {
                device: device.clone(),
                since: *since,
                lost: *lost,
            };
            findings.note(Leg::error(DEVICE, &error, error.hint(), exit::UNAVAILABLE));
            Seen::Away
        }
        None => Seen::Untold,
    }
}

/// Which leg an attempt has failed at.
fn refused(error: OpenError, ordered: bool, began: Instant, findings: &mut Findings) {
    let at = leg_of(&error, ordered);
    let hint = match &error {
        OpenError::Refused { code: RefusalCode::Stale, .. } => Some("set the clock of this computer or of the device, e.g. with `timedatectl set-ntp true`: orders stop when two differ by five minutes".to_owned()),
        OpenError::Stream { .. } if ordered => Some("start the SSH server of the device, e.g. `systemctl enable --now ssh` there; where it listens says `[services]` of its `device.toml`".to_owned()),
        OpenError::Stream { .. } => Some("the device's agent is not connected to the proxy, or its SSH server does not run: run `tunnel doctor` there".to_owned()),
        OpenError::NotAController { .. }
        | OpenError::Unknown { .. }
        | OpenError::Offline { .. }
        | OpenError::Refused { .. }
        | OpenError::NoAnswer { .. }
        | OpenError::NoService { .. }
        | OpenError::NoPort { .. }
        | OpenError::ForeignProxy { .. }
        | OpenError::NoProxy
        | OpenError::ProxyHostKey { .. }
        | OpenError::Interrupted { .. }
        | OpenError::Broker { .. }
        | OpenError::Proxy { .. } => error.hint(),
    };
    if ordered && at != ORDER && at != DEVICE {
        findings.note(Leg::ok(ORDER, "the device answers"));
    }
    if ordered && at == SSHD {
        findings.note(Leg::ok(FORWARD, GRANTED));
    }
    let failure = Failure::from(error);
    let leg = Leg::error(at, failure.error(), hint, failure.code());
    findings.add(began, leg);
    if at == DEVICE {
        return skip(BEHIND_IT, NOT_SEEN, findings);
    }
    let after: &[&str] = match at {
        SSHD => &[HOST_KEY],
        FORWARD => &[SSHD, HOST_KEY],
        _ => &[FORWARD, SSHD, HOST_KEY],
    };
    skip(after, "without a stream to the device", findings);
}

fn leg_of(error: &OpenError, ordered: bool) -> &'static str {
    match error {
        _ if !ordered => SSHD,
        OpenError::Refused {
            code: RefusalCode::ProxyUnavailable,
            ..
        }
        | OpenError::NoService { .. }
        | OpenError::NoPort { .. }
        | OpenError::ForeignProxy { .. } => FORWARD,
        OpenError::Stream { .. } => SSHD,
        OpenError::Unknown { .. } => DEVICE,
        OpenError::Refused { .. }
        | OpenError::NotAController { .. }
        | OpenError::Offline { .. }
        | OpenError::NoAnswer { .. }
        | OpenError::NoProxy
        | OpenError::ProxyHostKey { .. }
        | OpenError::Interrupted { .. }
        | OpenError::Broker { .. }
        | OpenError::Proxy { .. } => ORDER,
    }
}

async fn banner(stream: Stream) -> Result<String, BannerError> {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (mut reader, mut writer) = tokio::io::split(theirs);
    let (mut said, _quiet) = tokio::io::split(ours);
    tokio::select! {
        banner = ssh_banner::read(&mut said) => banner,
        _ended = splice::local(stream, &mut reader, &mut writer, SpliceLimits::default()) => {
            Err(BannerError::Closed)
        }
    }
}

/// Compares only: whom this controller trusts is not changed by a look.
fn host_keys(account: &Account, tunnel: &Tunnel, findings: &mut Findings) {
    let began = findings.look_at(HOST_KEY);
    let known_hosts = account.dir.known_hosts();
    let leg = match controller::compare(&known_hosts, tunnel.device(), tunnel.host_keys()) {
        Ok(Acquaintance::Known) => Leg::ok(HOST_KEY, "the device's keys are those that are known"),
        Ok(Acquaintance::New) => Leg::ok(
            HOST_KEY,
            "the device tells its keys; `tunnel connect` takes them at the first time",
        ),
        Ok(Acquaintance::Untold) if account.is_always_on() => Leg::ok(
            HOST_KEY,
            "none is known, and tunnels that are always on tell none: ssh asks at the first time",
        ),
        Ok(Acquaintance::Untold) => Leg::warning(
            HOST_KEY,
            "the device tells none, so that ssh asks whether to trust the one it sees",
            "name them in `host_keys` of the device's `device.toml`",
        ),
        Err(error) => {
            let hint = error.hint();
            Leg::error(HOST_KEY, &error, hint, exit::DATA)
        }
    };
    findings.add(began, leg);
}

fn skip(legs: &[&str], why: &str, findings: &mut Findings) {
    for leg in legs {
        findings.skip(leg, why);
    }
}

const DEVICE: &str = "device";
const ORDER: &str = "order";
const SSHD: &str = "sshd";
const HOST_KEY: &str = "host-key";

/// The legs behind the device itself.
const BEHIND_IT: &[&str] = &[ORDER, FORWARD, SSHD, HOST_KEY];
const NOT_SEEN: &str = "the device was not seen online";

const GRANTED: &str = "the proxy has granted it to the device";

/// Room for what is read at once; a banner has 255 bytes.
const BUFFER: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leg_that_failed_has_what_comes_before_it_right_and_what_comes_after_it_skipped() {
        let device: DeviceId = "333.hula.atlas".parse().unwrap();
        let refused = |code| OpenError::Refused {
            device: device.clone(),
            code,
            text: "no".to_owned(),
        };
        let foreign = || OpenError::ForeignProxy {
            device: device.clone(),
            proxy: "127.0.0.1:1".to_owned(),
        };
        for (error, ordered, legs, hint) in [
            (
                refused(RefusalCode::Stale),
                true,
                "order error, forward skipped, sshd skipped, host-key skipped",
                "timedatectl",
            ),
            (
                refused(RefusalCode::ProxyUnavailable),
                true,
                "order ok, forward error, sshd skipped, host-key skipped",
                "do not get together",
            ),
            (
                foreign(),
                true,
                "order ok, forward error, sshd skipped, host-key skipped",
                "old `realm.toml`",
            ),
            (
                OpenError::NoAnswer {
                    device: device.clone(),
                    waited: std::time::Duration::from_secs(20),
                },
                true,
                "order error, forward skipped, sshd skipped, host-key skipped",
                "try again in a minute",
            ),
            (
                OpenError::NoProxy,
                false,
                "sshd error, host-key skipped",
                "`realm.toml`",
            ),
        ] {
            let mut findings = Findings::new(true);
            super::refused(error, ordered, Instant::now(), &mut findings);
            assert_eq!(findings.summary(), legs);
            assert!(findings.first_hint().contains(hint), "{findings:?}");
        }
    }
}
