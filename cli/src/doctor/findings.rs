//! All that was found, told leg by leg.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tokio::time::Instant;

use super::leg::{Leg, Verdict};
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::paint::Paint;

/// The legs so far. Unless all is to be JSON, each is told as soon as it was looked at.
#[derive(Debug)]
pub(crate) struct Findings {
    legs: Vec<Leg>,
    json: bool,
    paint: Paint,
    /// Whether a line says what is being looked at, until it is written over.
    announces: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    result: u8,
    legs: &'a [Leg],
}

impl Findings {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            legs: Vec::new(),
            json,
            paint: Paint::for_stdout(),
            announces: !json && io::stdout().is_terminal(),
        }
    }

    /// A leg is being looked at from now on.
    pub(crate) fn look_at(&self, name: &str) -> Instant {
        if self.announces {
            let mut out = io::stdout().lock();
            // Who does not see it sees the result.
            let _ = write!(out, "  {name} …\r").and_then(|()| out.flush());
        }
        Instant::now()
    }

    /// A leg that was looked at since then.
    pub(crate) fn add(&mut self, since: Instant, mut leg: Leg) {
        // Three decimals are microseconds, beyond which nothing here is meaningful.
        leg.ms = Some((since.elapsed().as_secs_f64() * 1e6).round() / 1e3);
        self.note(leg);
    }

    /// A leg that was seen by the way.
    pub(crate) fn note(&mut self, leg: Leg) {
        if !self.json {
            let over = if self.announces { "\u{1b}[K" } else { "" };
            output::line(format_args!("{over}{}", told(&leg, self.paint)));
        }
        self.legs.push(leg);
    }

    /// A leg that cannot be looked at.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        self.note(Leg::skipped(name, why));
    }

    /// Tells the end: a number on the last line.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let result = self.result();
        if self.json {
            let report = Report {
                result,
                legs: &self.legs,
            };
            let json = serde_json::to_string_pretty(&report)
                .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
            output::line(json);
        } else {
            let count = |number| {
                let legs = self.legs.iter();
                legs.filter(|leg| leg.verdict.number() == number).count()
            };
            output::line(format_args!("errors: {}, warnings: {}", count(0), count(1)));
            output::line(result);
        }
        Ok(())
    }

    /// That of the first error; a warning is none.
    pub(crate) fn code(&self) -> u8 {
        let mut codes = self.legs.iter().map(|leg| leg.verdict.code());
        codes.find(|code| *code != exit::OK).unwrap_or(exit::OK)
    }

    /// The legs and their verdicts in one line.
    #[cfg(test)]
    pub(crate) fn summary(&self) -> String {
        let legs = self.legs.iter().map(|leg| {
            let verdict = match leg.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Error(_) => "error",
                Verdict::Skipped => "skipped",
            };
            format!("{} {verdict}", leg.name)
        });
        legs.collect::<Vec<_>>().join(", ")
    }

    /// What is said first about what to do.
    #[cfg(test)]
    pub(crate) fn first_hint(&self) -> &str {
        let mut hints = self.legs.iter().filter_map(|leg| leg.hint.as_deref());
        hints.next().unwrap_or_default()
    }

    fn result(&self) -> u8 {
        let numbers = self.legs.iter().map(|leg| leg.verdict.number());
        numbers.min().unwrap_or(0)
    }
}

/// A leg as people read it.
fn told(leg: &Leg, paint: Paint) -> String {
    let mark = match leg.verdict {
        Verdict::Ok => paint.green("✓"),
        Verdict::Warning => paint.yellow("!"),
        Verdict::Error(_) => paint.red("✗"),
        Verdict::Skipped => paint.dim("–"),
    };
    let took = leg.ms.map(|ms| format!("{ms:.0} ms")).unwrap_or_default();
    let mut text = format!("{mark} {:14} {took:>8}  {}", leg.name, leg.found);
    for cause in &leg.causes {
        let _ = write!(text, "\n    caused by: {cause}");
    }
    if let Some(hint) = &leg.hint {
        let _ = write!(text, "\n    {} {hint}", paint.bold("hint:"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(legs: Vec<Leg>) -> Findings {
        Findings {
            legs,
            json: true,
            paint: Paint::NONE,
            announces: false,
        }
    }

    #[test]
    fn the_worst_leg_is_the_result_and_the_first_error_the_code() {
        let ok = || Leg::ok("config", "here");
        let warning = || Leg::warning("certificate", "soon", "renew it");
        let wrong = |code| Leg::wrong("broker-tcp", "no", "plug it in", code);
        let skipped = || Leg::skipped("broker-tls", "no connection");
        for (legs, result, code) in [
            (vec![ok(), skipped()], 2, exit::OK),
            (vec![ok(), warning(), skipped()], 1, exit::OK),
            (vec![warning(), wrong(69), wrong(78)], 0, 69),
            (vec![], 0, exit::OK),
        ] {
            let findings = findings(legs);
            assert_eq!((findings.result(), findings.code()), (result, code));
        }
    }

    #[test]
    fn a_leg_reads_as_what_was_found_why_and_what_to_do() {
        let mut leg = Leg::error(
            "broker-tcp",
            &io::Error::other("no\u{1b}[2J route"),
            Some("plug it in".to_owned()),
            69,
        );
        leg.ms = Some(3.4);
        leg.causes.push("the cable".to_owned());
        insta::assert_snapshot!(told(&leg, Paint::NONE), @r"
        ✗ broker-tcp         3 ms  no�[2J route
            caused by: the cable
            hint: plug it in
        ");
        let painted = told(&Leg::ok("config", "here"), Paint::COLOURS);
        assert!(
            painted.starts_with("\u{1b}[32m✓\u{1b}[0m config"),
            "{painted}"
        );
    }
}
