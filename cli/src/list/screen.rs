//! A terminal's alternate screen, which is given back as it was.

use std::io;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

/// The alternate screen, until it is dropped.
pub(crate) struct Screen {
    /// How the terminal was set; `None` when standard input is something else.
    before: Option<Termios>,
}

impl Screen {
    /// Begins to show it. What is typed is not echoed, and Ctrl-Z does nothing, since it would leave the shell on this screen.
    pub(crate) fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            quiet.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
            // With echo it is only less tidy.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &quiet);
        }
        let screen = Self { before };
        write(ENTER)?;
        Ok(screen)
    }

    /// Columns and lines; those of an old terminal, where nobody knows.
    pub(crate) fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            Ok(_) | Err(_) => (80, 24),
        }
    }

    /// Shows these lines and nothing else, all at once: what stays is written over with itself, so that nothing flickers.
    pub(crate) fn show(lines: &[String]) -> io::Result<()> {
        let mut frame = String::from(BEGIN_FRAME);
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            frame.push_str(CLEAR_LINE);
        }
        frame.push_str(END_FRAME);
        write(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    // Past the standard library's buffer, which would cut a frame at its last line end.
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// The alternate screen, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";

/// The cursor, and the screen as it was.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// Shown at once by terminals that can (mode 2026), from the upper left corner.
const BEGIN_FRAME: &str = "\u{1b}[?2026h\u{1b}[H";

/// The rest of the line is empty.
const CLEAR_LINE: &str = "\u{1b}[K";

/// The rest of the screen is empty.
const END_FRAME: &str = "\u{1b}[J\u{1b}[?2026l";

/// `_POSIX_VDISABLE` of Linux and the BSDs alike is 0 or 255; where it is the other one, Ctrl-Z does what it always does.
const DISABLED: u8 = 0;
