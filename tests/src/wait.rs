//! Waiting for a state, never for a while.

use std::time::Duration;

use crate::Stopwatch;

/// How long a test waits for what should happen at once. It is no estimate of how long that takes but the point at which a
/// test on an overloaded machine gives up, and below the runner's own limit so that the failure says what was missing.
pub const CEILING: Duration = Duration::from_secs(30);

/// How often a state is looked at: short against everything that is measured, long against the cost of looking.
const PERIOD: Duration = Duration::from_millis(10);

/// Looks at a state until it is there, and returns what the probe found. The probe's `Err` is the present status, which
/// is reported when `limit` is over.
///
/// # Panics
/// When the state is not there within `limit`.
#[track_caller]
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let watch = Stopwatch::start();
    loop {
        match probe() {
            Ok(found) => return found,
            Err(status) if watch.elapsed() > limit => {
                panic!("waited {limit:?} for {what}; last status: {status}")
            }
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that waits; there is no runtime thread to block"
)]
fn pause() {
    std::thread::sleep(PERIOD);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_probe_found() {
        let mut looks = 0;
        let found = wait_until("the third look", CEILING, || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(format!("{looks} looks"))
            }
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "for something else; last status: nothing yet")]
    fn names_the_last_status() {
        wait_until(
            "something else",
            Duration::from_millis(30),
            || -> Result<(), _> { Err("nothing yet".to_owned()) },
        );
    }
}
