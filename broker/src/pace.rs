//! How fast a client may ask for things: a token bucket, and for how long it has been empty. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// The bucket of one connection. A flood is slowed, by not reading from the client until there is a token again, and
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
        if paid <= now + burst(limits) / 2 {
            self.slowed = None;
        }
        self.paid = Some(paid + interval(limits) * tokens);
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

    /// Whether it goes on although it has been slowed for so long.
    pub(crate) fn is_flood(&self, now: Instant, limits: &Limits) -> bool {
        self.held_until(now, limits).is_some()
            && self
                .slowed
                .is_some_and(|slowed| slowed + limits.flood <= now)
    }
}

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
