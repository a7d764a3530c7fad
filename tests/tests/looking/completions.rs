//! What the TAB key does, in real shells on a real terminal.

use std::path::PathBuf;
use std::process::Command;
use std::time::UNIX_EPOCH;

use e2e::{
    CEILING, Device, Screen, SilentServer, World, processes_marked, run, tool, tunnel_binary,
    wait_until,
};

use crate::main_job::Job;

#[test]
fn bash_completes_commands_options_and_devices() {
    let job = Job::start();
    let words = ["--norc", "--noprofile", "-i"];
    in_a_shell(&job, "bash", &words, "source <(tunnel completions bash)");
}

#[test]
fn zsh_completes_commands_options_and_devices() {
    let job = Job::start();
    let setup = "autoload -Uz compinit; compinit -D -u; source <(tunnel completions zsh)";
    in_a_shell(&job, "zsh", &["-f", "-i"], setup);
}

#[test]
fn zsh_finds_the_script_in_its_path_of_functions() {
    let job = Job::start();
    let functions = job.world.path("functions");
    std::fs::create_dir(&functions).unwrap();
    let mut print = job.world.tunnel();
    let script = run(print.args(["completions", "zsh"]), CEILING)
        .success()
        .stdout;
    std::fs::write(functions.join("_tunnel"), script).unwrap();
    let setup = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -D -u",
        functions.display()
    );
    in_a_shell(&job, "zsh", &["-f", "-i"], &setup);
}

#[test]
fn fish_completes_commands_options_and_devices() {
    let job = Job::start();
    in_a_shell(
        &job,
        "fish",
        &["--no-config", "-i"],
        "tunnel completions fish | source",
    );
}

