//! The commands of docs/installing.md, typed on a machine.

use std::collections::VecDeque;
use std::path::Path;

use e2e::{CEILING, Machine, Outcome};

use crate::docs::block::Page;

/// What a block of the page says is to be typed, line by line.
pub(super) struct Guide(VecDeque<String>);

impl Guide {
    /// The first block for this computer.
    #[track_caller]
    pub(super) fn of(computer: &str) -> Self {
        Self::blocks(computer).remove(0)
    }

    /// All blocks for this computer.
    #[track_caller]
    pub(super) fn blocks(computer: &str) -> Vec<Self> {
        let blocks = Page::read("docs/installing.md").blocks.into_iter();
        let blocks = blocks.filter(|block| {
            block
                .commands
                .iter()
                .any(|typed| typed.computer == computer)
        });
        blocks
            .map(|block| {
                Self(
                    block
                        .commands
                        .into_iter()
                        .map(|typed| typed.command)
                        .collect(),
                )
            })
            .collect()
    }

    /// How many blocks there are.
    #[track_caller]
    pub(super) fn count() -> usize {
        let page = Page::read("docs/installing.md");
        let console = page.blocks.iter().filter(|block| block.kind == "console");
        console.count()
    }

    /// Takes out the next line, which the test does in its own way.
    #[track_caller]
    pub(super) fn next(&mut self) -> String {
        self.0.pop_front().unwrap()
    }

    /// With something else in place of a name that no test has.
    #[track_caller]
    pub(super) fn with(mut self, name: &str, other: &str) -> Self {
        assert!(self.0.iter().any(|line| line.contains(name)), "{name}");
        for line in &mut self.0 {
            *line = line.replace(name, other);
        }
        self
    }

    /// Types what is left, in one shell that begins in this folder.
    #[track_caller]
    pub(super) fn type_in(self, machine: &Machine, folder: &Path) -> Outcome {
        let lines = Vec::from(self.0).join("\n");
        let shell = format!("set -e; cd {}\n{lines}", folder.display());
        machine
            .run_within(CEILING * 2, ["sh", "-c", &shell])
            .success()
    }
}
