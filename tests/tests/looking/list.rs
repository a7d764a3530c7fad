//! The list of devices: once, and as a view that is kept up to date, read off a real terminal's screen.

use std::process::Command;

use e2e::{CEILING, Daemon, Outcome, Screen, current_user, tool, tunnel_binary, wait_until};
use serde_json::Value;

use crate::main_job::Job;

#[test]
fn the_list_says_who_is_connected_and_through_which_proxy() {
    let job = Job::start();
    let proxy = format!("127.0.0.1:{}", job.world.proxy_port());
    let entry = job.world.listed(&job.controller, &job.device).unwrap();
    assert_eq!(entry["proxy"], proxy.as_str(), "{entry}");
    assert_eq!(entry["controllers"], serde_json::json!([]), "{entry}");
    let second = job.second_controller();
    let session = job.world.daemon("connected", &mut job.connect("sleep 600"));
    let connected = |names: Value| {
        wait_until(&format!("{names} to be connected"), CEILING, || {
            let entry = job.world.listed(&second, &job.device)?;
            if entry["controllers"] == names {
                Ok(())
            } else {
                Err(entry.to_string())
            }
        });
    };
    connected(serde_json::json!(["controller-a"]));
    let other = job
        .world
        .daemon("other", &mut job.connect_as(&second, "sleep 600"));
    connected(serde_json::json!(["controller-a", "controller-b"]));
    let table = list(&job, &[]).success().stdout;
    assert!(
        table.contains("controller-a, controller-b") && table.contains(&proxy),
        "{table}"
    );
    session.kill();
    connected(serde_json::json!(["controller-b"]));
    other.terminate();
    connected(serde_json::json!([]));
}

#[test]
fn the_list_is_of_what_was_asked_for() {
    let job = Job::start();
    let barn = job.world.enroll("hula", "barn-7");
    barn.configure(&job.sshd, &[], crate::main_job::GRACE);
    let agent = job.world.agent(&barn);
    job.world.wait_for_presence(&job.controller, &barn, true);
    agent.terminate();
    job.world.wait_for_presence(&job.controller, &barn, false);
    let names = |words: &[&str]| -> Vec<String> {
        let mut all = vec!["--json"];
        all.extend(words);
        let devices: Vec<Value> = serde_json::from_str(&list(&job, &all).success().stdout).unwrap();
        devices
            .iter()
            .map(|entry| entry["device"].as_str().unwrap().to_owned())
            .collect()
    };
    let (number, barn) = ("333.hula.atlas", "barn-7.hula.atlas");
    assert_eq!(names(&[]), [number, barn]);
    assert_eq!(names(&["--online"]), [number]);
    assert_eq!(names(&["--offline"]), [barn]);
    assert_eq!(names(&["b?rn-*"]), [barn]);
    assert_eq!(names(&["*.hula.*", "--online"]), [number]);
    assert!(names(&["nothing*"]).is_empty());
    let none = list(&job, &["nothing*"]).success();
    assert!(
        none.stderr.contains("none of the 2 devices"),
        "{}",
        none.report()
    );
    assert_eq!(list(&job, &["--online", "--offline"]).code, Some(64));
    // To a file goes text and nothing else.
    let table = list(&job, &[]).success().stdout;
    assert!(
        !table.contains('\u{1b}') && table.starts_with("DEVICE"),
        "{table}"
    );
}

#[test]
fn the_live_view_follows_and_leaves_the_screen_as_it_was() {
    let mut job = Job::start();
    let screen = shell(&job, (110, 12));
    screen.type_text("echo be''fore; tunnel list --watch; echo code $?");
    screen.press("Enter");
    let shown = screen.wait_until("a whole picture", |shown| {
        shown.contains("1 of 1 online") && shown.contains("Ctrl-C ends")
    });
    assert!(screen.is_alternate() && !screen.has_cursor());
    assert!(
        !shown.contains("before") && shown.contains("333.hula.atlas  online"),
        "{shown}"
    );
    assert!(shown.contains("Ctrl-C ends"), "{shown}");
    assert!(
        screen.painted().contains("\u{1b}[32monline"),
        "{}",
        screen.painted()
    );
    // Typing leaves no trace on the picture.
    screen.type_text("xyzzy");

    // Whoever watches keeps nobody else of this computer waiting; and sees him.
    let mut session = job
        .world
        .daemon("connected", &mut job.connect("echo in; sleep 600"));
    session.wait_for_line("in");
    let shown = screen.wait_until("the controller", |shown| shown.contains("  controller-a"));
    assert!(!shown.contains("xyzzy"), "{shown}");
    session.kill();
    screen.wait_until("nobody", |shown| !shown.contains("  controller-a"));

    // One that is new, and one that goes.
    let barn = job.world.enroll("hula", "barn-7");
    barn.configure(&job.sshd, &[], crate::main_job::GRACE);
    let agent = job.world.agent(&barn);
    screen.wait_for("2 of 2 online");
    job.agent.take().unwrap().terminate();
    let shown = screen.wait_until("the one that went", |shown| {
        shown.contains("1 of 2 online") && shown.contains("333.hula.atlas     offline")
    });
    assert!(shown.contains("333.hula.atlas     offline"), "{shown}");
    agent.kill();
    screen.wait_for("barn-7.hula.atlas  offline  <");

    screen.press("C-c");
    let shown = screen.wait_for("code 0");
    assert!(!screen.is_alternate() && screen.has_cursor());
    assert!(
        shown.contains("before") && !shown.contains("barn-7"),
        "{shown}"
    );
    // What is typed now is echoed again.
    screen.type_text("echo still there");
    screen.wait_for("echo still there");
}

