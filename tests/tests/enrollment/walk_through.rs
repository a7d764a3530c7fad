//! `docs/enrollment.md`, typed as it stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, Daemon, World, run, tool};

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
        assert_eq!(words[0], "sh", "a block of another kind: {info}");
        blocks.push(Block {
            person: words[1].to_owned(),
            background: words.get(2) == Some(&"background"),
            text: text.join("\n"),
        });
    }
    blocks
}

#[test]
fn every_command_of_the_page_works() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/enrollment.md");
    let blocks = blocks(&fs::read_to_string(page).unwrap());
    assert_eq!(blocks.len(), 11);
    // Only its ports and its programs' environment are used.
    let world = World::new();
    let programs = world.path("programs");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(e2e::tunnel_binary(), programs.join("tunnel")).unwrap();
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
        let text = block.text.replace("--proxy proxy.example.org", &here);
        let mut shell = Command::new(tool("bash"));
        world.mark(&mut shell);
        shell.env("PATH", &path).current_dir(&place);
        if block.background {
            // The shell becomes the program, so that the end of one is the end of both.
            shell.args(["-ec", &format!("exec {text}")]);
            let name = format!("walk-{}", running.len());
            let mut daemon = world.daemon(&name, &mut shell);
            if text.contains("serve") {
                daemon.wait_for_line("ready");
            }
            running.push(daemon);
        } else {
            shell.args(["-ec", &text]);
            let outcome = run(&mut shell, CEILING);
            assert_eq!(outcome.code, Some(0), "{text}\n{}", outcome.report());
        }
    }
    let certificate = world.path("system-admin/333-new/333.hula.atlas.x509.cert");
    assert!(certificate.exists());
    while let Some(daemon) = running.pop() {
        drop(daemon);
    }
}
