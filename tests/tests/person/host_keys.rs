//! Whom a person has before him: known from the device's own word, and refused when it is another.

use e2e::{CEILING, Sshd, current_user, run};

use super::{installed, line, read};
use crate::main_job::{GRACE, Job};

#[test]
fn a_changed_host_key_is_refused_with_both_fingerprints_and_the_command_that_accepts_it() {
    let mut job = Job::start();
    let other = Sshd::start("installed-anew", job.world.folder(), &job.world.logs());
    let print = |sshd: &Sshd| {
        let mut keygen = std::process::Command::new(e2e::tool("ssh-keygen"));
        let said = run(keygen.arg("-lf").arg(sshd.host_key()), CEILING).success();
        said.stdout.split_whitespace().nth(1).unwrap().to_owned()
    };
    let (old, new) = (print(&job.sshd), print(&other));
    other.authorize(&job.controller);
    job.device.configure(&other, &[], GRACE);
    let (agent, device) = (job.agent.take().unwrap(), job.device.clone());
    let ssh = format!("ssh {}@333.hula.atlas echo here", current_user());
    let connect = format!("tunnel connect {}@333 -- echo here", current_user());
    let laptop = installed(&job);
    assert_eq!(line(&laptop, &ssh).success().stdout, "here\n");
    let known = read(&laptop.dir().join("known_hosts"));

    agent.terminate();
    let _agent = job.world.agent(&device);
    job.world.wait_for_presence(&job.controller, &device, true);
    let mut accept = String::new();
    for (refused, code) in [(&ssh, 255), (&connect, 65)] {
        let outcome = line(&laptop, refused);
        assert_eq!(
            (outcome.code, &*outcome.stdout),
            (Some(code), ""),
            "{}",
            outcome.report()
        );
        let error = outcome.lines("error")[0];
        let both = format!(
            "the host keys of `333.hula.atlas` have changed: it had ssh-ed25519 {old}, and now reports ssh-ed25519 {new}"
        );
        assert_eq!(error, both);
        let hint = outcome.lines("hint")[0];
        assert!(hint.contains("somebody answers in its place"), "{hint}");
        accept = hint.split('`').nth(1).unwrap().to_owned();
        assert_eq!(
            read(&laptop.dir().join("known_hosts")),
            known,
            "nothing is replaced"
        );
    }
    line(&laptop, &accept).success();
    assert_eq!(line(&laptop, &ssh).success().stdout, "here\n");
    assert_eq!(line(&laptop, &connect).success().stdout, "here\n");
}

#[test]
fn an_sshd_with_another_key_than_the_device_tells_is_refused_by_ssh() {
    let job = Job::start();
    let laptop = installed(&job);
    let ssh = format!("ssh {}@333.hula.atlas echo here", current_user());
    line(&laptop, &ssh).success();
    // Somebody in the middle of the stream: the agent tells the truth, and another sshd answers.
    let known = laptop.dir().join("known_hosts");
    let impostor = Sshd::start("impostor", job.world.folder(), &job.world.logs());
    let key = read(&impostor.host_key());
    let words: Vec<&str> = key.split_whitespace().take(2).collect();
    std::fs::write(&known, format!("333.hula.atlas {}\n", words.join(" "))).unwrap();
    let outcome = line(&laptop, &ssh);
    assert_eq!(outcome.code, Some(255), "{}", outcome.report());
    assert_eq!(outcome.stdout, "");
}
