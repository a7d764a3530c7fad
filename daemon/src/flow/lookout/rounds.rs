//! Who is due when, in steps. Pure: time comes from the caller.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Those who are to be looked at, by the step in which they are due.
#[derive(Debug)]
pub(super) struct Rounds<T> {
    /// The first step is over at `next`, each other one step later.
    steps: VecDeque<Vec<T>>,
    next: Instant,
    step: Duration,
    forgave: bool,
}

impl<T> Rounds<T> {
    /// Nobody is due, and nobody will be later than `longest` after he is added.
    pub(super) fn new(now: Instant, step: Duration, longest: Duration) -> Self {
        // One more for what is left of the first.
        let count = longest.as_nanos().div_ceil(step.as_nanos().max(1)) + 1;
        Self {
            steps: (0..count).map(|_| Vec::new()).collect(),
            next: now + step,
            step,
            forgave: false,
        }
    }

    /// When somebody may be due next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn add(&mut self, who: T, due: Instant) {
        let ahead = due.saturating_duration_since(self.next);
        let steps = ahead.as_nanos().div_ceil(self.step.as_nanos().max(1));
        let last = self.steps.len().saturating_sub(1);
        let place = usize::try_from(steps).map_or(last, |steps| steps.min(last));
        if let Some(step) = self.steps.get_mut(place) {
            step.push(who);
        }
    }

    /// Takes out all who are due by now.
    ///
    /// Whoever asks much too late was stopped, and heard nobody meanwhile: what the others have said waits to be read. So all
    /// have until the next step, once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<T> {
        if now > self.next + STOPPED && !self.forgave {
            self.forgave = true;
            return Vec::new();
        }
        self.forgave = false;
        if now < self.next {
            return Vec::new();
        }
        let step = self.step.as_nanos().max(1);
        let passed = now.duration_since(self.next).as_nanos() / step + 1;
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.next += self.step * passed;
        let taken = usize::try_from(passed).map_or(self.steps.len(), |n| n.min(self.steps.len()));
        let mut due = Vec::new();
        for step in self.steps.iter_mut().take(taken) {
            // Their memory goes with them.
            due.append(&mut std::mem::take(step));
        }
        self.steps.rotate_left(taken);
        due
    }

    /// How many are in it.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.steps.iter().map(Vec::len).sum()
    }
}

/// How late somebody may ask before he counts as stopped: a busy machine is not as late.
const STOPPED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(9);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn whoever_is_due_comes_once_and_within_a_step() {
        let start = Instant::now();
        let mut rounds = Rounds::new(start, STEP, LONGEST);
        let dues = [0, 1, 500, 501, 4_321, 9_000];
        for due in dues {
            rounds.add(due, start + ms(due));
        }
        let mut came = Vec::new();
        for tick in 1..=30 {
            let now = start + tick * STEP;
            for due in rounds.due(now) {
                let late = now.checked_duration_since(start + ms(due));
                let late = late.expect("too early");
                assert!(late < STEP || due == 0, "{due}: {late:?} late");
                came.push(due);
            }
            assert!(rounds.due(now).is_empty(), "twice in one step");
        }
        assert_eq!(came, dues);
        assert_eq!(rounds.len(), 0);
    }

    #[test]
    fn whoever_was_stopped_gives_all_another_step_and_only_one() {
        let start = Instant::now();
        let mut rounds = Rounds::new(start, STEP, LONGEST);
        rounds.add("first", start + ms(700));
        rounds.add("second", start + ms(8_000));
        let back = start + ms(6_000);
        assert!(
            rounds.due(back).is_empty(),
            "what they said is not read yet"
        );
        assert_eq!(rounds.due(back + STEP), ["first"]);
        assert_eq!(rounds.due(start + ms(8_000)), ["second"]);
        // For however long, and if it is so late each time: nobody is forgotten.
        rounds.add("third", start + ms(9_000));
        let later = start + 1000 * LONGEST;
        assert!(rounds.due(later).is_empty());
        assert_eq!(rounds.due(later + 3 * STOPPED), ["third"]);
        rounds.add("fourth", later + 3 * STOPPED + ms(600));
        let later = later + 6 * STOPPED;
        assert!(rounds.due(later).is_empty());
        assert_eq!(rounds.due(later + STEP), ["fourth"]);
    }

    proptest! {
        /// Whenever they are added and however irregularly somebody asks.
        #[test]
        fn nobody_is_late_or_forgotten(
            moves in prop::collection::vec((0_u64..2_000, 0_u64..12_000), 1..200),
        ) {
            let start = Instant::now();
            let mut rounds = Rounds::new(start, STEP, LONGEST);
            let (mut now, mut waiting) = (start, Vec::new());
            for (pass, ahead) in moves {
                let due = now + ms(ahead);
                rounds.add(due, due);
                waiting.push(due);
                now += ms(pass);
                for due in rounds.due(now) {
                    let place = waiting.iter().position(|waits| *waits == due);
                    waiting.swap_remove(place.expect("nobody comes twice"));
                }
                if !rounds.forgave {
                    prop_assert!(waiting.iter().all(|due| *due + STEP > now));
                }
                prop_assert_eq!(rounds.len(), waiting.len());
            }
            let after = now + LONGEST + 2 * STEP;
            let late = rounds.due(after).len() + rounds.due(after + STEP).len();
            prop_assert_eq!(late, waiting.len());
        }
    }
}
