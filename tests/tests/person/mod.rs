//! What a person meets who connects: other people's programs, waiting, forwarding, the guide.

mod connect;
mod forward;
mod host_keys;
mod parallel;
mod ssh_config;

use std::fs;
use std::path::Path;

use e2e::{CEILING, Laptop, Outcome, run};

use crate::main_job::Job;

/// A laptop on which `tunnel ssh-config --install` was run. Nobody sits before it, so that ssh must not ask.
#[track_caller]
fn installed(job: &Job) -> Laptop<'_> {
    let laptop = Laptop::new(&job.world, &job.controller);
    write_config(&laptop, "BatchMode yes\nLogLevel ERROR\n");
    let outcome = line(&laptop, "tunnel ssh-config --install").success();
    assert!(
        outcome.stderr.contains("hula.atlas"),
        "{}",
        outcome.report()
    );
    laptop
}

#[track_caller]
fn write_config(laptop: &Laptop<'_>, text: &str) {
    let ssh = laptop.home().join(".ssh");
    fs::create_dir_all(&ssh).unwrap();
    fs::write(ssh.join("config"), text).unwrap();
}

/// A line that a person types, run to its end.
#[track_caller]
fn line(laptop: &Laptop<'_>, line: &str) -> Outcome {
    run(&mut laptop.shell(line), CEILING)
}

#[track_caller]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}
