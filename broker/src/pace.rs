//! How fast a client may ask for things: a token bucket, and for how long it has been empty. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// The bucket of one device. A flood is slowed, by not reading from the client until there is a token again, and
/// when that does not end it, cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// When all that was asked for has been paid by the rate alone (the generic cell rate algorithm of ITU-T I.371).
    paid: Option<Instant>,
    /// Since when the client is being slowed, on and off.
    slowed: Option<Instant>,
}

impl Pace {
    /// The client has asked for something that costs this many tokens. True when it is slowed from now on.
    pub(crate) fn spend(&mut self, tokens: u32, now: Instant, limits: &Limits) -> bool {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        // A client that has earned half of its burst again has stopped whatever it did.
        if self.has_rested(now, limits) {
            self.slowed = None;
        }
        self.paid = Some(paid + interval(limits).saturating_mul(tokens).min(MOST_OWED));
        let begins = self.held_until(now, limits).is_some() && self.slowed.is_none();
        if begins {
            self.slowed = Some(now);
        }
        begins
    }

    /// Until when nothing more is to be read from the client.
    pub(crate) fn held_until(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        let free = self.paid?.checked_sub(burst(limits))?;
        (free > now).then_some(free)
    }

    /// Whether a new connection of the client is served. One that is slowed for some seconds finds itself slowed still; one that
    /// owes more, or was cut as a flood and has not rested since, has to wait outside.
    pub(crate) fn may_connect(&self, now: Instant, limits: &Limits) -> bool {
        let near = now + burst(limits);
        self.held_until(now, limits).is_none_or(|free| free <= near)
            && (self.has_rested(now, limits) || !self.was_slowed_for_long(now, limits))
    }

    /// Whether something that was asked for has not been earned again.
    pub(crate) fn owes(&self, now: Instant) -> bool {
        self.paid.is_some_and(|paid| paid > now)
    }

    /// Whether it goes on although it has been slowed for so long.
    pub(crate) fn is_flood(&self, now: Instant, limits: &Limits) -> bool {
        self.held_until(now, limits).is_some() && self.was_slowed_for_long(now, limits)
    }

    fn was_slowed_for_long(&self, now: Instant, limits: &Limits) -> bool {
        self.slowed
            .is_some_and(|slowed| slowed + limits.flood <= now)
    }

    /// Whether half of the burst is earned again.
    fn has_rested(&self, now: Instant, limits: &Limits) -> bool {
        self.paid.is_none_or(|paid| paid <= now + burst(limits) / 2)
    }
}

/// What one request can cost at most: no number that a peer has a part in makes a time that there is not.
const MOST_OWED: Duration = Duration::from_hours(1);

/// The time in which one token is earned.
fn interval(limits: &Limits) -> Duration {
    Duration::from_secs(1) / limits.rate.max(1)
}

fn burst(limits: &Limits) -> Duration {
    interval(limits) * limits.burst
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            rate: 10,
            burst: 5,
            flood: Duration::from_secs(2),
            ..Limits::default()
        }
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_burst_is_free_and_the_next_one_waits_for_its_token() {
        let (mut pace, start) = (Pace::default(), Instant::now() + Duration::from_hours(1));
        for _ in 0..5 {
            assert!(!pace.spend(1, start, &limits()));
            assert_eq!(pace.held_until(start, &limits()), None);
        }
        assert!(pace.spend(1, start, &limits()), "slowed from now on");
        assert_eq!(pace.held_until(start, &limits()), Some(start + millis(100)));
        assert_eq!(pace.held_until(start + millis(100), &limits()), None);
        assert!(
            !pace.spend(1, start + millis(100), &limits()),
            "it is said once"
        );
    }

    #[test]
    fn who_goes_on_is_cut_and_who_rests_is_not() {
        let start = Instant::now() + Duration::from_hours(1);
        let flood = |pace: &mut Pace, from: Instant, length: Duration| {
            let mut now = from;
            while now <= from + length {
                pace.spend(1, now, &limits());
                now = pace.held_until(now, &limits()).unwrap_or(now);
            }
            now
        };
        let mut pace = Pace::default();
        let now = flood(&mut pace, start, millis(1_900));
        assert!(!pace.is_flood(start + millis(1_900), &limits()));
        let mut rested = pace;
        flood(&mut pace, now, millis(300));
        assert!(pace.is_flood(start + millis(2_150), &limits()));
        // Three of five tokens are earned in 300 ms; then it begins anew.
        flood(&mut rested, now + millis(300), millis(1_000));
        assert!(!rested.is_flood(start + millis(3_000), &limits()));
    }

    #[test]
    fn a_new_connection_is_no_new_burst_and_a_cut_flood_waits_until_it_has_rested() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut pace = Pace::default();
        assert!(pace.may_connect(start, &limits()));
        // Slowed for as long as a burst takes: it may wait inside. One more, and it may not.
        pace.spend(10, start, &limits());
        assert!(pace.may_connect(start, &limits()));
        pace.spend(1, start, &limits());
        assert!(!pace.may_connect(start, &limits()));
        assert!(pace.may_connect(start + millis(100), &limits()));
        // It goes on for two seconds and is cut.
        let mut now = start;
        while !pace.is_flood(now, &limits()) {
            pace.spend(1, now, &limits());
            now += millis(100);
        }
        pace = Pace {
            paid: Some(now + millis(500)),
            ..pace
        };
        assert!(!pace.may_connect(now, &limits()));
        assert!(!pace.may_connect(now + millis(249), &limits()));
        assert!(pace.may_connect(now + millis(250), &limits()));
        assert!(pace.owes(now + millis(499)) && !pace.owes(now + millis(500)));
    }

    proptest! {
        /// However the requests fall, no more get through than the burst and what the rate has earned.
        #[test]
        fn no_more_than_burst_and_rate(gaps in vec(0u64..300, 1..300)) {
            let start = Instant::now() + Duration::from_hours(1);
            let (mut pace, mut now) = (Pace::default(), start);
            for (spent, gap) in (1u64..).zip(gaps) {
                now += millis(gap);
                now = pace.held_until(now, &limits()).unwrap_or(now);
                pace.spend(1, now, &limits());
                let earned = u64::try_from((now - start).as_millis()).unwrap() / 100;
                prop_assert!(spent <= 5 + earned + 1, "{spent} after {:?}", now - start);
            }
        }
    }
}