#[test]
fn a_broker_that_is_away_costs_nothing_but_the_names() {
    let world = World::new();
    let controller = world.enroll_alone("hula", "controller-a");
    let completed = || complete(&world, &controller, &["tunnel", "connect", ""]);
    // Nobody listens.
    assert_eq!(completed(), "");
    wait_for_list(&controller);
    wait_until("the renewal to have ended", CEILING, || {
        let left = renewals(&world);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    // Somebody listens who never answers, so that whoever asks him is at it for the ten seconds of MQTT's deadline.
    let silent = SilentServer::start();
    let realm = controller.dir().join("realm.toml");
    let text = std::fs::read_to_string(&realm).unwrap();
    let broker = format!("127.0.0.1:{}", world.broker_port());
    assert!(text.contains(&broker), "{text}");
    std::fs::write(&realm, text.replace(&broker, &silent.address())).unwrap();
    // That nobody was there is known for a while: he is not even asked.
    let list = list_file(&controller);
    let soon = UNIX_EPOCH.elapsed().unwrap().as_secs() + 25;
    std::fs::write(&list, format!(r#"{{"asked":{soon},"devices":[]}}"#)).unwrap();
    assert_eq!(completed(), "");
    assert_eq!(renewals(&world), Vec::<String>::new());
    // Where nothing is known he is, and not waited for: that goes on beside, and has found out nothing yet. A computer that is
    // slow for ten seconds has not shown it; one that waits for him never does.
    wait_until("a completion that waits for nobody", CEILING, || {
        end_renewals(&world);
        let _ = std::fs::remove_file(&list);
        assert_eq!(completed(), "");
        let left = renewals(&world);
        match (list.exists(), &left[..]) {
            (false, [_]) => Ok(()),
            (exists, left) => Err(format!("a list: {exists}, renewals: {left:?}")),
        }
    });
    // They are not of the test's process group, and would write into a folder that is gone.
    end_renewals(&world);
    // What needs no broker is there all the same.
    let commands = complete(&world, &controller, &["tunnel", "disc"]);
    assert!(commands.starts_with("disconnect\t"), "{commands}");
}

#[test]
fn a_directory_that_is_nobodys_completes_nothing_and_says_nothing() {
    let world = World::new();
    let mut command = world.tunnel();
    command.args([
        "--dir",
        "/nonexistent",
        "complete",
        "--",
        "tunnel",
        "connect",
        "3",
    ]);
    let outcome = run(&mut command, CEILING).success();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn an_old_list_is_offered_at_once_and_renewed_beside() {
    let job = Job::start();
    let file = list_file(&job.controller);
    let old = r#"{"asked":1,"devices":[{"device":"777.hula.atlas","online":false}]}"#;
    std::fs::write(&file, old).unwrap();
    let offered = complete(&job.world, &job.controller, &["tunnel", "connect", "you@"]);
    assert_eq!(offered, "you@777\toffline\n");
    wait_until("the new list", CEILING, || {
        let offered = complete(&job.world, &job.controller, &["tunnel", "connect", "you@"]);
        if offered == "you@333\tonline\n" {
            Ok(())
        } else {
            Err(offered)
        }
    });
}

/// The same line in each shell: a command, an option, a device behind `USER@`, and one whose whole name is begun.
#[track_caller]
fn in_a_shell(job: &Job, shell: &str, words: &[&str], setup: &str) {
    let binary = tunnel_binary().parent().unwrap().to_path_buf();
    let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    )));
    let mut command = Command::new(tool(shell));
    command
        .env("TUNNEL_DIR", job.controller.dir())
        .env("PATH", path.unwrap())
        .env("PS1", "ready> ")
        .args(words);
    let screen = Screen::start(&job.world, shell, (100, 30), &command);
    screen.type_text(&format!("{setup}; echo set''up"));
    screen.press("Enter");
    screen.wait_for("setup");
    let becomes = |typed: &str, expected: &str| {
        screen.type_text(typed);
        // fish shows a suggestion of its own while one types: what was typed has to be there first.
        screen.wait_for(typed.trim_end());
        screen.press("Tab");
        screen.wait_for(expected);
        // Every shell takes the line away at this key, and reads it in its turn, which a signal does not wait for.
        screen.press("C-u");
        screen.wait_until("nothing", |shown| !shown.contains(typed.trim_end()));
    };
    becomes("tunnel disc", "tunnel disconnect");
    becomes("tunnel connect --tim", "tunnel connect --timing");
    // The first time there may be no list yet; it is made beside.
    complete(&job.world, &job.controller, &["tunnel", "connect", ""]);
    wait_for_list(&job.controller);
    becomes("tunnel connect atlas@3", "tunnel connect atlas@333");
    becomes(
        "tunnel connect atlas@333.h",
        "tunnel connect atlas@333.hula.atlas",
    );
    becomes("tunnel disconnect ", "tunnel disconnect 333");
    let shown = screen.shown();
    assert!(!shown.contains("error"), "{shown}");
}

fn complete(world: &World, device: &Device, words: &[&str]) -> String {
    let mut command = world.tunnel_as(device, &["complete", "--"]);
    let outcome = run(command.args(words), CEILING).success();
    assert_eq!(outcome.stderr, "", "{}", outcome.report());
    outcome.stdout
}

/// The processes that ask the broker for a new list.
fn renewals(world: &World) -> Vec<String> {
    let mut processes = processes_marked(world.folder());
    processes.retain(|process| process.contains("complete --renew"));
    processes
}

#[track_caller]
fn end_renewals(world: &World) {
    for renewal in renewals(world) {
        let (process, _) = renewal.split_once(' ').unwrap();
        // It may have ended by itself.
        run(Command::new("kill").args(["-9", process]), CEILING);
    }
}

#[track_caller]
fn wait_for_list(controller: &Device) {
    let file = list_file(controller);
    wait_until("the list of devices", CEILING, || {
        std::fs::read_to_string(&file).map_err(|error| error.to_string())
    });
}

fn list_file(controller: &Device) -> PathBuf {
    controller.dir().join(".devices.json")
}
