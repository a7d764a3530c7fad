//! `cargo xtask bench`: figures, each beside its goal and beside its peer's from the same run.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::percentile::Samples;
use crate::step::{ChoreError, goals};
use crate::{bench_broker, bench_connect, bench_proxy, bench_registry};

/// What a bench has measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// One line that says what was measured and how.
    pub(crate) about: String,
    /// The number of runs.
    pub(crate) runs: usize,
    /// The round trip time of every leg, when there is a delay.
    pub(crate) rtt: Option<Duration>,
    /// The figures, in the order in which they are shown.
    pub(crate) figures: Vec<Figure>,
}

/// One figure in milliseconds.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What was measured: the whole, or the name of one of its steps.
    pub(crate) name: String,
    pub(crate) ours: Samples,
    /// The peer's name and figures.
    pub(crate) peer: Option<(String, Samples)>,
    /// What the ratio of the p50s, ours to the peer's, may be at most.
    pub(crate) goal: Option<f64>,
    /// How many round trips ours may take at most, at the p50.
    pub(crate) trips_goal: Option<f64>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.peer
            .as_ref()
            .map(|(_, peer)| self.ours.p50() / peer.p50())
    }

    /// The p50 in round trips.
    fn trips(&self, rtt: Option<Duration>) -> Option<f64> {
        Some(self.ours.p50() / (rtt?.as_secs_f64() * 1e3))
    }

    /// Whether the goals are kept; a figure that could not be measured does not keep one.
    fn is_kept(&self, rtt: Option<Duration>) -> Option<bool> {
        let ratio = self
            .goal
            .map(|goal| self.ratio().is_some_and(|ratio| ratio <= goal));
        let trips = self
            .trips_goal
            .map(|goal| self.trips(rtt).is_some_and(|trips| trips <= goal));
        match (ratio, trips) {
            (Some(ratio), Some(trips)) => Some(ratio && trips),
            (one, other) => one.or(other),
        }
    }

    fn json(&self, rtt: Option<Duration>) -> Value {
        json!({
            "name": self.name,
            "unit": "ms",
            "p50": self.ours.p50(),
            "p99": self.ours.p99(),
            "round_trips": self.trips(rtt),
            "peer": self.peer.as_ref().map(|(name, peer)| {
                json!({"name": name, "p50": peer.p50(), "p99": peer.p99()})
            }),
            "ratio": self.ratio(),
            "goal": self.goal.map(|goal| json!({"ratio_at_most": goal})),
            "round_trips_at_most": self.trips_goal,
            "kept": self.is_kept(rtt),
        })
    }

    fn line(&self, rtt: Option<Duration>) -> String {
        let (p50, p99) = (self.ours.p50(), self.ours.p99());
        let mut line = format!("{:<16}{p50:>10.1}{p99:>10.1}", self.name);
        // Writing to a string cannot fail.
        let _ = self
            .trips(rtt)
            .map(|trips| write!(line, "   {trips:.1} round trips"));
        let _ = self
            .trips_goal
            .map(|goal| write!(line, " (goal ≤ {goal:.0})"));
        let _ = match (&self.peer, self.ratio()) {
            (Some((name, peer)), Some(ratio)) => {
                let (p50, p99) = (peer.p50(), peer.p99());
                write!(line, "   {name}: {p50:.1} / {p99:.1}, ratio {ratio:.2}")
            }
            (_, _) => Ok(()),
        };
        let _ = self.goal.map(|goal| write!(line, " (goal ≤ {goal:.2})"));
        line.push_str(match self.is_kept(rtt) {
            Some(true) => ": kept",
            Some(false) => ": MISSED",
            None => "   no goal",
        });
        line
    }
}

pub(crate) fn command(mut arguments: Arguments) -> Result<(), ChoreError> {
    let which = arguments.word();
    if which.as_deref() == Some("broker") {
        return bench_broker::command(arguments);
    }
    let (as_json, check) = (arguments.flag("--json"), arguments.flag("--check"));
    let quick = arguments.flag("--quick");
    let only = arguments.text("--only")?;
    let runs = arguments.number("--runs")?;
    let rtt = arguments.millis("--rtt")?;
    let requests = arguments.number("--requests")?.unwrap_or(1000).max(1);
    arguments.none_left()?;
    if which.as_deref() == Some("proxy") {
        return bench_proxy::command(runs, quick, only.as_deref(), as_json, check);
    }
    if quick || only.is_some() {
        return Err(ChoreError::Usage(
            "`--quick` and `--only` are of `bench proxy`".to_owned(),
        ));
    }
    let runs = runs.unwrap_or(50).max(1);
    let report = match which.as_deref() {
        Some("connect") => bench_connect::measure(runs, rtt)?,
        Some("registry") => return bench_registry::command(requests, as_json),
        Some(other) => return Err(ChoreError::Usage(format!("no bench `{other}`"))),
        None => {
            return Err(ChoreError::Usage(
                "which bench? `connect`, `registry`, `broker` or `proxy`".to_owned(),
            ));
        }
    };
    if as_json {
        let figures: Vec<_> = report
            .figures
            .iter()
            .map(|figure| figure.json(report.rtt))
            .collect();
        println!(
            "{}",
            json!({"about": report.about, "runs": report.runs, "figures": figures})
        );
    } else {
        println!(
            "{}, {} runs, interleaved; milliseconds",
            report.about, report.runs
        );
        println!("{:<16}{:>10}{:>10}", "", "p50", "p99");
        report
            .figures
            .iter()
            .for_each(|figure| println!("{}", figure.line(report.rtt)));
    }
    let figures = report.figures.iter();
    let missed = figures.filter(|figure| figure.is_kept(report.rtt) == Some(false));
    goals(missed.map(|figure| figure.name.as_str()), check)
}
