//! Readers that stop for several times as long as a peer may be silent, at both ends of one stream: nobody takes them for dead.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use e2e::{Stopwatch, wait_until};

use crate::main_job::Job;

#[test]
fn a_paused_stream_is_not_taken_for_dead_and_gives_every_byte_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let job = Job::with_services(&[("bulk", &address)]);
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let (go_near, near_may_read) = channel();
    let (go_far, far_may_read) = channel();
    let mut stdio = job
        .world
        .tunnel_as(&job.controller, &["stdio", "333", "bulk"]);
    stdio.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stdio = stdio.spawn().unwrap();
    let (mut input, output) = (stdio.stdin.take().unwrap(), stdio.stdout.take().unwrap());
    thread::scope(|scope| {
        let service = scope.spawn(|| {
            let (socket, _) = listener.accept().unwrap();
            let reader = socket.try_clone().unwrap();
            let reading = scope.spawn(move || receive(reader, &far_may_read));
            send(&mut &socket, &down);
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            reading.join().unwrap();
        });
        let reading = scope.spawn(move || receive(output, &near_may_read));
        let writing = scope.spawn(|| {
            send(&mut input, &up);
            drop(input);
        });
        let moved = || (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
        let (mut before, mut watch) = (moved(), Stopwatch::start());
        wait_until("both directions to stand still", LIMIT, || {
            let now = moved();
            if now != before {
                (before, watch) = (now, Stopwatch::start());
            }
            let still = now.0 > 0 && now.1 > 0 && watch.elapsed() > STILL;
            still.then_some(()).ok_or(format!("{now:?}"))
        });
        assert!(
            before.0 < BYTES && before.1 < BYTES,
            "{before:?} of {BYTES}"
        );
        let watch = Stopwatch::start();
        wait_until("the end of the pause", 2 * PAUSE, || {
            let left = PAUSE.checked_sub(watch.elapsed());
            left.map_or(Ok(()), |left| Err(format!("{left:?} left")))
        });
        println!("stood still at {before:?} of {BYTES} bytes for {PAUSE:?}");
        assert!(stdio.try_wait().unwrap().is_none(), "it was given up");
        for go in [go_near, go_far] {
            go.send(()).unwrap();
        }
        reading.join().unwrap();
        writing.join().unwrap();
        service.join().unwrap();
    });
    assert!(stdio.wait().unwrap().success());
    let log = job.agent.as_ref().unwrap().stderr();
    assert!(!log.contains("the tunnel is lost"), "{log}");
}

/// Writes the pattern, and counts.
fn send(to: &mut impl Write, sent: &AtomicU64) {
    let mut chunk = vec![0; CHUNK];
    while sent.load(Ordering::Relaxed) < BYTES {
        pattern(sent.load(Ordering::Relaxed), &mut chunk);
        to.write_all(&chunk).unwrap();
        sent.fetch_add(CHUNK as u64, Ordering::Relaxed);
    }
}

/// Reads nothing until it may, and then the whole pattern up to the end of file.
fn receive(mut from: impl Read, may_read: &Receiver<()>) {
    may_read.recv().unwrap();
    let (mut got, mut chunk, mut expected) = (0, vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let size = from.read(&mut chunk).unwrap();
        if size == 0 {
            break;
        }
        pattern(got, &mut expected[..size]);
        assert!(chunk[..size] == expected[..size], "wrong bytes after {got}");
        got += size as u64;
    }
    assert_eq!(got, BYTES, "bytes until the end of file");
}

/// Bytes that do not repeat with the size of any buffer.
fn pattern(from: u64, buffer: &mut [u8]) {
    for (at, byte) in (from..).zip(buffer.iter_mut()) {
        *byte = (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).to_le_bytes()[0];
    }
}

const CHUNK: usize = 64 * 1024;

/// In each direction: more than all buffers on the way hold together. Where both directions wait, each of the three reads up to
/// `daemon::flow::ABSORB` for its writers' sake, and the kernel holds as much again.
const BYTES: u64 = 3072 * CHUNK as u64;

/// For so long nothing may have moved for a direction to stand still.
const STILL: Duration = Duration::from_secs(2);

/// Well over twice the time after which who says nothing counts as gone.
const PAUSE: Duration = Duration::from_secs(25);

/// How long it may take until everything is full.
const LIMIT: Duration = Duration::from_secs(40);
