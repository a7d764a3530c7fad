//! The passphrase of an encrypted authority, asked for at a terminal and nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{CEILING, Terminal, World, run};

const GOOD: &str = "correct-horse-battery";

#[test]
fn a_passphrase_is_asked_at_a_terminal_and_not_shown() {
    let world = World::new();
    let realm = encrypted_realm(&world);
    let mut terminal = Terminal::start(&world, &sign(&world, &realm));
    terminal.wait_for(QUESTION);
    terminal.type_line(GOOD);
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.shown());
    assert!(!terminal.shown().contains(GOOD), "{}", terminal.shown());

    let mut terminal = Terminal::start(&world, &sign(&world, &realm));
    terminal.wait_for(QUESTION);
    terminal.type_line("wrong-horse-battery");
    assert_eq!(terminal.wait(), Some(78), "{}", terminal.shown());
    let shown = terminal.shown();
    assert!(shown.contains("the passphrase is wrong"), "{shown}");
    assert!(!shown.contains("wrong-horse-battery"), "{shown}");
    // Asked once: who wants to try again starts it again.
    assert_eq!(shown.matches(QUESTION).count(), 1, "{shown}");
}

#[test]
fn nobody_is_asked_without_a_terminal() {
    let world = World::new();
    let realm = encrypted_realm(&world);
    let outcome = run(&mut sign(&world, &realm), CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(!outcome.stderr.contains(QUESTION), "{}", outcome.report());
    assert!(
        outcome.lines("hint")[0].contains("TUNNEL_CA_PASSPHRASE_FILE"),
        "{}",
        outcome.report()
    );
    // Typed ahead into a pipe, it is not taken either.
    let typed = world.path("typed");
    std::fs::write(&typed, format!("{GOOD}\n")).unwrap();
    let outcome = world.run_from(&mut sign(&world, &realm), &typed, CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
}

/// Made at a terminal too, where what is typed is not shown either.
#[track_caller]
fn encrypted_realm(world: &World) -> PathBuf {
    let realm = world.path("encrypted");
    let mut init = world.tunnel();
    init.args(["realm", "init", "atlas", "--proxy", "127.0.0.1"])
        .args(["--encrypt-ca", "--dir"])
        .arg(&realm);
    let mut terminal = Terminal::start(world, &init);
    terminal.wait_for("New passphrase for the realm's authority");
    terminal.type_line(GOOD);
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.shown());
    assert!(!terminal.shown().contains(GOOD), "{}", terminal.shown());
    realm
}

fn sign(world: &World, realm: &Path) -> Command {
    let mut signer = world.tunnel();
    signer.args(["signer", "run", "--once", "--dir"]).arg(realm);
    signer
}

const QUESTION: &str = "Passphrase of the realm's authority";
