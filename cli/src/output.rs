//! What is printed: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};

/// A line of a command's result. A reader that has gone away, such as `head`, is no error.
pub(crate) fn line(text: impl Display) {
    let _ = try_line(text);
}

/// Like [`line`], for whoever would go on for ever.
pub(crate) fn try_line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    // Flushed line by line: a script may wait for one.
    writeln!(out, "{text}")?;
    out.flush()
}

/// A line for the person.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes the last line of a terminal anew, without an end: the next one takes its place.
#[cfg(feature = "controller")]
pub(crate) fn rewrite(text: impl Display) {
    let mut err = io::stderr().lock();
    let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
}

/// An error, its causes and its hint.
pub(crate) fn error(report: &str) {
    note(report);
}
