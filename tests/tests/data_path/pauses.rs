//! Readers that stop for several times as long as a peer may be silent, each in one direction: nobody takes them for dead.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use e2e::{EchoServer, Session, Stopwatch, noise_file, sha256, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::main_job::Job;

#[test]
fn a_paused_stream_is_not_taken_for_dead_and_does_not_hold_up_the_next() {
    let echo = EchoServer::start();
    let job = Job::with_services(&[("echo", &echo.address())]);
    let world = &job.world;
    let payload = world.path("payload");
    noise_file(&payload, BYTES);
    let remote = format!("sh -c 'echo $$ >&2; exec cat {}'", payload.display());
    // Downwards the person's ssh stops reading, upwards the command that it has started.
    let (down, up) = (world.path("down"), world.path("up"));
    let stopped = world.path("stopped");
    let sink = format!(
        "echo $$ >{0}.new; mv {0}.new {0}; exec cat >{1}",
        stopped.display(),
        up.display()
    );
    let mut download = job.connect(&remote);
    let mut upload = job.connect(&sink);
    thread::scope(|scope| {
        let nothing = Path::new("/dev/null");
        let fetching = scope.spawn(|| world.run_through(&mut download, nothing, &down, LIMIT));
        let sending = scope.spawn(|| world.run_through(&mut upload, &payload, nothing, LIMIT));
        let sink = wait_until("the upload's command", LIMIT, || {
            let text = fs::read_to_string(&stopped).map_err(|error| error.to_string())?;
            text.trim().parse().map_err(|_| text.clone())
        });
        let ssh = wait_until("the download's ssh", LIMIT, || {
            let all = e2e::processes_marked(world.folder());
            let ssh = all.iter().find(|line| {
                line.contains(" ssh ") && line.contains("exec cat") && !line.contains(" connect ")
            });
            ssh.and_then(|line| line.split(' ').next()?.parse().ok())
                .ok_or(format!("{all:#?}"))
        });
        let stop = |signal| {
            [sink, ssh].map(|pid| kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap())
        };
        stop(Signal::STOP);
        let watch = Stopwatch::start();
        let (mut before, mut rounds) = ((0, 0), 0);
        wait_until("the end of the pause", 2 * PAUSE, || {
            let sizes = [&down, &up].map(|file| fs::metadata(file).map_or(0, |file| file.len()));
            before = (sizes[0], sizes[1]);
            rounds += 1;
            // A stream beside them works meanwhile.
            let mut session =
                Session::start(&mut world.tunnel_as(&job.controller, &["stdio", "333", "echo"]));
            session.echo("beside two that are stopped");
            assert_eq!(session.finish(), Some(0));
            let left = PAUSE.checked_sub(watch.elapsed());
            left.map_or(Ok(()), |left| Err(format!("{left:?} left")))
        });
        println!("{rounds} streams beside two that were stopped at {before:?} of {BYTES} bytes");
        assert!(
            before.0 < BYTES && before.1 < BYTES,
            "both stood: {before:?}"
        );
        assert!(
            !fetching.is_finished() && !sending.is_finished(),
            "both still wait"
        );
        stop(Signal::CONT);
        for ended in [fetching.join().unwrap(), sending.join().unwrap()] {
            assert_eq!(ended.code, Some(0), "{}", ended.report());
        }
    });
    let sent = sha256(&payload);
    assert_eq!((sha256(&down), sha256(&up)), (sent.clone(), sent));
}

/// More than all buffers on the way hold together.
const BYTES: u64 = 150_000_000;

/// Well over three times the ten seconds after which who says nothing counts as gone.
const PAUSE: Duration = Duration::from_secs(35);

/// What all of it may take.
const LIMIT: Duration = Duration::from_secs(90);
