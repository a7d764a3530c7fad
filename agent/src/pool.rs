//! How many connections to the proxy there have to be: the decisions, without a socket.
//!
//! One SSH connection carries one stream, so that no stream can stall another. While a tunnel is wanted one idle
//! connection, the spare, waits for the next stream; a new one is dialled as soon as it is taken.

use std::collections::BTreeMap;

/// One connection to the proxy, numbered in the order of dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(crate) u64);

/// The connections of a device, and how many streams each carries.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    wanted: bool,
    members: BTreeMap<MemberId, Member>,
    next: u64,
    /// How many connections there are at least, while a tunnel is wanted.
    links: usize,
    /// The proxy lets only one connection forward a port, as a stock OpenSSH server does: all streams share it.
    shared: bool,
    /// A connection has failed, and the pause after it is not over: nothing is dialled for a stream's sake.
    resting: bool,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A tunnel is wanted, or not any more.
    Wanted(bool),
    /// A connection is up and forwards.
    Up(MemberId),
    /// The proxy refused a further connection the port of the first.
    NotPooled(MemberId),
    /// A connection has ended as it was told to.
    Retired(MemberId),
    /// A connection is gone, or could not be made. After a failure the caller waits, then sends [`Event::Retry`].
    Down(MemberId),
    /// Time to try again.
    Retry,
    /// What connections are to forward has changed: those that there are go after their streams, and new ones come.
    Renewed,
    /// A stream began on a connection.
    StreamBegan(MemberId),
    /// A stream ended on a connection.
    StreamEnded(MemberId),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Dial a connection of this number.
    Dial(MemberId),
    /// End this connection, which is idle or no longer wanted, after its streams.
    Retire(MemberId),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Member {
    up: bool,
    retired: bool,
    streams: usize,
}

impl Pool {
    /// A pool of so many connections at least, while a tunnel is wanted, and always one that is idle.
    pub(crate) fn of(links: usize) -> Self {
        Self {
            links,
            ..Self::default()
        }
    }

    /// Decides on one event.
    pub(crate) fn on_event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Wanted(wanted) => {
                self.wanted = wanted;
                self.shared &= wanted;
                // Somebody asks, and is not to wait for the pause of those before.
                self.resting &= !wanted;
            }
            Event::Up(id) => self.change(id, |member| member.up = true),
            Event::NotPooled(id) => {
                self.shared = true;
                self.members.remove(&id);
            }
            Event::Retired(id) => {
                self.members.remove(&id);
            }
            Event::Down(id) => {
                self.members.remove(&id);
                // Whoever answers next may be another kind of proxy.
                self.shared &= self.any_up();
                // The caller waits first; and what happens on the other connections meanwhile is no reason to hurry.
                self.resting = true;
                return Vec::new();
            }
            Event::Retry => self.resting = false,
            Event::Renewed => return self.renew(),
            Event::StreamBegan(id) => self.change(id, |member| member.streams += 1),
            Event::StreamEnded(id) => self.change(id, |member| {
                member.streams = member.streams.saturating_sub(1);
            }),
        }
        self.settle()
    }

    /// Whether this connection forwards now, and is to go on with it.
    pub(crate) fn serves(&self, id: MemberId) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.up && !member.retired)
    }

    /// Whether any connection forwards now.
    pub(crate) fn any_up(&self) -> bool {
        self.members
            .values()
            .any(|member| member.up && !member.retired)
    }

    /// How many streams there are in all.
    pub(crate) fn streams(&self) -> usize {
        self.members.values().map(|member| member.streams).sum()
    }

    fn renew(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (id, member) in &mut self.members {
            if !member.retired {
                member.retired = true;
                actions.push(Action::Retire(*id));
            }
        }
        // Another proxy may be of another kind, and may be there.
        self.shared = false;
        self.resting = false;
        actions.append(&mut self.settle());
        actions
    }

    fn change(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&id) {
            change(member);
        }
    }

    fn settle(&mut self) -> Vec<Action> {
        let kept = self.members.values().filter(|member| !member.retired);
        let busy = kept.clone().filter(|member| member.streams > 0).count();
        let links = self.links.saturating_sub(busy);
        let spares = if self.wanted {
            MAX_SPARES.max(links)
        } else {
            0
        };
        let few = kept.count() < self.links;
        let idle: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| member.streams == 0 && !member.retired)
            .map(|(id, _)| *id)
            .collect();
        // The newest go first: the oldest holds the port for the rest.
        let surplus = idle.iter().rev().take(idle.len().saturating_sub(spares));
        let mut actions: Vec<Action> = surplus.copied().map(Action::Retire).collect();
        for action in &actions {
            if let Action::Retire(id) = action {
                self.change(*id, |member| member.retired = true);
            }
        }
        let alone = self.shared && !self.members.is_empty();
        let held_back = alone || self.resting;
        if self.wanted && (idle.is_empty() || few) && !held_back && self.members.len() < MAX_MEMBERS
        {
            let id = MemberId(self.next);
            self.next += 1;
            self.members.insert(id, Member::default());
            actions.push(Action::Dial(id));
        }
        actions
    }
}

