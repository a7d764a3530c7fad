//! What a page says is to be typed.

use std::fs;
use std::path::{Path, PathBuf};

/// A page, read.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where another page has to have ended before this one begins.
    pub(crate) after: Option<String>,
    pub(crate) blocks: Vec<Block>,
}

/// A block between fences.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of its first fence, for messages.
    pub(crate) line: usize,
    /// The word behind the fence.
    pub(crate) kind: String,
    /// Why it is not run.
    pub(crate) not_run: Option<String>,
    /// The exit code of its last command.
    pub(crate) code: i32,
    pub(crate) commands: Vec<Typed>,
}

/// A command, and what is shown below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// The word before the `$` or `#`; empty for none.
    pub(crate) computer: String,
    pub(crate) command: String,
    pub(crate) shown: Vec<String>,
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Page {
    #[track_caller]
    pub(crate) fn read(page: &str) -> Self {
        let text = fs::read_to_string(root().join(page));
        Self::parse(&text.unwrap_or_else(|error| panic!("{page}: {error}")))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self {
            after: None,
            blocks: Vec::new(),
        };
        let (mut not_run, mut code) = (None, 0);
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            if let Some(note) = note(line, "after") {
                page.after = Some(note);
            } else if let Some(note) = note(line, "not run") {
                not_run = Some(note);
            } else if let Some(note) = note(line, "exits with") {
                code = note.parse().unwrap();
            } else if let Some(kind) = line.trim_start().strip_prefix("```") {
                let inside = lines.by_ref().map(|(_, line)| line);
                let inside: Vec<&str> = inside.take_while(|line| line.trim() != "```").collect();
                page.blocks.push(Block {
                    line: index + 1,
                    kind: kind.to_owned(),
                    not_run: not_run.take(),
                    code: std::mem::take(&mut code),
                    commands: typed(&inside),
                });
            } else if !line.trim().is_empty() {
                // A note is about the block right below it.
                (not_run, code) = (None, 0);
            }
        }
        page
    }
}

fn note(line: &str, name: &str) -> Option<String> {
    let inner = line.trim().strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    let rest = inner.strip_prefix(name)?;
    Some(rest.trim_start_matches(':').trim().to_owned())
}

fn typed(lines: &[&str]) -> Vec<Typed> {
    let mut commands: Vec<Typed> = Vec::new();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        let Some((computer, command)) = prompted(line) else {
            if let Some(last) = commands.last_mut() {
                last.shown.push((*line).to_owned());
            }
            continue;
        };
        let mut command = command.to_owned();
        let end = command
            .split_once("<<")
            .map(|(_, end)| end.trim_matches(['-', '\'', '"', ' ']).to_owned());
        while command.ends_with('\\') || end.as_deref().is_some_and(|end| !closed(&command, end)) {
            let Some(line) = lines.next() else { break };
            command.push('\n');
            command.push_str(line);
        }
        commands.push(Typed {
            computer: computer.to_owned(),
            command,
            shown: Vec::new(),
        });
    }
    commands
}

fn closed(command: &str, end: &str) -> bool {
    command.lines().skip(1).any(|line| line == end)
}

fn prompted(line: &str) -> Option<(&str, &str)> {
    let end = line.find(['$', '#'])?;
    let (computer, rest) = line.split_at(end);
    let is_name = computer
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    Some((computer, rest[1..].strip_prefix(' ')?)).filter(|_| is_name)
}

#[test]
fn a_page_is_its_commands_and_what_they_say() {
    let page = Page::parse(
        "<!-- after: README.md -->\n```console\nlaptop$ a \\\n  b\none\n  $ two\nremote# cat <<'E'\nx\nE\n```\n\
         <!-- not run: it cannot -->\n\n```console\n$ c\n```\n<!-- not run: no block -->\ntext\n```toml\na = 1\n```\n\
         <!-- exits with 78 -->\n```console\n$ d\n```\n",
    );
    assert_eq!(page.after.as_deref(), Some("README.md"));
    let first = &page.blocks[0].commands;
    assert_eq!(
        (first[0].computer.as_str(), first[0].command.as_str()),
        ("laptop", "a \\\n  b")
    );
    assert_eq!(first[0].shown, ["one", "  $ two"]);
    assert_eq!(
        (first[1].computer.as_str(), first[1].command.as_str()),
        ("remote", "cat <<'E'\nx\nE")
    );
    assert_eq!(page.blocks[1].not_run.as_deref(), Some("it cannot"));
    assert_eq!(
        (
            page.blocks[2].kind.as_str(),
            page.blocks[2].not_run.as_deref()
        ),
        ("toml", None)
    );
    assert_eq!((page.blocks[1].code, page.blocks[3].code), (0, 78));
}
