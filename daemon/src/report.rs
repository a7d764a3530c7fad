//! Errors as people read them: `error:` what was attempted, `caused by:` once each, `hint:` what to do next.

use std::error::Error;
use std::fmt;

/// Prints an error, its causes and a hint, each on lines of their own.
///
/// Some libraries repeat their source in their own text; a cause with which its parent's text already ends is left out,
/// so that nothing is said twice.
pub struct Report<'a> {
    error: &'a dyn Error,
    hint: Option<&'a str>,
}

impl<'a> Report<'a> {
    /// A report of this error.
    pub fn new(error: &'a dyn Error, hint: Option<&'a str>) -> Self {
        Self { error, hint }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.error.to_string();
        write!(f, "error: {}", printable(&said))?;
        for cause in causes(self.error) {
            let text = cause.to_string();
            if !text.is_empty() && !said.ends_with(&text) {
                write!(
                    f,
                    "\ncaused by: {}",
                    printable(text.trim_end()).replace('\n', "\n  ")
                )?;
            }
            said = text;
        }
        if let Some(hint) = self.hint {
            write!(f, "\nhint: {}", printable(hint))?;
        }
        Ok(())
    }
}

/// An error and all its causes on one line, for logs and notes.
pub fn one_line(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut line = said.clone();
    for cause in causes(error) {
        let text = cause.to_string();
        if !text.is_empty() && !said.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        said = text;
    }
    printable(&line).replace('\n', " ")
}

fn causes(error: &dyn Error) -> impl Iterator<Item = &dyn Error> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// A text of which parts may come from a stranger, as a terminal may get it: its lines, and in them nothing that moves, hides or
/// turns round what is read.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        c if c.is_control() || is_invisible(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Whether a character has no width, or turns the direction of a text (Unicode, annex 9).
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the tunnel")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("I/O: {0}")]
    struct Middle(#[source] std::io::Error);

    fn error() -> Outer {
        Outer(Middle(std::io::Error::other("no route\u{1b}[2J")))
    }

    #[test]
    fn each_cause_is_told_once() {
        let report = Report::new(&error(), Some("plug it in")).to_string();
        assert_eq!(
            report,
            "error: cannot open the tunnel\ncaused by: I/O: no route\u{fffd}[2J\nhint: plug it in"
        );
        assert_eq!(
            one_line(&error()),
            "cannot open the tunnel: I/O: no route\u{fffd}[2J"
        );
        assert_eq!(
            printable("a\u{202e}b\u{9b}\n\u{e9}"),
            "a\u{fffd}b\u{fffd}\n\u{e9}"
        );
    }
}
