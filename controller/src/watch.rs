//! The devices of a system as they come and go.
//!
//! A certificate has one session with the broker at a time, and whoever watches may do so all day. So the session is left as
//! soon as another command of this controller waits for its turn, and begun again behind it; what has changed meanwhile is
//! told then.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::report::one_line;
use protocol::{DeviceId, Presence, filter};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::connection::{Account, BrokerError, Session};
use crate::list::{ListError, Listed, QUIET, note, presences};
use crate::turn::{GIVE_WAY, is_wanted};

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A device was seen for the first time, or is otherwise now.
    Listed(Listed),
    /// A device was taken away.
    Gone(DeviceId),
    /// All that there is at present was told.
    Current,
    /// The broker was lost, and is tried again: what was told may not be so any more.
    Away(String),
}

/// Tells what there is, and then each change, until nobody listens any more. A broker that is lost is tried again for ever;
/// one that is away from the beginning is an error.
pub async fn watch(account: &Account, changes: mpsc::Sender<Change>) -> Result<(), ListError> {
    let mut watch = Watch {
        account,
        seen: BTreeMap::new(),
        changes,
    };
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    let mut met = false;
    loop {
        let mut listed = false;
        let left = watch.session(&mut listed).await;
        met |= listed;
        if listed {
            backoff.reset();
        }
        match left {
            Ok(Left::Unheard) => return Ok(()),
            Ok(Left::GaveWay) => sleep(GIVE_WAY).await,
            Err(error) if !met => return Err(ListError::new(account, error)),
            Err(error) => {
                let away = Change::Away(one_line(&error));
                if watch.changes.send(away).await.is_err() {
                    return Ok(());
                }
                sleep(backoff.next_delay()).await;
            }
        }
    }
}

struct Watch<'a> {
    account: &'a Account,
    /// What was told.
    seen: BTreeMap<DeviceId, Presence>,
    changes: mpsc::Sender<Change>,
}

/// Why a session was left.
enum Left {
    /// Another command waits for its turn.
    GaveWay,
    /// Nobody listens.
    Unheard,
}

impl Watch<'_> {
    async fn session(&mut self, listed: &mut bool) -> Result<Left, BrokerError> {
        let id = self.account.id();
        let filters = vec![filter::presences(id.realm(), id.system())];
        let mut session = Session::begin_patiently(self.account, filters).await?;
        let left = self.listen(&mut session, listed).await;
        session.finish(None).await;
        left
    }

    async fn listen(
        &mut self,
        session: &mut Session,
        listed: &mut bool,
    ) -> Result<Left, BrokerError> {
        let present = presences(session, QUIET).await?;
        *listed = true;
        if let Err(left) = self.tell_all(present).await {
            return Ok(left);
        }
        let mut looks = looks();
        loop {
            let (topic, payload) = tokio::select! {
                message = session.next() => message?,
                _ = looks.tick() => {
                    if is_wanted(&self.account.dir) {
                        return Ok(Left::GaveWay);
                    }
                    continue;
                }
                () = self.changes.closed() => return Ok(Left::Unheard),
            };
            let mut now = self.seen.clone();
            note(&mut now, &topic, &payload);
            if let Err(left) = self.tell_changes(now).await {
                return Ok(left);
            }
        }
    }

    async fn tell_all(&mut self, present: BTreeMap<DeviceId, Presence>) -> Result<(), Left> {
        self.tell_changes(present).await?;
        self.tell(Change::Current).await
    }

    async fn tell_changes(&mut self, now: BTreeMap<DeviceId, Presence>) -> Result<(), Left> {
        for change in changes(&self.seen, &now) {
            self.tell(change).await?;
        }
        self.seen = now;
        Ok(())
    }

    /// Waits for room. Whoever listens may have been stopped, at a terminal by Ctrl-S: others get their turn all the same, and
    /// what was not told is told later.
    async fn tell(&self, change: Change) -> Result<(), Left> {
        let mut looks = looks();
        loop {
            tokio::select! {
                biased;
                room = self.changes.reserve() => {
                    room.map_err(|_| Left::Unheard)?.send(change);
                    return Ok(());
                }
                _ = looks.tick() => if is_wanted(&self.account.dir) {
                    return Err(Left::GaveWay);
                },
            }
        }
    }
}

/// When it is looked whether others wait.
fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// From what was to what is.
fn changes(
    before: &BTreeMap<DeviceId, Presence>,
    now: &BTreeMap<DeviceId, Presence>,
) -> Vec<Change> {
    let gone = before.keys().filter(|device| !now.contains_key(*device));
    let new = now
        .iter()
        .filter(|(device, presence)| before.get(*device) != Some(*presence));
    gone.map(|device| Change::Gone(device.clone()))
        .chain(new.map(|(device, presence)| {
            Change::Listed(Listed::new(device.clone(), presence.clone()))
        }))
        .collect()
}

/// How often it is looked whether others wait: they hardly notice so short a time.
const LOOK: Duration = Duration::from_millis(50);

/// The bound of the first delay before a broker that was lost is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The bound of all later delays: somebody looks at the screen.
const LAST_RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use protocol::Epoch;

    use super::*;

    #[test]
    fn only_what_is_otherwise_is_a_change() {
        let presence = |online| Presence {
            online,
            since: 1,
            lost: false,
            version: "1".into(),
            epoch: Epoch(1),
            proxy: None,
            controllers: Vec::new(),
        };
        let of = |devices: &[(&str, bool)]| -> BTreeMap<DeviceId, Presence> {
            devices
                .iter()
                .map(|(name, online)| (name.parse().unwrap(), presence(*online)))
                .collect()
        };
        let before = of(&[("1.a.b", true), ("2.a.b", true), ("3.a.b", true)]);
        let now = of(&[("2.a.b", false), ("3.a.b", true), ("4.a.b", true)]);
        let listed = |name: &str, online| {
            Change::Listed(Listed::new(name.parse().unwrap(), presence(online)))
        };
        assert_eq!(
            changes(&before, &now),
            [
                Change::Gone("1.a.b".parse().unwrap()),
                listed("2.a.b", false),
                listed("4.a.b", true)
            ]
        );
        assert_eq!(changes(&now, &now), []);
    }
}
