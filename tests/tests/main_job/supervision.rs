//! What a service supervisor is told.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use e2e::{CEILING, Stopwatch};
use rustix::process::Signal;

use super::Job;

#[test]
fn the_agent_tells_its_supervisor_how_it_is() {
    let mut job = Job::start();
    job.agent.take().unwrap().terminate();
    let path = job.world.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(CEILING)).unwrap();
    let mut command = job.world.tunnel_as(&job.device, &["agent"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let mut agent = job.world.daemon("agent-supervised", &mut command);
    hear(&socket, "READY=1");
    hear(&socket, "STATUS=");
    // Half of the watchdog's time is what sd_notify(3) asks for; a whole one is when the supervisor would kill.
    // The machine may be late with one of them, not with most.
    hear(&socket, "WATCHDOG=1");
    let mut pauses = [Duration::ZERO; 9];
    for pause in &mut pauses {
        let watch = Stopwatch::start();
        hear(&socket, "WATCHDOG=1");
        *pause = watch.elapsed();
    }
    pauses.sort_unstable();
    assert!(
        pauses[pauses.len() / 2] < Duration::from_millis(400),
        "{pauses:?} between two signs of life"
    );
    agent.signal(Signal::TERM);
    hear(&socket, "STOPPING=1");
    assert!(agent.wait(CEILING).success());
}

/// Waits for a notification with a line that begins like this.
#[track_caller]
fn hear(socket: &UnixDatagram, beginning: &str) {
    let watch = Stopwatch::start();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while watch.elapsed() < CEILING {
        let Ok(length) = socket.recv(&mut buffer) else {
            break;
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.lines().any(|line| line.starts_with(beginning)) {
            return;
        }
        heard.push(text);
    }
    panic!("no `{beginning}`; heard {heard:?}");
}
