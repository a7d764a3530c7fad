//! Every `--help`, as it is shown: one file a command in `cli/src/arguments/snapshots`.
//!
//! A command that is new or has changed is written by `INSTA_UPDATE=always cargo nextest run -p cli help`, and the
//! difference is reviewed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Arguments;

#[test]
fn every_help_is_as_it_was_reviewed() {
    let mut command = Arguments::command().term_width(100);
    command.build();
    let mut named = BTreeSet::new();
    look(&mut command, "tunnel", &mut named);
    assert!(named.len() > 20, "{named:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/arguments/snapshots");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "snap"))
        .collect();
    assert_eq!(
        files, named,
        "a file of a command that is gone, or none of one that is there"
    );
}

fn look(command: &mut Command, name: &str, named: &mut BTreeSet<String>) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, command.render_long_help().to_string()));
    named.insert(format!("{name}.snap"));
    for part in command.get_subcommands_mut() {
        if !part.is_hide_set() && part.get_name() != "help" {
            let name = format!("{name}-{}", part.get_name());
            look(part, &name, named);
        }
    }
}
