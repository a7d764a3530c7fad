//! The devices of a system, as their retained presences tell.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::report::one_line;
use protocol::{DeviceId, Epoch, Label, Presence, Topic, filter};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::connection::{Account, BrokerError, Session};

/// One device of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its full name.
    pub device: DeviceId,
    /// Whether its agent has a session with the broker.
    pub online: bool,
    /// Since when, in seconds since 1970; for a lost session, when it had begun.
    pub since: u64,
    /// Whether its session was lost rather than ended.
    pub lost: bool,
    /// Its agent's version.
    pub version: String,
    /// The proxy that its tunnels go through, if its agent tells.
    pub proxy: Option<String>,
    /// The controllers that are connected to it or about to be, if its agent tells.
    pub controllers: Vec<Label>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the devices of `{system}`")]
pub struct ListError {
    system: Label,
    #[source]
    source: BrokerError,
}

impl ListError {
    pub(crate) fn new(account: &Account, source: BrokerError) -> Self {
        Self {
            system: account.id().system().clone(),
            source,
        }
    }

    /// Why the broker could not be asked.
    pub fn broker(&self) -> &BrokerError {
        &self.source
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// The devices of the controller's own system, by name.
pub async fn list(account: &Account) -> Result<Vec<Listed>, ListError> {
    within(account, Vec::new()).await
}

/// Like [`list`], with the session that a connection needs: one that may hear the devices' answers.
pub async fn list_as_for_an_order(account: &Account) -> Result<Vec<Listed>, ListError> {
    let answers = filter::replies(account.id());
    within(account, vec![answers]).await
}

async fn within(account: &Account, more: Vec<String>) -> Result<Vec<Listed>, ListError> {
    let collected = collect(account, more).await;
    collected.map_err(|source| ListError::new(account, source))
}

async fn collect(account: &Account, more: Vec<String>) -> Result<Vec<Listed>, BrokerError> {
    let id = account.id();
    let mut filters = vec![filter::presences(id.realm(), id.system())];
    filters.extend(more);
    let mut session = Session::begin(account, filters).await?;
    let found = presences(&mut session, QUIET).await;
    session.finish(None).await;
    Ok(found?
        .into_iter()
        .map(|(device, presence)| Listed::new(device, presence))
        .collect())
}

/// What comes until it is quiet.
pub(crate) async fn presences(
    session: &mut Session,
    quiet: Duration,
) -> Result<BTreeMap<DeviceId, Presence>, BrokerError> {
    let mut found = BTreeMap::new();
    let latest = Instant::now() + LONGEST;
    loop {
        let until = (Instant::now() + quiet).min(latest);
        let Ok(message) = timeout_at(until, session.next()).await else {
            return Ok(found);
        };
        let (topic, payload) = message?;
        note(&mut found, &topic, &payload);
    }
}

/// A presence of an earlier session, such as a late last will, does not replace a later one's. One that cannot be read does:
/// the broker has kept nothing else, so nobody who comes later sees more.
pub(crate) fn note(found: &mut BTreeMap<DeviceId, Presence>, topic: &str, payload: &[u8]) {
    let Ok(Topic::Presence(device)) = topic.parse() else {
        tracing::warn!(topic, "a message that is no presence was ignored");
        return;
    };
    if payload.is_empty() {
        // An empty retained message is how a presence is deleted (MQTT 3.1.1, section 3.3.1.3).
        found.remove(&device);
        return;
    }
    let presence = match Presence::decode(payload) {
        Ok(presence) => presence,
        Err(error) => {
            tracing::warn!(%device, error = one_line(&error), "a presence that cannot be read");
            found.remove(&device);
            return;
        }
    };
    let known = found.get(&device).map_or(Epoch(0), |known| known.epoch);
    if presence.epoch >= known {
        found.insert(device, presence);
    }
}

impl Listed {
    pub(crate) fn new(device: DeviceId, presence: Presence) -> Self {
        let Presence {
            online,
            since,
            lost,
            version,
            epoch: _,
            proxy,
            controllers,
        } = presence;
        Self {
            device,
            online,
            since,
            lost,
            version,
            proxy,
            controllers,
        }
    }
}

/// The broker sends all retained messages right behind the subscription's answer; when nothing has come for this long,
/// that was all. MQTT 3.1.1 has no mark for the last of them.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// The longest that a system whose presences change all the time is listened to.
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_last_will_does_not_hide_a_new_session() {
        let mut found = BTreeMap::new();
        let topic = "atlas/hula/333/tunnel/presence";
        let mut presence = Presence {
            online: true,
            since: 2,
            lost: false,
            version: "1".into(),
            epoch: Epoch(2),
            proxy: None,
            controllers: Vec::new(),
        };
        note(&mut found, topic, &presence.encode());
        presence = Presence {
            online: false,
            lost: true,
            epoch: Epoch(1),
            ..presence
        };
        note(&mut found, topic, &presence.encode());
        note(
            &mut found,
            "atlas/hula/333/tunnel/state",
            &presence.encode(),
        );
        assert_eq!(found.len(), 1);
        assert!(found.values().all(|presence| presence.online));
        let kept = found.clone();
        note(&mut found, topic, b"");
        assert!(found.is_empty(), "a deleted presence");
        found = kept;
        note(&mut found, topic, b"not json");
        assert!(found.is_empty(), "one that says nothing");
    }
}
