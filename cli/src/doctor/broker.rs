//! The way to the broker: name, TCP, TLS, MQTT and what its policy permits.

use daemon::host_port::HostPort;
use daemon::mqtt::LinkError;
use daemon::reach::{self, ReachError};
use daemon::tls;

use super::findings::Findings;
use super::leg::Leg;
use super::own::Own;
use super::{mqtt, way};
use crate::exit;

/// What the broker has told.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// The devices of the system; `None` where nobody could be asked.
    #[cfg(feature = "controller")]
    pub(crate) devices: Option<Vec<controller::Listed>>,
    /// The device that came online last, and when by its own clock.
    pub(crate) latest: Option<(String, u64)>,
}

/// Looks at each address of the broker, and has a session with it.
pub(crate) async fn examine(own: &Own, findings: &mut Findings) -> Met {
    if own.is_always_on() {
        for leg in [DNS, TCP, TLS, MQTT, POLICY] {
            findings.skip(
                leg,
                "the tunnels of this system are always on, without a broker",
            );
        }
        return Met::default();
    }
    let places = own.membership.realm.brokers();
    let mut best = Reached::Nothing;
    for (index, place) in places.iter().enumerate() {
        // One computer of a cluster that is away is worth a warning, as long as another may do.
        let may_fail = best == Reached::Tls || index + 1 < places.len();
        best = best.max(reach_one(own, place, may_fail, findings).await);
    }
    let missing: (&[&str], &str) = match best {
        Reached::Tls => return mqtt::examine(own, findings).await,
        Reached::Tcp => (&[MQTT, POLICY], "without a TLS session"),
        Reached::Nothing => (&[TLS, MQTT, POLICY], "the broker was not reached"),
    };
    for leg in missing.0 {
        findings.skip(leg, missing.1);
    }
    Met::default()
}

/// How far the way to the broker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Nothing,
    Tcp,
    Tls,
}

async fn reach_one(
    own: &Own,
    place: &HostPort,
    may_fail: bool,
    findings: &mut Findings,
) -> Reached {
    let Some(stream) = way::to(place, [DNS, TCP], may_fail, findings).await else {
        return Reached::Nothing;
    };
    let Some(identity) = own.identity() else {
        findings.skip(TLS, "without keys and a certificate");
        return Reached::Tcp;
    };
    let began = findings.look_at(TLS);
    let config = match tls::client(own.membership.realm.broker_ca(), &identity) {
        Ok(config) => config,
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            let leg = Leg::error(TLS, &error, hint, exit::CONFIG);
            findings.add(began, leg);
            return Reached::Tcp;
        }
    };
    match reach::shake_hands(place, stream, config).await {
        Ok(()) => {
            let found = format!("`{place}` is the realm's broker");
            findings.add(began, Leg::ok(TLS, found));
            Reached::Tls
        }
        Err(error) => {
            let code = match &error {
                ReachError::Tls { .. } => exit::DATA,
                ReachError::Name { .. }
                | ReachError::Connect { .. }
                | ReachError::Silent { .. }
                | ReachError::Broken { .. } => exit::UNAVAILABLE,
            };
            let hint = error.hint();
            let leg = Leg::error(TLS, &error, Some(hint), code);
            findings.add(began, leg.tolerated(may_fail));
            Reached::Tcp
        }
    }
}

/// What a session that could not begin says of MQTT and policy.
pub(super) fn refused(error: &LinkError) -> Leg {
    match error {
        // In TLS 1.3 a server looks at the client's certificate when the client holds the handshake for done.
        LinkError::Tls { source, .. } => {
            let hint = reach::tls_hint(source).to_owned();
            Leg::error(MQTT, error, Some(hint), exit::REFUSED)
        }
        LinkError::SubscriptionRefused { .. } => {
            let hint = "the realm's policies do not let this computer hear what it has to: the realm's admin has to put them right (`policies/`, or `tunnel policies` for another broker)";
            Leg::error(POLICY, error, Some(hint.to_owned()), exit::REFUSED)
        }
        LinkError::Refused { .. } => Leg::error(MQTT, error, Some(error.hint()), exit::REFUSED),
        LinkError::Unreachable { .. }
        | LinkError::Silent { .. }
        | LinkError::Lost { .. }
        | LinkError::NoBroker
        | LinkError::Overloaded { .. }
        // The library may learn more.
        | _ => Leg::error(MQTT, error, Some(error.hint()), exit::UNAVAILABLE),
    }
}

const DNS: &str = "broker-dns";
const TCP: &str = "broker-tcp";
const TLS: &str = "broker-tls";
pub(super) const MQTT: &str = "broker-mqtt";
pub(super) const POLICY: &str = "broker-policy";
