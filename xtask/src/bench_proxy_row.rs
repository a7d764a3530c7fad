//! One figure of the proxy's bench beside its goal, and beside its peer's from the same run.

use serde_json::{Value, json};

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    /// The peer's figure from the same rounds: OpenSSH's, if the name says nothing else.
    pub(crate) peer: Option<f64>,
    pub(crate) goal: Option<Goal>,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Ours at most.
    AtMost(f64),
    /// Ours to the peer's at most.
    RatioAtMost(f64),
    /// Ours to the peer's at least.
    RatioAtLeast(f64),
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            ours,
            peer: None,
            goal: None,
        }
    }

    pub(crate) fn beside(self, peer: f64) -> Self {
        Self {
            peer: Some(peer),
            ..self
        }
    }

    pub(crate) fn goal(self, goal: Goal) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.ours / peer)
    }

    /// Whether the goal is kept; a figure that could not be measured does not keep it.
    pub(crate) fn is_kept(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        self.goal.map(|goal| match goal {
            Goal::AtMost(most) => self.ours <= most,
            Goal::RatioAtMost(most) => ratio <= most,
            Goal::RatioAtLeast(least) => ratio >= least,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": self.ratio(),
            "goal": self.goal.map(|goal| match goal {
                Goal::AtMost(most) => json!({"at_most": most}),
                Goal::RatioAtMost(most) => json!({"ratio_at_most": most}),
                Goal::RatioAtLeast(least) => json!({"ratio_at_least": least}),
            }),
            "kept": self.is_kept(),
        })
    }

    /// The figure as a line of the table.
    pub(crate) fn line(&self) -> String {
        let number = |number: Option<f64>| number.map_or_else(String::new, |n| format!("{n:.2}"));
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(most)) => format!("≤ {most}"),
            Some(Goal::RatioAtMost(most)) => format!("ratio ≤ {most}"),
            Some(Goal::RatioAtLeast(least)) => format!("ratio ≥ {least}"),
        };
        let kept = match self.is_kept() {
            None => "",
            Some(true) => "kept",
            Some(false) => "MISSED",
        };
        let cells = [
            format!("{:<44}", self.name),
            format!("{:<9}", self.unit),
            format!("{:>9.2}", self.ours),
            format!("{:>9}", number(self.peer)),
            format!("{:>7}", number(self.ratio())),
            format!("{goal:<12}"),
            kept.to_owned(),
        ];
        cells.join(" | ")
    }
}

/// The head of the table.
pub(crate) fn head() -> String {
    format!(
        "{:<44} | {:<9} | {:>9} | {:>9} | {:>7} | {:<12} |",
        "", "unit", "ours", "peer", "ratio", "goal"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_about_the_figure_or_about_the_ratio() {
        let row = || Row::new("x", "MB/s", 300.0).beside(200.0);
        let kept = |goal| row().goal(goal).is_kept().unwrap();
        assert!(kept(Goal::RatioAtLeast(1.5)) && !kept(Goal::RatioAtLeast(1.6)));
        assert!(kept(Goal::RatioAtMost(1.5)) && !kept(Goal::RatioAtMost(1.4)));
        assert!(kept(Goal::AtMost(300.0)) && !kept(Goal::AtMost(299.0)));
        assert!(row().is_kept().is_none());
    }

    #[test]
    fn what_was_not_measured_keeps_no_goal() {
        let unmeasured = Row::new("x", "ms", f64::NAN);
        assert_eq!(unmeasured.goal(Goal::AtMost(1.0)).is_kept(), Some(false));
        let alone = Row::new("x", "ms", 1.0).goal(Goal::RatioAtMost(2.0));
        assert_eq!(alone.is_kept(), Some(false));
        assert!(alone.line().ends_with("MISSED"), "{}", alone.line());
    }
}
