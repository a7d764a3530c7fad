//! Who has not logged in yet: a few places, and room for everybody else when one takes them all. Pure counting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Counts the connections that have not logged in. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Strangers(Arc<Mutex<Places>>);

/// A connection's place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    all: Strangers,
    number: u64,
    displaced: CancellationToken,
}

impl Strangers {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Places {
            limit,
            last: 0,
            taken: Vec::new(),
        })))
    }

    /// Takes a place. When all are taken, the oldest of whoever would have most makes room: so a controller that says nothing
    /// keeps out itself, and who logs in as people do is let in.
    pub(crate) fn enter(&self, originator: &str) -> Stranger {
        let of = controller_of(originator);
        let mut places = self.lock();
        if places.taken.len() >= places.limit {
            places.make_room(of);
        }
        places.last += 1;
        let (number, displaced) = (places.last, CancellationToken::new());
        places.taken.push(Place {
            number,
            of: of.to_owned(),
            displaced: displaced.clone(),
        });
        drop(places);
        Stranger {
            all: self.clone(),
            number,
            displaced,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Completes when the place is a newcomer's. Cancel-safe.
    pub(crate) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let number = self.number;
        let mut places = self.all.lock();
        places.taken.retain(|place| place.number != number);
    }
}

#[derive(Debug)]
struct Places {
    limit: usize,
    last: u64,
    /// In the order in which they came.
    taken: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    of: String,
    displaced: CancellationToken,
}

impl Places {
    fn make_room(&mut self, newcomer: &str) {
        // With the newcomer, so that nobody gets more than others at their cost.
        let of_the_same = |place: &Place| {
            let same = self.taken.iter().filter(|other| other.of == place.of);
            same.count() + usize::from(place.of == newcomer)
        };
        let most = self.taken.iter().map(of_the_same).max();
        let oldest = self
            .taken
            .iter()
            .position(|place| Some(of_the_same(place)) == most);
        if let Some(oldest) = oldest {
            self.taken.remove(oldest).displaced.cancel();
        }
    }
}

/// Our proxy tells the id of the controller, which it has proved, and a port, which is another for each stream.
fn controller_of(originator: &str) -> &str {
    originator
        .rsplit_once(':')
        .map_or(originator, |(controller, _port)| controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_out(stranger: &Stranger) -> bool {
        stranger.displaced.is_cancelled()
    }

    #[test]
    fn who_takes_all_places_makes_room_and_nobody_else() {
        let strangers = Strangers::new(4);
        let calm = strangers.enter("controller-calm.hula.atlas:1");
        let flood: Vec<_> = (0..100)
            .map(|port| strangers.enter(&format!("controller-x.hula.atlas:{port}")))
            .collect();
        assert!(!is_out(&calm), "the oldest of all, and the only one of its");
        let left = flood.iter().filter(|stranger| !is_out(stranger));
        assert_eq!(left.count(), 3);
        assert!(!is_out(&flood[99]), "the oldest go");
        let other = strangers.enter("controller-y.hula.atlas:7");
        assert!(!is_out(&other) && !is_out(&calm) && is_out(&flood[97]));
        drop(flood);
        let more: Vec<_> = ["a:1", "b:1"]
            .map(|from| strangers.enter(from))
            .into_iter()
            .collect();
        assert!(!is_out(&calm) && !is_out(&other), "places are given back");
        drop(more);
    }

    #[test]
    fn nobody_gets_a_second_place_at_the_cost_of_another() {
        let strangers = Strangers::new(2);
        let held = ["calm:1", "x:1", "x:2", "x:3"].map(|from| strangers.enter(from));
        assert_eq!(held.each_ref().map(is_out), [false, true, true, false]);
    }

    #[test]
    fn where_nobody_has_more_than_others_the_oldest_goes() {
        let strangers = Strangers::new(2);
        let held = ["a:1", "b:1", "c:1"].map(|from| strangers.enter(from));
        assert_eq!(held.each_ref().map(is_out), [true, false, false]);
    }
}
