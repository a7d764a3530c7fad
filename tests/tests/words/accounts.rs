//! What is said of accounts that are not as they should be, and to whoever is not root. The accounts are those of a computer
//! of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{World, tool};

use super::book::Book;
use super::breaking::Break;
use super::errors::settings;
use crate::enrollment::House;

#[test]
fn accounts_that_are_not_as_they_should_be() {
    let world = World::new();
    let device = world.enroll_alone("hula", "333");
    let house = House::new(&world);
    let mut book = Book::of(&world);
    let realm = world.realm().display().to_string();
    let typed = |words: &[&str]| {
        let mut command = house.inside(&world, e2e::tunnel_binary());
        command.args(words);
        command
    };
    let sync = ["proxy", "sync", "--openssh", "--dir", &realm];
    let add = ["proxy", "add-system", "hula"];
    book.run("a system without an account", &sync, &mut typed(&sync));
    let settings_of_sshd = world.path("etc/ssh/sshd_config.d");
    if settings_of_sshd.exists() {
        fs::remove_dir_all(settings_of_sshd).unwrap();
    }
    book.run("no place for sshd's settings", &add, &mut typed(&add));
    book.run("a system without ports", &sync, &mut typed(&sync));
    let ports = "[ports]\nhula = { start = 61000, end = 61999 }\n";
    let _ports = Break::append(&world.realm().join("realm.toml"), ports);
    let keys = world.path("homes/hula/.ssh");
    fs::remove_dir_all(&keys).unwrap();
    fs::write(&keys, "").unwrap();
    book.run("a file for a folder", &sync, &mut typed(&sync));

    let nobody = |words: &[&str]| {
        let mut command = house.inside(&world, &tool("setpriv"));
        // Whoever may read and run everything finds the program, wherever it was built.
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(["--inh-caps", "+dac_override"])
            .args(["--ambient-caps", "+dac_override", "--"])
            .arg(e2e::tunnel_binary())
            .args(words)
            .env_remove("HOME")
            .env_remove("XDG_CONFIG_HOME");
        command
    };
    let dir = device.dir().display().to_string();
    for (what, words) in [
        ("not root", &add[..]),
        (
            "not root",
            &["agent", "install", "hula", "333", "--root", "/mnt"],
        ),
        (
            "not root, and not the user",
            &["--dir", &dir, "agent", "sync-keys", "--user", "hula"],
        ),
        ("no home", &["list"]),
    ] {
        book.run(what, words, &mut nobody(words));
    }
    // Whoever runs this is root, and which number is free depends on the computer.
    let text = of_root(&book.text());
    let (before, id) = text.split_once("user id ").unwrap();
    let after = id.trim_start_matches(|c: char| c.is_ascii_digit());
    let text = format!("{before}user id N{after}");
    settings().bind(|| insta::assert_snapshot!("accounts", text));
}

#[test]
fn an_agent_that_a_package_has_installed() {
    let world = World::new();
    let mut book = Book::of(&world);
    let root = world.path("system");
    let unit = root.join("usr/lib/systemd/system/tunnel-agent.service");
    fs::create_dir_all(unit.parent().unwrap_or(Path::new("/"))).unwrap();
    fs::write(unit, "").unwrap();
    let mut uninstall: Command = world.tunnel();
    uninstall.args(["agent", "uninstall", "--root"]).arg(&root);
    book.with("a package's", Break::nothing(), &mut uninstall);
    let text = of_root(&book.text());
    settings().bind(|| insta::assert_snapshot!("an-agent-of-a-package", text));
}

/// The text of a book of root's, where root is meant.
fn of_root(text: &str) -> String {
    text.replace("only you", "only root")
        .replace("--you", "--root")
}
