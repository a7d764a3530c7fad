//! Figures of both brokers, each beside its goal.

use serde_json::{Value, json};

/// One figure of both brokers.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: f64,
    pub(crate) peer: Option<f64>,
    /// What the ratio, ours to the peer's, may be at most.
    pub(crate) goal: Option<f64>,
}

impl Row {
    pub(crate) fn new(name: &str, ours: f64, peer: f64, goal: Option<f64>) -> Self {
        Self {
            name: name.to_owned(),
            ours,
            peer: Some(peer),
            goal,
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer
            .filter(|peer| *peer > 0.0)
            .map(|peer| self.ours / peer)
    }

    pub(crate) fn is_kept(&self) -> Option<bool> {
        let goal = self.goal?;
        Some(self.ratio().is_some_and(|ratio| ratio <= goal))
    }

    fn line(&self) -> String {
        let peer = self
            .peer
            .map_or_else(String::new, |peer| format!("{peer:.1}"));
        let ratio = self
            .ratio()
            .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let goal = match (self.goal, self.is_kept()) {
            (Some(goal), Some(true)) => format!("≤ {goal:.2}: kept"),
            (Some(goal), _) => format!("≤ {goal:.2}: MISSED"),
            (None, _) => String::new(),
        };
        format!(
            "{:<52}{:>12.1}{peer:>12}{ratio:>8}   {goal}",
            self.name, self.ours
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({"name": self.name, "ours": self.ours, "mosquitto": self.peer, "ratio": self.ratio(),
               "goal": self.goal, "kept": self.is_kept()})
    }
}

/// What has been measured so far; each line is printed as soon as it is there, unless all are wanted as JSON.
pub(crate) struct Rows {
    pub(crate) as_json: bool,
    pub(crate) rows: Vec<Row>,
}

impl Rows {
    pub(crate) fn push(&mut self, row: Row) {
        if !self.as_json {
            println!("{}", row.line());
        }
        self.rows.push(row);
    }
}
