//! `docs/enrollment.md`, typed as it stands there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, Daemon, World, run, tool};

use super::house::House;

/// One block of commands: who types it, and whether it goes on running.
struct Block {
    person: String,
    background: bool,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let words: Vec<_> = info.split(' ').collect();
        // What a person is to type says who types it; the others are to be read.
        if words[0] != "sh" {
            continue;
        }
        blocks.push(Block {
            person: words[1].to_owned(),
            background: words.get(2) == Some(&"background"),
            text: text.join("\n"),
        });
    }
    blocks
}

/// The user of the remote computer for whom controllers log in.
const USER: &str = "atlas";

#[test]
fn every_command_of_the_page_works() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/enrollment.md");
    let blocks = blocks(&fs::read_to_string(page).unwrap());
    assert_eq!(blocks.len(), 14);
    let people: BTreeSet<&str> = blocks.iter().map(|block| block.person.as_str()).collect();
    let admins = BTreeSet::from(["realm-admin", "proxy-admin", "system-admin"]);
    assert_eq!(people, admins);
    // Only its ports and its programs' environment are used.
    let world = World::new();
    let house = House::new(&world);
    let mut useradd = house.inside(&world, Path::new("/usr/sbin/useradd"));
    useradd.args(["--create-home", "--password", "*", USER]);
    run(&mut useradd, CEILING).success();
    let programs = world.path("programs");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(e2e::tunnel_binary(), programs.join("tunnel")).unwrap();
    // Whoever runs the tests is root already.
    let sudo = programs.join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let here = format!(
        "--proxy 127.0.0.1 --listen 127.0.0.1 --broker-port {} --proxy-port {}",
        world.broker_port(),
        world.proxy_port()
    );
    let mut running: Vec<Daemon> = Vec::new();
    for block in blocks {
        let place = world.path(&block.person);
        fs::create_dir_all(&place).unwrap();
        let realm_file = world.path("realm-admin").join("atlas/realm.toml");
        if block.person == "system-admin" {
            fs::copy(realm_file, place.join("realm.toml")).unwrap();
        }
        if block.person == "proxy-admin" {
            let mut copy = Command::new(tool("cp"));
            copy.arg("-a")
                .arg(world.path("realm-admin/atlas"))
                .arg(&place);
            run(&mut copy, CEILING).success();
        }
        let text = block.text.replace("--proxy proxy.example.org", &here);
        let text = text.replace("USER", USER);
        let mut shell = house.inside(&world, &tool("bash"));
        shell.env("PATH", &path);
        if block.background {
            // The shell becomes the program, so that the end of one is the end of both.
            shell.args(["-ec", &format!("cd {}; exec {text}", place.display())]);
            let name = format!("walk-{}", running.len());
            let mut daemon = world.daemon(&name, &mut shell);
            if text.contains("serve") {
                daemon.wait_for_line("ready");
            }
            running.push(daemon);
        } else {
            shell.args(["-ec", &format!("cd {}\n{text}", place.display())]);
            let outcome = run(&mut shell, CEILING);
            assert_eq!(outcome.code, Some(0), "{text}\n{}", outcome.report());
        }
    }
    // What the proxy's admin and the system's have made.
    let passwd = fs::read_to_string(world.path("etc/passwd")).unwrap();
    assert!(passwd.contains("\nhula:"), "{passwd}");
    let keys = fs::read_to_string(house.home(USER).join(".ssh/authorized_keys")).unwrap();
    assert!(keys.contains("controller-me.hula.atlas"), "{keys}");
    let certificate = world.path("system-admin/333-new/333.hula.atlas.x509.cert");
    assert!(certificate.exists());
    while let Some(daemon) = running.pop() {
        drop(daemon);
    }
}
