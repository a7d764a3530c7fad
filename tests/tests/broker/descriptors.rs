//! A broker that has no file descriptor left.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use e2e::{CEILING, Stopwatch, World, tool, tunnel_binary, wait_until};

use super::packets::Connect;
use super::party::{Party, tls};
use super::seen::Seen;

/// Who is there is served, newcomers wait without burning a core, and get in when somebody has left.
#[test]
fn it_backs_off_and_recovers() {
    let world = World::new();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    let other = world.enroll("hula", "334");
    signer.terminate();
    let mut limited = Command::new(tool("prlimit"));
    world.mark(&mut limited);
    limited
        .arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
        .arg(tunnel_binary())
        .args(["broker", "--dir"])
        .arg(world.realm());
    let mut broker = world.daemon("broker", &mut limited);
    broker.wait_for_line("listening on");
    let mut there = Party::dial(world.broker_port(), &tls(&world, &device));
    assert_eq!(
        there.connect(&Connect::new(&device.id())),
        Seen::ConnAck {
            present: false,
            code: 0
        }
    );

    // More than there are descriptors; those beyond wait in the kernel.
    let silent: Vec<_> = (0..DESCRIPTORS)
        .map(|_| TcpStream::connect(("127.0.0.1", world.broker_port())).unwrap())
        .collect();
    broker.wait_for_line("no connection can be accepted");
    let (watch, before) = (Stopwatch::start(), cpu(broker.pid()));
    let mut rounds = 0;
    while watch.elapsed() < Duration::from_secs(3) {
        assert_eq!(there.ping(), [Seen::PingResp]);
        rounds += 1;
        wait_until("a moment", CEILING, || {
            (watch.elapsed() > Duration::from_millis(100 * rounds))
                .then_some(())
                .ok_or_else(String::new)
        });
    }
    let used = cpu(broker.pid()).saturating_sub(before);
    let complaints = broker
        .stderr()
        .matches("no connection can be accepted")
        .count();
    println!("three seconds without a descriptor: {used:?} of CPU, {complaints} lines of log");
    assert!(used < Duration::from_secs(1), "{used:?}");
    assert!(complaints < 60, "{complaints}");

    drop(silent);
    let watch = Stopwatch::start();
    let mut newcomer = Party::dial(world.broker_port(), &tls(&world, &other));
    assert_eq!(
        newcomer.connect(&Connect::new(&other.id())),
        Seen::ConnAck {
            present: false,
            code: 0
        }
    );
    let took = watch.elapsed();
    println!("a newcomer is in {took:?} after the others have left");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(there.ping(), [Seen::PingResp]);
    broker.terminate();
}

/// What a process has used of the processors (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |place: usize| fields[place].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Some 20 are in use before the first device comes.
const DESCRIPTORS: u64 = 64;
