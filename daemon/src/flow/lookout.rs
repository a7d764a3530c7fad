//! One task that looks at many connections in their turn, whether their peers are still heard of. A timer for each would wake
//! each: thousands of idle ones keep a processor busy with nothing.

mod rounds;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::rounds::Rounds;
use super::{Flow, Shared};

/// Looks after the connections that it is shown, for as long as [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct Lookout(Mutex<Rounds<Weak<Shared>>>);

impl Lookout {
    /// Nobody is looked after yet.
    pub fn new() -> Self {
        Self(Mutex::new(Rounds::new(Instant::now(), STEP, LONGEST)))
    }

    /// Looks after this connection until it is gone: its stream sets no timer of its own for its peer's silence. To be called
    /// once, before the silence is limited. A limit that is shorter than nine seconds may be kept to after nine only.
    pub fn watch(&self, flow: &Flow) {
        flow.lock().looked_after = true;
        let due = Instant::now() + LONGEST;
        self.rounds().add(Arc::downgrade(&flow.0), due);
    }

    /// Looks at each connection when its peer may have been silent for too long. Completes never.
    pub async fn run(&self) {
        let mut ticks = interval_at(self.rounds().next(), STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let due = self.rounds().due(Instant::now());
            for some in due.chunks(AT_A_TIME) {
                self.look(some);
                yield_now().await;
            }
        }
    }

    fn look(&self, connections: &[Weak<Shared>]) {
        let now = Instant::now();
        for connection in connections {
            // Whoever is gone is not looked at again.
            if let Some(shared) = connection.upgrade() {
                let again = Flow(shared).lock().look(now).unwrap_or(now + LONGEST);
                self.rounds().add(Weak::clone(connection), again);
            }
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds<Weak<Shared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Lookout {
    fn default() -> Self {
        Self::new()
    }
}

/// How often there is a look at those whose time has come, and so how late a silence is noticed.
const STEP: Duration = Duration::from_millis(500);

/// The longest time between two looks at one connection: no more than the shortest limit in use, since a limit may become
/// shorter between them.
const LONGEST: Duration = Duration::from_secs(9);

/// How many are looked at before others have their turn: some tens of microseconds.
const AT_A_TIME: usize = 256;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::time::timeout;
    use tokio_util::task::TaskTracker;

    use super::super::FlowStream;
    use super::*;
    use crate::ssh_client::SILENCE_LIMIT;

    fn watched(lookout: &Lookout) -> (FlowStream, Flow, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let (stream, flow) = Flow::over_local(near).unwrap();
        lookout.watch(&flow);
        (stream, flow, far)
    }

    /// How long it takes until a read fails, and how.
    async fn end_of(mut stream: FlowStream) -> (Duration, String) {
        let start = Instant::now();
        let error = stream.read(&mut [0]).await.unwrap_err();
        (start.elapsed(), error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn each_silence_is_noticed_when_its_limit_is_over() {
        assert!(LONGEST <= SILENCE_LIMIT);
        let lookout = Lookout::new();
        let long = Duration::from_mins(5);
        let limits = [SILENCE_LIMIT, SILENCE_LIMIT + STEP / 2, 2 * LONGEST, long];
        let (mut streams, tasks) = (Vec::new(), TaskTracker::new());
        let ends = async {
            for limit in limits {
                // Whenever they come.
                tokio::time::sleep(STEP / 3).await;
                let (stream, flow, far) = watched(&lookout);
                flow.limit_silence(limit);
                streams.push((limit, tasks.spawn(end_of(stream)), far));
            }
            for (limit, end, _far) in streams {
                let (noticed, why) = end.await.unwrap();
                assert_eq!(why, "the peer is silent");
                let late = noticed.checked_sub(limit).expect("too early");
                assert!(late <= STEP + Duration::from_millis(2), "{late:?}");
            }
        };
        tokio::select! {
            () = ends => {}
            () = lookout.run() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_becomes_shorter_is_kept_to_at_once() {
        let lookout = Lookout::new();
        let (stream, flow, _far) = watched(&lookout);
        flow.limit_silence(Duration::from_mins(5));
        let tasks = TaskTracker::new();
        let end = tasks.spawn(end_of(stream));
        let ends = async {
            for _ in 0..30 {
                tokio::time::sleep(STEP / 3).await;
            }
            let start = Instant::now();
            flow.limit_silence(SILENCE_LIMIT);
            assert_eq!(end.await.unwrap().1, "the peer is silent");
            assert!(start.elapsed() >= SILENCE_LIMIT);
            assert!(start.elapsed() <= SILENCE_LIMIT + 2 * STEP);
        };
        tokio::select! {
            () = ends => {}
            () = lookout.run() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_heard_of_or_has_no_limit_stays_and_whoever_is_gone_is_forgotten() {
        let lookout = Lookout::new();
        let (mut speaks, flow, far) = watched(&lookout);
        flow.limit_silence(SILENCE_LIMIT);
        let (mut stranger, _unlimited, _silent) = watched(&lookout);
        let stay = async {
            let speaking = async {
                for _ in 0..20 {
                    tokio::time::sleep(SILENCE_LIMIT / 2).await;
                    far.try_write(b"x").unwrap();
                }
            };
            let heard = async {
                for _ in 0..20 {
                    speaks.read_exact(&mut [0]).await.unwrap();
                }
            };
            tokio::join!(speaking, heard);
            let limit = 10 * SILENCE_LIMIT;
            assert!(timeout(limit, stranger.read(&mut [0])).await.is_err());
        };
        tokio::select! {
            () = stay => {}
            () = lookout.run() => {}
        }
        assert_eq!(lookout.rounds().len(), 2);
        drop((speaks, flow));
        let gone = tokio::time::sleep(2 * LONGEST);
        tokio::select! {
            () = gone => {}
            () = lookout.run() => {}
        }
        assert_eq!(lookout.rounds().len(), 1);
    }
}
