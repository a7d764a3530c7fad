//! No page has a command that nobody has typed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::TOLD;
use super::block::{Page, root};

/// Every page for people: those at the root, and in `docs/`.
fn pages() -> Vec<String> {
    let mut pages = vec![
        "README.md".to_owned(),
        "SECURITY.md".to_owned(),
        "CONTRIBUTING.md".to_owned(),
    ];
    let mut docs: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    docs.sort();
    pages.append(&mut docs);
    pages
}

#[test]
fn every_page_with_commands_is_told() {
    let mut told = BTreeSet::new();
    for name in pages() {
        let page = Page::read(&name);
        let to_type = |kind: &str| kind == "console";
        let typed = page
            .blocks
            .iter()
            .any(|block| to_type(&block.kind) && block.not_run.is_none());
        if typed {
            told.insert(name.clone());
        }
        for block in &page.blocks {
            let place = format!("{name}:{}", block.line);
            match block.kind.split(' ').next().unwrap_or_default() {
                "console" => {
                    assert!(!block.commands.is_empty(), "{place}: no line has a prompt");
                }
                // Typed by `enrollment::walk_through`, which counts them.
                "sh" => assert_eq!(
                    name, "docs/enrollment.md",
                    "{place}: write `console`, with prompts"
                ),
                "toml" | "json" | "text" => {}
                "" => assert!(
                    block.not_run.is_some() || block.commands.is_empty(),
                    "{place}: a block of commands is `console`, and anything else is `text`"
                ),
                other => panic!("{place}: blocks of type `{other}` are not known to the tests"),
            }
        }
    }
    assert_eq!(told, TOLD.iter().map(|page| (*page).to_owned()).collect());
}

/// What is not run is known one by one: a reason, each.
#[test]
fn what_is_not_run_is_pinned() {
    let mut left = Vec::new();
    for name in pages() {
        for block in Page::read(&name).blocks {
            if let Some(reason) = block.not_run {
                assert!(
                    reason.len() > 10,
                    "{name}:{}: `{reason}` is no reason",
                    block.line
                );
                left.push(format!("{name}: {reason}"));
            }
        }
    }
    let expected = fs::read_to_string(root().join("tests/tests/docs/not-run.txt")).unwrap();
    assert_eq!(
        left,
        expected.lines().collect::<Vec<_>>(),
        "if it cannot be helped: tests/tests/docs/not-run.txt"
    );
}
