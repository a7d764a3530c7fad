//! The build for small devices.

use std::fs;
use std::process::Command;

use e2e::{CEILING, agent_alone, allocated, run, tunnel_binary};

use crate::main_job::Job;

#[test]
fn the_agent_alone_does_what_an_agent_does() {
    let mut job = Job::start();
    job.agent.take().unwrap().terminate();
    job.world
        .wait_for_presence(&job.controller, &job.device, false);
    let program = agent_alone();
    let mut command = Command::new(&program);
    job.world.mark(&mut command);
    command.env("TUNNEL_DIR", job.device.dir()).arg("agent");
    let agent = job.world.daemon("agent-alone", &mut command);
    job.world
        .wait_for_presence(&job.controller, &job.device, true);
    println!(
        "allocated when idle: {} KiB (debug build)",
        allocated(agent.pid()) / 1024
    );
    let said = run(&mut job.connect("echo hello from there"), CEILING).success();
    assert_eq!(said.stdout.trim(), "hello from there");
    assert!(
        fs::metadata(&program).unwrap().len() < fs::metadata(tunnel_binary()).unwrap().len(),
        "it has less in it"
    );
    let mut other = Command::new(&program);
    let refused = run(other.arg("serve"), CEILING);
    assert_eq!(refused.code, Some(64), "{}", refused.report());
}
