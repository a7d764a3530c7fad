//! `cargo xtask bench`: figures, each beside its goal and beside its peer's from the same run.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::percentile::Samples;
use crate::step::ChoreError;
use crate::{bench_broker, bench_connect, bench_registry};

/// What a bench has measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// One line that says what was measured and how.
    pub(crate) about: String,
    /// The number of runs.
    pub(crate) runs: usize,
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
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.peer
            .as_ref()
            .map(|(_, peer)| self.ours.p50() / peer.p50())
    }

    /// Whether the goal is kept; a figure that could not be measured does not keep it.
    fn is_kept(&self) -> Option<bool> {
        let goal = self.goal?;
        Some(self.ratio().is_some_and(|ratio| ratio <= goal))
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": "ms",
            "p50": self.ours.p50(),
            "p99": self.ours.p99(),
            "peer": self.peer.as_ref().map(|(name, peer)| {
                json!({"name": name, "p50": peer.p50(), "p99": peer.p99()})
            }),
            "ratio": self.ratio(),
            "goal": self.goal.map(|goal| json!({"ratio_at_most": goal})),
            "kept": self.is_kept(),
        })
    }

    fn line(&self) -> String {
        let (p50, p99) = (self.ours.p50(), self.ours.p99());
        let mut line = format!("{:<16}{p50:>10.1}{p99:>10.1}", self.name);
        // Writing to a string cannot fail.
        let _ = match (&self.peer, self.ratio()) {
            (Some((name, peer)), Some(ratio)) => {
                let (p50, p99) = (peer.p50(), peer.p99());
                write!(line, "   {name}: {p50:.1} / {p99:.1}, ratio {ratio:.2}")
            }
            (_, _) => Ok(()),
        };
        let _ = match (self.goal, self.is_kept()) {
            (Some(goal), Some(true)) => write!(line, ", goal ≤ {goal:.2}: kept"),
            (Some(goal), _) => write!(line, ", goal ≤ {goal:.2}: MISSED"),
            (None, _) => write!(line, "   no goal"),
        };
        line
    }
}

pub(crate) fn command(mut arguments: Arguments) -> Result<(), ChoreError> {
    let which = arguments.word();
    if which.as_deref() == Some("broker") {
        return bench_broker::command(arguments);
    }
    let (as_json, check) = (arguments.flag("--json"), arguments.flag("--check"));
    let runs = arguments.number("--runs")?.unwrap_or(50).max(1);
    let requests = arguments.number("--requests")?.unwrap_or(1000).max(1);
    arguments.none_left()?;
    let report = match which.as_deref() {
        Some("connect") => bench_connect::measure(runs)?,
        Some("registry") => return bench_registry::command(requests, as_json),
        Some(other) => return Err(ChoreError::Usage(format!("no bench `{other}`"))),
        None => {
            return Err(ChoreError::Usage(
                "which bench? `connect`, `registry` or `broker`".to_owned(),
            ));
        }
    };
    if as_json {
        let figures: Vec<_> = report.figures.iter().map(Figure::json).collect();
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
            .for_each(|figure| println!("{}", figure.line()));
    }
    let missed: Vec<_> = report
        .figures
        .iter()
        .filter(|figure| figure.is_kept() == Some(false))
        .map(|figure| figure.name.as_str())
        .collect();
    if check && !missed.is_empty() {
        return Err(ChoreError::GoalMissed(missed.join(", ")));
    }
    Ok(())
}
