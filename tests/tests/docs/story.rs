//! A page from its first command to its last, on computers of its own.

use e2e::{CEILING, Daemon, run, wait_until};
use rustix::process::Signal;

use super::block::{Block, Page, Typed};
use super::shape::compare;
use super::town::Town;

/// Types a page, after the pages that it goes on from.
#[track_caller]
pub(super) fn tell(page: &str) {
    let mut pages = vec![page.to_owned()];
    let mut after = Page::read(page).after;
    while let Some(earlier) = after {
        after = Page::read(&earlier).after;
        assert!(!pages.contains(&earlier), "{pages:?} go round in a circle");
        pages.insert(0, earlier);
    }
    let mut story = Story {
        running: Vec::new(),
        town: Town::new(),
    };
    for page in pages {
        let mut typed = 0;
        for block in Page::read(&page).blocks {
            if block.kind == "console" && block.not_run.is_none() {
                story.block(&page, &block);
                typed += block.commands.len();
            }
        }
        assert!(typed > 0, "{page} has nothing to type");
    }
    while let Some(mut daemon) = story.running.pop() {
        daemon.signal(Signal::TERM);
        daemon.wait(CEILING);
    }
}

struct Story {
    // Dropped first.
    running: Vec<Daemon>,
    town: Town,
}

impl Story {
    #[track_caller]
    fn block(&mut self, page: &str, block: &Block) {
        for (index, typed) in block.commands.iter().enumerate() {
            let place = format!("{page}:{}: {}", block.line, typed.command);
            let last = index + 1 == block.commands.len();
            let code = if last { block.code } else { 0 };
            if typed.shown.last().is_some_and(|line| line == "^C") {
                self.until_interrupt(&place, typed);
            } else if let Some(word) = daemon_word(&typed.command) {
                self.daemon(&place, typed, word);
            } else {
                self.command(&place, typed, code);
            }
        }
    }

    #[track_caller]
    fn command(&mut self, place: &str, typed: &Typed, code: i32) {
        let line = as_built(&typed.command);
        let outcome = run(&mut self.town.shell(&typed.computer, &line), CEILING * 2);
        assert_eq!(outcome.code, Some(code), "{place}\n{}", outcome.report());
        if !typed.shown.is_empty() {
            // A page may leave out what goes to standard error.
            let all = format!("{}{}", outcome.stdout, outcome.stderr);
            compare(&typed.shown, &outcome.stdout)
                .or_else(|_| compare(&typed.shown, &all))
                .unwrap_or_else(|error| panic!("{place}\n{error}"));
        }
    }

    /// It goes on running.
    #[track_caller]
    fn daemon(&mut self, place: &str, typed: &Typed, word: &str) {
        let mut daemon = self.begin(typed);
        if !word.is_empty() {
            daemon.wait_for_line(word);
        }
        if !typed.shown.is_empty() {
            compare(&typed.shown, &daemon.stdout())
                .unwrap_or_else(|error| panic!("{place}\n{error}"));
        }
        let words = typed.command.trim_start_matches("sudo ").split_whitespace();
        if let Some(unit) = words.skip(1).find(|word| !word.starts_with('-')) {
            self.town.note_unit(&typed.computer, unit, daemon.pid());
        }
        self.running.push(daemon);
    }

    /// It runs until it has said what is shown, and Ctrl-C ends it.
    #[track_caller]
    fn until_interrupt(&mut self, place: &str, typed: &Typed) {
        let mut daemon = self.begin(typed);
        let shown = &typed.shown[..typed.shown.len() - 1];
        wait_until(place, CEILING, || {
            let said = daemon.stdout() + &daemon.stderr();
            if let Some(code) = daemon.has_ended() {
                panic!("{place}\nended by itself: {code}\n{said}");
            }
            compare(shown, &said)
        });
        daemon.signal(Signal::INT);
        daemon.wait(CEILING);
    }

    #[track_caller]
    fn begin(&mut self, typed: &Typed) -> Daemon {
        // The shell becomes the program, so that a signal to one is a signal to both.
        let line = format!(
            "exec {}",
            as_built(&typed.command).trim_start_matches("sudo ")
        );
        let mut shell = self.town.shell(&typed.computer, &line);
        let name = format!("story-{}", self.running.len());
        Daemon::start(&name, &mut shell, &self.town.world.logs())
    }
}

/// What a daemon says when it has begun, if this command is one.
fn daemon_word(command: &str) -> Option<&'static str> {
    let words: Vec<&str> = command
        .trim_start_matches("sudo ")
        .split_whitespace()
        .collect();
    let ends = ["--check", "--once", "--help", "--dry-run"];
    if words.iter().any(|word| ends.contains(word)) {
        return None;
    }
    match words[..] {
        ["tunnel", "serve" | "broker", ..]
        | ["tunnel", "signer", "run", ..]
        | ["tunnel", "proxy"]
        | ["tunnel", "proxy", "serve" | "--dir", ..] => Some("ready"),
        ["tunnel", "agent"] | ["tunnel", "agent", "--dir" | "-v", ..] => Some("online"),
        ["tunnel", ..] if words.contains(&"--every") => Some(""),
        _ => None,
    }
}

/// With the program that the tests have built.
fn as_built(command: &str) -> String {
    command.replace("cargo run --release -- ", "tunnel ")
}
