//! Faults in the middle of 200 MB each way: all of it arrives right, or both ends hear of the failure in time. Nothing hangs, no
//! byte is wrong, and nothing is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Stopwatch, is_beginning, sha256, wait_until};

use super::remote::{MIDDLE, Moving, NOTICED, PAYLOAD, Remote};

#[test]
fn a_cut_in_the_middle_is_heard_of_by_both_ends_of_both_ways() {
    broken_in_the_middle("drop");
}

#[test]
fn a_reset_in_the_middle_is_heard_of_by_both_ends_of_both_ways() {
    broken_in_the_middle("tcp flags & rst == rst accept\n meta l4proto tcp reject with tcp reset");
}

#[test]
fn seconds_of_loss_in_the_middle_lose_nothing() {
    whole_in_spite_of("3 s with 20 % lost each way", lose_for_seconds);
}

#[test]
fn a_rate_limit_in_the_middle_loses_nothing() {
    let limit = |remote: &Remote| remote.link.rate("200mbit");
    whole_in_spite_of("200 Mbit/s from here on", limit);
}

/// Has the link lose every fifth packet, each way, for [`LOSS`].
#[track_caller]
pub(super) fn lose_for_seconds(remote: &Remote) {
    remote.link.rule("numgen random mod 100 < 20 drop");
    let watch = Stopwatch::start();
    wait_until("the end of the loss", 2 * LOSS, || {
        let left = LOSS.checked_sub(watch.elapsed());
        left.map_or(Ok(()), |left| Err(format!("{left:?} left")))
    });
    remote.link.rule("");
}

/// Both transfers run, the fault comes, and both end with words, in time, without a wrong byte.
#[track_caller]
fn broken_in_the_middle(rule: &str) {
    let remote = Remote::start();
    let before = remote.baseline();
    let files = Files::of(&remote);
    let (watch, outcomes) = remote.in_the_middle(files.both(&remote), || {
        remote.link.rule(rule);
        Stopwatch::start()
    });
    let controllers = watch.elapsed();
    for outcome in outcomes {
        assert_eq!(outcome.code, Some(69), "{}", outcome.report());
        assert_eq!(outcome.lines("error").len(), 1, "{}", outcome.report());
        assert_eq!(outcome.lines("hint").len(), 1, "{}", outcome.report());
    }
    let left = NOTICED.saturating_sub(watch.elapsed());
    let (sink, source) = wait_until("the services to hear of it", left, || {
        let said = remote.bytes.stdout();
        let line = |name| said.lines().find(|line| line.starts_with(name));
        let both = line("sink").zip(line("source"));
        let both = both.map(|(sink, source)| (sink.to_owned(), source.to_owned()));
        both.ok_or_else(|| said.clone())
    });
    println!(
        "controllers knew after {controllers:?}, services after {:?}: {sink}; {source}",
        watch.elapsed()
    );
    assert!(sink.starts_with("sink right "), "{sink}");
    let received = fs::metadata(&files.received).unwrap().len();
    assert!(
        (MIDDLE / 2..PAYLOAD).contains(&received),
        "{received} bytes came"
    );
    assert!(is_beginning(&files.received, &remote.payload()));

    remote.link.rule("");
    remote.returns_to(&before);
    // A try that was refused may leave its lease behind, for a minute.
    remote.carries_again();
}

/// Both transfers run, the fault comes, and both end right.
#[track_caller]
fn whole_in_spite_of(what: &str, fault: impl FnOnce(&Remote)) {
    let remote = Remote::start();
    let before = remote.baseline();
    let files = Files::of(&remote);
    let ((), outcomes) = remote.in_the_middle(files.both(&remote), || fault(&remote));
    for outcome in &outcomes {
        assert_eq!(outcome.code, Some(0), "{}", outcome.report());
    }
    let took: Vec<_> = outcomes.iter().map(|outcome| outcome.took).collect();
    println!("200 MB each way, {what}: up and down {took:?}");
    let sent = sha256(&remote.payload());
    assert_eq!(sha256(&files.received), sent);
    let answer = fs::read_to_string(&files.answer).unwrap();
    assert_eq!(answer.trim(), format!("{PAYLOAD} {sent}"));
    remote.returns_to(&before);
}

/// What two transfers of the payload, one in each direction, read and write.
struct Files {
    payload: PathBuf,
    answer: PathBuf,
    received: PathBuf,
}

impl Files {
    fn of(remote: &Remote) -> Self {
        Self {
            payload: remote.payload(),
            answer: remote.world.path("answer"),
            received: remote.world.path("received"),
        }
    }

    /// The payload out and back, each in a stream of its own.
    fn both(&self, remote: &Remote) -> Vec<Moving<'_>> {
        let (up, down) = (remote.stdio("sink"), remote.stdio("source"));
        vec![
            Moving {
                program: up,
                from: &self.payload,
                to: &self.answer,
            },
            Moving {
                program: down,
                from: Path::new("/dev/null"),
                to: &self.received,
            },
        ]
    }
}

/// How long the loss lasts: well within the time after which who says nothing counts as gone.
const LOSS: Duration = Duration::from_secs(3);
