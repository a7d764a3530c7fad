//! What daemons write to the journal of their service supervisor, and to others.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::{CEILING, World, wait_until};

/// A daemon whose standard error is a file that stands for the journal; the file's text when it has a line with `word`.
fn lines(command: &mut Command, file: &Path, word: &str, is_journal: bool) -> Vec<String> {
    let log = File::create(file).unwrap();
    let stamp = log.metadata().unwrap();
    let inode = stamp.ino() + u64::from(!is_journal);
    let child = command
        .env("JOURNAL_STREAM", format!("{}:{inode}", stamp.dev()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let _ended = Ended(child);
    let text = wait_until(word, CEILING, || {
        let text = fs::read_to_string(file).unwrap();
        if text.contains(word) {
            Ok(text)
        } else {
            Err(text)
        }
    });
    text.lines().map(str::to_owned).collect()
}

/// Ends a child with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_line_in_the_journal_has_its_priority_and_no_second_time() {
    let world = World::new();
    let device = {
        let _serve = world.serve();
        world.enroll("hula", "333")
    };
    let realm = world.realm();
    let part = |words: &[&str]| {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(&realm);
        command
    };
    let file = world.path("journal");
    for (mut command, word) in [
        (
            world.tunnel_as(&device, &["agent"]),
            "offline; trying again",
        ),
        (part(&["serve"]), "the broker listens"),
        (part(&["broker"]), "the broker listens"),
        (part(&["proxy", "-v"]), "keys"),
        (
            part(&["signer", "run", "--metrics", "127.0.0.1:0"]),
            "the monitor listens",
        ),
    ] {
        for line in lines(&mut command, &file, word, true) {
            let plain = ["<3>", "<4>", "<6>", "<7>"]
                .iter()
                .any(|priority| line.starts_with(priority));
            // The level comes first: the journal has the time.
            let rest = line.get(3..).unwrap_or_default().trim_start();
            let level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
                .iter()
                .any(|level| rest.starts_with(level));
            assert!(plain && level && !line.contains('\u{1b}'), "{line}");
            let warns = line.contains(" WARN ");
            assert_eq!(warns, line.starts_with("<4>"), "{line}");
        }
        command.args(["--log-format", "json"]);
        for line in lines(&mut command, &file, word, true) {
            let (priority, json) = line.split_once('>').unwrap();
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert!(
                priority.starts_with('<') && json.get("timestamp").is_none(),
                "{line}"
            );
            assert!(
                json.get("level").is_some() && json.get("message").is_some(),
                "{line}"
            );
        }
        // What is started from a service and writes elsewhere is in no journal.
        for line in lines(&mut command, &file, word, false) {
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(json.get("timestamp").is_some(), "{line}");
        }
    }
}
