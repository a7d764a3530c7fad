//! What was found of one leg of the way.

use std::error::Error;

use daemon::report::{Report, printable};
use serde::{Serialize, Serializer};

use crate::exit;
#[cfg(feature = "builtin-ssh")]
use crate::failure::Failure;

/// One leg.
#[derive(Debug, Serialize)]
pub(crate) struct Leg {
    /// Its name.
    #[serde(rename = "leg")]
    pub(crate) name: String,
    /// How it is.
    pub(crate) verdict: Verdict,
    /// How long looking took, in milliseconds; `None` where it was seen by the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ms: Option<f64>,
    /// What was found.
    pub(crate) found: String,
    /// Why it is so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// How a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Right.
    Ok,
    /// Right for now.
    Warning,
    /// Wrong; with the exit code for it.
    Error(u8),
    /// Not looked at: it needs another, or is not for this computer.
    Skipped,
}

impl Leg {
    pub(crate) fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, found)
    }

    pub(crate) fn warning(name: &str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warning, found).with_hint(Some(hint.into()))
    }

    pub(crate) fn skipped(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skipped, why)
    }

    /// A leg that is wrong in these words.
    pub(crate) fn wrong(
        name: &str,
        found: impl Into<String>,
        hint: impl Into<String>,
        code: u8,
    ) -> Self {
        Self::new(name, Verdict::Error(code), found).with_hint(Some(hint.into()))
    }

    /// A leg that failed with this error.
    pub(crate) fn error(name: &str, error: &dyn Error, hint: Option<String>, code: u8) -> Self {
        // As it is printed elsewhere: each cause once, and nothing that could hurt a terminal.
        let report = Report::new(error, None).to_string();
        let mut lines = report.split("\ncaused by: ");
        let found = lines.next().unwrap_or_default();
        let found = found.strip_prefix("error: ").unwrap_or(found);
        let mut leg = Self::new(name, Verdict::Error(code), found).with_hint(hint);
        leg.causes = lines.map(str::to_owned).collect();
        leg
    }

    /// A leg that is wrong in these words, because of this error.
    pub(crate) fn caused(
        name: &str,
        found: impl Into<String>,
        cause: &dyn Error,
        hint: impl Into<String>,
        code: u8,
    ) -> Self {
        let cause = Self::error(name, cause, None, code);
        let mut leg = Self::wrong(name, found, hint, code);
        leg.causes = [cause.found].into_iter().chain(cause.causes).collect();
        leg
    }

    /// A leg at which a command of this program would fail.
    #[cfg(feature = "builtin-ssh")]
    pub(crate) fn failed(name: &str, failure: &Failure) -> Self {
        let hint = failure.hint().map(str::to_owned);
        Self::error(name, failure.error(), hint, failure.code())
    }

    /// The same; but an error is only a warning where it does not matter yet.
    pub(crate) fn tolerated(mut self, may_fail: bool) -> Self {
        if may_fail && matches!(self.verdict, Verdict::Error(_)) {
            self.verdict = Verdict::Warning;
        }
        self
    }

    fn new(name: &str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            verdict,
            ms: None,
            // A device's version and a server's banner are in it.
            found: printable(&found.into()),
            causes: Vec::new(),
            hint: None,
        }
    }

    fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl Verdict {
    /// What it comes to: 2 is right, 1 a warning, 0 an error.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ok | Self::Skipped => 2,
            Self::Warning => 1,
            Self::Error(_) => 0,
        }
    }

    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok | Self::Skipped | Self::Warning => exit::OK,
            Self::Error(code) => code,
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error(_) => "error",
            Self::Skipped => "skipped",
        })
    }
}