/// The most idle connections that are kept: the spare, and one whose stream has just ended, which the next one of a
/// script is likely to need.
pub const MAX_SPARES: usize = 2;

/// The most connections of one device. Streams beyond them share; the proxy takes the least busy.
pub const MAX_MEMBERS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> MemberId {
        MemberId(number)
    }

    #[test]
    fn a_spare_is_dialled_when_one_is_taken() {
        let mut pool = Pool::default();
        assert_eq!(pool.on_event(Event::Wanted(true)), [Action::Dial(id(0))]);
        assert_eq!(pool.on_event(Event::Up(id(0))), []);
        assert_eq!(
            pool.on_event(Event::StreamBegan(id(0))),
            [Action::Dial(id(1))]
        );
        assert_eq!(pool.on_event(Event::Up(id(1))), []);
        assert_eq!(
            pool.on_event(Event::StreamBegan(id(1))),
            [Action::Dial(id(2))]
        );
        pool.on_event(Event::Up(id(2)));
        assert_eq!(
            pool.on_event(Event::StreamEnded(id(0))),
            [],
            "two spares may stay"
        );
        assert_eq!(
            pool.on_event(Event::StreamEnded(id(1))),
            [Action::Retire(id(2))]
        );
    }

    #[test]
    fn as_many_links_as_were_asked_for_are_kept() {
        let mut pool = Pool::of(3);
        assert_eq!(pool.on_event(Event::Wanted(true)), [Action::Dial(id(0))]);
        assert_eq!(pool.on_event(Event::Up(id(0))), [Action::Dial(id(1))]);
        assert_eq!(pool.on_event(Event::Up(id(1))), [Action::Dial(id(2))]);
        assert_eq!(pool.on_event(Event::Up(id(2))), []);
        // Busy ones count; and one is always idle.
        assert_eq!(pool.on_event(Event::StreamBegan(id(0))), []);
        assert_eq!(pool.on_event(Event::StreamBegan(id(1))), []);
        assert_eq!(
            pool.on_event(Event::StreamBegan(id(2))),
            [Action::Dial(id(3))]
        );
        pool.on_event(Event::Up(id(3)));
        for member in 0..3 {
            let actions = pool.on_event(Event::StreamEnded(id(member)));
            let retired = [Action::Retire(id(3))];
            assert_eq!(actions, if member == 1 { &retired[..] } else { &[] });
        }
        // One that is lost is made again.
        assert_eq!(pool.on_event(Event::Down(id(1))), []);
        assert_eq!(pool.on_event(Event::Retry), [Action::Dial(id(4))]);
    }

    #[test]
    fn what_happens_on_the_others_does_not_shorten_the_pause_after_a_failure() {
        let mut pool = Pool::default();
        pool.on_event(Event::Wanted(true));
        pool.on_event(Event::Up(id(0)));
        pool.on_event(Event::StreamBegan(id(0)));
        assert_eq!(pool.on_event(Event::Down(id(1))), []);
        for event in [
            Event::StreamBegan(id(0)),
            Event::StreamEnded(id(0)),
            Event::Up(id(0)),
            Event::Retired(id(7)),
        ] {
            assert_eq!(pool.on_event(event), [], "{event:?}");
        }
        assert_eq!(pool.on_event(Event::Retry), [Action::Dial(id(2))]);
        assert_eq!(pool.on_event(Event::Down(id(2))), []);
        let asked_anew = pool.on_event(Event::Wanted(true));
        assert_eq!(asked_anew, [Action::Dial(id(3))], "somebody waits");
    }

    #[test]
    fn a_connection_that_is_to_go_does_not_serve() {
        let mut pool = Pool::default();
        pool.on_event(Event::Wanted(true));
        assert_eq!(pool.on_event(Event::Wanted(false)), [Action::Retire(id(0))]);
        pool.on_event(Event::Up(id(0)));
        assert!(!pool.serves(id(0)) && !pool.any_up());
    }

    #[test]
    fn nothing_is_left_when_no_tunnel_is_wanted() {
        let mut pool = Pool::default();
        pool.on_event(Event::Wanted(true));
        pool.on_event(Event::Up(id(0)));
        pool.on_event(Event::StreamBegan(id(0)));
        pool.on_event(Event::Up(id(1)));
        assert_eq!(pool.on_event(Event::Wanted(false)), [Action::Retire(id(1))]);
        assert_eq!(
            pool.on_event(Event::StreamEnded(id(0))),
            [Action::Retire(id(0))]
        );
    }

    #[test]
    fn after_a_change_new_connections_take_the_place_of_the_old_ones() {
        let mut pool = Pool::default();
        assert_eq!(pool.on_event(Event::Renewed), [], "nothing is wanted");
        pool.on_event(Event::Wanted(true));
        pool.on_event(Event::Up(id(0)));
        pool.on_event(Event::StreamBegan(id(0)));
        pool.on_event(Event::Up(id(1)));
        let both = [Action::Retire(id(0)), Action::Retire(id(1))];
        assert_eq!(
            pool.on_event(Event::Renewed),
            [&both[..], &[Action::Dial(id(2))]].concat()
        );
        assert!(!pool.any_up() && pool.streams() == 1);
        assert_eq!(pool.on_event(Event::Up(id(2))), []);
        assert!(pool.serves(id(2)));
    }

    #[test]
    fn a_proxy_without_pools_gets_one_connection() {
        let mut pool = Pool::default();
        pool.on_event(Event::Wanted(true));
        pool.on_event(Event::Up(id(0)));
        assert_eq!(
            pool.on_event(Event::StreamBegan(id(0))),
            [Action::Dial(id(1))]
        );
        assert_eq!(pool.on_event(Event::NotPooled(id(1))), []);
        assert_eq!(pool.on_event(Event::StreamBegan(id(0))), []);
        assert_eq!(pool.on_event(Event::Down(id(0))), []);
        assert_eq!(pool.on_event(Event::Retry), [Action::Dial(id(2))]);
        pool.on_event(Event::Up(id(2)));
        assert_eq!(
            pool.on_event(Event::StreamBegan(id(2))),
            [Action::Dial(id(3))],
            "a new proxy may pool"
        );
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_happens(events in prop::collection::vec((0u8..9, 0u64..8), 0..300)) {
            let mut pool = Pool::default();
            let mut live = std::collections::BTreeSet::new();
            for (kind, number) in events {
                let event = match kind {
                    0 => Event::Wanted(number % 2 == 0),
                    1 => Event::Up(id(number)),
                    2 => Event::NotPooled(id(number)),
                    3 => Event::Down(id(number)),
                    4 => Event::Retry,
                    5 => Event::StreamBegan(id(number)),
                    6 => Event::Retired(id(number)),
                    7 => Event::Renewed,
                    _ => Event::StreamEnded(id(number)),
                };
                if let Event::NotPooled(id) | Event::Down(id) | Event::Retired(id) = event {
                    live.remove(&id);
                }
                for action in pool.on_event(event) {
                    match action {
                        Action::Dial(id) => prop_assert!(live.insert(id), "dialled twice"),
                        Action::Retire(id) => prop_assert!(live.contains(&id), "retired what is not there"),
                    }
                }
                prop_assert!(live.len() <= MAX_MEMBERS);
            }
        }
    }
}
