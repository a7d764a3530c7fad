//! What the signer says of itself to a monitor.

use std::sync::{Arc, Mutex, PoisonError};

use daemon::clock;
use daemon::monitor::{Counter, Page, Source};

use crate::run::Outcome;

/// The signer's part of the monitor. Clones are of the same signer.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    last: Mutex<Last>,
    looks: Counter,
    failed_looks: Counter,
    signed: Counter,
    handed_out: Counter,
    refused: Counter,
    failed: Counter,
    undecided: Counter,
}

/// The last looks into the registry.
#[derive(Debug, Default)]
struct Last {
    /// When one succeeded, in seconds since 1970.
    success: Option<u64>,
    /// Why the latest failed.
    failure: Option<String>,
}

impl Vitals {
    /// A look has succeeded, and this is what became of the requests.
    pub(crate) fn looked<'a>(&self, outcomes: impl Iterator<Item = &'a Outcome>) {
        let counts = &self.0;
        let mut undecided = 0;
        for outcome in outcomes {
            match outcome {
                Outcome::Signed { .. } => counts.signed.increment(),
                Outcome::HandedOut { .. } => counts.handed_out.increment(),
                Outcome::Refused(_) => counts.refused.increment(),
                Outcome::Failed => counts.failed.increment(),
                Outcome::Undecided => undecided += 1,
                Outcome::StillRefused => {}
            }
        }
        counts.undecided.set(undecided);
        counts.looks.increment();
        *self.last() = Last {
            success: Some(clock::unix_seconds()),
            failure: None,
        };
    }

    /// A look has failed.
    pub(crate) fn failed(&self, why: String) {
        self.0.looks.increment();
        self.0.failed_looks.increment();
        self.last().failure = Some(why);
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Vitals {
    fn unready(&self) -> Option<String> {
        let last = self.last();
        match (&last.failure, last.success) {
            (Some(why), _) => Some(format!(
                "signer: the last look into the registry failed: {why}"
            )),
            (None, None) => Some("signer: it has not looked into the registry yet".to_owned()),
            (None, Some(_)) => None,
        }
    }

    fn write(&self, page: &mut Page) {
        let counts = &self.0;
        page.number(
            "tunnel_signer_looks_total",
            "Looks into the registry.",
            counts.looks.get(),
        );
        page.number(
            "tunnel_signer_failed_looks_total",
            "Those of them that failed.",
            counts.failed_looks.get(),
        );
        page.number(
            "tunnel_signer_last_look_timestamp_seconds",
            "When one succeeded last, in seconds since 1970; 0: never.",
            self.last().success.unwrap_or(0),
        );
        page.numbers(
            "tunnel_signer_requests_total",
            "Requests that were dealt with, by what became of them; one that failed is tried again and counts each time.",
            "outcome",
            [
                ("signed", counts.signed.get()),
                ("handed_out", counts.handed_out.get()),
                ("refused", counts.refused.get()),
                ("failed", counts.failed.get()),
            ],
        );
        page.number(
            "tunnel_signer_undecided_requests",
            "Requests of people about whom nobody has decided, at the last look.",
            counts.undecided.get(),
        );
    }
}
