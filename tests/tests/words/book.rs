//! Commands and what they said, with what differs from run to run under fixed names.

use std::fmt::Write;
use std::process::Command;

use e2e::{CEILING, World, current_user, run};

pub(super) struct Book {
    text: String,
    names: Vec<(String, &'static str)>,
}

impl Book {
    pub(super) fn of(world: &World) -> Self {
        let names = vec![
            (world.folder().display().to_string(), "WORLD"),
            (format!(":{}", world.broker_port()), ":8883"),
            (format!(":{}", world.proxy_port()), ":2222"),
            (format!("port {}", world.broker_port()), "port 8883"),
            (format!("port {}", world.proxy_port()), "port 2222"),
            (current_user(), "you"),
        ];
        Self {
            text: String::new(),
            names,
        }
    }

    /// Runs a command, and writes down how it was typed, how it ended, and what it said.
    #[track_caller]
    pub(super) fn type_in(&mut self, command: &mut Command) {
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        let typed = words.join(" ");
        self.enter(&typed, command);
    }

    /// The same of a command that something else runs, such as a user of another computer, with what is the matter.
    #[track_caller]
    pub(super) fn run(&mut self, what: &str, words: &[&str], command: &mut Command) {
        let _ = writeln!(self.text, "# {what}");
        self.enter(&words.join(" "), command);
    }

    #[track_caller]
    fn enter(&mut self, typed: &str, command: &mut Command) {
        let outcome = run(command, CEILING);
        let code = outcome
            .code
            .map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        let said = outcome.stdout + &outcome.stderr;
        let entry = format!("$ tunnel {typed}\n{}\n[{code}]\n\n", said.trim_end());
        let entry = self.plain(&entry);
        let _ = write!(self.text, "{entry}");
    }

    /// Writes a line of its own.
    pub(super) fn write(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn text(self) -> String {
        self.text
    }

    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, fixed) in &self.names {
            text = text.replace(name, fixed);
        }
        let text: String = text
            .split_inclusive([' ', '\n', '`', '"', '<'])
            .map(word)
            .collect();
        text.split_inclusive('\n').map(measure).collect()
    }
}

/// How long something took, or lasts, is the same in every run too.
fn measure(line: &str) -> String {
    let mut line = line.to_owned();
    for unit in [" ms ", " days"] {
        if let Some((before, after)) = line.split_once(unit) {
            let rest = before.trim_end_matches(|c: char| c.is_ascii_digit());
            if rest.len() < before.len() {
                line = format!("{} N{unit}{after}", rest.trim_end());
            }
        }
    }
    line
}

/// A time, a serial number or a version is the same in every run.
fn word(word: &str) -> String {
    let end = word.len() - usize::from(word.ends_with([' ', '\n', '`', '"', '<']));
    let (body, rest) = word.split_at(end);
    let digits = body.chars().filter(char::is_ascii_digit).count();
    let is_hex = body.len() >= 16 && body.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    let is_date = digits >= 8 && body.starts_with("20") && body.contains('-');
    let is_fingerprint = body.starts_with("SHA256:");
    let is_clock = digits == 6 && body.len() >= 8 && body.matches(':').count() == 2;
    let fixed = if is_hex {
        "SERIAL"
    } else if is_date {
        "DATE"
    } else if is_clock {
        "TIME"
    } else if is_fingerprint {
        "FINGERPRINT"
    } else {
        body
    };
    format!("{fixed}{rest}")
}
