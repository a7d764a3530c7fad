//! The clock of this computer.
//!
//! Nobody on the way tells the time of day. But a certificate says from when on it is valid, by the signer's clock, and a device
//! that is online since when it is, by its own: both lie in the past, so a clock that has not come there yet is behind. A clock that
//! is ahead is seen by a certificate that has expired for it alone, and by a device that finds an order too old.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use enrollment::Validity;

use super::broker::Met;
use super::findings::Findings;
use super::leg::Leg;
use super::own::Own;
use crate::exit;

/// Compares it with all that was seen.
pub(crate) fn examine(own: &Own, met: &Met, findings: &mut Findings) {
    let began = findings.look_at(LEG);
    let realm = &own.membership.realm;
    let own_certificate = daemon::files::read_text(
        &own.dir.x509_certificate(&own.membership.id),
        MAX_CERTIFICATE,
    );
    let issued = [Some(realm.ca.as_str()), own_certificate.ok().as_deref()]
        .into_iter()
        .flatten()
        .filter_map(|pem| Some(Validity::of(pem)?.not_before))
        .max();
    let now = SystemTime::now();
    let leg = judge(now, issued, met.latest.as_ref());
    findings.add(began, leg);
}

fn judge(now: SystemTime, issued: Option<SystemTime>, latest: Option<&(String, u64)>) -> Leg {
    let behind = |then: SystemTime| then.duration_since(now).unwrap_or_default();
    let set = "set it, e.g. with `timedatectl set-ntp true`";
    if let Some(behind) = issued.map(behind).filter(|behind| *behind > TOLERATED) {
        return Leg::wrong(
            LEG,
            format!(
                "this computer's clock is at least {} s behind: the realm has signed since",
                behind.as_secs()
            ),
            set,
            exit::CONFIG,
        );
    }
    let Some((device, since)) = latest else {
        return Leg::ok(LEG, "not before anything that the realm has signed");
    };
    let behind = behind(UNIX_EPOCH + Duration::from_secs(*since));
    if behind > TOLERATED {
        return Leg::warning(
            LEG,
            format!(
                "{} s behind that of `{device}`, which came online at a time that is to come here",
                behind.as_secs()
            ),
            format!(
                "{set}; or the one of `{device}` is ahead: orders stop when two differ by five minutes"
            ),
        );
    }
    Leg::ok(
        LEG,
        "not before anything that the realm has signed, and not behind its devices",
    )
}

const LEG: &str = "clock";

/// The largest certificate file, in bytes: as where it is loaded to be used.
const MAX_CERTIFICATE: usize = 64 * 1024;

/// What clocks without a time server differ by, and nobody minds.
const TOLERATED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::super::leg::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_has_happened_already() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let device = |since| Some(("333.hula.atlas".to_owned(), since));
        for (issued, latest, verdict) in [
            (None, None, Verdict::Ok),
            (Some(at(900)), device(990), Verdict::Ok),
            (Some(at(1030)), device(1030), Verdict::Ok),
            (Some(at(1031)), None, Verdict::Error(exit::CONFIG)),
            (Some(at(900)), device(1031), Verdict::Warning),
        ] {
            let leg = judge(at(1000), issued, latest.as_ref());
            assert_eq!(leg.verdict, verdict, "{leg:?}");
        }
    }
}
