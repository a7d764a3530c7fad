//! A session with the broker, with the subscriptions that this computer needs.

use std::time::Duration;

#[cfg(feature = "controller")]
use controller::{Account, BrokerError};
use daemon::mqtt::{Link, LinkError, LinkEvent, LinkSettings};
use daemon::shutdown::Shutdown;
use daemon::tls;
use protocol::{Role, Topic, filter};

use super::broker::{MQTT, Met, POLICY, refused};
use super::findings::Findings;
use super::leg::Leg;
use super::own::Own;
use crate::agent_lock;
#[cfg(feature = "controller")]
use crate::exit;

/// Has a session, as whatever this computer is.
pub(crate) async fn examine(own: &Own, findings: &mut Findings) -> Met {
    match own.membership.id.role() {
        #[cfg(feature = "controller")]
        Role::Controller => as_controller(own, findings).await,
        #[cfg(not(feature = "controller"))]
        Role::Controller => Met::default(),
        Role::Target => {
            as_target(own, findings).await;
            Met::default()
        }
    }
}

#[cfg(feature = "controller")]
async fn as_controller(own: &Own, findings: &mut Findings) -> Met {
    let Some(account) = account(own) else {
        return Met::default();
    };
    let began = findings.look_at(MQTT);
    let listed = controller::list_as_for_an_order(&account).await;
    match listed {
        Ok(devices) => {
            findings.add(began, Leg::ok(MQTT, "it takes the certificate"));
            let online = devices.iter().filter(|listed| listed.online);
            let latest = online
                .clone()
                .max_by_key(|listed| listed.since)
                .map(|listed| (listed.device.to_string(), listed.since));
            findings.note(granted(devices.len(), online.count()));
            Met {
                devices: Some(devices),
                latest,
            }
        }
        Err(error) => {
            let leg = match error.broker() {
                BrokerError::Link(link) => refused(link),
                other @ (BrokerError::Tls(_)
                | BrokerError::Turn(_)
                | BrokerError::AlwaysOn { .. }
                | BrokerError::Flooded
                | BrokerError::Ended) => Leg::error(MQTT, other, other.hint(), exit::UNAVAILABLE),
            };
            tell(leg, began, findings);
            Met::default()
        }
    }
}

/// What the subscriptions have told. Some brokers grant them all, and keep silent about what a client may not hear.
#[cfg(feature = "controller")]
fn granted(known: usize, online: usize) -> Leg {
    if known == 0 {
        return Leg::warning(
            POLICY,
            "it grants all subscriptions, and tells of no device",
            "that is as it should be until an agent of the system has been online; otherwise the broker's access rules keep them from us: the realm's admin has to put them right (`tunnel policies`)",
        );
    }
    let found = format!("it grants all subscriptions; devices online: {online} of {known}");
    Leg::ok(POLICY, found)
}

/// What the controller's own commands go by.
#[cfg(feature = "controller")]
pub(super) fn account(own: &Own) -> Option<Account> {
    Some(Account {
        dir: own.dir.clone(),
        membership: own.membership.clone(),
        ssh_key: std::sync::Arc::clone(own.ssh_key.as_ref()?),
        identity: own.identity(),
    })
}

async fn as_target(own: &Own, findings: &mut Findings) {
    // A second session of this name would throw the agent out.
    let looked = agent_lock::look(&own.dir);
    let taken = match &looked {
        Ok(Some(_)) => None,
        Ok(None) => Some("the agent is running and has the session; its log says more"),
        Err(_) => Some("an agent may be running: look as the user who runs it"),
    };
    if let Some(why) = taken {
        for leg in [MQTT, POLICY] {
            findings.skip(leg, why);
        }
        return;
    }
    let began = findings.look_at(MQTT);
    match session(own).await {
        Ok(()) => {
            findings.add(began, Leg::ok(MQTT, "it takes the certificate"));
            findings.note(Leg::ok(POLICY, "it grants all subscriptions"));
        }
        Err(error) => tell(refused(&error), began, findings),
    }
}

async fn session(own: &Own) -> Result<(), LinkError> {
    let id = &own.membership.id;
    let realm = &own.membership.realm;
    let tls = own
        .identity()
        .and_then(|identity| tls::client(realm.broker_ca(), &identity).ok())
        .ok_or(LinkError::NoBroker)?;
    let settings = LinkSettings {
        brokers: realm.brokers(),
        subscribe_qos: realm.broker.subscribe_qos,
        tls,
        client_id: realm.client_id_suffix.client_id(id),
        filters: vec![
            filter::orders(id),
            Topic::PlainControl(id.clone()).to_string(),
        ],
        will: None,
    };
    let shutdown = Shutdown::new(Duration::ZERO);
    let mut link = Link::start(settings, &shutdown);
    loop {
        match link.next().await {
            Some(LinkEvent::Up { .. }) => break,
            Some(LinkEvent::Message { .. }) => {}
            Some(LinkEvent::Down(error)) => return Err(error),
            None => return Err(LinkError::NoBroker),
        }
    }
    link.finish(None).await;
    Ok(())
}

/// A session that did not begin: what came before it is right, what would come after it was not seen.
fn tell(leg: Leg, began: tokio::time::Instant, findings: &mut Findings) {
    let is_in = leg.name == POLICY;
    if is_in {
        findings.note(Leg::ok(MQTT, "it takes the certificate"));
    }
    findings.add(began, leg);
    if !is_in {
        findings.skip(POLICY, "without an MQTT session");
    }
}
