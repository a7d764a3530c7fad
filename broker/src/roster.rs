//! How many devices are online: a service of the realm on the bus.

use std::collections::HashSet;

use protocol::{DeviceId, Label, Presence, Topic};
use tokio::sync::watch;

use crate::bus::BusLost;
use crate::local_bus::ServiceLink;
use crate::message::Message;
use crate::topic::{TopicError, TopicFilter};

/// Watches every presence of the realm.
pub(crate) struct Roster {
    link: ServiceLink,
    online: HashSet<DeviceId>,
    count: watch::Sender<usize>,
}

impl Roster {
    /// A roster on this link, and where its count can be seen.
    pub(crate) fn new(
        mut link: ServiceLink,
        realm: &Label,
    ) -> Result<(Self, watch::Receiver<usize>), TopicError> {
        link.subscribe(TopicFilter::parse(&format!("{realm}/+/+/tunnel/presence"))?);
        let (count, watched) = watch::channel(0);
        Ok((
            Self {
                link,
                online: HashSet::new(),
                count,
            },
            watched,
        ))
    }

    /// Counts, for as long as there is a bus.
    pub(crate) async fn run(mut self) -> BusLost {
        loop {
            match self.link.next().await {
                Ok(message) => {
                    observe(&mut self.online, &message);
                    let online = self.online.len();
                    self.count
                        .send_if_modified(|count| std::mem::replace(count, online) != online);
                }
                Err(lost) => return lost,
            }
        }
    }
}

/// A device is online as long as its last presence says so. One that cannot be read says nothing.
fn observe(online: &mut HashSet<DeviceId>, message: &Message) {
    let Ok(Topic::Presence(id)) = message.topic.as_str().parse::<Topic>() else {
        return;
    };
    if Presence::decode(&message.payload).is_ok_and(|presence| presence.online) {
        online.insert(id);
    } else {
        online.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use protocol::Epoch;

    use super::*;
    use crate::message::Qos;
    use crate::topic::tests::name;

    fn presence(online: bool) -> Vec<u8> {
        Presence {
            online,
            since: 1,
            lost: false,
            version: "1".to_owned(),
            epoch: Epoch(1),
            proxy: None,
            controllers: Vec::new(),
        }
        .encode()
    }

    #[test]
    fn the_last_presence_counts() {
        let mut online = HashSet::new();
        let mut see = |topic: &str, payload: &[u8]| {
            observe(
                &mut online,
                &Message::new(name(topic), payload, Qos::AtLeastOnce, true),
            );
            online.len()
        };
        assert_eq!(see("atlas/hula/1/tunnel/presence", &presence(true)), 1);
        assert_eq!(see("atlas/hula/1/tunnel/presence", &presence(true)), 1);
        assert_eq!(see("atlas/hula/2/tunnel/presence", &presence(true)), 2);
        assert_eq!(see("atlas/hula/2/tunnel/state", b"x"), 2);
        assert_eq!(see("atlas/hula/1/tunnel/presence", &presence(false)), 1);
        assert_eq!(see("atlas/hula/2/tunnel/presence", b""), 0);
    }
}
