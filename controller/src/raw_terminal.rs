//! The terminal that a person sits at, while what is typed goes to another computer as it is.

use std::io;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode. Dropping it gives it back as it was.
pub(crate) struct RawTerminal(Termios);

impl RawTerminal {
    /// Takes the terminal of standard input, if it is one.
    pub(crate) fn take() -> Option<Self> {
        let input = io::stdin();
        if !isatty(&input) {
            return None;
        }
        let before = tcgetattr(&input).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }

    /// Columns and rows; none where there is no terminal.
    pub(crate) fn size() -> (u32, u32) {
        match tcgetwinsize(io::stdin()) {
            Ok(size) => (size.ws_col.into(), size.ws_row.into()),
            Err(_) => (0, 0),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // There is nobody to tell that it failed.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
