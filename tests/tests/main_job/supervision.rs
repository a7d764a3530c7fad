//! What a service supervisor is told.

use std::time::Duration;

use e2e::{CEILING, Daemon, Supervisor, World, wait_until};
use rustix::process::Signal;

use super::Job;

#[test]
fn the_agent_tells_its_supervisor_how_it_is() {
    let mut job = Job::start();
    job.agent.take().unwrap().terminate();
    let supervisor = Supervisor::at(&job.world.path("notify"));
    let mut command = job.world.tunnel_as(&job.device, &["agent"]);
    supervisor.attend(&mut command, Some(WATCHDOG));
    let mut agent = job.world.daemon("agent-supervised", &mut command);
    supervisor.wait_for("READY=1");
    supervisor.wait_for("STATUS=");
    stays_alive(&supervisor);
    agent.signal(Signal::TERM);
    supervisor.wait_for("STOPPING=1");
    assert!(agent.wait(CEILING).success());
}

#[test]
fn each_part_of_a_realm_shows_its_supervisor_that_it_lives() {
    let world = World::new();
    for words in [&["serve"][..], &["broker"], &["proxy"], &["signer", "run"]] {
        let name = words.join("-");
        let supervisor = Supervisor::at(&world.path(&format!("{name}.notify")));
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(world.realm());
        supervisor.attend(&mut command, Some(WATCHDOG));
        let part: Daemon = world.daemon(&name, &mut command);
        supervisor.wait_for("READY=1");
        stays_alive(&supervisor);
        let ended = part.terminate();
        assert!(ended.success(), "{name}: {ended}");
        supervisor.wait_for("STOPPING=1");
    }
}

/// It is heard of before each of several watchdogs' times is over, whatever it waits for meanwhile.
#[track_caller]
fn stays_alive(supervisor: &Supervisor) {
    for _ in 0..4 {
        let before = supervisor.count("WATCHDOG=1");
        wait_until("the next sign of life", WATCHDOG, || {
            let now = supervisor.count("WATCHDOG=1");
            let heard = supervisor.heard();
            (now > before).then_some(()).ok_or(format!("{heard:?}"))
        });
    }
}

/// What the supervisor waits for; half of it is what `sd_notify(3)` asks for.
const WATCHDOG: Duration = Duration::from_secs(1);