#[test]
fn the_live_view_fits_a_terminal_that_changes() {
    let job = Job::start();
    let screen = shell(&job, (120, 20));
    screen.type_text("tunnel list --watch");
    screen.press("Enter");
    screen.wait_for("CONNECTED");
    screen.resize(44, 20);
    let narrow = screen.wait_until("a narrow table", |shown| {
        shown.contains("333.hula.atlas  online")
            && shown.contains('…')
            && !shown.contains("CONNECTED")
    });
    assert_eq!(narrow.lines().count(), 4, "{narrow}");
    screen.resize(44, 3);
    screen.wait_until("the rest in three lines", |shown| {
        shown.contains("1 of 1 online")
            && shown.contains("Ctrl-C ends")
            && shown.lines().count() == 3
    });
    screen.resize(130, 24);
    screen.wait_for("CONNECTED");
    screen.press("C-c");
    screen.wait_until("the prompt", |shown| !shown.contains("online"));
}

#[test]
fn the_live_view_outlives_the_broker() {
    let mut job = Job::start();
    let screen = shell(&job, (110, 12));
    screen.type_text("tunnel list --watch");
    screen.press("Enter");
    screen.wait_for("1 of 1 online");
    job.serve.take().unwrap().kill();
    let shown = screen.wait_for("as last seen; the broker is away");
    assert!(shown.contains("333.hula.atlas"), "{shown}");
    job.serve = Some(job.world.serve());
    screen.wait_until("the present", |shown| {
        !shown.contains("as last seen") && shown.contains("1 of 1 online")
    });
    screen.press("C-c");
}

#[test]
fn without_a_terminal_each_change_is_a_line() {
    let mut job = Job::start();
    let mut text = watch(&job, "text", &["list", "--watch", "3*"]);
    let mut json = watch(&job, "json", &["list", "--watch", "--json"]);
    text.wait_for_line("333.hula.atlas  online");
    json.wait_for_line("\"online\":true");
    job.agent.take().unwrap().kill();
    text.wait_for_line("333.hula.atlas  offline");
    json.wait_for_line("\"lost\":true");
    for line in json.stdout().lines() {
        let change: Value = serde_json::from_str(line).unwrap();
        assert!(change["at"].as_u64() > Some(1_700_000_000), "{line}");
        assert_eq!(change["device"], "333.hula.atlas", "{line}");
    }
    assert!(!text.stdout().contains('\u{1b}'), "{}", text.stdout());
    for daemon in [text, json] {
        assert_eq!(daemon.terminate().code(), Some(0));
    }
}

#[test]
fn a_view_that_never_began_says_why_on_the_usual_screen() {
    let mut job = Job::start();
    job.serve.take().unwrap().kill();
    let screen = shell(&job, (110, 12));
    screen.type_text("tunnel list --watch; echo code $?");
    screen.press("Enter");
    let shown = screen.wait_for("code 69");
    assert!(
        shown.contains("error: cannot list") && shown.contains("hint: "),
        "{shown}"
    );
    assert!(!screen.is_alternate() && screen.has_cursor());
}

#[test]
fn a_view_whose_terminal_is_stopped_holds_nobody_up() {
    let job = Job::start();
    let screen = shell(&job, (110, 12));
    screen.type_text("tunnel list --watch; echo code $?");
    screen.press("Enter");
    screen.wait_for("1 of 1 online");
    // From here on it cannot write what it has to show.
    screen.press("C-s");
    let mut session = job
        .world
        .daemon("connected", &mut job.connect("echo in; sleep 600"));
    session.wait_for_line("in");
    for _ in 0..3 {
        list(&job, &[]).success();
    }
    screen.press("C-q");
    screen.wait_until("the controller", |shown| shown.contains("  controller-a"));
    screen.press("C-c");
    screen.wait_for("code 0");
}

/// A shell on a screen, as the controller's person has it.
pub(crate) fn shell(job: &Job, size: (u16, u16)) -> Screen {
    let binary = tunnel_binary().parent().unwrap().to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&path)));
    let mut command = Command::new(tool("bash"));
    command
        .env("TUNNEL_DIR", job.controller.dir())
        .env("PATH", path.unwrap())
        .env("PS1", "ready> ")
        .env("WHO", current_user())
        .args(["--norc", "--noprofile", "-i"]);
    let screen = Screen::start(&job.world, "shell", size, &command);
    screen.wait_for("ready>");
    screen
}

fn watch(job: &Job, name: &str, words: &[&str]) -> Daemon {
    job.world
        .daemon(name, &mut job.world.tunnel_as(&job.controller, words))
}

fn list(job: &Job, words: &[&str]) -> Outcome {
    let mut all = vec!["list"];
    all.extend(words);
    job.world.run_as(&job.controller, &all)
}
