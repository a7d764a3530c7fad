//! What a device says of itself, and when it says it again: the decisions, without a socket.

use std::collections::BTreeSet;
use std::time::Duration;

use daemon::mqtt::Message;
use protocol::limits::MAX_CONTROLLERS;
use protocol::{DeviceId, Epoch, Label, Presence, Topic};
use tokio::time::Instant;

/// The presence of a device over its sessions with the broker.
#[derive(Debug)]
pub(crate) struct Told {
    id: DeviceId,
    proxy: String,
    epoch: Epoch,
    session: Option<Session>,
}

/// What was told in the present session.
#[derive(Debug)]
struct Session {
    since: u64,
    controllers: BTreeSet<Label>,
    /// Before then nothing is told again.
    next: Instant,
    /// Whether there is something to tell then.
    pending: bool,
}

impl Told {
    /// Nothing is told yet. `proxy` is where this device's tunnels go through.
    pub(crate) fn new(id: DeviceId, proxy: String) -> Self {
        Self {
            id,
            proxy,
            epoch: Epoch(0),
            session: None,
        }
    }

    /// A session has begun.
    pub(crate) fn up(
        &mut self,
        epoch: Epoch,
        controllers: BTreeSet<Label>,
        unix_now: u64,
        now: Instant,
    ) -> Message {
        self.epoch = epoch;
        let message = self.online(unix_now, &controllers);
        self.session = Some(Session {
            since: unix_now,
            controllers,
            next: now + PACE,
            pending: false,
        });
        message
    }

    /// From the next session on tunnels go through this proxy.
    pub(crate) fn passes_by(&mut self, proxy: String) {
        self.proxy = proxy;
    }

    /// The session has ended.
    pub(crate) fn down(&mut self) {
        self.session = None;
    }

    /// Whether there is a session.
    pub(crate) fn is_online(&self) -> bool {
        self.session.is_some()
    }

    /// These controllers are connected now. What there is to tell of that, if it is time for it.
    pub(crate) fn see(&mut self, controllers: &BTreeSet<Label>, now: Instant) -> Option<Message> {
        let session = self.session.as_mut()?;
        session.pending = session.controllers != *controllers;
        if !session.pending || now < session.next {
            return None;
        }
        (session.pending, session.next) = (false, now + PACE);
        session.controllers.clone_from(controllers);
        let since = session.since;
        Some(self.online(since, controllers))
    }

    /// When to come back, if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.session
            .as_ref()
            .filter(|session| session.pending)
            .map(|session| session.next)
    }

    /// What is told at the end.
    pub(crate) fn goodbye(&self, unix_now: u64) -> Message {
        offline(&self.id, false, unix_now, self.epoch)
    }

    fn online(&self, since: u64, controllers: &BTreeSet<Label>) -> Message {
        let controllers = controllers.iter().take(MAX_CONTROLLERS);
        let presence = Presence {
            proxy: Some(self.proxy.clone()),
            controllers: controllers.cloned().collect(),
            ..presence(true, since, self.epoch)
        };
        message(&self.id, &presence)
    }
}

/// The last will of a session that begins at this epoch.
pub(crate) fn will(id: &DeviceId, epoch: Epoch) -> Message {
    offline(id, true, epoch.0 / 1000, epoch)
}

fn offline(id: &DeviceId, lost: bool, since: u64, epoch: Epoch) -> Message {
    let presence = Presence {
        lost,
        ..presence(false, since, epoch)
    };
    message(id, &presence)
}

fn presence(online: bool, since: u64, epoch: Epoch) -> Presence {
    Presence {
        online,
        since,
        lost: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch,
        proxy: None,
        controllers: Vec::new(),
    }
}

fn message(id: &DeviceId, presence: &Presence) -> Message {
    Message {
        topic: Topic::Presence(id.clone()).to_string(),
        payload: presence.encode(),
        retain: true,
    }
}

/// How often a change is told. People look at it, and everybody who looks is sent it; a browser at a device's web page opens
/// and closes several streams a second.
const PACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Label> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn read(message: Option<Message>) -> Option<Vec<String>> {
        let message = message?;
        assert!(message.retain);
        let presence = Presence::decode(&message.payload).unwrap();
        assert_eq!((presence.online, presence.since), (true, 100));
        let controllers = presence.controllers.iter();
        Some(controllers.map(ToString::to_string).collect())
    }

    #[test]
    fn a_change_is_told_once_and_not_too_often() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut told = Told::new("333.hula.atlas".parse().unwrap(), "proxy:2222".to_owned());
        assert!(
            told.see(&names(&["controller-a"]), began).is_none(),
            "no session"
        );
        let first = told.up(Epoch(7), names(&["controller-a"]), 100, began);
        assert_eq!(read(Some(first)), Some(vec!["controller-a".to_owned()]));
        assert!(told.see(&names(&["controller-a"]), at(2000)).is_none());
        assert_eq!(told.deadline(), None);
        assert_eq!(read(told.see(&names(&[]), at(2000))), Some(vec![]));
        // Too soon; and what is as it was told before its time has come, need not be told.
        assert!(told.see(&names(&["controller-b"]), at(2500)).is_none());
        assert_eq!(told.deadline(), Some(at(3000)));
        assert!(told.see(&names(&[]), at(2600)).is_none());
        assert_eq!(told.deadline(), None);
        assert!(told.see(&names(&["controller-b"]), at(2700)).is_none());
        let later = told.see(&names(&["controller-b"]), at(3000));
        assert_eq!(read(later), Some(vec!["controller-b".to_owned()]));
        told.down();
        assert!(told.see(&names(&[]), at(9000)).is_none());
        assert_eq!(told.deadline(), None);
    }

    #[test]
    fn a_crowd_fits_into_a_presence() {
        let crowd: BTreeSet<Label> = (0..200)
            .map(|number| format!("controller-{number:0>52}").parse().unwrap())
            .collect();
        let mut told = Told::new("333.hula.atlas".parse().unwrap(), "proxy:2222".to_owned());
        let message = told.up(Epoch(7), crowd, 100, Instant::now());
        assert_eq!(read(Some(message)).unwrap().len(), MAX_CONTROLLERS);
    }
}
