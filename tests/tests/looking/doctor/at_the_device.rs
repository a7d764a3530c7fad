//! What can be wrong with the device that somebody goes to, seen from the controller and from itself.

use std::fs;

use e2e::{CEILING, ReservedPort, SilentServer, run};

use super::patient::{Diagnosis, Patient};
use super::{CONFIGURATION, DATA, REFUSED, UNAVAILABLE};
use crate::main_job::Job;

#[test]
fn what_is_wrong_at_the_device() {
    let mut job = Job::start();
    let ask = |job: &Job, name: &str| Diagnosis::of(&job.world, job.controller.dir(), &[name]);
    let outcome = ask(&job, "999");
    outcome.blames("device", "tunnel list", REFUSED);
    outcome.is("order", "skipped");
    // What is another system's looks the same.
    let outcome = ask(&job, "333.lava");
    outcome.blames("device", "tunnel list", REFUSED);

    // Somebody else was met under its name before.
    let other = Patient::of(&job.world, &job.controller, "met-another");
    let key = fs::read_to_string(job.controller.ssh_public_key()).unwrap();
    let line = format!("333.hula.atlas {key}");
    fs::write(other.dir.join("known_hosts"), line).unwrap();
    let outcome = other.ask(&["333"]);
    outcome.blames("host-key", "ssh-keygen -R", DATA);
    outcome.is("sshd", "ok");

    let file = job.device.dir().join("device.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let with_ssh = |job: &mut Job, address: &str| {
        let settings = settings.replace(&job.sshd.address(), address);
        fs::write(&file, settings).unwrap();
        job.agent.take().unwrap().terminate();
        let (world, controller, device) = (&job.world, &job.controller, &job.device);
        world.wait_for_presence(controller, device, false);
        job.agent = Some(world.agent(device));
        job.world.wait_for_presence(controller, device, true);
    };
    let closed = ReservedPort::take();
    let address = closed.address();
    with_ssh(&mut job, &address);
    let outcome = ask(&job, "333");
    outcome.blames("sshd", "start the SSH server", UNAVAILABLE);
    outcome.is("forward", "ok");
    // The device says the same of itself, while its agent runs.
    let own = Diagnosis::of(&job.world, job.device.dir(), &[]);
    own.blames("service-ssh", "start the SSH server", UNAVAILABLE);
    own.is("broker-mqtt", "skipped");
    own.is("forward", "ok");

    let silent = SilentServer::start();
    with_ssh(&mut job, &silent.address());
    let outcome = ask(&job, "333");
    outcome.blames("sshd", "restart it there", UNAVAILABLE);

    // It takes the proxy's key for another's.
    let realm = job.device.dir().join("realm.toml");
    let text = fs::read_to_string(&realm).unwrap();
    let blob = |key: &str| key.split_whitespace().nth(1).unwrap().to_owned();
    let proxy = fs::read_to_string(job.world.realm().join("proxy/hostkey.pub")).unwrap();
    fs::write(&realm, text.replace(&blob(&proxy), &blob(&key))).unwrap();
    with_ssh(&mut job, &address);
    let outcome = ask(&job, "333");
    outcome.blames(
        "forward",
        "the device and the proxy do not get together",
        REFUSED,
    );
    outcome.is("order", "ok");

    job.agent.take().unwrap().kill();
    job.world
        .wait_for_presence(&job.controller, &job.device, false);
    let outcome = ask(&job, "333");
    outcome.blames("device", "check its power and its network", UNAVAILABLE);
    outcome.is("sshd", "skipped");
    // Without its agent the device looks at the broker itself.
    fs::write(&file, &settings).unwrap();
    fs::write(&realm, &text).unwrap();
    let own = Diagnosis::of(&job.world, job.device.dir(), &[]);
    own.praises();
    own.is("broker-policy", "ok");
    assert!(own.found("service-ssh").contains("SSH-2.0-OpenSSH"));
}

#[test]
fn the_agents_own_ssh_is_looked_at_up_to_its_banner() {
    let mut job = Job::start();
    let file = job.device.dir().join("device.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let builtin = settings.replace(&job.sshd.address(), "builtin");
    let as_root = rustix::process::geteuid().is_root();
    fs::write(
        &file,
        format!("{builtin}\n[builtin]\nas_root = {as_root}\n"),
    )
    .unwrap();
    job.agent.take().unwrap().terminate();
    let (world, controller, device) = (&job.world, &job.controller, &job.device);
    world.wait_for_presence(controller, device, false);
    let look = |dir, words: &[&str]| Diagnosis::of(world, dir, words);

    // Before the agent has ever begun there is nothing to look at.
    look(device.dir(), &[]).is("service-ssh", "skipped");
    job.agent = Some(world.agent(device));
    world.wait_for_presence(controller, device, true);
    let outcome = look(device.dir(), &[]);
    outcome.warns("service-ssh", "tunnel agent sync-keys --builtin");
    let mut sync = world.tunnel_as(device, &["agent", "sync-keys", "--builtin"]);
    run(&mut sync, CEILING).success();
    let outcome = look(device.dir(), &[]);
    outcome.praises();
    assert!(outcome.found("service-ssh").contains("SSH-2.0-"));

    let outcome = look(controller.dir(), &["333"]);
    outcome.praises();
    let banner = outcome.found("sshd");
    assert!(banner.contains("SSH-2.0-") && !banner.contains("OpenSSH"));

    // A host key that others may read, or could have replaced, is used no more.
    fs::write(device.dir().join("builtin-ssh.hostkey"), "no key\n").unwrap();
    let outcome = look(device.dir(), &[]);
    outcome.is("service-ssh", "error");
    assert_eq!(outcome.code(), Some(CONFIGURATION), "{}", outcome.report());
}
