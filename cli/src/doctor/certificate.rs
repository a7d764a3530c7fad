//! The certificate of this computer: whose it is, who signed it, how long it is good.

use std::time::{Duration, SystemTime};

use daemon::identity;
use enrollment::certificate_check::{CheckedCertificate, Expected};

use super::findings::Findings;
use super::leg::Leg;
use super::own::Own;
use crate::exit;

/// Looks at it. The broker is asked with it in any case: it has the last word.
pub(crate) fn examine(own: &Own, findings: &mut Findings) {
    if own.is_always_on() {
        findings.skip(
            LEG,
            "the tunnels of this system are always on, without a broker",
        );
        return;
    }
    let began = findings.look_at(LEG);
    let id = &own.membership.id;
    let path = own.dir.x509_certificate(id);
    if let Err(error) = identity::certificates(&path) {
        let hint = error.hint();
        findings.add(began, Leg::error(LEG, &error, hint, exit::CONFIG));
        return;
    }
    let Some(public_key) = own.tls_key.as_ref().and_then(identity::public_key) else {
        findings.skip(LEG, "its key cannot be read");
        return;
    };
    let pem = daemon::files::read_text(&path, MAX_CERTIFICATE).unwrap_or_default();
    // Intermediates may stand behind it; it is the first.
    let end = pem.find(END).map_or(pem.len(), |end| end + END.len());
    let first = pem.get(..end).unwrap_or_default();
    let expected = Expected {
        id,
        suffix: &own.membership.realm.client_id_suffix,
        public_key: &public_key,
        authority: own.membership.realm.device_ca(),
    };
    let now = SystemTime::now();
    match CheckedCertificate::check(first, &expected, now) {
        Ok(checked) => {
            findings.add(began, judged(&checked, now));
        }
        Err(error) => {
            let hint = error.hint().to_owned();
            findings.add(began, Leg::error(LEG, &error, Some(hint), exit::CONFIG));
        }
    }
}

fn judged(checked: &CheckedCertificate, now: SystemTime) -> Leg {
    let left = checked.not_after().duration_since(now).unwrap_or_default();
    let days = left.as_secs() / DAY.as_secs();
    if left < SOON {
        return Leg::warning(
            LEG,
            format!("it ends in {days} days"),
            "`tunnel enroll --renew` gets a new one; the old one is used until then",
        );
    }
    Leg::ok(LEG, format!("good for {days} days"))
}

const LEG: &str = "certificate";

/// The end of a certificate in PEM form.
const END: &str = "-----END CERTIFICATE-----";

/// The largest file, in bytes: as where it is loaded to be used.
const MAX_CERTIFICATE: usize = 64 * 1024;

const DAY: Duration = Duration::from_hours(24);

/// When a new one should be asked for: a holiday and some days lie before the end.
const SOON: Duration = Duration::from_hours(30 * 24);
